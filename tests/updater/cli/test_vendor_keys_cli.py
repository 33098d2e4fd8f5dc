import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.repository import vendor
from changeover_updater.cli.main import run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    from changeover_updater.vendor_home import make_home

    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    make_home(tmp_path / "acme", "acme", "", datetime.now(UTC).replace(microsecond=0))
    return tmp_path / "acme"


def keys_of(home: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert run(["vendor", "keys", "list", "--home", str(home), "--json"]) == 0
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert all(one["expires"].endswith("Z") for one in listed)
    return {one["role"]: one["key"] for one in listed}


def test_a_vendor_replaces_the_keys_that_sign_every_day(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before = keys_of(home, capsys)
    release = (home / "keys" / "online" / "release.pem").read_bytes()

    for which in ("release", "online"):
        assert run(["vendor", "keys", "rotate", which, "--home", str(home)]) == 0
    capsys.readouterr()

    after = keys_of(home, capsys)
    assert (after["root"], after["targets"]) == (before["root"], before["targets"])
    assert after["timestamp"] == after["snapshot"] != before["timestamp"]
    assert (home / "keys" / "online" / "release.pem").read_bytes() != release
    assert run(["vendor", "renew", "--home", str(home)]) == 0
    assert run(["vendor", "keys", "list", "--home", str(home)]) == 0
    assert vendor.VendorKeys.in_folder(home / "keys").online.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("which", "key"), [("online", "root")])
def test_without_the_offline_key_nothing_is_replaced(
    home: Path, capsys: pytest.CaptureFixture[str], which: str, key: str
) -> None:
    (home / "keys" / "offline" / f"{key}.pem").unlink()
    before = sorted(path.name for path in (home / "repository" / "metadata").iterdir())

    assert run(["vendor", "keys", "rotate", which, "--home", str(home)]) == 2

    err = capsys.readouterr().err
    assert f"{key}.pem" in err.replace("\n", "")
    assert sorted(path.name for path in (home / "repository" / "metadata").iterdir()) == before
