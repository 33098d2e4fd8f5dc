"""What a timestamp reaches in a vendor's repository folder, file by file, each with its digest.

Every link is checked by the digest in the level above, so that whoever trusts the timestamp can trust the rest. A
role's file has a length and a digest in the snapshot, an index in its role, a record in its index, a file in its
record. Left out: signatures (`reached`), and what is done with it (`outlet`, `carrying`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from changeover_registry import canonical
from changeover_registry._fs import lock
from changeover_registry.errors import TrustError
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Index, IndexEntry
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.outlet import TIMESTAMP, Contents, Master, Piece, root_path
from changeover_registry.repository.reached import check_is_repository, read_reached, target_path

__all__ = ["Reach", "contents", "holds_under", "piece_of", "reach_of", "read_master"]

_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reach:
    """The metadata and targets that a timestamp reaches, and the releases that its indexes name."""

    targets: tuple[Piece, ...]
    metadata: tuple[Piece, ...]
    entries: Mapping[str, IndexEntry]


def read_master(folder: Path, anchor: bytes) -> Master:
    """The vendor's own repository, all of its metadata verified from the root that is kept beside the keys.

    Raises:
        InvalidInputError: There is no repository.
        TrustError: A file is missing, or is not what the level above signed.
        LostRaceError: Another process has been writing it for a minute.
    """
    check_is_repository(folder)
    # Between a new root and its timestamp there is a moment in which the two do not belong together.
    with lock(folder / "lock", what=f"the repository {folder}", wait_seconds=_LOCK_SECONDS):
        newest = read_reached(folder, anchor).root.version
        roots = tuple(_metadata(folder / root_path(number)) for number in range(1, newest + 1))
        return Master((folder / "metadata" / "timestamp.json").read_bytes(), roots)


def holds_under(folder: Path, root: Root) -> bool:
    """Whether what the timestamp in `folder` reaches at the top is signed by the keys of `root`, newest or not."""
    top: Metadata[Timestamp] = _metadata(folder / TIMESTAMP)
    snapshot: Metadata[Snapshot] = _metadata(folder / f"metadata/{top.signed.snapshot_meta.version}.snapshot.json")
    number = snapshot.signed.meta["targets.json"].version
    held: dict[str, Metadata[Any]] = {"timestamp": top, "snapshot": snapshot}
    held["targets"] = _metadata(folder / f"metadata/{number}.targets.json")
    return all(
        root.get_verification_result(role, one.signed_bytes, one.signatures).verified for role, one in held.items()
    )


def reach_of(folder: Path, timestamp: bytes) -> Reach:
    """What `timestamp` reaches in `folder`, releases by the digest of their record.

    Raises:
        TrustError: A file is missing, or has another digest than the level above says.
    """
    top: Metadata[Timestamp] = Metadata.from_bytes(timestamp)
    meta = top.signed.snapshot_meta
    name = f"metadata/{meta.version}.snapshot.json"
    data = _read(folder, name, _digest(name, meta))
    files = [Piece(name, canonical.digest(data), len(data))]
    targets: list[Piece] = []
    entries: dict[str, IndexEntry] = {}
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(data)
    for role, file in sorted(snapshot.signed.meta.items()):
        path = f"metadata/{file.version}.{role}"
        signed = _read(folder, path, _digest(path, file))
        files.insert(0, Piece(path, canonical.digest(signed), len(signed)))
        read: Metadata[Targets] = Metadata.from_bytes(signed)
        targets += _targets(folder, read.signed, entries)
    return Reach(tuple(targets), tuple(files), entries)


def contents(folder: Path, reach: Reach, *, without: Reach | None = None) -> Contents:
    """Every file of a reach; with `without`, the files of those releases alone that are not in it.

    Raises:
        TrustError: A record is missing, or has another digest than its index says.
    """
    # A withdrawal changes an entry and none of its files.
    known = {(entry.record, entry.documents) for entry in without.entries.values()} if without else set()
    fresh = [entry for entry in reach.entries.values() if (entry.record, entry.documents) not in known]
    objects = [piece for entry in fresh for piece in _release(folder, entry)]
    return Contents(tuple(dict.fromkeys(objects)), reach.targets, reach.metadata)


def piece_of(folder: Path, path: str) -> Piece:
    """A small file of the folder as it stands there."""
    data = (folder / path).read_bytes()
    return Piece(path, canonical.digest(data), len(data))


def _targets(folder: Path, role: Targets, entries: dict[str, IndexEntry]) -> Iterator[Piece]:
    """The targets of a role; what an index names is added to `entries`."""
    for path, info in sorted(role.targets.items()):
        digest = info.hashes["sha256"]
        file = target_path(folder, path, digest).relative_to(folder).as_posix()
        data = _read(folder, file, digest)
        yield Piece(file, digest, len(data))
        if path.endswith("/index.json"):
            entries.update({entry.record: entry for entry in Index.from_bytes(data, where=file).releases})


def _release(folder: Path, entry: IndexEntry) -> Iterator[Piece]:
    """Files first, then the record that names them, then what lies beside it."""
    path = object_path(entry.record)
    record = Release.from_bytes(_read(folder, path, entry.record), where=path)
    for variant in record.variants:
        for file in variant.files:
            yield Piece(object_path(file.sha256), file.sha256, file.size)
    yield Piece(path, entry.record, entry.length)
    for document in entry.documents or ():
        yield Piece(object_path(document.sha256), document.sha256, document.length)


def _metadata(path: Path) -> Metadata[Any]:
    return Metadata.from_bytes(path.read_bytes())


def _digest(path: str, meta: MetaFile) -> str:
    if not meta.hashes or "sha256" not in meta.hashes:
        raise _distrust(path, "a sha256 in the level above", "none")
    return str(meta.hashes["sha256"])


def _read(folder: Path, path: str, digest: str) -> bytes:
    try:
        data = (folder / path).read_bytes()
    except FileNotFoundError as error:
        raise _distrust(str(folder / path), f"sha256 {digest}", "no file") from error
    if canonical.digest(data) != digest:
        raise _distrust(str(folder / path), f"sha256 {digest}", f"sha256 {canonical.digest(data)}")
    return data


def _distrust(where: str, expected: str, actual: str) -> TrustError:
    remedy = "take the home's repository back from a backup; nothing was carried"
    return TrustError("digest", where=where, expected=expected, actual=actual, remedy=remedy)
