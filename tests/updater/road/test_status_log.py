"""``status``, ``facts`` and ``log``: what a station says of itself, before anything and after somebody meddled."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical, chain
from changeover_registry.records.station import Event


def test_before_anything_each_command_says_what_to_do_next(world: Any) -> None:
    assert "nothing in use yet" in world.ok("status")
    assert "changeover plan" in world.ok("status")
    assert "the studio has chosen nothing yet" in world.ok("plan")
    assert "nothing is in use" in world.ok("update")
    assert "nothing yet" in world.ok("log")
    assert "nothing yet" in world.ok("verdict", "list")
    assert "nothing yet" in world.ok("override", "list")
    assert world.station.current() is None


def test_pointer_that_is_lost_is_told_by_status_with_what_mends_it(world: Any) -> None:
    world.served("1.0.0")
    (world.station.folder / "current").unlink()

    told = world.ok("status")

    assert "nothing in use yet" not in told
    assert "generations are (1); mend it: changeover doctor --repair" in told
    world.run("doctor", "--repair")
    assert world.station.current() == 1


def test_pointer_that_is_damaged_is_told_once_and_not_in_a_parsers_words(world: Any) -> None:
    world.served("1.0.0")
    (world.station.folder / "current").write_bytes(b"")

    _, _, err = world.run("status")
    _, told, _ = world.run("doctor")

    assert "found bytes that are no record of one" in err
    assert told.count("bytes that are no record") == 1
    assert "Expecting" not in err + told


@pytest.fixture(scope="module")
def chained(module_world: Any) -> Any:
    """A station with eight events, of which the site knows the head."""
    world = module_world
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)
    world.ok("hold", "--reason", "a")
    world.ok("unhold")
    world.ok("rollback")
    world.ok("unhold")
    world.ok("update")
    return world


def events_of(world: Any) -> list[Path]:
    return sorted((world.station.folder / "events").glob("*.json"))


def test_unbroken_chain_is_said_to_be_so(chained: Any) -> None:
    out = chained.ok("log", "--verify")

    assert f"{len(events_of(chained))} events, each follows from the one before" in out


@pytest.mark.parametrize("meddling", ["edited", "removed", "cut", "all cut", "garbage", "swapped"])
def test_meddling_with_the_events_is_5_and_names_the_event(chained: Any, meddling: str) -> None:
    paths = events_of(chained)
    kept = {path: path.read_bytes() for path in paths}
    third = paths[2]
    if meddling == "edited":
        third.write_bytes(kept[third].replace(b'"who":"', b'"who":"not-'))
    elif meddling == "removed":
        third.unlink()
    elif meddling == "cut":
        paths[-1].unlink()
    elif meddling == "all cut":
        for path in paths:
            path.unlink()
    elif meddling == "garbage":
        third.write_bytes(b"\x00")
    else:
        third.write_bytes(kept[paths[3]])

    code, _, err = chained.run("log", "--verify")
    for path, data in kept.items():
        path.write_bytes(data)

    named = {"edited": 4, "removed": 3, "garbage": 3, "swapped": 3, "all cut": 1, "cut": len(paths)}[meddling]
    assert (code, err.count("\n")) == (5, 1), err
    assert f"event {named}" in err
    chained.ok("log", "--verify")


def _edit(events: list[Path], index: int) -> None:
    data = events[index].read_bytes()
    events[index].write_bytes(data.replace(b'"who":"', b'"who":"not-'))


def _swap(events: list[Path], index: int) -> None:
    """Two neighbours change places, each under the number of the other."""
    one, other = events[index], events[index + 1]
    first, second = (Event.from_bytes(path.read_bytes(), where="event") for path in (one, other))
    one.write_bytes(second.model_copy(update={"sequence": first.sequence}).to_bytes())
    other.write_bytes(first.model_copy(update={"sequence": second.sequence}).to_bytes())


def _forge(events: list[Path], index: int) -> None:
    """One event is edited and every digest after it made right again: the chain itself is whole."""
    _edit(events, index)
    for before, path in pairwise(events[index:]):
        previous = canonical.digest(before.read_bytes())
        event = Event.from_bytes(path.read_bytes(), where="event")
        path.write_bytes(event.model_copy(update={"previous": previous}).to_bytes())


MEDDLING: dict[str, Callable[[list[Path], int], None]] = {
    "removed": lambda events, index: events[index].unlink(),
    "edited": _edit,
    "swapped": _swap,
    "forged": _forge,
}


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("how", MEDDLING)
def test_every_event_is_proved_by_the_next_and_the_last_by_the_site(chained: Any, how: str, where: str) -> None:
    paths = events_of(chained)
    kept = {path: path.read_bytes() for path in paths}
    last = len(paths)
    index = {"first": 0, "middle": last // 2, "last": last - 1 - (how == "swapped")}[where]

    MEDDLING[how](paths, index)
    code, _, err = chained.run("log", "--verify")
    for path, data in kept.items():
        path.write_bytes(data)

    # A missing event is named itself; an edited one by the next, which does not follow from it; what was made to fit
    # again, and the last one, by the head that the site keeps.
    named = {"removed": index + 1, "edited": min(index + 2, last), "swapped": index + 1, "forged": last}[how]
    assert (code, err.count("\n")) == (5, 1), err
    assert f"event {named}:" in err
    chained.ok("log", "--verify")


@pytest.mark.parametrize("count", [1, 3])
def test_newest_events_that_are_cut_off_are_missed_by_the_site_alone(chained: Any, count: int) -> None:
    paths = events_of(chained)
    kept = {path: path.read_bytes() for path in paths}
    for path in paths[-count:]:
        path.unlink()

    code, _, err = chained.run("log", "--verify")
    without_site = chained.station.events()
    for path, data in kept.items():
        path.write_bytes(data)

    chain.verify(without_site, None)
    assert code == 5
    assert f"event {len(paths) - count + 1}: expected {len(paths)} events" in err


def test_events_are_told_with_who_what_and_why(chained: Any) -> None:
    told = json.loads(chained.ok("log", "--json"))

    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    assert {event["what"] for event in told} == {"update", "hold", "unhold", "rollback"}
    assert all(event["who"] and event["when"] and event["why"] for event in told)


def test_site_has_the_stations_own_report(chained: Any) -> None:
    report = json.loads((chained.site.root / "stations" / "vm1" / "status.json").read_bytes())

    assert report["events"] == len(events_of(chained))
    assert report["generation"] == chained.station.in_use().number


def test_site_that_cannot_be_written_is_a_notice_and_not_an_error(world: Any) -> None:
    world.served("1.0.0")
    folder = world.site.root / "stations" / "vm1"
    (folder / "status.json").unlink()
    folder.rmdir()
    folder.write_text("in the way", encoding="utf-8")

    code, _, err = world.run("update")

    assert code == 0
    assert "note: the site was not told" in err
    folder.unlink()


ANSWERS = (
    ("facts", "--json"),
    ("plan", "--json"),
    ("update", "--json"),
    ("status", "--json"),
    ("log", "--json"),
    ("log", "--choice", "--json"),
    ("log", "--verify", "--json"),
    ("trust", "list", "--json"),
    ("verdict", "list", "--json"),
    ("override", "list", "--json"),
    ("golden", "list", "--json"),
)


@pytest.mark.parametrize("command", ANSWERS, ids=" ".join)
def test_json_answer_is_one_document_on_stdout_without_colour_or_wrapping(
    chained: Any, command: tuple[str, ...]
) -> None:
    code, out, err = chained.run(*command)

    assert code == 0, err
    json.loads(out)
    assert "\x1b" not in out + err
    assert out.endswith("\n")


@pytest.mark.parametrize("command", [a[:-1] for a in ANSWERS], ids=" ".join)
def test_text_answer_has_no_colour_off_a_terminal(chained: Any, command: tuple[str, ...]) -> None:
    out = chained.ok(*command)

    assert "\x1b" not in out
    assert out


def test_status_of_a_file_that_is_not_a_record_is_one_line(chained: Any) -> None:
    path = chained.station.folder / "current"
    kept = path.read_bytes()
    path.write_bytes(b"7")

    codes = [chained.run(command) for command in ("status", "plan", "update", "rollback")]
    path.write_bytes(kept)

    assert all(code in {2, 5} for code, _, _ in codes), codes
    assert all(err.count("\n") == 1 and "current" in err for _, _, err in codes), codes
