"""Judge a candidate here: all checks in their order, cheap ones first, into one verdict.

Checks 1 to 6 are decided on the facts that were given (this machine's, or another's from a file). Speed, golden shots
and smoke are measured on this machine, for the operating points that fit, in the isolated child. A cheap refusal spares
the measuring. What is decided is decided in `changeover_validators`; this module brings it what it needs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.inspect import inspect_variant
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import CheckName, Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_registry.records.verdict import CurvePoint, GoldenSetRef, OperatingPoint, PointReport, Verdict
from changeover_updater.eligible import blocking, describe, release_findings
from changeover_updater.install import Progress, install_variants
from changeover_updater.runtimes import Runtimes
from changeover_updater.site import Site
from changeover_updater.store import Store
from changeover_updater.studio import Studio, VendorState
from changeover_validators.checks.format import check_files
from changeover_validators.checks.golden import check_golden
from changeover_validators.checks.hardware import check_hardware, providers_for
from changeover_validators.checks.speed import check_speed
from changeover_validators.checks.vram import budget, check_vram
from changeover_validators.classes import golden_class_of, host_class
from changeover_validators.runtimes import sandbox
from changeover_validators.runtimes.interface import SandboxName, Started
from changeover_validators.verdict import decide

if TYPE_CHECKING:
    from changeover_validators.golden.pipeline import Subject

__all__ = ["Case", "Watch", "check"]

PLATES = ((1920, 1080), (2048, 1556), (3840, 2160), (4096, 2160))
"""Plate sizes in pixels at which a verdict keeps the predicted memory, besides the policy's own."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Where progress goes: a line of text, and bytes of a file."""

    step: Callable[[str], None]
    bytes: Progress


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: candidate against baseline, on `facts` (checks 1 to 6) and `own` (this machine)."""

    candidate: Release
    vendor: VendorState
    baseline: Release | None
    facts: HostFacts
    own: HostFacts
    set_name: str
    who: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Bench:
    """The places and rules that the measuring needs."""

    site: Site
    store: Store
    studio: Studio
    case: Case
    watch: Watch

    def folder(self, release: Release, variant: Variant) -> Path:
        return self.store.variant_folder(release.ref(), variant.id)

    def install(self, release: Release) -> None:
        vendor = self.site.vendor_of(release.model)
        wanted = tuple(variant for variant in release.variants if variant.runtime != "nuke-cat")
        self.watch.step(f"install {release.ref()}")
        install_variants(self.store, vendor, release, wanted, self.watch.bytes)


def check(site: Site, store: Store, studio: Studio, case: Case, watch: Watch) -> Verdict:
    """Judge the candidate.

    Raises:
        TrustError: A file's bytes are not the signed ones; there is no verdict on bytes that nobody signed.
        UnreachableError: The vendor's repository does not answer.
        InvalidInputError: There is no such golden set.
    """
    bench = _Bench(site, store, studio, case, watch)
    policy = studio.policy
    golden = _golden_set(bench)
    findings = list(release_findings(case.candidate, case.vendor, case.baseline, policy))
    bench.install(case.candidate)
    findings += _files(bench)
    findings += _hardware(case, policy)
    fitting: tuple[PointReport, ...] = ()
    if not _refused(findings):
        fitting = tuple(_memory(bench, case.facts))
        findings.append(_fits(bench, fitting))
    measured = _measure(bench, golden, fitting) if not _refused(findings) else ()
    points = _joined(fitting, measured)
    decision, reason = decide(findings, measured or points)
    return Verdict(
        candidate=case.candidate.ref(),
        current=case.baseline.ref() if case.baseline else None,
        decision=decision,
        reason=reason,
        made_at=format_time(case.now),
        made_by=case.who,
        host=case.own.host,
        host_class=host_class(case.own),
        judged_host=case.facts.host if case.facts != case.own else None,
        facts=case.facts.digest(),
        policy=studio.policy_digest,
        sandbox=_sandbox_name(policy.sandbox),
        golden_set=GoldenSetRef(name=golden[0].name, version=golden[0].version, digest=golden[0].digest())
        if golden
        else None,
        findings=tuple(findings),
        points=points,
    )


def _refused(findings: Iterable[Finding]) -> bool:
    return any(isinstance(finding, Refused) for finding in findings)


def _golden_set(bench: _Bench) -> tuple[GoldenSet, tuple[GoldenShot, ...]] | None:
    if not bench.case.set_name:
        return None
    from changeover_validators.golden.shots import load_set

    return load_set(bench.site.golden, bench.case.set_name)


def _files(bench: _Bench) -> tuple[Finding, ...]:
    """Check 3 on the files themselves: what they need is what the record says."""
    found = {}
    for variant in bench.case.candidate.variants:
        if variant.runtime != "nuke-cat":
            folder = bench.folder(bench.case.candidate, variant)
            paths = tuple(file.path for file in variant.files)
            found[variant.id] = inspect_variant(folder, variant.runtime, variant.entry, paths)
    return check_files(bench.case.candidate, found)


def _hardware(case: Case, policy: Policy) -> tuple[Finding, ...]:
    """Check 5; where one variant can run here, those that cannot are named and do not count against the release."""
    findings = check_hardware(case.candidate, case.facts, policy)
    if not any(isinstance(finding, Passed) for finding in findings):
        return findings
    return tuple(
        NotApplicable(check="hardware", subject=f.subject, rule="other-variant-serves", detail=describe(f))
        if blocking((f,))
        else f
        for f in findings
    )


def _memory(bench: _Bench, facts: HostFacts) -> Iterator[PointReport]:
    """Check 6 for every operating point that the facts' host could use."""
    for variant in bench.case.candidate.variants:
        for provider in providers_for(variant, facts, bench.studio.policy):
            for tile in variant.contract.tiles:
                yield _point_memory(bench, facts, variant, tile, provider)


def _point_memory(bench: _Bench, facts: HostFacts, variant: Variant, tile: Tile, provider: str) -> PointReport:
    policy = bench.studio.policy
    point = OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
    try:
        curve = _curve(bench, variant, tile)
        finding = check_vram(point, curve, facts, policy)
    except UndecidedError as error:
        curve, finding = (), NotRun(check="vram", subject=str(point), why=str(error), remedy=error.remedy)
    return PointReport(point=point, memory=curve, findings=(finding,))


def _curve(bench: _Bench, variant: Variant, tile: Tile) -> tuple[CurvePoint, ...]:
    """Predicted memory at the plates that a verdict keeps; nothing for what is not an ONNX graph."""
    if variant.runtime != "onnx":
        return ()
    from changeover_validators.vram.solve import curve

    plates = tuple(sorted({*PLATES, bench.studio.policy.vram.plate}))
    model = bench.folder(bench.case.candidate, variant) / variant.entry
    return curve(model, variant.contract, tile, plates)


def _fits(bench: _Bench, points: tuple[PointReport, ...]) -> Finding:
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
    return smallest.model_copy(update={"subject": "", "remedy": _largest(bench, points[-1])})


def _largest(bench: _Bench, report: PointReport) -> str:
    from changeover_validators.vram.solve import largest_size, predict

    case, policy = bench.case, bench.studio.policy
    variant = case.candidate.variant(report.point.variant)
    allowed = budget(case.facts, policy, report.point.provider)
    if variant is None or isinstance(allowed, Unknown):
        return "use a host with more memory"
    model = bench.folder(case.candidate, variant) / variant.entry
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


def _measure(
    bench: _Bench, golden: tuple[GoldenSet, tuple[GoldenShot, ...]] | None, fitting: tuple[PointReport, ...]
) -> tuple[PointReport, ...]:
    """Checks 7 to 9 on this machine, for the first operating point that fits of each variant, or for all."""
    own = tuple(_memory(bench, bench.case.own)) if bench.case.own != bench.case.facts else fitting
    runnable = [report for report in own if _may_measure(report)]
    if bench.studio.policy.operating_points == "first-that-fits":
        first: dict[str, PointReport] = {}
        for report in runnable:
            first.setdefault(f"{report.point.variant}/{report.point.provider}", report)
        runnable = list(first.values())
    runtimes = Runtimes(bench.case.own, bench.studio.policy)
    return tuple(_measure_point(bench, runtimes, golden, report) for report in runnable)


def _may_measure(report: PointReport) -> bool:
    """A point that does not fit is not run; one whose memory cannot be predicted (TorchScript) is."""
    return not _refused(report.findings)


def _measure_point(
    bench: _Bench, runtimes: Runtimes, golden: tuple[GoldenSet, tuple[GoldenShot, ...]] | None, report: PointReport
) -> PointReport:
    case, point = bench.case, report.point
    variant = _variant(case.candidate, point)
    smoke = runtimes.smoke(case.candidate, variant, bench.folder(case.candidate, variant))
    try:
        golden_class = golden_class_of(case.own, runtimes.runtime(variant), point.provider, point.precision)
    except UndecidedError as error:
        return _unmeasured(report, error, smoke)
    report = report.model_copy(update={"golden_class": golden_class})
    if golden is None:
        why = "no golden set is named"
        missing = NotRun(check="golden", subject=str(point), why=why, remedy="name one with --set, or in policy.toml")
        return report.model_copy(update={"findings": (*report.findings, missing, smoke)})
    return _with_golden(bench, runtimes, golden[1], report, smoke)


def _unmeasured(report: PointReport, error: UndecidedError, smoke: Finding) -> PointReport:
    """A point that nothing here can run (a ``.cat``, a runtime that nobody named) was looked at, and not run."""
    checks: tuple[CheckName, ...] = ("speed", "golden")
    missing = [NotRun(check=c, subject=str(report.point), why=str(error), remedy=error.remedy) for c in checks]
    return report.model_copy(update={"findings": (*report.findings, *missing, smoke)})


def _with_golden(
    bench: _Bench, runtimes: Runtimes, shots: tuple[GoldenShot, ...], report: PointReport, smoke: Finding
) -> PointReport:
    from changeover_validators.golden.judge import judge
    from changeover_validators.golden.pipeline import score_set

    case, policy, point = bench.case, bench.studio.policy, report.point
    try:
        with ExitStack() as stack:
            candidate, started = _open(bench, runtimes, case.candidate, point, stack)
            current = _current(bench, runtimes, point, stack)
            scored = score_set(
                shots,
                bench.site.golden,
                candidate,
                current,
                threshold=float(policy.golden.threshold),
                progress=lambda p: bench.watch.step(
                    f"{point}: shot {p.shot_number} of {p.shots} ({p.shot}), frame {p.done} of {p.frames}"
                ),
            )
    except ChangeoverError as error:
        return report.model_copy(update={"findings": (*report.findings, *check_golden(point, error), smoke)})
    names = {shot.shot: shot.alias for shot in shots}
    judgement = judge(scored.scores, policy.golden, baseline=current is not None, names=names)
    speed = check_speed(scored.candidate_us, scored.current_us, policy.speed, point, baseline=current is not None)
    return report.model_copy(
        update={
            "frame_us": scored.candidate_us,
            "current_frame_us": scored.current_us,
            "load_us": started.load_us,
            "provider_ran": started.provider_ran,
            "scores": scored.scores,
            "metrics": judgement.metrics,
            "findings": (*report.findings, speed, *check_golden(point, judgement), smoke),
        }
    )


def _open(
    bench: _Bench, runtimes: Runtimes, release: Release, point: OperatingPoint, stack: ExitStack
) -> "tuple[Subject, Started]":
    """Start a release's model at an operating point; it ends with `stack`."""
    from changeover_validators.golden.pipeline import Subject

    variant = _variant(release, point)
    bench.watch.step(f"start {release.ref()} {point}")
    process = runtimes.process(release, variant, bench.folder(release, variant), point.tile, point.provider)
    model = stack.enter_context(process)
    return Subject(model, variant.contract, release.interface.inputs), model.started


def _current(bench: _Bench, runtimes: Runtimes, point: OperatingPoint, stack: ExitStack) -> "Subject | None":
    """The release in use on the same provider: the same variant with the same tile if it has them, else its first."""
    baseline = bench.case.baseline
    if baseline is None:
        return None
    bench.install(baseline)
    usable = [v for v in baseline.variants if point.provider in providers_for(v, bench.case.own, bench.studio.policy)]
    if not usable:
        raise UndecidedError(
            "current release",
            where=str(baseline.ref()),
            expected=f"a variant that runs here on {point.provider}, to compare with",
            actual="none",
            remedy="check on a machine that runs the release in use",
        )
    variant = min(usable, key=lambda v: (v.id != point.variant, v.precision != point.precision))
    tile = point.tile if point.tile in variant.contract.tiles else variant.contract.tiles[0]
    other = point.model_copy(update={"variant": variant.id, "precision": variant.precision, "tile": tile})
    return _open(bench, runtimes, baseline, other, stack)[0]


def _variant(release: Release, point: OperatingPoint) -> Variant:
    return next(variant for variant in release.variants if variant.id == point.variant)


def _joined(fitting: tuple[PointReport, ...], measured: tuple[PointReport, ...]) -> tuple[PointReport, ...]:
    """Each operating point once: measured where it was, else with its memory alone."""
    done = {report.point for report in measured}
    return (*measured, *(report for report in fitting if report.point not in done))


def _sandbox_name(wanted: str) -> SandboxName:
    kind = sandbox.available().name
    return kind if kind is not None else "limits-only" if wanted == "limits-only" else "none"
