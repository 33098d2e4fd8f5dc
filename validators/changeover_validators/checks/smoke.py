"""The smoke check: does a variant, on this machine, answer what it answered where it was made?"""

from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_validators.runtimes.interface import SmokeResult

__all__ = ["check_smoke"]


def check_smoke(subject: str, runtime: str, result: SmokeResult | ChangeoverError | None) -> Finding:
    """The finding for one variant.

    Args:
        subject: The variant or operating point.
        runtime: The variant's runtime; an opaque ``nuke-cat`` is smoked only inside Nuke.
        result: What the child found; the error that ended it; or None where nothing was tried.
    """
    if runtime == "nuke-cat":
        why = "a .cat can be smoked only inside Nuke"
        return NotRun(check="smoke", subject=subject, why=why, remedy="smoke it inside Nuke, or override smoke")
    if result is None:
        return NotRun(check="smoke", subject=subject, why="no smoke was run on this machine", remedy="run update here")
    if isinstance(result, ChangeoverError):
        failed = not isinstance(result, UndecidedError)
        return NotRun(check="smoke", subject=subject, why=str(result), remedy=result.remedy, error=failed)
    found = f"worst difference {result.worst:.3g}, tolerance {result.tolerance:.3g}"
    if result.passed:
        return Passed(check="smoke", subject=subject, detail=found)
    return Refused(
        check="smoke",
        subject=subject,
        rule="smoke",
        expected=f"the recorded matte within {result.tolerance:.3g}",
        actual=f"a difference of {result.worst:.3g}",
        remedy="compare this machine's runtime with the one that the release names; tell the vendor",
    )
