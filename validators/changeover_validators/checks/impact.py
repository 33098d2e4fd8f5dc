"""What a change of a host's runtimes, driver or GPUs breaks or re-opens, told before it bites. Pure.

A new runtime or driver is treated like a new release of a model: what is in use is checked again on the facts before
and on the facts after, and each difference is told. Compatible before and not after: it **breaks**. Nobody can say
any more: **unknown**. Not before, and after: it **mends**. Compatible in both, and a finding no longer holds: it
**re-opens**, golden and speed with the golden class, memory with the exact runtime, the driver and the GPU that it
was predicted or measured for. Where it runs on both, the memory of its operating points in use is compared with what
the policy leaves of both hosts' memory (`vram`). Nothing here withdraws anything: what is in use stays in use
until a person changes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, RuntimeFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef, Variant
from changeover_registry.records.verdict import PointReport
from changeover_validators import tables
from changeover_validators.checks.budget import MIB, Budget, budget
from changeover_validators.checks.cuda import build_of, chosen_gpus, gpu_capability
from changeover_validators.checks.hardware import check_hardware, runtime_for
from changeover_validators.checks.vram import Memory, check_vram
from changeover_validators.classes import golden_class_of, host_class
from changeover_validators.fits import memory_of

__all__ = ["Change", "Effect", "Impact", "Kind", "elsewhere", "impact"]

Kind = Literal["breaks", "unknown", "reopens", "mends"]
_ORDER: tuple[Kind, ...] = ("breaks", "unknown", "reopens", "mends")


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that is another now; `breaking` says why it is no small one."""

    what: str
    before: str
    after: str
    breaking: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of one variant of a release in use, on one provider or in one Nuke."""

    release: str
    subject: str
    kind: Kind
    why: str
    remedy: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Impact:
    """All changes and effects; `same_class` says whether every check still has to give the same answers."""

    changes: tuple[Change, ...]
    effects: tuple[Effect, ...]
    same_class: bool

    @property
    def breaks(self) -> bool:
        """Whether something in use would no longer run."""
        return any(effect.kind == "breaks" for effect in self.effects)

    @property
    def unsure(self) -> bool:
        """Whether of something in use nobody could say any more that it runs."""
        return any(effect.kind == "unknown" for effect in self.effects)


@dataclass(frozen=True, slots=True)
class _Case:
    """What every comparison looks at."""

    before: HostFacts
    after: HostFacts
    policy: Policy
    points: Mapping[ReleaseRef, tuple[PointReport, ...]]


def impact(
    before: HostFacts,
    after: HostFacts,
    releases: Iterable[Release],
    policy: Policy,
    points: Mapping[ReleaseRef, tuple[PointReport, ...]] | None = None,
) -> Impact:
    """What it means for `releases` that a host's facts are `after` and no longer `before`.

    `points` has the operating points of each that are in use, with their memory as verdicts tell it; one without a
    curve is in use and nobody has predicted its memory.
    """
    case = _Case(before, after, policy, points or {})
    found = [effect for release in releases for effect in _effects(release, case)]
    effects = tuple(sorted(found, key=lambda one: (_ORDER.index(one.kind), one.release, one.subject, one.why)))
    return Impact(tuple(_changes(before, after)), effects, host_class(before) == host_class(after))


def elsewhere(found: Impact) -> Impact:
    """What helps of an impact where the other facts are of another machine, and no update of this one.

    That a provider or a Nuke of this machine is not there, or that something else runs there, asks for nothing here.
    """
    told = (one for one in found.effects if one.kind == "reopens" or (one.kind != "mends" and one.code))
    return Impact(found.changes, tuple(told), found.same_class)


def _changes(before: HostFacts, after: HostFacts) -> Iterable[Change]:
    for name in ("os", "glibc", "cpu_level", "ram_mib", "driver", "cuda_driver", "nuke_gpu"):
        one, other = _said(getattr(before, name)), _said(getattr(after, name))
        if one != other:
            yield Change(name.replace("_", " "), one, other)
    yield from _differences("GPU", _gpus(before), _gpus(after))
    yield from _runtime_changes(before, after)
    yield from _differences("Nuke", _nukes(before), _nukes(after))


def _runtime_changes(before: HostFacts, after: HostFacts) -> Iterable[Change]:
    old, new = _runtimes(before), _runtimes(after)
    told = ({key: _runtime_said(runtime) for key, runtime in found.items()} for found in (old, new))
    for change in _differences("", *told):
        one, other = old.get(change.what), new.get(change.what)
        jump = _toolkit_jump(one, other, before, after) if one and other else ""
        yield Change(change.what, change.before, change.after, jump)


def _toolkit_jump(old: RuntimeFacts, new: RuntimeFacts, before: HostFacts, after: HostFacts) -> str:
    """The other CUDA major that an update brings, with what it asks of driver and cards; empty where it is the same."""
    one, other = _toolkit(old, before), _toolkit(new, after)
    if one is None or other is None or _major(one.line) == _major(other.line):
        return ""
    text = f"CUDA {_major(one.line)} becomes CUDA {_major(other.line)}: "
    text += f"the least driver goes from {one.floor(after.os)} to {other.floor(after.os)}"
    if one.lowest != other.lowest:
        text += f", and compute capability {other.lowest} becomes the lowest that is served (it was {one.lowest})"
    return f"{text}; this host has driver {_said(after.driver)}"


def _toolkit(runtime: RuntimeFacts, facts: HostFacts) -> tables.Toolkit | None:
    build = build_of(runtime, facts.os)
    return None if build is None else tables.toolkit(build.toolkit)


def _effects(release: Release, case: _Case) -> Iterable[Effect]:
    name = f"{release.model}@{release.version}"
    old, new = _by_subject(release, case.before, case.policy), _by_subject(release, case.after, case.policy)
    for subject in dict.fromkeys((*old, *new)):
        ran, runs = _runs(old.get(subject, ())), _runs(new.get(subject, ()))
        if ran and not runs:
            yield from _lost(name, subject, _instead(subject, new))
        elif runs and not ran and _too_large(release, subject, case):
            moved = any(_runs(old[other]) for other in _providers_of(subject, old))
            yield from _memory(release, subject, case) if moved else ()
        elif runs and not ran:
            remedy = f"changeover check {name}, then changeover update"
            yield Effect(name, subject, "mends", "it would run here", remedy)
        elif ran and runs:
            variant = release.variant(subject.partition("/")[0])
            if variant is not None and "/nuke-" not in subject:
                yield from _memory(release, subject, case)
                yield from _reopened(name, subject, variant, case.before, case.after)


def _instead(subject: str, new: Mapping[str, tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """What is found in the place of what ran: of itself, of its variant, or of the provider that is offered instead."""
    found = new.get(subject) or new.get(subject.partition("/")[0])
    if found or "/nuke-" in subject:
        return found or ()
    return tuple(finding for other in _providers_of(subject, new) for finding in new[other])


def _providers_of(subject: str, found: Mapping[str, tuple[Finding, ...]]) -> Iterable[str]:
    """The variant's subjects that are providers."""
    variant = subject.partition("/")[0]
    return (other for other in found if other.startswith(f"{variant}/") and "/nuke-" not in other)


def _lost(name: str, subject: str, findings: Sequence[Finding]) -> Iterable[Effect]:
    """Why what ran would run no longer: each reason; one that has no finding at all has lost its provider or Nuke."""
    stays = "it stays in use as installed; "
    against = [finding for finding in findings if isinstance(finding, (Refused, NotRun))]
    if not against:
        yield Effect(name, subject, "breaks", "its provider or its Nuke is gone", stays + "bring it back")
    for finding in against:
        if isinstance(finding, Refused):
            why = f"{finding.rule}: expected {finding.expected}, found {finding.actual}"
            yield Effect(name, subject, "breaks", why, stays + finding.remedy, finding.code or "")
        else:
            yield Effect(name, subject, "unknown", finding.why, stays + finding.remedy, finding.code or "")


def _memory(release: Release, subject: str, case: _Case) -> Iterable[Effect]:
    """The operating points in use that had room and have none, or of which that cannot be said any more."""
    for report in _points(release, subject, case):
        old, new = (_vram(release, report, facts, case.policy) for facts in (case.before, case.after))
        one, other = (budget(facts, case.policy, report.point.provider) for facts in (case.before, case.after))
        rooms = f"{_room(one)} allowed before, {_room(other)} after"
        name, point, stays = f"{release.model}@{release.version}", str(report.point), "it stays in use as installed; "
        # On a provider that was not offered before, no finding of before counts.
        if isinstance(new, Refused) and not (isinstance(old, Refused) and _offered(report, case)):
            why = f"{new.rule}: expected {new.expected}, found {new.actual}; {rooms}"
            yield Effect(name, point, "breaks", why, stays + new.remedy, new.code or "")
        elif isinstance(new, NotRun) and (isinstance(old, Passed) or _less(one, other)):
            yield Effect(name, point, "unknown", f"{new.why}; {rooms}", stays + new.remedy, new.code or "")


def _offered(report: PointReport, case: _Case) -> bool:
    return (report.point.provider == "cpu") == (case.before.gpus == ())


def _too_large(release: Release, subject: str, case: _Case) -> bool:
    """Whether the memory after is known to be too small for each operating point in use."""
    found = [_vram(release, report, case.after, case.policy) for report in _points(release, subject, case)]
    return bool(found) and all(isinstance(finding, Refused) for finding in found)


def _points(release: Release, subject: str, case: _Case) -> Iterable[PointReport]:
    reports = case.points.get(release.ref(), ())
    return (report for report in reports if f"{report.point.variant}/{report.point.provider}" == subject)


def _vram(release: Release, report: PointReport, facts: HostFacts, policy: Policy) -> Finding:
    """The memory check of what is in use, alone: nothing changes over."""
    variant, known = release.variant(report.point.variant), Memory()
    if variant is not None:
        known = memory_of(variant, report.point.tile, report.memory, report.memory_answer)
    return check_vram(report.point, known, facts, policy)


def _room(allowed: Budget | Unknown) -> str:
    return _said(allowed) if isinstance(allowed, Unknown) else f"{allowed.allowed_bytes // MIB} MiB"


def _less(one: Budget | Unknown, other: Budget | Unknown) -> bool:
    """Whether a budget that is known shrank, or is known no more."""
    if isinstance(one, Unknown):
        return False
    return isinstance(other, Unknown) or other.allowed_bytes < one.allowed_bytes


def _reopened(name: str, subject: str, variant: Variant, before: HostFacts, after: HostFacts) -> Iterable[Effect]:
    """The findings that were made for another class, runtime, driver or GPU."""
    provider = subject.partition("/")[2]
    old, new = runtime_for(variant, before), runtime_for(variant, after)
    if old is None or new is None:
        return
    remedy = f"before it is allowed, run on a machine like that: changeover check {name}"
    if _class(before, old, provider, variant) != _class(after, new, provider, variant):
        why = f"golden shots and speed were judged in another class ({_ground(before, old)}; now {_ground(after, new)})"
        yield Effect(name, subject, "reopens", why, remedy)
    moved = [
        f"{what} {one}, now {other}"
        for what, one, other in (
            (new.name, old.version, new.version),
            ("driver", _said(before.driver), _said(after.driver)),
            ("GPU", _cards(before), _cards(after)),
        )
        if one != other and (provider != "cpu" or what == new.name)
    ]
    if moved:
        yield Effect(name, subject, "reopens", f"memory was found for {'; '.join(moved)}", remedy)


def _class(facts: HostFacts, runtime: RuntimeFacts, provider: str, variant: Variant) -> str | None:
    try:
        return golden_class_of(facts, runtime, provider, variant.precision)
    except UndecidedError:
        return None


def _by_subject(release: Release, facts: HostFacts, policy: Policy) -> Mapping[str, tuple[Finding, ...]]:
    """The findings on each provider and in each Nuke; those of a variant alone have its own name."""
    found: dict[str, tuple[Finding, ...]] = {}
    for finding in check_hardware(release, facts, policy):
        found[finding.subject] = (*found.get(finding.subject, ()), finding)
    return found


def _runs(findings: Sequence[Finding]) -> bool:
    return bool(findings) and all(isinstance(finding, Passed) for finding in findings)


def _differences(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Change]:
    """What was added, taken away or changed, by its name."""
    for key in dict.fromkeys((*old, *new)):
        one, other = old.get(key, "none"), new.get(key, "none")
        if one != other:
            yield Change(f"{kind} {key}".strip(), one, other)


def _gpus(facts: HostFacts) -> dict[str, str]:
    """Each GPU by its UUID where it has one, else by its place; without what is free at the moment."""
    known = facts.gpus if isinstance(facts.gpus, tuple) else ()
    named = {str(gpu.uuid) if isinstance(gpu.uuid, str) else f"number {i}": gpu for i, gpu in enumerate(known)}
    return {name: _gpu_said(gpu) for name, gpu in named.items()}


def _gpu_said(gpu: Gpu) -> str:
    display = ", with a display" if gpu.display is True else ""
    divided = ", divided into instances" if gpu.mig is True else ""
    return f"{gpu.name} ({_said(gpu_capability(gpu))}, {_said(gpu.total_mib)} MiB{display}{divided})"


def _runtimes(facts: HostFacts) -> dict[str, RuntimeFacts]:
    known = facts.runtimes if isinstance(facts.runtimes, tuple) else ()
    return {f"{runtime.name} of {runtime.interpreter}": runtime for runtime in known}


def _runtime_said(runtime: RuntimeFacts) -> str:
    cuda = f", CUDA {runtime.toolkit}" if isinstance(runtime.toolkit, str) else ""
    return f"{runtime.version} ({', '.join(runtime.providers) or 'no provider'}{cuda})"


def _nukes(facts: HostFacts) -> dict[str, str]:
    return {nuke.version: f"torch {_said(nuke.torch_line)}" for nuke in facts.nukes}


def _ground(facts: HostFacts, runtime: RuntimeFacts) -> str:
    return f"{runtime.name} {runtime.version} on {_cards(facts) or _said(facts.cpu_level)}"


def _cards(facts: HostFacts) -> str:
    known = chosen_gpus(facts)
    return ", ".join(sorted(f"{gpu.name} ({_said(gpu_capability(gpu))})" for gpu in known))


def _said(fact: object) -> str:
    return f"unknown ({fact.unknown})" if isinstance(fact, Unknown) else "none" if fact is None else str(fact)


def _major(version: str) -> str:
    return version.split(".", maxsplit=1)[0]
