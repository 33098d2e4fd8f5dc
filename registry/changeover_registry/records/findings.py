"""Findings: one check's answer. Not run is never passed; unknown is not run."""

from typing import Annotated, Literal

from pydantic import Field

from changeover_registry.records.base import Text, Value

__all__ = ["CHECKS", "CheckName", "Finding", "NotApplicable", "NotRun", "Passed", "Refused"]

CheckName = Literal[
    "trust", "licence", "format", "interface", "hardware", "vram", "speed", "golden", "smoke", "withdrawal"
]
CHECKS: tuple[CheckName, ...] = (
    "trust",
    "licence",
    "format",
    "interface",
    "hardware",
    "vram",
    "speed",
    "golden",
    "smoke",
)
"""All checks in the order in which they run: cheap first.

``withdrawal`` is none of them: an override names it for shots that are pinned to what their vendor took back.
"""


class _Finding(Value):
    check: CheckName
    subject: str = ""
    """The operating point, variant or shot that it is about; empty for the release as a whole."""
    code: str | None = Field(default=None, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """The reason in one word of a closed list in the code of that check; a passed finding has its cost here."""
    evidence: tuple[Text, ...] | None = None
    """The facts and the rows of tables that it rests on."""


class Passed(_Finding):
    """The rule holds. `detail` is one line of evidence."""

    outcome: Literal["passed"] = "passed"
    detail: str = ""


class Refused(_Finding):
    """The rule does not hold: which, what it asks for, what was found, what the reader can do."""

    outcome: Literal["refused"] = "refused"
    rule: Text
    expected: Text
    actual: Text
    remedy: Text


class NotRun(_Finding):
    """The check could not be done, and why; `error` means that a measurement was tried and broke.

    `rule` is ``few-shots`` where all that is missing is shots, so that a supervisor's sign-off may stand in for them.
    """

    outcome: Literal["not-run"] = "not-run"
    why: Text
    remedy: str = ""
    error: bool = False
    rule: Literal["few-shots"] | None = None


class NotApplicable(_Finding):
    """The check does not concern this case, by a rule of a closed list in code."""

    outcome: Literal["not-applicable"] = "not-applicable"
    rule: Literal[
        "no-baseline",
        "cpu-only-host",
        "opaque-cat-outside-nuke",
        "overridden",
        "earlier-check-refused",
        "other-variant-serves",
        "adopted",
        "other-model",
    ]
    detail: str = ""


Finding = Annotated[Passed | Refused | NotRun | NotApplicable, Field(discriminator="outcome")]
