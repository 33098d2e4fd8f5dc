"""Taking folders out of a store so that a reader sees each whole or not at all: renamed first, deleted afterwards.

A folder goes to ``staging/trash/<moment>~<unique>`` in one step. On a local disk it is deleted at once: whoever has a
file of it open keeps that file. On a share other hosts may know the old name for a minute, so it is deleted by a later
run. What cannot be deleted yet, since a host still has it open (``.nfs…``, ``.fuse_hidden…``), waits for the next run.
"""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from changeover_registry import _fs
from changeover_updater.store import Store

__all__ = ["SHARE_WAIT", "empty", "put_back", "take_out"]

SHARE_WAIT = timedelta(hours=1)
"""How long a folder of a share stays in the trash: far longer than hosts keep names that are gone (acdirmax, 60 s)."""

_MOMENT = "%Y%m%dT%H%M%SZ"
_STILL_OPEN = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ETXTBSY}


def take_out(store: Store, folder: Path, now: datetime) -> Path:
    """Rename a folder into the trash; returns where it is now.

    Raises:
        OSError: It is as it was.
    """
    trash = store.root / "staging" / "trash"
    _fs.make_dirs(trash)
    target = trash / f"{now.strftime(_MOMENT)}~{uuid.uuid4().hex[:12]}"
    _fs.rename_dir(folder, target)
    # What is deleted later must not come back, half, under its old name after a power cut.
    _fs.fsync_dir(folder.parent)
    return target


def put_back(trashed: Path, folder: Path) -> None:
    """Give a folder of the trash its name again; if somebody brought another in the meantime, that one stays."""
    with contextlib.suppress(FileExistsError):
        _fs.rename_dir(trashed, folder)
        _fs.fsync_dir(trashed.parent)


def empty(store: Store, now: datetime) -> tuple[int, int]:
    """Delete what is due in the trash; returns how many bytes went, and how many folders wait for a later run.

    Raises:
        OSError: The disk fails; what is left is deleted by the next run.
    """
    freed = 0
    for folder in _due(store, now):
        size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        if _delete(folder):
            freed += size
    return freed, len(_entries(store))


def _entries(store: Store) -> list[Path]:
    trash = store.root / "staging" / "trash"
    return sorted(trash.iterdir()) if trash.is_dir() else []


def _due(store: Store, now: datetime) -> Iterator[Path]:
    wait = SHARE_WAIT if store.is_share() else timedelta(0)
    for folder in _entries(store):
        with contextlib.suppress(ValueError):
            since = datetime.strptime(folder.name.partition("~")[0], _MOMENT).replace(tzinfo=UTC)
            # A moment to come was written by a clock that was wrong.
            if now - since >= wait or since > now:
                yield folder


def _delete(folder: Path) -> bool:
    """Delete as much as can be; whether all of it is gone."""
    for name, _, _ in os.walk(folder):
        Path(name).chmod(stat.S_IRWXU)
    for name, folders, files in os.walk(folder, topdown=False):
        for file in (*files, *(one for one in folders if Path(name, one).is_symlink())):
            _unless_open(Path(name, file).unlink)
        _unless_open(Path(name).rmdir)
    return not folder.exists()


def _unless_open(remove: Callable[[], None]) -> None:
    try:
        remove()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _STILL_OPEN:
            raise
