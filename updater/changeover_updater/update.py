"""Change a station over to what the studio chose: plan, install, smoke, build the generation, move `current`, record.

Installing and smoking hold no lock, so that a rollback never waits for a download. While the station is held, or waits
for its hours, what was chosen is installed all the same; smoke and changeover come when it may change. Free memory is a
gate at the last moment: what has no room right now is installed, and not changed over to until a later update. What
fails its smoke test is quarantined for this host class. Under the lock the world is looked at once more; if it moved
since the plan was made, the plan is made again. A kill at any line leaves the old generation or the new one in use,
and the next update goes on.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from changeover_registry.clock import format_time
from changeover_registry.errors import LostRaceError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef, Variant
from changeover_registry.records.station import Generation, Quarantine
from changeover_updater.adopted import is_adopted
from changeover_updater.eligible import Eligible, blocking, describe
from changeover_updater.events import EventMaker, settle, settle_if_open
from changeover_updater.install import Progress, Wanted, check_room, install_variants
from changeover_updater.needed import Needed
from changeover_updater.others import failing
from changeover_updater.plan import Arrival, Known, Plan, make_plan
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.studio import read_studio, read_verdicts
from changeover_updater.writers.cattery import write_cattery
from changeover_validators.classes import host_class

__all__ = ["Outcome", "Smoke", "Tools", "change_over", "heed_others", "known_now", "update"]

_TRIES = 3


class Smoke(Protocol):
    """Runs the smoke test of an installed variant in the sandbox and answers with a finding."""

    def __call__(self, release: Release, variant: Variant, folder: Path, plan: MemoryPlan | None = None) -> Finding:
        """The finding of one variant of a release, whose files lie in `folder`, under its memory plan."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update did: the plan and the generation in use now."""

    plan: Plan
    generation: Generation | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """What an update needs besides values: who asks, how smoke runs under a policy, where progress goes."""

    who: str
    smoke: Callable[[Policy], Smoke]
    progress: Progress
    step: Callable[[str], None]
    wait: Callable[[Policy], str | None] = lambda _: None
    """Given the policy, why nothing is changed over to at this moment, though it may be installed."""
    trying: Callable[[str], None] = lambda _: None
    """Told the key of each release before its install and its smoke test: what breaks then broke with that one."""


def known_now(site: Site, station: Station, facts: HostFacts, now: datetime, also: Iterable[ReleaseRef] = ()) -> Known:
    """Read all that a plan is decided from, verified; how other stations fare comes later, from `heed_others`.

    Args:
        site: The site.
        station: The station.
        facts: Of its host.
        now: The moment.
        also: Releases to be decided on that no choice names any more, and this station does not have.

    Raises:
        TrustError: The choice or the policy does not hold.
    """
    current, latest = station.in_use(), station.newest()
    asked = {r.ref() for generation in (current, latest) if generation for r in generation.releases} | set(also)
    needed = Needed.chosen((ref.model, ref.version) for ref in asked)
    studio = read_studio(site, station, needed)
    station.remember_withdrawn(studio.withdrawn())
    of = needed.beside(studio.choices).named.union(ref.digest for ref in asked)
    return Known(
        studio=studio,
        verdicts=read_verdicts(site, studio, of),
        facts=facts,
        station=station.id,
        site=str(site.root),
        current=current,
        latest=latest,
        next_number=station.next_number(),
        hold=station.hold(),
        now=now,
        quarantined=station.quarantined(host_class(facts)),
    )


def heed_others(site: Site, known: Known) -> Known:
    """`known`, and with which of the releases that the station would change to too many other stations failed."""
    plan = make_plan(known)
    moves = (move for move in plan.moves if move.outcome == "take" and move.before != move.wanted)
    taken = {(move.where, move.wanted) for move in moves}
    if not taken:
        return known
    return replace(known, failing=failing(site, known.station, known.studio, frozenset(taken), known.now))


def update(site: Site, station: Station, facts: HostFacts, now: datetime, tools: Tools) -> Outcome:
    """Change over to what was chosen, as far as this station may run it.

    Raises:
        TrustError: The choice does not hold, or a file's bytes are not the signed ones.
        LostRaceError: The station kept changing under us.
        OSError: The disk is full or read-only; the station is as it was.
    """
    station.store.sweep_staging()
    for _ in range(_TRIES):
        known = known_now(site, station, facts, now)
        known = heed_others(site, replace(known, wait=tools.wait(known.studio.policy)))
        plan = make_plan(known)
        _install(site, station, known, plan, tools)
        plan = _prove(station, known, plan, tools)
        if plan.generation is None:
            settle_if_open(station, who=tools.who, now=now)
            return Outcome(plan, known.current, changed=False)
        with station.lock():
            settle(station, who=tools.who, when=format_time(now))
            if _unmoved(station, known) and _still_there(station, known, plan):
                return Outcome(plan, change_over(station, plan.generation, now, tools.who), changed=True)
    raise LostRaceError(
        "station",
        where=str(station.folder),
        expected="nobody else changing this station meanwhile",
        actual=f"{_TRIES} changes by others while this update ran",
        remedy="run changeover status, then changeover update again",
    )


def _install(site: Site, station: Station, known: Known, plan: Plan, tools: Tools) -> None:
    """Bring what the plan takes, and what is gone of what the station keeps; nothing, where the disk has no room."""
    chosen = tuple((arrival.eligible.release, arrival.variants) for arrival in _to_have(known, plan))
    gone = tuple(_gone(station, known))
    check_room(station.store, (*gone, *chosen))
    for release, variants in gone:
        tools.step(f"bring back {release.ref()}")
        install_variants(station.store, site.vendor_of(release.model), release, variants, tools.progress)
    for release, variants in chosen:
        tools.trying(str(release.ref()))
        tools.step(f"install {release.ref()}")
        install_variants(station.store, site.vendor_of(release.model), release, variants, tools.progress)


def _to_have(known: Known, plan: Plan) -> tuple[Arrival, ...]:
    """What a changeover needs in the store, its bytes hashed: what is new here, and what is moved to again."""
    return (*plan.arrivals, *(Arrival(eligible, _served(known, eligible)) for eligible in _taken_again(plan)))


def _still_there(station: Station, known: Known, plan: Plan) -> bool:
    """Whether `gc` took nothing of it since: what was there already was not new to whoever collected meanwhile."""
    return not any(
        station.store.missing(arrival.eligible.ref, variant)
        for arrival in _to_have(known, plan)
        for variant in arrival.variants
    )


def _gone(station: Station, known: Known) -> Iterator[Wanted]:
    """What is gone of releases that the station keeps: scripts are stamped with them."""
    for held in known.held().values():
        ref, served = held.ref(), held.served()
        release = known.studio.release(ref)
        gone = [v for v in release.variants if v.id in served and station.store.missing(ref, v)] if release else []
        if release and gone:
            yield release, tuple(gone)


def _prove(station: Station, known: Known, plan: Plan, tools: Tools) -> Plan:
    """Smoke what is changed over to now; what fails is planned without."""
    if plan.generation is None:
        return plan
    failed = tuple(_smoke(station, plan, tools, known.studio.policy))
    _quarantine(station, known, plan, failed, tools.who)
    # What does not fit the free memory at this moment is installed and proven by now, and waits.
    return make_plan(replace(known, smoke=failed, gated=True, installed=True))


def _quarantine(station: Station, known: Known, plan: Plan, failed: tuple[tuple[str, Finding], ...], who: str) -> None:
    """Note what ran and failed, so that it is not tried again here; what could not be run at all may be."""
    refs = {str(arrival.eligible.ref): arrival.eligible.ref for arrival in plan.arrivals}
    for key, finding in failed:
        if not (isinstance(finding, Refused) or (isinstance(finding, NotRun) and finding.error)):
            continue
        when, why = format_time(known.now), describe(finding)
        entry = Quarantine(
            release=refs[key], host_class=host_class(known.facts), check=finding.check, why=why, since=when
        )
        number = known.current.number if known.current else None
        event = EventMaker(uuid.uuid4().hex[:12], "quarantine", who, when, f"{key}: {why}", number, number)
        with station.lock():
            station.quarantine(entry)
            station.record(event.event("done"))


def _taken_again(plan: Plan) -> tuple[Eligible, ...]:
    """Releases that a channel or pin moves to and the station kept: their bytes are hashed once more before it does."""
    moved = {move.wanted for move in plan.moves if move.outcome == "take"}
    return tuple(eligible for eligible in plan.judged if str(eligible.ref) in moved & plan.held)


def _served(known: Known, eligible: Eligible) -> tuple[Variant, ...]:
    served = known.held()[str(eligible.ref)].served()
    return tuple(variant for variant in eligible.release.variants if variant.id in served)


def _smoke(station: Station, plan: Plan, tools: Tools, policy: Policy) -> Iterator[tuple[str, Finding]]:
    """The smoke findings that keep a release out, by its key."""
    smoke = tools.smoke(policy)
    for arrival in plan.arrivals:
        eligible = arrival.eligible
        if "smoke" in eligible.overridden or is_adopted(eligible.release):
            continue
        tools.trying(str(eligible.ref))
        for variant in arrival.variants:
            tools.step(f"smoke {eligible.ref} {variant.id}")
            folder = station.store.variant_folder(eligible.ref, variant.id)
            finding = smoke(eligible.release, variant, folder, eligible.memory_plan(variant.id))
            yield from ((str(eligible.ref), f) for f in blocking((finding,)))


def _unmoved(station: Station, known: Known) -> bool:
    number = known.current.number if known.current else None
    return (station.current(), station.next_number(), station.hold()) == (number, known.next_number, known.hold)


def change_over(station: Station, generation: Generation, now: datetime, who: str) -> Generation:
    """Build the generation and point at it, with the events around it; the caller holds the lock."""
    step = EventMaker(
        uuid.uuid4().hex[:12], "update", who, format_time(now), generation.why, station.current(), generation.number
    )
    station.record(step.event("intent"))
    station.add_generation(generation, lambda folder: write_cattery(generation, folder, station.store.root))
    station.point(generation.number)
    station.record(step.event("done"))
    return generation
