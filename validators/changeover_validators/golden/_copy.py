"""Copying a frame into a shot: a plain file, whole, its blocks shared where the file system can."""

import os
import shutil
import sys
from pathlib import Path

from changeover_registry.errors import InvalidInputError

__all__ = ["copy_file"]


def copy_file(source: Path, target: Path) -> None:
    """Copy a plain file; what a link points at is copied, never the link.

    Raises:
        InvalidInputError: There is no such file, it is a pipe or a device, or somebody is writing to it.
        OSError: The disk is full or read-only.
    """
    if not source.is_file():
        raise _refused(source, "an image file", "a pipe, a device or a folder" if source.exists() else "no file")
    target.parent.mkdir(exist_ok=True)
    before = source.stat()
    if not _reflink(source, target):
        shutil.copyfile(source, target)
    if _state(source.stat()) != _state(before):
        raise _refused(source, "a file that nobody is writing", "one that changed while it was copied")


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _reflink(source: Path, target: Path) -> bool:
    """Share blocks between two files; False where the file system, or this system, has no such thing."""
    if sys.platform != "linux":  # pragma: windows
        return False
    import fcntl  # The module exists on POSIX alone.

    ficlone = 0x40049409
    with source.open("rb") as old, target.open("wb") as fresh:
        try:
            fcntl.ioctl(fresh, ficlone, old.fileno())
        except OSError:
            return False
    return True


def _refused(source: Path, expected: str, actual: str) -> InvalidInputError:
    remedy = "wait until it is written, or name another"
    return InvalidInputError("image", where=str(source), expected=expected, actual=actual, remedy=remedy)
