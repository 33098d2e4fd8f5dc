"""Take out of a store what `gc` says may go: generations first, then releases, with the events around it.

Everything is asked while nobody is kept waiting, and decided once more under the locks of all stations of the store, so
that no update can build on what goes. Each folder is renamed out of the readers' sight before anything in it is
deleted; what turns out to be open after all is put back. A kill at any line leaves whole folders and the pointers as
they were; the next run goes on. Left out: what may go and why (`gc`).
"""

import contextlib
import logging
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, RefusedError
from changeover_registry.records.policy import RetentionPolicy
from changeover_registry.records.station import Generation
from changeover_updater import gc_facts, trash
from changeover_updater.events import EventMaker, settle
from changeover_updater.gc import GRACE, Facts, Plan, ReleaseFact, StationPlan, plan_gc
from changeover_updater.leases import read_leases, sweep_leases
from changeover_updater.open_files import is_open
from changeover_updater.shows import read_needs
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.studio import read_studio
from changeover_updater.writers.cattery import write_cattery

__all__ = ["Collected", "Request", "collect", "preview"]

_LOCK_SECONDS = 10.0
_ABANDONED = timedelta(days=14)
_SWEPT = ("stations", "trust", "choice", "verdicts", "imports")
"""The folders of the site in which a killed command can leave a file under a temporary name; not the golden shots."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks and why, and which last copies may go."""

    who: str
    why: str
    now: datetime
    purge: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run did: the plan, how many bytes were freed, how many folders of the trash wait for a later run."""

    plan: Plan
    freed: int
    waiting: int


def preview(site: Site, station: Station, request: Request, step: Callable[[str], None]) -> Plan:
    """What would go and why the rest stays; nothing is changed.

    Raises:
        TrustError: The choice does not hold or has expired, so that nobody knows what is needed.
        InvalidInputError: A release that is to be purged is not there.
        RefusedError: Something else than being the last copy keeps it.
    """
    return plan_gc(_facts(site, station, request, step))


def collect(site: Site, station: Station, request: Request, step: Callable[[str], None]) -> Collected:
    """Take out what may go.

    Raises:
        TrustError: As `preview`.
        InvalidInputError: As `preview`.
        RefusedError: As `preview`.
        LostRaceError: Somebody else collects, or changes a station of this store.
        OSError: The disk fails or is read-only; the next run goes on.
    """
    store = station.store
    with _fs.lock(store.root / "gc.lock", what=f"the store {store.root}", wait_seconds=_LOCK_SECONDS):
        asked = _facts(site, station, request, step)
        with _all_locked(store):
            # What was asked takes a while; only what still holds under the locks goes.
            found = _read(site, station, asked.retention, request.now)
            plan = plan_gc(replace(found, probes=asked.probes, purge=asked.purge))
            for part in plan.stations:
                _clean_station(Station(store, part.station), part, request)
            gone = _take_releases(station, plan.releases, request) if plan.releases else ()
        done = replace(plan, releases=gone)
        freed, waiting = trash.empty(store, request.now)
        _sweep(site, store, request.now)
    return Collected(done, freed, waiting)


def _facts(site: Site, station: Station, request: Request, step: Callable[[str], None]) -> Facts:
    """All facts, with the answers of every probe that matters."""
    step("read what is chosen and what is kept")
    studio = read_studio(site, station)
    retention = studio.policy.retention or RetentionPolicy()
    facts = _read(site, station, retention, request.now)
    facts = replace(facts, purge=gc_facts.purged(facts, request.purge))
    probes = {}
    for key in plan_gc(facts).open_questions:
        step(f"look for another copy of {key}")
        probes[key] = gc_facts.probe(site, studio, station.store, key)
    facts = replace(facts, probes=probes)
    _check_purge(plan_gc(facts), facts.purge)
    return facts


def _read(site: Site, station: Station, retention: RetentionPolicy, now: datetime) -> Facts:
    return gc_facts.read_store(station.store, read_needs(site, station), retention, now)


def _check_purge(plan: Plan, purge: frozenset[str]) -> None:
    for key in sorted(purge):
        if why := plan.why(key):
            raise RefusedError(
                "purge",
                where=key,
                expected="a release that only being the last copy keeps",
                actual="; ".join(why),
                remedy="take that away first; --purge gives up a last copy, and nothing else",
            )


@contextlib.contextmanager
def _all_locked(store: Store) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for station in gc_facts.stations_of(store):
            stack.enter_context(station.lock())
        yield


def _clean_station(station: Station, plan: StationPlan, request: Request) -> None:
    """Build the generation that does without what is dropped, and take out old ones; the caller holds the lock."""
    leases = station.folder / "leases"
    sweep_leases(leases, read_leases(leases, request.now), request.now)
    if not (plan.goes or plan.drop):
        return
    settle(station, who=request.who, when=format_time(request.now))
    before = station.in_use()
    new = _without(before, plan.drop, station.next_number(), request) if before and plan.drop else None
    told = [f"generation {fact.number}" for fact in plan.goes] + [f"{key} is not taken over" for key in plan.drop]
    number = before.number if before else None
    event = _maker(request, number, new.number if new else number)
    station.record(event.event("intent", detail="; ".join(sorted(told))[:2000]))
    if new is not None:
        built = new
        station.add_generation(built, lambda folder: write_cattery(built, folder, station.store.root))
        station.point(built.number)
    for fact in plan.goes:
        trash.take_out(station.store, station.folder / "generations" / str(fact.number), request.now)
    station.record(event.event("done"))


def _without(before: Generation, drop: frozenset[str], number: int, request: Request) -> Generation:
    """The generation in use without what is dropped. The way back leads past it, to where it led before."""
    return before.model_copy(
        update={
            "number": number,
            "made_at": format_time(request.now),
            "why": f"gc: {request.why}",
            "previous": before.previous,
            "releases": tuple(release for release in before.releases if release.key not in drop),
        }
    )


def _take_releases(station: Station, releases: Sequence[ReleaseFact], request: Request) -> tuple[ReleaseFact, ...]:
    """Rename the releases into the trash; the caller holds the lock. One that is open after all is put back."""
    number = station.current()
    event = _maker(request, number, number)
    detail = "; ".join(fact.key for fact in releases)[:2000]
    station.record(event.event("intent", detail=detail))
    gone = tuple(fact for fact in releases if _take_release(station.store, fact, request.now))
    station.record(event.event("done", detail=f"{len(gone)} of {len(releases)} releases"))
    return gone


def _take_release(store: Store, fact: ReleaseFact, now: datetime) -> bool:
    folder = gc_facts.release_of(store, fact.key)
    trashed = trash.take_out(store, folder, now)
    if not is_open(trashed):
        return True
    trash.put_back(trashed, folder)
    return False


def _maker(request: Request, before: int | None, after: int | None) -> EventMaker:
    return EventMaker(uuid.uuid4().hex[:12], "gc", request.who, format_time(request.now), request.why, before, after)


def _sweep(site: Site, store: Store, now: datetime) -> None:
    """Remove what dead processes left: in staging, of whichever host, beside the trusted vendors, under other names."""
    store.sweep_staging()
    for root in (store.root, *(site.root / name for name in _SWEPT)):
        _fs.sweep_temporaries(root, older_seconds=GRACE.total_seconds())
    for folder in (store.root / "staging").iterdir():
        # What is left of this host's is in use, whatever the clocks say.
        elsewhere = folder.name.count("~") == 2 and folder.name.partition("~")[0] != socket.gethostname()
        if elsewhere and now.timestamp() - folder.lstat().st_mtime > _ABANDONED.total_seconds():
            with contextlib.suppress(OSError):
                store.discard(folder)
    try:
        with _fs.lock(site.root / "trust" / ".lock", what="the trusted vendors"):
            for left in (*site.root.glob("trust/.new-*"), *site.root.glob("trust/.removed-*")):
                _fs.remove_tree(left)
    except (ChangeoverError, OSError) as error:
        logging.getLogger(__name__).info("what was left beside the trusted vendors stays: %s", error)
