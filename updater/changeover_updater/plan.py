"""What would change at a station and why: a value, decided from values, before anything is touched.

A station's generation holds every release that any channel, pin or kept stamp can resolve to. For each channel and pin
of the choice the plan takes the chosen release if the station may run it; else it keeps what the station had there and
says why. Releases of the generation in use stay: open scripts carry their stamps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.choice import Choice
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, Refused
from changeover_registry.records.policy import FarmPolicy
from changeover_registry.records.release import Release, ReleaseRef, Variant
from changeover_registry.records.station import (
    Answer,
    Generation,
    GenerationChannel,
    GenerationPin,
    GenerationRelease,
    Hold,
    Quarantine,
)
from changeover_updater.eligible import Candidate, Eligible, describe, judge_release
from changeover_updater.rollout import chosen_pointers
from changeover_updater.show_terms import terms_of
from changeover_updater.studio import FiledVerdict, Studio
from changeover_validators.classes import host_class

__all__ = ["Arrival", "Known", "Move", "Plan", "make_plan", "with_withdrawal"]

Outcome = Literal["take", "same", "keep"]
Judged: TypeAlias = Eligible | ChangeoverError | None
"""What is known of a chosen release: what the host may load of it, why its vendor does not verify, or nothing."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that a plan is decided from."""

    studio: Studio
    verdicts: tuple[FiledVerdict, ...]
    facts: HostFacts
    station: str
    site: str
    current: Generation | None
    latest: Generation | None
    next_number: int
    hold: Hold | None
    now: datetime
    smoke: tuple[tuple[str, Finding], ...] = ()
    """Findings of the smoke test that keep a release, by its key, out of the generation."""
    gated: bool = False
    """Whether what does not fit the memory that is free at this moment waits."""
    installed: bool = False
    """Whether what the plan takes has been installed and smoked by now."""
    wait: str | None = None
    """Why nothing is changed over to at this moment, though it may be installed."""
    failing: tuple[tuple[tuple[str, str], str], ...] = ()
    """Channels, each with the key of a release that too many other stations failed with, and one sentence."""
    quarantined: tuple[Quarantine, ...] = ()
    """What failed on this host class before, and is not tried there again."""

    def held(self) -> Mapping[str, GenerationRelease]:
        """Every release that the station keeps, by key.

        Each generation takes over all of the one before, so the newest and the one in use hold everything.
        """
        both = (self.latest, self.current)
        return {release.key: release for generation in both if generation for release in generation.releases}


@dataclass(frozen=True, slots=True)
class Target:
    """Something in the choice that names a release: a channel, or a pin (`where` is its label, `scope` chose it)."""

    where: str
    scope: str
    release: ReleaseRef
    verdict: str | None = None
    channel: str | None = None
    pin: GenerationPin | None = None
    resumed: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What the plan does with one target."""

    where: str
    model: str
    before: str | None
    wanted: str
    outcome: Outcome
    why: str = ""
    exit_code: int = 0
    """Why it is kept, as a number: 5 trust, 3 refused, 4 undecided."""
    withdrawn: str | None = None
    """Why its vendor took back what is in use there after the plan; it is told, and never taken away."""
    waits: bool = False
    """Whether it is kept only for now: the GPU has no room, or others failed with it. Nothing is refused here."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Variants of a release that the new generation serves for the first time here: to be installed and smoked."""

    eligible: Eligible
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The moves, the releases judged for them, and the generation to build.

    It is None when nothing changes, and while the station is held or waits; what arrives is then installed all the
    same, so that the changeover itself needs no network.
    """

    moves: tuple[Move, ...]
    judged: tuple[Eligible, ...]
    generation: Generation | None
    hold: Hold | None
    held: frozenset[str]
    arrivals: tuple[Arrival, ...] = ()
    smoke: tuple[tuple[str, Finding], ...] = ()
    trust_errors: tuple[ChangeoverError, ...] = ()
    wait: str | None = None
    """Why what is planned is installed and not changed over to at this moment."""

    @property
    def taken(self) -> tuple[Eligible, ...]:
        """The releases of which something arrives."""
        return tuple(arrival.eligible for arrival in self.arrivals)

    @property
    def exit_code(self) -> int:
        """0 when all that was chosen is or will be in use here; else 5, 3 or 4: trust, refused, undecided."""
        found = {move.exit_code for move in self.moves}
        return next((code for code in (5, 3, 4) if code in found), 0)


def make_plan(known: Known) -> Plan:
    """Decide what a station would change to."""
    targets = _targets(known)
    judged = tuple(_judge(known, target) for target in targets)
    moves = tuple(_move(known, target, found) for target, found in zip(targets, judged, strict=True))
    hold = _live_hold(known)
    taken = _eligible(moves, judged)
    planned = _generation(known, targets, moves, taken)
    errors = tuple(dict.fromkeys(e for e in judged if isinstance(e, ChangeoverError)))
    return Plan(
        moves=moves,
        judged=tuple(taken.values()),
        generation=None if hold or known.wait else planned,
        hold=hold,
        held=frozenset(known.held()),
        arrivals=_arrivals(known, planned, taken) if planned else (),
        smoke=known.smoke,
        trust_errors=errors,
        wait=known.wait if planned and not hold else None,
    )


def _arrivals(known: Known, generation: Generation, judged: Mapping[str, Eligible]) -> tuple[Arrival, ...]:
    """What the generation serves and the station did not: it must be installed and smoked first."""
    held = known.held()
    found = []
    for release in generation.releases:
        before = held[release.key].served() if release.key in held else frozenset()
        new = release.served() - before
        if new:
            eligible = judged[release.key]
            found.append(Arrival(eligible, tuple(v for v in eligible.release.variants if v.id in new)))
    return tuple(found)


def _eligible(moves: tuple[Move, ...], judged: tuple[Judged, ...]) -> Mapping[str, Eligible]:
    """Each judged release once: as it was judged for a target that takes it, if there is one.

    Two targets may be judged unlike: the interface is compared with what each of them has, overrides are of a scope.
    """
    found = [(m.outcome == "take", m.wanted, e) for m, e in zip(moves, judged, strict=True) if isinstance(e, Eligible)]
    first: dict[str, Eligible] = {}
    for _, key, eligible in sorted(found, key=lambda item: (not item[0], item[1])):
        first.setdefault(key, eligible)
    return first


def _live_hold(known: Known) -> Hold | None:
    hold = known.hold
    return hold if hold and hold.holds(known.now) else None


def _targets(known: Known) -> tuple[Target, ...]:
    """Everything that is chosen, once: where the site and a show speak of the same thing, the show is heard."""
    found = [target for choice in known.studio.choices for target in _of_choice(choice, known)]
    ordered = sorted(found, key=lambda t: (t.scope != "site", t.pin is not None, _name(t), str(t.release)))
    return tuple({_name(target): target for target in ordered}.values())


def _name(target: Target) -> tuple[str, ...]:
    """What a target is the choice of; a generation answers each name once."""
    pin = target.pin
    parts = () if pin is None else (pin.show or "", pin.sequence or "", pin.shot or "")
    return (target.channel or "", target.release.model, *parts)


def _of_choice(choice: Choice, known: Known) -> Iterator[Target]:
    has = ((entry.channel, entry.key) for entry in known.current.channels) if known.current else ()
    for pointer in chosen_pointers(choice, known.station, host_class(known.facts), has):
        channel = pointer.channel
        yield Target(channel, choice.scope, pointer.release, pointer.verdict, channel=channel, resumed=pointer.resumed)
    for pin in choice.pins:
        where = "/".join(filter(None, (pin.show, pin.sequence, pin.shot))) or "site"
        entry = GenerationPin(
            model=pin.release.model, key=str(pin.release), show=pin.show, sequence=pin.sequence, shot=pin.shot
        )
        yield Target(f"pin {where}", choice.scope, pin.release, pin.verdict, pin=entry)


def _judge(known: Known, target: Target) -> Judged:
    """Whether the station may run a release; an error where it cannot be verified or read, None if it is not synced."""
    vendor = known.studio.vendor(target.release.model)
    if vendor is not None and vendor.error is not None:
        return vendor.error
    release, before = known.studio.release(target.release), _before(known.current, target)
    # Without the record of what is in use there, the interface could not be compared, which must not pass for a yes.
    unreadable = (known.studio.unreadable(key) for key in (str(target.release), before) if key)
    if error := next(filter(None, unreadable), None):
        return error
    if vendor is None or release is None:
        return None
    return judge_release(
        Candidate(
            release=release,
            vendor=vendor,
            baseline=_baseline(known, target),
            verdicts=known.verdicts,
            overrides=known.studio.overrides(target.release, target.scope),
            facts=known.facts,
            policy=known.studio.policy,
            now=known.now,
            named=target.verdict,
            terms=terms_of(known.studio.choices, target.scope),
            pinned=target.pin is not None,
        )
    )


def _baseline(known: Known, target: Target) -> Release | None:
    before = _before(known.current, target)
    named = (r for r in known.studio.releases() if before and before.startswith(f"{r.model}@{r.version}-"))
    return next((r for r in named if str(r.ref()) == before and r.ref() != target.release), None)


def _before(current: Generation | None, target: Target) -> str | None:
    if current is None:
        return None
    if target.channel is not None:
        wanted = (target.channel, target.release.model)
        return next((c.key for c in current.channels if (c.channel, c.model) == wanted), None)
    return next((p.key for p in current.pins if target.pin and _same_scope(p, target.pin)), None)


def _same_scope(one: GenerationPin, other: GenerationPin) -> bool:
    return (one.model, one.show, one.sequence, one.shot) == (other.model, other.show, other.sequence, other.shot)


def _move(known: Known, target: Target, judged: Judged) -> Move:
    before, wanted = _before(known.current, target), str(target.release)
    outcome: Outcome
    why, exit_code, waits = "", 0, False
    smoke = next((finding for key, finding in known.smoke if key == wanted), None)
    if smoke is not None:
        # What a channel or pin already has is never taken away; a further variant that fails does not come.
        outcome, why = "same" if before == wanted else "keep", describe(smoke)
        exit_code = 3 if isinstance(smoke, Refused) else 4
    elif before == wanted:
        outcome = "same"
    elif isinstance(judged, Eligible) and judged.accepted:
        outcome, why, exit_code, waits = _taken(known, target, judged)
    else:
        outcome, why, exit_code = "keep", _why_not(judged, wanted, _way_here(known, target)), _code(judged)
    gone = _gone(known, before if outcome == "keep" else wanted)
    return Move(target.where, target.release.model, before, wanted, outcome, why, exit_code, gone, waits)


def _taken(known: Known, target: Target, judged: Eligible) -> tuple[Outcome, str, int, bool]:
    """Whether a release that may be used here is taken now; else why not, the exit code, and whether it only waits.

    A pin is a person's word about one release, and does not wait for how others fare with it.
    """
    for quarantine in known.quarantined:
        if quarantine.release == judged.ref and quarantine.check not in judged.overridden:
            return "keep", _quarantined(quarantine), 3, False
    others = dict(known.failing).get((target.channel or "", str(judged.ref)))
    if others is not None:
        return "keep", others, 4, True
    if known.gated and judged.gate.answer == "wait":
        return "keep", _waits(known, judged), 4, True
    return "take", "", 0, False


def _quarantined(quarantine: Quarantine) -> str:
    return (
        f"{quarantine.check}: failed on this host class at {quarantine.since} and is not tried here again: "
        f"{quarantine.why}; another release is, or: changeover quarantine lift {quarantine.release}"
    )


def _waits(known: Known, judged: Eligible) -> str:
    """Why a release that may be used here is not changed over to at this moment."""
    installed = "installed, and waits" if known.installed else "will be installed, and waits"
    return f"{installed}: {judged.gate.why}; close what uses the GPU, then run changeover update again"


def _gone(known: Known, key: str | None) -> str | None:
    """Why the vendor took back a release that this station keeps, if it did."""
    held = known.held().get(key) if key else None
    return None if held is None else _withdrawn(known, held.ref()) or held.withdrawn


def _code(judged: Judged) -> int:
    if isinstance(judged, ChangeoverError):
        return 4 if isinstance(judged, UndecidedError) else 5
    return 3 if judged is not None and judged.refused else 4


def _way_here(known: Known, target: Target) -> str:
    """The command that brings what a target's vendor publishes."""
    vendor = known.studio.vendor(target.release.model)
    return "changeover import BUNDLE" if vendor is not None and vendor.carried else "changeover sync"


def _why_not(judged: Judged, wanted: str, way_here: str) -> str:
    if judged is None:
        return f"{wanted} is not known here; run: {way_here}"
    if isinstance(judged, ChangeoverError):
        return str(judged)
    reasons = judged.reasons()
    none = f"{wanted} has no variant for any loader of this station; name its Nuke under [[nukes]] in host.toml"
    return describe(reasons[0]) if reasons else none


def _generation(
    known: Known, targets: tuple[Target, ...], moves: tuple[Move, ...], judged: Mapping[str, Eligible]
) -> Generation | None:
    resolved = [(t, m.wanted if m.outcome != "keep" else m.before) for t, m in zip(targets, moves, strict=True)]
    releases = _releases(known, judged, {move.wanted for move in moves if move.outcome == "take"})
    policy = known.studio.policy
    new = Generation(
        number=known.next_number,
        station=known.station,
        made_at=format_time(known.now),
        why=_why(moves),
        previous=known.current.number if known.current else None,
        site=known.site,
        channel=policy.channel,
        scope=policy.scope,
        follow=policy.follow,
        farm_device=(policy.farm or FarmPolicy()).device,
        nuke_lines=tuple(sorted({nuke.line for nuke in known.facts.nukes})),
        releases=releases,
        channels=tuple(
            GenerationChannel(channel=t.channel, model=t.release.model, key=key)
            for t, key in resolved
            if t.channel and key
        ),
        pins=tuple(t.pin.model_copy(update={"key": key}) for t, key in resolved if t.pin and key),
    )
    return None if _same(known.current, new) or not (releases or known.current) else new


def _why(moves: tuple[Move, ...]) -> str:
    """What a generation is made for, in one line of the log."""
    taken = [f"{move.where}: {move.wanted}" for move in moves if move.outcome == "take"]
    return "; ".join(taken) or "the choice or the policy changed"


def _releases(known: Known, judged: Mapping[str, Eligible], taken: set[str]) -> tuple[GenerationRelease, ...]:
    held = dict(known.held())
    for key in taken - held.keys():
        ref = judged[key].ref
        held[key] = GenerationRelease(
            key=key,
            model=ref.model,
            version=ref.version,
            digest=ref.digest,
            adopted=(judged[key].release.adopted is not None) or None,
            answers=judged[key].answers,
        )
    failed = {key for key, _ in known.smoke}
    for key in (held.keys() & judged.keys()) - failed:
        if judged[key].accepted:
            held[key] = held[key].model_copy(update={"answers": _more(held[key].answers, judged[key].answers)})
    return tuple(with_withdrawal(known, held[key]) for key in sorted(held))


def _more(before: tuple[Answer, ...], now: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """What is served stays as it is; what this host could not be given before and can be now comes with it.

    A new Nuke, a new runtime or a tile that was measured since reaches releases that are in use, and no loader's
    variant is ever changed under a script that is stamped with the release.
    """
    old = {(answer.loader, answer.nuke_line): answer for answer in before}
    new = {(answer.loader, answer.nuke_line): answer for answer in now}
    return tuple(_answer(old.get(caller), new.get(caller)) for caller in {**old, **new})


def _answer(old: Answer | None, new: Answer | None) -> Answer:
    if old is None or new is None:
        return old or new  # type: ignore[return-value]  # the caller has one of them
    if old.path is None:
        return new
    if old.variant != new.variant:
        return old
    return old.model_copy(update={"tiles": tuple(dict.fromkeys((*old.tiles, *new.tiles)))})


def with_withdrawal(known: Known, release: GenerationRelease) -> GenerationRelease:
    """A release that is kept, and why its vendor took it back if that is known by now."""
    why = _withdrawn(known, release.ref())
    return release.model_copy(update={"withdrawn": why}) if why else release


def _withdrawn(known: Known, ref: ReleaseRef) -> str | None:
    vendor = known.studio.vendor(ref.model)
    return None if vendor is None or vendor.error is not None else vendor.withdrawn(ref)


def _same(current: Generation | None, new: Generation) -> bool:
    if current is None:
        return False
    silent = {"number": 0, "made_at": "", "why": "", "previous": None}
    return current.model_copy(update=silent) == new.model_copy(update=silent)
