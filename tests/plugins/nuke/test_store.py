import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest


def _put(situation: Any, number: int = 1) -> Any:
    release = situation.release("acme/roto", f"{number}.0.0")
    situation.put(situation.generation(number, release, stable=(release,)))
    return release


def test_what_the_records_write_is_what_the_plug_in_reads(situation: Any, plug: Any) -> None:
    release = _put(situation)
    found = plug(situation.environ())

    opened = found.store.open_generation(situation.environ())

    assert opened.frozen.number == 1
    assert opened.frozen.station == "ws01"
    assert opened.frozen.pointer("stable", "acme/roto") == release.key
    assert opened.folder == f"{situation.root}/stations/ws01/generations/1"


def test_the_store_is_found_in_the_file_that_init_writes(situation: Any, plug: Any, tmp_path: Path) -> None:
    _put(situation)
    config = tmp_path / "nuke.json"
    config.write_text(json.dumps({"schema": "changeover.nuke/1", "store": str(situation.root) + "/"}))
    found = plug({})

    opened = found.store.open_generation({"CHANGEOVER_NUKE_JSON": str(config), "CHANGEOVER_STATION": "ws01"})

    assert opened.root == str(situation.root)


@pytest.mark.parametrize("by_host", [True, False])
def test_the_station_is_the_one_that_is_filed_for_the_host_else_the_host_itself(
    tmp_path: Path, plug: Any, by_host: bool
) -> None:
    found = plug({})
    host = found.store.short_host()
    station = "class-7" if by_host else host
    root = tmp_path / "store"
    folder = root / "stations" / station / "generations" / "1"
    folder.mkdir(parents=True)
    (root / "stations" / station / "current").write_text('{"generation":1,"schema":"changeover.current/1"}')
    (folder / "generation.json").write_text(
        json.dumps({"schema": "changeover.generation/1", "number": 1, "station": station})
    )
    if by_host:
        (root / "stations" / "by-host").mkdir()
        (root / "stations" / "by-host" / host).write_text("class-7\n")

    opened = found.store.open_generation({"CHANGEOVER_STORE": str(root)})

    assert opened.frozen.station == station


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows the file lies in %ProgramData%")
def test_the_file_that_init_writes_is_where_every_user_of_the_machine_can_read_it(plug: Any) -> None:
    assert plug({}).store._config_file({}) == "/etc/changeover/nuke.json"


def test_the_hosts_name_is_short_and_in_lower_case(plug: Any) -> None:
    name = plug({}).store.short_host()

    assert name == os.uname().nodename.split(".")[0].lower()


POINTER, GENERATION = "stations/ws01/current", "stations/ws01/generations/1/generation.json"
FILES: dict[str, tuple[str, str | None]] = {
    "a configuration without a store": ("nuke.json", '{"schema":"changeover.nuke/1"}'),
    "no pointer": (POINTER, None),
    "a pointer to nothing": (POINTER, '{"schema":"changeover.current/1","generation":9}'),
    "a pointer without a number": (POINTER, '{"schema":"changeover.current/1"}'),
    "a pointer that is cut": (POINTER, '{"schema":"chang'),
    "a pointer that is a list": (POINTER, "[]"),
    "a generation of a newer format": (GENERATION, '{"schema":"changeover.generation/2"}'),
    "a generation without its number": (GENERATION, '{"schema":"changeover.generation/1"}'),
    "a generation whose number is without end": (
        GENERATION,
        '{"schema":"changeover.generation/1","number":1e999,"station":"ws01"}',
    ),
    "a pointer that is nested deep": (POINTER, "[" * 100_000),
    "another file in its place": (GENERATION, '{"schema":"changeover.release/1"}'),
}


def _broken(name: str, root: Path) -> dict[str, str]:
    """Break the store in that way; the environment of a session that meets it."""
    path, content = FILES.get(name, ("nothing", None))
    if content is None:
        (root / path).unlink(missing_ok=True)
    else:
        (root / path).write_text(content)
    # A generation that an older version made has no index beside it, and then all depends on the one file.
    (root / GENERATION).with_name("resolve.jsonl").unlink()
    environs = {
        "no configuration": {"CHANGEOVER_NUKE_JSON": str(root / "nothing.json")},
        "a configuration without a store": {"CHANGEOVER_NUKE_JSON": str(root / "nuke.json")},
        "the store is gone": {"CHANGEOVER_STORE": str(root / "unmounted")},
        "a store with a space": {"CHANGEOVER_STORE": "/my store"},
        "no such station": {"CHANGEOVER_STORE": str(root), "CHANGEOVER_STATION": "ws02"},
        "a station name that climbs": {"CHANGEOVER_STORE": str(root), "CHANGEOVER_STATION": "../ws01"},
    }
    return environs.get(name, {"CHANGEOVER_STORE": str(root), "CHANGEOVER_STATION": "ws01"})


BROKEN = {
    "no configuration": "no store is set: neither CHANGEOVER_STORE nor .*; run: changeover init",
    "a configuration without a store": "names no store; run: changeover init",
    "the store is gone": "the store .*unmounted is not there",
    "a store with a space": "the path /my store has a space in it",
    "no such station": "has no station ws02; run there: changeover update",
    "a station name that climbs": "'../ws01' cannot be the name of a station",
    "no pointer": r"ws01/current cannot be read \(No such file or directory\); run: changeover update",
    "a pointer to nothing": "generations/9/generation.json cannot be read",
    "a pointer without a number": "current names no generation",
    "a pointer that is cut": "current is damaged .*; run: changeover status",
    "a pointer that is a list": r"current is not a changeover.current file \(no object\)",
    "a generation of a newer format": "was written by a newer Changeover .*; update the plug-in",
    "a generation without its number": "generation.json is not as expected .*; run: changeover status",
    "a generation whose number is without end": "generation.json is not as expected .*; run: changeover status",
    "a pointer that is nested deep": "current is damaged .*; run: changeover status",
    "another file in its place": r"is not a changeover.generation file \(changeover.release/1\)",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_store_gives_one_plain_sentence(situation: Any, plug: Any, name: str) -> None:
    _put(situation)
    environ = _broken(name, situation.root)
    found = plug(environ)

    with pytest.raises(found.store.StoreError, match=BROKEN[name]) as caught:
        found.store.open_generation(environ)

    assert "\n" not in str(caught.value)


def test_a_pointer_that_is_away_for_a_moment_is_waited_for(situation: Any, plug: Any) -> None:
    _put(situation)
    found = plug({})
    pointer, aside = situation.folder / "current", situation.folder / "aside"
    pointer.rename(aside)
    back = threading.Timer(0.02, aside.rename, [pointer])
    back.start()

    opened = found.store.open_generation(situation.environ())

    back.join()
    assert opened.frozen.number == 1


def test_a_generation_that_was_collected_between_pointer_and_reading_leads_to_the_new_one(
    situation: Any, plug: Any
) -> None:
    _put(situation)
    found = plug({})
    situation.point(7)
    newer = threading.Timer(0.02, _put, [situation, 8])
    newer.start()

    opened = found.store.open_generation(situation.environ())

    newer.join()
    assert opened.frozen.number == 8
    assert json.loads(Path(opened.lease).read_text())["generation"] == 8


def test_the_lease_names_host_process_start_and_generation(situation: Any, plug: Any) -> None:
    _put(situation)
    found = plug({})

    opened = found.store.open_generation(situation.environ())

    host = found.store.short_host()
    assert Path(opened.lease) == situation.folder / "leases" / f"{host}-{os.getpid()}.json"
    body = json.loads(Path(opened.lease).read_text())
    assert (body["schema"], body["host"], body["pid"], body["generation"]) == (
        "changeover.lease/1",
        host,
        os.getpid(),
        1,
    )
    assert time.strptime(body["started_at"], "%Y-%m-%dT%H:%M:%SZ")
    assert sorted(path.name for path in (situation.folder / "leases").iterdir()) == [Path(opened.lease).name]


def test_a_lease_that_cannot_be_written_stops_nothing(situation: Any, plug: Any) -> None:
    _put(situation)
    (situation.folder / "leases").rmdir()
    found = plug({})

    opened = found.store.open_generation(situation.environ())

    assert (opened.frozen.number, opened.lease) == (1, "")
    found.store.touch_lease(opened.lease)


def test_touching_a_lease_moves_its_time(situation: Any, plug: Any) -> None:
    _put(situation)
    found = plug({})
    opened = found.store.open_generation(situation.environ())
    os.utime(opened.lease, (0, 0))

    found.store.touch_lease(opened.lease)

    assert Path(opened.lease).stat().st_mtime > 1


def test_a_farm_lock_is_read_line_by_line(situation: Any, plug: Any, tmp_path: Path) -> None:
    release = _put(situation)
    found = plug({})

    lock = found.store.read_lock({"CHANGEOVER_LOCK": situation.lock(tmp_path / "lock", release, node="Inference1")})

    assert [(entry.release.key, entry.node) for entry in lock] == [(release.key, "Inference1")]
    assert found.store.read_lock({}) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "is damaged"),
        ('{"schema":"changeover.lock/1"}', "is not as expected"),
        ('{"schema":"changeover.lock/1","releases":[{"model":"a/b"}]}', "is not as expected"),
    ],
)
def test_a_farm_lock_that_cannot_be_read_is_never_passed_over(
    plug: Any, tmp_path: Path, content: str | None, sentence: str
) -> None:
    found = plug({})
    path = tmp_path / "lock"
    if content is not None:
        path.write_text(content)

    with pytest.raises(found.store.StoreError, match=sentence):
        found.store.read_lock({"CHANGEOVER_LOCK": str(path)})


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_lease_that_windows_holds_open_is_tried_again_and_never_removed_first(
    situation: Any, plug: Any, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    _put(situation)
    found = plug({})
    real, calls = os.replace, []

    def busy(source: str, target: str) -> None:
        calls.append(Path(target).exists())
        if len(calls) < 3:
            raise _windows(winerror)
        real(source, target)

    found.store.open_generation(situation.environ())
    monkeypatch.setattr(os, "replace", busy)
    opened = found.store.open_generation(situation.environ())

    assert calls == [True, True, True], "the lease that was there stayed there all the time"
    assert json.loads(Path(opened.lease).read_text())["generation"] == 1


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_lease_that_stays_held_open_is_as_it_was_and_the_session_goes_on(
    situation: Any, plug: Any, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    _put(situation)
    found = plug({})
    lease = Path(found.store.open_generation(situation.environ()).lease)
    before = lease.read_bytes()

    def busy(*_: str) -> None:
        raise _windows(winerror)

    monkeypatch.setattr(os, "replace", busy)
    opened = found.store.open_generation(situation.environ())

    assert (opened.frozen.number, opened.lease) == (1, "")
    assert lease.read_bytes() == before
    assert [path.name for path in lease.parent.iterdir()] == [lease.name]


def _windows(winerror: int) -> PermissionError:
    error = PermissionError(13, "Permission denied")
    vars(error)["winerror"] = winerror
    return error


@pytest.mark.parametrize("render", [False, True])
@pytest.mark.parametrize("name", ["ESTALE", "ENOENT"])
def test_a_pointer_that_stays_stale_is_waited_for_longer_where_no_artist_waits(
    situation: Any, plug: Any, monkeypatch: pytest.MonkeyPatch, name: str, render: bool
) -> None:
    import builtins
    import errno

    _put(situation)
    found = plug({})
    waited: list[float] = []
    real, stale_for = builtins.open, 0.6

    def stale(path: str, *more: Any, **named: Any) -> Any:
        if str(path).endswith("/current") and sum(waited) < stale_for:
            raise OSError(getattr(errno, name), "not now", str(path))
        return real(path, *more, **named)

    monkeypatch.setattr(builtins, "open", stale)
    monkeypatch.setattr(found.store.time, "sleep", waited.append)

    if render:
        assert found.store.open_generation(situation.environ(), render=True).frozen.number == 1
        assert 0.6 <= sum(waited) <= 1.1
    else:
        with pytest.raises(found.store.StoreError, match="current cannot be read"):
            found.store.open_generation(situation.environ())
        assert sum(waited) <= 0.08
