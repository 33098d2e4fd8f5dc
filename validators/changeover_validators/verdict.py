"""The decision of a verdict from its findings. Pure: no file, no model, no clock.

Rules, in order:
    1. A refusal that concerns the release as a whole (trust, licence, format, interface, hardware, memory) rejects.
    2. One accepted operating point accepts: only accepted points are offered to anybody.
    3. A measurement that broke is an error: it says nothing about the model and never counts as reject. One that
       concerns the release as a whole goes before every point.
    4. A point that was rejected, with none accepted and none undecided, rejects.
    5. Everything else is inconclusive: not run is never accept.

A sign-off is a second verdict. Where shots are all that is missing, and the policy says so, a supervisor's name makes
an accept of an inconclusive verdict: the same findings, the one that asks for shots answered. Whoever reads it makes
it again from the first one and compares, so that nothing else can be slipped in.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import RefusedError
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.verdict import Decision, PointReport, SignOff, Verdict

__all__ = ["CLOCKS_APART", "decide", "may_sign_off", "point_decision", "sign_off_problem", "signed_off"]

CLOCKS_APART = timedelta(hours=1)
"""How far ahead of this host's clock a verdict may be dated: hosts differ by minutes, and none is from tomorrow."""


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
    against = [f for f in report.findings if isinstance(f, (Refused, NotRun)) and _speaks_for(decision, f)]
    # What is lost on the pictures is told before what it costs; the cheaper checks only come first.
    finding = min(against, key=lambda f: decision == "reject" and f.check != "golden", default=None)
    return f"{report.point}: {_line(finding)}" if finding else f"{report.point}: no golden shots passed"


def _speaks_for(decision: Decision, finding: Refused | NotRun) -> bool:
    """Whether a finding is the reason of a decision that is not accept."""
    if decision == "reject":
        return isinstance(finding, Refused)
    return isinstance(finding, NotRun) and (decision == "inconclusive" or finding.error)


def _line(finding: Refused | NotRun) -> str:
    if isinstance(finding, Refused):
        return f"{finding.check}: {finding.rule}: expected {finding.expected}, found {finding.actual}; {finding.remedy}"
    # Too few shots were scored all the same.
    ran = finding.rule == "few-shots"
    return f"{finding.check}: {finding.why}" if ran else f"{finding.check} was not run: {finding.why}"


def signed_off(
    verdict: Verdict, digest: str, policy: Policy, name: str, note: str, *, by: str, now: datetime
) -> Verdict:
    """The verdict that a supervisor's sign-off makes of an inconclusive one.

    Args:
        verdict: What is signed off.
        digest: That it is filed under.
        policy: The one in force.
        name: The supervisor, by name.
        note: What the supervisor says of the report.
        by: The account that runs the command.
        now: The moment.

    Raises:
        RefusedError: The policy has no sign-off, the verdict is too old, or more is missing than shots.
    """
    problem = next(_problems(verdict, policy, now), None)
    if problem is not None:
        raise RefusedError(
            "sign-off",
            where=f"verdict {digest[:12]}",
            expected="a verdict to which nothing but shots is missing, under a policy with golden.supervisor_review",
            actual=problem,
            remedy=f"see what it says: changeover verdict show {digest[:12]}",
        )
    word = SignOff(of=digest, name=name, note=note, by=by, at=format_time(now))
    points = tuple(_with_word(report, word) for report in verdict.points)
    decision, reason = decide(verdict.findings, points)
    changes = {"points": points, "decision": decision, "reason": reason, "sign_off": word}
    return verdict.model_copy(update={**changes, "made_at": word.at, "made_by": by})


def may_sign_off(verdict: Verdict, policy: Policy, now: datetime) -> bool:
    """Whether nothing but shots is missing to a verdict, under a policy that lets a sign-off stand in."""
    return next(_problems(verdict, policy, now), None) is None


def sign_off_problem(verdict: Verdict, first: Verdict | None, policy: Policy) -> str | None:
    """Why a signed-off verdict does not hold, or None where it does.

    Args:
        verdict: With its sign-off, whoever wrote it.
        first: The filed verdict that the sign-off names; None where there is none.
        policy: The one in force.
    """
    word = verdict.sign_off
    if word is None:
        return None
    if first is None:
        return f"it signs off verdict {word.of[:12]}, which is not filed here"
    try:
        made = signed_off(first, word.of, policy, word.name, word.note, by=word.by, now=parse_time(word.at))
    except RefusedError as error:
        return f"it signs off verdict {word.of[:12]}: {error.actual}"
    return None if made == verdict else f"it says something else than verdict {word.of[:12]}, which it signs off"


def _problems(verdict: Verdict, policy: Policy, now: datetime) -> Iterator[str]:
    """Everything that keeps a verdict from being signed off."""
    if not policy.golden.supervisor_review:
        yield "golden.supervisor_review is not set in the policy"
    if verdict.decision != "inconclusive":
        yield f"the verdict is {verdict.decision}: {verdict.reason}"
    if now - parse_time(verdict.made_at) > timedelta(days=policy.verdict_days):
        yield f"it is older than {policy.verdict_days} days"
    if parse_time(verdict.made_at) - now > CLOCKS_APART:
        yield f"it is dated {verdict.made_at}, which is to come"
    yield from (_line(finding) for finding in verdict.findings if isinstance(finding, (Refused, NotRun)))
    if not any(_lacks_shots_alone(report) for report in verdict.points):
        yield f"more is missing than shots: {verdict.reason}"


def _lacks_shots_alone(report: PointReport) -> bool:
    against = [finding for finding in report.findings if isinstance(finding, (Refused, NotRun))]
    return bool(against) and all(_asks_for_shots(finding) for finding in against)


def _asks_for_shots(finding: Finding) -> bool:
    return isinstance(finding, NotRun) and (finding.check, finding.rule, finding.error) == (
        "golden",
        "few-shots",
        False,
    )


def _with_word(report: PointReport, word: SignOff) -> PointReport:
    if not _lacks_shots_alone(report):
        return report
    detail = f"few shots, and every guard holds; signed off by {word.name}: {word.note}"
    findings = tuple(
        Passed(check="golden", subject=finding.subject, detail=detail) if _asks_for_shots(finding) else finding
        for finding in report.findings
    )
    return report.model_copy(update={"findings": findings})
