"""Blocks that are here already: taken from any release that is installed in the store, hashed before they count.

A file that another release has is cloned where the file system can (XFS, btrfs: no byte is written twice), else copied;
of other files the blocks that are the same are copied. What an installed file holds is never believed: each block is
hashed again. Nothing is linked, so that every file keeps one name. Which files hold which blocks is read from the
records that the site keeps, and those are not believed either.
"""

import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.names import release_folder
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release
from changeover_updater.transfer.partial import Partial, block_length, open_regular, read_block

__all__ = ["Installed", "installed_near"]

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_FICLONE = 0x40049409
"""Linux: have a file share the blocks of another one."""


@dataclass(slots=True)
class _Held:
    """One installed release by its record, which is read once and parsed only when it shares something."""

    releases: Path
    record: Path
    digests: frozenset[bytes]
    files: Mapping[str, tuple[tuple[Path, FileEntry], ...]] | None = None

    def sharing(self, entry: FileEntry) -> tuple[tuple[Path, FileEntry], ...]:
        """The installed files with a block of `entry`, those that are the same file first."""
        if self.digests.isdisjoint(digest.encode() for digest in entry.blocks):
            return ()
        if self.files is None:
            self.files = _by_block(self.releases, self.record)
        found = {path: file for digest in entry.blocks for path, file in self.files.get(digest, ())}
        return tuple(sorted(found.items(), key=lambda pair: pair[1].sha256 != entry.sha256))


@dataclass(frozen=True)
class Installed:
    """What the store holds, as the records in the site say it when it is first asked; for the files of one install.

    Args:
        releases: The store's ``releases``.
        trust: The site's ``trust``, with the records of every vendor.
        model: The model that is being installed; its own releases are looked at first.
    """

    releases: Path
    trust: Path
    model: str

    def blocks(self, partial: Partial) -> Iterator[int]:
        """Put what is here into a partial; yields the length of each block."""
        entry = partial.entry
        for path, held in (pair for one in self._held for pair in one.sharing(entry)):
            if not partial.missing():
                return
            with contextlib.suppress(OSError), open_regular(path) as source:
                if held.sha256 == entry.sha256 and _clone(source, partial):
                    yield from partial.keep()
                else:
                    yield from _copy(source, held, partial)

    @cached_property
    def _held(self) -> tuple[_Held, ...]:
        """Every record once: a release of ten thousand files would have each of them read ten thousand times."""
        return tuple(held for record in self._records() if (held := _read(self.releases, record)) is not None)

    def _records(self) -> Iterator[Path]:
        """The records of what is installed: of the same model first, and the newest first."""
        folders = [folder for folder in self.releases.glob("*/*/*") if folder.is_dir()]
        folders.sort(key=lambda folder: (_model(folder) == self.model, _changed(folder)), reverse=True)
        for folder in folders:
            digest12 = folder.name.rpartition("-")[2]
            yield from (self.trust / folder.parent.parent.name / "records").glob(f"{digest12}*.json")


def installed_near(store: Path, vendor: Path, model: str) -> Installed:
    """What is installed in a store, by the records beside a vendor's folder in the site."""
    return Installed(store / "releases", vendor.parent, model)


def _read(releases: Path, record: Path) -> _Held | None:
    try:
        return _Held(releases, record, frozenset(_DIGEST.findall(record.read_bytes())))
    except OSError:
        return None


def _by_block(releases: Path, record: Path) -> Mapping[str, tuple[tuple[Path, FileEntry], ...]]:
    """The installed files of a record by the digests of their blocks; none where nobody can read it."""
    try:
        release = Release.from_bytes(record.read_bytes(), where=str(record))
    except (OSError, ChangeoverError):
        return {}
    folder = releases / release.model / release_folder(release.version, release.digest())
    found: dict[str, list[tuple[Path, FileEntry]]] = {}
    for variant in release.variants:
        for file in variant.files:
            for digest in file.blocks:
                found.setdefault(digest, []).append((folder / variant.id / file.path, file))
    return {digest: tuple(files) for digest, files in found.items()}


def _clone(source: int, partial: Partial) -> bool:
    """Have the partial share all blocks of a file; False where the file system cannot."""
    if sys.platform != "linux":  # pragma: windows
        return False
    import fcntl  # The module exists on POSIX alone.

    if len(partial.missing()) != len(partial.entry.blocks):
        return False
    try:
        fcntl.ioctl(partial.handle, _FICLONE, source)
    except OSError:
        return False
    return True


def _copy(source: int, held: FileEntry, partial: Partial) -> Iterator[int]:
    """Copy the blocks of an installed file that the partial lacks, wherever they stand in it."""
    places: dict[str, list[int]] = {}
    for block in partial.missing():
        places.setdefault(partial.entry.blocks[block], []).append(block)
    buffer = bytearray(BLOCK_BYTES)
    for number, digest in enumerate(held.blocks):
        blocks = places.pop(digest, [])
        if not blocks:
            continue
        data = read_block(source, number, block_length(held, number), buffer)
        if hashlib.sha256(data).hexdigest() == digest:
            for block in blocks:
                if partial.put(block, data):
                    yield len(data)


def _model(folder: Path) -> str:
    return f"{folder.parent.parent.name}/{folder.parent.name}"


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
