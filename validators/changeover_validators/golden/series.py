"""What is made of one shot's curve of a metric: recall and decay, as the DAVIS benchmark defines them.

A curve holds one value for each scored frame, None where the metric is not defined; such a frame keeps its place in
time and counts in no mean. Sums are taken in the order in which numpy takes them, so that the results equal the
benchmark's to the last bit, and this module needs no numpy. The benchmark's bin edges are 8-bit integers, which is
wrong from frame 257 on; ours are not.
"""

from collections.abc import Sequence

__all__ = ["decay", "mean", "recall"]

Curve = Sequence[float | None]

_BINS = 4


def recall(curve: Curve, *, above: float = 0.5) -> float | None:
    """Share of the defined values that are above a limit (strictly), 0 to 1, higher is better; None where none is."""
    defined = [value for value in curve if value is not None]
    return sum(value > above for value in defined) / len(defined) if defined else None


def decay(curve: Curve) -> float | None:
    """Mean of the first quarter minus mean of the last, lower is better; None where either holds no defined value.

    Neighbouring quarters share a frame. A curve of one frame has decay 0.
    """
    edges = [_edge(number, len(curve)) for number in range(_BINS + 1)]
    first, last = mean(curve[edges[0] : edges[1] + 1]), mean(curve[edges[-2] : edges[-1] + 1])
    return None if first is None or last is None else first - last


def mean(curve: Curve) -> float | None:
    """Mean of the defined values, None where there is none. Undefined ones count as 0 in the sum, as in ``nanmean``."""
    defined = sum(value is not None for value in curve)
    return _pairwise([value or 0.0 for value in curve]) / defined if defined else None


def _edge(number: int, frames: int) -> int:
    """Where quarter `number` begins: that share of the last index, a half rounded up."""
    return (2 * number * (frames - 1) + _BINS) // (2 * _BINS)


def _pairwise(values: Sequence[float]) -> float:
    """The sum as numpy takes it: plain below 8 values, in 8 lanes up to 128, in halves above."""
    count = len(values)
    if count < 8:
        return _plain(0.0, values)
    if count > 128:
        half = count // 2 - count // 2 % 8
        return _pairwise(values[:half]) + _pairwise(values[half:])
    even = count - count % 8
    lanes = [_plain(values[lane], values[lane + 8 : even : 8]) for lane in range(8)]
    low, high = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]), (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
    return _plain(low + high, values[even:])


def _plain(start: float, values: Sequence[float]) -> float:
    """`start` and the values added one after the other; `sum` compensates from Python 3.12 on and would differ."""
    for value in values:
        start += value
    return start
