"""Which operating point of a release a host would use, and why each other one is passed over. Pure, given predictions.

Checks 5 and 6 are evaluated for every variant, provider and tile. The choice depends on what is said and never on the
order in which it is said: of all points that fit, the first by `rank` is chosen. What this leaves out: where
predictions come from (the caller hands in `predict`), licences, golden shots and speed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.memory import MemoryAnswer
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_registry.records.verdict import CurvePoint, OperatingPoint
from changeover_validators.checks.budget import Budget, budget
from changeover_validators.checks.hardware import check_hardware, providers_for
from changeover_validators.checks.vram import Memory, check_vram
from changeover_validators.vram.curves import tensor_pixels
from changeover_validators.vram.footprint import Footprint, Need, footprint_of, need_of
from changeover_validators.vram.solve import LARGEST_TILE, tiles_of

__all__ = [
    "Fits",
    "Judged",
    "Outcome",
    "Predict",
    "codes",
    "curve_point",
    "judge_points",
    "memory_of",
    "passed_over",
    "preference",
    "rank",
]

Outcome = Literal["fits", "over-budget", "incompatible", "unknown"]

Predict = Callable[[Variant, OperatingPoint], MemoryAnswer]
"""The memory of an operating point at the policy's plate; raises `ChangeoverError` where there is no answer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One operating point: its findings of checks 5 and 6, and the prediction that they rest on, if there is one."""

    point: OperatingPoint
    outcome: Outcome
    findings: tuple[Finding, ...]
    answer: MemoryAnswer | None = None
    need: Need | None = None


@dataclass(frozen=True, slots=True)
class Fits:
    """What becomes of a release on a host. `points` stand in the order of preference; `chosen` is the first that fits.

    `budget` is what the points were compared with, by provider.
    """

    outcome: Outcome
    points: tuple[Judged, ...]
    chosen: Judged | None
    budget: Budget | Unknown


def rank(point: OperatingPoint) -> tuple[object, ...]:
    """What is preferred: the GPU, the whole frame, larger tiles, more overlap, fp32; the variant's id breaks a tie.

    A whole frame has no seams and the largest tile the fewest; precision comes after, since both were scored.
    """
    size = point.tile.size or LARGEST_TILE + 1
    return (point.provider != "cuda", -size, -point.tile.overlap, point.precision != "fp32", point.variant)


def preference(chosen: OperatingPoint, other: OperatingPoint) -> str:
    """By what `chosen` comes before `other`, in words."""
    if chosen.provider != other.provider:
        return "it runs on the GPU"
    if chosen.tile.size != other.tile.size:
        return "the whole frame has no seams" if chosen.tile.size == 0 else "a larger tile has fewer seams"
    if chosen.tile.overlap != other.tile.overlap:
        return "more overlap hides seams better"
    if chosen.precision != other.precision:
        return "fp32 comes before fp16"
    return "its name comes first"


def judge_points(
    release: Release, facts: HostFacts, policy: Policy, predict: Predict, old: Footprint | Unknown | None = None
) -> Fits:
    """Evaluate every operating point of `release` on the host of `facts`.

    Args:
        release: The release.
        facts: The host.
        policy: Plate, reserves, instances and how a changeover goes.
        predict: Where predictions come from.
        old: What the release in use takes on that host.
    """
    hardware = check_hardware(release, facts, policy)
    judged = [
        point
        for variant in release.variants
        for point in _variant(variant, _of(variant, hardware), facts, policy, predict, old)
    ]
    points = tuple(sorted(judged, key=lambda one: rank(one.point)))
    chosen = next((one for one in points if one.outcome == "fits"), None)
    provider = chosen.point.provider if chosen else next((one.point.provider for one in points), "cuda")
    return Fits(_together(points), points, chosen, budget(facts, policy, provider))


def passed_over(fits: Fits) -> tuple[tuple[Judged, str], ...]:
    """Every point that is not chosen, with why in one line."""
    return tuple((one, _why(one, fits.chosen)) for one in fits.points if one is not fits.chosen)


def codes(one: Judged) -> tuple[str, ...]:
    """The reason codes of a point that does not fit: stable words for programs, each once."""
    found = (finding for finding in one.findings if isinstance(finding, (Refused, NotRun)))
    return tuple(dict.fromkeys(finding.code or f"{finding.check}-{finding.outcome}" for finding in found))


def curve_point(plate: tuple[int, int], answer: MemoryAnswer) -> CurvePoint:
    """An answer as a verdict keeps it: the high end of the range, the low one, and what is asked for."""
    spread = answer.range.high_bytes - answer.range.low_bytes
    return CurvePoint(
        width=plate[0],
        height=plate[1],
        bytes=answer.total_bytes,
        low_bytes=max(0, answer.total_bytes - spread),
        requested_bytes=answer.requested_bytes,
    )


def memory_of(
    variant: Variant, tile: Tile, curve: tuple[CurvePoint, ...], answer: MemoryAnswer | None = None
) -> Memory:
    """What is known of a variant's memory under `tile`."""
    pixels, one_size = tensor_pixels(variant.contract, tile), variant.contract.resize is not None
    return Memory(curve, answer, pixels, bool(variant.requires.global_attention), one_size)


def _of(variant: Variant, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.subject.split("/")[0] == variant.id)


def _variant(
    variant: Variant,
    hardware: tuple[Finding, ...],
    facts: HostFacts,
    policy: Policy,
    predict: Predict,
    old: Footprint | Unknown | None,
) -> Iterable[Judged]:
    """The points of one variant; where its hardware does not do, each of them says why."""
    providers = providers_for(variant, facts, policy)
    against = _against(variant, hardware)
    for provider in providers or (("cpu",) if facts.gpus == () else ("cuda",)):
        for tile in variant.contract.tiles:
            point = OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
            blocked = against or _not_offered(variant, point)
            if blocked:
                yield Judged(point, _outcome(blocked), blocked)
            else:
                yield _memory(variant, point, hardware, facts, policy, predict, old)


def _against(variant: Variant, hardware: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What speaks against a variant here. A ``.cat`` needs one Nuke that loads it, and a provider."""
    lines = [f for f in hardware if "/nuke-" in f.subject]
    others = tuple(f for f in hardware if "/nuke-" not in f.subject and not isinstance(f, Passed))
    if variant.runtime == "nuke-cat" and not any(isinstance(f, Passed) for f in lines):
        return (*(f for f in lines), *others)
    return others


def _not_offered(variant: Variant, point: OperatingPoint) -> tuple[Finding, ...]:
    if point.tile in tiles_of(variant):
        return ()
    refused = Refused(
        check="hardware",
        subject=str(point),
        code="tile-not-offered",
        rule="tile",
        expected="a tile that the knob of Nuke's Inference node offers: none, 1024, 2048 or 4096",
        actual=str(point.tile),
        remedy="ask the vendor to allow one of them",
    )
    return (refused,)


def _memory(
    variant: Variant,
    point: OperatingPoint,
    hardware: tuple[Finding, ...],
    facts: HostFacts,
    policy: Policy,
    predict: Predict,
    old: Footprint | Unknown | None,
) -> Judged:
    passed = tuple(f for f in hardware if isinstance(f, Passed))
    try:
        answer = predict(variant, point)
    except ChangeoverError as error:
        silent = NotRun(check="vram", subject=str(point), code="memory-unknown", why=str(error), remedy=error.remedy)
        return Judged(point, "unknown", (*passed, silent))
    known = memory_of(variant, point.tile, (curve_point(policy.vram.plate, answer),), answer)
    finding = check_vram(point, known, facts, policy, old=old)
    need = need_of(footprint_of(answer), policy, old if isinstance(old, Footprint) else None)
    return Judged(point, _outcome((finding,)), (*passed, finding), answer, need)


def _outcome(findings: Iterable[Finding]) -> Outcome:
    """Refused before unknown: a rule that says no stays no, whatever else is not known."""
    found = tuple(findings)
    refused = [finding for finding in found if isinstance(finding, Refused)]
    if refused:
        return "over-budget" if all(finding.check == "vram" for finding in refused) else "incompatible"
    return "unknown" if any(isinstance(finding, NotRun) for finding in found) else "fits"


def _together(points: tuple[Judged, ...]) -> Outcome:
    """One that fits is enough; where none does, one that nobody knows of leaves the answer open."""
    order: tuple[Outcome, ...] = ("fits", "unknown", "over-budget", "incompatible")
    found = {one.outcome for one in points}
    return next((outcome for outcome in order if outcome in found), "unknown")


def _why(one: Judged, chosen: Judged | None) -> str:
    if one.outcome == "fits" and chosen is not None:
        return f"would do, and {chosen.point} is preferred: {preference(chosen.point, one.point)}"
    found = [finding for finding in one.findings if isinstance(finding, (Refused, NotRun))]
    return "; ".join(dict.fromkeys(_line(finding) for finding in found))


def _line(finding: Refused | NotRun) -> str:
    if isinstance(finding, Refused):
        # The budget is told once for all points.
        expected = "" if finding.check == "vram" else f"expected {finding.expected}, found "
        return f"{finding.rule}: {expected}{finding.actual}"
    return f"unknown: {finding.why}"
