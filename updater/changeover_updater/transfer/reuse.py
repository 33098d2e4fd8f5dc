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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.names import release_folder
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release
from changeover_updater.transfer.partial import Partial, block_length, open_regular, read_block

__all__ = ["Installed", "installed_near"]

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_FICLONE = 0x40049409
"""Linux: have a file share the blocks of another one."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What the store holds, as the records in the site say it.

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
        for path, held in self._files(entry):
            if not partial.missing():
                return
            with contextlib.suppress(OSError), open_regular(path) as source:
                if held.sha256 == entry.sha256 and _clone(source, partial):
                    yield from partial.keep()
                else:
                    yield from _copy(source, held, partial)

    def _files(self, entry: FileEntry) -> Iterator[tuple[Path, FileEntry]]:
        """Installed files with a block of `entry`; those that are the same file first within each release."""
        wanted = {digest.encode() for digest in entry.blocks}
        for record in self._records():
            release = _sharing(record, wanted)
            if release is None:
                continue
            folder = self.releases / release.model / release_folder(release.version, release.digest())
            found = [
                (folder / variant.id / file.path, file)
                for variant in release.variants
                for file in variant.files
                if set(file.blocks) & set(entry.blocks)
            ]
            yield from sorted(found, key=lambda pair: pair[1].sha256 != entry.sha256)

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


def _sharing(record: Path, wanted: set[bytes]) -> Release | None:
    """The release of a record that names one of these digests; reading it for nothing costs no parsing."""
    try:
        data = record.read_bytes()
        if wanted.isdisjoint(_DIGEST.findall(data)):
            return None
        return Release.from_bytes(data, where=str(record))
    except (OSError, ChangeoverError):
        return None


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
