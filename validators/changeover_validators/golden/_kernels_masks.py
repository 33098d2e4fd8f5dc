"""Compiled: geometry on planes of bits. Counting, boundaries, matching within a radius, widening and narrowing.

A plane is uint64 [H, ceil(W / 64)], a word for 64 pixels of a row, the lowest bit its first pixel; bits beyond the
frame's width are 0. A boundary pixel is matched if the other boundary has a pixel within a Euclidean distance of r.
That is what a dilation by the disk ``x*x + y*y <= r*r`` asks, without the dilation: a pixel asks the rows around it,
nearest first, whether they hold anything within reach, and leaves as soon as one does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["boundary", "count", "count_both", "count_either", "matched", "narrowed", "widened"]

Plane = NDArray[np.uint64]
Row = NDArray[np.uint64]

_ZERO, _ONE, _ALL = np.uint64(0), np.uint64(1), ~np.uint64(0)
_PAIRS, _FOURS, _EIGHTS = (
    np.uint64(0x5555555555555555),
    np.uint64(0x3333333333333333),
    np.uint64(0x0F0F0F0F0F0F0F0F),
)
_BYTES = np.uint64(0x0101010101010101)


@compiled
def _ones(word: np.uint64) -> int:
    """How many bits of a word are set."""
    word -= (word >> _ONE) & _PAIRS
    word = (word & _FOURS) + ((word >> np.uint64(2)) & _FOURS)
    word = (word + (word >> np.uint64(4))) & _EIGHTS
    return int((word * _BYTES) >> np.uint64(56))


@compiled
def count(plane: Plane) -> int:
    """How many pixels a plane holds."""
    total = 0
    for word in plane.flat:
        total += _ones(word)
    return total


@compiled
def count_both(one: Plane, other: Plane) -> int:
    """How many pixels are in both planes."""
    total = 0
    for y in range(one.shape[0]):
        for w in range(one.shape[1]):
            total += _ones(one[y, w] & other[y, w])
    return total


@compiled
def count_either(one: Plane, other: Plane) -> int:
    """How many pixels are in one of the planes or both."""
    total = 0
    for y in range(one.shape[0]):
        for w in range(one.shape[1]):
            total += _ones(one[y, w] | other[y, w])
    return total


@compiled
def boundary(mask: Plane, width: int) -> Plane:
    """The boundary: pixels that differ from their east, south or south-east neighbour inside the frame."""
    height, words = mask.shape
    edge = np.zeros((height, words), np.uint64)
    last = np.uint64((width - 1) & 63)
    tail = (_ONE << last) | ((_ONE << last) - _ONE)
    for y in range(height):
        south = min(y + 1, height - 1)
        for w in range(words):
            here, below = mask[y, w], mask[south, w]
            if w + 1 < words:
                east = (here >> _ONE) | (mask[y, w + 1] << np.uint64(63))
                corner = (below >> _ONE) | (mask[south, w + 1] << np.uint64(63))
                edge[y, w] = (here ^ east) | (here ^ below) | (here ^ corner)
            else:
                east = (here >> _ONE) | (here & (_ONE << last))
                corner = (below >> _ONE) | (below & (_ONE << last))
                edge[y, w] = ((here ^ east) | (here ^ below) | (here ^ corner)) & tail
    return edge


@compiled
def _holds(plane: Plane, y: int, left: int, right: int) -> bool:
    """Whether row `y` holds a pixel between two columns, both included."""
    first, last = left >> 6, right >> 6
    low, high = _ALL << np.uint64(left & 63), _ALL >> np.uint64(63 - (right & 63))
    if first == last:
        return bool(plane[y, first] & low & high)
    if plane[y, first] & low or plane[y, last] & high:
        return True
    between = _ZERO
    for w in range(first + 1, last):
        between |= plane[y, w]
    return bool(between)


@compiled
def _near(other: Plane, y: int, x: int, width: int, halves: NDArray[np.int64]) -> bool:
    """Whether the plane holds a pixel within reach of one; `halves` are the columns to each side by rows away."""
    for offset in range(halves.size):
        left, right = max(x - halves[offset], 0), min(x + halves[offset], width - 1)
        if y >= offset and _holds(other, y - offset, left, right):
            return True
        if offset and y + offset < other.shape[0] and _holds(other, y + offset, left, right):
            return True
    return False


@compiled
def matched(edge: Plane, other: Plane, width: int, reach: int) -> int:
    """How many pixels of `edge` have a pixel of `other` within `reach` pixels (Euclidean, inclusive).

    Those within the largest square inside the disk match, those outside the smallest square around it do not; only the
    few between the two are asked one by one.
    """
    halves = np.empty(reach + 1, np.int64)
    for offset in range(reach + 1):
        halves[offset] = np.int64(math.sqrt(reach * reach - offset * offset))
    inside, around = widened(other, int(math.sqrt(reach * reach // 2))), widened(other, reach)
    total = 0
    for y in range(edge.shape[0]):
        for w in range(edge.shape[1]):
            total += _ones(edge[y, w] & inside[y, w])
            word = edge[y, w] & around[y, w] & ~inside[y, w]
            while word:
                x = 64 * w + _ones((word - _ONE) & ~word)
                word &= word - _ONE
                total += _near(other, y, x, width, halves)
    return total


@compiled
def widened(plane: Plane, reach: int) -> Plane:
    """Every pixel with a pixel of the plane at most `reach` rows and columns away (3 x 3, `reach` times).

    Bits beyond the frame's width may be set. A window of n is made of two windows of the largest power of two below n,
    so it takes log n steps in each direction.
    """
    forward, backward = plane.copy(), plane.copy()
    for y in range(plane.shape[0]):
        size = 1
        while size <= reach:
            step = min(size, reach + 1 - size)
            _toward_low(forward[y], step)
            _toward_high(backward[y], step)
            size += step
        for w in range(plane.shape[1]):
            forward[y, w] |= backward[y, w]
            backward[y, w] = forward[y, w]
    height, size = plane.shape[0], 1
    while size <= reach:
        step = min(size, reach + 1 - size)
        for y in range(height - step):
            _merge(forward[y], forward[y + step])
        for y in range(height - 1, step - 1, -1):
            _merge(backward[y], backward[y - step])
        size += step
    for y in range(height):
        _merge(forward[y], backward[y])
    return forward


@compiled
def narrowed(plane: Plane, width: int, reach: int) -> Plane:
    """Every pixel with no gap at most `reach` rows and columns away; what lies outside the frame is a gap."""
    height, words = plane.shape
    gaps = widened(~plane, reach)
    narrow, inner = np.zeros((height, words), np.uint64), np.zeros(words, np.uint64)
    for x in range(reach, width - reach):
        inner[x >> 6] |= _ONE << np.uint64(x & 63)
    for y in range(reach, height - reach):
        for w in range(words):
            narrow[y, w] = ~gaps[y, w] & inner[w]
    return narrow


@compiled
def _merge(row: Row, other: Row) -> None:
    """Add to a row what another holds."""
    for w in range(row.size):
        row[w] |= other[w]


@compiled
def _toward_low(row: Row, step: int) -> None:
    """Merge a row with itself moved `step` pixels towards column 0."""
    skip, low = step >> 6, np.uint64(step & 63)
    words = row.size
    for w in range(words - skip):
        word = row[w + skip] >> low
        if low and w + skip + 1 < words:
            word |= row[w + skip + 1] << (np.uint64(64) - low)
        row[w] |= word


@compiled
def _toward_high(row: Row, step: int) -> None:
    """Merge a row with itself moved `step` pixels away from column 0."""
    skip, high = step >> 6, np.uint64(step & 63)
    for w in range(row.size - 1, skip - 1, -1):
        word = row[w - skip] << high
        if high and w > skip:
            word |= row[w - skip - 1] >> (np.uint64(64) - high)
        row[w] |= word
