"""A repository in a folder: local, mounted, or on a disk that was carried here."""

from collections.abc import Generator
from pathlib import Path

from changeover_registry.errors import UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import CHUNK_BYTES, NotThereError, read_limited

__all__ = ["FolderTransport"]


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
            with (self._folder / path).open("rb") as file:
                file.seek(offset)
                while piece := file.read(CHUNK_BYTES):
                    yield piece
        except OSError as error:
            raise self._unreachable(path, error) from error

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
