"""The decision of a verdict from its findings. Pure: no file, no model, no clock.

Rules, in order:
    1. A refusal that concerns the release as a whole (trust, licence, format, interface, hardware, memory) rejects.
    2. One accepted operating point accepts: only accepted points are offered to anybody.
    3. A measurement that broke is an error: it says nothing about the model and never counts as reject.
    4. A point that was rejected, with none accepted and none undecided, rejects.
    5. Everything else is inconclusive: not run is never accept.
"""

from collections.abc import Iterable

from changeover_registry.records.findings import Finding, NotRun, Refused
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
    decided = [(point_decision(point.findings), point) for point in points]
    for decision in ("accept", "error", "inconclusive", "reject"):
        found = next((point for kind, point in decided if kind == decision), None)
        if found is None:
            continue
        if decision == "accept" and (open_finding := next((f for f in release if isinstance(f, NotRun)), None)):
            return "inconclusive", _line(open_finding)
        return decision, _reason(decision, found)
    missing = next((f for f in release if isinstance(f, NotRun)), None)
    return "inconclusive", _line(missing) if missing else "no operating point was measured"


def point_decision(findings: Iterable[Finding]) -> Decision:
    """What one operating point's findings come to."""
    found = tuple(findings)
    if any(isinstance(f, NotRun) and f.error for f in found):
        return "error"
    if any(isinstance(f, Refused) for f in found):
        return "reject"
    golden = [f for f in found if f.check == "golden"]
    if not golden or any(isinstance(f, NotRun) for f in found):
        return "inconclusive"
    return "accept"


def _reason(decision: Decision, report: PointReport) -> str:
    if decision == "accept":
        golden = next((f for f in report.findings if f.check == "golden"), None)
        detail = getattr(golden, "detail", "") or "every check passed"
        return f"{report.point}: {detail}"
    finding = next((f for f in report.findings if _speaks_for(decision, f)), None)
    return f"{report.point}: {_line(finding)}" if finding else f"{report.point}: no golden finding"


def _speaks_for(decision: Decision, finding: Finding) -> bool:
    """Whether a finding is the reason of a decision that is not accept."""
    if decision == "reject":
        return isinstance(finding, Refused)
    return isinstance(finding, NotRun) and (decision == "inconclusive" or finding.error)


def _line(finding: Finding) -> str:
    if isinstance(finding, Refused):
        return f"{finding.check}: {finding.rule}: expected {finding.expected}, found {finding.actual}; {finding.remedy}"
    if isinstance(finding, NotRun):
        return f"{finding.check} was not run: {finding.why}"
    return f"{finding.check} {finding.outcome}"
