"""What a place that studios read lacks of a vendor's repository, in which order it comes there, and when nothing may.

The repository in the vendor's home is the master: it is signed there first, and then carried. Rules:

1. A place is filled only where what it serves was signed by this vendor's keys, or where nothing is served yet. Another
   vendor's repository, a damaged one and a newer one are left as they are.
2. What the place's own timestamp reaches was re-read when it was carried, and is passed over; all else is read there
   and compared, or put there and read again, before anything names it.
3. Order: files, records and documents; targets; roles; snapshot; roots, the newest first, since readers walk up from
   theirs and see none before the last of them is there; ``timestamp.json`` last. Until it moves, readers see the old
   repository; a file that it does not reach is served to nobody. One new root alone, before which the new state holds
   as well, comes after the timestamp: there is no moment in which readers refuse.

Values in, values out: `reading` fills them from disk and place, `carrying` does what they say. Left out: taking
anything away.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp

from changeover_registry.errors import ChangeoverError, LostRaceError, RefusedError, TrustError

__all__ = ["TIMESTAMP", "Contents", "Found", "Master", "Piece", "Standing", "judge", "missing", "root_path", "total"]

TIMESTAMP = "metadata/timestamp.json"
_OWN = frozenset({"lock", "metadata", "objects", "targets"})
_SHOWN = 5

Standing = Literal["empty", "behind", "current"]
"""How a place stands to its master, where it may be filled."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a repository: its path there, and the bytes that it must have."""

    path: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What one timestamp reaches, in the order of writing: objects, targets, then metadata from roles to snapshot."""

    objects: tuple[Piece, ...]
    targets: tuple[Piece, ...]
    metadata: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Master:
    """The vendor's own repository, verified: its timestamp, and its roots by version from the first on."""

    timestamp: bytes
    roots: tuple[Metadata[Root], ...]

    @property
    def version(self) -> int:
        """The timestamp's version."""
        return _version(self.timestamp)

    @property
    def next_root(self) -> str:
        """Where a place would have a root that is newer than any here."""
        return root_path(self.roots[-1].signed.version + 1)


@dataclass(frozen=True, slots=True)
class Found:
    """What a place holds: its timestamp, its first root, a root newer than the master's; and names at its top."""

    timestamp: bytes | None
    first_root: bytes | None
    newer_root: bytes | None
    names: tuple[str, ...] = ()


def root_path(version: int) -> str:
    """Where a root stands in a repository."""
    return f"metadata/{version}.root.json"


def judge(where: str, master: Master, first_root: bytes, found: Found) -> Standing:
    """Whether the place `where` may be filled from `master`, and what it is to be taken for.

    Raises:
        TrustError: It holds another vendor's repository, or one that was damaged.
        LostRaceError: It holds a newer state of this vendor's repository, signed elsewhere.
        RefusedError: It holds something that is no repository.
    """
    if found.first_root is not None and found.first_root != first_root:
        raise _foreign(where, "another first root (metadata/1.root.json)")
    if found.newer_root is not None:
        raise _of_newer_root(where, master, found.newer_root)
    if found.timestamp is None:
        _check_free(where, found.names)
        return "empty"
    if found.timestamp == master.timestamp:
        return "current"
    if not _signed_by(master.roots[-1].signed, found.timestamp):
        if any(_signed_by(root.signed, found.timestamp) for root in master.roots):
            # Its key was replaced since: whatever number it bears, readers throw it away with that key.
            return "behind"
        raise _foreign(where, "a timestamp that no key of this vendor signed (metadata/timestamp.json)")
    if _version(found.timestamp) >= master.version:
        raise _newer(where, f"timestamp version {master.version}", f"version {_version(found.timestamp)}")
    return "behind"


def missing(new: Contents, old: Contents | None, roots: Iterable[Piece]) -> tuple[Piece, ...]:
    """What a place that holds `old` lacks of `new`, in the order in which it must come there, the timestamp aside.

    Args:
        new: What the master's timestamp reaches.
        old: What the place's own timestamp reaches; None where that is not known, and all is looked at.
        roots: Every root of the master, by version from the first on.
    """
    held = {*old.objects, *old.targets, *old.metadata} if old else set()
    ordered = (*new.objects, *new.targets, *new.metadata, *reversed(tuple(roots)))
    return tuple(piece for piece in dict.fromkeys(ordered) if piece not in held)


def total(pieces: Iterable[Piece]) -> int:
    """The bytes of some pieces."""
    return sum(piece.length for piece in pieces)


def _signed_by(root: Root, timestamp: bytes) -> bool:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(timestamp)
        root.verify_delegate("timestamp", metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return False
    return isinstance(metadata.signed, Timestamp)


def _version(timestamp: bytes) -> int:
    metadata: Metadata[Any] = Metadata.from_bytes(timestamp)
    return int(metadata.signed.version)


def _of_newer_root(where: str, master: Master, newer: bytes) -> ChangeoverError:
    known = master.roots[-1].signed
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(newer)
        known.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return _foreign(where, f"a root that no key of this vendor signed ({master.next_root})")
    return _newer(where, f"root version {known.version}", f"version {known.version + 1}")


def _check_free(where: str, names: tuple[str, ...]) -> None:
    if not set(names) <= _OWN:
        raise RefusedError(
            "place",
            where=where,
            expected="a repository of this vendor, or nothing",
            actual=f"other things: {', '.join(sorted(set(names) - _OWN)[:_SHOWN])}",
            remedy="name an empty folder or prefix for it in vendor.toml; nothing was changed there",
        )


def _foreign(where: str, actual: str) -> TrustError:
    return TrustError(
        "place",
        where=where,
        expected="the repository of this vendor, or nothing",
        actual=actual,
        remedy="correct the place in vendor.toml; if it is yours and was damaged, remove that file there and run: "
        "changeover vendor carry; nothing was changed there",
    )


def _newer(where: str, expected: str, actual: str) -> LostRaceError:
    return LostRaceError(
        "place",
        where=where,
        expected=f"at most {expected}, which this home has",
        actual=f"{actual}, signed with this vendor's keys",
        remedy="publish from the home that is newer, or take this one's repository from there; if nobody has one, the "
        "online key is in other hands: changeover vendor keys rotate online; nothing was changed there",
    )
