"""What goes into a bundle: the members of a vendor's repository and of a studio's choice, each with its bytes.

Everything is verified from its own first root, as a writer verifies what it builds on; a reader elsewhere verifies all
of it again from the root that it was given by hand.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry import canonical
from changeover_registry.bom import BOM_NAME
from changeover_registry.errors import InvalidInputError, TrustError, UndecidedError
from changeover_registry.records.bundle import BundleMember
from changeover_registry.records.release import FileEntry, Release, ReleaseRef
from changeover_registry.records.repository import Index, IndexEntry, VendorCard
from changeover_updater.site import Site

if TYPE_CHECKING:
    from changeover_registry.bundle_file import Piece
    from changeover_registry.repository.reached import Reached

__all__ = ["Part", "Repository", "VendorSource", "choice_parts", "named_releases", "read_repository", "vendor_parts"]

_TRIES = 3
_VERDICT_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One member of a bundle, how its bytes are had, and until when it holds, if it expires."""

    member: BundleMember
    pieces: Callable[[], Iterable[bytes]]
    expires: datetime | None = None

    def piece(self) -> "Piece":
        """What the container writes."""
        from changeover_registry.bundle_file import Piece

        return Piece(self.member, self.pieces)


@dataclass(frozen=True, slots=True)
class VendorSource:
    """Where the parts of one vendor are: its repository or mirror, records by digest, and files of releases.

    `anchor` is the root to verify from; None for the folder's own first root. `places` tells where a file may lie on
    this machine; where it lies in none of them it comes from the first of `locations`, by its digest.
    """

    vendor: str
    repository: Path
    anchor: bytes | None
    records: Callable[[str], Path]
    places: Callable[[Release, str, FileEntry], Iterator[Path]]
    locations: Callable[[str], tuple[str, ...]]
    releases: tuple[ReleaseRef, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository folder as its timestamp reaches it: metadata and targets by path, and what they say."""

    metadata: Mapping[str, bytes]
    targets: Mapping[str, bytes]
    expires: Mapping[str, datetime]

    @property
    def vendor(self) -> str:
        """The name on a vendor's card."""
        return next(VendorCard.from_bytes(data, where=path).vendor for path, data in self._named("vendor.json"))

    @property
    def indexes(self) -> tuple[Index, ...]:
        """The index of each of a vendor's models."""
        return tuple(Index.from_bytes(data, where=path) for path, data in self._named("index.json"))

    def _named(self, name: str) -> Iterator[tuple[str, bytes]]:
        return ((path, data) for path, data in sorted(self.targets.items()) if path.endswith(f".{name}"))


def read_repository(folder: Path, anchor: bytes | None) -> Repository:
    """Read all that the timestamp of a folder reaches, from `anchor` or else its own first root, expiry aside.

    Raises:
        InvalidInputError: There is no repository.
        TrustError: A file is missing, or is not what the level above signed.
    """
    from changeover_registry._fs import read_bytes_retry
    from changeover_registry.repository.reached import check_is_repository, read_reached

    check_is_repository(folder)
    for _ in range(_TRIES):
        timestamp = read_bytes_retry(folder / "metadata" / "timestamp.json")
        reached = read_reached(folder, anchor or _first_root(folder), in_part=True)
        if read_bytes_retry(folder / "metadata" / "timestamp.json") == timestamp:
            return _read(folder, reached, timestamp)
    raise UndecidedError(
        "repository",
        where=str(folder),
        expected="one that stands still while it is read",
        actual=f"{_TRIES} changes meanwhile",
        remedy="run the command again",
    )


def vendor_parts(source: VendorSource, now: datetime) -> Iterator[Part]:
    """The members of one vendor: metadata and targets, the records of its releases, their documents, files.

    Of the releases that are named all documents are put in, of the others what their records are verified with.

    Raises:
        InvalidInputError: A release is not in the vendor's index, or its record is not here.
        TrustError: Something is not what was signed.
    """
    from changeover_registry.repository.vendor import object_path

    repository = read_repository(source.repository, source.anchor)
    top = f"vendors/{source.vendor}"
    yield from _repository_parts(repository, top)
    records = dict(_records(source, repository.indexes))
    yield from (_small(f"{top}/{object_path(digest)}", data) for digest, data in records.items())
    releases = [_release(source, records, ref) for ref in source.releases]
    entries = {entry.record: entry for index in repository.indexes for entry in index.releases}
    for digest in records:
        yield from _documents(source, entries[digest], top)
    for release in releases:
        if not any(document.name == BOM_NAME for document in entries[release.digest()].documents or ()):
            yield from _bom(f"{top}/boms/{release.digest()}.json", release, now)
    for release in releases:
        yield from _files(source, release, top)


def choice_parts(site: Site, releases: frozenset[str]) -> list[Part]:
    """The members of the studio's choice: its repository with all that was ever chosen, its policy, and its verdicts.

    Of the verdicts those are put in which the choice names, and those that accept a release of `releases` (digests) or
    one that the choice names, for whatever host class.

    Raises:
        InvalidInputError: The site has no choice.
        TrustError: Something is not what was signed, such as the policy.
    """
    repository = read_repository(site.choice, None)
    bodies = [json.loads(data) for data in repository.targets.values()]
    signed = next((body["policy"] for body in bodies if body.get("scope") == "site" and "policy" in body), None)
    site.policy(signed)
    past = dict(_past_targets(site.choice))
    wanted = releases | {ref.digest for ref in _refs(bodies)}
    verdicts = _verdicts(site, frozenset(_found(bodies, "verdict")), wanted)
    return [
        *_repository_parts(replace(repository, targets={**past, **repository.targets}), "choice"),
        *(_small(f"verdicts/{digest}.json", data) for digest, data in sorted(verdicts.items())),
        _small("policy.toml", site.policy_bytes()),
    ]


def named_releases(site: Site) -> tuple[ReleaseRef, ...]:
    """Every release that the newest choices of a site name, by model and version."""
    bodies = [json.loads(data) for data in read_repository(site.choice, None).targets.values()]
    return tuple(sorted(set(_refs(bodies)), key=str))


def _read(folder: Path, reached: "Reached", timestamp: bytes) -> Repository:
    from changeover_registry.repository.reached import read_target, target_path

    names = [f"{number}.root.json" for number in _root_numbers(folder) if number <= reached.root.version]
    roles = {f"{signed.version}.{role}.json": signed.expires for role, signed in reached.roles.items()}
    snapshot = f"{reached.snapshot.version}.snapshot.json"
    metadata = {name: (folder / "metadata" / name).read_bytes() for name in (*names, snapshot, *roles)}
    targets = {
        target_path(Path(), path, info.hashes["sha256"]).as_posix(): read_target(folder, path, info.hashes["sha256"])
        for signed in reached.roles.values()
        for path, info in signed.targets.items()
    }
    expires = {**roles, snapshot: reached.snapshot.expires, "timestamp.json": reached.timestamp.expires}
    expires[f"{reached.root.version}.root.json"] = reached.root.expires
    return Repository({**metadata, "timestamp.json": timestamp}, targets, expires)


def _first_root(folder: Path) -> bytes:
    numbers = _root_numbers(folder)
    if not numbers:
        raise InvalidInputError(
            "repository",
            where=str(folder / "metadata"),
            expected="root metadata (1.root.json)",
            actual="none",
            remedy="name the repository's folder",
        )
    return (folder / "metadata" / f"{numbers[0]}.root.json").read_bytes()


def _root_numbers(folder: Path) -> list[int]:
    names = (path.name.removesuffix(".root.json") for path in (folder / "metadata").glob("*.root.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def _repository_parts(repository: Repository, top: str) -> Iterator[Part]:
    for name, data in repository.metadata.items():
        yield _small(f"{top}/metadata/{name}", data, repository.expires.get(name))
    for path, data in repository.targets.items():
        yield _small(f"{top}/{path}", data)


def _records(source: VendorSource, indexes: Iterable[Index]) -> Iterator[tuple[str, bytes]]:
    """The records that are here; of a release that nobody named it may be absent, as this build could not read it."""
    for entry in (entry for index in indexes for entry in index.releases):
        path = source.records(entry.record)
        if path.is_file():
            data = path.read_bytes()
            if canonical.digest(data) != entry.record:
                raise _changed(path, entry.record, canonical.digest(data))
            yield entry.record, data


def _release(source: VendorSource, records: Mapping[str, bytes], ref: ReleaseRef) -> Release:
    data = records.get(ref.digest)
    if data is None:
        raise InvalidInputError(
            "release",
            where=str(ref),
            expected="a release whose record is here",
            actual=f"no record in {source.repository}",
            remedy="run changeover sync, then export again",
        )
    return Release.from_bytes(data, where=str(ref))


def _documents(source: VendorSource, entry: IndexEntry, top: str) -> Iterator[Part]:
    """The documents of a release: all of one that is named, which come from the vendor where they are not here."""
    from changeover_registry.repository.documents import fetch_document
    from changeover_registry.repository.vendor import object_path
    from changeover_registry.transport import open_transport
    from changeover_updater.documents import read_documents

    named = entry.record in {ref.digest for ref in source.releases}
    found = read_documents(source.repository, entry, signature_only=not named)
    for document in (entry.documents or ()) if named else ():
        if document.sha256 not in found:
            transport = open_transport(source.locations(document.sha256)[0])
            found[document.sha256] = fetch_document(transport, document, f"{source.vendor} {entry.version}")
    yield from (_small(f"{top}/{object_path(digest)}", data) for digest, data in found.items())


def _bom(path: str, release: Release, now: datetime) -> Iterator[Part]:
    """A bill of materials for a release that was published without one; where its library is missing there is none."""
    from changeover_registry.bom import make_bom

    try:
        yield _small(path, make_bom(release, now))
    except (UndecidedError, InvalidInputError):
        return


def _files(source: VendorSource, release: Release, top: str) -> Iterator[Part]:
    from changeover_registry.repository.vendor import object_path

    for variant in release.variants:
        for file in variant.files:
            places = (path for path in source.places(release, variant.id, file) if _has_size(path, file.size))
            path = next(places, None)
            pieces = partial(_stream, path) if path else partial(_fetch, source.locations(file.sha256)[0], file.sha256)
            member = BundleMember(path=f"{top}/{object_path(file.sha256)}", size=file.size, sha256=file.sha256)
            yield Part(member, pieces)


def _has_size(path: Path, size: int) -> bool:
    try:
        return not path.is_symlink() and path.stat().st_size == size
    except OSError:
        return False


def _stream(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1024 * 1024):
            yield piece


def _fetch(location: str, digest: str) -> Iterable[bytes]:
    from changeover_registry.repository.vendor import object_path
    from changeover_registry.transport import open_transport

    return open_transport(location).stream(object_path(digest))


def _small(path: str, data: bytes, expires: datetime | None = None) -> Part:
    member = BundleMember(path=path, size=len(data), sha256=canonical.digest(data))
    return Part(member, lambda: (data,), expires)


def _past_targets(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What was chosen before: each file names its own digest, and each choice the digest of the one before."""
    for path in sorted((folder / "targets").rglob("*.json")):
        data = path.read_bytes()
        if path.name.partition(".")[0] == canonical.digest(data):
            yield path.relative_to(folder).as_posix(), data


def _refs(bodies: Iterable[Any]) -> Iterator[ReleaseRef]:
    for body in _found(bodies, "release"):
        yield ReleaseRef.model_validate(body)


def _found(value: Any, key: str) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    """Every value that stands under `key` anywhere in `value`."""
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name == key and item is not None)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _found(item, key)


def _verdicts(site: Site, named: frozenset[str], releases: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in site.verdicts.glob("*.json"):
        if path.stat().st_size <= _VERDICT_LIMIT_BYTES:
            data = path.read_bytes()
            if canonical.digest(data) == path.stem and (path.stem in named or _accepts(data, releases)):
                found[path.stem] = data
    if missing := sorted(named - found.keys()):
        raise TrustError(
            "verdict",
            where=str(site.verdicts / f"{missing[0]}.json"),
            expected="the verdict that the choice names",
            actual="no such file, or other bytes",
            remedy="take it back from a backup; no bundle was written",
        )
    return found


def _accepts(envelope: bytes, releases: frozenset[str]) -> bool:
    """Whether an envelope says that it accepts one of these releases; who signed it is for the reader to verify."""
    try:
        body = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        return body["decision"] == "accept" and body["candidate"]["digest"] in releases
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _changed(path: Path, expected: str, actual: str) -> TrustError:
    return TrustError(
        "release record",
        where=str(path),
        expected=f"sha256 {expected}",
        actual=f"sha256 {actual}",
        remedy="remove the file and run changeover sync; find out who changed it",
    )
