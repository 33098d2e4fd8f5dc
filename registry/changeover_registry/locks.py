"""Locks between processes and hosts: one holder at a time, named to whoever has to wait, free when the holder dies.

The kernel's `flock` is the lock; it is freed with its holder, and NFS carries it to the server. Where a file system has
none, marker files stand in: ``<lock>.held.<n>``, of which the one with the highest number counts. Each is created
exclusively, touched while it is held, marked when it is free, and passed over once its process is gone from this host
or it was not touched for a minute. Their age is told by the file system's own clock, since hosts disagree. Left out:
who may lock what, and a holder that sleeps through that minute and goes on; only markers have that weakness.
"""

import contextlib
import errno
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.clock import format_time, now
from changeover_registry.errors import LostRaceError

__all__ = ["EXPIRY_SECONDS", "Owner", "lock"]

EXPIRY_SECONDS = 60.0
"""How long a marker that nobody touches still counts."""

_TOUCH_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_FREE = b"free\n"
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock: the process, its host, since when, and for what."""

    pid: int
    host: str
    since: str
    what: str

    @classmethod
    def me(cls, what: str) -> "Owner":
        """This process, from this moment on."""
        return cls(os.getpid(), platform.node() or "localhost", format_time(now()), " ".join(what.split()))

    @classmethod
    def parse(cls, data: bytes) -> "Owner | None":
        """Read what `line` wrote; None where it is anything else, such as half a line."""
        parts = data.decode(errors="replace").split(maxsplit=3)
        if len(parts) < 3 or not parts[0].isdecimal() or not data.endswith(b"\n"):
            return None
        return cls(int(parts[0]), parts[1], parts[2], parts[3].strip() if len(parts) > 3 else "")

    def line(self) -> bytes:
        """One line for the lock's file."""
        return f"{self.pid} {self.host} {self.since} {self.what}\n".encode()

    def __str__(self) -> str:
        """For a message to whoever waits."""
        return f"process {self.pid} holding the lock, on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """Whether it ran on this very host and has ended; of another host nobody can tell."""
        return self.host == (platform.node() or "localhost") and not process_is_there(self.pid)


@contextlib.contextmanager
def lock(path: Path, *, what: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block; it is free again when the holder ends or dies.

    Raises:
        LostRaceError: Somebody else holds it, for longer than `wait_seconds`; the message says who and since when.
        OSError: The lock file cannot be made.
    """
    # A link in its place would have this empty a file that somebody else chose.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        release = _take(handle, path, Owner.me(what), time.monotonic() + wait_seconds)
        try:
            yield
        finally:
            release()
    finally:
        os.close(handle)


def process_is_there(pid: int) -> bool:
    """Whether a process of that number runs on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _take(handle: int, path: Path, owner: Owner, deadline: float) -> Callable[[], None]:
    """Take the lock, and answer with what frees it."""
    while (release := _try(handle, path, owner)) is None:
        if time.monotonic() >= deadline:
            raise LostRaceError(
                "lock",
                where=str(path),
                expected=f"nobody else working on {owner.what}",
                actual=_holder(handle, path),
                remedy="wait until it has ended and run the command again",
            )
        time.sleep(_PAUSE_SECONDS)
    return release


def _try(handle: int, path: Path, owner: Owner) -> Callable[[], None] | None:
    try:
        if not _try_lock(handle):
            return None
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return _try_marker(handle, path, owner)
    # Who holds it is told as a courtesy: a full disk is no reason to lock a person out of the way back.
    with contextlib.suppress(OSError):
        os.truncate(handle, 0)
        os.pwrite(handle, owner.line(), 0)
    return lambda: _empty(handle)


def _empty(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.truncate(handle, 0)


def _holder(handle: int, path: Path) -> str:
    marker = max(_markers(path), default=None)
    data = os.pread(handle, 500, 0) if marker is None else _read(marker[1])
    return str(Owner.parse(data) or "another process holding the lock")


def _try_lock(handle: int) -> bool:
    if sys.platform == "win32":  # pragma: windows
        import msvcrt  # The module exists on Windows alone.

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl  # The module exists on POSIX alone.

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_marker(handle: int, path: Path, owner: Owner) -> Callable[[], None] | None:
    """Create the marker after the highest, if that one does not count any more."""
    number, top = max(_markers(path), default=(0, None))
    if top is not None and not _is_free(handle, top):
        return None
    mine = path.with_name(f"{path.name}.held.{number + 1}")
    try:
        _create(mine, owner.line())
    except FileExistsError:
        return None
    newest = max(_markers(path), default=(number + 1, mine))
    if newest[0] != number + 1:
        # Others went on, and cleaned up, since this one looked.
        mine.unlink(missing_ok=True)
        return None
    for other, left in _markers(path):
        if other < number + 1:
            left.unlink(missing_ok=True)
    return _keep_touching(mine)


def _create(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def _keep_touching(marker: Path) -> Callable[[], None]:
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(_TOUCH_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(marker)

    def release() -> None:
        ended.set()
        # The marker stays: its number must not be given again while a slow reader still knows it.
        with contextlib.suppress(FileNotFoundError):
            marker.write_bytes(_FREE)

    threading.Thread(target=touch, name="changeover-lock", daemon=True).start()
    return release


def _markers(path: Path) -> list[tuple[int, Path]]:
    prefix = f"{path.name}.held."
    found = [p for p in path.parent.iterdir() if p.name.startswith(prefix) and p.name.removeprefix(prefix).isdecimal()]
    return [(int(marker.name.removeprefix(prefix)), marker) for marker in found]


def _is_free(handle: int, marker: Path) -> bool:
    """Whether a marker was given back, or its holder is gone; one that is being written counts as held."""
    os.utime(handle)
    try:
        told, status = _read(marker), marker.stat()
    except FileNotFoundError:
        return False
    age = os.fstat(handle).st_mtime - status.st_mtime
    owner = Owner.parse(told)
    return told == _FREE or age > EXPIRY_SECONDS or (owner is not None and owner.is_gone())


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(500)
