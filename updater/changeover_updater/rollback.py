"""The way back: point at an earlier generation, and hold there. No network, no MLflow, no model is run.

The hold is written before the pointer moves: a kill between the two leaves a station that stays where it is.
"""

import logging
import uuid
from datetime import datetime
from typing import Literal

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, RefusedError
from changeover_registry.records.station import Generation, Hold
from changeover_updater.events import EventMaker, settle
from changeover_updater.station import Station

__all__ = ["hold", "roll_back", "unhold"]


def roll_back(
    station: Station, to: int | None, *, who: str, why: str, now: datetime, override: bool = False
) -> Generation:
    """Point `current` at generation `to` (default: the one before) and write a hold.

    A chain of events that is broken does not stop it: the way back is open, and ``log --verify`` names the break.

    Raises:
        RefusedError: There is no such generation, a file that it serves is missing, or it serves a withdrawn release
            and `override` is not given.
        LostRaceError: Somebody else is changing the station.
    """
    with station.lock():
        before = _in_use(station, to)
        target = station.generation(to) if to is not None else _previous(station, before)
        _check_whole(station, target)
        if not override:
            _check_not_withdrawn(station, before, target)
        _settle(station, who, now)
        event = EventMaker(
            uuid.uuid4().hex[:12],
            "rollback",
            who,
            format_time(now),
            why,
            before.number if before else None,
            target.number,
        )
        _record(station, event, "intent")
        station.set_hold(Hold(by=who, why=f"rollback to generation {target.number}: {why}", since=format_time(now)))
        station.point(target.number)
        _record(station, event, "done")
    return target


def hold(station: Station, new: Hold) -> None:
    """Keep the station where it is until somebody lifts it."""
    _set_hold(station, new, "hold", who=new.by, why=new.why, when=new.since)


def unhold(station: Station, *, who: str, why: str, now: datetime) -> bool:
    """Lift the hold; the next update changes over again. Answers whether there was one."""
    if station.hold() is None:
        return False
    _set_hold(station, None, "unhold", who=who, why=why, when=format_time(now))
    return True


def _set_hold(station: Station, new: Hold | None, what: str, *, who: str, why: str, when: str) -> None:
    with station.lock():
        number = station.current()
        event = EventMaker(
            uuid.uuid4().hex[:12], "hold" if what == "hold" else "unhold", who, when, why, number, number
        )
        station.set_hold(new)
        station.record(event.event("done"))


def _settle(station: Station, who: str, now: datetime) -> None:
    try:
        settle(station, who=who, when=format_time(now))
    except ChangeoverError as error:
        logging.getLogger(__name__).warning("what was left open in the record stays so: %s", error)


def _record(station: Station, event: EventMaker, phase: Literal["intent", "done"]) -> None:
    try:
        station.record(event.event(phase))
    except ChangeoverError as error:
        logging.getLogger(__name__).warning("this rollback is not in the record: %s", error)


def _in_use(station: Station, to: int | None) -> Generation | None:
    """The generation in use; a damaged pointer does not stand in the way of one that is named."""
    try:
        return station.in_use()
    except ChangeoverError:
        if to is None:
            raise
        return None


def _previous(station: Station, current: Generation | None) -> Generation:
    if current is None or current.previous is None:
        raise RefusedError(
            "rollback",
            where=str(station.folder),
            expected="a generation before the one in use",
            actual="no generation in use" if current is None else f"generation {current.number}, the first",
            remedy="nothing to go back to; changeover hold keeps the station where it is",
        )
    return station.generation(current.previous)


def _served(generation: Generation) -> set[str]:
    """The releases that a channel or a pin of the generation answers; the others are kept for stamped scripts."""
    return {entry.key for entry in generation.channels} | {entry.key for entry in generation.pins}


def _check_whole(station: Station, generation: Generation) -> None:
    served = _served(generation)
    files = [f for r in generation.releases if r.key in served for answer in r.answers for f in answer.files]
    for file in files:
        path = station.store.root / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            raise RefusedError(
                "generation",
                where=str(path),
                expected=f"{file.size} bytes, as generation {generation.number} needs them",
                actual=f"{path.stat().st_size} bytes" if path.is_file() else "no such file",
                remedy="choose another with rollback --to N, or bring the file back with: changeover update",
            )


def _moved_to(before: Generation | None, target: Generation) -> set[str]:
    """The releases that a channel or a pin would come to; what it has already it keeps, whatever was withdrawn."""
    return {key for _, key in _answers(target) - (_answers(before) if before else set())}


def _answers(generation: Generation) -> set[tuple[tuple[str | None, ...], str]]:
    """What each channel and each pin of a generation answers: its name, and a release's key."""
    channels = {(("channel", entry.channel, entry.model), entry.key) for entry in generation.channels}
    return channels | {(("pin", e.model, e.show, e.sequence, e.shot), e.key) for e in generation.pins}


def _check_not_withdrawn(station: Station, before: Generation | None, target: Generation) -> None:
    """What is withdrawn is known from the newest generation and from what the station was told after it was made."""
    newest = station.newest() or target
    back = {**station.withdrawn(), **{r.key: r.withdrawn for r in newest.releases if r.withdrawn}}
    for key in sorted(_moved_to(before, target) & back.keys()):
        raise RefusedError(
            "withdrawn release",
            where=f"generation {target.number}",
            expected="releases that their vendors stand by",
            actual=f"{key}, withdrawn: {back[key]}",
            remedy="choose another generation, or give --override with --reason",
        )
