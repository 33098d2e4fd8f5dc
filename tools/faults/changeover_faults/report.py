"""What a rig found, as a value, and the table of all of them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

__all__ = ["Report", "as_json", "table"]

_SHOWN = 20
"""How many violations of one rig are printed; the JSON has all."""


@dataclass(slots=True)
class Report:
    """What a rig found.

    `missed` counts cases whose fault was never met, such as a kill at a call that this run did not make. A rig that
    this machine forbids has its reason in `skipped` and no cases.
    """

    rig: str
    cases: int = 0
    missed: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    skipped: str = ""
    notes: dict[str, object] = field(default_factory=dict)

    def add(self, violations: Iterable[str]) -> None:
        """Count one case, with what it violated."""
        self.cases += 1
        self.violations += violations


def table(reports: Iterable[Report]) -> str:
    """A line for each rig, with its violations below it."""
    lines = [f"{'rig':<34}{'cases':>7}{'violations':>12}{'not met':>9}{'seconds':>9}"]
    for report in reports:
        if report.skipped:
            lines.append(f"{report.rig:<34}skipped: {report.skipped}")
            continue
        numbers = f"{report.cases:>7}{len(report.violations):>12}{report.missed:>9}{report.seconds:>9.0f}"
        lines.append(f"{report.rig:<34}{numbers}")
        lines += [f"    {name}: {value}" for name, value in report.notes.items()]
        lines += [f"    VIOLATION {text}" for text in report.violations[:_SHOWN]]
        if len(report.violations) > _SHOWN:
            lines.append(f"    and {len(report.violations) - _SHOWN} more")
    return "\n".join(lines)


def as_json(reports: Iterable[Report]) -> str:
    """The same for machines."""
    return json.dumps([asdict(report) for report in reports], indent=1)
