"""The staging folder of one variant: one process at a time, and what a killed one brought is gone on from.

The folder is named for the release and the variant, so that the next install finds it; a lock says whose it is. Whoever
finds it taken waits as long as the other one gets on, and takes a folder of its own after that: a process that is
stopped keeps nobody from installing. What nobody goes on with is removed after a week, or when the variant is there.
Left out: the bytes in it; they are hashed again by `Partial`.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from changeover_registry import _fs
from changeover_registry.errors import LostRaceError, TrustError
from changeover_registry.names import digest12
from changeover_registry.records.release import ReleaseRef
from changeover_updater.store import Store

__all__ = ["PATIENCE_SECONDS", "claimed", "held_bytes", "staging_folder", "sweep_claims"]

PATIENCE_SECONDS = 300.0
"""How long a folder that another process holds may stand still; a block of 4 MiB at the lowest rate takes 128 s."""
_KEPT_SECONDS = 7 * 24 * 3600
_POLL_SECONDS = 0.2
_NAME = re.compile(r"(?P<digest>[0-9a-f]{64})~(?P<variant>[^~]+)")
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def staging_folder(store: Store, ref: ReleaseRef, variant: str) -> Path:
    """Where the files of a variant are on their way."""
    return store.root / "staging" / f"{ref.digest}~{variant}"


@contextlib.contextmanager
def claimed(
    store: Store, ref: ReleaseRef, variant: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> Iterator[Path]:
    """The variant's staging folder for the length of the block, with what an earlier process left in it.

    It is removed at the end, and kept only where going on is of use: after a cut, a kill or an interruption. What has
    wrong bytes, and what fills a disk, goes.

    Raises:
        OSError: The store cannot be written.
    """
    folder = staging_folder(store, ref, variant)
    with contextlib.ExitStack() as stack:
        if not _taken(stack, store, folder, patience_seconds):
            yield stack.enter_context(store.staging())
            return
        _fs.make_dirs(folder)
        try:
            yield folder
        except BaseException as error:
            if isinstance(error, TrustError) or (isinstance(error, OSError) and error.errno in _FULL):
                _remove(folder)
            raise
        _remove(folder)


def held_bytes(store: Store, ref: ReleaseRef, variant: str) -> int:
    """How much of the disk the files of a variant take that are on their way."""
    return sum(_taken_bytes(path) for path in _inside(staging_folder(store, ref, variant)))


def sweep_claims(store: Store, *, now_seconds: float) -> int:
    """Remove folders of variants that are installed by now, or that nobody touched for a week; returns how many."""
    swept = 0
    for folder in sorted((store.root / "staging").iterdir()):
        match = _NAME.fullmatch(folder.name)
        if match is None or not (_is_installed(store, match) or now_seconds - _touched(folder) > _KEPT_SECONDS):
            continue
        with contextlib.suppress(LostRaceError), _fs.lock(_lock_path(store, folder), what="what was left in staging"):
            _remove(folder)
            swept += 1
    return swept


def _taken(stack: contextlib.ExitStack, store: Store, folder: Path, patience_seconds: float) -> bool:
    """Take the folder's lock; False when its holder stood still for too long."""
    path = _lock_path(store, folder)
    _fs.make_dirs(path.parent)
    seen, since = -1.0, time.monotonic()
    while True:
        try:
            stack.enter_context(_fs.lock(path, what=f"the download of {folder.name}", wait_seconds=_POLL_SECONDS))
        except LostRaceError:
            touched = _touched(folder)
            if touched != seen:
                seen, since = touched, time.monotonic()
            if time.monotonic() - since >= patience_seconds:
                return False
        else:
            return True


def _lock_path(store: Store, folder: Path) -> Path:
    """One of 256 files, never removed: a lock whose file may vanish is held by two."""
    return store.root / "locks" / sha256(folder.name.encode()).hexdigest()[:2]


def _is_installed(store: Store, match: re.Match[str]) -> bool:
    pattern = f"*/*/*-{digest12(match['digest'])}/{match['variant']}"
    return next((store.root / "releases").glob(pattern), None) is not None


def _touched(folder: Path) -> float:
    """When something in a folder changed last, in seconds since 1970; 0 where there is none."""
    return max((_mtime(path) for path in (folder, *_inside(folder))), default=0.0)


def _inside(folder: Path) -> Iterator[Path]:
    """All that is below a folder; one that another process removes meanwhile is empty, which `rglob` does not bear."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _taken_bytes(path: Path) -> int:
    """What a file takes of the disk: a partial may have holes."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    blocks: int = getattr(status, "st_blocks", -1)
    return status.st_size if blocks < 0 else min(status.st_size, blocks * 512)


def _remove(folder: Path) -> None:
    # A disk that fails now is met by the next sweep; it does not hide why the block ended.
    with contextlib.suppress(OSError):
        _fs.remove_tree(folder)
