import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.repository import vendor
from changeover_updater.cli.main import run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    from changeover_updater.vendor_home import make_home

    make_home(tmp_path / "acme", "acme", "", datetime.now(UTC).replace(microsecond=0), ask_mlflow=False)
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


def answer_of(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == code
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize("which", ["root", "targets"])
def test_a_vendor_replaces_an_offline_key(home: Path, capsys: pytest.CaptureFixture[str], which: str) -> None:
    before = keys_of(home, capsys)

    said = answer_of(capsys, 0, "vendor", "keys", "rotate", which, "--home", str(home))

    after = keys_of(home, capsys)
    assert f"signs {which} now" in said
    assert {role for role in after if after[role] != before[role]} == {which}
    assert run(["vendor", "renew", "--home", str(home)]) == 0


def test_two_holders_sign_one_change_the_second_without_a_home(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_of(capsys, 0, "keys", "new", "bob", "--out", str(tmp_path / "bob"))
    public, private = tmp_path / "bob" / "bob.pub", tmp_path / "bob" / "bob.pem"
    assert "signs root as well" in answer_of(
        capsys, 0, "vendor", "keys", "add", "root", str(public), "--home", str(home)
    )
    metadata = sorted(path.name for path in (home / "repository" / "metadata").iterdir())

    said = answer_of(capsys, 4, "vendor", "keys", "threshold", "root", "2", "--home", str(home))

    assert "vendor keys sign FILE" in said
    assert sorted(path.name for path in (home / "repository" / "metadata").iterdir()) == metadata
    shown = json.loads(answer_of(capsys, 0, "vendor", "keys", "sign", "--home", str(home), "--json"))
    assert [one["change"] for one in shown] == ["3.root"]
    assert "3.root waits" in answer_of(capsys, 0, "vendor", "keys", "list", "--home", str(home))
    carried = tmp_path / "bob" / "3.root.json"
    carried.write_bytes(Path(shown[0]["file"]).read_bytes())
    monkeypatch.chdir(tmp_path)
    said = answer_of(capsys, 0, "vendor", "keys", "sign", str(carried), "--key", str(private))
    assert "root: 2 of the keys" in said
    assert "signed root" in said
    answer_of(capsys, 2, "vendor", "keys", "sign", str(carried), "--key", str(private))
    assert "written" in answer_of(capsys, 0, "vendor", "keys", "sign", str(carried), "--home", str(home))
    assert "nothing waits" in answer_of(capsys, 0, "vendor", "keys", "sign", "--home", str(home))
    answer_of(capsys, 4, "vendor", "keys", "rotate", "root", "--home", str(home))
    assert "taken back" in answer_of(capsys, 0, "vendor", "keys", "sign", "4.root", "--reject", "--home", str(home))
    answer_of(capsys, 0, "vendor", "keys", "rotate", "root", "--with", str(private), "--home", str(home))
    bobs = json.loads(answer_of(capsys, 0, "vendor", "keys", "list", "--home", str(home), "--json"))
    (key,) = [one["key"] for one in bobs if one["role"] == "root" and one["here"] is None]
    answer_of(capsys, 3, "vendor", "keys", "remove", "root", key[:10], "--home", str(home))


def test_a_key_that_is_elsewhere_is_taken_into_use(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_of(capsys, 0, "keys", "new", "stick", "--out", str(tmp_path / "stick"))
    uri = f"file:{tmp_path / 'stick' / 'stick.pem'}"
    made = ("keys", "new", "root", "--uri", uri, "--out", str(tmp_path / "here"))
    assert "root.key" in answer_of(capsys, 0, *made)
    assert "already" in answer_of(capsys, 0, *made)
    assert (tmp_path / "here" / "root.pub").read_bytes() == (tmp_path / "stick" / "stick.pub").read_bytes()

    answer_of(
        capsys, 0, "vendor", "keys", "rotate", "root", "--to", str(tmp_path / "here" / "root.key"), "--home", str(home)
    )

    (tmp_path / "stick" / "stick.pem").unlink()
    assert "elsewhere" in answer_of(capsys, 0, "vendor", "keys", "list", "--home", str(home))
    assert "stick.pem" in answer_of(capsys, 2, "vendor", "keys", "rotate", "targets", "--home", str(home))
    answer_of(capsys, 0, "vendor", "renew", "--home", str(home))


@pytest.mark.parametrize(("days", "code", "says"), [(0, 0, ""), (24, 4, "ends in 6 days"), (31, 5, "expired")])
def test_a_vendor_is_warned_of_what_ends_and_by_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int, code: int, says: str
) -> None:
    from changeover_updater.vendor_home import make_home

    made = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)
    make_home(tmp_path / "acme", "acme", "", made, ask_mlflow=False)

    said = answer_of(capsys, code, "vendor", "keys", "list", "--home", str(tmp_path / "acme"))

    assert says in " ".join(said.split())
    assert ("vendor renew" in said) == (code != 0)
    if code:
        answer_of(capsys, 0, "vendor", "renew", "--home", str(tmp_path / "acme"))
        answer_of(capsys, 0, "vendor", "keys", "list", "--home", str(tmp_path / "acme"))


def test_30_days_before_the_root_ends_it_is_said_and_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from changeover_updater.vendor_home import make_home

    now = datetime.now(UTC).replace(microsecond=0)
    made = make_home(tmp_path / "acme", "acme", "", now - timedelta(days=340), ask_mlflow=False).home
    for key in ("root", "targets"):
        (getattr(made.keys, key)).rename(tmp_path / f"{key}.pem")
    answer_of(capsys, 0, "vendor", "renew", "--home", str(tmp_path / "acme"))

    said = " ".join(answer_of(capsys, 0, "vendor", "keys", "list", "--home", str(tmp_path / "acme")).split())

    assert "what signs root ends in 25 days; run changeover vendor renew where the root key is" in said


def test_the_public_part_of_one_key_is_never_given_out_as_that_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path))
    for name in ("acme", "other"):
        answer_of(capsys, 0, "keys", "new", name, *out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    code = run(["keys", "new", "acme", "--uri", f"file:{tmp_path}/other.pem", *out])

    assert code == 2
    assert "acme.pub: expected the public part of acme.key" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    answer_of(capsys, 0, "keys", "new", "stick", "--uri", f"file:{tmp_path}/other.pem", *out)
    assert run(["keys", "new", "stick", "--uri", f"file:{tmp_path}/acme.pem", *out]) == 2
    assert "stick.key: expected the key that file:" in capsys.readouterr().err
