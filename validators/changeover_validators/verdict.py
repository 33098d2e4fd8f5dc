"""The decision of a verdict from its findings. Pure: no file, no model, no clock.

Rules, in order:
    1. A refusal that concerns the release as a whole (trust, licence, format, interface, hardware, memory) rejects.
    2. One accepted operating point accepts: only accepted points are offered to anybody.
    3. A measurement that broke is an error: it says nothing about the model and never counts as reject. One that
       concerns the release as a whole goes before every point.
    4. A point that was rejected, with none accepted and none undecided, rejects.
    5. Everything else is inconclusive: not run is never accept.
"""

from collections.abc import Iterable

from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.verdict import Decision, PointReport

__all__ = ["decide", "point_decision"]


def decide(findings: Iterable[Finding], points: tuple[PointReport, ...]) -> tuple[Decision, str]:
    """The decision and the one line that gives its reason.

    Args:
        findings: Those that concern the release as a whole.
        points: The operating points that were looked at, with their own findings.
    """
    release = tuple(findings)
    refused = next((f for f in release if isinstance(f, Refused)), None)
    if refused is not None:
        return "reject", _line(refused)
    missing = next((f for f in release if isinstance(f, NotRun)), None)
    broken = next((f for f in release if isinstance(f, NotRun) and f.error), None)
    if broken is not None:
        return "error", _line(broken)
    decided = [(point_decision(point.findings), point) for point in points]
    for decision in ("accept", "error", "inconclusive", "reject"):
        found = next((point for kind, point in decided if kind == decision), None)
        if found is None:
            continue
        if decision == "accept" and missing is not None:
            return "inconclusive", _line(missing)
        return decision, _reason(decision, found)
    return "inconclusive", _line(missing) if missing else "no operating point was measured"


def point_decision(findings: Iterable[Finding]) -> Decision:
    """What one operating point's findings come to; without golden shots that passed it is never accept."""
    found = tuple(findings)
    if any(isinstance(f, NotRun) and f.error for f in found):
        return "error"
    if any(isinstance(f, Refused) for f in found):
        return "reject"
    golden = any(isinstance(f, Passed) and f.check == "golden" for f in found)
    return "accept" if golden and not any(isinstance(f, NotRun) for f in found) else "inconclusive"


def _reason(decision: Decision, report: PointReport) -> str:
    if decision == "accept":
        details = (f.detail for f in report.findings if isinstance(f, Passed) and f.check == "golden")
        return f"{report.point}: {next(details, '') or 'every check passed'}"
    against = [f for f in report.findings if isinstance(f, (Refused, NotRun))]
    finding = next((f for f in against if _speaks_for(decision, f)), None)
    return f"{report.point}: {_line(finding)}" if finding else f"{report.point}: no golden shots passed"


def _speaks_for(decision: Decision, finding: Refused | NotRun) -> bool:
    """Whether a finding is the reason of a decision that is not accept."""
    if decision == "reject":
        return isinstance(finding, Refused)
    return isinstance(finding, NotRun) and (decision == "inconclusive" or finding.error)


def _line(finding: Refused | NotRun) -> str:
    if isinstance(finding, Refused):
        return f"{finding.check}: {finding.rule}: expected {finding.expected}, found {finding.actual}; {finding.remedy}"
    return f"{finding.check} was not run: {finding.why}"
