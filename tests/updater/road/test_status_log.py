"""``status``, ``facts`` and ``log``: what a station says of itself, before anything and after somebody meddled."""

import json
from pathlib import Path
from typing import Any

import pytest


def test_before_anything_each_command_says_what_to_do_next(world: Any) -> None:
    assert "nothing in use yet" in world.ok("status")
    assert "changeover plan" in world.ok("status")
    assert "the studio has chosen nothing yet" in world.ok("plan")
    assert "nothing is in use" in world.ok("update")
    assert "nothing yet" in world.ok("log")
    assert "nothing yet" in world.ok("verdict", "list")
    assert "nothing yet" in world.ok("override", "list")
    assert world.station.current() is None


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
