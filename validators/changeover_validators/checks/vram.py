"""Check 6, VRAM: whether an operating point's predicted memory fits what the policy leaves of a host's memory.

The budget comes from total memory and the policy (`checks/budget.py`), never from what happens to be free now, so the
same facts always give the same answer. What must fit is every instance of the model that one script holds, and, unless
the policy unloads first, the release in use beside them while nodes move one by one. A curve is compared, never
extended: a plate that it does not hold is passed by a larger one that fits, refused by the least that it asks for
(`vram/curves.py`), or not run. What this leaves out: the prediction (`vram/`).

`changeover_gate` is the go or no-go on free memory at the moment of the changeover, the only place where that counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.memory import MemoryAnswer
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport
from changeover_validators.checks.budget import MIB, Budget, budget, free_bytes, mib
from changeover_validators.devices import look
from changeover_validators.vram.curves import Plate, asked_for, at_plate, larger_plates
from changeover_validators.vram.footprint import Footprint, Need, instances_of, need_of

__all__ = ["GO", "Gate", "Memory", "changeover_gate", "check_vram", "footprint_at"]


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of an operating point's memory.

    Attributes:
        curve: Predicted bytes at plate sizes; empty for what cannot be predicted.
        answer: The prediction at the policy's plate; it tells the context apart from each instance.
        pixels: The pixels of a plate's tensor (`curves.tensor_pixels`); without it, those of the plate.
        attention: Whether the model has global attention.
        one_size: Whether the tensor has one size whatever plate and tile, so that no smaller tile helps.
    """

    curve: tuple[CurvePoint, ...] = ()
    answer: MemoryAnswer | None = None
    pixels: Callable[[Plate], int] | None = None
    attention: bool = False
    one_size: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether to change over at this moment: `go`, or `wait` and why."""

    answer: Literal["go", "wait"]
    why: str = ""


GO = Gate("go")
"""Nothing to wait for."""


def footprint_at(report: PointReport, policy: Policy) -> Footprint | None:
    """What a verdict's operating point takes at the policy's plate, or None where its curve does not hold that."""
    found = at_plate(report.memory, policy.vram.plate)
    return None if found is None else _footprint(found, report.point.provider, report.memory_answer, policy)


def check_vram(
    point: OperatingPoint,
    memory: Memory,
    facts: HostFacts,
    policy: Policy,
    *,
    old: Footprint | Unknown | None = None,
    largest: Tile | None = None,
) -> Finding:
    """Compare what is known of a point's memory at the policy's plate with the host's budget.

    Args:
        point: The operating point; its provider chooses between VRAM and RAM.
        memory: What is known of it.
        facts: The host.
        policy: Plate, reserves, instances and how a changeover goes.
        old: What the release in use takes here; None where none is in use. Unknown is said, and left to the gate.
        largest: The largest tile that fits, if the caller searched for one; it becomes the refusal's remedy.
    """
    if not memory.curve:
        why = "no prediction of memory for this variant"
        return _not_run(point, "memory-unknown", why, "measure it on this host, or override vram for this release")
    allowed = budget(facts, policy, point.provider)
    if isinstance(allowed, Unknown):
        why = f"the memory budget is unknown: {allowed.unknown}"
        return _not_run(point, "budget-unknown", why, look(allowed))
    case = _Case(point, memory, policy, allowed, old, largest)
    found = at_plate(memory.curve, policy.vram.plate)
    return _between(case) if found is None else _compared(case, found, "")


def changeover_gate(facts: HostFacts, needed: Footprint | None, old: Footprint | None = None) -> Gate:
    """Whether one instance of a model has room at this moment, on the card that Nuke uses.

    A session that loads what does not fit right now falls back to the CPU in silence. On a host without a GPU there is
    nothing to look at. `old` is what is given back first, where the policy unloads first.
    """
    if needed is None or facts.gpus == ():
        return GO
    free = free_bytes(facts)
    if isinstance(free, Unknown):
        return Gate("wait", f"how much memory is free on the GPU is not known: {free.unknown}")
    wanted = max(0, needed.one_bytes - (old.instance_bytes if old else 0))
    if wanted <= free:
        return GO
    return Gate("wait", f"{mib(free)} MiB are free on the GPU at this moment and {mib(wanted)} are needed")


@dataclass(frozen=True, slots=True)
class _Case:
    """What every branch of the comparison looks at."""

    point: OperatingPoint
    memory: Memory
    policy: Policy
    allowed: Budget
    old: Footprint | Unknown | None
    largest: Tile | None

    def footprint(self, found: CurvePoint) -> Footprint:
        """A point of the curve, split."""
        return _footprint(found, self.point.provider, self.memory.answer, self.policy)

    def need(self, footprint: Footprint) -> Need:
        """What must fit of `footprint`, beside what is known to be in use."""
        return need_of(footprint, self.policy, self.old if isinstance(self.old, Footprint) else None)


def _footprint(found: CurvePoint, provider: str, answer: MemoryAnswer | None, policy: Policy) -> Footprint:
    """A curve's point, split. One without `requested_bytes` was made before context was a part of the prediction."""
    context = policy.vram.context_mib * MIB if provider != "cpu" else 0
    if answer is not None:
        context, label = answer.part("context"), answer.label
    else:
        label = "modelled"
    if found.requested_bytes is None:
        return Footprint(context, found.bytes, label)
    return Footprint(min(context, found.bytes), max(0, found.bytes - context), label)


def _compared(case: _Case, found: CurvePoint, at: str) -> Finding:
    """A prediction against the budget; `at` says which other plate it was made for."""
    footprint = case.footprint(found)
    need = case.need(footprint)
    allowed = case.allowed.allowed_bytes
    if need.bytes <= allowed:
        detail = f"{mib(need.bytes)} of {mib(allowed)} MiB {_plate(case)}{at}, {_counted(case, need)}"
        return Passed(
            check="vram",
            subject=str(case.point),
            detail=f"{detail}, {footprint.label}",
            evidence=_evidence(case, footprint),
        )
    alone = need.alone_bytes > allowed
    least = _least(case, found)
    if least is not None and least.bytes <= allowed:
        return _open(case, need, least, at)
    what = "" if alone else " while the release in use is resident"
    return _refused(
        case,
        code="over-budget" if alone else "over-budget-at-changeover",
        evidence=_evidence(case, footprint),
        rule=_rule(case.point) + ("" if alone else " at the changeover"),
        actual=f"{mib(need.alone_bytes if alone else need.bytes)} MiB {_plate(case)} "
        f"{_tiled(case.point.tile)}{what}, {_many(case) if alone else _counted(case, need)}, {footprint.label}",
        remedy=_remedy(case, alone=alone),
    )


def _least(case: _Case, found: CurvePoint) -> Need | None:
    """What must fit at the range's low end, where the range is wide because nobody measured such a card."""
    answer = case.memory.answer
    if case.point.provider == "cpu" or found.low_bytes is None or answer is None or answer.label != "modelled":
        return None
    return case.need(case.footprint(found.model_copy(update={"bytes": found.low_bytes})))


def _open(case: _Case, need: Need, least: Need, at: str) -> Finding:
    """Between the ends of the range lies the budget, so only a measurement can tell."""
    why = (
        f"{mib(least.bytes)} to {mib(need.bytes)} MiB {_plate(case)}{at} {_tiled(case.point.tile)}, "
        f"{_counted(case, need)}, and {mib(case.allowed.allowed_bytes)} MiB are allowed: what cuDNN takes on such a "
        "card was never measured"
    )
    tile = "" if case.largest is None else f", or use tile {case.largest}, which fits in any case"
    remedy = f"run changeover measure on a host with this card, or make gpu there for a calibration{tile}"
    return _not_run(case.point, "workspace-unknown", why, remedy)


def _between(case: _Case) -> Finding:
    """The answer for a plate that was not predicted."""
    plate, point, memory = case.policy.vram.plate, case.point, case.memory
    allowed = case.allowed.allowed_bytes
    for larger in larger_plates(memory.curve, plate):
        # A larger plate that fits answers for a smaller one; one that does not fit says nothing about it.
        footprint = case.footprint(larger)
        if case.need(footprint).bytes <= allowed:
            return _compared(case, larger, f" (predicted at {larger.width}x{larger.height})")
    asked = asked_for(memory.curve, plate, pixels=memory.pixels, attention=memory.attention)
    least = instances_of(case.policy) * asked.least if asked else 0
    if least > allowed:
        actual = f"at least {mib(least)} MiB at {plate[0]}x{plate[1]} {_tiled(point.tile)}, by the plates known"
        evidence = (f"budget {case.allowed.terms()}", "bounds of what is asked for at the plates known")
        rule, remedy = _rule(point), _remedy(case, alone=True)
        return _refused(case, code="over-budget", evidence=evidence, rule=rule, actual=actual, remedy=remedy)
    why = f"no prediction at {plate[0]}x{plate[1]}"
    return _not_run(point, "plate-unknown", why, "run changeover check again with this policy")


def _rule(point: OperatingPoint) -> str:
    return "RAM budget" if point.provider == "cpu" else "VRAM budget"


def _plate(case: _Case) -> str:
    width, height = case.policy.vram.plate
    return "whatever the plate" if case.memory.one_size else f"at {width}x{height}"


def _tiled(tile: Tile) -> str:
    return f"with tile {tile}" if tile.size else "as a whole frame"


def _many(case: _Case) -> str:
    number = instances_of(case.policy)
    return f"{number} instances" if number > 1 else "1 instance"


def _counted(case: _Case, need: Need) -> str:
    many = _many(case)
    if isinstance(case.old, Unknown) and need.both:
        return f"{many}, beside a release in use of which nothing is known"
    if need.changeover_bytes is None:
        return many
    return f"{many} and the release in use" if need.both else f"{many}, unloading first"


def _evidence(case: _Case, footprint: Footprint) -> tuple[str, ...]:
    """What the answer rests on: the budget's terms, and the prediction with the tuple that it belongs to."""
    told = f"{mib(footprint.context_bytes)} MiB context, {mib(footprint.instance_bytes)} an instance"
    answer = case.memory.answer
    if answer is None:
        return (f"budget {case.allowed.terms()}", told)
    key = answer.key
    where = f"{key.runtime} {key.version} {key.provider}, tensor {key.width}x{key.height}, {key.threads} threads"
    return (f"budget {case.allowed.terms()}", f"{told}: {where}, {answer.range.sessions} sessions")


def _refused(case: _Case, *, code: str, evidence: tuple[str, ...], rule: str, actual: str, remedy: str) -> Refused:
    return Refused(
        check="vram",
        subject=str(case.point),
        code=code,
        evidence=evidence,
        rule=rule,
        expected=f"at most {case.allowed.allowed_bytes // MIB} MiB ({case.allowed.terms()})",
        actual=actual,
        remedy=remedy,
    )


def _remedy(case: _Case, *, alone: bool) -> str:
    if not alone:
        unload = 'set changeover = "unload-first" under [vram] in policy.toml'
        return unload if case.memory.one_size else f"{unload}, or use a smaller tile"
    if case.largest is not None:
        point = case.point
        return f"the largest operating point that fits is {point.variant}/{case.largest}/{point.provider}"
    return "use a host with more memory" if case.memory.one_size else "use a smaller tile, or a host with more memory"


def _not_run(point: OperatingPoint, code: str, why: str, remedy: str) -> NotRun:
    return NotRun(check="vram", subject=str(point), code=code, why=why, remedy=remedy)
