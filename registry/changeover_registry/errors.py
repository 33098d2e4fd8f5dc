"""The errors a person may see: one root, one class per exit code, always one clear line.

Every message says what rule was broken, where, what was expected, what was found and what to do. Foreign errors are
wrapped where they enter. `OSError` stays itself and becomes exit code 9 at the command line.
"""

from typing import ClassVar

__all__ = [
    "ChangeoverError",
    "InvalidInputError",
    "LostRaceError",
    "MeasurementError",
    "RefusedError",
    "TrustError",
    "UndecidedError",
    "UnreachableError",
]


class ChangeoverError(Exception):
    """The root of all errors that Changeover raises on purpose.

    Args:
        rule: The rule that was broken, as a short noun phrase ("release record", "wrong digest").
        where: The file, field, node or address that it concerns.
        expected: What the rule asks for.
        actual: What was found.
        remedy: What the reader can do about it, as an imperative.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, rule: str, *, where: str, expected: str, actual: str, remedy: str) -> None:
        super().__init__(rule, where, expected, actual, remedy)
        self.rule = rule
        self.where = where
        self.expected = expected
        self.actual = actual
        self.remedy = remedy

    def __reduce__(self) -> "tuple[object, ...]":
        """How another process gets it whole; the fields are keywords, which an exception's own pickle leaves out."""
        return _again, (type(self), self.rule, self.where, self.expected, self.actual, self.remedy)

    def __str__(self) -> str:
        """The one line that a person reads; what a terminal would obey is written as an escape."""
        line = f"{self.rule}: {self.where}: expected {self.expected}, found {self.actual}; {self.remedy}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(line.split()))


def _again(kind: type[ChangeoverError], rule: str, where: str, expected: str, actual: str, remedy: str) -> Exception:
    return kind(rule, where=where, expected=expected, actual=actual, remedy=remedy)


class InvalidInputError(ChangeoverError):
    """Usage or input is wrong: exit code 2."""

    exit_code = 2


class RefusedError(ChangeoverError):
    """A rule says no (reject, over budget, incompatible): exit code 3."""

    exit_code = 3


class UndecidedError(ChangeoverError):
    """Nobody can say yet (inconclusive, unknown, not run): exit code 4."""

    exit_code = 4


class TrustError(ChangeoverError):
    """A signature, a digest or an expiry does not hold: exit code 5."""

    exit_code = 5


class UnreachableError(ChangeoverError):
    """Something that should answer does not: exit code 6."""

    exit_code = 6


class LostRaceError(ChangeoverError):
    """Somebody else was first, or holds the lock: exit code 7."""

    exit_code = 7


class MeasurementError(ChangeoverError):
    """A verdict could not be measured (crash, hang, NaN, bad image at check): exit code 8."""

    exit_code = 8
