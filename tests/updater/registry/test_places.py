"""A vendor's places by the command line: every command that signs also carries, and says what became of it."""

import json
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry._fs import lock
from changeover_registry.client import Client
from changeover_registry.errors import LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.repository import vendor as repository
from changeover_registry.repository.vendor import VendorView, open_vendor
from changeover_registry.transport import open_transport
from changeover_servers import S3Store
from changeover_updater import places, vendor
from changeover_updater.cli.main import run
from changeover_updater.vendor_home import VendorHome, make_home, open_home

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Path:
    """A home with one registered release, made once: MLflow takes seconds to make its tables."""
    base = tmp_path_factory.mktemp("vendor")
    home = make_home(base / "home", "acme", "", NOW).home
    shutil.copytree(release_folders / "cat", base / "cat")
    vendor.register(home, base / "cat", NOW)
    return home.folder


@pytest.fixture
def home(first_home: Path, tmp_path: Path) -> VendorHome:
    shutil.copytree(first_home, tmp_path / "home")
    return at(open_home(tmp_path / "home"), "../share", "../mirror")


def at(home: VendorHome, *locations: str) -> VendorHome:
    """The home with these places in its vendor.toml."""
    path = home.folder / "vendor.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [f"publish = {json.dumps(list(locations))}" if line.startswith("publish") else line for line in lines]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_home(home.folder)


def command(home: VendorHome, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the answer and what stands on stderr."""
    capsys.readouterr()
    code = run(["vendor", *arguments, "--home", str(home.folder), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def seen(home: VendorHome, location: str, state: Path) -> VendorView:
    return open_vendor(Client(open_transport(location), state, home.keys.anchor.read_bytes()), home.vendor)


def test_publish_withdraw_and_renew_reach_every_place(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer, _ = command(home, capsys, "publish", "edge-roto@1.0.0")
    assert code == 0
    assert [(place["place"], place["before"]) for place in answer["places"]] == [
        ("../share", "empty"),
        ("../mirror", "empty"),
    ]

    assert command(home, capsys, "withdraw", "edge-roto@1.0.0", "--why", "tears")[0] == 0
    assert command(home, capsys, "renew")[0] == 0

    for name in ("share", "mirror"):
        (entry,) = seen(home, str(tmp_path / name), tmp_path / f"{name}.state").indexes["edge-roto"].releases
        assert entry.withdrawn is not None
        assert (tmp_path / name / "metadata" / "timestamp.json").read_bytes() == (
            home.repository / "metadata" / "timestamp.json"
        ).read_bytes()


def test_a_place_out_of_reach_is_named_and_the_others_are_filled(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = at(home, "../unmounted/share", "../share")

    code, answer, err = command(home, capsys, "publish", "edge-roto@1.0.0")

    assert code == 6
    assert answer["new"]
    assert "unmounted/share: expected a folder" in err
    assert [bool(place["error"]) for place in answer["places"]] == [True, False]
    assert "edge-roto" in seen(home, str(tmp_path / "share"), tmp_path / "state").indexes

    (tmp_path / "unmounted").mkdir()
    code, answer, _ = command(home, capsys, "publish", "edge-roto@1.0.0")
    assert (code, answer["new"]) == (0, False)
    assert "edge-roto" in seen(home, str(tmp_path / "unmounted" / "share"), tmp_path / "state2").indexes


def test_an_object_store_that_nobody_listens_at_is_named(
    home: VendorHome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3", reason="the extra s3 is not installed")
    from changeover_registry.transport import s3

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    store = S3Store("none", endpoint, "key", "secret")
    for name, value in {**store.environment, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    s3._client.cache_clear()
    home = at(home, "s3://models/acme", "../share")

    code, answer, err = command(home, capsys, "publish", "edge-roto@1.0.0")

    s3._client.cache_clear()
    assert code == 6
    assert "s3://models/acme" in err
    assert [place["error"] is None for place in answer["places"]] == [False, True]


def test_another_vendors_place_is_left_as_it_is_and_outweighs_what_is_out_of_reach(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = repository.new_vendor_keys(tmp_path / "other-keys")
    repository.create(tmp_path / "share", "other", keys, NOW)
    before = {path: path.read_bytes() for path in (tmp_path / "share").rglob("*") if path.is_file()}
    home = at(home, "../unmounted/share", "../share", "../mirror")

    code, answer, err = command(home, capsys, "publish", "edge-roto@1.0.0")

    assert code == 5
    assert "another first root" in err
    assert "unmounted" in err
    assert [place["error"] is None for place in answer["places"]] == [False, False, True]
    assert {path: path.read_bytes() for path in (tmp_path / "share").rglob("*") if path.is_file()} == before


def test_a_newer_copy_of_the_home_keeps_its_place(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home.folder, tmp_path / "copy")
    copy = open_home(tmp_path / "copy")
    assert command(copy, capsys, "publish", "edge-roto@1.0.0")[0] == 0
    before = (tmp_path / "share" / "metadata" / "timestamp.json").read_bytes()

    code, _, err = command(home, capsys, "renew")

    assert code == 7
    assert "publish from the home that is newer" in err
    assert (tmp_path / "share" / "metadata" / "timestamp.json").read_bytes() == before


def test_places_says_how_each_stands(home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(home, capsys, "carry", "../share")[0] == 0
    vendor.publish(home, "acme/edge-roto", "1.0.0", NOW)

    code, answer, _ = command(home, capsys, "places")

    assert code == 0
    share, mirror = answer["places"]
    assert (share["standing"], share["days_left"]) == ("behind", 29)
    assert (mirror["standing"], mirror["days_left"]) == ("empty", None)
    assert not (tmp_path / "mirror").exists()
    assert command(home, capsys, "carry")[0] == 0
    assert [place["standing"] for place in command(home, capsys, "places")[1]["places"]] == ["current", "current"]


def test_what_is_damaged_at_a_place_is_found_and_put_back(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(home, capsys, "publish", "edge-roto@1.0.0")[0] == 0
    (damaged,) = [path for path in (tmp_path / "share" / "objects").rglob("*") if path.stat().st_size == 256 * 64]
    damaged.write_bytes(b"other weights")

    code, answer, err = command(home, capsys, "places", "--verify")

    assert code == 5
    assert "changeover vendor carry --whole" in err
    share, mirror = answer["places"]
    assert mirror["wrong"] == []
    assert len(share["wrong"]) == 1
    assert f"expected sha256 {damaged.name}, found sha256" in share["wrong"][0]
    assert command(home, capsys, "carry", "--whole")[0] == 0
    assert command(home, capsys, "places", "--verify")[0] == 0


def test_people_read_the_same(home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--home", str(home.folder)]
    assert run(["vendor", "publish", "edge-roto@1.0.0", *here]) == 0
    assert re.search(r"carried to \.\./share: \d+ files, .* each read again", capsys.readouterr().out)
    assert run(["vendor", "renew", *here]) == 0
    assert run(["vendor", "carry", *here]) == 0
    assert "../mirror has it already" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "mirror")
    assert run(["vendor", "places", "--verify", "--probe", *here]) == 0
    out = capsys.readouterr().out
    assert "../share: current, trusted for" in out
    assert "every file that it serves was read and is right" in out
    assert "../mirror: empty; fill it with: changeover vendor carry --home " + str(home.folder) in out
    at(home)
    assert run(["vendor", "places", *here]) == run(["vendor", "carry", *here]) == 0
    assert 'add publish = ["s3://bucket/acme"]' in capsys.readouterr().out


def test_a_place_that_is_about_to_expire_says_so(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for days, expected in ((-25, "changeover vendor renew"), (-40, "expired: studios refuse it")):
        repository.renew(home.repository, home.keys, NOW + timedelta(days=days))
        places.carry_all(home)
        assert run(["vendor", "places", "--home", str(home.folder)]) == 0
        assert expected in capsys.readouterr().out


def test_what_ends_before_the_dates_is_said_by_places_and_by_renew(
    home: VendorHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The targets key lies on another disk since; the dates alone were signed anew each week.
    folder, offline = home.folder / "new", tmp_path / "safe"
    home = at(make_home(folder, "acme", "", NOW - timedelta(days=361, hours=12), ask_mlflow=False).home, "../../share")
    offline.mkdir()
    for key in (home.keys.root, home.keys.targets):
        key.rename(offline / key.name)

    code, _, err = command(home, capsys, "renew")
    assert code == 0
    assert "what signs targets ends in 4 days; run changeover vendor renew where the targets key is" in err
    _, answer, _ = command(home, capsys, "places")
    assert (answer["places"][0]["days_left"], answer["places"][0]["ends"]) == (3, "root")
    assert run(["vendor", "places", "--home", str(home.folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "trusted for 3 days more root ends then: run changeover vendor renew where the root key is" in out


def test_without_the_library_for_a_bucket_the_other_places_are_filled(home: VendorHome, tmp_path: Path) -> None:
    home = at(home, "s3://models/acme", "../share")
    code = (
        "import sys; sys.modules.update({'boto3': None, 'botocore': None});"
        "from changeover_updater.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    arguments = ("vendor", "carry", "--home", str(home.folder))

    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)

    assert done.returncode == 2, done.stderr
    assert "s3://models/acme: expected the Python package boto3" in done.stderr
    assert "pip install 'changeover[s3]'" in done.stderr
    assert seen(home, str(tmp_path / "share"), tmp_path / "state").card.vendor == "acme"


def test_a_place_that_vendor_toml_does_not_name_is_refused(
    home: VendorHome, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(home, capsys, "carry", "s3://elsewhere")

    assert code == 2
    assert "one of ../share, ../mirror" in err


def test_whoever_waits_for_another_carrier_is_told_that_it_is_signed(
    home: VendorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_LOCK_SECONDS", 0.0)
    with lock(home.folder / "carrying", what="the places"):
        went = places.carry_all(home)

    assert [type(one.error) for one in went] == [LostRaceError, LostRaceError]


def test_what_is_signed_while_another_state_is_carried_goes_too(home: VendorHome, tmp_path: Path) -> None:
    vendor.publish(home, "acme/edge-roto", "1.0.0", NOW)
    signed: list[bool] = []

    def sign(_: str) -> None:
        if not signed:
            signed.append(vendor.withdraw(home, "acme/edge-roto", "1.0.0", "tears", NOW))

    places.carry_all(home, step=sign)

    assert signed == [True]
    (entry,) = seen(home, str(tmp_path / "mirror"), tmp_path / "state").indexes["edge-roto"].releases
    assert entry.withdrawn is not None


def test_the_gravest_error_ends_a_command() -> None:
    facts = {"where": "w", "expected": "e", "actual": "a", "remedy": "r"}
    far, newer, other, forged = (
        kind("place", **facts) for kind in (UnreachableError, LostRaceError, RefusedError, TrustError)
    )

    assert places.gravest([far, newer, other, forged]) is forged
    assert places.gravest([far, other, newer]) is newer
    assert places.gravest([far, other]) is other
    assert places.gravest([far]) is far
    assert places.gravest([]) is None


@pytest.mark.parametrize("name", ["moto", "swift"])
def test_what_a_store_can_do_is_found_by_doing_it(
    home: VendorHome,
    request: pytest.FixtureRequest,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from changeover_registry.transport import s3

    store: S3Store = request.getfixturevalue(name)
    for variable, value in store.environment.items():
        monkeypatch.setenv(variable, value)
    s3._client.cache_clear()
    bucket = store.bucket()
    home = at(home, f"s3://{bucket}/acme")

    code, answer, _ = command(home, capsys, "places", "--probe")

    s3._client.cache_clear()
    (place,) = answer["places"]
    assert code == 0
    assert place["standing"] == "empty"
    assert (
        place["probe"]["part of a file"] == place["probe"]["files in parts"] == place["probe"]["taking away"] == "yes"
    )
    assert "refused, as it should be" in place["probe"]["write only if absent"]
    heeds = {"moto": "not heeded: it was written", "swift": "refused, as it should be (HTTP 400)"}[name]
    assert place["probe"]["write with a wrong SHA-256"] == heeds
    unchanged = {"moto": "refused, as it should be (HTTP 412)", "swift": "not known to it (HTTP 501)"}[name]
    assert place["probe"]["write only if unchanged"] == unchanged
    assert store.client().list_objects_v2(Bucket=bucket).get("KeyCount") == 0
