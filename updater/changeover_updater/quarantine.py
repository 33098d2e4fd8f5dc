"""What failed at a station and is not tried there again: listed, and lifted by a person who says why."""

import contextlib
import uuid
from collections.abc import Sequence
from datetime import datetime

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.station import Quarantine
from changeover_updater.events import EventMaker
from changeover_updater.station import Station

__all__ = ["lift", "listed"]


def listed(station: Station) -> tuple[Quarantine, ...]:
    """Everything that is quarantined at the station, of every host class, the newest first.

    A file that cannot be read counts for nothing, as in an update.
    """
    found = []
    for path in (station.folder / "quarantine").glob("*.json"):
        with contextlib.suppress(ChangeoverError, OSError):
            found.append(Quarantine.from_bytes(path.read_bytes(), where=str(path)))
    return tuple(sorted(found, key=lambda entry: (entry.since, str(entry.release)), reverse=True))


def lift(station: Station, text: str, *, who: str, why: str, now: datetime) -> tuple[Quarantine, ...]:
    """Let a release be tried again here; returns what was lifted, one entry for each host class.

    Args:
        station: Where.
        text: ``MODEL@VERSION``, with the digest where there are several; the bare name of a model will do.
        who: Who lifts it.
        why: The reason, which is recorded.
        now: When.

    Raises:
        InvalidInputError: Nothing like that is quarantined here, or it names several releases.
        LostRaceError: Somebody else is changing the station.
    """
    with station.lock():
        entries = listed(station)
        key = _key({str(entry.release) for entry in entries}, text)
        lifted = tuple(entry for entry in entries if str(entry.release) == key)
        number = station.current()
        for entry in lifted:
            station.lift_quarantine(entry)
        event = EventMaker(uuid.uuid4().hex[:12], "lift", who, format_time(now), f"{key}: {why}", number, number)
        station.record(event.event("done"))
    return lifted


def _key(keys: "set[str]", text: str) -> str:
    found = sorted(key for key in keys if text in _spellings(key))
    if len(found) != 1:
        raise InvalidInputError(
            "quarantine",
            where=text,
            expected=f"one of {', '.join(sorted(keys))}" if keys else "something that is quarantined here",
            actual=f"several: {', '.join(found)}" if found else "nothing of that name",
            remedy="see what there is with: changeover quarantine list",
        )
    return found[0]


def _spellings(key: str) -> Sequence[str]:
    model, _, version = key.partition("@")
    return [f"{m}@{v}" for m in (model, model.partition("/")[2]) for v in (version, version.rpartition("-")[0])]
