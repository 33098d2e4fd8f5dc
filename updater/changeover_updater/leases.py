"""Which sessions keep a generation: the leases that the plug-in leaves in ``stations/<id>/leases/``.

A lease lives while its file was touched within `LEASE_DAYS`, which a session does each hour. It ends before that only
where the process is known to be gone: it ran on this very host, the file was not touched for longer than a session can
leave it, and there is no such process, or one that began after the last touch. The silence is asked for because a
session in a container has this host's name and numbers of its own. A file that cannot be read is a lease on everything.
Anybody may write here, so a link is never followed, no more is read than a lease can have, and a touch in the future
counts from when it was made. Left out: what is done
about it (`gc`).
"""

import contextlib
import json
import os
import stat
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from changeover_registry.errors import ChangeoverError
from changeover_registry.locks import process_is_there
from changeover_registry.records.station import Lease
from changeover_updater.settings import short_host

__all__ = ["LEASE_DAYS", "SILENCE", "SessionLease", "read_leases", "sweep_leases"]

LEASE_DAYS = 14
"""How long after its last touch a lease still counts."""

SILENCE = timedelta(hours=2)
"""A session that lives has touched its lease within this time: twice what the plug-in takes."""

_LIMIT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SessionLease:
    """One lease file as it was found.

    `generation` is None where the file does not say it: then it may be any. `ended` says that its process is gone.
    """

    name: str
    touched: datetime
    host: str | None = None
    pid: int | None = None
    generation: int | None = None
    ended: bool = False

    def lives(self, now: datetime) -> bool:
        """Whether it keeps its generation at this moment."""
        return not self.ended and now - self.touched < timedelta(days=LEASE_DAYS)

    def keeps(self, number: int, now: datetime) -> bool:
        """Whether it keeps the generation of that number at this moment."""
        return self.lives(now) and self.generation in {None, number}

    def __str__(self) -> str:
        """For a person who asks why something is kept."""
        who = f"process {self.pid} on {self.host}" if self.pid else f"{self.name}, which cannot be read"
        return f"a session ({who})"


def read_leases(folder: Path, now: datetime) -> tuple[SessionLease, ...]:
    """Every lease of a station's folder ``leases``, by name; none where the folder is not there.

    Raises:
        OSError: The folder cannot be read, so that nobody knows who is in there.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return ()
    found = (_lease(folder / name, now) for name in names)
    return tuple(lease for lease in found if lease is not None)


def sweep_leases(folder: Path, leases: tuple[SessionLease, ...], now: datetime) -> int:
    """Remove the files of leases that live no more; returns how many. One that was touched meanwhile stays."""
    swept = 0
    for lease in leases:
        path = folder / lease.name
        if lease.lives(now):
            continue
        with contextlib.suppress(OSError):
            if _touched(path, now) == lease.touched:
                path.unlink()
                swept += 1
    return swept


def _lease(path: Path, now: datetime) -> SessionLease | None:
    try:
        touched = _touched(path, now)
    except FileNotFoundError:
        return None
    try:
        lease = Lease.from_object(_body(path), where=str(path))
    except (ChangeoverError, OSError, TypeError, ValueError, RecursionError):
        return SessionLease(path.name, touched)
    ended = lease.host == short_host() and now - touched > SILENCE and _has_ended(lease.pid, touched)
    return SessionLease(path.name, touched, lease.host, lease.pid, lease.generation, ended)


def _touched(path: Path, now: datetime) -> datetime:
    """When a session touched it last. Anybody can set that to a moment to come; when it was set, the system says."""
    found = path.lstat()
    touched = datetime.fromtimestamp(found.st_mtime, UTC)
    if touched <= now or sys.platform == "win32":  # Windows has the moment of creation in place of that of the change.
        return touched
    return min(touched, datetime.fromtimestamp(found.st_ctime, UTC))


def _body(path: Path) -> dict[str, Any]:
    """What the file says; the plug-in writes plain JSON, not our canonical form."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            message = f"{path} is no file"
            raise ValueError(message)
        return dict(json.loads(os.read(handle, _LIMIT_BYTES)))
    finally:
        os.close(handle)


def _has_ended(pid: int, touched: datetime) -> bool:
    if not process_is_there(pid):
        return True
    began = _began(pid)
    return began is not None and began > touched + timedelta(minutes=1)


def _began(pid: int) -> datetime | None:
    """When a process of this host began, where the system says it; a number is given again after its process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        ticks = int(after_name.split()[19])
        booted = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()
            if line.startswith("btime ")
        )
        return datetime.fromtimestamp(booted + ticks / os.sysconf("SC_CLK_TCK"), UTC)
    except (OSError, ValueError, IndexError, StopIteration, AttributeError):
        return None
