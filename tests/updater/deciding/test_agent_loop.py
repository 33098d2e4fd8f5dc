"""What the agent's loop is made of: looking, a child with real commands, and what is kept between two ticks."""

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from changeover_updater.agent import Done
from changeover_updater.agent_loop import agent_lock, keep, kept, look, run_child
from changeover_updater.station import Station
from changeover_updater.store import Store

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    made = Station(Store.create(tmp_path / "store"), "vm1")
    made.create()
    return made


def timestamp(site: Path, body: object) -> None:
    path = site / "choice" / "metadata" / "timestamp.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")


def signed(snapshot: int, version: int, expires: str = "2026-12-22T00:00:00Z") -> dict[str, object]:
    meta = {"snapshot.json": {"version": snapshot, "length": 5}}
    return {"signed": {"version": version, "expires": expires, "meta": meta}, "signatures": [version]}


def test_new_choice_is_news_and_a_timestamp_that_is_only_signed_again_is_none(tmp_path: Path, station: Station) -> None:
    seen = []
    for body in (signed(7, 1), signed(7, 2, "2027-01-01T00:00:00Z"), signed(8, 3)):
        timestamp(tmp_path, body)
        seen.append(look(tmp_path, station).serial)

    assert seen[0] is not None
    assert (seen[0] == seen[1], seen[1] == seen[2]) == (True, False)


def test_site_without_a_choice_does_not_answer_and_a_pipe_is_not_waited_for(tmp_path: Path, station: Station) -> None:
    assert look(tmp_path / "nowhere", station).serial is None
    folder = tmp_path / "choice" / "metadata"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "timestamp.json")

    assert look(tmp_path, station).serial is None


@pytest.mark.parametrize("body", ["", "no JSON", "[]", '{"signed":{}}', "[" * 50_000])
def test_what_is_no_timestamp_is_seen_and_left_to_the_update_to_judge(
    tmp_path: Path, station: Station, body: str
) -> None:
    timestamp(tmp_path, body)

    assert look(tmp_path, station).serial is not None


def child(code: str, *, stop: threading.Event | None = None, grace: float = 30.0) -> Done:
    return run_child([sys.executable, "-c", code], stop or threading.Event(), grace=grace)


def test_child_answers_with_what_it_did_and_its_notes() -> None:
    said = Done(exit_code=0, line="well", changed=True).model_dump_json()

    done = child(f"import sys; print({said!r}); print('note: a hook', file=sys.stderr); sys.exit(3)")

    assert (done.line, done.changed, done.exit_code, done.notes) == ("well", True, 3, ("note: a hook",))


def test_child_without_an_answer_is_told_with_its_last_line() -> None:
    done = child("import sys; print('a\\nlast words', file=sys.stderr); sys.exit(9)")

    assert (done.exit_code, done.behind) == (9, None)
    assert done.line == "the update ended with 9 and no answer: last words"
    assert child("pass").exit_code == 1


def test_child_that_floods_is_no_burden() -> None:
    done = child("import sys\nfor _ in range(200000): print('x' * 50, file=sys.stderr)\nsys.exit(1)")

    assert (len(done.notes), len(done.line) <= 400) == (0, True)


def test_command_that_is_missing_is_a_tick_that_failed() -> None:
    done = run_child(["/no/such/command"], threading.Event())

    assert (done.exit_code, "could not be started" in done.line) == (9, True)


def test_stop_lets_a_tick_come_to_its_end() -> None:
    stop = threading.Event()
    stop.set()
    said = Done(exit_code=0, line="well").model_dump_json()

    done = child(f"import time; time.sleep(1); print({said!r})", stop=stop)

    assert done.line == "well"


def test_stop_ends_a_tick_that_takes_too_long() -> None:
    stop = threading.Event()
    stop.set()
    begun = time.monotonic()

    done = child("import time; time.sleep(600)", stop=stop, grace=0.3)

    assert (done.exit_code, time.monotonic() - begun < 60) == (-15, True)
    assert "killed by signal 15" in done.line


def test_what_is_kept_counts_and_remembers_over_failures(station: Station) -> None:
    well = Done(exit_code=0, line="x", behind=1, choices={"site": 3}, notes=("n",))
    bad = Done(exit_code=6, line="x", behind=None)

    keep(station, well, NOW, "a", None)
    keep(station, bad, NOW, "b", NOW)
    last = keep(station, bad, NOW, "b", NOW)

    assert kept(station) == last
    assert (last.failures, last.success, last.ticks) == (2, "2026-11-22T12:00:00Z", {"0": 1, "6": 2})
    assert (last.done.behind, last.done.choices, last.done.notes, last.serial) == (1, {"site": 3}, (), "b")


def test_kept_file_that_was_damaged_is_as_good_as_none(station: Station) -> None:
    (station.folder / "agent.json").write_bytes(b'{"done":')

    assert kept(station) is None
    assert keep(station, Done(exit_code=0, line="x"), NOW, None, None).ticks == {"0": 1}


def test_station_has_one_agent(station: Station) -> None:
    from changeover_registry.errors import LostRaceError

    with agent_lock(station), pytest.raises(LostRaceError, match="agent"), agent_lock(station):
        pytest.fail("two agents")
