"""Whether a release may be promoted: an accept verdict that holds, or overrides for every open check. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, RefusedError, TrustError, UndecidedError
from changeover_registry.records.choice import Override
from changeover_registry.records.findings import CHECKS, CheckName, Finding, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_updater.eligible import answered, blocking, describe, overridden, pin_words, stands_by
from changeover_updater.show_terms import CLIENT_APPROVAL
from changeover_updater.sign_off import first_of, in_order, problem_of
from changeover_updater.studio import FiledVerdict
from changeover_validators.verdict import CLOCKS_APART, may_sign_off

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
    held_before: bool = False
    """Whether the channel had this release before: the way back needs no new verdict."""
    pinned: bool = False
    """Whether a pin is asked for, and no channel."""
    show: str | None = None
    """The show that it is for, if it is for one."""


def permitting_verdict(case: Case) -> str | None:
    """The digest of the verdict that permits the promotion, or None where something else stands in its place.

    That is an override for each open check, or that the channel held the release before.

    Raises:
        TrustError: The release is withdrawn or does not verify.
        RefusedError: A rule says no, or the newest verdict rejects.
        UndecidedError: No verdict holds; the message says what is missing.
    """
    passes = overridden(case.overrides, case.now)
    found = blocking(stands_by(case.findings, passes, pin_words(case.release, case.show) if case.pinned else None))
    against = tuple(finding for finding in found if not _passed_over(case, finding, passes))
    newest = _newest(case)
    holds = newest is not None and newest.verdict.decision == "accept" and _stale(case, newest) is None
    missing = () if holds or case.held_before else _open_checks(case, newest, passes)
    if against:
        raise _refuse(case, against, newest, missing)
    if missing:
        raise _missing(case, newest, missing)
    return newest.digest if newest is not None and holds else None


def _passed_over(case: Case, finding: Finding, passes: tuple[CheckName, ...]) -> bool:
    """Whether a finding against the release stops nobody: an override, or the channel held the release before.

    What a channel held may come back whatever the rules are now; but not where its client agreed to it no more.
    """
    if finding.check == "trust":
        return False
    asked = isinstance(finding, Refused) and finding.rule == CLIENT_APPROVAL
    return finding.check in passes or (case.held_before and not asked)


def _newest(case: Case) -> FiledVerdict | None:
    """The verdict that decides: the newest that is not dated in the future, and not about another host's facts.

    Asking what an older GPU would say undoes no accept; where nothing else was asked, it is what there is. A sign-off
    is as old as what it signs off: a later check that rejects stands.
    """
    found = [f for f in in_order(case.verdicts) if f.verdict.candidate == case.release.ref()]
    return min(found, key=lambda f: (_to_come(case, f), f.verdict.judged_host is not None), default=None)


def _to_come(case: Case, filed: FiledVerdict) -> bool:
    return parse_time(filed.verdict.made_at) - case.now > CLOCKS_APART


def _stale(case: Case, filed: FiledVerdict) -> str | None:
    """Why a verdict does not hold for this promotion; None where it does."""
    return next(_flaws(case, filed), None)


def _flaws(case: Case, filed: FiledVerdict) -> Iterator[str]:
    verdict = filed.verdict
    if verdict.policy != case.policy_digest:
        yield "it was made under another policy"
    wanted, used = case.policy.golden.set, verdict.golden_set.name if verdict.golden_set else "none"
    if wanted and used != wanted:
        yield f"it was made on golden set {used}, and the policy asks for {wanted}"
    problem = problem_of(filed, case.verdicts, case.policy)
    if problem is not None:
        yield problem
    if _to_come(case, filed):
        yield f"it is dated {verdict.made_at}, which is to come"
    measured = first_of(filed, case.verdicts) or filed
    if case.now - parse_time(measured.verdict.made_at) > timedelta(days=case.policy.verdict_days):
        yield f"it is older than {case.policy.verdict_days} days"
    if case.baseline is not None and verdict.current != case.baseline:
        yield f"it compares with {verdict.current or 'nothing'}, and {case.baseline} is in use now"


def _open_checks(case: Case, newest: FiledVerdict | None, passes: tuple[CheckName, ...]) -> tuple[CheckName, ...]:
    """The checks that neither the newest verdict nor an override answers for, at the operating point with the fewest.

    A verdict that does not hold answers for nothing. One that is not accept and names nothing that is open
    contradicts itself, and answers for nothing either.
    """
    by_point: list[tuple[CheckName, ...]] = []
    if newest is not None and _stale(case, newest) is None:
        verdict = newest.verdict
        by_point = [_open((*verdict.findings, *point.findings)) for point in verdict.points]
        by_point.append(_open(verdict.findings))
    answers = by_point if by_point and all(by_point) else [MEASURED]
    return min((tuple(check for check in found if check not in passes) for found in answers), key=len)


def _open(findings: tuple[Finding, ...]) -> tuple[CheckName, ...]:
    """What speaks against (of any check, such as files that need more than is claimed), and what was not measured."""
    against = {finding.check for finding in blocking(findings)}
    return tuple(c for c in CHECKS if c in against or (c in MEASURED and not answered(c, findings)))


def _missing(case: Case, newest: FiledVerdict | None, missing: tuple[CheckName, ...]) -> ChangeoverError:
    rejected = newest is not None and newest.verdict.decision == "reject"
    error = RefusedError if rejected else UndecidedError
    return error("promotion", where=_named(case), **_no_verdict(case, newest, missing))


def _no_verdict(case: Case, newest: FiledVerdict | None, missing: tuple[CheckName, ...]) -> dict[str, str]:
    """What a promotion lacks of a verdict: expected, actual, remedy."""
    ref = _named(case)
    if newest is None:
        actual = "no verdict at all"
    elif newest.verdict.decision == "accept":
        actual = f"verdict {newest.digest[:12]}, but {_stale(case, newest)}"
    else:
        actual = f"verdict {newest.digest[:12]}: {newest.verdict.decision}: {newest.verdict.reason}"
    return {
        "expected": "an accept verdict under the policy in force, or an override for each open check",
        "actual": f"{actual} (open: {', '.join(missing)})",
        "remedy": f"run changeover check {ref} with the same --channel, {_sign_off(case, newest)}"
        f"or changeover override add {ref} --check NAME --reason ... --until ...",
    }


def _named(case: Case) -> str:
    return f"{case.release.model}@{case.release.version}"


def _sign_off(case: Case, newest: FiledVerdict | None) -> str:
    if newest is None or _stale(case, newest) is not None or not may_sign_off(newest.verdict, case.policy, case.now):
        return ""
    return f"or changeover verdict sign-off {newest.digest[:12]} --name ... --note ..., "


def _refuse(
    case: Case, against: tuple[Finding, ...], newest: FiledVerdict | None, missing: tuple[CheckName, ...]
) -> ChangeoverError:
    """Everything that stands in the way at once; where trust does, that alone, since nothing else matters then."""
    distrusted = tuple(finding for finding in against if finding.check == "trust")
    if distrusted:
        return TrustError("promotion: trust", where=_named(case), **_speaking(case, distrusted[0]))
    lacks = [_speaking(case, finding) for finding in against]
    lacks += [_no_verdict(case, newest, missing)] if missing else []
    refused = any(isinstance(finding, Refused) for finding in against)
    refused |= bool(missing) and newest is not None and newest.verdict.decision == "reject"
    rule = f"promotion: {against[0].check}" if len(lacks) == 1 else f"promotion: {len(lacks)} things are missing"
    parts = {key: "; and ".join(lack[key] for lack in lacks) for key in ("expected", "actual", "remedy")}
    return (RefusedError if refused else UndecidedError)(rule, where=_named(case), **parts)


def _speaking(case: Case, finding: Finding) -> dict[str, str]:
    """What one finding asks for: expected, actual, remedy."""
    remedy = getattr(finding, "remedy", "") or "mend it"
    if finding.check == "trust":
        remedy = remedy if case.pinned else "promote another release"
    elif not (isinstance(finding, Refused) and finding.rule == CLIENT_APPROVAL):
        remedy = f"{remedy}, or: changeover override add {_named(case)}"
    return {
        "expected": getattr(finding, "expected", "every check to pass"),
        "actual": getattr(finding, "actual", "") or describe(finding),
        "remedy": remedy,
    }
