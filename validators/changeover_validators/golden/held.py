"""One file, read once: what is hashed is what is decoded, whoever writes to the file meanwhile.

The bytes go into a file in memory, where libraries that want a path open them without Python's lock. Only a plain file
is read: a pipe or a device that somebody planted in a sequence is refused, and nobody waits for it. A system without
files in memory gets a temporary one. Left out: what the bytes mean (`images`).
"""

import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import InvalidInputError

__all__ = ["MAX_BYTES", "Held", "held"]

MAX_BYTES = 2**32
"""A file above this is no frame: 16384 x 16384 float RGBA take as much without compression."""

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Held:
    """The bytes of a file.

    Attributes:
        path: Where they came from, for messages.
        at: Where a library may open them, while they are held.
        sha256: Their digest.
    """

    path: Path
    at: str
    sha256: str


@contextmanager
def held(path: Path) -> Iterator[Held]:
    """Read all of `path` and keep it until the end of the block.

    Raises:
        InvalidInputError: There is no such file, it is no plain file, or it is larger than any frame.
        OSError: The disk failed, or there is no room for the copy.
    """
    with _opened(path) as source, _room() as (copy, at):
        yield Held(path, at, _transfer(path, source, copy))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a plain file; a pipe without a writer would make everybody wait, so nobody waits to open."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        source = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _refused(path, "no file") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "a link to itself") from error
        if path.is_dir():  # pragma: windows
            raise _refused(path, "a folder") from error
        raise
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device")
        if found.st_size > MAX_BYTES:
            raise _refused(path, f"{found.st_size} bytes", f"at most {MAX_BYTES} bytes")
        yield source
    finally:
        os.close(source)


@contextmanager
def _room() -> Iterator[tuple[int, str]]:
    """An empty file to write to, and the name by which it can be opened; gone at the end."""
    if sys.platform == "linux" and os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - asked for each frame
        copy = os.memfd_create("changeover-frame", os.MFD_CLOEXEC)
        try:
            yield copy, f"/proc/self/fd/{copy}"
        finally:
            os.close(copy)
    else:  # pragma: windows
        with tempfile.TemporaryDirectory() as folder:
            at = str(Path(folder, "frame"))
            copy = os.open(at, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            try:
                yield copy, at
            finally:
                os.close(copy)


def _transfer(path: Path, source: int, copy: int) -> str:
    """Copy block by block; return the digest of what was copied."""
    digest, block, size = hashlib.sha256(), memoryview(bytearray(_BLOCK)), 0
    with os.fdopen(source, "rb", buffering=0, closefd=False) as file:
        while count := file.readinto(block):
            size += count
            if size > MAX_BYTES:
                raise _refused(path, "one that goes on growing", f"at most {MAX_BYTES} bytes")
            digest.update(block[:count])
            _write(copy, block[:count])
    return digest.hexdigest()


def _write(copy: int, data: memoryview) -> None:
    while data:
        data = data[os.write(copy, data) :]


def _refused(path: Path, actual: str, expected: str = "an image file") -> InvalidInputError:
    return InvalidInputError(
        "image", where=str(path), expected=expected, actual=actual, remedy="bring the file back, or name another"
    )
