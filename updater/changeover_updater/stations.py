"""What the stations of a site report of themselves: listed cheaply, read in parallel, believed by nobody.

Every host writes its own ``stations/<id>/status.json`` and may write anything there, so each file is opened as one that
a stranger made: no link is followed, no pipe is waited for, no more is read than a status can have. What holds no
status of the station that it lies under is told as such, and never keeps the others from being read. Left out: what
the reports mean together (`fleet_stations`, `rollout`).
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.station import StationStatus
from changeover_updater.site import Site
from changeover_updater.station import check_station_id

__all__ = ["LIMIT_BYTES", "LIMIT_STATIONS", "Unread", "iter_statuses", "read_statuses", "station_names"]

LIMIT_BYTES = 256 * 1024
"""What no status is larger than; one with the facts of eight GPUs and forty releases has 20 kB."""
LIMIT_STATIONS = 20_000
"""How many statuses are read at most unless more are asked for."""
_AHEAD = timedelta(minutes=15)
"""How far the clocks of two hosts of one studio may be apart."""
_THREADS = 16
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Unread:
    """A station whose report counts for nothing, and why, in one line."""

    station: str
    why: str


def station_names(site: Site) -> tuple[str, ...]:
    """The stations that have a folder in the site, by name; no report is opened."""
    try:
        with os.scandir(site.root / "stations") as entries:
            return tuple(sorted(entry.name for entry in entries if _is_station(entry)))
    except FileNotFoundError:
        return ()


def iter_statuses(
    site: Site,
    names: Iterable[str] | None = None,
    *,
    limit: int = LIMIT_STATIONS,
    now: datetime | None = None,
) -> Iterator[StationStatus | Unread]:
    """The report of each station, in the order of the names, a few hundred in memory at a time.

    A station that never reported is left out. Of more than `limit` stations the same ones are read each time, by the
    hash of their names. With `now`, a report from the future is one that counts for nothing.
    """
    wanted = iter(_sample(station_names(site) if names is None else tuple(names), limit))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="stations") as pool:
        while chunk := tuple(islice(wanted, _CHUNK)):
            for name, data in zip(chunk, pool.map(lambda name: _bytes(site, name), chunk), strict=True):
                if data is not None:
                    yield _status(name, data, now)


def read_statuses(
    site: Site,
    names: Iterable[str] | None = None,
    limit: int = LIMIT_STATIONS,
    now: datetime | None = None,
) -> tuple[StationStatus, ...]:
    """The reports that can be read, in the order of the names; see `iter_statuses`. Nobody vouches for any of them."""
    found = iter_statuses(site, names, limit=limit, now=now)
    return tuple(status for status in found if isinstance(status, StationStatus))


def _is_station(entry: "os.DirEntry[str]") -> bool:
    try:
        check_station_id(entry.name)
        return entry.is_dir(follow_symlinks=False)
    except (InvalidInputError, OSError):
        return False


def _sample(names: tuple[str, ...], limit: int) -> tuple[str, ...]:
    if len(names) <= limit:
        return names
    chosen = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[: max(limit, 0)]
    return tuple(sorted(chosen))


def _bytes(site: Site, name: str) -> bytes | Unread | None:
    """The bytes of a report; None where the station has none."""
    try:
        check_station_id(name)
        return _small_file(site.root / "stations" / name / "status.json")
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unread(name, f"its report cannot be read: {error.strerror or error}")
    except ValueError as error:
        return Unread(name, str(error))
    except InvalidInputError:
        return Unread(name, "no name of a station")


def _small_file(path: Path) -> bytes:
    # Without O_NONBLOCK a pipe of that name would be waited for, for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            message = "its report is no file"
            raise ValueError(message)
        data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        message = f"its report is larger than {LIMIT_BYTES} bytes"
        raise ValueError(message)
    return data


def _status(name: str, data: bytes | Unread, now: datetime | None) -> StationStatus | Unread:
    if isinstance(data, Unread):
        return data
    try:
        # Nothing is signed here, so whether the bytes are canonical does not matter, and finding out is half the time.
        status = StationStatus.from_object(json.loads(data), where=f"stations/{name}/status.json")
    except ChangeoverError as error:
        return Unread(name, str(error))
    except (ValueError, RecursionError):
        return Unread(name, "its report is no JSON")
    why = _doubt(status, name, now)
    return status if why is None else Unread(name, why)


def _doubt(status: StationStatus, name: str, now: datetime | None) -> str | None:
    """Why a report cannot be so, if it cannot."""
    if status.station != name:
        return f"its report names another station, {status.station}"
    if now is not None and status.reported_at > format_time(now + _AHEAD):
        return f"its report is from the future, {status.reported_at}"
    if any(tried.when > status.reported_at for tried in status.tried or ()):
        return f"its report tells of what comes after it, {status.reported_at}"
    return None
