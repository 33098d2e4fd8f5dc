"""A repository in a folder: local, mounted, or on a disk that was carried here.

On a share a name that another host is replacing can vanish or go stale for a moment. The timestamp is the one file of a
repository that is ever replaced, so it alone is asked for again; for all others "not there" is an answer.
"""

import errno
import time
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from changeover_registry.errors import UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import CHUNK_BYTES, NotThereError, read_limited

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

    def stream(self, path: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        check_path(path, where=self.location)
        try:
            with self._open(path) as file:
                file.seek(offset)
                while piece := file.read(CHUNK_BYTES):
                    yield piece
        except OSError as error:
            raise self._unreachable(path, error) from error

    def _open(self, path: str) -> BinaryIO:
        again = {errno.ESTALE, errno.ENOENT} if path == _REPLACED and self._folder.is_dir() else {errno.ESTALE}
        for seconds in _RETRY_SECONDS:
            try:
                return (self._folder / path).open("rb")
            except OSError as error:
                if error.errno not in again:
                    raise
                time.sleep(seconds)
        return (self._folder / path).open("rb")

    def _unreachable(self, path: str, error: OSError) -> UnreachableError:
        there = self._folder.is_dir()
        kind = NotThereError if there and isinstance(error, FileNotFoundError) else UnreachableError
        return kind(
            "file" if there else "repository",
            where=str(self._folder / path if there else self._folder),
            expected="a file that can be read" if there else "a folder that can be read",
            actual=error.strerror or type(error).__name__,
            remedy="check the path, the mount and its permissions",
        )
