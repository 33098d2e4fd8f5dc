"""Read what stands on disk, for `health` to decide on: files hashed again, pointer, generations, events, site, clock.

Nothing is changed but a file in the site that is written and removed to learn its disk's clock. What cannot be read is
a value that says so: a doctor that stops at the first damage would tell of one at a time.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from changeover_registry import chain
from changeover_registry._fs import lock, temporary_beside
from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, LostRaceError
from changeover_registry.records.release import Release
from changeover_registry.records.station import Event, Generation, Hold
from changeover_updater.events import replay
from changeover_updater.expiries import named_versions, read_expiries
from changeover_updater.gc_facts import stations_of
from changeover_updater.health import FileSeen, GenerationSeen, Seen, SiteSeen, StationSeen, StoreSeen
from changeover_updater.leases import read_leases
from changeover_updater.site import Site
from changeover_updater.station import BY_HOST, Station
from changeover_updater.status import reported_head
from changeover_updater.store import Store

__all__ = ["Around", "Signed", "derived_files", "gather", "signed_files"]

Progress = Callable[[str, int, int], None]
_HIDDEN = (".nfs", ".fuse_hidden")
"""What a network disk calls a file that was removed while somebody reads it; it goes by itself."""
_TELEMETRY = ("Microsoft/DeveloperTools/.onnxruntime", "Microsoft/DeveloperTools/deviceid")
"""Where onnxruntime 1.31 writes below the user's cache; seen on Linux."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a file below the store must be; `known` says that the vendor's own record of it is at hand."""

    size: int
    sha256: str
    known: bool


@dataclass(frozen=True, slots=True)
class Around:
    """What is looked at besides the store: the site if it can be read, what is known, who asks, and when."""

    site: Site | None
    releases: tuple[Release, ...]
    needed: int
    host: str
    has_site_key: bool
    cache: Path
    now: datetime


def gather(station: Station, around: Around, progress: Progress) -> Seen:
    """All of it.

    Raises:
        OSError: The folders of the store cannot be listed.
    """
    made = dict(_generations(station))
    signed = signed_files(station.store, _kept(station.store), around.releases)
    files = tuple(_differing(station.store, signed, progress))
    lost = {file.path for file in files if file.state not in {"writable", "a second name of another file"}}
    return Seen(
        now=around.now,
        hashed=len(signed),
        station=_station(station, made, lost, around),
        store=_store(station.store, signed, files, around),
        site=_site(station, around),
        expiries=read_expiries(station, around.site.root if around.site else None),
        telemetry=tuple(str(around.cache / name) for name in _TELEMETRY if (around.cache / name).exists()),
    )


def signed_files(store: Store, made: Iterable[Generation], releases: Iterable[Release]) -> Mapping[str, Signed]:
    """What each installed file must be, by path: of every kept generation, and of every release that is here whole."""
    found: dict[str, Signed] = {}
    served: set[tuple[str, str]] = set()
    for generation in made:
        for release in generation.releases:
            served |= {(release.key, variant) for variant in release.served()}
            files = (file for answer in release.answers for file in answer.files)
            found.update({file.path: Signed(file.size, file.sha256, known=False) for file in files})
    for record in releases:
        ref = record.ref()
        for variant in record.variants:
            folder = store.variant_path(ref, variant.id)
            if (str(ref), variant.id) in served or (store.root / folder).is_dir():
                found.update({f"{folder}/{f.path}": Signed(f.size, f.sha256, known=True) for f in variant.files})
    return found


def derived_files(made: Generation) -> Mapping[str, bytes]:
    """The files of a generation's folder that are made from its record, by path below it.

    Raises:
        InvalidInputError: A release has a file for Nuke's own node that is no ``.cat``.
    """
    from changeover_updater.writers.cattery import cattery_files
    from changeover_updater.writers.nuke_index import INDEX_NAME, nuke_index

    return {**cattery_files(made), INDEX_NAME: nuke_index(made)}


def _kept(store: Store) -> Iterator[Generation]:
    """Every generation that can be read, of every station of the store: they share its release folders."""
    for station in stations_of(store):
        yield from (made for _, made in _generations(station) if isinstance(made, Generation))


def _generations(station: Station) -> Iterator[tuple[int, Generation | str]]:
    for number in station.numbers():
        try:
            made = station.generation(number)
        except (ChangeoverError, OSError) as error:
            yield number, _reason(error)
            continue
        yield number, made if made.number == number else f"it says that it is generation {made.number}"


def _differing(store: Store, signed: Mapping[str, Signed], progress: Progress) -> Iterator[FileSeen]:
    linked = {folder for folder in {Path(path).parent for path in signed} if _is_behind_a_link(store.root, folder)}
    for path, must in sorted(signed.items()):
        if Path(path).parent in linked:
            yield FileSeen(path, "a link", "a folder above it is one", must.known)
        elif seen := _differs(store.root / path, path, must, progress):
            yield seen


def _differs(file: Path, path: str, must: Signed, progress: Progress) -> FileSeen | None:
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            return FileSeen(path, "a link", "it can point elsewhere tomorrow", must.known)
        same = status.st_size == must.size
        actual = _digest(file, path, must.size, progress) if same else f"of {status.st_size} bytes, not {must.size}"
    except FileNotFoundError:
        return FileSeen(path, "missing", known=must.known)
    except OSError as error:
        return FileSeen(path, "unreadable", _reason(error), must.known)
    if actual != must.sha256:
        return FileSeen(path, "wrong bytes", f"sha256 {actual}, signed {must.sha256}", must.known)
    return _exposed(path, status, must)


def _exposed(path: str, status: os.stat_result, must: Signed) -> FileSeen | None:
    """A file of the right bytes that somebody could change by another name or by writing."""
    if status.st_nlink > 1:
        return FileSeen(path, "a second name of another file", f"{status.st_nlink} names", must.known)
    if os.name == "posix" and status.st_mode & 0o222:
        return FileSeen(path, "writable", f"mode {stat.S_IMODE(status.st_mode):04o}", must.known)
    return None


def _digest(file: Path, name: str, size: int, progress: Progress) -> str:
    whole = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(4 * 1024 * 1024):
            whole.update(piece)
            progress(name, len(piece), size)
    return whole.hexdigest()


def _is_behind_a_link(root: Path, folder: Path) -> bool:
    return any((root / part).is_symlink() for part in (folder, *folder.parents) if part != Path())


def _extra(store: Store, signed: Mapping[str, Signed]) -> Iterator[str]:
    """Files beside those of a variant that no record names."""
    for folder in sorted({"/".join(path.split("/")[:5]) for path in signed}):
        for path in sorted((store.root / folder).rglob("*")):
            name = path.relative_to(store.root).as_posix()
            if name not in signed and not path.name.startswith(_HIDDEN) and (path.is_symlink() or not path.is_dir()):
                yield name


def _station(station: Station, made: Mapping[int, Generation | str], lost: set[str], around: Around) -> StationSeen:
    events, damage = _events(station, around.site)
    pointer, pointer_damage = _pointer(station)
    hold, hold_damage = _hold(station)
    facts = station.facts()
    return StationSeen(
        id=station.id,
        pointer=pointer,
        pointer_damage=pointer_damage,
        generations=tuple(_generation(station, number, one, lost) for number, one in made.items()),
        replayed=replay(events),
        events_damage=damage,
        locked_by=_holder(station.folder / "lock"),
        hold=hold,
        hold_damage=hold_damage,
        leases=read_leases(station.folder / "leases", around.now),
        quarantined=station.quarantined(_class_of(facts)) if facts else (),
        told_host=_told_host(station.store, around.host),
        host=around.host,
    )


def _class_of(facts: "tuple[str, object]") -> str:
    from changeover_registry.records.facts import HostFacts
    from changeover_validators.classes import host_class

    return host_class(facts[1]) if isinstance(facts[1], HostFacts) else ""


def _generation(station: Station, number: int, made: Generation | str, lost: set[str]) -> GenerationSeen:
    if isinstance(made, str):
        return GenerationSeen(number, unreadable=made)
    folder = station.folder / "generations" / str(number)
    files = {file.path for release in made.releases for answer in release.answers for file in answer.files}
    try:
        derived = derived_files(made)
    except ChangeoverError as error:
        return GenerationSeen(number, unreadable=_reason(error))
    changed = tuple(name for name, data in sorted(derived.items()) if _bytes(folder / name) != data)
    return GenerationSeen(number, derived=changed, lacks=tuple(sorted(files & lost)))


def _events(station: Station, site: Site | None) -> tuple[tuple[Event, ...], str | None]:
    try:
        events = station.events()
        chain.verify(events, reported_head(site.root, station.id) if site else None)
    except (ChangeoverError, OSError) as error:
        try:
            return station.events(), _reason(error)
        except (ChangeoverError, OSError):
            return (), _reason(error)
    return events, None


def _pointer(station: Station) -> tuple[int | None, str | None]:
    try:
        return station.current(), None
    except (ChangeoverError, OSError) as error:
        return None, _reason(error)


def _hold(station: Station) -> tuple[Hold | None, str | None]:
    try:
        return station.hold(), None
    except (ChangeoverError, OSError) as error:
        return None, _reason(error)


def _holder(path: Path) -> str | None:
    """Who holds the station at this moment; the lock is taken for an instant, and only where its file is."""
    if not path.is_file():
        return None
    try:
        with lock(path, what="a look by doctor"):
            return None
    except LostRaceError as error:
        return error.actual
    except OSError:
        return None


def _told_host(store: Store, host: str) -> str | None:
    """What Nuke on this host is told to be its station, where there is no such station."""
    data = _bytes(store.root / "stations" / BY_HOST / host)
    if data is None:
        return None
    name = data.decode(errors="replace").strip()
    there = name.isprintable() and "/" not in name and (store.root / "stations" / name / "generations").is_dir()
    return None if there else name


def _store(store: Store, signed: Mapping[str, Signed], files: tuple[FileSeen, ...], around: Around) -> StoreSeen:
    dead = store.dead_staging()
    return StoreSeen(
        files=files,
        extra=tuple(_extra(store, signed)),
        staging_bytes=sum(_size(path) for folder in dead for path in folder.rglob("*")),
        staging_dead=len(dead),
        free=store.free_bytes(),
        needed=around.needed,
        writable=os.access(store.root / "staging", os.W_OK),
    )


def _site(station: Station, around: Around) -> SiteSeen | None:
    if around.site is None:
        return None
    written, clock = _probe(around.site.root / "stations" / station.id)
    return SiteSeen(
        writable=written,
        unreached=tuple(_unreached(around.site.choice / "metadata")),
        repairable=around.has_site_key,
        clock=clock,
        newest=_newest(around.site),
    )


def _probe(folder: Path) -> tuple[bool, datetime | None]:
    """Whether this user may write there, and the moment that the disk gave to a file just now."""
    path = temporary_beside(folder / "clock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        path.unlink()
    except OSError:
        return False, None
    return True, moment


def _unreached(metadata: Path) -> Iterator[str]:
    """Role files with the number after the one that the newest snapshot names."""
    for role, version in sorted(named_versions(metadata).items()):
        name = f"{version + 1}.{role}.json"
        if (metadata / name).is_file():
            yield name


def _newest(site: Site) -> tuple[str, datetime] | None:
    """The latest moment that somebody wrote into a choice."""
    from changeover_updater.studio import choice_history

    try:
        history = choice_history(site)
    except (ChangeoverError, OSError):
        return None
    moments = [(f"choice {one.scope} {one.number}", parse_time(one.entry.when)) for one in history]
    return max(moments, key=lambda moment: moment[1], default=None)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _reason(error: ChangeoverError | OSError) -> str:
    if isinstance(error, ChangeoverError):
        return f"{error.where}: expected {error.expected}, found {error.actual}"
    return error.strerror or type(error).__name__
