"""What would change at a station and why: a value, decided from values, before anything is touched.

A station's generation holds every release that any channel, pin or kept stamp can resolve to. For each channel and pin
of the choice the plan takes the chosen release if the station may run it; else it keeps what the station had there and
says why. Releases of the generation in use stay: open scripts carry their stamps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.choice import Choice
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, Refused
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.station import Generation, GenerationChannel, GenerationPin, GenerationRelease, Hold
from changeover_updater.eligible import Candidate, Eligible, describe, judge_release
from changeover_updater.studio import FiledVerdict, Studio

__all__ = ["Known", "Move", "Plan", "make_plan"]

Outcome = Literal["take", "same", "keep", "gone"]


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

    def held(self) -> Mapping[str, GenerationRelease]:
        """Every release that the station keeps, by key.

        Each generation takes over all of the one before, so the newest and the one in use hold everything.
        """
        both = (self.latest, self.current)
        return {release.key: release for generation in both if generation for release in generation.releases}


@dataclass(frozen=True, slots=True)
class Target:
    """Something in the choice that names a release: a channel, or a pin (`where` is its label)."""

    where: str
    release: ReleaseRef
    channel: str | None = None
    pin: GenerationPin | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What the plan does with one target."""

    where: str
    model: str
    before: str | None
    wanted: str
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The moves, the releases judged for them, and the generation to build (None when nothing changes)."""

    moves: tuple[Move, ...]
    judged: tuple[Eligible, ...]
    generation: Generation | None
    hold: Hold | None
    held: frozenset[str]
    smoke: tuple[tuple[str, Finding], ...] = ()
    trust_errors: tuple[ChangeoverError, ...] = ()

    @property
    def taken(self) -> tuple[Eligible, ...]:
        """The releases that the new generation serves for the first time here."""
        keys = {move.wanted for move in self.moves if move.outcome == "take"} - self.held
        return tuple(eligible for eligible in self.judged if str(eligible.ref) in keys)

    @property
    def exit_code(self) -> int:
        """0 when all that was chosen is or will be in use here; else 5, 3 or 4: trust, refused, undecided."""
        kept = {move.wanted for move in self.moves if move.outcome == "keep"}
        if not kept:
            return 0
        if self.trust_errors:
            return 5
        refused = any(e.refused for e in self.judged if str(e.ref) in kept)
        return 3 if refused or any(isinstance(f, Refused) for _, f in self.smoke) else 4


def make_plan(known: Known) -> Plan:
    """Decide what a station would change to."""
    targets = _targets(known.studio.choices)
    judged = {t.release: _judge(known, t) for t in targets}
    moves = tuple(_move(known, target, judged[target.release]) for target in targets)
    hold = _live_hold(known)
    generation = None if hold else _generation(known, targets, moves, judged)
    eligible = tuple(e for e in judged.values() if isinstance(e, Eligible))
    errors = tuple(dict.fromkeys(e for e in judged.values() if isinstance(e, ChangeoverError)))
    return Plan(moves, eligible, generation, hold, frozenset(known.held()), known.smoke, errors)


def _live_hold(known: Known) -> Hold | None:
    hold = known.hold
    return hold if hold and (hold.until is None or known.now < parse_time(hold.until)) else None


def _targets(choices: tuple[Choice, ...]) -> tuple[Target, ...]:
    found: list[Target] = []
    for choice in choices:
        found.extend(Target(p.channel, p.release, channel=p.channel) for p in choice.channels)
        for pin in choice.pins:
            where = "/".join(filter(None, (pin.show, pin.sequence, pin.shot))) or "site"
            entry = GenerationPin(
                model=pin.release.model, key=str(pin.release), show=pin.show, sequence=pin.sequence, shot=pin.shot
            )
            found.append(Target(f"pin {where}", pin.release, pin=entry))
    return tuple(found)


def _judge(known: Known, target: Target) -> Eligible | ChangeoverError | None:
    """Whether the station may run a release; an error where its vendor cannot be verified, None if it is not synced."""
    vendor = known.studio.vendor(target.release.model)
    if vendor is not None and vendor.error is not None:
        return vendor.error
    release = known.studio.release(target.release)
    if vendor is None or release is None:
        return None
    return judge_release(
        Candidate(
            release=release,
            vendor=vendor,
            baseline=_baseline(known, target),
            verdicts=known.verdicts,
            overrides=known.studio.overrides(target.release),
            facts=known.facts,
            policy=known.studio.policy,
            now=known.now,
        )
    )


def _baseline(known: Known, target: Target) -> Release | None:
    before = _before(known.current, target)
    return next((r for r in known.studio.releases() if str(r.ref()) == before and r.ref() != target.release), None)


def _before(current: Generation | None, target: Target) -> str | None:
    if current is None:
        return None
    if target.channel is not None:
        wanted = (target.channel, target.release.model)
        return next((c.key for c in current.channels if (c.channel, c.model) == wanted), None)
    return next((p.key for p in current.pins if target.pin and _same_scope(p, target.pin)), None)


def _same_scope(one: GenerationPin, other: GenerationPin) -> bool:
    return (one.model, one.show, one.sequence, one.shot) == (other.model, other.show, other.sequence, other.shot)


def _move(known: Known, target: Target, judged: Eligible | ChangeoverError | None) -> Move:
    before, wanted = _before(known.current, target), str(target.release)
    serves = wanted in known.held() and not _withdrawn(known, target.release)
    outcome: Outcome
    if before == wanted or serves:
        # A release that the station already serves is never taken away by a changed host; it is only reported.
        outcome, why = ("same" if before == wanted else "take"), ""
    elif smoke := next((finding for key, finding in known.smoke if key == wanted), None):
        outcome, why = "keep", describe(smoke)
    elif isinstance(judged, Eligible) and judged.accepted:
        outcome, why = "take", ""
    else:
        outcome, why = "keep", _why_not(judged, wanted)
    return Move(target.where, target.release.model, before, wanted, outcome, why)


def _why_not(judged: Eligible | ChangeoverError | None, wanted: str) -> str:
    if judged is None:
        return f"{wanted} is not known here; run: changeover sync"
    if isinstance(judged, ChangeoverError):
        return str(judged)
    reasons = judged.reasons()
    return describe(reasons[0]) if reasons else f"{wanted} has no variant for any loader of this station"


def _generation(
    known: Known,
    targets: tuple[Target, ...],
    moves: tuple[Move, ...],
    judged: Mapping[ReleaseRef, Eligible | ChangeoverError | None],
) -> Generation | None:
    resolved = [(t, m.wanted if m.outcome != "keep" else m.before) for t, m in zip(targets, moves, strict=True)]
    releases = _releases(known, judged, {key for _, key in resolved if key})
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


def _releases(
    known: Known, judged: Mapping[ReleaseRef, Eligible | ChangeoverError | None], keys: set[str]
) -> tuple[GenerationRelease, ...]:
    held = dict(known.held())
    for ref, eligible in judged.items():
        if str(ref) in keys and str(ref) not in held and isinstance(eligible, Eligible):
            held[str(ref)] = GenerationRelease(
                key=str(ref), model=ref.model, version=ref.version, digest=ref.digest, answers=eligible.answers
            )
    return tuple(_with_withdrawal(known, held[key]) for key in sorted(held))


def _with_withdrawal(known: Known, release: GenerationRelease) -> GenerationRelease:
    ref = ReleaseRef(model=release.model, version=release.version, digest=release.digest)
    why = _withdrawn(known, ref)
    return release.model_copy(update={"withdrawn": why}) if why else release


def _withdrawn(known: Known, ref: ReleaseRef) -> str | None:
    vendor = known.studio.vendor(ref.model)
    return None if vendor is None or vendor.error is not None else vendor.withdrawn(ref)


def _same(current: Generation | None, new: Generation) -> bool:
    if current is None:
        return False
    silent = {"number": 0, "made_at": "", "why": "", "previous": None}
    return current.model_copy(update=silent) == new.model_copy(update=silent)
