"""A station: one host's `current`, its generations, its lock, its hold and its events.

The pointer is a small file that is replaced in one step; a generation is a folder that is renamed into place and never
changed. Who may do what next is decided elsewhere; here is only how it is written so that a kill leaves the old or
the new.
"""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from changeover_registry import _fs, chain
from changeover_registry.errors import ChangeoverError, InvalidInputError, RefusedError
from changeover_registry.names import check_path
from changeover_registry.records.base import Record
from changeover_registry.records.station import Current, Event, Generation, Hold, Quarantine
from changeover_updater.store import Store

if TYPE_CHECKING:
    from changeover_registry.records.facts import HostFacts

__all__ = ["BY_HOST", "Station", "check_station_id"]

BY_HOST = "by-host"
"""The folder beside the stations in which a host finds the name of its own, where that is not the host's."""

_R = TypeVar("_R", bound=Record)
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def check_station_id(text: str) -> str:
    """Return `text` if it may name a station: one folder of the store on every system, and no other's.

    Raises:
        InvalidInputError: It climbs, is hidden, is a device of Windows, or is the folder `BY_HOST`.
    """
    try:
        good = _ID.fullmatch(check_path(text, where="station")) is not None and text.lower() != BY_HOST
    except InvalidInputError:
        good = False
    if not good:
        raise InvalidInputError(
            "station",
            where="--station, CHANGEOVER_STATION or host.toml",
            expected=f"1 to 100 characters of A-Z a-z 0-9 . _ -, not starting with . or -, not {BY_HOST}",
            actual=repr(text),
            remedy="choose another name for the station",
        )
    return text


@dataclass(frozen=True, slots=True)
class Station:
    """One station of a store.

    Raises:
        InvalidInputError: `id` cannot be the name of a station.
    """

    store: Store
    id: str

    def __post_init__(self) -> None:
        """Refuse a name that would lead out of the folder of stations."""
        check_station_id(self.id)

    @property
    def folder(self) -> Path:
        """``stations/<id>``."""
        return self.store.root / "stations" / self.id

    def create(self) -> None:
        """Make the station's folders; nothing happens if they are there."""
        for name in ("generations", "events", "leases", "trust"):
            _fs.make_dirs(self.folder / name)
        # Sessions of any user leave a lease, and nobody takes another's away. Whoever does not own it leaves it so.
        with contextlib.suppress(PermissionError):
            (self.folder / "leases").chmod(0o1777)

    def need(self) -> "Station":
        """This station.

        Raises:
            InvalidInputError: It was never made.
        """
        if not (self.folder / "generations").is_dir():
            known = sorted(path.name for path in (self.store.root / "stations").iterdir() if path.name != BY_HOST)
            raise InvalidInputError(
                "station",
                where=str(self.folder),
                expected="a station of this store" + (f", one of {', '.join(known)}" if known else ""),
                actual="no such folder",
                remedy="give --station ID, or make it with: changeover init",
            )
        return self

    def lock(self) -> AbstractContextManager[None]:
        """Hold the station for the length of a block; `LostRaceError` if somebody else does."""
        return _fs.lock(self.folder / "lock", what=f"station {self.id}", wait_seconds=2)

    def current(self) -> int | None:
        """The number of the generation in use, or None before the first changeover.

        Raises:
            InvalidInputError: The pointer was damaged.
        """
        try:
            pointer = _read(self.folder / "current", Current, replaced=bool(self.numbers()))
        except InvalidInputError as error:
            raise InvalidInputError(
                "pointer",
                where=str(self.folder / "current"),
                expected="the number of a generation",
                actual="bytes that are no record of one",
                remedy="point it at a generation that is kept: changeover rollback --to N",
            ) from error
        return None if pointer is None else pointer.generation

    def generation(self, number: int) -> Generation:
        """A generation by its number.

        Raises:
            RefusedError: It is not there.
        """
        path = self.folder / "generations" / str(number) / "generation.json"
        try:
            status = path.stat()
            return _parsed(path, (status.st_ino, status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            have = ", ".join(map(str, self.numbers())) or "none"
            raise RefusedError(
                "generation",
                where=str(self.folder / "generations" / str(number)),
                expected=f"one of the generations that are kept ({have})",
                actual=f"generation {number}, which is not there",
                remedy="choose one with: changeover rollback --to N",
            ) from None

    def in_use(self) -> Generation | None:
        """The generation that `current` points at."""
        number = self.current()
        return None if number is None else self.generation(number)

    def numbers(self) -> tuple[int, ...]:
        """The numbers of all generations that are kept, ascending."""
        folder = self.folder / "generations"
        return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()))

    def newest(self) -> Generation | None:
        """The newest generation that can be read: one that was damaged does not stand in the way of those before."""
        for number in reversed(self.numbers()):
            try:
                return self.generation(number)
            except ChangeoverError:
                continue
        return None

    def next_number(self) -> int:
        """The number of the next generation."""
        return max([*self.numbers(), 0]) + 1

    def add_generation(self, generation: Generation, write: Callable[[Path], None]) -> None:
        """Put a generation in place: staged whole by `write`, synced, then renamed."""
        with self.store.staging() as staged:
            _fs.write_new(staged / "generation.json", generation.to_bytes(), mode=0o444)
            write(staged)
            _fs.fsync_tree(staged)
            _fs.rename_dir(staged, self.folder / "generations" / str(generation.number))

    def point(self, number: int) -> None:
        """Change over: `current` names another generation in one atomic step."""
        _fs.write_atomic(self.folder / "current", Current(generation=number).to_bytes())

    def hold(self) -> Hold | None:
        """The hold that keeps this station where it is, if there is one."""
        return _read(self.folder / "hold", Hold)

    def set_hold(self, hold: Hold | None) -> None:
        """Write or lift the hold."""
        if hold is None:
            _fs.unlink(self.folder / "hold")
        else:
            _fs.write_atomic(self.folder / "hold", hold.to_bytes())

    def quarantined(self, host_class: str) -> tuple[Quarantine, ...]:
        """What failed on a host class and is not tried there again; a file that cannot be read counts for nothing."""
        found = []
        for path in sorted((self.folder / "quarantine").glob(f"*-{host_class[:12]}.json")):
            with contextlib.suppress(ChangeoverError, OSError):
                found.append(Quarantine.from_bytes(path.read_bytes(), where=str(path)))
        return tuple(entry for entry in found if entry.host_class == host_class)

    def quarantine(self, entry: Quarantine) -> None:
        """Note that a release failed on a host class."""
        path = self._quarantine_path(entry)
        _fs.make_dirs(path.parent)
        _fs.write_atomic(path, entry.to_bytes())

    def lift_quarantine(self, entry: Quarantine) -> None:
        """Let a release be tried again on that host class."""
        path = self._quarantine_path(entry)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _fs.fsync_dir(path.parent)

    def _quarantine_path(self, entry: Quarantine) -> Path:
        return self.folder / "quarantine" / f"{entry.release.digest[:12]}-{entry.host_class[:12]}.json"

    def events(self) -> tuple[Event, ...]:
        """Every event, oldest first."""
        return chain.read(self.folder / "events")

    def newest_events(self) -> Iterator[Event]:
        """Every event, newest first, each read when it is asked for."""
        return chain.newest_first(self.folder / "events")

    def record(self, make: Callable[[int, str | None], Event]) -> Event:
        """Append one event to the chain; the caller holds the lock."""
        return chain.append(self.folder / "events", make)

    def facts(self) -> "tuple[str, HostFacts] | None":
        """The facts that were probed last, with the key under which they hold; None where they cannot be read.

        They are remembered to spare the probing, so a file that was damaged or written by another version is as good as
        none: the next command probes and writes it anew.
        """
        from changeover_registry.records.facts import HostFacts

        try:
            key, _, body = (self.folder / "facts.json").read_bytes().partition(b"\n")
            return key.decode(), HostFacts.from_bytes(body, where=str(self.folder / "facts.json"))
        except (FileNotFoundError, UnicodeDecodeError, ChangeoverError):
            return None

    def remember_facts(self, key: str, facts: "HostFacts") -> None:
        """Keep probed facts under their key, so that the next command need not probe."""
        _fs.write_atomic(self.folder / "facts.json", key.encode() + b"\n" + facts.to_bytes())

    def withdrawn(self) -> Mapping[str, str]:
        """Why a vendor took a release back, by the release's key, as far as this station was told.

        It is a reminder that `remember_withdrawn` writes: one that is absent or damaged is as good as none, and the
        next plan writes it anew.
        """
        try:
            told = json.loads((self.folder / "withdrawn.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        pairs = told.items() if isinstance(told, dict) else ()
        return {key: why for key, why in pairs if isinstance(why, str)}

    def remember_withdrawn(self, known: Mapping[str, str]) -> None:
        """Keep what was verified of withdrawals, so that the way back and `status` know it without the site.

        A withdrawal is for ever, so what was known stays. It is a reminder and no state: a folder that cannot be
        written is no reason to fail.
        """
        before = self.withdrawn()
        if after := {**before, **known}:
            with contextlib.suppress(OSError):
                if after != before:
                    _fs.write_atomic(self.folder / "withdrawn.json", json.dumps(after, sort_keys=True).encode())


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, _stamp: tuple[int, int, int]) -> Generation:
    """A generation that was read lately is not parsed again: with a thousand models that takes a twentieth of a second.

    One that somebody damaged since has another stamp.
    """
    return Generation.from_bytes(path.read_bytes(), where=str(path))


def _read(path: Path, record: type[_R], *, replaced: bool = False) -> _R | None:
    """A record, or None; one that is being replaced may be absent for a moment on a network disk."""
    try:
        data = _fs.read_bytes_retry(path) if replaced else path.read_bytes()
    except FileNotFoundError:
        return None
    return record.from_bytes(data, where=str(path))
