"""Where the lines of a chart lie: values in, SVG path data out. Pure.

A curve's box has one unit of width from frame to frame and 100 units of height, y down. The page stretches it to what
room there is, so everything that must keep its shape (text, the marker under the pointer) is laid over it there. Gaps
stay gaps: a frame on which a metric is not defined has no point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from changeover_validators.golden.report.model import Curve, Gate, Line

__all__ = ["Axis", "Drawn", "Interval", "draw", "interval", "width_of", "x_of"]

HEIGHT = 100
_LEAST_SPAN = Decimal("0.0001")
"""No curve is stretched so far that a difference in the fourth digit fills the picture."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The values at the box's lower and upper edge."""

    low: Decimal
    high: Decimal

    def y(self, value: Decimal) -> Decimal:
        """Where a value lies, from the box's top."""
        return (HEIGHT * (self.high - value) / (self.high - self.low)).quantize(Decimal("0.1"))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve as it is drawn: its axis, and path data by subject."""

    curve: Curve
    axis: Axis
    paths: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A gate's bounds on a scale of 0 to 100, left is worse; `zero` and `margin` are where these stand."""

    low: Decimal
    high: Decimal
    mean: Decimal
    margin: Decimal
    zero: Decimal


def draw(curve: Curve) -> Drawn | None:
    """The curve drawn, or None if it is defined on no frame."""
    values = curve.defined()
    if not values:
        return None
    axis = _axis(min(values), max(values))
    return Drawn(curve, axis, tuple((line.subject, _path(line, axis)) for line in curve.lines))


def width_of(count: int) -> int:
    """How wide the box of so many frames is."""
    return max(count - 1, 1)


def x_of(place: int, count: int) -> Decimal:
    """Where the frame at `place` of `count` lies, from the box's left; one frame alone lies in the middle."""
    return Decimal("0.5") if count == 1 else Decimal(place)


def _axis(low: Decimal, high: Decimal) -> Axis:
    missing = max(_LEAST_SPAN - (high - low), Decimal(0))
    room = (high - low + missing) / 20
    return Axis(low - missing / 2 - room, high + missing / 2 + room)


def _path(line: Line, axis: Axis) -> str:
    parts: list[str] = []
    values: Sequence[Decimal | None] = (None, *line.values, None)
    for place, value in enumerate(line.values):
        if value is None:
            continue
        starts, ends = values[place] is None, values[place + 2] is None
        point = f"{_short(x_of(place, len(line.values)))} {_short(axis.y(value))}"
        # A frame between two gaps is a line without length, which round ends make a dot.
        parts.append(f"{'M' if starts else ' '}{point}{'h0' if starts and ends else ''}")
    return "".join(parts)


def _short(number: Decimal) -> str:
    text = f"{number:f}"
    return text.removesuffix(".0")


def interval(gate: Gate) -> Interval:
    """Where a gate's mean, bounds and margin lie beside each other."""
    low = gate.mean if gate.lower is None else gate.lower
    high = gate.mean if gate.upper is None else gate.upper
    marks = (low, high, -gate.margin, gate.margin, Decimal(0))
    left, right = min(marks), max(marks)
    room = (right - left) / 10 or Decimal(1)

    def at(value: Decimal) -> Decimal:
        return (100 * (value - left + room) / (right - left + 2 * room)).quantize(Decimal("0.1"))

    return Interval(at(low), at(high), at(gate.mean), at(-gate.margin), at(Decimal(0)))
