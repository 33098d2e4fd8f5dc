"""The inner loops of the boundary metric: exact integer geometry on boolean arrays, vectorised with numpy.

A boundary pixel is matched if the other boundary has a pixel within a Euclidean distance of r. That is what a dilation
by the disk ``x*x + y*y <= r*r`` asks, without the dilation: each pixel asks the rows around it, nearest first, whether
they hold anything within reach, and leaves as soon as one does. Left out: what the counts mean (`metrics`).
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["boundary", "matched", "radius"]


def radius(height: int, width: int, tolerance: float) -> int:
    """The tolerance in pixels: itself from 1 up, else that share of the frame's diagonal, rounded up."""
    if tolerance >= 1:
        return math.ceil(tolerance)
    return math.ceil(tolerance * math.sqrt(height * height + width * width))


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boundary map [H, W]: pixels that differ from their east, south or south-east neighbour.

    The last row looks east only, the last column south only, and the last corner is never a boundary.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def matched(edge: NDArray[np.bool_], other: NDArray[np.bool_], reach: int) -> int:
    """How many pixels of `edge` have a pixel of `other` within `reach` pixels (Euclidean, inclusive)."""
    rows, columns = np.nonzero(edge)
    counts = _row_counts(other)
    total = rows.size
    for offset in range(reach + 1):
        half = math.isqrt(reach * reach - offset * offset)
        for step in sorted({-offset, offset}):
            missed = ~_row_has(counts, rows + step, columns, half)
            rows, columns = rows[missed], columns[missed]
    return int(total - rows.size)


def _row_counts(edge: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Counts [H, W + 1]: how many pixels of its row lie left of each column."""
    height, width = edge.shape
    counts = np.zeros((height, width + 1), np.int32)
    np.cumsum(edge, axis=1, out=counts[:, 1:])
    return counts


def _row_has(
    counts: NDArray[np.int32], rows: NDArray[np.intp], columns: NDArray[np.intp], half: int
) -> NDArray[np.bool_]:
    """For each pixel: whether that row holds something at most `half` columns away.

    A row outside the frame stands for the frame's outermost row. That is nearer, so it was asked before and with a
    wider reach; asking it again changes nothing.
    """
    height, width = counts.shape[0], counts.shape[1] - 1
    start = np.clip(rows, 0, height - 1) * (width + 1)
    left, right = np.maximum(columns - half, 0), np.minimum(columns + half + 1, width)
    flat = counts.ravel()
    hit: NDArray[np.bool_] = flat[start + left] != flat[start + right]
    return hit
