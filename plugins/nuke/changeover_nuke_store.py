"""Where a session finds its generation: the store, the station, the pointer, the lease, the farm lock.

Only reading, one lease file, and short patience for what a network file system shows late. Every trouble is a
`StoreError` with one plain sentence. The store's file permissions are trusted: signatures were checked by the station
before anything came here. Left out: what the generation answers (`changeover_nuke_answers`).
"""

# ruff: noqa: PTH105, PTH107, PTH110, PTH113, PTH116, PTH123
# Importing pathlib would cost Nuke's start as much as all the rest of this.

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import sys
import time
from itertools import accumulate
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

from changeover_nuke_answers import Frozen, LockEntry, Release, model_path_problem

__all__ = [
    "LEASE_SECONDS",
    "Opened",
    "StoreError",
    "is_file",
    "open_generation",
    "read_lock",
    "short_host",
    "touch_lease",
]

LEASE_SECONDS = 3600.0
"""How often a session touches its lease."""

_PAUSES = (0.005, 0.01, 0.02, 0.04)
"""Seconds between the tries of a read that fails for the moment; together well under what an artist notices."""

_RENDER_PAUSES = (*_PAUSES, 0.08, 0.16, 0.32, 0.4)
"""The same where nobody waits at a window: about a second, since a failed render costs more."""

_PASSING = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, getattr(errno, "ESTALE", errno.ENOENT)})
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MAJOR = 1
_IN_USE = frozenset((5, 32))
"""What Windows says while a virus scanner or another reader has a file open: access denied, sharing violation."""
_T = TypeVar("_T")


class StoreError(Exception):
    """The store cannot be used; the text is one sentence for an artist."""


class Opened(NamedTuple):
    """A generation that this session keeps: the store's root, the generation's folder, its answers, the lease."""

    root: str
    folder: str
    frozen: Frozen
    lease: str


def open_generation(environ: Mapping[str, str], *, render: bool = False) -> Opened:
    """Find the store and the station, lease the generation that `current` names, and read it.

    The lease is written before the generation is read, so that whoever collects old generations sees it. A name that
    has vanished or gone stale is tried again: for 75 ms, or for a second where this is a `render` without windows.

    Raises:
        StoreError: There is no store, no station, no generation, or one of them cannot be read.
    """
    pauses = _RENDER_PAUSES if render else _PAUSES
    root = _patiently(lambda: _store_root(environ), pauses)
    station = _station(root, environ)
    folder = root + "/stations/" + station
    gone = f"the store {root} has no station {station}; run there: changeover update"
    _patiently(lambda: _need_folder(folder, gone), pauses)
    return _patiently(lambda: _open_current(root, folder), pauses)


def is_file(path: str, *, render: bool = False) -> bool:
    """Whether a file is there, tried again for a moment where it seems not to be, as in `open_generation`."""
    if os.path.isfile(path):
        return True
    for pause in _RENDER_PAUSES if render else _PAUSES:
        time.sleep(pause)
        if os.path.isfile(path):
            return True
    return False


def read_lock(environ: Mapping[str, str], *, render: bool = False) -> Optional[Tuple[LockEntry, ...]]:
    """The farm lock that ``CHANGEOVER_LOCK`` names; None where it is not set.

    Raises:
        StoreError: It is set and cannot be read: a lock is never passed over.
    """
    path = environ.get("CHANGEOVER_LOCK")
    if not path:
        return None
    try:
        body = _patiently(lambda: _read_json(path, "changeover.lock"), _RENDER_PAUSES if render else _PAUSES)
        return tuple(_lock_entry(line) for line in body["releases"])
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the farm lock {path} is not as expected ({_short(error)})") from error


def _lock_entry(line: Mapping[str, Any]) -> LockEntry:
    files = tuple((str(file["path"]), str(file["sha256"])) for file in line.get("files", ()))
    release = Release(str(line["model"]), str(line["version"]), str(line["digest"]))
    return LockEntry(release, line.get("node"), str(line.get("device", "any")), line.get("nuke_line"), files)


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
    _need_folder(root, f"the store {root} is not there; is the disk mounted? Models stay as they are")
    return root


def _need_folder(path: str, sentence: str) -> None:
    """Raise `sentence` if there is no such folder; one whose handle went stale may be back in a moment."""
    try:
        there = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise StoreError(sentence) from None
        raise StoreError(sentence) from error
    if not there:
        raise StoreError(sentence)


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
    try:
        frozen = _read_index(root, folder + "/resolve.jsonl") or Frozen(root, _read_json(path, "changeover.generation"))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise StoreError(f"{path} is not as expected ({_short(error)}); run: changeover status") from error
    return Opened(root, folder, frozen, lease)


class _Index:
    """``resolve.jsonl``: a line for each model, each parsed only when it is asked for.

    Raises:
        KeyError, TypeError, ValueError, StoreError: `data` is no index, or not a whole one.
    """

    def __init__(self, data: bytes, path: str) -> None:
        first = data.index(b"\n") + 1
        self.head: Mapping[str, Any] = json.loads(data[:first].decode("utf-8"))
        _check_schema(self.head, path, "changeover.resolve")
        ends = list(accumulate([first, *self.head["lengths"]]))
        if ends[-1] != len(data) or len(ends) != len(self.head["models"]) + 1:
            raise ValueError(path)
        self._data = data
        self._spans = dict(zip(self.head["models"], zip(ends, ends[1:])))

    def __call__(self, model: str) -> Mapping[str, Any]:
        """What the line of a model says."""
        start, end = self._spans[model]
        found: Mapping[str, Any] = json.loads(self._data[start:end].decode("utf-8"))
        return found


def _read_index(root: str, path: str) -> Optional[Frozen]:
    """The generation by its index; None where there is none that is whole: ``generation.json`` says all of it too."""
    try:
        with open(path, "rb") as stream:
            index = _Index(stream.read(), path)
        return Frozen(root, index.head, index)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StoreError):
        return None


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
        _replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(beside)
        return ""
    return path


def _replace(beside: str, path: str) -> None:
    """Put a file in its place; what somebody has open on Windows is tried again, and never removed first."""
    for pause in _PAUSES:
        try:
            os.replace(beside, path)
        except OSError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(pause)
        else:
            return
    os.replace(beside, path)


def _patiently(action: Callable[[], _T], pauses: Sequence[float]) -> _T:
    """Run a read again for a moment: on a network disk a replaced file can seem absent or stale for an instant."""
    errors: List[StoreError] = []
    for pause in (0.0, *pauses):
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
    lock = kind == "changeover.lock"
    try:
        with open(path, "rb") as stream:
            body = json.loads(stream.read().decode("utf-8"))
    except OSError as error:
        remedy = "correct CHANGEOVER_LOCK" if lock else "run: changeover update"
        raise StoreError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        remedy = "write the lock again" if lock else "run: changeover status"
        raise StoreError(f"{path} is damaged ({_short(error)}); {remedy}") from error
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
