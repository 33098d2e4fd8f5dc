"""Fetch one file of a release: every 4 MiB block verified as it lands, resumable, bounded, on the disk when done.

Rules: blocks are checked against the signed record before they are written to ``<target>.partial``, so that a partial
never holds a byte that was not verified; what an earlier run left there is hashed again, and kept up to the first block
that does not hold. A cut connection is resumed as long as each try brings a new block. A wrong block is asked for once
more, from its beginning; wrong again, or with too few bytes, the partial is removed. No more than the file's size is
taken in, whatever the other side sends. Left out: which files, in what order, and free space (`install`); log-in and
mirrors.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from changeover_registry import canonical
from changeover_registry._fs import fsync_dir
from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry
from changeover_registry.transport.interface import Transport

__all__ = ["fetch_file", "partial_path"]


def fetch_file(
    transport: Transport, path: str, entry: FileEntry, target: Path, *, progress: Callable[[int], None]
) -> None:
    """Bring one file to `target`, whole and verified, or leave a partial that the next call goes on from.

    Args:
        transport: The way to the repository.
        path: Where the file stands there, such as ``objects/ab/abcd…``.
        entry: Size and block digests from the verified release record.
        target: Where it goes; its folder must be there. A file of that name is replaced in one step.
        progress: Called with the number of bytes that were verified since the last call, kept ones included.

    Raises:
        TrustError: A block has another digest twice in a row, or the file there is shorter than the record says.
        UnreachableError: The repository does not answer, or broke off without bringing a new block.
        OSError: The disk is full, read-only or gone.
    """
    download = _Download(transport, path, entry, target, progress)
    try:
        with _open(download.partial) as file:
            download.keep(file)
            while download.missing():
                download.resume(file)
            file.flush()
            os.fsync(file.fileno())
    except TrustError:
        download.partial.unlink()
        raise
    download.partial.replace(target)
    fsync_dir(target.parent)


def partial_path(target: Path) -> Path:
    """Where the verified beginning of a file is kept until the rest is there."""
    return target.with_name(f"{target.name}.partial")


class _Download:
    """One file on its way: how many of its blocks are verified and written."""

    def __init__(
        self, transport: Transport, path: str, entry: FileEntry, target: Path, progress: Callable[[int], None]
    ) -> None:
        self._transport = transport
        self._path = path
        self._entry = entry
        self._progress = progress
        self._done = 0
        self._refused: int | None = None
        self._held = 0
        self.partial = partial_path(target)

    def missing(self) -> bool:
        """Whether a block is not there yet."""
        return self._done < len(self._entry.blocks)

    def keep(self, file: BinaryIO) -> None:
        """Keep what an earlier run verified, up to the first block that does not hold now."""
        while self.missing():
            block = file.read(self._length(self._done))
            if canonical.digest(block) != self._entry.blocks[self._done]:
                break
            self._count(len(block))
        file.seek(min(self._done * BLOCK_BYTES, self._entry.size))
        file.truncate()

    def resume(self, file: BinaryIO) -> None:
        """Stream from the first missing block on, as far as it goes."""
        before = self._done
        try:
            refused = self._land(file)
        except UnreachableError:
            if self._done == before:
                raise
            return
        if self.missing() and not refused and self._done == before:
            raise self._short()

    def _land(self, file: BinaryIO) -> bool:
        """Write blocks until the stream ends (False) or a block is refused for the first time (True)."""
        with contextlib.closing(self._transport.stream(self._path, offset=self._done * BLOCK_BYTES)) as stream:
            for block in self._blocks(stream):
                if not self._right(block):
                    return True
                file.write(block)
                self._count(len(block))
        return False

    def _right(self, block: bytes) -> bool:
        """Whether this is the next block; a wrong one is forgiven once."""
        expected, actual = self._entry.blocks[self._done], canonical.digest(block)
        if actual == expected:
            return True
        if self._refused == self._done:
            raise self._wrong(expected, actual)
        self._refused = self._done
        return False

    def _blocks(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """The complete blocks in a stream that starts at the first missing one; nothing past the file's size."""
        held = bytearray()
        for piece in stream:
            held += piece
            while self.missing() and len(held) >= (length := self._length(self._done)):
                yield bytes(held[:length])
                del held[:length]
            if not self.missing():
                return
        self._held = len(held)

    def _length(self, block: int) -> int:
        return min(BLOCK_BYTES, self._entry.size - block * BLOCK_BYTES)

    def _count(self, length: int) -> None:
        self._done += 1
        self._progress(length)

    def _wrong(self, expected: str, actual: str) -> TrustError:
        start = self._done * BLOCK_BYTES
        return TrustError(
            "digest",
            where=f"{self._entry.path}, bytes {start} to {start + self._length(self._done) - 1} ({self._where()})",
            expected=f"sha256 {expected}",
            actual=f"sha256 {actual}",
            remedy="ask the vendor; these are not the bytes that were signed, and nothing of them was kept",
        )

    def _short(self) -> TrustError:
        return TrustError(
            "length",
            where=f"{self._entry.path} ({self._where()})",
            expected=f"{self._entry.size} bytes",
            actual=f"{self._done * BLOCK_BYTES + self._held} bytes",
            remedy="ask the vendor whether the file was copied whole, then run the command again",
        )

    def _where(self) -> str:
        return f"{self._transport.location}: {self._path}"


def _open(path: Path) -> BinaryIO:
    """A file for reading and writing, kept as it is."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o644), "r+b")
