"""Checks 5 and 6: which operating points a host could use, and which of them fit its memory.

Decided on the facts that were given, this machine's or another's from a file; nothing is measured.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from changeover_registry.errors import MeasurementError, RefusedError, UndecidedError, UnreachableError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_registry.records.verdict import OperatingPoint, PointReport
from changeover_updater.bench import Bench, variant_of
from changeover_updater.eligible import blocking, describe
from changeover_updater.fits import current_footprint
from changeover_updater.memory import calibration_of
from changeover_updater.predicting import Predictors, builders_of
from changeover_updater.resident import resident
from changeover_updater.studio import FiledVerdict, read_verdicts
from changeover_updater.subjects import Subject
from changeover_validators.checks.budget import budget, mib
from changeover_validators.checks.hardware import check_hardware, providers_for
from changeover_validators.checks.vram import check_vram
from changeover_validators.fits import curve_point, memory_of, rank
from changeover_validators.runtimes.interface import OWN_PLAN
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.footprint import Footprint, Room
from changeover_validators.vram.predictor import Predictor

__all__ = ["PLATES", "check_fits", "check_host", "points_of", "points_to_measure", "predictors_of"]

PLATES = ((1920, 1080), (2048, 1556), (3840, 2160), (4096, 2160))
"""Plate sizes in pixels at which a verdict keeps the predicted memory, besides the policy's own."""


def check_host(release: Release, facts: HostFacts, policy: Policy) -> tuple[Finding, ...]:
    """Check 5; where one variant can run here, those that cannot are named and do not count against the release."""
    findings = check_hardware(release, facts, policy)
    if not any(isinstance(finding, Passed) for finding in findings):
        return findings
    return tuple(
        NotApplicable(check="hardware", subject=f.subject, rule="other-variant-serves", detail=describe(f))
        if blocking((f,))
        else f
        for f in findings
    )


def points_of(
    bench: Bench, release: Release, facts: HostFacts, baseline: Release | None = None
) -> Iterator[PointReport]:
    """Check 6 for every operating point that the facts' host could use, beside `baseline`, the release in use."""
    predictors = predictors_of(bench, facts)
    verdicts = read_verdicts(bench.site, bench.studio, baseline.digest()) if baseline else ()
    for variant in release.variants:
        for provider in providers_for(variant, facts, bench.studio.policy):
            old = _old(bench, baseline, verdicts, predictors, provider)
            for tile in variant.contract.tiles:
                point = OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
                yield _with_memory(bench, release, facts, point, predictors, old)


def _old(
    bench: Bench,
    baseline: Release | None,
    verdicts: Iterable[FiledVerdict],
    predictors: Predictors,
    provider: str,
) -> Footprint | Unknown | None:
    """What the release in use takes: by its verdicts, or, on another host than this machine, as predicted."""
    found = resident(baseline, verdicts, bench.studio.policy, provider)
    if baseline is None or not isinstance(found, Unknown) or predictors.facts == bench.own:
        return found
    try:
        bench.install(baseline, tuple(variant for variant in baseline.variants if variant.runtime != "nuke-cat"))
    except UnreachableError:
        return found
    current = Subject(f"{baseline.model}@{baseline.version}", baseline, partial(bench.folder, baseline))
    return current_footprint(current, predictors.facts, bench.studio.policy, predictors, provider)


def predictors_of(bench: Bench, facts: HostFacts) -> Predictors:
    """What predicts for the host of `facts`, with the interpreters of this machine."""
    calibration = partial(calibration_of, bench.site)
    return Predictors(facts, bench.studio.policy, builders_of(bench.own), bench.folder, calibration)


def points_to_measure(bench: Bench, points: tuple[PointReport, ...]) -> tuple[PointReport, ...]:
    """Those that may be run here: the preferred one that fits of each variant and provider, or all, by the policy.

    One whose memory cannot be predicted (TorchScript) is run.
    """
    fitting = [report for report in points if not any(isinstance(f, Refused) for f in report.findings)]
    if bench.studio.policy.operating_points == "all":
        return tuple(fitting)
    first: dict[str, PointReport] = {}
    for report in sorted(fitting, key=lambda one: rank(one.point)):
        first.setdefault(f"{report.point.variant}/{report.point.provider}", report)
    return tuple(first.values())


def _with_memory(
    bench: Bench,
    release: Release,
    facts: HostFacts,
    point: OperatingPoint,
    predictors: Predictors,
    old: Footprint | Unknown | None,
) -> PointReport:
    """The memory plan for the policy's plate, predicted memory under it at all plates that a verdict keeps, a finding.

    The plan belongs to the operating point: whatever the plate, all that is measured and served runs under it.
    """
    policy, variant = bench.studio.policy, variant_of(release, point)
    try:
        predictor = predictors.of(release, variant, point.provider)
        plan = predictors.plan(
            predictor, variant, point.tile, tensor_size(variant.contract, *policy.vram.plate, point.tile)
        )
        plates = tuple(sorted({*PLATES, policy.vram.plate}))
        answers = {plate: _answer(predictor, variant, point.tile, plate, plan) for plate in plates}
    except (UndecidedError, RefusedError, MeasurementError) as error:
        silent = NotRun(check="vram", subject=str(point), code="memory-unknown", why=str(error), remedy=error.remedy)
        return PointReport(point=point, findings=(silent,))
    curve = tuple(curve_point(plate, answer) for plate, answer in answers.items())
    answer = answers[policy.vram.plate]
    finding = check_vram(point, memory_of(variant, point.tile, curve, answer), facts, policy, old=old)
    return PointReport(
        point=point,
        memory=curve,
        memory_label=answer.label,
        memory_plan=None if plan == OWN_PLAN else plan,
        memory_answer=answer,
        findings=(finding,),
    )


def _answer(
    predictor: Predictor, variant: Variant, tile: Tile, plate: tuple[int, int], plan: MemoryPlan
) -> MemoryAnswer:
    return predictor.answer(*tensor_size(variant.contract, *plate, tile), plan)


def check_fits(bench: Bench, release: Release, facts: HostFacts, points: tuple[PointReport, ...]) -> Finding:
    """Check 6 of the release: at least one operating point fits; else the largest that would is named."""
    fitting = [report for report in points if not blocking(report.findings)]
    if fitting:
        names = ", ".join(str(report.point) for report in fitting)
        return Passed(check="vram", detail=f"{len(fitting)} of {len(points)} operating points fit: {names}")
    refused = [f for report in points for f in report.findings if isinstance(f, Refused)]
    if not refused:
        first = next((f for report in points for f in report.findings), None)
        return NotRun(check="vram", why=describe(first) if first else "no operating point is possible on this host")
    smallest = refused[-1]
    return smallest.model_copy(update={"subject": "", "remedy": _largest(bench, release, facts, points[-1])})


def _largest(bench: Bench, release: Release, facts: HostFacts, report: PointReport) -> str:
    """The remedy of what fits nowhere: which tile a vendor could publish for this host."""
    from changeover_validators.vram.solve import largest_size

    policy, variant = bench.studio.policy, variant_of(release, report.point)
    allowed = budget(facts, policy, report.point.provider)
    if isinstance(allowed, Unknown):
        return "use a host with more memory"
    predictors = predictors_of(bench, facts)
    predictor = predictors.of(release, variant, report.point.provider)

    def plan(tile: Tile, width: int, height: int) -> MemoryPlan:
        return predictors.plan(predictor, variant, tile, (width, height), quick=True)

    best = largest_size(predictor, variant.contract, Room(allowed.allowed_bytes, policy), plan).best
    if best is None or best.need_bytes is None:
        return "use a host with more memory; no tile of this variant fits"
    point = report.point.model_copy(update={"tile": best.tile})
    return (
        f"the largest operating point that fits is {point} ({mib(best.need_bytes)} MiB), which the contract does not "
        "allow: ask the vendor for it, or use a host with more memory"
    )
