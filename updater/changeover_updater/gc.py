"""What of a store may go, decided from values: generations, then the releases that nothing needs any more.

A generation stays while it is in use, the newest, among those that the way back leads to, used lately, or kept by a
session. A release stays while a generation of any station holds it, a signed choice names it, a show that is open was
ever given it, a process has it open, it was put in place or read lately, or no other copy of it could be shown. Each
reason is told. Whatever is unknown keeps: a generation that cannot be read may hold anything.

Each generation takes over every release of the one before, so without more nothing would ever go. `droppable` says
which releases the next generation need not take over: those that nothing names and that no generation that stays
answers a channel or a pin with. Left out: how the facts are found (`gc_facts`), and what is done (`collect`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from changeover_registry.records.policy import RetentionPolicy
from changeover_updater.leases import SessionLease

__all__ = [
    "GRACE",
    "Facts",
    "GenerationFact",
    "Kept",
    "Plan",
    "Probe",
    "ReleaseFact",
    "StationFact",
    "StationPlan",
    "droppable",
    "plan_gc",
]

GRACE = timedelta(days=1)
"""How long a release that was put in place is left: an update may be between its files and its generation."""


@dataclass(frozen=True, slots=True)
class GenerationFact:
    """One generation: the releases that it `holds`, and those that its channels and pins `answers`; `size` in bytes.

    `used_until` is when it was last in use or taken out of use as far as the events tell. One that is not `readable`
    may hold anything.
    """

    number: int
    made_at: datetime
    previous: int | None = None
    used_until: datetime | None = None
    holds: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()
    size: int = 0
    readable: bool = True


@dataclass(frozen=True, slots=True)
class StationFact:
    """One station: what `current` names, whether a hold is in force, its generations and its sessions.

    `unknown` says why all of its generations must stay, such as events that cannot be read.
    """

    id: str
    current: int | None
    generations: tuple[GenerationFact, ...]
    leases: tuple[SessionLease, ...] = ()
    held: bool = False
    unknown: str | None = None

    def chain(self, length: int) -> Iterator[int]:
        """The generation in use and those that the way back leads to, at most `length` of them."""
        before = {generation.number: generation.previous for generation in self.generations}
        number, found = self.current, 0
        while number in before and found < length:
            yield number
            number, found = before[number], found + 1


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """One release folder of the store; `size` in bytes, `placed_at` when something was last put into it.

    `read_at` is when one of its files was last read, where the file system keeps that: a script that is stamped with a
    release reads it, whatever the channels answer.
    """

    key: str
    size: int
    placed_at: datetime
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of a release only when nothing else keeps it: it costs time and the network.

    `is_open` is None where that cannot be told. `copy` says where another copy was shown to be; None where `missing`
    says why none could be.
    """

    is_open: bool | None = None
    copy: str | None = None
    missing: str = "nobody looked"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is decided from.

    `needs` tells by a release's key what of the signed choices and open shows needs it. `purge` holds the keys of which
    a person said, with a reason, that the last copy may go. `share` says that several hosts read the store.
    """

    stations: tuple[StationFact, ...]
    releases: tuple[ReleaseFact, ...]
    now: datetime
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    purge: frozenset[str] = frozenset()
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    share: bool = False

    @property
    def days(self) -> int:
        """How many days after its last use something stays."""
        return self.retention.share_days if self.share else self.retention.days


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that stays, and every reason for it. `what` is ``generation 3 of vm1`` or a release's key."""

    what: str
    size: int
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StationPlan:
    """What happens at one station: the generations that go, and the releases that a new generation does without."""

    station: str
    goes: tuple[GenerationFact, ...]
    drop: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, and why each other thing stays. `open_questions` are releases that `Facts.probes` says nothing of."""

    stations: tuple[StationPlan, ...]
    releases: tuple[ReleaseFact, ...]
    kept: tuple[Kept, ...]
    open_questions: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes go."""
        return sum(fact.size for plan in self.stations for fact in plan.goes) + sum(fact.size for fact in self.releases)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.releases and not any(plan.goes or plan.drop for plan in self.stations)

    def why(self, what: str) -> tuple[str, ...]:
        """Why something stays; nothing where it goes or is not there."""
        return next((kept.why for kept in self.kept if kept.what == what), ())


def plan_gc(facts: Facts) -> Plan:
    """Decide what goes."""
    reasons = {(s.id, g.number): _keeps(facts, s, g) for s in facts.stations for g in s.generations}
    stations = tuple(
        StationPlan(
            station.id,
            tuple(g for g in _ordered(station) if not reasons[station.id, g.number]),
            droppable(
                station, frozenset(g.number for g in station.generations if reasons[station.id, g.number]), facts
            ),
        )
        for station in sorted(facts.stations, key=lambda station: station.id)
    )
    generations = tuple(
        Kept(_name(station, g), g.size, reasons[station.id, g.number])
        for station in sorted(facts.stations, key=lambda station: station.id)
        for g in _ordered(station)
        if reasons[station.id, g.number]
    )
    holders = _holders(facts, reasons)
    found = {fact: tuple(_needed(facts, fact, holders)) for fact in sorted(facts.releases, key=lambda fact: fact.key)}
    asked = {fact: why or _probed(facts, fact.key) for fact, why in found.items()}
    return Plan(
        stations,
        tuple(fact for fact, why in asked.items() if not why),
        (*generations, *(Kept(fact.key, fact.size, why) for fact, why in asked.items() if why)),
        tuple(fact.key for fact, why in found.items() if not why and fact.key not in facts.probes),
    )


def droppable(station: StationFact, stays: frozenset[int], facts: Facts) -> frozenset[str]:
    """The releases that the station's next generation need not take over from the one in use.

    What was served within the retention is answered by a generation that was in use within it, and that one stays; so
    what none of `stays` answers was not served for that long. Nothing is dropped under a hold, after a way back that
    nobody went forward from, or where something cannot be read.
    """
    newest = max(station.generations, key=lambda g: g.number, default=None)
    if newest is None or station.held or station.unknown or newest.number != station.current:
        return frozenset()
    if not all(generation.readable for generation in station.generations):
        return frozenset()
    answered = {key for g in station.generations if g.number in stays for key in g.answers}
    read = {fact.key for fact in facts.releases if _lately_read(facts, fact)}
    return frozenset(newest.holds - answered - read - {key for key, why in facts.needs.items() if why})


def _keeps(facts: Facts, station: StationFact, generation: GenerationFact) -> tuple[str, ...]:
    """Every reason for which a generation stays."""
    return tuple(_reasons(facts, station, generation))


def _reasons(facts: Facts, station: StationFact, generation: GenerationFact) -> Iterator[str]:
    number = generation.number
    if station.unknown:
        yield station.unknown
    if not generation.readable:
        yield "it cannot be read; see what is wrong with: changeover doctor"
    if number == station.current:
        yield "in use"
    elif number in set(station.chain(facts.retention.generations)):
        yield f"the way back: one of the {facts.retention.generations} newest in its line"
    if number == max(other.number for other in station.generations):
        yield "the newest"
    yield from (f"{lease} keeps it" for lease in station.leases if lease.keeps(number, facts.now))
    last = max(filter(None, (generation.made_at, generation.used_until)))
    if facts.now - last < timedelta(days=facts.days):
        yield f"made or used within {facts.days} days"


def _holders(facts: Facts, reasons: Mapping[tuple[str, int], tuple[str, ...]]) -> Mapping[str | None, list[str]]:
    """Which generations that stay hold a release, by its key; under None those that may hold any."""
    found: dict[str | None, list[str]] = {}
    for station in facts.stations:
        for generation in station.generations:
            if reasons[station.id, generation.number]:
                for key in generation.holds if generation.readable else (None,):
                    found.setdefault(key, []).append(_name(station, generation))
    return found


def _needed(facts: Facts, fact: ReleaseFact, holders: Mapping[str | None, list[str]]) -> Iterator[str]:
    yield from facts.needs.get(fact.key, ())
    yield from (f"{holder} holds it" for holder in sorted(holders.get(fact.key, ())))
    yield from (f"{holder} cannot be read and may hold it" for holder in sorted(holders.get(None, ())))
    if facts.now - fact.placed_at < GRACE:
        yield "put in place within a day"
    if _lately_read(facts, fact):
        yield f"read within {facts.days} days"


def _lately_read(facts: Facts, fact: ReleaseFact) -> bool:
    return fact.read_at is not None and facts.now - fact.read_at < timedelta(days=facts.days)


def _probed(facts: Facts, key: str) -> tuple[str, ...]:
    probe = facts.probes.get(key, Probe())
    return tuple(_of_probe(probe, purged=key in facts.purge))


def _of_probe(probe: Probe, *, purged: bool) -> Iterable[str]:
    if probe.is_open:
        yield "a process has it open"
    elif probe.copy is None and not purged:
        yield f"no other copy could be shown: {probe.missing}; --purge with --reason gives it up"


def _ordered(station: StationFact) -> list[GenerationFact]:
    return sorted(station.generations, key=lambda generation: generation.number)


def _name(station: StationFact, generation: GenerationFact) -> str:
    return f"generation {generation.number} of {station.id}"
