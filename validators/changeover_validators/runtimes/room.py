"""The room that parent and child share: one nameless file in memory, through which planes go in and a matte comes out.

The parent writes and reads it by `pwrite` and `preadv` and never maps it, so a child that cuts the file short makes a
short read and not a bus error, and what the parent judges is a copy that the child cannot change any more. The child
maps it, and has an opening of its own: who shares an opening shares its flags, and a child that sets O_APPEND would
turn every write of the parent into growth that nobody watches. It is the child's only descriptor beside its pipes,
holds nothing but this child's own frames, and may not be made larger by the child than `limits.FILE_BYTES` or what the
parent made it. Where the system has no such files (`has_rooms`) planes and mattes go through the pipe. Importable
without numpy.
"""

import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ["Room", "Shelf", "has_rooms"]


def has_rooms() -> bool:
    """Whether this system has nameless files in memory that a child inherits."""
    return sys.platform == "linux" and hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


class Room:
    """The parent's side. It only ever grows, so that what a child has mapped stays there."""

    def __init__(self) -> None:
        self._file: BinaryIO = os.fdopen(os.memfd_create("changeover-planes", os.MFD_CLOEXEC), "r+b", buffering=0)
        # The child inherits this one by name of subprocess' pass_fds; nobody else does.
        self._lent = os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDWR | os.O_CLOEXEC)
        self._bytes = 0

    @property
    def descriptor(self) -> int:
        """The number under which the child has it too; the parent itself uses another."""
        return self._lent

    def put(self, blobs: Sequence[memoryview], more_bytes: int) -> int:
        """Lay `blobs` side by side from the start, with room for `more_bytes` behind them; answers the bytes of both.

        Raises:
            OSError: There is no memory for it.
        """
        views = [blob.cast("B") for blob in blobs]
        need = sum(view.nbytes for view in views) + more_bytes
        if need > self._bytes:
            os.truncate(self._file.fileno(), need)
            self._bytes = need
        at = 0
        for view in views:
            _write(self._file.fileno(), view, at)
            at += view.nbytes
        return need

    def take(self, into: memoryview, at: int) -> bool:
        """Copy what lies from byte `at` on into `into`; False where the child has cut it short."""
        view, done = into.cast("B"), 0
        while done < view.nbytes:
            got = os.preadv(self._file.fileno(), [view[done:]], at + done)
            if got == 0:
                return False
            done += got
        return True

    def close(self) -> None:
        """Give the memory back as soon as the child has ended too."""
        os.close(self._lent)
        self._file.close()


class Shelf:
    """The child's side: the same file, mapped; mapped anew where the parent has made it larger."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._map = descriptor, memoryview(b"")

    def reach(self, count_bytes: int) -> memoryview:
        """The first `count_bytes` bytes, to read and to write.

        Raises:
            OSError: The parent has lent none, or one that is smaller.
        """
        if len(self._map) < count_bytes:
            self._map = memoryview(mmap.mmap(self._descriptor, count_bytes))
        return self._map[:count_bytes]


def _write(descriptor: int, view: memoryview, at: int) -> None:
    """All of it; one call takes at most 2 GiB."""
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done:], at + done)
