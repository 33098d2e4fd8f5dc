"""What is written into a station's record, what it amounts to, and how a record that a kill left open is closed.

One transaction is an intent before the work and a done or failed after it. `replay` tells from the events alone which
generation is in use; while an intent is open it may be either of two, and `settle` closes it by what is on the disk.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from changeover_registry.clock import format_time
from changeover_registry.records.station import Event, EventKind

if TYPE_CHECKING:
    from changeover_updater.station import Station

__all__ = ["EventMaker", "Replayed", "replay", "settle", "settle_if_open"]

_MOVES = frozenset({"update", "rollback", "gc", "repair"})
"""The kinds of events after which another generation may be in use."""


@dataclass(frozen=True, slots=True)
class EventMaker:
    """What all events of one transaction share."""

    transaction: str
    what: EventKind
    who: str
    when: str
    why: str
    before: int | None
    after: int | None

    def event(self, phase: Literal["intent", "done", "failed"], detail: str = "") -> Callable[[int, str | None], Event]:
        """The maker that the chain calls with the event's number and its predecessor's digest."""

        def make(sequence: int, previous: str | None) -> Event:
            return Event(
                sequence=sequence,
                previous=previous,
                transaction=self.transaction,
                phase=phase,
                what=self.what,
                who=self.who,
                when=self.when,
                why=self.why,
                before=self.before,
                after=self.after,
                detail=detail,
            )

        return make


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the events amount to: the generation in use, and the intent that nothing has closed yet.

    While an intent is `open`, `generation` is what was in use before it; the one in use is that or ``open.after``.
    """

    generation: int | None
    open: Event | None

    def may_be(self) -> frozenset[int | None]:
        """The generations of which one must be in use."""
        return frozenset({self.generation, self.open.after} if self.open else {self.generation})


def replay(events: Iterable[Event]) -> Replayed:
    """Play the events of a station from the first to the last.

    A later transaction says itself what it found (`Event.before`), so that it closes what a kill left open before it.
    """
    generation: int | None = None
    opened: Event | None = None
    for event in events:
        if event.what not in _MOVES:
            continue
        if event.phase == "intent":
            generation, opened = event.before, event
        elif opened is None or opened.transaction == event.transaction:
            generation, opened = (event.after if event.phase == "done" else event.before), None
    return Replayed(generation, opened)


def settle(station: "Station", *, who: str, when: str) -> Event | None:
    """Close the intent that a killed command left open, by what `current` names; the caller holds the lock.

    Of a long record only the newest events are read.

    Returns:
        The event that was written; None where nothing was open.
    """
    left = _left_open(station)
    if left is None:
        return None
    found = station.current()
    phase: Literal["done", "failed"] = "done" if found == left.after else "failed"
    maker = EventMaker(left.transaction, left.what, who, when, left.why, left.before, left.after)
    return station.record(maker.event(phase, detail="found after the command that began it had ended"))


def settle_if_open(station: "Station", *, who: str, now: datetime) -> Event | None:
    """As `settle`, for a caller that does not hold the lock: it is taken only where something is open."""
    if _left_open(station) is None:
        return None
    with station.lock():
        return settle(station, who=who, when=format_time(now))


def _left_open(station: "Station") -> Event | None:
    """The intent that no event closed: the newest event that concerns the generation in use, if it is an intent."""
    newest = next((event for event in station.newest_events() if event.what in _MOVES), None)
    return newest if newest is not None and newest.phase == "intent" else None
