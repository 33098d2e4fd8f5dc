import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_updater.initialise import Request, initialise, system_nuke_json
from changeover_updater.settings import load_settings, short_host
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.studio import read_choices


@pytest.fixture
def request_of(tmp_path: Path, build: Any) -> Callable[..., Request]:
    base = Request(
        site=tmp_path / "site",
        store=tmp_path / "store",
        station="vm1",
        keys=tmp_path / "keys",
        config=tmp_path / "host.toml",
        nuke_json=None,
        who="td@vm1",
        now=build.now,
        host="vm1",
    )
    return lambda **changes: replace(base, **changes)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def test_everything_is_made_and_found_again(request_of: Callable[..., Request], tmp_path: Path) -> None:
    initialise(request_of(), pytest.fail)

    site, station = Site.open(tmp_path / "site"), Station(Store.open(tmp_path / "store"), "vm1").need()
    assert (station.folder / "trust" / "choice" / "root.json").is_file()
    history = sorted(path.name for path in (site.choice / "targets" / "site").iterdir())
    assert len(history) == 1
    found = load_settings({}, config=tmp_path / "host.toml")
    assert (found.site, found.store, found.station) == (site.root, station.store.root, "vm1")
    for name in ("root", "targets", "site", "promoter", "verdict"):
        path = Path(getattr(found.keys, name))
        assert path.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "store" / "stations" / "by-host").exists()


def test_what_the_new_host_toml_offers_in_comments_is_taken_as_it_stands(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    initialise(request_of(), pytest.fail)
    config = tmp_path / "host.toml"
    text = config.read_text(encoding="utf-8")
    for line in ("nuke_gpu = ", "[[nukes]]", "version = "):
        assert f"\n# {line}" in text
        text = text.replace(f"\n# {line}", f"\n{line}")
    config.write_text(text, encoding="utf-8")

    found = load_settings({}, config=config)

    assert (found.nuke_gpu, found.nukes) == ("GPU-9b36c24f-b9bc-1dfa-b6c7-1ea6b42c5b75", ("15.1v3",))


def test_run_again_it_changes_nothing(request_of: Callable[..., Request], tmp_path: Path) -> None:
    request = request_of(nuke_json=tmp_path / "etc" / "nuke.json", host="render07")
    initialise(request, pytest.fail)
    before = everything(tmp_path)

    initialise(request, pytest.fail)

    assert everything(tmp_path) == before


@pytest.mark.parametrize("killed_after", ["site", "store", "keys"])
def test_run_again_after_a_kill_it_goes_on(
    request_of: Callable[..., Request], tmp_path: Path, killed_after: str
) -> None:
    import shutil

    initialise(request_of(), pytest.fail)
    (tmp_path / "host.toml").unlink()
    if killed_after == "keys":
        # The keys and some of the choice are there; its timestamp, which is written last, is not.
        (tmp_path / "site" / "choice" / "metadata" / "timestamp.json").unlink()
    else:
        shutil.rmtree(tmp_path / "site" / "choice")
        shutil.rmtree(tmp_path / "keys")
    shutil.rmtree(tmp_path / "store") if killed_after == "site" else None

    initialise(request_of(), pytest.fail)

    assert load_settings({}, config=tmp_path / "host.toml").station == "vm1"
    assert (tmp_path / "site" / "choice" / "metadata" / "timestamp.json").is_file()


def test_choice_reads_with_the_root_that_the_station_was_given(
    tmp_path: Path, request_of: Callable[..., Request]
) -> None:
    from changeover_registry import clock

    initialise(request_of(now=clock.now()), pytest.fail)

    site, station = Site(tmp_path / "site"), Station(Store(tmp_path / "store"), "vm1")
    (first,) = read_choices(site, station)
    assert (first.scope, first.number, first.entry.what) == ("site", 1, "init")
    assert [key.owner for key in first.verdict_keys] == ["td@vm1"]
    assert site.policy(first.policy)[0].channel == "stable"


@pytest.mark.parametrize(
    "changes",
    [
        {"station": "../other"},
        {"station": "by-host"},
        {"station": "a/b"},
        {"site": Path("/x/a b")},
        {"store": Path("/x/a#b")},
    ],
)
def test_bad_name_or_root_is_refused_before_anything_is_made(
    request_of: Callable[..., Request], tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        initialise(request_of(**changes), pytest.fail)

    assert everything(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('schema = "changeover.host/1"\nsite = "/elsewhere"\nstore = "/elsewhere"\n', "names another"),
        ('# site = "{site}"\nstore = "{store}"\n', "names another"),
        ("site = [", "a TOML file in UTF-8"),
        ('site = "{site}"\nstore = "{store}"\nstation = "../x"\n', "not by-host"),
    ],
)
def test_host_toml_that_says_otherwise_is_left_and_nothing_is_made(
    request_of: Callable[..., Request], tmp_path: Path, text: str, says: str
) -> None:
    request = request_of()
    request.config.write_text(text.format(site=request.site, store=request.store), encoding="utf-8")
    before = everything(tmp_path)

    with pytest.raises(InvalidInputError, match=says):
        initialise(request, pytest.fail)

    assert everything(tmp_path) == before


def test_host_toml_in_another_spelling_of_the_same_folders_is_taken(request_of: Callable[..., Request]) -> None:
    request = request_of()
    text = f"schema='changeover.host/1'\nstore='{request.store}'\nsite  = '{request.site}'\n"
    request.config.write_text(text, encoding="utf-8")

    initialise(request, pytest.fail)

    assert request.config.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["st\u00fcdio", "\u6620\u753b", "\U0001f3ac", 'it\'s"quoted"', "back\\slash"])
def test_folder_of_any_letters_is_found_again(request_of: Callable[..., Request], tmp_path: Path, name: str) -> None:
    initialise(request_of(site=tmp_path / name), pytest.fail)

    assert load_settings({}, config=tmp_path / "host.toml").site == tmp_path / name
    initialise(request_of(site=tmp_path / name), pytest.fail)


def test_host_of_another_name_is_told_its_station(request_of: Callable[..., Request], tmp_path: Path) -> None:
    by_host = tmp_path / "store" / "stations" / "by-host"
    initialise(request_of(host="render07"), pytest.fail)

    assert (by_host / "render07").read_text(encoding="utf-8").strip() == "vm1"


def test_host_keeps_the_station_of_its_host_toml_when_another_is_made(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    initialise(request_of(host="render07"), pytest.fail)
    initialise(request_of(host="render07", station="vm2"), pytest.fail)

    assert (tmp_path / "store" / "stations" / "vm2" / "generations").is_dir()
    assert (tmp_path / "store" / "stations" / "by-host" / "render07").read_text(encoding="utf-8") == "vm1\n"


def test_host_that_was_told_another_station_is_told_anew(request_of: Callable[..., Request], tmp_path: Path) -> None:
    initialise(request_of(), pytest.fail)
    told = tmp_path / "store" / "stations" / "by-host" / "vm1"
    told.parent.mkdir()
    told.write_text("old\n", encoding="utf-8")

    initialise(request_of(), pytest.fail)

    assert told.read_text(encoding="utf-8") == "vm1\n"


def test_nuke_is_told_once_and_another_store_is_left(request_of: Callable[..., Request], tmp_path: Path) -> None:
    path = tmp_path / "etc" / "nuke.json"
    initialise(request_of(nuke_json=path), pytest.fail)
    assert json.loads(path.read_bytes()) == {"schema": "changeover.nuke/1", "store": str(tmp_path / "store")}
    path.write_text('{"schema":"changeover.nuke/1","store":"/other"}', encoding="utf-8")
    notices: list[str] = []

    initialise(request_of(nuke_json=path), notices.append)

    assert "names another store" in notices[0]
    assert "/other" in path.read_text(encoding="utf-8")


def test_place_for_nuke_that_cannot_be_written_is_a_notice(request_of: Callable[..., Request], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notices: list[str] = []

    initialise(request_of(nuke_json=tmp_path / "file" / "nuke.json"), notices.append)

    assert f"set CHANGEOVER_STORE={tmp_path / 'store'}" in notices[0]


def test_host_is_this_machine_unless_told(request_of: Callable[..., Request]) -> None:
    base = request_of()
    fields = {name: getattr(base, name) for name in Request.__dataclass_fields__ if name != "host"}

    assert Request(**fields).host == short_host()
    assert system_nuke_json() == Path("/etc/changeover/nuke.json")


def test_store_whose_letters_are_not_in_nfc_is_told_to_nuke_as_it_is(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    path = tmp_path / "nuke.json"
    initialise(request_of(store=tmp_path / "stu\u0308dio", nuke_json=path), pytest.fail)

    assert json.loads(path.read_bytes())["store"] == str(tmp_path / "stu\u0308dio")


def test_interpreter_without_a_runtime_is_not_named_as_one() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from changeover_updater.initialise import _runtimes; print(*_runtimes())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("# default = ")
