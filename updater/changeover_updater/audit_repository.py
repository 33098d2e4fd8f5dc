"""What a place holds of a vendor's repository, and the signed digest of each file: for `audit`.

The place is read as any studio reads it, over its transport, from a root that is trusted; every record, file and
document that the newest metadata names is brought and hashed. Left out: objects that nothing names, which nobody is
ever served.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from changeover_registry import canonical
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Index, IndexEntry
from changeover_registry.repository.objects import object_path
from changeover_registry.transport.interface import Transport
from changeover_updater.audit import Difference, Item, Part

__all__ = ["repository_part"]

_RECORD_LIMIT_BYTES = 8 * 1024 * 1024


def repository_part(name: str, location: str, vendor: str, root: bytes, models: tuple[str, ...] | None = None) -> Part:
    """A vendor's repository at `location`, verified from `root`; of a followed vendor the `models` alone."""
    return Part(name, partial(_holds, location, vendor, root, models))


def _holds(location: str, vendor: str, root: bytes, models: tuple[str, ...] | None) -> Iterator[Item | Difference]:
    from changeover_registry.client import Client
    from changeover_registry.repository.vendor import open_vendor
    from changeover_registry.transport import open_transport

    transport = open_transport(location)
    with tempfile.TemporaryDirectory(prefix="changeover-audit-") as state:
        view = open_vendor(Client(transport, Path(state), root), vendor, models)
    seen: set[str] = set()
    for index in view.indexes.values():
        for entry in index.releases:
            for digest, said in _of(transport, index, entry):
                if digest not in seen:
                    seen.add(digest)
                    path = object_path(digest)
                    yield Item(f"{location}: {path} ({said})", digest, partial(transport.stream, path))


def _of(transport: Transport, index: Index, entry: IndexEntry) -> Iterator[tuple[str, str]]:
    """Each digest that a release needs, with what it is."""
    release = f"{index.vendor}/{index.name}@{entry.version}"
    yield entry.record, f"{release}: release.json"
    for document in entry.documents or ():
        yield document.sha256, f"{release}: {document.name}"
    record = _record(transport, entry)
    for variant in record.variants if record else ():
        for file in variant.files:
            yield file.sha256, f"{release}: {variant.id}/{file.path}"


def _record(transport: Transport, entry: IndexEntry) -> Release | None:
    """The record, if it is the signed one; if it is not, the comparison of its own bytes says so."""
    path = object_path(entry.record)
    try:
        data = transport.read(path, limit=min(entry.length, _RECORD_LIMIT_BYTES))
        return Release.from_bytes(data, where=path) if canonical.digest(data) == entry.record else None
    except ChangeoverError:
        return None
