"""A release on its way: a part of the stations first, others' failures, quarantine, files that come under a hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.station import StationStatus, Tried
from changeover_updater.rollout import place
from changeover_updater.store import Store


@pytest.fixture
def underway(world: Any) -> Any:
    """A station on 1.0.0; 1.1.0 is accepted against it and not promoted."""
    world.first = world.served("1.0.0")
    world.second = world.publish("1.1.0")
    world.accept(world.second, world.first)
    return world


def in_use(world: Any) -> str:
    return str(world.station.in_use().channels[0].key)


def percents(world: Any) -> tuple[int, int]:
    """A share that leaves vm1 out by a hair, and one that reaches it."""
    at = place(world.second.ref(), "vm1") // 100
    return at, min(at + 1, 100)


def report(world: Any, station: str, outcome: Any, why: str = "smoke: NaN", **changes: Any) -> None:
    """What another station would write into the site."""
    when = changes.pop("when", format_time(world.now))
    status = StationStatus(
        station=station,
        host=station,
        reported_at=when,
        tried=(Tried(key=str(world.second.ref()), outcome=outcome, when=when, why=why),),
    )
    folder = world.site.root / "stations" / station
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_bytes(status.to_bytes())


def share(world: Any, percent: int, *more: str) -> str:
    found = world.ok("promote", "tiny-roto@1.1.0", "--share", f"{percent}%", *more, "--reason", "carefully")
    return str(found)


def test_a_share_reaches_the_station_when_it_has_grown_to_it_and_promoting_ends_it(underway: Any) -> None:
    out, within = percents(underway)
    share(underway, out)
    underway.ok("update")
    assert in_use(underway) == str(underway.first.ref())

    share(underway, within)
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())

    underway.ok("promote", "tiny-roto@1.1.0", "--reason", "all is well")
    assert json.loads(underway.ok("rollout", "list", "--json")) == []
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_pause_takes_nothing_away_and_stop_gives_everybody_the_old_one(underway: Any) -> None:
    share(underway, 100)
    underway.ok("update")
    underway.ok("rollout", "pause", "tiny-roto", "--reason", "night")
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())

    underway.ok("rollout", "stop", "tiny-roto", "--reason", "hair flickers")
    underway.ok("update")
    assert in_use(underway) == str(underway.first.ref())
    assert "stopped" in underway.ok("rollout", "list")

    underway.ok("rollout", "resume", "tiny-roto", "--reason", "it was the plate")
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_one_signature_ends_a_rollout_at_night_by_the_way_back_of_the_channel(underway: Any) -> None:
    share(underway, 100)
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())

    told = underway.ok("rollback", "--channel", "stable", "--reason", "hair flickers")
    assert f"and end the rollout of {underway.second.ref()}" in told
    underway.ok("update")
    assert in_use(underway) == str(underway.first.ref())
    assert json.loads(underway.ok("rollout", "list", "--json")) == []


def test_a_cohort_by_name_leaves_other_stations_alone(underway: Any) -> None:
    share(underway, 100, "--cohort", "render-*")
    underway.ok("update")
    assert in_use(underway) == str(underway.first.ref())

    share(underway, 100, "--cohort", "render-*", "--cohort", "vm?")
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_where_too_many_others_failed_the_station_stays_says_so_and_a_signed_resume_goes_on(underway: Any) -> None:
    for number in range(3):
        report(underway, f"render-{number}", "failed")
    share(underway, 100)
    before = len(underway.station.events())

    code, out, _ = underway.run("update")
    assert (code, in_use(underway), len(underway.station.events())) == (4, str(underway.first.ref()), before)
    assert "3 of 3 stations that tried it failed" in out
    assert not underway.station.store.variant_folder(underway.second.ref(), "onnx-fp32").exists()
    listed = json.loads(underway.ok("rollout", "list", "--json"))
    assert [(entry["tried"], entry["failed"], entry["state"]) for entry in listed] == [(3, 3, "running")]

    underway.ok("rollout", "resume", "tiny-roto", "--reason", "their driver was broken")
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_what_a_show_forgives_is_not_forgiven_for_the_site(underway: Any) -> None:
    for number in range(3):
        report(underway, f"render-{number}", "failed")
    share(underway, 100)
    atlas = ("--channel", "show/atlas", "--reason", "x")
    underway.ok("promote", "tiny-roto@1.1.0", *atlas)
    assert underway.run("update")[0] == 4

    underway.ok("rollout", "resume", "tiny-roto", *atlas)
    assert underway.run("update")[0] == 4
    found = {entry.channel: entry.key for entry in underway.station.in_use().channels}
    assert found == {"stable": str(underway.first.ref()), "show/atlas": str(underway.second.ref())}


def test_reports_from_the_future_which_no_resume_could_forgive_count_for_nothing(underway: Any) -> None:
    for number in range(3):
        report(underway, f"render-{number}", "failed", when="2999-01-01T00:00:00Z")
    share(underway, 100)
    assert [entry["failed"] for entry in json.loads(underway.ok("rollout", "list", "--json"))] == [0]
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_what_others_say_of_a_release_that_they_did_not_end_with_keeps_nobody_back(underway: Any) -> None:
    for number, outcome in enumerate(("undecided", "waiting", "refused", "done")):
        report(underway, f"render-{number}", outcome)
    share(underway, 100)
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


def test_reports_that_are_damaged_or_of_another_station_count_for_nothing(underway: Any) -> None:
    """Of four that failed two are left, which keep nobody back."""
    for number in range(4):
        report(underway, f"render-{number}", "failed")
    stations = underway.site.root / "stations"
    (stations / "render-0" / "status.json").write_bytes(b"{")
    (stations / "render-1" / "status.json").write_bytes((stations / "render-2" / "status.json").read_bytes())
    share(underway, 100)
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("promote", "tiny-roto@1.1.0", "--share", "half", "--reason", "x"), "a whole percentage"),
        (("promote", "tiny-roto@1.1.0", "--share", "101%", "--reason", "x"), "a whole percentage"),
        (("promote", "tiny-roto@1.1.0", "--share", "", "--reason", "x"), "a whole percentage"),
        (("promote", "tiny-roto@1.1.0", "--cohort", "class:XYZ", "--reason", "x"), "hexadecimal digits"),
        (("promote", "--policy", "--share", "10%", "--reason", "x"), "found both"),
        (("rollout", "stop", "tiny-roto", "--reason", "x"), "rollback --channel"),
    ],
)
def test_a_share_that_is_none_is_refused_with_2_and_nothing_is_chosen(
    underway: Any, arguments: tuple[str, ...], line: str
) -> None:
    before = sorted((underway.site.choice / "metadata").iterdir())
    code, _, err = underway.run(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert line in err
    assert sorted((underway.site.choice / "metadata").iterdir()) == before


def test_a_share_of_what_every_station_has_is_refused_with_3(underway: Any) -> None:
    underway.ok("promote", "tiny-roto@1.1.0", "--reason", "all")
    code, _, err = underway.run("promote", "tiny-roto@1.1.0", "--share", "10%", "--reason", "x")
    assert code == 3
    assert "every station may have it" in err


def test_what_fails_its_smoke_test_is_quarantined_not_tried_again_and_the_next_release_is(
    world: Any, tmp_path: Path
) -> None:
    first = world.served("1.0.0")
    world.folders = spoiled(world.folders, tmp_path / "folders")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "all")

    assert world.run("update")[0] == 3
    assert in_use(world) == str(first.ref())
    assert len(list((world.station.folder / "quarantine").iterdir())) == 1
    assert [event.what for event in world.station.events()][-1] == "quarantine"

    events = len(world.station.events())
    code, out, _ = world.run("update")
    assert (code, in_use(world), len(world.station.events())) == (3, str(first.ref()), events)
    assert "is not tried here again" in " ".join(out.split())

    third = world.publish("1.2.0")
    world.accept(third, second)
    world.ok("promote", "tiny-roto@1.2.0", "--reason", "mended")
    world.ok("update")
    assert in_use(world) == str(third.ref())


def spoiled(folders: Path, target: Path) -> Path:
    """The release folders, of which 1.1.0 says of itself that it answers another matte than it does."""
    shutil.copytree(folders, target)
    path = target / "1.1.0" / "onnx-fp32" / "smoke.npz"
    recorded = dict(np.load(path))
    recorded["output0"] = 1 - recorded["output0"]
    np.savez(path, **recorded)
    return target


def test_files_come_under_a_hold_and_changing_over_then_needs_no_vendor(underway: Any) -> None:
    underway.ok("promote", "tiny-roto@1.1.0", "--reason", "all")
    underway.ok("hold", "--reason", "delivery")

    underway.ok("update")
    assert in_use(underway) == str(underway.first.ref())
    assert not Store(underway.root / "store").missing(underway.second.ref(), underway.second.variants[0])

    underway.ok("unhold")
    underway.repository.rename(underway.root / "vendor-is-away")
    underway.ok("update")
    assert in_use(underway) == str(underway.second.ref())
