"""Places that studios read and a vendor fills: a folder, a bucket of S3, memory; one small port and `open_place`.

Rules: a file appears under its name whole or not at all; nothing is ever removed; whoever puts a file reads it again
and compares, since no store's own word (checksum, conditional write) is relied on. `Place` is a `Transport` that also
takes files in. Left out: what is put and in which order (`repository.outlet`), and S3 itself (`s3`).
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from changeover_registry._fs import fsync_file, make_dirs, replace, temporary_beside, write_atomic
from changeover_registry.errors import InvalidInputError, UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.folder import FolderTransport
from changeover_registry.transport.interface import NotThereError, Transport, split_location
from changeover_registry.transport.memory import MemoryTransport

__all__ = ["FolderPlace", "MemoryPlace", "Place", "open_place"]

Told = Callable[[int], None]
"""Called with the number of bytes that have gone since it was called last."""


class Place(Transport, Protocol):
    """A repository that can be read, and filled."""

    def find(self, path: str, *, limit: int) -> bytes | None:
        """As `read`; None where no such file is there."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Have `data` at `path`, whole or not at all; what was there is replaced.

        Raises:
            UnreachableError: The place does not answer, or does not take it.
        """
        ...

    def put_file(self, path: str, source: Path, told: Told) -> None:
        """As `put`, for a file of any size.

        Raises:
            UnreachableError: As `put`.
            OSError: `source` cannot be read.
        """
        ...

    def names(self) -> tuple[str, ...]:
        """Some of the names at the top, sorted; none in a place that holds nothing.

        Raises:
            UnreachableError: The place does not answer, or does not tell.
        """
        ...


def open_place(location: str) -> Place:
    """The place at an address: a folder's path, ``file://`` or ``s3://``.

    Raises:
        InvalidInputError: Places with that scheme can only be read.
    """
    parts = split_location(location)
    if parts.scheme == "s3":
        # boto3 costs most of a second at import, and comes with the extra s3 alone.
        from changeover_registry.transport.s3 import S3Place

        return S3Place(location)
    if parts.scheme == "file":
        # The module brings the whole of http.client with it.
        from urllib.request import url2pathname

        return FolderPlace(Path(url2pathname(parts.path)))
    if "://" in location:
        raise InvalidInputError(
            "place",
            where=location,
            expected="a folder, file:// or s3://, which can be filled",
            actual=f"{parts.scheme}://",
            remedy="name the folder or the bucket that the web server serves",
        )
    return FolderPlace(Path(os.path.expandvars(location)).expanduser())


class FolderPlace(FolderTransport):
    """A folder, local or mounted. It is made where the folder above it is there: else a mount may be missing."""

    def find(self, path: str, *, limit: int) -> bytes | None:
        """See `Place.find`."""
        if not self._is_there():
            return None
        try:
            return self.read(path, limit=limit)
        except NotThereError:
            return None

    def put(self, path: str, data: bytes) -> None:
        """See `Place.put`."""
        target = self._target(path)
        try:
            make_dirs(target.parent)
            write_atomic(target, data)
        except OSError as error:
            raise self._not_taken(target, error) from error

    def put_file(self, path: str, source: Path, told: Told) -> None:
        """See `Place.put_file`."""
        target = self._target(path)
        with source.open("rb") as file:
            try:
                make_dirs(target.parent)
                beside = temporary_beside(target)
                try:
                    with beside.open("xb") as copy:
                        shutil.copyfileobj(file, copy, 1 << 20)
                    fsync_file(beside)
                    replace(beside, target)
                finally:
                    beside.unlink(missing_ok=True)
            except OSError as error:
                raise self._not_taken(target, error) from error
        told(source.stat().st_size)

    def names(self) -> tuple[str, ...]:
        """See `Place.names`; what a killed writer left under a hidden name is no name."""
        if not self._is_there():
            return ()
        try:
            return tuple(sorted(path.name for path in self._folder.iterdir() if not path.name.startswith(".")))
        except OSError as error:
            raise self._not_taken(self._folder, error) from error

    def _unreachable(self, path: str, error: OSError) -> UnreachableError:
        """In a folder that is still to be made nothing is there."""
        found = super()._unreachable(path, error)
        if isinstance(found, NotThereError) or self._is_there():
            return found
        return NotThereError(
            found.rule, where=found.where, expected=found.expected, actual=found.actual, remedy=found.remedy
        )

    def _target(self, path: str) -> Path:
        self._is_there()
        return self._folder / check_path(path, where=self.location)

    def _is_there(self) -> bool:
        actual = "no folder"
        try:
            if self._folder.is_dir():
                return True
            if self._folder.parent.is_dir() and not self._folder.exists():
                return False
        except OSError as error:
            # A mount whose other side is gone, or a folder that this account may not enter.
            actual = error.strerror or type(error).__name__
        raise UnreachableError(
            "place",
            where=self.location,
            expected="a folder, or a folder to make it in",
            actual=actual,
            remedy="mount the disk or make the folder above it, then run: changeover vendor carry",
        )

    def _not_taken(self, target: Path, error: OSError) -> UnreachableError:
        return UnreachableError(
            "place",
            where=str(target),
            expected="a file that is taken in",
            actual=error.strerror or type(error).__name__,
            remedy="free space, or mend the mount or its permissions, then run: changeover vendor carry",
        )


class MemoryPlace(MemoryTransport):
    """A place in memory. `puts_left` is after how many files it stops answering; None for never."""

    puts_left: int | None = None

    def find(self, path: str, *, limit: int) -> bytes | None:
        """See `Place.find`."""
        try:
            return self.read(path, limit=limit)
        except NotThereError:
            return None

    def put(self, path: str, data: bytes) -> None:
        """See `Place.put`."""
        if self.puts_left == 0:
            self.reachable = False
        if not self.reachable:
            raise self._broken(UnreachableError, path, "no answer")
        self.files[path] = data
        if self.puts_left is not None:
            self.puts_left -= 1

    def put_file(self, path: str, source: Path, told: Told) -> None:
        """See `Place.put_file`."""
        data = source.read_bytes()
        self.put(path, data)
        told(len(data))

    def names(self) -> tuple[str, ...]:
        """See `Place.names`."""
        if not self.reachable:
            raise self._broken(UnreachableError, "", "no answer")
        return tuple(sorted({path.partition("/")[0] for path in self.files}))
