"""From what was scored to what is filed: curves of decimal strings, one value for each scored frame.

Nine digits after the point, rounded to nearest: a value has one spelling, on every machine. Left out: means over
frames, and what is good enough (`summary`, `judge`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from changeover_registry.records.scores import Curve
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.metrics import FrameScores, Measured, NotAvailable

__all__ = ["curves", "decimal"]

Role = Literal["candidate", "current", "second"]
_REASONS = 5
"""Reasons that a curve names; a shot with more gaps has more of the same kind."""
_NO_MATTE = NotAvailable("there is no second matte on this frame")


def decimal(value: float) -> str:
    """Nine digits after the point, and no minus before a zero."""
    text = f"{value:.9f}"
    return "0.000000000" if text == "-0.000000000" else text


def curves(role: Role, rows: Mapping[int, FrameScores], frames: int) -> tuple[Curve, ...]:
    """Every metric of one subject.

    Args:
        role: Whose numbers they are.
        rows: By place among the scored frames; a place may be without (a second artist drew only some frames).
        frames: How many frames are scored.
    """
    return tuple(
        _curve(metric.name, role, [rows[place].values[at] if place in rows else _NO_MATTE for place in range(frames)])
        for at, metric in enumerate(METRICS)
    )


def _curve(name: str, role: Role, values: Sequence[Measured | NotAvailable]) -> Curve:
    texts = tuple(decimal(value.value) if isinstance(value, Measured) else None for value in values)
    return Curve(metric=name, subject=role, values=texts, why="; ".join(_reasons(values)) or None)


def _reasons(values: Sequence[Measured | NotAvailable]) -> Iterator[str]:
    """Each reason once, in the order in which they come up."""
    reasons = dict.fromkeys(value.why for value in values if isinstance(value, NotAvailable))
    for number, why in enumerate(reasons):
        if number == _REASONS:
            yield f"and {len(reasons) - _REASONS} more"
            return
        yield why
