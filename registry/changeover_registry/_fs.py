"""The one place that knows how files are written so that a kill or a power cut leaves the old or the new, whole.

Order: write beside the target, flush and fsync the file, rename over the target, fsync the folder. Nothing is ever
overwritten in place, and nothing is a link. On Windows a virus scanner or a reader can hold a file for a moment: what
replaces, renames or removes is tried again for some seconds, and never done as a removal and then a rename, between
which there would be neither. A killed command can leave a file under its temporary name, which nobody reads;
`sweep_temporaries` takes those away. Left out: who may write where; that is the file system's own permission.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from changeover_registry._syncfs import sync_file_system
from changeover_registry.locks import lock

__all__ = [
    "fsync_dir",
    "fsync_file",
    "fsync_tree",
    "is_leftover",
    "lock",
    "make_dirs",
    "read_bytes_retry",
    "remove_tree",
    "rename_dir",
    "replace",
    "sweep_temporaries",
    "temporary_beside",
    "unlink",
    "write_atomic",
    "write_new",
]

_T = TypeVar("_T")
_RETRY_SECONDS = (0.01, 0.05, 0.1)
_HELD_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between the tries on a file that another process holds on Windows: four seconds in all."""

_HELD_ON_WINDOWS = {5, 32}
"""ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION: which of them comes depends on how the other one opened it."""

_SILLY_NAME = re.compile(r"\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+")
"""What NFS and FUSE rename a removed file to while somebody still has it open; it goes when it is closed."""

_MANY = 64
"""From so many files and folders on, one commit of the journal for all costs less than one for each."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
_STALE = {errno.ENOENT, errno.ESTALE}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`: a reader sees the old bytes or the new ones, whole, whatever happens.

    Raises:
        OSError: The disk is full, read-only or gone; `path` is as it was, or, where only the last sync failed, new.
    """
    beside = _write_beside(path, data, mode)
    try:
        replace(beside, path)
    except BaseException:
        _discard(beside)
        raise


def replace(source: Path, target: Path) -> None:
    """Give a file that was synced the name `target`, in one step and on the disk; a file that had it is replaced."""
    _while_held(lambda: source.replace(target))
    fsync_dir(target.parent)


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, which must not be there; of several at once exactly one succeeds.

    The complete file appears under its name in one step. It is linked there and the other name removed, since a rename
    would replace a winner's file; where the file system has no links, a rename under a lock stands in.

    Raises:
        FileExistsError: `path` is there already.
        OSError: The disk is full, read-only or gone.
    """
    beside = _write_beside(path, data, mode)
    try:
        _link_or_rename(beside, path)
    finally:
        _discard(beside)
    fsync_dir(path.parent)


def unlink(path: Path) -> None:
    """Remove a file and have that on the disk; nothing happens if it is not there."""
    _while_held(lambda: path.unlink(missing_ok=True))
    fsync_dir(path.parent)


def temporary_beside(path: Path) -> Path:
    """A unique name in the folder of `path`, hidden, for a file that will be renamed to it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def is_leftover(name: str) -> bool:
    """Whether a file of that name is one that nobody reads: half written, or removed while somebody had it open."""
    return _TEMPORARY.fullmatch(name) is not None or _SILLY_NAME.fullmatch(name) is not None


def sweep_temporaries(root: Path, *, older_seconds: float) -> tuple[Path, ...]:
    """Remove what killed commands left under temporary names below `root`; returns what was removed.

    Args:
        root: The folder; a name that is gone or cannot be removed is passed over.
        older_seconds: How long ago a file must have been written last. The one who writes it may be on another host,
            so that only its age tells: a live one is written and renamed within a moment.
    """
    before = time.time() - older_seconds
    swept = []
    for folder, _, files in os.walk(root):
        for name in filter(_TEMPORARY.fullmatch, files):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if path.stat().st_mtime <= before:
                    path.unlink()
                    swept.append(path)
    return tuple(swept)


def fsync_file(path: Path) -> None:
    """Have the bytes of `path` on the disk when this returns."""
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_dir(path: Path) -> None:
    """Have the names in the folder `path` on the disk when this returns (Windows has no such call)."""
    if sys.platform == "win32":  # pragma: windows
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Have every file and every name under `path` on the disk when this returns."""
    tree = list(os.walk(path, topdown=False))
    if sum(1 + len(files) for _, _, files in tree) > _MANY and sync_file_system(path):
        return
    for folder, _, files in tree:
        for name in files:
            fsync_file(Path(folder, name))
        fsync_dir(Path(folder))


def make_dirs(path: Path) -> None:
    """Make the folder `path` and those above it, each with its name on the disk; what is there is left.

    A file that was synced in a folder whose own name was not is lost in a power cut.

    Raises:
        FileExistsError: A file is in the way.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        fsync_dir(folder.parent)


def rename_dir(source: Path, target: Path) -> None:
    """Give the folder `source` the name `target`, which must not be there or be an empty folder.

    Raises:
        FileExistsError: `target` is there and holds something.
    """
    try:
        _while_held(lambda: source.rename(target))
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise
    fsync_dir(target.parent)


def remove_tree(path: Path) -> bool:
    """Remove a folder with read-only files in it; nothing happens if it is not there.

    Returns:
        Whether it is gone. It is not where somebody has a removed file of it open on NFS or FUSE, which keep such a
        file under a name of their own until it is closed: all else is gone then, and a later call takes the rest.
    """

    def unprotect_and_retry(remove: Callable[[str], object], name: str) -> None:
        Path(name).parent.chmod(stat.S_IRWXU)
        if not Path(name).is_symlink() and Path(name).exists():
            Path(name).chmod(stat.S_IRWXU)
        with contextlib.suppress(FileNotFoundError):
            _while_held(lambda: remove(name))

    def on_error(remove: Callable[[str], object], name: str, info: tuple[type, BaseException, object]) -> None:
        if not isinstance(info[1], FileNotFoundError) and not _holds_silly_names(Path(name)):
            unprotect_and_retry(remove, name)

    shutil.rmtree(path, onerror=on_error)
    return not path.exists()


def _holds_silly_names(path: Path) -> bool:
    """Whether this is such a file, or a folder in which nothing but such files is left."""
    if _SILLY_NAME.fullmatch(path.name):
        return True
    if path.is_symlink() or not path.is_dir():
        return False
    held = list(path.iterdir())
    return bool(held) and all(_holds_silly_names(inside) for inside in held)


def read_bytes_retry(path: Path) -> bytes:
    """Read a small file that another host may be replacing: a vanished or stale name is tried again for a moment.

    Raises:
        FileNotFoundError: The file is not there after all tries.
    """
    for seconds in _RETRY_SECONDS:
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno not in _STALE or not path.parent.is_dir():
                raise
            time.sleep(seconds)
    return path.read_bytes()


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = temporary_beside(path)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        _discard(beside)
        if isinstance(error, OSError) and error.filename is None:
            # The system names no file where a write fails, and whoever reads of a full disk has to know which.
            error.filename = str(path)
        raise
    return beside


def _discard(beside: Path) -> None:
    """Take a temporary file away if that can be done: what it stood for has happened, or has failed already."""
    with contextlib.suppress(OSError):
        _while_held(lambda: beside.unlink(missing_ok=True))


def _link_or_rename(beside: Path, path: Path) -> None:
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_if_new(beside, path)


def _rename_if_new(beside: Path, path: Path) -> None:
    """Rename where there are no links (SMB, some FUSE file systems); a lock decides among several writers."""
    with lock(path.with_name(f".{path.name}.lock"), what=str(path), wait_seconds=10):
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        _while_held(lambda: beside.replace(path))


def _while_held(action: Callable[[], _T]) -> _T:
    """Try again while another process holds the file, as it can on Windows; elsewhere no error has such a number."""
    for seconds in _HELD_SECONDS:
        try:
            return action()
        except OSError as error:
            if getattr(error, "winerror", None) not in _HELD_ON_WINDOWS:
                raise
            time.sleep(seconds)
    return action()
