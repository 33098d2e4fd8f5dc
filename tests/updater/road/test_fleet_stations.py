"""``fleet`` over the stations of a site: what they really reported, and what strangers put in their place."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.station import StationStatus


@pytest.fixture(scope="module")
def fleet_world(module_world: Any) -> Any:
    """A station in use, one that was copied from its report and is silent, and three reports that are none."""
    world = module_world
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("hold", "--reason", "final [bold]renders[/]")
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "better hair")
    world.ok("update")
    folder = world.site.root / "stations"
    own = StationStatus.from_bytes((folder / "vm1" / "status.json").read_bytes(), where="vm1")
    old = {"station": "ws2", "host": "ws2", "hold": None, "tried": None, "choices": {"site": 1}}
    old |= {"reported_at": "2026-01-01T00:00:00Z", "next_report": "2026-01-01T00:30:00Z"}
    for name, data in (
        ("ws2", own.model_copy(update=old).to_bytes()),
        ("liar", own.to_bytes()),
        ("cut", own.to_bytes()[:100]),
    ):
        (folder / name).mkdir()
        (folder / name / "status.json").write_bytes(data)
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / "status.json")
    return world


def test_fleet_tells_who_runs_what_who_is_behind_and_who_is_silent(fleet_world: Any) -> None:
    answer = json.loads(fleet_world.ok("fleet", "--json"))

    key = fleet_world.station.in_use().channels[0].key
    lines = {line["station"]: line for line in answer["stations"]}
    assert answer["chosen_known"] is True
    assert answer["running"] == [{"channel": "stable", "model": "acme/tiny-roto", "release": key, "stations": 2}]
    assert [(one["reason"], one["why"]) for one in lines["vm1"]["behind"]] == [("hold", "final [bold]renders[/]")]
    assert [one["reason"] for one in lines["ws2"]["behind"]] == ["silent"]
    assert (lines["vm1"]["silent"], lines["ws2"]["silent"]) == (None, "2026-01-01T00:00:00Z")
    assert sorted(one["station"] for one in answer["unreadable"]) == ["cut", "liar", "pipe"]
    covered = {(one["release"], one["runs"], one["may"]) for one in answer["coverage"]}
    assert (key, 2, 0) in covered
    assert any(runs == 0 and may == 1 for _, runs, may in covered)


def test_fleet_in_words_says_that_hosts_report_it_and_obeys_no_report(fleet_world: Any) -> None:
    text = fleet_world.ok("fleet")

    assert "2 stations, reported by the hosts; 3 reports count for nothing" in text
    assert "final [bold]renders[/]" in text
    assert "names another station" in text
    assert "1 agent is overdue" in text
    assert "acme/tiny-roto@1.0.0" in text
    assert "1 waiting (hold: final [bold]renders[/])" in text


def test_fleet_of_one_release_leaves_out_the_others(fleet_world: Any) -> None:
    answer = json.loads(fleet_world.ok("fleet", "tiny-roto@1.1.0", "--json"))

    assert {one["release"].partition("-")[2].partition("-")[0] for one in answer["coverage"]} == {"roto@1.1.0"}
    assert answer["running"] == []


def test_where_the_choice_cannot_be_verified_nobody_is_called_behind(fleet_world: Any, tmp_path: Path) -> None:
    code, out, err = fleet_world.run("--store", str(tmp_path), "fleet")

    assert code == 0
    assert "what is chosen could not be verified" in err
    assert "who is behind is not known" in out


def test_site_without_stations_says_how_they_come(world: Any) -> None:
    assert "none yet" in world.ok("fleet")


def status_of(world: Any) -> StationStatus:
    path = world.site.root / "stations" / "vm1" / "status.json"
    return StationStatus.from_bytes(path.read_bytes(), where=str(path))


def test_hold_rollback_and_unhold_are_told_and_what_was_tried_stays(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.served("1.1.0", first)
    done = status_of(world)

    world.ok("rollback", "--reason", "flickers")
    back = status_of(world)
    world.ok("unhold")
    lifted = status_of(world)

    assert [(one.key, one.outcome) for one in done.tried or ()] == [(str(second.ref()), "done")]
    assert (done.generation, back.generation, lifted.generation) == (2, 1, 1)
    assert (done.hold, back.hold, lifted.hold) == (None, "rollback to generation 1: flickers", None)
    assert back.tried == lifted.tried == done.tried
    assert back.facts == done.facts == world.facts
    assert (back.choices, back.verdicts) == (done.choices, done.verdicts)
    assert len(done.verdicts or ()) == 1
    assert lifted.events == len(world.station.events())


def test_update_that_fails_is_told_with_the_release_that_broke(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    for file in second.variants[0].files:
        path = world.repository / "objects" / file.sha256[:2] / file.sha256
        path.unlink()

    code, _, _ = world.run("update")

    told = status_of(world)
    assert (code, world.station.current()) == (6, 1)
    assert [(one.key, one.outcome) for one in told.tried or ()] == [(str(second.ref()), "undecided")]
    assert told.last_outcome.startswith("failed: ")


def test_site_that_cannot_be_written_fails_no_update(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    folder = world.site.root / "stations" / "vm1"
    (folder / "status.json").unlink()
    folder.rmdir()
    folder.write_text("in the way", encoding="utf-8")

    code, _, err = world.run("update")

    assert (code, world.station.current()) == (0, 2)
    assert "the site was not told" in err
