"""What `gc` decides from, read from a store: stations, release folders, and what is asked of single releases."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.policy import RetentionPolicy
from changeover_registry.records.station import Event
from changeover_updater.copies import shown_copy
from changeover_updater.gc import Facts, GenerationFact, Probe, ReleaseFact, StationFact
from changeover_updater.leases import read_leases
from changeover_updater.open_files import is_open
from changeover_updater.site import Site
from changeover_updater.station import BY_HOST, Station
from changeover_updater.store import Store
from changeover_updater.studio import Studio

__all__ = ["key_of", "probe", "purged", "read_store", "release_of", "stations_of"]

_EPOCH = datetime.fromtimestamp(0, UTC)


def stations_of(store: Store) -> tuple[Station, ...]:
    """Every station of a store, by name."""
    found = []
    for folder in sorted((store.root / "stations").iterdir()):
        if folder.name != BY_HOST and (folder / "generations").is_dir():
            with contextlib.suppress(InvalidInputError):
                found.append(Station(store, folder.name))
    return tuple(found)


def read_store(store: Store, needs: Mapping[str, tuple[str, ...]], retention: RetentionPolicy, now: datetime) -> Facts:
    """All that is decided from, but the answers of `probe`.

    Raises:
        OSError: Something cannot be read, so that nobody knows what it needs.
    """
    return Facts(
        stations=tuple(_station(station, now) for station in stations_of(store)),
        releases=tuple(_releases(store)),
        now=now,
        needs=needs,
        retention=retention,
        share=store.is_share(),
    )


def probe(site: Site, studio: Studio, store: Store, key: str) -> Probe:
    """Ask whether a release is open here, and whether another copy can be shown."""
    with_open = Probe(is_open=is_open(release_of(store, key)))
    if with_open.is_open:
        return with_open
    try:
        return replace(with_open, copy=shown_copy(site, studio, store, key))
    except (ChangeoverError, OSError) as error:
        told = error.actual if isinstance(error, ChangeoverError) else str(error.strerror or error)
        return replace(with_open, missing=told)


def purged(facts: Facts, texts: Iterable[str]) -> frozenset[str]:
    """The keys of the releases that a person names: ``MODEL@VERSION``, with the digest where there are several.

    Raises:
        InvalidInputError: There is no such release in the store, or there are several.
    """
    return frozenset(_named([fact.key for fact in facts.releases], text) for text in texts)


def release_of(store: Store, key: str) -> Path:
    """The folder of a release."""
    model, _, folder = key.partition("@")
    return store.root / "releases" / model / folder


def key_of(folder: Path) -> str:
    """The key of a release by its folder."""
    return f"{folder.parent.parent.name}/{folder.parent.name}@{folder.name}"


def _named(keys: list[str], text: str) -> str:
    model, _, version = text.partition("@")
    found = [
        key
        for key in keys
        if model in {key.partition("@")[0], key.partition("@")[0].partition("/")[2]}
        and version in {key.partition("@")[2], key.partition("@")[2].rpartition("-")[0]}
    ]
    if len(found) != 1:
        raise InvalidInputError(
            "release",
            where=f"--purge {text}",
            expected="exactly one release of this store, as MODEL@VERSION or MODEL@VERSION-DIGEST12",
            actual=", ".join(found) or "no such release",
            remedy="see what is there with: changeover gc --dry-run",
        )
    return found[0]


def _station(station: Station, now: datetime) -> StationFact:
    unknown, current, used = None, None, {}
    try:
        current = station.current()
        used = _last_used(station.events())
    except ChangeoverError as error:
        unknown = f"this station's state cannot be told: {error.rule}: {error.actual}"
    try:
        hold = station.hold()
        held = hold is not None and hold.holds(now)
    except ChangeoverError:
        held = True
    return StationFact(
        id=station.id,
        current=current,
        generations=tuple(_generation(station, number, used.get(number)) for number in station.numbers()),
        leases=read_leases(station.folder / "leases", now),
        held=held,
        unknown=unknown,
    )


def _last_used(events: Iterable[Event]) -> dict[int, datetime]:
    """When each generation was last changed over to or away from, begun or done."""
    found: dict[int, datetime] = {}
    for event in events:
        for number in filter(None, (event.before, event.after)):
            found[number] = max(found.get(number, _EPOCH), parse_time(event.when))
    return found


def _generation(station: Station, number: int, used_until: datetime | None) -> GenerationFact:
    folder = station.folder / "generations" / str(number)
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    written = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    try:
        made = station.generation(number)
    except ChangeoverError:
        return GenerationFact(number, written, used_until=used_until, size=size, readable=False)
    return GenerationFact(
        number=number,
        made_at=parse_time(made.made_at),
        previous=made.previous,
        used_until=used_until,
        holds=frozenset(release.key for release in made.releases),
        answers=frozenset({channel.key for channel in made.channels} | {pin.key for pin in made.pins}),
        size=size,
    )


def _releases(store: Store) -> Iterator[ReleaseFact]:
    for folder in sorted((store.root / "releases").glob("*/*/*")):
        if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("."):
            yield _release(folder)


def _release(folder: Path) -> ReleaseFact:
    paths = sorted(folder.rglob("*"))
    files = [path.lstat() for path in paths if path.is_file()]
    folders = [folder.stat(), *(path.lstat() for path in paths if path.is_dir())]
    return ReleaseFact(
        key=key_of(folder),
        size=sum(file.st_size for file in files),
        placed_at=_moment(max(entry.st_mtime for entry in folders)),
        read_at=_moment(max(file.st_atime for file in files)) if files else None,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
