"""A station: one host's `current`, its generations, its lock, its hold and its events.

The pointer is a small file that is replaced in one step; a generation is a folder that is renamed into place and never
changed. Who may do what next is decided elsewhere; here is only how it is written so that a kill leaves the old or
the new.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from changeover_registry import _fs, chain
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.records.base import Record
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.station import Current, Event, Generation, Hold
from changeover_updater.store import Store

__all__ = ["Station"]

_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True, slots=True)
class Station:
    """One station of a store."""

    store: Store
    id: str

    @property
    def folder(self) -> Path:
        """``stations/<id>``."""
        return self.store.root / "stations" / self.id

    def create(self) -> None:
        """Make the station's folders; nothing happens if they are there."""
        for name in ("generations", "events", "leases", "trust"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def need(self) -> "Station":
        """This station.

        Raises:
            InvalidInputError: It was never made.
        """
        if not (self.folder / "generations").is_dir():
            known = sorted(path.name for path in (self.store.root / "stations").iterdir())
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
        """The number of the generation in use, or None before the first changeover."""
        pointer = _read(self.folder / "current", Current)
        return None if pointer is None else pointer.generation

    def generation(self, number: int) -> Generation:
        """A generation by its number.

        Raises:
            RefusedError: It is not there.
        """
        found = _read(self.folder / "generations" / str(number) / "generation.json", Generation)
        if found is None:
            have = ", ".join(map(str, self.numbers())) or "none"
            raise RefusedError(
                "generation",
                where=str(self.folder / "generations" / str(number)),
                expected=f"one of the generations that are kept ({have})",
                actual=f"generation {number}, which is not there",
                remedy="choose one with: changeover rollback --to N",
            )
        return found

    def in_use(self) -> Generation | None:
        """The generation that `current` points at."""
        number = self.current()
        return None if number is None else self.generation(number)

    def numbers(self) -> tuple[int, ...]:
        """The numbers of all generations that are kept, ascending."""
        folder = self.folder / "generations"
        return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()))

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
            (self.folder / "hold").unlink(missing_ok=True)
            _fs.fsync_dir(self.folder)
        else:
            _fs.write_atomic(self.folder / "hold", hold.to_bytes())

    def events(self) -> tuple[Event, ...]:
        """Every event, oldest first."""
        return chain.read(self.folder / "events")

    def record(self, make: Callable[[int, str | None], Event]) -> Event:
        """Append one event to the chain; the caller holds the lock."""
        return chain.append(self.folder / "events", make)

    def facts(self) -> tuple[str, HostFacts] | None:
        """The facts that were probed last, with the key under which they hold."""
        try:
            key, _, body = (self.folder / "facts.json").read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return key.decode(), HostFacts.from_bytes(body, where=str(self.folder / "facts.json"))

    def remember_facts(self, key: str, facts: HostFacts) -> None:
        """Keep probed facts under their key, so that the next command need not probe."""
        _fs.write_atomic(self.folder / "facts.json", key.encode() + b"\n" + facts.to_bytes())


def _read(path: Path, record: type[_R]) -> _R | None:
    try:
        data = _fs.read_bytes_retry(path)
    except FileNotFoundError:
        return None
    return record.from_bytes(data, where=str(path))
