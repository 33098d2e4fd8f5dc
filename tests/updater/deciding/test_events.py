from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.records.station import Event
from changeover_updater.events import EventMaker, replay, settle, settle_if_open
from changeover_updater.station import Station
from changeover_updater.store import Store

WHEN = "2026-11-22T12:00:00Z"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    made = Station(Store.create(tmp_path / "store"), "vm1")
    made.create()
    return made


def maker(transaction: str, before: int | None, after: int | None, what: Any = "update") -> EventMaker:
    return EventMaker(transaction, what, "td", WHEN, "test", before, after)


def event(transaction: str, phase: Any, before: int | None, after: int | None, what: Any = "update") -> Event:
    return maker(transaction, before, after, what).event(phase)(1, None)


def test_without_events_nothing_is_in_use() -> None:
    assert replay([]).may_be() == {None}


def test_while_an_intent_is_open_it_is_the_one_before_or_the_one_after() -> None:
    found = replay([event("a", "intent", 1, 2)])
    assert found.may_be() == {1, 2}
    assert found.open is not None


def test_done_is_after_and_failed_is_before() -> None:
    assert replay([event("a", "intent", 1, 2), event("a", "done", 1, 2)]).may_be() == {2}
    assert replay([event("a", "intent", 1, 2), event("a", "failed", 1, 2)]).may_be() == {1}


def test_a_hold_in_between_says_nothing_of_the_generation_in_use() -> None:
    events = [event("a", "intent", 1, 2), event("b", "done", 9, 9, "hold")]
    assert replay(events).may_be() == {1, 2}


def test_a_later_transaction_says_what_it_found() -> None:
    events = [event("a", "intent", 1, 2), event("b", "intent", 2, 3), event("b", "done", 2, 3)]
    assert replay(events).may_be() == {3}


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=30))
def test_played_events_hold_what_a_machine_that_is_killed_anywhere_has(steps: list[tuple[bool, bool, bool]]) -> None:
    """The machine: intent, pointer, done; a kill may fall after the intent, and before or after the pointer moved."""
    current: int | None = None
    events: list[Event] = []
    for number, (moves, ends, killed_early) in enumerate(steps, start=1):
        before = current
        events.append(event(str(number), "intent", before, number))
        if killed_early:
            continue
        current = number if moves else before
        if ends:
            events.append(event(str(number), "done" if moves else "failed", before, number))
        assert current in replay(events).may_be()
        assert not ends or replay(events).may_be() == {current}
    assert current in replay(events).may_be()


@pytest.mark.parametrize(("moved", "phase"), [(True, "done"), (False, "failed")])
def test_what_a_kill_left_open_is_closed_by_what_the_pointer_names(station: Station, moved: bool, phase: str) -> None:
    station.point(1)
    station.record(maker("a", 1, 2).event("intent"))
    if moved:
        station.point(2)
    settle_if_open(station, who="td", now=datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    newest = station.events()[-1]
    assert (newest.phase, newest.transaction, newest.what) == (phase, "a", "update")
    assert replay(station.events()).may_be() == {station.current()}


def test_where_nothing_is_open_nothing_is_written(station: Station) -> None:
    station.record(maker("a", None, 1).event("intent"))
    station.point(1)
    station.record(maker("a", None, 1).event("done"))
    station.record(maker("b", 1, 1, "hold").event("done"))
    assert settle(station, who="td", when=WHEN) is None
    assert len(station.events()) == 3


def test_an_intent_is_found_behind_events_that_came_after_it(station: Station) -> None:
    station.record(maker("a", None, 1).event("intent"))
    station.record(maker("b", None, None, "hold").event("done"))
    assert settle(station, who="td", when=WHEN) is not None
    assert settle(station, who="td", when=WHEN) is None
