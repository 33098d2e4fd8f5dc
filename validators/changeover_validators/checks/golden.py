"""The check *golden*: what the golden shots said of one operating point, as findings. Base installation, no I/O.

Left out: scoring (`golden.pipeline`) and deciding (`golden.judge`), which this puts into the words of a verdict.
"""

from changeover_registry.errors import ChangeoverError, RefusedError, UndecidedError
from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden.judge import Judgement

__all__ = ["check_golden"]


def check_golden(point: OperatingPoint, outcome: Judgement | ChangeoverError) -> tuple[Finding, ...]:
    """The findings of one operating point.

    A judgement gives its own findings. An error that refuses (a colour that cannot be reached) is a refusal; one that
    nobody can decide is not run; all others are measurements that were tried and broke.
    """
    if isinstance(outcome, ChangeoverError):
        return (_from_error(str(point), outcome),)
    return tuple(finding.model_copy(update={"subject": str(point)}) for finding in outcome.findings)


def _from_error(subject: str, error: ChangeoverError) -> Finding:
    if isinstance(error, RefusedError):
        return Refused(
            check="golden",
            subject=subject,
            rule=error.rule,
            expected=error.expected,
            actual=f"{error.where}: {error.actual}",
            remedy=error.remedy,
        )
    broke = not isinstance(error, UndecidedError)
    return NotRun(check="golden", subject=subject, why=str(error), remedy=error.remedy, error=broke)
