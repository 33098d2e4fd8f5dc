"""Small files beside a release in a vendor's repository: the bill of materials, the model card, a further signature.

They lie among the objects, by digest; the index names them, so that whoever may sign a release signs them. They are no
part of a release's identity, and nothing is decided by what they say. One that was published is never changed. Left
out: what stands in them (`bom`, `model_card`, `openssf`).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from changeover_registry import canonical
from changeover_registry._fs import make_dirs, write_atomic
from changeover_registry.errors import InvalidInputError, RefusedError, TrustError
from changeover_registry.records.repository import Document, IndexEntry
from changeover_registry.repository.objects import object_path
from changeover_registry.transport.interface import Transport

__all__ = ["describe_documents", "fetch_document", "put_documents", "with_documents"]


def describe_documents(documents: Mapping[str, bytes]) -> tuple[Document, ...] | None:
    """What an index says of documents, by file name and in the order of names; None where there are none.

    Raises:
        InvalidInputError: A name is none for a document, or one is empty or larger than 16 MiB.
    """
    return _sorted(_describe(name, data) for name, data in documents.items())


def with_documents(known: IndexEntry, documents: tuple[Document, ...] | None, *, where: str) -> IndexEntry:
    """`known` with the documents that it lacks; those that it has give the same entry.

    Raises:
        RefusedError: One of that name was published with other content.
    """
    there = {document.name: document for document in known.documents or ()}
    new = {document.name: document for document in documents or ()}
    for name in there.keys() & new.keys():
        if there[name] != new[name]:
            raise RefusedError(
                "published document",
                where=f"{where}: {name}",
                expected=f"the document that was published, sha256 {there[name].sha256}",
                actual=f"sha256 {new[name].sha256}",
                remedy="give the release a new version; what was published beside one never changes",
            )
    return known.model_copy(update={"documents": _sorted({**new, **there}.values())})


def put_documents(folder: Path, documents: Mapping[str, bytes]) -> None:
    """Write documents under their digests into a repository or a mirror of one; what is there and right is left.

    Raises:
        OSError: The folder cannot be written.
    """
    for data in documents.values():
        path = folder / object_path(canonical.digest(data))
        if not path.is_file() or path.read_bytes() != data:
            make_dirs(path.parent)
            write_atomic(path, data)


def fetch_document(transport: Transport, document: Document, release: str) -> bytes:
    """The bytes of a document of `release`, which is named in messages.

    Raises:
        TrustError: They are not those that the index names.
        UnreachableError: The repository does not answer, or lacks it.
    """
    path = object_path(document.sha256)
    data = transport.read(path, limit=document.length)
    actual = f"sha256 {canonical.digest(data)}, {len(data)} bytes"
    expected = f"sha256 {document.sha256}, {document.length} bytes"
    if actual != expected:
        raise TrustError(
            "digest of a document",
            where=f"{release}: {document.name}: {transport.location}: {path}",
            expected=expected,
            actual=actual,
            remedy="ask the vendor; the bytes are not those that were signed, and nothing of them was kept",
        )
    return data


def _describe(name: str, data: bytes) -> Document:
    try:
        return Document(name=name, sha256=canonical.digest(data), length=len(data))
    except ValidationError as error:
        raise InvalidInputError(
            "document",
            where=name,
            expected="a file name of letters, digits, dot, dash and underscore, with 1 byte to 16 MiB in it",
            actual=f"{name!r}, {len(data)} bytes",
            remedy="rename it, or leave it out",
        ) from error


def _sorted(documents: Iterable[Document]) -> tuple[Document, ...] | None:
    return tuple(sorted(documents, key=lambda document: document.name)) or None
