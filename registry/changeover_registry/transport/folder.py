"""A repository in a folder: local, mounted, or on a disk that was carried here.

On a share a name that another host is replacing can vanish or go stale for a moment. The timestamp is the one file of a
repository that is ever replaced, so it alone is asked for again; for all others "not there" is an answer. What is no
regular file is not waited for: a pipe in a file's place has no end, and may have no beginning.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from changeover_registry.errors import UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import CHUNK_BYTES, NotThereError, bounded, read_limited

__all__ = ["FolderTransport"]

_RETRY_SECONDS = (0.01, 0.05, 0.1)
_REPLACED = "metadata/timestamp.json"


class FolderTransport:
    """Reads the files under one folder.

    Args:
        folder: The repository's root, which need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self._folder)

    def read(self, path: str, *, limit: int) -> bytes:
        """See `Transport.read`."""
        return read_limited(self, path, limit)

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        check_path(path, where=self.location)
        try:
            with contextlib.closing(self._pieces(path, offset)) as pieces:
                yield from bounded(pieces, 0, length)
        except OSError as error:
            raise self._unreachable(path, error) from error

    def _pieces(self, path: str, offset: int) -> Generator[bytes, None, None]:
        with self._opened(path) as handle:
            os.lseek(handle, offset, os.SEEK_SET)
            while piece := os.read(handle, CHUNK_BYTES):
                yield piece

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        handle = self._open(path)
        try:
            mode = os.fstat(handle).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "a pipe, socket or device")
            yield handle
        finally:
            os.close(handle)

    def _open(self, path: str) -> int:
        # Without O_NONBLOCK the mere opening of a pipe waits for somebody who writes to it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        again = {errno.ESTALE, errno.ENOENT} if path == _REPLACED and self._stands() else {errno.ESTALE}
        for seconds in _RETRY_SECONDS:
            try:
                return os.open(self._folder / path, flags)
            except OSError as error:
                if error.errno not in again:
                    raise
                time.sleep(seconds)
        return os.open(self._folder / path, flags)

    def _unreachable(self, path: str, error: OSError) -> UnreachableError:
        there = self._stands()
        kind = NotThereError if there and isinstance(error, FileNotFoundError) else UnreachableError
        return kind(
            "file" if there else "repository",
            where=str(self._folder / path if there else self._folder),
            expected="a file that can be read" if there else "a folder that can be read",
            actual=error.strerror or type(error).__name__,
            remedy="check the path, the mount and its permissions",
        )

    def _stands(self) -> bool:
        """Whether the folder is there; a mount whose other side is gone says neither yes nor no."""
        try:
            return self._folder.is_dir()
        except OSError:
            return False
