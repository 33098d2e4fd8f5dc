"""One vendor's part of a bundle: verified beside what the site has, then put in place.

The site's own state is copied, and the client moves the copy; records are read, files land block by block. Until all
of a bundle was verified, nothing that anybody reads has changed. To put it in place, files and records come first,
which nobody names yet; then the client reads the staged mirror into the site's own state and mirror, as `sync` reads a
vendor's server: the timestamp moves last, and a kill leaves the old or the new.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry import _fs, canonical
from changeover_registry.bundle_file import BundleFile
from changeover_registry.errors import TrustError, UndecidedError
from changeover_registry.records.release import FileEntry, Release, ReleaseRef
from changeover_registry.records.repository import Index, IndexEntry
from changeover_registry.transport.bundle import BundleTransport
from changeover_updater.site import VendorFolder

__all__ = ["VendorPart", "copy_state", "known_part", "verify_part"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class VendorPart:
    """What a bundle brings of one vendor, verified: indexes, records and documents by digest, files of its releases.

    `stage` holds the staged mirror; it is None where the site knows newer metadata already, and files alone come.
    """

    folder: VendorFolder
    transport: BundleTransport
    indexes: tuple[Index, ...]
    records: Mapping[str, bytes]
    releases: tuple[Release, ...]
    documents: Mapping[str, bytes]
    boms: Mapping[str, bytes]
    stage: Path | None

    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the releases, once."""
        entries = (file for release in self.releases for variant in release.variants for file in variant.files)
        return tuple({file.sha256: file for file in entries}.values())

    def withdrawn(self) -> tuple[tuple[ReleaseRef, str], ...]:
        """The releases of the bundle that these indexes say were taken back, and why."""
        taken = {entry.record: entry.withdrawn for index in self.indexes for entry in index.releases}
        refs = (release.ref() for release in self.releases)
        return tuple((ref, gone.why) for ref in refs if (gone := taken.get(ref.digest)) is not None)

    def missing(self) -> tuple[FileEntry, ...]:
        """The files that are not in the site's mirror, or not with the right bytes."""
        return tuple(file for file in self.files() if not _is_right(self.folder.mirror / _place(file.sha256), file))

    def is_news(self) -> bool:
        """Whether the site lacks a record, a document or this metadata; files aside."""
        if any(not self.folder.record_path(digest).is_file() for digest in self.records):
            return True
        if any(_bytes(self.folder.mirror / _place(digest)) != data for digest, data in self.documents.items()):
            return True
        return self.stage is not None and self.timestamp() != _bytes(self.folder.mirror / "metadata/timestamp.json")

    def timestamp(self) -> bytes | None:
        """The staged timestamp, if metadata comes."""
        return _bytes(self.stage / "mirror/metadata/timestamp.json") if self.stage else None

    def land(self, files: tuple[FileEntry, ...], objects: Path, progress: Progress) -> None:
        """Bring files into `objects`, verified block by block; what an interrupted run brought is kept.

        Raises:
            TrustError: A block is not the one that was signed; the message names the file and its bytes.
            UnreachableError: The drive does not give them.
            OSError: The disk is full, read-only or gone.
        """
        from changeover_updater.transfer import fetch_file

        for file in files:
            target = objects / _place(file.sha256)
            if not _is_right(target, file):
                _fs.make_dirs(target.parent)
                path = _place(file.sha256)
                fetch_file([self.transport], path, file, target, progress=_counting(progress, file))

    def place(self, objects: Path, at: datetime) -> None:
        """Put everything in place: files, documents, records, bills of materials, and metadata last.

        Raises:
            TrustError: Somebody brought newer metadata meanwhile.
            OSError: The site cannot be written; run again, it goes on.
        """
        for file in self.files():
            _move(objects / _place(file.sha256), self.folder.mirror / _place(file.sha256))
        for digest, data in self.documents.items():
            _put(self.folder.mirror / _place(digest), data)
        for digest, data in self.records.items():
            _put(self.folder.mirror / _place(digest), data)
            _put(self.folder.record_path(digest), data)
        for digest, data in self.boms.items():
            _put(self.folder.root / "boms" / f"{digest}.json", data)
        if self.stage is not None:
            _read_into(self.folder, self.stage / "mirror", at)


def verify_part(bundle: BundleFile, folder: VendorFolder, stage: Path, at: datetime) -> VendorPart:
    """Verify one vendor's metadata and records, in a copy of the site's state below `stage`.

    Raises:
        TrustError: Something is expired at `at`, wrongly signed, older than what was seen here, has another
            digest, or is in the bundle without anybody having signed for it.
        UnreachableError: The bundle lacks a file.
    """
    from changeover_registry.client import Client
    from changeover_registry.repository.vendor import open_vendor

    transport = BundleTransport(bundle, f"vendors/{folder.vendor}")
    copy_state(folder.root / "state", stage / "state")
    models, mirror = folder.entry().models, stage / "mirror"
    client = Client(transport, stage / "state", folder.pinned_root(), mirror=mirror, mirrored=models, at=at)
    indexes = tuple(open_vendor(client, folder.vendor, models).indexes.values())
    return _part(bundle, folder, transport, indexes, stage)


def known_part(bundle: BundleFile, folder: VendorFolder) -> VendorPart:
    """The files and records of a bundle as far as the newest metadata that this site knows signs for them.

    For a bundle that is older than what is known here: its metadata is not used, and its bytes are those that the newer
    metadata names, or they are refused.

    Raises:
        TrustError: A release of the bundle is not, or no longer so, in the newest index that is known here.
    """
    from changeover_updater._bundle_parts import read_repository

    transport = BundleTransport(bundle, f"vendors/{folder.vendor}")
    indexes = read_repository(folder.mirror, folder.pinned_root()).indexes
    return _part(bundle, folder, transport, indexes, None)


def _part(
    bundle: BundleFile, folder: VendorFolder, transport: BundleTransport, indexes: tuple[Index, ...], stage: Path | None
) -> VendorPart:
    records, read = _records(transport, folder.vendor, indexes, bundle)
    wanted = [ref for ref in bundle.manifest.releases if ref.model.partition("/")[0] == folder.vendor]
    releases = tuple(_release(bundle, read, ref) for ref in wanted)
    signed, documents = frozenset(records), dict[str, bytes]()
    for entry in (entry for index in indexes for entry in index.releases if entry.record in signed):
        named = any(ref.digest == entry.record for ref in wanted)
        here = _documents(transport, folder, entry, bundle, whole=named and stage is not None)
        if not _is_proven(folder, entry, read.get(entry.record), here, named=named):
            # A record of a release that the bundle does not name may come without what it is verified with.
            del records[entry.record]
        documents |= {canonical.digest(data): data for data in here.values()}
    part = VendorPart(folder, transport, indexes, records, releases, documents, _boms(bundle, folder, releases), stage)
    _check_all_signed(bundle, part, signed)
    return part


def _records(
    transport: BundleTransport, vendor: str, indexes: tuple[Index, ...], bundle: BundleFile
) -> tuple[dict[str, bytes], dict[str, Release]]:
    """The records in the bundle that an index pins, and those of them that this build can read."""
    from changeover_registry.repository.vendor import fetch_record

    records: dict[str, bytes] = {}
    read: dict[str, Release] = {}
    for index in indexes:
        for entry in index.releases:
            member = f"vendors/{vendor}/{_place(entry.record)}"
            if member not in bundle.members:
                continue
            try:
                release, records[entry.record] = fetch_record(transport, entry, f"{vendor}/{index.name}")
                read[entry.record] = release
            except UndecidedError:
                # A newer version wrote it: its bytes are the signed ones, and whoever can read it finds it here.
                records[entry.record] = transport.read(_place(entry.record), limit=entry.length)
    return records, read


def _documents(
    transport: BundleTransport, folder: VendorFolder, entry: IndexEntry, bundle: BundleFile, *, whole: bool
) -> dict[str, bytes]:
    """The documents of a release that are in the bundle, or here already, by name; each as the index signs it.

    Raises:
        TrustError: One has other bytes, or is missing although `whole`.
    """
    from changeover_registry.repository.documents import fetch_document
    from changeover_updater.documents import read_documents

    here, found = read_documents(folder.mirror, entry), {}
    for document in entry.documents or ():
        member = f"vendors/{folder.vendor}/{_place(document.sha256)}"
        if member in bundle.members:
            found[document.name] = fetch_document(transport, document, f"{folder.vendor} {entry.version}")
        elif document.sha256 in here:
            found[document.name] = here[document.sha256]
        elif whole:
            raise _unsigned(bundle, member, f"{document.name}, which the index signs", "no such document")
    return found


def _is_proven(
    folder: VendorFolder, entry: IndexEntry, release: Release | None, here: Mapping[str, bytes], *, named: bool
) -> bool:
    """Whether the OpenSSF signature of a release holds, or it needs none; False where that cannot be told.

    Raises:
        SignatureError: The signature does not hold, or a release that is named lacks one that the studio asks for.
    """
    from changeover_registry.openssf import SIGNATURE, check_signature

    pinned = folder.entry().model_signing
    if pinned is None and not any(document.name == SIGNATURE for document in entry.documents or ()):
        return True
    if release is None or (SIGNATURE not in here and not (named and pinned)):
        return False
    check_signature(here, release, where=f"{release.model}@{release.version}", pinned=pinned)
    return True


def _release(bundle: BundleFile, read: Mapping[str, Release], ref: ReleaseRef) -> Release:
    release = read.get(ref.digest)
    if release is None or release.ref() != ref:
        raise TrustError(
            "release",
            where=f"{bundle.path}: {ref}",
            expected="a release in the vendor's signed index, with its record in the bundle",
            actual="none that verifies and that this version can read",
            remedy="have the bundle made again; if a newer version made it, update changeover here first",
        )
    return release


def _boms(bundle: BundleFile, folder: VendorFolder, releases: tuple[Release, ...]) -> dict[str, bytes]:
    places = {release.digest(): f"vendors/{folder.vendor}/boms/{release.digest()}.json" for release in releases}
    return {digest: b"".join(bundle.stream(path)) for digest, path in places.items() if path in bundle.members}


def _check_all_signed(bundle: BundleFile, part: VendorPart, records: Iterable[str]) -> None:
    """No object that nobody signed is carried in, and every file of a release is there in its size."""
    top = f"vendors/{part.folder.vendor}"
    named = {f"{top}/{_place(digest)}" for digest in (*records, *part.documents)}
    sizes = {f"{top}/{_place(file.sha256)}": file.size for file in part.files()}
    for path in bundle.under(f"{top}/objects"):
        if path not in named | sizes.keys():
            raise _unsigned(bundle, path, "an object that a signed record names", "one that none names")
    for path, size in sizes.items():
        found = bundle.members[path].size if path in bundle.members else None
        if found != size:
            raise _unsigned(bundle, path, f"{size} bytes, as its signed record says", f"{found or 'no such'} bytes")


def _unsigned(bundle: BundleFile, path: str, expected: str, actual: str) -> TrustError:
    remedy = "have the bundle made again; nothing was changed here"
    return TrustError(
        "member of a bundle", where=f"{bundle.path}: {path}", expected=expected, actual=actual, remedy=remedy
    )


def _read_into(folder: VendorFolder, mirror: Path, at: datetime) -> None:
    from changeover_registry.client import Client
    from changeover_registry.transport.folder import FolderTransport

    models, state = folder.entry().models, folder.root / "state"
    transport = FolderTransport(mirror)
    Client(transport, state, folder.pinned_root(), mirror=folder.mirror, mirrored=models, at=at).refresh()


def copy_state(state: Path, copy: Path) -> None:
    """Copy what a client verified before; what stood in the copy's place is gone."""
    if copy.exists():
        _fs.remove_tree(copy)
    if state.is_dir():
        shutil.copytree(state, copy, ignore=shutil.ignore_patterns("lock", ".*"))


def _is_right(path: Path, file: FileEntry) -> bool:
    """Whether these bytes are there, hashed now: whoever put them there, they are not believed by their name."""
    import hashlib

    try:
        if path.is_symlink() or path.stat().st_size != file.size:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False


def _counting(progress: Progress, file: FileEntry) -> Callable[[int], None]:
    return lambda more: progress(file.path, more, file.size)


def _move(staged: Path, target: Path) -> None:
    if staged.is_file():
        _fs.make_dirs(target.parent)
        staged.chmod(0o444)
        _fs.replace(staged, target)


def _put(path: Path, data: bytes) -> None:
    if _bytes(path) != data:
        _fs.make_dirs(path.parent)
        _fs.write_atomic(path, data, mode=0o444)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _place(digest: str) -> str:
    from changeover_registry.repository.objects import object_path

    return object_path(digest)
