"""From a verdict and what was kept beside it to a `Report`. Pure: records in, a value out.

What is missing is left out or said, never made up: without the policy that the verdict was made under there are no
thresholds, without filed scores no curves, without a release's record no contract.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from changeover_registry.names import digest12
from changeover_registry.records import release as records
from changeover_registry.records.choice import Override
from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.scores import ShotScores
from changeover_registry.records.verdict import MetricSummary, NoiseFloor, PointReport, Verdict
from changeover_validators.golden.report.aliases import Aliases
from changeover_validators.golden.report.headline import headline
from changeover_validators.golden.report.model import (
    ContractLine,
    Detectable,
    Gate,
    Limit,
    Noise,
    Note,
    Point,
    Release,
    Report,
    said_time,
)
from changeover_validators.golden.report.shots import Kept, gain_of, known_metric, shots_of, unit_of
from changeover_validators.golden.thresholds import limits, thresholds
from changeover_validators.runtimes.memory_plan import CHOSEN, described
from changeover_validators.verdict import point_decision

__all__ = ["Sources", "aliases_of", "build_report"]

_EVIDENCE = {
    "direct": "the file itself was scored",
    "twin": "its twin was scored, on the torch line that Nuke embeds",
    "nuke": "the file was scored inside Nuke",
    None: "not recorded",
}
_SANDBOX = {
    "bubblewrap": "bubblewrap: no network, read-only files",
    "namespaces": "namespaces: no network, read-only files",
    "limits-only": "limits only: the models were not shut in",
    "none": "none: no model was run",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """All that a report is made of.

    Attributes:
        verdict: The verdict.
        digest: Of its envelope.
        signer: Whose key signed it.
        candidate: The candidate's record.
        current: The current release's record.
        golden_set: The set as it was.
        shots: Its shots' records.
        scores: The filed scores that the verdict names, by the digest of their key.
        policy: The policy that the verdict was made under; None where it is not known any more.
        overrides: Those that name the candidate now.
        named: Whether the reader may see the shots' names.
    """

    verdict: Verdict
    digest: str
    signer: str
    candidate: records.Release | None = None
    current: records.Release | None = None
    golden_set: GoldenSet | None = None
    shots: tuple[GoldenShot, ...] = ()
    scores: Mapping[str, ShotScores] = field(default_factory=dict)
    policy: Policy | None = None
    overrides: tuple[Override, ...] = ()
    named: bool = False


def aliases_of(sources: Sources) -> Aliases:
    """The aliases of every shot that the verdict or its set names."""
    points = sources.verdict.points
    names = {score.shot for point in points for score in point.scores}
    names |= {ref.shot for point in points for ref in point.scored or ()}
    if sources.golden_set is not None:
        names |= {ref.shot for ref in (*sources.golden_set.shots, *(sources.golden_set.pending or ()))}
        names |= {retired.shot for retired in sources.golden_set.retired_shots or ()}
    return Aliases.make(names, {shot.shot: shot.alias for shot in sources.shots}, named=sources.named)


def build_report(sources: Sources) -> Report:
    """The report of a verdict."""
    verdict, aliases = sources.verdict, aliases_of(sources)
    points = tuple(_point(sources, report, aliases) for report in verdict.points)
    measured = tuple(sorted(points, key=lambda point: not point.measured))
    return Report(
        digest=sources.digest,
        signer=sources.signer,
        decision=verdict.decision,
        headline=headline(
            verdict.decision,
            verdict.current.version if verdict.current else None,
            _told(verdict.findings, aliases),
            measured,
        ),
        reason=aliases.text(verdict.reason),
        candidate=_release(verdict.candidate, sources.candidate),
        current=_release(verdict.current, sources.current) if verdict.current else None,
        short=tuple(_short(sources, measured)),
        facts=tuple(_facts(sources, measured)),
        notes=tuple(_notes(sources, aliases)),
        findings=_told(verdict.findings, aliases),
        points=measured,
        limits=_limits(sources),
        named=sources.named,
        sign_off=_sign_off(sources, measured),
    )


def _release(ref: records.ReleaseRef, record: records.Release | None) -> Release:
    return Release(ref, record.summary, record.changes) if record else Release(ref)


def _short(sources: Sources, points: Sequence[Point]) -> Iterable[str]:
    """The first screen's one line."""
    verdict = sources.verdict
    yield f"{said_time(verdict.made_at)} by {verdict.made_by}, signed by {sources.signer}"
    yield f"golden set {_set_used(verdict, points)}" if verdict.golden_set else "no golden set"
    yield from (point.evidence for point in points[:1] if point.measured)
    if verdict.sign_off is None:
        yield "no sign-off" if sources.overrides else "no override, no sign-off"
    elif not sources.overrides:
        yield "no override"


def _set_used(verdict: Verdict, points: Sequence[Point]) -> str:
    if verdict.golden_set is None:
        return "none"
    shots = max((len(point.shots) for point in points), default=0)
    every = ", every one although an early one had decided" if verdict.full else ""
    scored = f"{shots} shot{'s' if shots > 1 else ''} scored{every}" if shots else "no shot was scored"
    return f"{verdict.golden_set.name}, version {verdict.golden_set.version}, {scored}"


def _sign_off(sources: Sources, points: Sequence[Point]) -> str:
    """The whole command, where a person's word is all that is missing."""
    asked = (finding for point in points for finding in point.findings if isinstance(finding, NotRun))
    allowed = sources.policy is not None and sources.policy.golden.supervisor_review
    if not allowed or sources.verdict.decision != "inconclusive" or all(f.rule != "few-shots" for f in asked):
        return ""
    return f'changeover verdict sign-off {digest12(sources.digest)} --name "YOUR NAME" --note "WHAT YOU SAW"'


def _facts(sources: Sources, points: Sequence[Point]) -> Iterable[tuple[str, str]]:
    """How it was measured, in short."""
    verdict = sources.verdict
    yield "golden set", _set_used(verdict, points)
    yield "made", f"{said_time(verdict.made_at)} by {verdict.made_by}"
    judged = f"; checks 1 to 6 for {verdict.judged_host}" if verdict.judged_host else ""
    yield "host", f"{verdict.host}{judged}"
    yield "sandbox", _SANDBOX[verdict.sandbox]
    for point in [point for point in points if point.measured][:1]:
        yield "evidence", point.evidence
        yield "operating point", point.name
    yield "policy", digest12(verdict.policy)
    yield "verdict", f"{digest12(sources.digest)}, signed by {sources.signer}"


def _notes(sources: Sources, aliases: Aliases) -> Iterable[Note]:
    signed = sources.verdict.sign_off
    if signed is not None:
        what = f"signed off the report of verdict {digest12(signed.of)}, as {signed.by}"
        yield Note("sign-off", signed.name, what, aliases.text(signed.note), signed.at)
    for override in sources.overrides:
        what = f"passes over {', '.join(override.checks)}"
        yield Note("override", override.by, what, aliases.text(override.reason), f"until {override.until}")


_SPOKEN: dict[type, tuple[str, ...]] = {
    Passed: ("subject", "detail"),
    Refused: ("subject", "expected", "actual", "remedy"),
    NotRun: ("subject", "why", "remedy"),
    NotApplicable: ("subject", "detail"),
}
"""The sentences of each kind of finding, in which a shot's name may stand."""


def _told(findings: Iterable[Finding], aliases: Aliases) -> tuple[Finding, ...]:
    return tuple(
        found.model_copy(update={name: aliases.text(getattr(found, name)) for name in _SPOKEN[type(found)]})
        for found in findings
    )


def _with_digest(findings: Iterable[Finding], digest: str) -> Iterable[Finding]:
    """The findings with the verdict's digest where a remedy can only say ``DIGEST``: it stands in no verdict itself."""
    for found in findings:
        if isinstance(found, NotRun):
            remedy = found.remedy.replace("sign-off DIGEST", f"sign-off {digest12(digest)}")
            yield found.model_copy(update={"remedy": remedy})
        else:
            yield found


def _point(sources: Sources, report: PointReport, aliases: Aliases) -> Point:
    scores = {ref.shot: sources.scores[ref.key] for ref in report.scored or () if ref.key in sources.scores}
    measured = bool(report.scores) or report.frame_us is not None
    return Point(
        name=str(report.point),
        decision=point_decision(report.findings),
        measured=measured,
        findings=_told(_with_digest(report.findings, sources.digest), aliases),
        gates=tuple(_gate(summary) for summary in report.metrics),
        shots=shots_of(report, _kept(sources, scores), aliases),
        evidence=_EVIDENCE[report.evidence],
        environment=tuple(_environment(sources.verdict, report)),
        contract=_contracts(sources, report, scores),
        speeds=report.speeds or (),
        frame_us=report.frame_us,
        current_frame_us=report.current_frame_us,
        load_us=report.load_us,
        current_load_us=report.current_load_us,
        peak_ram_bytes=report.peak_ram_bytes,
        current_peak_ram_bytes=report.current_peak_ram_bytes,
        memory=report.memory,
        memory_label=report.memory_label,
        memory_plan=_memory_plan(report),
        memory_answer=report.memory_answer,
        measured_memory=report.measured_memory,
        noise=tuple(_noise(floor, report.metrics) for floor in report.noise or () if _matters(floor, report.metrics)),
        detects=tuple(_detects(report, sources.policy)),
        warnings=tuple(aliases.text(warning) for warning in report.warnings or ()),
    )


def _memory_plan(report: PointReport) -> str:
    """The plan in words and why it is there; nothing where no memory was predicted."""
    if report.memory_plan is not None:
        return f"{described(report.memory_plan)}; {CHOSEN}"
    return described(MemoryPlan()) if report.memory_answer else ""


def _kept(sources: Sources, scores: Mapping[str, ShotScores]) -> Kept:
    refs = sources.golden_set.shots if sources.golden_set else ()
    return Kept(
        scores=scores,
        shots={shot.shot: shot for shot in sources.shots},
        approvals={ref.shot: ref.approval for ref in refs if ref.approval is not None},
        window_frames=limits(sources.policy.golden.guards).window_frames if sources.policy else None,
    )


def _gate(summary: MetricSummary) -> Gate:
    known, margin = known_metric(summary.metric), Decimal(summary.margin)
    lower = None if summary.lower is None else Decimal(summary.lower)
    upper = None if summary.upper is None else Decimal(summary.upper)
    worse, holds = upper is not None and upper < -margin, lower is not None and lower > -margin
    return Gate(
        metric=summary.metric,
        label=known.label,
        unit=unit_of(known),
        shots=summary.shots,
        margin=margin,
        mean=Decimal(summary.mean),
        lower=lower,
        upper=upper,
        state="worse" if worse else "holds" if holds else "open",
    )


def _environment(verdict: Verdict, report: PointReport) -> Iterable[tuple[str, str]]:
    yield "host", verdict.host
    yield "host class", digest12(verdict.host_class)
    yield "golden class", digest12(report.golden_class) if report.golden_class else "not known"
    yield "provider asked for", report.point.provider
    yield "provider that ran", report.provider_ran or "nothing ran"
    yield "runtime version", report.runtime_version or "not recorded"
    yield "precision", report.point.precision
    yield "tile", str(report.point.tile)


def _contracts(sources: Sources, report: PointReport, scores: Mapping[str, ShotScores]) -> tuple[ContractLine, ...]:
    """The candidate's contract beside the one that the current release was called with."""
    candidate = _contract(sources.candidate, report.point.variant)
    keys = [kept.key.current for kept in scores.values() if kept.key.current is not None]
    current = _contract(sources.current, keys[0].point.variant) if keys else None
    names = dict.fromkeys((*candidate, *(current or ())))
    return tuple(
        ContractLine(name, candidate.get(name, "-"), current.get(name, "-") if current else None) for name in names
    )


def _contract(release: records.Release | None, variant_id: str) -> dict[str, str]:
    variant = release.variant(variant_id) if release else None
    return dict(_entries(variant.contract.model_dump(mode="json", exclude_none=True))) if variant else {}


def _entries(value: Any, name: str = "") -> Iterable[tuple[str, str]]:  # noqa: ANN401 - a JSON value
    """The leaves of a JSON value, each with its place; a list of plain values is one leaf."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _entries(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value, 1):
            yield from _entries(part, f"{name} {number}")
    else:
        yield name, (", ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)


def _matters(floor: NoiseFloor, summaries: Sequence[MetricSummary]) -> bool:
    """Whether a reader asks for this floor: its metric is gated, or it is not nothing."""
    return Decimal(floor.difference) > 0 or any(summary.metric == floor.metric for summary in summaries)


def _noise(floor: NoiseFloor, summaries: Sequence[MetricSummary]) -> Noise:
    known, difference = known_metric(floor.metric), Decimal(floor.difference)
    margin = next((Decimal(summary.margin) for summary in summaries if summary.metric == floor.metric), None)
    multiple = (margin / difference).quantize(Decimal("0.1")) if margin is not None and difference else None
    return Noise(floor.metric, known.label, difference, multiple)


def _detects(report: PointReport, policy: Policy | None) -> Iterable[Detectable]:
    """What as many shots, as far apart as these, can tell of each gated metric."""
    from changeover_validators.golden.power import detectable, power, shots_needed

    confidence = float(policy.golden.confidence) if policy else 0.95
    for summary in report.metrics:
        spread = _spread(report, summary.metric)
        if spread is None:
            continue
        margin, shots = float(summary.margin), summary.shots
        smallest = detectable(shots, float(spread), confidence)
        yield Detectable(
            metric=summary.metric,
            label=known_metric(summary.metric).label,
            shots=shots,
            spread=spread,
            smallest=None if smallest is None else Decimal(f"{smallest:.6f}"),
            power=Decimal(f"{power(shots, float(spread), margin, confidence):.3f}"),
            needed=shots_needed(float(spread), margin, confidence),
        )


def _spread(report: PointReport, metric: str) -> Decimal | None:
    """The standard deviation of the shots' differences in one metric; None with fewer than two shots."""
    gains = [gain for mean in report.scores if mean.metric == metric and (gain := gain_of(mean)) is not None]
    if len(gains) < 2:
        return None
    mean = sum(gains, Decimal(0)) / len(gains)
    squares = sum(((gain - mean) ** 2 for gain in gains), Decimal(0))
    return (squares / (len(gains) - 1)).sqrt().quantize(Decimal("1e-9"))


def _limits(sources: Sources) -> tuple[Limit, ...]:
    if sources.policy is None:
        return ()
    origin = f"policy.toml, {digest12(sources.verdict.policy)}"
    found = thresholds(sources.policy.golden, origin)
    return tuple(Limit(t.name, t.value, t.unit.removesuffix(", 1"), t.origin) for t in found)
