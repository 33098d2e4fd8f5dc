"""A repository in memory: for trying things, and for situations that a disk or a network rarely offers."""

from collections.abc import Generator

from changeover_registry.errors import UnreachableError
from changeover_registry.transport.interface import NoRangesError, NotThereError, read_limited

__all__ = ["MemoryTransport"]


class MemoryTransport:
    """Answers from a mapping of paths to bytes.

    Situations are made by plain means: change `files`; set `reachable` to False; set ``cuts[path] = n`` to have the
    next stream of `path` break off before byte `n` of the file (once); set `ranged` to False for a side that gives
    whole files only.

    Args:
        files: The repository; the caller may change it at any time.
        location: The address that messages show.
        piece_bytes: The size of the pieces that a stream yields.
    """

    def __init__(self, files: dict[str, bytes], *, location: str = "memory:", piece_bytes: int = 65536) -> None:
        self.files = files
        self.reachable = True
        self.ranged = True
        self.cuts: dict[str, int] = {}
        self._location = location
        self._piece_bytes = piece_bytes

    @property
    def location(self) -> str:
        """The address that messages show."""
        return self._location

    def read(self, path: str, *, limit: int) -> bytes:
        """See `Transport.read`."""
        return read_limited(self, path, limit)

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        if not self.reachable:
            raise self._broken(UnreachableError, path, "no answer")
        if path not in self.files:
            raise self._broken(NotThereError, path, "nothing")
        if length is not None and not self.ranged:
            raise self._broken(NoRangesError, path, "the whole file")
        cut = self.cuts.pop(path, None)
        end = len(self.files[path]) if length is None else offset + length
        data = self.files[path][: end if cut is None else min(cut, end)]
        for start in range(offset, len(data), self._piece_bytes):
            yield data[start : start + self._piece_bytes]
        if cut is not None and cut < end:
            raise self._broken(UnreachableError, path, f"a connection cut at byte {cut}")

    def _broken(self, kind: type[UnreachableError], path: str, actual: str) -> UnreachableError:
        return kind(
            "file",
            where=f"{self._location} {path}",
            expected="a file that can be read",
            actual=actual,
            remedy="put the file into the mapping",
        )
