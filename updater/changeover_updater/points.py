"""Checks 5 and 6: which operating points a host could use, and which of them fit its memory.

Decided on the facts that were given, this machine's or another's from a file; nothing is measured.
"""

from collections.abc import Iterator

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport
from changeover_updater.bench import Bench, variant_of
from changeover_updater.eligible import blocking, describe
from changeover_validators.checks.hardware import check_hardware, providers_for
from changeover_validators.checks.vram import budget, check_vram

__all__ = ["PLATES", "check_fits", "check_host", "points_of", "points_to_measure"]

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


def points_of(bench: Bench, release: Release, facts: HostFacts) -> Iterator[PointReport]:
    """Check 6 for every operating point that the facts' host could use."""
    for variant in release.variants:
        for provider in providers_for(variant, facts, bench.studio.policy):
            for tile in variant.contract.tiles:
                point = OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
                yield _with_memory(bench, release, facts, point)


def points_to_measure(bench: Bench, points: tuple[PointReport, ...]) -> tuple[PointReport, ...]:
    """Those that may be run here: the first that fits of each variant and provider, or all, as the policy says.

    One whose memory cannot be predicted (TorchScript) is run.
    """
    fitting = [report for report in points if not any(isinstance(f, Refused) for f in report.findings)]
    if bench.studio.policy.operating_points == "all":
        return tuple(fitting)
    first: dict[str, PointReport] = {}
    for report in fitting:
        first.setdefault(f"{report.point.variant}/{report.point.provider}", report)
    return tuple(first.values())


def _with_memory(bench: Bench, release: Release, facts: HostFacts, point: OperatingPoint) -> PointReport:
    policy = bench.studio.policy
    try:
        curve = _curve(bench, release, point)
        finding = check_vram(point, curve, facts, policy)
    except UndecidedError as error:
        curve, finding = (), NotRun(check="vram", subject=str(point), why=str(error), remedy=error.remedy)
    return PointReport(point=point, memory=curve, findings=(finding,))


def _curve(bench: Bench, release: Release, point: OperatingPoint) -> tuple[CurvePoint, ...]:
    """Predicted memory at the plates that a verdict keeps; nothing for what is not an ONNX graph."""
    variant = variant_of(release, point)
    if variant.runtime != "onnx":
        return ()
    from changeover_validators.vram.solve import curve

    plates = tuple(sorted({*PLATES, bench.studio.policy.vram.plate}))
    return curve(bench.folder(release, variant) / variant.entry, variant.contract, point.tile, plates)


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
    from changeover_validators.vram.solve import largest_size, predict

    policy, variant = bench.studio.policy, variant_of(release, report.point)
    allowed = budget(facts, policy, report.point.provider)
    if isinstance(allowed, Unknown):
        return "use a host with more memory"
    model = bench.folder(release, variant) / variant.entry
    size = largest_size(model, variant.contract, allowed)
    if size is None:
        return "use a host with more memory; no tile of this variant fits"
    tile = Tile(size=size)
    needed = predict(model, variant.contract, *policy.vram.plate, tile).total_bytes
    point = report.point.model_copy(update={"tile": tile})
    return (
        f"the largest operating point that fits is {point} ({needed / 2**20:.0f} MiB), which the contract does not "
        "allow: ask the vendor for it, or use a host with more memory"
    )
