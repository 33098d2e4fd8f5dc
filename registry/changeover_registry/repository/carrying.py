"""Carrying a vendor's repository to a place that studios read, and comparing a place with it byte by byte.

`outlet` says what goes there and in which order; this does it. Every file is read again at the place before the
timestamp moves, and the timestamp after it. Killed or cut off at any moment, the place serves the old repository whole;
called again, it goes on with what is missing. One process at a time carries from a home (the caller holds its lock);
should another copy of the home have moved the place meanwhile, the timestamp is left alone.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata

from changeover_registry import canonical
from changeover_registry.errors import LostRaceError, TrustError, UnreachableError
from changeover_registry.repository.outlet import (
    TIMESTAMP,
    Found,
    Master,
    Piece,
    Standing,
    judge,
    missing,
    root_path,
    total,
)
from changeover_registry.repository.reading import Reach, contents, holds_under, piece_of, reach_of, read_master
from changeover_registry.transport.interface import NotThereError
from changeover_registry.transport.writing import Place

__all__ = ["Carried", "Looked", "carry", "look", "verify"]

Step = Callable[[str], None]
"""Told what is being done now, in a few words."""

_LIMIT_BYTES = 4 * 1024 * 1024
"""What no timestamp and no root is larger than."""
_SHOWS_SECONDS = (0.0, 0.1, 0.3, 0.6)
"""How long a store may take until it shows a timestamp that it has taken in."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What carrying to one place came to: how it stood before, and how many files and bytes were put there."""

    location: str
    before: Standing
    files: int
    length: int


@dataclass(frozen=True, slots=True)
class Looked:
    """How a place stands, and until when studios trust all that it serves; None where it serves nothing.

    `ends` is the role whose metadata ends then; the dates that are signed each week are not the only ones.
    """

    location: str
    standing: Standing
    expires: datetime | None
    ends: str | None


def carry(folder: Path, anchor: bytes, place: Place, *, whole: bool = False, step: Step = lambda _: None) -> Carried:
    """Bring `place` up to the state of the repository in `folder`; one that has it already is left as it is.

    Args:
        folder: The vendor's own repository.
        anchor: The root that is kept beside the vendor's keys.
        place: Where studios read.
        whole: Read every file there, also what was carried before, and put back what is missing or damaged.
        step: Told what is being done.

    Raises:
        TrustError: The place holds another vendor's repository or a damaged one, or gives back other bytes than it
            took; or the home's own repository was changed. Nothing names what was put there.
        LostRaceError: The place holds a newer state, signed elsewhere, or another process moved it meanwhile.
        RefusedError: The place holds something that is no repository.
        UnreachableError: The place does not answer or does not take a file; what it served before holds.
        OSError: The folder cannot be read.
    """
    master = read_master(folder, anchor)
    found, standing = _judged(folder, master, place)
    follows = _follows(folder, master, place) if found.timestamp is not None else ()
    if standing == "current" and not whole and not follows:
        return Carried(place.location, standing, 0, 0)
    old = None if whole or found.timestamp is None else _reach(folder, found.timestamp)
    pieces = [piece for piece in _wanted(folder, master, old) if piece not in follows]
    put: list[Piece] = []
    for number, piece in enumerate(pieces, 1):
        step(f"{place.location}: file {number} of {len(pieces)}, {total(pieces) / 1e6:.1f} MB in all")
        if _bring(folder, place, piece, step):
            put.append(piece)
    if standing != "current":
        step(f"{place.location}: the timestamp")
        _move(place, found.timestamp, master.timestamp)
        put.append(Piece(TIMESTAMP, canonical.digest(master.timestamp), len(master.timestamp)))
    put += [piece for piece in follows if _bring(folder, place, piece, step)]
    return Carried(place.location, standing, len(put), total(put))


def look(folder: Path, anchor: bytes, place: Place) -> Looked:
    """How a place stands to the repository in `folder`; writes nothing.

    Raises:
        TrustError: As `carry`.
        LostRaceError: As `carry`.
        RefusedError: As `carry`.
        UnreachableError: The place does not answer.
    """
    master = read_master(folder, anchor)
    found, standing = _judged(folder, master, place)
    if found.timestamp is None:
        return Looked(place.location, standing, None, None)
    expires, ends = min(_expiries(folder, master, place, found.timestamp))
    return Looked(place.location, standing, expires, ends)


def verify(folder: Path, anchor: bytes, place: Place, *, step: Step = lambda _: None) -> tuple[str, ...]:
    """Read everything that the place's timestamp reaches, and name each file that is missing or has other bytes.

    Raises:
        TrustError: As `carry`, or this home does not know the state that the place serves.
        LostRaceError: As `carry`.
        RefusedError: As `carry`.
        UnreachableError: The place does not answer.
    """
    master = read_master(folder, anchor)
    found, _ = _judged(folder, master, place)
    if found.timestamp is None:
        return ()
    pieces = missing(contents(folder, reach_of(folder, found.timestamp)), None, _roots(folder, place))
    wrong = []
    for number, piece in enumerate(pieces, 1):
        step(f"{place.location}: reading file {number} of {len(pieces)}")
        digest = _digest_there(place, piece)
        if digest != piece.sha256:
            actual = f"found sha256 {digest}" if digest else "found no file"
            wrong.append(f"{piece.path}: expected sha256 {piece.sha256}, {actual}")
    return tuple(wrong)


def _expiries(folder: Path, master: Master, place: Place, timestamp: bytes) -> Iterator[tuple[datetime, str]]:
    """When each thing ends that the place serves, as far as this home knows what that is."""
    yield Metadata.from_bytes(timestamp).signed.expires, "timestamp"
    for root in reversed(master.roots):
        if place.find(root_path(root.signed.version), limit=_LIMIT_BYTES) is not None:
            yield root.signed.expires, "root"
            break
    reach = _reach(folder, timestamp)
    for piece in reach.metadata if reach else ():
        role = piece.path.split(".", 1)[1].removesuffix(".json")
        yield Metadata.from_bytes((folder / piece.path).read_bytes()).signed.expires, role


def _judged(folder: Path, master: Master, place: Place) -> tuple[Found, Standing]:
    timestamp = place.find(TIMESTAMP, limit=_LIMIT_BYTES)
    found = Found(
        timestamp,
        place.find(root_path(1), limit=_LIMIT_BYTES),
        place.find(master.next_root, limit=_LIMIT_BYTES),
        place.names() if timestamp is None else (),
    )
    return found, judge(place.location, master, (folder / root_path(1)).read_bytes(), found)


def _wanted(folder: Path, master: Master, old: Reach | None) -> tuple[Piece, ...]:
    new = contents(folder, reach_of(folder, master.timestamp), without=old)
    roots = [piece_of(folder, root_path(root.signed.version)) for root in master.roots]
    return missing(new, contents(folder, old, without=old) if old else None, roots)


def _roots(folder: Path, place: Place) -> list[Piece]:
    """The roots that readers of a place may need: those that are there, and the first."""
    pieces = [piece_of(folder, root_path(1))]
    while (folder / root_path(len(pieces) + 1)).is_file():
        piece = piece_of(folder, root_path(len(pieces) + 1))
        if place.find(piece.path, limit=_LIMIT_BYTES) is None:
            break
        pieces.append(piece)
    return pieces


def _follows(folder: Path, master: Master, place: Place) -> tuple[Piece, ...]:
    """The newest root, where the place lacks it alone and the new state also holds under the one before it.

    It ends the old keys and nothing else, so that it comes after the timestamp: readers verify at every instant.
    """
    newest = root_path(len(master.roots))
    if len(master.roots) == 1 or place.find(newest, limit=_LIMIT_BYTES) is not None:
        return ()
    before = root_path(len(master.roots) - 1)
    if place.find(before, limit=_LIMIT_BYTES) is None or not holds_under(folder, master.roots[-2].signed):
        return ()
    return (piece_of(folder, newest),)


def _reach(folder: Path, timestamp: bytes) -> Reach | None:
    """What the place's timestamp reaches, or None where this home does not have all of it any more."""
    with contextlib.suppress(TrustError):
        return reach_of(folder, timestamp)
    return None


def _bring(folder: Path, place: Place, piece: Piece, step: Step) -> bool:
    """Have `piece` at the place; whether it had to be put there."""
    if _digest_there(place, piece) == piece.sha256:
        return False
    source = folder / piece.path
    _check_own(source, piece)
    sent = 0

    def told(more: int) -> None:
        nonlocal sent
        sent += more
        step(f"{place.location}: {piece.path}: {sent / 1e6:.1f} of {piece.length / 1e6:.1f} MB")

    place.put_file(piece.path, source, told)
    digest = _digest_there(place, piece)
    if digest != piece.sha256:
        raise TrustError(
            "read again",
            where=f"{place.location}: {piece.path}",
            expected=f"sha256 {piece.sha256}, which was put there",
            actual=f"sha256 {digest}" if digest else "no file",
            remedy="the store does not keep what it takes; what it served before holds, and nothing names this file",
        )
    return True


def _check_own(source: Path, piece: Piece) -> None:
    """A file that was damaged in the home is not put anywhere."""
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != piece.sha256:
        raise TrustError(
            "digest",
            where=str(source),
            expected=f"sha256 {piece.sha256}",
            actual=f"sha256 {digest.hexdigest()}",
            remedy="take the home's repository back from a backup, or publish the release again; nothing names this "
            "file at the place",
        )


def _digest_there(place: Place, piece: Piece) -> str | None:
    """The sha256 of what the place gives for a piece, no further than it may be long; None where nothing is there."""
    digest, length = hashlib.sha256(), 0
    try:
        with contextlib.closing(place.stream(piece.path)) as stream:
            for data in stream:
                digest.update(data)
                length += len(data)
                if length > piece.length:
                    return "of a longer file"
    except NotThereError:
        return None
    return digest.hexdigest()


def _move(place: Place, before: bytes | None, timestamp: bytes) -> None:
    """Have the place serve the new state, unless somebody else moved it since it was looked at."""
    now = place.find(TIMESTAMP, limit=_LIMIT_BYTES)
    if now not in {before, timestamp}:
        raise LostRaceError(
            "place",
            where=f"{place.location}: {TIMESTAMP}",
            expected="the timestamp that was there before",
            actual="another one" if now else "none",
            remedy="another copy of this home is publishing; let it end, then run: changeover vendor carry",
        )
    place.put(TIMESTAMP, timestamp)
    for seconds in _SHOWS_SECONDS:
        time.sleep(seconds)
        if place.find(TIMESTAMP, limit=_LIMIT_BYTES) == timestamp:
            return
    raise UnreachableError(
        "read again",
        where=f"{place.location}: {TIMESTAMP}",
        expected="the timestamp that was put there",
        actual="another one",
        remedy="the store shows an older copy; wait, then run: changeover vendor carry",
    )
