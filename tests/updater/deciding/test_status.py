from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.station import (
    Answer,
    Event,
    Generation,
    GenerationChannel,
    GenerationRelease,
    StationStatus,
)
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.status import report_status, reported_head, status_now
from changeover_updater.store import Store
from changeover_validators.classes import host_class

KEY = "acme/person-roto@1.0.0-0123456789ab"
FOR_NUKE = Answer(loader="nuke-inference", nuke_line="15.1", path="releases/x")
FOR_PYTHON = Answer(loader="python", path="releases/y")
NOTHING = Answer(loader="python", unavailable="not here")

NO_CAT = Answer(
    loader="nuke-inference", nuke_line="15.1", unavailable=f"not available in Nuke 15.1: {KEY} has no .cat for it"
)
OLD_NUKE = Answer(
    loader="nuke-inference",
    nuke_line="14.0",
    unavailable="not available in Nuke 14.0: cat: hardware: torch 2.1 wanted",
)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    made = Station(Store.create(tmp_path / "store"), "vm1")
    made.create()
    return made


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site")


def serve(station: Station, *answers: Answer, withdrawn: str | None = None) -> Generation:
    release = GenerationRelease(
        key=KEY, model="acme/person-roto", version="1.0.0", digest="0" * 64, withdrawn=withdrawn, answers=answers
    )
    made = Generation(
        number=1,
        station="vm1",
        made_at="2026-11-22T12:00:00Z",
        why="test",
        site="/site",
        releases=(release,),
        channels=(GenerationChannel(channel="stable", model="acme/person-roto", key=KEY),),
    )
    station.add_generation(made, lambda _: None)
    station.point(1)
    return made


def record(station: Station) -> Event:
    return station.record(
        lambda sequence, previous: Event(
            sequence=sequence,
            previous=previous,
            transaction="t",
            phase="done",
            what="hold",
            who="td",
            when="2026-11-22T12:00:00Z",
            why="test",
        )
    )


def test_new_station_says_that_nothing_is_in_use(station: Station, build: Any) -> None:
    found = status_now(station, build.now)

    assert found.as_object() == {"station": "vm1", "generation": None, "hold": None, "kept": [], "withdrawn": {}}
    assert found.note(KEY) == "not in this generation"


@pytest.mark.parametrize(
    ("answers", "withdrawn", "note"),
    [
        ((FOR_NUKE, FOR_PYTHON), None, "for nuke-inference 15.1, python"),
        ((NOTHING,), None, "for no loader here"),
        ((FOR_PYTHON, NO_CAT), None, "for python; not in Nuke 15.1: has no .cat for it"),
        ((FOR_NUKE, OLD_NUKE), None, "for nuke-inference 15.1; not in Nuke 14.0: cat: hardware: torch 2.1 wanted"),
        ((FOR_PYTHON,), "leaks hair", "WITHDRAWN: leaks hair"),
    ],
)
def test_release_in_use_is_noted(
    station: Station, build: Any, answers: tuple[Answer, ...], withdrawn: str | None, note: str
) -> None:
    made = serve(station, *answers, withdrawn=withdrawn)

    found = status_now(station, build.now)

    assert found.note(KEY) == note
    assert found.note("acme/other@1.0.0-0123456789ab") == "not in this generation"
    assert found.as_object()["generation"] == made.model_dump(mode="json", exclude_none=True)
    assert found.kept == (1,)


def test_withdrawal_that_the_station_was_told_of_is_noted_and_stays_known(station: Station, build: Any) -> None:
    serve(station, FOR_PYTHON)
    station.remember_withdrawn({KEY: "leaks hair", "acme/other@1.0.0-0123456789ab": "not in use here"})
    station.remember_withdrawn({})

    found = status_now(station, build.now)

    assert found.note(KEY) == "WITHDRAWN: leaks hair"
    assert found.withdrawn() == found.as_object()["withdrawn"] == {KEY: "leaks hair"}


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"acme/person-roto@1.0.0-0123456789ab":1}'])
def test_damaged_reminder_of_withdrawals_is_as_good_as_none(station: Station, build: Any, data: bytes) -> None:
    serve(station, FOR_PYTHON)
    (station.folder / "withdrawn.json").write_bytes(data)

    assert status_now(station, build.now).note(KEY) == "for python"
    station.remember_withdrawn({KEY: "leaks hair"})
    assert status_now(station, build.now).note(KEY) == "WITHDRAWN: leaks hair"


def test_hold_is_shown_until_its_last_second(station: Station, build: Any) -> None:
    station.set_hold(build.hold(until=build.after(seconds=1)))

    assert status_now(station, build.now).as_object()["hold"]["why"] == "rendering"
    assert status_now(station, build.now + timedelta(seconds=1)).hold is None
    station.set_hold(build.hold())
    assert status_now(station, build.now + timedelta(days=9999)).hold == build.hold()


def test_status_is_reported_to_the_site_with_the_head_of_the_events(station: Station, site: Site, build: Any) -> None:
    report_status(site, station, "render07", build.now, build.facts(), pytest.fail)
    assert reported_head(site.root, "vm1") is None

    serve(station, FOR_PYTHON)
    station.set_hold(build.hold())
    record(station)
    last = record(station)
    report_status(site, station, "render07", build.now, build.facts(), pytest.fail)

    path = site.root / "stations" / "vm1" / "status.json"
    told = StationStatus.from_bytes(path.read_bytes(), where=str(path))
    assert (told.station, told.host, told.generation, told.hold) == ("vm1", "render07", 1, "rendering")
    assert told.releases == (KEY,)
    assert told.host_class == host_class(build.facts())
    assert reported_head(site.root, "vm1") == (2, last.digest())


def test_site_that_cannot_be_written_is_a_notice(station: Station, site: Site, build: Any) -> None:
    (site.root / "stations").rmdir()
    (site.root / "stations").touch()
    notices: list[str] = []

    report_status(site, station, "render07", build.now, build.facts(), notices.append)

    assert "the site was not told of this station's state" in notices[0]


def test_status_is_not_written_through_a_link_that_somebody_else_made(
    station: Station, site: Site, build: Any, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "status.json").write_text("precious")
    (site.root / "stations" / "vm1").symlink_to(tmp_path / "theirs")
    notices: list[str] = []

    report_status(site, station, "render07", build.now, build.facts(), notices.append)

    assert "is a link" in notices[0]
    assert (tmp_path / "theirs" / "status.json").read_text() == "precious"


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff"])
def test_report_that_is_gone_or_damaged_says_nothing(site: Site, data: bytes | None) -> None:
    folder = site.root / "stations" / "vm1"
    folder.mkdir()
    if data is not None:
        (folder / "status.json").write_bytes(data)

    assert reported_head(site.root, "vm1") is None
