from math import comb
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.records.choice import Choice, Entry, Pointer, Share
from changeover_registry.records.policy import RolloutPolicy
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import StationStatus, Tried
from changeover_updater.rollout import Health, admits, asked, chosen_pointers, health_of, place, stopped_by

NEW = ReleaseRef(model="acme/person-roto", version="2.0.0", digest="b" * 64)
OLD = ReleaseRef(model="acme/person-roto", version="1.0.0", digest="a" * 64)
CLASS = "c" * 64
STATIONS = tuple(f"ws-{number:05d}" for number in range(10_000))
MOMENT = "2026-11-22T12:00:00Z"


def share(percent: int = 100, **changes: Any) -> Share:
    base: dict[str, Any] = {"channel": "stable", "release": NEW, "percent": percent}
    return Share(**(base | changes))


def choice(*shares: Share) -> Choice:
    entry = Entry(who="ana", when=MOMENT, why="w", what="w")
    return Choice(
        scope="site", number=1, entry=entry, channels=(Pointer(channel="stable", release=OLD),), shares=tuple(shares)
    )


def served(chosen: Choice, station: str, *, has: ReleaseRef = OLD) -> ReleaseRef:
    found = chosen_pointers(chosen, station, CLASS, [("stable", str(has))])
    assert len(found) == 1
    return found[0].release


def status(station: str, outcome: Any, *, key: str = str(NEW), when: str = MOMENT) -> StationStatus:
    tried = (Tried(key=key, outcome=outcome, when=when),)
    return StationStatus(station=station, host=station, reported_at=when, tried=tried)


@pytest.mark.parametrize("percent", [1, 5, 10, 25, 50, 75, 99])
def test_a_share_is_within_two_percent_of_what_was_asked_for(percent: int) -> None:
    reached = sum(admits(share(percent), station, CLASS) for station in STATIONS)
    assert abs(reached / len(STATIONS) - percent / 100) < 0.02


@given(st.text(min_size=1, max_size=40), st.integers(0, 100), st.integers(0, 100))
def test_a_station_that_a_share_reached_is_reached_by_every_larger_one(station: str, one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert not admits(share(small), station, CLASS) or admits(share(large), station, CLASS)


def test_nobody_has_nothing_and_all_have_all() -> None:
    assert not any(admits(share(0), station, CLASS) for station in STATIONS[:500])
    assert all(admits(share(100), station, CLASS) for station in STATIONS[:500])


def test_each_release_goes_another_way_through_the_studio() -> None:
    first = {s for s in STATIONS if admits(share(10), s, CLASS)}
    other = {s for s in STATIONS if admits(share(10, release=OLD), s, CLASS)}
    assert len(first & other) < 0.3 * len(first)


def test_a_place_is_what_it_was_for_ever() -> None:
    """Another way of drawing would flip stations in the middle of a rollout."""
    assert [place(NEW, station) for station in ("ws-00001", "ws-00002", "render-x")] == [4302, 9766, 4599]


def test_a_cohort_by_name_and_class_reaches_nobody_else() -> None:
    cohort = share(100, names=("render-*", "ws-00001"), classes=("cccc", "dddd"))
    assert admits(cohort, "render-7", CLASS)
    assert admits(cohort, "ws-00001", "d" * 64)
    assert not admits(cohort, "ws-00002", CLASS)
    assert not admits(cohort, "render-7", "e" * 64)
    assert not admits(cohort, "render-7", None)


def test_paused_takes_from_nobody_and_gives_to_nobody() -> None:
    paused = choice(share(100, state="paused"))
    assert served(paused, "ws-1", has=NEW) == NEW
    assert served(paused, "ws-1", has=OLD) == OLD


def test_stopped_gives_everybody_the_release_of_the_channel() -> None:
    stopped = choice(share(100, state="stopped"))
    assert served(stopped, "ws-1", has=NEW) == OLD


def test_a_smaller_share_takes_from_nobody() -> None:
    assert all(served(choice(share(0)), station, has=NEW) == NEW for station in STATIONS[:50])


def test_a_share_of_another_model_leaves_this_one() -> None:
    other = ReleaseRef(model="acme/hair-roto", version="1.0.0", digest="d" * 64)
    found = chosen_pointers(choice(share(100, release=other)), "ws-1", CLASS, [])
    assert {(p.release.model, p.release.version) for p in found} == {
        ("acme/person-roto", "1.0.0"),
        ("acme/hair-roto", "1.0.0"),
    }


def test_only_what_came_to_an_end_counts_and_not_what_was_forgiven() -> None:
    told = (
        status("a", "failed"),
        status("b", "done"),
        status("c", "waiting"),
        status("d", "undecided"),
        status("e", "failed", key=str(OLD)),
        status("f", "failed", when="2026-11-21T00:00:00Z"),
    )
    assert health_of(told, str(NEW), None) == Health(4 - 1, 2)
    assert health_of(told, str(NEW), "2026-11-21T12:00:00Z") == Health(2, 1)
    assert health_of(told, str(NEW), None, but="a") == Health(2, 1)


def test_a_station_counts_once_and_as_failed_however_often_it_reports() -> None:
    def liar(*outcomes: Any) -> StationStatus:
        tried = tuple(Tried(key=str(NEW), outcome=outcome, when=MOMENT) for outcome in outcomes)
        return StationStatus(station="z", host="z", reported_at=MOMENT, tried=tried)

    assert health_of([liar(*["failed"] * 50)], str(NEW), None) == Health(1, 1)
    assert health_of([status("a", "failed"), liar(*["done"] * 1000)], str(NEW), None) == Health(2, 1)
    assert health_of([liar("done", "failed", "done")], str(NEW), None) == Health(1, 1)


def tail(failed: int, tried: int, limit: float) -> float:
    """The definition, slow and obvious."""
    return sum(comb(tried, k) * limit**k * (1 - limit) ** (tried - k) for k in range(failed, tried + 1))


@given(st.integers(0, 60).flatmap(lambda tried: st.tuples(st.just(tried), st.integers(0, tried))))
def test_stations_are_kept_back_by_the_definition(counts: tuple[int, int]) -> None:
    tried, failed = counts
    expected = failed >= 3 and failed / tried > 0.2 and tail(failed, tried, 0.2) <= 0.05
    assert (stopped_by(Health(tried, failed), RolloutPolicy()) is not None) == expected


@pytest.mark.parametrize(
    ("tried", "failed", "stops"),
    [(0, 0, False), (2, 2, False), (3, 3, True), (100, 20, False), (100, 30, True), (10_000, 1_000, False)],
)
def test_too_many_failures_say_so_in_a_sentence(tried: int, failed: int, stops: bool) -> None:
    found = stopped_by(Health(tried, failed), RolloutPolicy())
    assert (found is not None) == stops
    if found:
        assert f"{failed} of {tried} stations" in found
        assert "20%" in found


def test_of_ten_thousand_a_hundred_and_twenty_eight_are_asked_and_the_first_are_among_them() -> None:
    found = asked(NEW, STATIONS, 64, by="ws-00003")
    first = sorted(STATIONS, key=lambda station: place(NEW, station))
    assert 64 < len(found) <= 128
    assert set(first[:32]) <= set(found)
    assert "ws-00003" not in found
    assert found != asked(NEW, STATIONS, 64, by="ws-00004")
    assert asked(NEW, ("ws-00003",), 64, by="ws-00003") == asked(NEW, (), 64, by="ws-00003") == ()
