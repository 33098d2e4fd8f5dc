"""Where a session finds its generation: the store, the station, the pointer, the lease, the farm lock.

Only reading, one lease file, and short patience for what a network file system shows late. Every trouble is a
`StoreError` with one plain sentence. The store's file permissions are trusted: signatures were checked by the station
before anything came here. Left out: what the generation answers (`changeover_nuke_answers`).
"""

# ruff: noqa: PTH105, PTH110, PTH112, PTH123
# Importing pathlib would cost Nuke's start as much as all the rest of this.

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, TypeVar

from changeover_nuke_answers import Frozen, LockEntry, Release, model_path_problem

__all__ = [
    "LEASE_SECONDS",
    "Opened",
    "StoreError",
    "open_generation",
    "read_lock",
    "short_host",
    "touch_lease",
]

LEASE_SECONDS = 3600.0
"""How often a session touches its lease."""

_PAUSES = (0.005, 0.01, 0.02, 0.04)
"""Seconds between the tries of a read that fails for the moment; together well under what an artist notices."""

_PASSING = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, getattr(errno, "ESTALE", errno.ENOENT)})
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MAJOR = 1
_T = TypeVar("_T")


class StoreError(Exception):
    """The store cannot be used; the text is one sentence for an artist."""


class Opened(NamedTuple):
    """A generation that this session keeps: the store's root, the generation's folder, its answers, the lease."""

    root: str
    folder: str
    frozen: Frozen
    lease: str


def open_generation(environ: Mapping[str, str]) -> Opened:
    """Find the store and the station, lease the generation that `current` names, and read it.

    The lease is written before the generation is read, so that whoever collects old generations sees it.

    Raises:
        StoreError: There is no store, no station, no generation, or one of them cannot be read.
    """
    root = _store_root(environ)
    station = _station(root, environ)
    folder = root + "/stations/" + station
    if not os.path.isdir(folder):
        raise StoreError(f"the store {root} has no station {station}; run there: changeover update")
    return _patiently(lambda: _open_current(root, folder))


def read_lock(environ: Mapping[str, str]) -> Optional[Tuple[LockEntry, ...]]:
    """The farm lock that ``CHANGEOVER_LOCK`` names; None where it is not set.

    Raises:
        StoreError: It is set and cannot be read: a lock is never passed over.
    """
    path = environ.get("CHANGEOVER_LOCK")
    if not path:
        return None
    try:
        body = _patiently(lambda: _read_json(path, "changeover.lock"))
        return tuple(
            LockEntry(Release(str(line["model"]), str(line["version"]), str(line["digest"])), line.get("node"))
            for line in body["releases"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the farm lock {path} is not as expected ({_short(error)})") from error


def touch_lease(lease: str) -> None:
    """Say that this session still lives; it goes on if it cannot."""
    with contextlib.suppress(OSError):
        os.utime(lease, None)


def short_host() -> str:
    """This machine's name without its domain, in lower case."""
    if hasattr(os, "uname"):
        name = os.uname().nodename
    else:  # pragma: windows
        import socket  # Only Windows needs it, and it is slow to import.

        name = socket.gethostname()
    return name.partition(".")[0].lower()


def _store_root(environ: Mapping[str, str]) -> str:
    root = environ.get("CHANGEOVER_STORE") or _configured_store(environ)
    root = root.replace("\\", "/").rstrip("/")
    problem = model_path_problem(root)
    if problem:
        raise StoreError(problem)
    if not os.path.isdir(root):
        raise StoreError(f"the store {root} is not there; is the disk mounted? Models stay as they are")
    return root


def _configured_store(environ: Mapping[str, str]) -> str:
    path = environ.get("CHANGEOVER_NUKE_JSON") or _config_file(environ)
    if not os.path.exists(path):
        raise StoreError(f"no store is set: neither CHANGEOVER_STORE nor {path}; run: changeover init")
    store = _read_json(path, "changeover.nuke").get("store")
    if not isinstance(store, str) or not store:
        raise StoreError(f"{path} names no store; run: changeover init")
    return store


def _config_file(environ: Mapping[str, str]) -> str:
    if sys.platform == "win32":  # pragma: windows
        return environ.get("PROGRAMDATA", "C:/ProgramData") + "/changeover/nuke.json"
    return "/etc/changeover/nuke.json"


def _station(root: str, environ: Mapping[str, str]) -> str:
    host = short_host()
    name = environ.get("CHANGEOVER_STATION") or _station_by_host(root + "/stations/by-host/" + host) or host
    if _SAFE_NAME.fullmatch(name) is None:
        raise StoreError(f"{name!r} cannot be the name of a station")
    return name


def _station_by_host(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read(200).strip()
    except (OSError, ValueError):
        return ""


def _open_current(root: str, station_folder: str) -> Opened:
    current = _read_json(station_folder + "/current", "changeover.current")
    number = current.get("generation")
    if not isinstance(number, int):
        raise StoreError(f"{station_folder}/current names no generation; run: changeover update")
    lease = _write_lease(station_folder, number)
    folder = f"{station_folder}/generations/{number}"
    path = folder + "/generation.json"
    body = _read_json(path, "changeover.generation")
    try:
        return Opened(root, folder, Frozen(root, body), lease)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise StoreError(f"{path} is not as expected ({_short(error)}); run: changeover status") from error


def _write_lease(station_folder: str, number: int) -> str:
    """Write who reads this generation; an empty text where that is not allowed here."""
    host, pid = short_host(), os.getpid()
    path = f"{station_folder}/leases/{host}-{pid}.json"
    body: Dict[str, Any] = {
        "schema": "changeover.lease/1",
        "host": host,
        "pid": pid,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "generation": number,
    }
    beside = path + ".new"
    try:
        with open(beside, "w", encoding="utf-8") as stream:
            json.dump(body, stream, sort_keys=True)
        os.replace(beside, path)
    except OSError:
        return ""
    return path


def _patiently(action: Callable[[], _T]) -> _T:
    """Run a read again for a moment: on a network disk a replaced file can seem absent or stale for an instant."""
    errors: List[StoreError] = []
    for pause in (0.0, *_PAUSES):
        time.sleep(pause)
        try:
            return action()
        except StoreError as error:
            errors.append(error)
            if not _passes(error):
                break
    raise errors[-1]


def _passes(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, ValueError) or (isinstance(cause, OSError) and cause.errno in _PASSING)


def _read_json(path: str, kind: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as stream:
            body = json.loads(stream.read().decode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); run: changeover update") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({_short(error)}); run: changeover status") from error
    _check_schema(body, path, kind)
    found: Mapping[str, Any] = body
    return found


def _check_schema(body: object, path: str, kind: str) -> None:
    schema = str(body.get("schema")) if isinstance(body, dict) else "no object"
    name, _, major = schema.rpartition("/")
    if name != kind or not major.isdigit():
        raise StoreError(f"{path} is not a {kind} file ({schema})")
    if int(major) > _MAJOR:
        raise StoreError(f"{path} was written by a newer Changeover ({schema}); update the plug-in")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:120]
