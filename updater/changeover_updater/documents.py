"""What lies beside the releases that a studio knows: brought by `sync` and `import` into the site, and read from there.

The documents stand in the site's mirror of the vendor's repository, by digest, where bundles and other sites find them.
The vendor's signed index names them. A release whose OpenSSF signature does not hold is not taken in. Left out: who
makes them (`vendor_documents`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError, UnreachableError
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, check_signature
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Document, Index, IndexEntry
from changeover_registry.repository.documents import fetch_document, put_documents
from changeover_registry.repository.objects import object_path
from changeover_registry.transport.interface import NotThereError
from changeover_updater.site import Site, VendorFolder

if TYPE_CHECKING:
    from changeover_registry.transport import Transport

__all__ = [
    "Listed",
    "Shelf",
    "bring_documents",
    "entry_of",
    "find_document",
    "lacks_documents",
    "list_documents",
    "read_documents",
]


@dataclass(frozen=True, slots=True)
class Listed:
    """The documents of one release as its vendor's index names them, and the bytes of those that are here, by name.

    `signed_by` is the sha256 of the key (DER) whose OpenSSF signature holds; None where there is no signature.
    """

    documents: tuple[Document, ...]
    here: Mapping[str, bytes]
    signed_by: str | None


def lacks_documents(folder: VendorFolder, entry: IndexEntry) -> bool:
    """Whether a document of a release is not in the site, by its length; bytes are hashed where they are read."""
    return any(not _has_length(_path(folder, document), document.length) for document in entry.documents or ())


def bring_documents(
    folder: VendorFolder, transport: "Transport", release: Release, entry: IndexEntry, *, in_part: bool
) -> None:
    """Bring the documents of a release into the site, and verify the signature among them first.

    Args:
        folder: The vendor's.
        transport: The way to its repository.
        release: The release.
        entry: What the verified index says of it.
        in_part: Whether documents may be missing there, as in a mirror that bundles fill.

    Raises:
        SignatureError: The signature does not hold, or the studio asks for one and there is none; nothing was kept.
        TrustError: A document has other bytes than the index says; nothing was kept.
        UnreachableError: The repository does not answer, or lacks a document.
        OSError: The site cannot be written.
    """
    where = f"{release.model}@{release.version}"
    found: dict[str, bytes] = {}
    for document in entry.documents or ():
        try:
            found[document.name] = _read(folder, document) or fetch_document(transport, document, where)
        except NotThereError:
            if not in_part:
                raise
    if not in_part or SIGNATURE in found:
        check_signature(found, release, where=where, pinned=folder.entry().model_signing)
    put_documents(folder.mirror, found)


def entry_of(indexes: Iterable[Index], release: Release) -> IndexEntry:
    """What the verified indexes of a vendor say of a release that they list.

    Raises:
        StopIteration: They do not list it.
    """
    listed = (index.entry(release.version) for index in indexes if f"{index.vendor}/{index.name}" == release.model)
    return next(entry for entry in listed if entry is not None)


def list_documents(folder: VendorFolder, release: Release, entry: IndexEntry) -> Listed:
    """What lies beside a release, as far as it is here.

    Raises:
        SignatureError: The signature that is here does not hold.
        OSError: The site cannot be read.
    """
    documents = entry.documents or ()
    here = {document.name: data for document in documents if (data := _read(folder, document)) is not None}
    pinned = folder.entry().model_signing if SIGNATURE in here else None
    signed_by = check_signature(here, release, where=f"{release.model}@{release.version}", pinned=pinned)
    return Listed(documents, here, signed_by)


def find_document(listed: Listed, name: str, *, where: str) -> bytes:
    """The bytes of one document.

    Raises:
        InvalidInputError: The release has no document of that name.
        UnreachableError: It is not here.
    """
    if name in listed.here:
        return listed.here[name]
    names = ", ".join(document.name for document in listed.documents) or "none"
    if name not in {document.name for document in listed.documents}:
        raise InvalidInputError(
            "document", where=where, expected=f"one of {names}", actual=name, remedy="correct the name"
        )
    raise UnreachableError(
        "document",
        where=f"{where}: {name}",
        expected="the signed bytes in the site",
        actual="no such file, or other bytes",
        remedy="run changeover sync, or import a bundle that holds this release",
    )


class Shelf:
    """The documents of any release of a site, as far as they are in it; each vendor's index is read once."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._entries: dict[str, Mapping[str, IndexEntry]] = {}

    def of(self, release: Release) -> dict[str, bytes]:
        """The documents of a release that are here, by name; none of a release that its vendor's index does not list.

        Raises:
            TrustError: The site's mirror of the vendor's repository is not what was signed.
        """
        folder = self._site.vendor_of(release.model)
        if folder.vendor not in self._entries:
            self._entries[folder.vendor] = _entries(folder)
        entry = self._entries[folder.vendor].get(release.digest())
        return {one.name: data for one in _listed(entry) if (data := _read(folder, one)) is not None}


def read_documents(folder: Path, entry: IndexEntry, *, signature_only: bool = False) -> dict[str, bytes]:
    """Of the documents of a release those that are in a repository or mirror with the signed bytes, by sha256."""
    wanted = [d for d in entry.documents or () if not signature_only or d.name in {SIGNATURE, PUBLIC_KEY}]
    found = ((document, _bytes(folder / object_path(document.sha256), document)) for document in wanted)
    return {document.sha256: data for document, data in found if data is not None}


def _entries(folder: VendorFolder) -> Mapping[str, IndexEntry]:
    from changeover_updater._bundle_parts import read_repository

    if not (folder.mirror / "metadata" / "timestamp.json").is_file():
        return {}
    indexes = read_repository(folder.mirror, folder.pinned_root()).indexes
    return {entry.record: entry for index in indexes for entry in index.releases}


def _listed(entry: IndexEntry | None) -> tuple[Document, ...]:
    return (entry.documents or ()) if entry else ()


def _path(folder: VendorFolder, document: Document) -> Path:
    return folder.mirror / object_path(document.sha256)


def _read(folder: VendorFolder, document: Document) -> bytes | None:
    return _bytes(_path(folder, document), document)


def _bytes(path: Path, document: Document) -> bytes | None:
    """The signed bytes, if they are there."""
    if not _has_length(path, document.length):
        return None
    data = path.read_bytes()
    return data if canonical.digest(data) == document.sha256 else None


def _has_length(path: Path, length: int) -> bool:
    try:
        return not path.is_symlink() and path.is_file() and path.stat().st_size == length
    except OSError:
        return False
