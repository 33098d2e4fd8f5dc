"""What is wrong with what stands on disk, decided from what was gathered: each symptom with its repair. Pure.

A symptom is told with its place, what was found, what a person can do, and the exit code that it makes: 0 where it is
only to be known (a hold, an expiry to come), 3 where something in use is not as it was made, 4 where nobody can say, 5
where bytes or signatures do not hold, 9 for disk and permissions. Where it can be
mended without a person's judgement, it names the repair too. Left out: gathering (`health_gather`), mending (`repair`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from changeover_registry.clock import format_time
from changeover_registry.mlflow_adapter.aliases import MovedAlias
from changeover_registry.records.station import Hold, Quarantine
from changeover_updater.events import Replayed
from changeover_updater.expiries import Expires, expiring
from changeover_updater.leases import SessionLease

__all__ = [
    "CLOCK_SLACK",
    "FileSeen",
    "GenerationSeen",
    "Repair",
    "Seen",
    "SiteSeen",
    "StationSeen",
    "StoreSeen",
    "Symptom",
    "symptoms",
    "whole_generation",
]

CLOCK_SLACK = timedelta(minutes=10)
"""By how much the clocks of a studio's machines may differ before it is told."""
RESERVE_BYTES = 1024**3
"""Room that a disk should have besides what the next update needs."""
_REPAIR = "changeover doctor --repair"
_BACKUP = "take it back from a backup; nothing here can make it again"

FileState = Literal["missing", "wrong bytes", "a link", "a second name of another file", "writable", "unreadable"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What `repair` may do: the kind, and as much of path (below the store), number and text as it needs."""

    kind: Literal["settle", "point", "file", "mode", "aside", "derived", "leases", "staging", "by-host", "choice"]
    path: str = ""
    number: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that is not as it should be."""

    subject: str
    where: str
    found: str
    remedy: str
    code: int = 0
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class FileSeen:
    """An installed file that is not as its signed record says: its path below the store, and how it is."""

    path: str
    state: FileState
    detail: str = ""
    known: bool = True
    """Whether the vendor's signed record of it is here, so that it can be brought again."""


@dataclass(frozen=True, slots=True)
class GenerationSeen:
    """A kept generation: why it cannot be read, which of its own files are not as made, which it lacks in the store."""

    number: int
    unreadable: str | None = None
    derived: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether a session that opens it gets all that it answers."""
        return self.unreadable is None and not self.lacks


@dataclass(frozen=True, slots=True)
class StationSeen:
    """The station: what `current` says, its generations, what its events amount to, who holds what."""

    id: str
    pointer: int | None
    pointer_damage: str | None
    generations: tuple[GenerationSeen, ...]
    replayed: Replayed
    events_damage: str | None
    locked_by: str | None = None
    hold: Hold | None = None
    hold_damage: str | None = None
    leases: tuple[SessionLease, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()
    told_host: str | None = None
    """What ``by-host`` tells this host, where that leads to no station."""
    host: str = ""

    def generation(self, number: int | None) -> GenerationSeen | None:
        """One of the kept generations."""
        return next((one for one in self.generations if one.number == number), None)


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """The store: files that are not as signed, files that nobody named, what is left in staging, room in bytes."""

    files: tuple[FileSeen, ...] = ()
    extra: tuple[str, ...] = ()
    staging_bytes: int = 0
    staging_dead: int = 0
    free: int | None = None
    needed: int = 0
    writable: bool = True


@dataclass(frozen=True, slots=True)
class SiteSeen:
    """The site: whether the status can be told to it, what no timestamp reaches, its clock."""

    writable: bool = True
    unreached: tuple[str, ...] = ()
    repairable: bool = False
    """Whether the key is here that reaches them."""
    clock: datetime | None = None
    """The moment of a file that was written there just now."""
    newest: tuple[str, datetime] | None = None
    """The latest moment that somebody else noted, and where."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was gathered, and the moment."""

    now: datetime
    station: StationSeen
    store: StoreSeen
    site: SiteSeen | None
    expiries: tuple[Expires, ...] = ()
    hashed: int = 0
    """How many installed files were hashed."""
    telemetry: tuple[str, ...] = ()
    """Files that a runtime's telemetry left outside our processes."""
    requests: tuple[MovedAlias, ...] = ()
    """Aliases that somebody moved in MLflow."""
    silent: str | None = None
    """Why MLflow could not be asked for them, if it could not."""


def symptoms(seen: Seen) -> tuple[Symptom, ...]:
    """Everything that is not as it should be, the worst first."""
    found = [
        *_events(seen.station),
        *_pointer(seen.station),
        *_generations(seen),
        *_files(seen.store),
        *_extra(seen.store),
        *_room(seen.store),
        *_site(seen),
        *_clock(seen),
        *_expiries(seen),
        *_sessions(seen),
        *_telemetry(seen),
        *_requests(seen),
    ]
    return tuple(sorted(found, key=lambda symptom: -symptom.code))


def whole_generation(station: StationSeen) -> int | None:
    """The generation to point at where the pointer is lost: the one that the events name, else the newest whole one."""
    told = station.generation(station.replayed.generation)
    if told is not None and told.whole:
        return told.number
    return max((one.number for one in station.generations if one.whole), default=None)


def _events(station: StationSeen) -> Iterator[Symptom]:
    if station.events_damage is not None:
        yield Symptom("events", f"stations/{station.id}/events", station.events_damage, _BACKUP, 5)
    elif station.replayed.open is not None and station.locked_by is None:
        event = station.replayed.open
        found = f"event {event.sequence} began a change ({event.what}) that no event ended: the command was killed"
        yield Symptom("events", f"stations/{station.id}/events", found, _REPAIR, 3, Repair("settle"))


def _pointer(station: StationSeen) -> Iterator[Symptom]:
    damage = station.pointer_damage
    here = station.generation(station.pointer)
    if damage is None and station.pointer is None and station.replayed.may_be() <= {None}:
        return
    if damage is None and here is not None and here.unreadable is None:
        yield from _moved_by_hand(station)
        return
    if damage is None and station.pointer is None:
        damage = "no such file, though a generation was in use"
    elif damage is None:
        why = "which is not there" if here is None else f"which cannot be read: {here.unreadable}"
        damage = f"it names generation {station.pointer}, {why}"
    to = whole_generation(station)
    where = f"stations/{station.id}/current"
    if to is None:
        yield Symptom("pointer", where, f"{damage}; no generation here is whole", "changeover update", 3)
    else:
        found = f"{damage}; generation {to} is whole"
        remedy = f"{_REPAIR}, or choose one: changeover rollback --to N"
        yield Symptom("pointer", where, found, remedy, 3, Repair("point", number=to))


def _moved_by_hand(station: StationSeen) -> Iterator[Symptom]:
    if station.events_damage is None and station.pointer not in station.replayed.may_be():
        told = station.replayed.generation
        found = f"it names generation {station.pointer}; by the events generation {told} is in use"
        remedy = "find out who changed it; then changeover rollback --to N, or changeover update"
        yield Symptom("pointer", f"stations/{station.id}/current", found, remedy, 3)


def _generations(seen: Seen) -> Iterator[Symptom]:
    station = seen.station
    for one in station.generations:
        where = f"stations/{station.id}/generations/{one.number}"
        if one.unreadable is not None:
            kept = any(lease.keeps(one.number, seen.now) for lease in station.leases)
            aside = None if kept else Repair("aside", path=where)
            remedy = f"{_REPAIR} sets it aside" if aside else "wait until the sessions that hold it have ended"
            yield Symptom("generation", where, f"it cannot be read: {one.unreadable}", remedy, 3, aside)
        for name in one.derived:
            repair = Repair("derived", path=where, number=one.number, text=name)
            yield Symptom("generation", f"{where}/{name}", "it is not as it was made", _REPAIR, 3, repair)


def _files(store: StoreSeen) -> Iterator[Symptom]:
    for file in store.files:
        found = f"{file.state}{f': {file.detail}' if file.detail else ''}"
        if file.state == "writable":
            yield Symptom("file", file.path, found, _REPAIR, 3, Repair("mode", path=file.path))
        elif file.state == "unreadable":
            yield Symptom("file", file.path, found, "mend the disk or the permission", 9)
        else:
            code = 3 if file.state == "missing" else 5
            remedy = f"{_REPAIR} brings it again" if file.known else "run changeover sync, then " + _REPAIR
            yield Symptom("file", file.path, found, remedy, code, Repair("file", path=file.path))


def _extra(store: StoreSeen) -> Iterator[Symptom]:
    for path in store.extra:
        found = "no signed record names this file, and it lies among those of a release"
        yield Symptom("file", path, found, f"{_REPAIR} sets it aside", 3, Repair("aside", path=path))


def _room(store: StoreSeen) -> Iterator[Symptom]:
    if not store.writable:
        yield Symptom("disk", "store", "this user may not write the store", "run it as the user who updates it", 0)
    if store.staging_dead:
        found = f"{store.staging_dead} folders that ended commands left behind"
        yield Symptom("disk", "staging", found, _REPAIR, 0, Repair("staging"))
    if store.free is None:
        return
    if store.free < store.needed:
        found = f"the next update needs {_mb(store.needed)}, and {_mb(store.free)} are free"
        yield Symptom("disk", "store", found, "free space, or run changeover gc", 9)
    elif store.free - store.needed < RESERVE_BYTES:
        found = f"{_mb(store.free)} are free, of which the next update needs {_mb(store.needed)}"
        yield Symptom("disk", "store", found, "free space, or run changeover gc", 0)


def _site(seen: Seen) -> Iterator[Symptom]:
    site = seen.site
    if site is None:
        return
    if not site.writable:
        found = "this station may not write its own folder there, so that fleet does not see it"
        yield Symptom("site", f"site/stations/{seen.station.id}", found, "let this user write that folder", 0)
    for name in site.unreached:
        repair = Repair("choice") if site.repairable else None
        remedy = _REPAIR if repair else f"{_REPAIR} where the studio's site key is, or the next promote there"
        found = "it was signed and written, and no timestamp reaches it: the command was killed"
        yield Symptom("choice", f"site/choice/metadata/{name}", found, remedy, 3, repair)


def _clock(seen: Seen) -> Iterator[Symptom]:
    """Expiry is only as good as the clock: behind, it hides a freeze; ahead, it refuses what holds."""
    site, now = seen.site, seen.now
    if site is None:
        return
    remedy = "set the clock (a time server), then run the command again"
    if site.clock is not None and abs(site.clock - now) > CLOCK_SLACK:
        word = "behind" if site.clock > now else "ahead of"
        found = f"{format_time(now)} here is {word} the site's disk, which says {format_time(site.clock)}"
        yield Symptom("clock", "this host", found, remedy, 4)
    elif site.newest is not None and site.newest[1] - now > CLOCK_SLACK:
        found = f"{format_time(now)} here is before {format_time(site.newest[1])}, which {site.newest[0]} bears"
        yield Symptom("clock", "this host", found, remedy, 4)


def _expiries(seen: Seen) -> Iterator[Symptom]:
    for expires, near in expiring(seen.expiries, seen.now):
        code = 5 if near == "expired" else 0
        yield Symptom("expiry", f"{expires.owner}: {expires.role}", expires.said(seen.now), expires.remedy(), code)


def _sessions(seen: Seen) -> Iterator[Symptom]:
    station, where = seen.station, f"stations/{seen.station.id}"
    if station.locked_by is not None:
        yield Symptom("lock", f"{where}/lock", station.locked_by, "wait until it has ended")
    if station.hold_damage is not None:
        yield Symptom("hold", f"{where}/hold", station.hold_damage, "ask who wrote it, remove it, hold again", 3)
    if station.hold is not None:
        yield _held(station.hold, where, seen.now)
    stale = [lease for lease in station.leases if not lease.lives(seen.now)]
    if stale:
        found = f"{len(stale)} of {len(station.leases)} sessions have ended without a word: {_names(stale)}"
        yield Symptom("leases", f"{where}/leases", found, _REPAIR, 0, Repair("leases"))
    for entry in station.quarantined:
        found = f"{entry.release} failed its {entry.check} check at {entry.since}: {entry.why}"
        yield Symptom("quarantine", f"{where}/quarantine", found, "have it mended, or: changeover quarantine lift")
    if station.told_host is not None:
        found = f"it says {station.told_host!r}, which is no station of this store"
        repair = Repair("by-host", path=f"stations/by-host/{station.host}", text=station.id)
        yield Symptom("host", f"stations/by-host/{station.host}", found, _REPAIR, 3, repair)


def _held(hold: Hold, where: str, now: datetime) -> Symptom:
    until = f" until {hold.until}" if hold.until else ""
    over = "" if hold.holds(now) else "; that has passed"
    found = f"held since {hold.since}{until} by {hold.by}: {hold.why}{over}"
    return Symptom("hold", f"{where}/hold", found, "changeover unhold lifts it")


def _telemetry(seen: Seen) -> Iterator[Symptom]:
    for path in seen.telemetry:
        found = "a runtime that was started outside Changeover left its telemetry here"
        remedy = "set ORT_DISABLE_TELEMETRY=1 for that user and remove the folder; ours start with it set"
        yield Symptom("telemetry", path, found, remedy)


def _requests(seen: Seen) -> Iterator[Symptom]:
    """What people asked for by moving an alias in MLflow; it moves nothing, and MLflow keeps no word of who did it."""
    for one in seen.requests:
        chosen = f"{one.model}@{one.chosen}" if one.chosen else "nothing"
        moved = f"points at {one.model}@{one.asked}" if one.asked else "was taken away"
        if not one.is_release:
            moved = f"points at {one.asked}, which is no release"
        found = f"somebody asks for a promotion: the alias {moved}, the choice says {chosen}; who cannot be known"
        wanted = one.asked or one.chosen or "VERSION"
        remedy = f'changeover promote {one.model}@{wanted} --channel {one.channel} --reason "..."'
        if not one.is_release:
            remedy = f"take the alias away in MLflow, or have it point at a release of {one.model}"
            if one.chosen:
                remedy += f"; or promote {one.model}@{one.chosen} there once more, which draws it back"
        elif one.asked and one.chosen:
            remedy += f", or promote {one.chosen} there once more, which draws the alias back"
        yield Symptom("request to promote", f"MLflow's alias {one.alias} of {one.model}", found, remedy)
    if seen.silent is not None:
        yield Symptom(
            "MLflow", "the studio's", f"not asked for requests to promote: {seen.silent}", "see changeover sync"
        )


def _names(leases: Iterable[SessionLease]) -> str:
    names = [lease.name for lease in leases]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
