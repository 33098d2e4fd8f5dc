"""The hash chain of events: one file each, numbered, each naming the digest of the one before.

`append` adds a link, `read` answers with all of them, `verify` says whether they are unbroken. A file once written is
never changed. Left out: whoever can rewrite the whole folder can write another whole chain; that is why the newest
(count, digest) is also kept elsewhere and handed to `verify` as `head`, which shows a cut or replaced tail.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from changeover_registry._fs import make_dirs, read_bytes_retry, write_new
from changeover_registry.errors import InvalidInputError, LostRaceError, TrustError
from changeover_registry.records.station import Event

__all__ = ["append", "newest_first", "read", "verify"]

_FILE = re.compile(r"(\d{8})\.json")
_TRIES = 50


def append(folder: Path, make: Callable[[int, str | None], Event]) -> Event:
    """Add one event after the newest; it is on the disk when this returns.

    Args:
        folder: The events' own folder (``stations/<id>/events``); made if it is not there.
        make: Given the new sequence number and the digest of the event before (None for the first), the event. Called
            again with the next number when somebody else took the first one.

    Raises:
        LostRaceError: Others were faster too many times in a row.
        TrustError: The newest event cannot be read.
        OSError: The folder cannot be written.
    """
    make_dirs(folder)
    for _ in range(_TRIES):
        event = make(*_next(folder))
        try:
            write_new(_path(folder, event.sequence), event.to_bytes())
        except FileExistsError:
            continue
        return event
    raise LostRaceError(
        "event",
        where=str(folder),
        expected=f"a free number within {_TRIES} tries",
        actual="another writer each time",
        remedy="stop the other writer and run the command again",
    )


def read(folder: Path) -> tuple[Event, ...]:
    """Every event of `folder` by number; none if it is not there.

    Raises:
        TrustError: A file is no event.
        UndecidedError: An event was written by a newer version than this one reads.
    """
    return tuple(_load(folder, number) for number in _numbers(folder))


def newest_first(folder: Path) -> Iterator[Event]:
    """Every event of `folder`, the newest first, each read when it is asked for.

    Raises:
        TrustError: A file is no event.
    """
    return (_load(folder, number) for number in reversed(_numbers(folder)))


def verify(events: Sequence[Event], head: tuple[int, str] | None) -> None:
    """Check that `events` are numbered from 1 without a gap, each naming the digest of the one before.

    Args:
        events: What `read` answered.
        head: How many events there were at some time, and the digest of the last of those; None if nobody knows.

    Raises:
        TrustError: An event is missing, changed, or not the one that was there when `head` was noted.
    """
    previous: str | None = None
    for number, event in enumerate(events, start=1):
        if event.sequence != number:
            raise _broken(number, "this event", f"event {event.sequence} in its place")
        if event.previous != previous:
            raise _broken(number, f"previous = {previous}", f"previous = {event.previous}; event {number - 1} changed")
        previous = event.digest()
    if head is not None:
        _check_head(events, *head)


def _check_head(events: Sequence[Event], count: int, digest: str) -> None:
    if len(events) < count:
        raise _broken(len(events) + 1, f"{count} events", f"{len(events)}; the newest were cut off")
    if count and events[count - 1].digest() != digest:
        raise _broken(count, f"digest {digest}", f"digest {events[count - 1].digest()}")


def _next(folder: Path) -> tuple[int, str | None]:
    newest = max(_numbers(folder), default=0)
    return newest + 1, _load(folder, newest).digest() if newest else None


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name)))


def _load(folder: Path, number: int) -> Event:
    path = _path(folder, number)
    try:
        event = Event.from_bytes(read_bytes_retry(path), where=str(path))
    except InvalidInputError as error:
        raise _broken(number, "an event", f"{error.actual} ({path})") from error
    if event.sequence != number:
        raise _broken(number, f"sequence = {number} in {path.name}", f"sequence = {event.sequence}")
    return event


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"


def _broken(number: int, expected: str, actual: str) -> TrustError:
    return TrustError(
        "chain of events",
        where=f"event {number}",
        expected=expected,
        actual=actual,
        remedy="take the events back from a backup; this station's record can no longer be proved",
    )
