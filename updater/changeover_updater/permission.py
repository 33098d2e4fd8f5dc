"""Whether a release may be promoted: an accept verdict that holds, or overrides for every open check. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, RefusedError, TrustError, UndecidedError
from changeover_registry.records.choice import Override
from changeover_registry.records.findings import CheckName, Finding, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_updater.eligible import blocking, describe, overridden
from changeover_updater.studio import FiledVerdict

__all__ = ["Case", "permitting_verdict"]


MEASURED: tuple[CheckName, ...] = ("hardware", "vram", "speed", "golden", "smoke")
"""The checks that only a verdict or an override answers for."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that a promotion is decided from. `findings` are checks 1 to 4, evaluated now.

    `baseline` is what the release would take the place of; a verdict against anything else does not hold.
    """

    release: Release
    findings: tuple[Finding, ...]
    verdicts: tuple[FiledVerdict, ...]
    overrides: tuple[Override, ...]
    policy: Policy
    policy_digest: str
    baseline: ReleaseRef | None
    now: datetime


def permitting_verdict(case: Case) -> str | None:
    """The digest of the verdict that permits the promotion, or None where overrides stand in its place.

    Raises:
        TrustError: The release is withdrawn or does not verify.
        RefusedError: A rule says no, or the newest verdict rejects.
        UndecidedError: No verdict holds; the message says what is missing.
    """
    passes = overridden(case.overrides, case.now)
    for finding in blocking(case.findings):
        if finding.check == "trust" or finding.check not in passes:
            raise _refuse(case, finding)
    newest = next((f for f in case.verdicts if f.verdict.candidate == case.release.ref()), None)
    if newest is not None and newest.verdict.decision == "accept" and _stale(case, newest) is None:
        return newest.digest
    missing = [check for check in _needed(newest) if check not in passes]
    if missing:
        raise _missing(case, newest, missing)
    return None


def _stale(case: Case, filed: FiledVerdict) -> str | None:
    verdict = filed.verdict
    if verdict.policy != case.policy_digest:
        return "it was made under another policy"
    if case.now - parse_time(verdict.made_at) > timedelta(days=case.policy.verdict_days):
        return f"it is older than {case.policy.verdict_days} days"
    if case.baseline is not None and verdict.current != case.baseline:
        return f"it compares with {verdict.current or 'nothing'}, and {case.baseline} is in use now"
    return None


def _needed(newest: FiledVerdict | None) -> tuple[CheckName, ...]:
    """The measured checks that nothing has answered for: those that no finding of the best operating point passes."""
    if newest is None or newest.verdict.decision == "accept":
        return MEASURED
    verdict = newest.verdict
    answers = [_open((*verdict.findings, *point.findings)) for point in verdict.points]
    return min([*answers, _open(verdict.findings)], key=len)


def _open(findings: tuple[Finding, ...]) -> tuple[CheckName, ...]:
    against = {finding.check for finding in blocking(findings)}
    answered = {finding.check for finding in findings} - against
    return tuple(check for check in MEASURED if check not in answered)


def _missing(case: Case, newest: FiledVerdict | None, missing: list[CheckName]) -> ChangeoverError:
    ref = f"{case.release.model}@{case.release.version}"
    if newest is None:
        actual = "no verdict at all"
    elif newest.verdict.decision == "accept":
        actual = f"verdict {newest.digest[:12]}, but {_stale(case, newest)}"
    else:
        actual = f"verdict {newest.digest[:12]}: {newest.verdict.decision}: {newest.verdict.reason}"
    rejected = newest is not None and newest.verdict.decision == "reject"
    error = RefusedError if rejected else UndecidedError
    return error(
        "promotion",
        where=ref,
        expected="an accept verdict under the policy in force, or an override for each open check",
        actual=f"{actual} (open: {', '.join(missing)})",
        remedy=f"run changeover check {ref}, or changeover override add {ref} --check NAME --reason ... --until ...",
    )


def _refuse(case: Case, finding: Finding) -> ChangeoverError:
    ref = f"{case.release.model}@{case.release.version}"
    error = TrustError if finding.check == "trust" else RefusedError if isinstance(finding, Refused) else UndecidedError
    return error(
        f"promotion: {finding.check}",
        where=ref,
        expected="every check to pass",
        actual=describe(finding),
        remedy="promote another release" if finding.check == "trust" else f"mend it, or: changeover override add {ref}",
    )
