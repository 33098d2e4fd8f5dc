from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError
from changeover_registry.records.station import Event, Generation
from changeover_updater.station import Station, check_station_id
from changeover_updater.store import Store

BAD = (
    "", ".", "..", "a/b", "../x", "/etc", "a\\b", "by-host", "BY-HOST", ".hidden", "-x", "a b", "con", "nul.txt", "x.",
    "a\n", "ä", "x" * 101, "a/../b", "a\x00",
)  # fmt: skip


@pytest.fixture
def station(tmp_path: Path) -> Station:
    made = Station(Store.create(tmp_path / "store"), "vm1")
    made.create()
    return made


def generation(number: int) -> Generation:
    return Generation(number=number, station="vm1", made_at="2026-11-22T12:00:00Z", why="test", site="/site")


@pytest.mark.parametrize("name", BAD)
def test_name_that_would_lead_out_of_the_folder_is_refused_and_makes_nothing(tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(InvalidInputError, match="not by-host") as caught:
        Station(store, name).create()

    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


@given(st.one_of(st.text(max_size=12), st.text(alphabet="ab./-_\\ ~", max_size=6)))
@settings(deadline=None)
def test_every_name_that_is_taken_is_one_folder_under_stations(name: str) -> None:
    try:
        check_station_id(name)
    except InvalidInputError:
        return
    folder = Station(Store(Path("/store")), name).folder
    assert folder.parent == Path("/store/stations")
    assert Path("/store/stations", name).resolve() == folder


def test_station_that_was_never_made_names_those_that_were_and_not_by_host(station: Station) -> None:
    (station.store.root / "stations" / "by-host").mkdir()

    with pytest.raises(InvalidInputError, match="one of vm1\n?") as caught:
        Station(station.store, "vm2").need()

    assert "by-host" not in str(caught.value)
    assert station.need() == station


def test_store_without_stations_names_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a station of this store, found no such folder"):
        Station(Store.create(tmp_path / "store"), "vm1").need()


def test_new_station_has_nothing(station: Station) -> None:
    assert station.current() is None
    assert station.in_use() is None
    assert station.numbers() == ()
    assert station.next_number() == 1
    assert station.hold() is None
    assert station.events() == ()
    assert station.facts() is None


def test_generation_is_put_whole_and_pointed_at(station: Station) -> None:
    def write(folder: Path) -> None:
        (folder / "extra").write_bytes(b"x")

    station.add_generation(generation(3), write)
    (station.folder / "generations" / "left-over").mkdir()

    station.point(3)

    assert (station.current(), station.numbers(), station.next_number()) == (3, (3,), 4)
    assert station.in_use() == generation(3)
    assert (station.folder / "generations" / "3" / "extra").read_bytes() == b"x"
    assert list((station.store.root / "staging").iterdir()) == []


def test_generation_that_is_there_is_never_replaced(station: Station) -> None:
    station.add_generation(generation(1), lambda _: None)
    before = (station.folder / "generations" / "1" / "generation.json").read_bytes()

    with pytest.raises(FileExistsError):
        station.add_generation(generation(1).model_copy(update={"why": "other"}), lambda _: None)

    assert (station.folder / "generations" / "1" / "generation.json").read_bytes() == before
    assert list((station.store.root / "staging").iterdir()) == []


def test_writer_that_fails_leaves_no_generation(station: Station) -> None:
    def fail(_: Path) -> None:
        message = "disk full"
        raise OSError(28, message)

    with pytest.raises(OSError, match="disk full"):
        station.add_generation(generation(1), fail)

    assert station.numbers() == ()
    assert list((station.store.root / "staging").iterdir()) == []


def test_generation_that_is_not_there_is_refused_with_those_that_are(station: Station) -> None:
    with pytest.raises(RefusedError, match=r"are kept \(none\)"):
        station.generation(7)
    station.add_generation(generation(1), lambda _: None)
    with pytest.raises(RefusedError, match=r"are kept \(1\), found generation 7"):
        station.generation(7)


def test_pointer_that_is_damaged_is_named(station: Station) -> None:
    (station.folder / "current").write_bytes(b'{"generation":')

    with pytest.raises(InvalidInputError, match="current"):
        station.current()


def test_hold_is_written_and_lifted_twice_without_harm(station: Station, build: Any) -> None:
    station.set_hold(build.hold())
    assert station.hold() == build.hold()
    station.set_hold(None)
    station.set_hold(None)
    assert station.hold() is None


def test_events_are_chained(station: Station) -> None:
    def event(sequence: int, previous: str | None) -> Event:
        return Event(
            sequence=sequence, previous=previous, transaction="t", phase="done", what="hold", who="td",
            when="2026-11-22T12:00:00Z", why="test",
        )  # fmt: skip

    first, second = station.record(event), station.record(event)

    assert station.events() == (first, second)
    assert second.previous == first.digest()


def test_station_is_locked_by_one_at_a_time(station: Station) -> None:
    with station.lock(), pytest.raises(LostRaceError, match="station vm1"), station.lock():
        pass


def test_facts_are_remembered_with_their_key(station: Station, build: Any) -> None:
    station.remember_facts("key 1", build.facts())

    assert station.facts() == ("key 1", build.facts())


@pytest.mark.parametrize(
    "data", [b"", b"key\n", b"key\n{}", b"\xff\n{}", b"key\n" + b'{"schema":"changeover.facts/9"}']
)
def test_facts_that_cannot_be_read_are_as_good_as_none(station: Station, data: bytes) -> None:
    (station.folder / "facts.json").write_bytes(data)

    assert station.facts() is None
