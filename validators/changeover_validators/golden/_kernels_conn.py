"""Compiled: the connectivity error, without labelling the frame ten times.

A pixel's level is how many of the thresholds 0.1, 0.2 ... 1.0 the smaller of both mattes passes. Pixels of one row and
one level side by side are one run. Runs are joined level by level from 10 down to 1 (union and find), and at each level
the largest component is the one that counts, the first in reading order on ties. A run is connected up to the level
below the first one at which it is not part of that component.
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["connectivity"]

Plane = NDArray[np.uint64]
Matte = NDArray[np.float32]
Tile = NDArray[np.float32]
Runs = NDArray[np.int32]
Rows = NDArray[np.int64]

_LEVELS = 10


@compiled
def connectivity(
    prediction: Matte, truth: Matte, region: Plane, tiles: NDArray[np.uint8], thresholds: NDArray[np.float64]
) -> float:
    """The sum over all pixels of the difference of both mattes' connectedness.

    Args:
        prediction: [H, W].
        truth: [H, W].
        region: Plane of bits; pixels outside count as 0 in both mattes.
        tiles: [H, words], 0 where both mattes are 0 in those 64 pixels.
        thresholds: The 11 of them, from 0 to 1. They are compared as float64.
    """
    runs, rows = _runs(prediction, truth, region, tiles, _rounded_up(thresholds))
    levels, steps = _connected(runs, _touching(runs, rows)), thresholds.astype(np.float32)
    connected = np.empty(levels.size, np.float32)
    for run in range(levels.size):
        connected[run] = steps[levels[run]]
    return _difference(prediction, truth, region, tiles, runs, rows, connected)


@compiled
def _rounded_up(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The least float32 that passes each threshold, so that comparing it is comparing the float64."""
    rounded = thresholds.astype(np.float32)
    for level in range(rounded.size):
        if np.float64(rounded[level]) < thresholds[level]:
            rounded[level] = np.nextafter(rounded[level], np.float32(2))
    return rounded


@compiled
def _levels(
    p: NDArray[np.float32], g: NDArray[np.float32], thresholds: NDArray[np.float32], levels: NDArray[np.uint8]
) -> None:
    """How many thresholds the smaller value of 64 pixels passes, the one at 0 not counted."""
    for k in range(64):
        smaller = min(p[k], g[k])
        level = np.uint8(0)
        for step in range(1, _LEVELS + 1):
            level += np.uint8(smaller >= thresholds[step])
        levels[k] = level


@compiled
def _load(part: Tile, word: np.uint64, tile: Tile) -> None:
    """One tile of a row, 0 outside the region and beyond the frame."""
    if word == ~np.uint64(0):
        for k in range(64):
            tile[k] = part[k]
        return
    tile[:] = 0
    for k in range(part.size):
        if (word >> np.uint64(k)) & np.uint64(1):
            tile[k] = part[k]


@compiled
def _runs(
    prediction: Matte, truth: Matte, region: Plane, tiles: NDArray[np.uint8], thresholds: NDArray[np.float32]
) -> tuple[Runs, Rows]:
    """All runs above level 0 in reading order [3, N], as first column, last + 1 and level; where each row's begin."""
    height, width = prediction.shape
    words = tiles.shape[1]
    runs, rows = np.empty((3, 4096), np.int32), np.zeros(height + 1, np.int64)
    p, g = np.empty(64, np.float32), np.empty(64, np.float32)
    row = np.zeros(64 * words, np.uint8)
    total = 0
    for y in range(height):
        if runs.shape[1] < total + width:
            longer = np.empty((3, 2 * (total + width)), np.int32)
            for run in range(total):
                longer[0, run], longer[1, run], longer[2, run] = runs[0, run], runs[1, run], runs[2, run]
            runs = longer
        for w in range(words):
            if not tiles[y, w]:
                row[64 * w : 64 * w + 64] = 0
                continue
            _load(prediction[y, 64 * w : 64 * w + 64], region[y, w], p)
            _load(truth[y, 64 * w : 64 * w + 64], region[y, w], g)
            _levels(p, g, thresholds, row[64 * w : 64 * w + 64])
        total = _cut(row, tiles[y], runs, total)
        rows[y + 1] = total
    return runs[:, :total].copy(), rows


@compiled
def _cut(row: NDArray[np.uint8], tiles: NDArray[np.uint8], runs: Runs, total: int) -> int:
    """Write the runs of one row after the `total` that are there; the new total."""
    eights = row.view(np.uint64)
    current, begun = np.uint8(0), 0
    for w in range(tiles.size):
        if not tiles[w] and not current:
            continue
        for part in range(8 * w, 8 * w + 8):
            if eights[part] == np.uint64(current) * np.uint64(0x0101010101010101):
                continue
            for x in range(8 * part, 8 * part + 8):
                if row[x] == current:
                    continue
                if current:
                    runs[0, total], runs[1, total], runs[2, total] = begun, x, current
                    total += 1
                current, begun = row[x], x
    if current:
        runs[0, total], runs[1, total], runs[2, total] = begun, row.size, current
        total += 1
    return total


@compiled
def _touching(runs: Runs, rows: Rows) -> NDArray[np.int32]:
    """The neighbours of each run [6, N], as first and last + 1: in the row above, in the row below, in its own row."""
    start, end = runs[0], runs[1]
    touching = np.empty((6, start.size), np.int32)
    for y in range(rows.size - 1):
        first, stop = rows[y], rows[y + 1]
        up, down, last = rows[max(y - 1, 0)], stop, rows[min(y + 2, rows.size - 1)]
        for run in range(first, stop):
            up = _overlap(start, end, run, up, first, touching[0:2])
            down = _overlap(start, end, run, down, last, touching[2:4])
            touching[4, run] = run - (run > first and end[run - 1] == start[run])
            touching[5, run] = run + 1 + (run + 1 < stop and start[run + 1] == end[run])
    return touching


@compiled
def _overlap(
    start: NDArray[np.int32], end: NDArray[np.int32], run: int, other: int, stop: int, found: NDArray[np.int32]
) -> int:
    """Note which runs before `stop` share a column with a run; where to go on looking for the next run's."""
    while other < stop and end[other] <= start[run]:
        other += 1
    found[0, run] = other
    past = other
    while past < stop and start[past] < end[run]:
        past += 1
    found[1, run] = past
    return other


@compiled
def _find(parent: NDArray[np.int32], run: int) -> int:
    """The root of a run; every second step of the way there is made shorter."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def _activated(parent: NDArray[np.int32], size: NDArray[np.int32], run: int, touching: NDArray[np.int32]) -> int:
    """Join a run with the neighbours that are there already; the root is the first of them in reading order."""
    root = run
    for side in range(0, 6, 2):
        for neighbour in range(touching[side, run], touching[side + 1, run]):
            if parent[neighbour] < 0:
                continue
            other = _find(parent, neighbour)
            if other != root:
                low, high = min(root, other), max(root, other)
                parent[high] = low
                size[low] += size[high]
                root = low
    return root


@compiled
def _connected(runs: Runs, touching: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each run, the highest level up to which it is part of the largest component at every level."""
    count = runs.shape[1]
    order, begins = _by_level(runs[2])
    parent, size = np.full(count, -1, np.int32), np.zeros(count, np.int32)
    connected: NDArray[np.int32] = runs[2].copy()
    largest = -1
    for level in range(_LEVELS, 0, -1):
        for index in range(begins[level], begins[level - 1]):
            run = order[index]
            parent[run], size[run] = run, runs[1, run] - runs[0, run]
            root = _activated(parent, size, run, touching)
            if largest < 0 or size[root] > size[largest] or (size[root] == size[largest] and root < largest):
                largest = root
        for index in range(begins[level - 1]):
            if _find(parent, order[index]) != largest:
                connected[order[index]] = level - 1
    return connected


@compiled
def _by_level(levels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The runs by level from 10 down to 1, in reading order within one; where each level begins, at its index."""
    begins = np.zeros(_LEVELS + 1, np.int64)
    for level in levels:
        begins[level - 1] += 1
    for level in range(_LEVELS - 1, -1, -1):
        begins[level] += begins[level + 1]
    order, free = np.empty(levels.size, np.int32), begins.copy()
    for run in range(levels.size):
        order[free[levels[run]]] = run
        free[levels[run]] += 1
    return order, begins


@compiled
def _difference(
    prediction: Matte,
    truth: Matte,
    region: Plane,
    tiles: NDArray[np.uint8],
    runs: Runs,
    rows: Rows,
    connected: NDArray[np.float32],
) -> float:
    """The sum of the differences; the arithmetic of a pixel is float32, as the reference's, the sum is not."""
    height = prediction.shape[0]
    p, g, sums = np.empty(64, np.float32), np.empty(64, np.float32), np.zeros(64, np.float64)
    below = np.zeros(64 * tiles.shape[1], np.float32)
    for y in range(height):
        for run in range(rows[y], rows[y + 1]):
            below[runs[0, run] : runs[1, run]] = connected[run]
        for w in range(tiles.shape[1]):
            if tiles[y, w]:
                _load(prediction[y, 64 * w : 64 * w + 64], region[y, w], p)
                _load(truth[y, 64 * w : 64 * w + 64], region[y, w], g)
                _add(p, g, below[64 * w : 64 * w + 64], sums)
        for run in range(rows[y], rows[y + 1]):
            below[runs[0, run] : runs[1, run]] = 0
    return float(sums.sum())


@compiled
def _add(p: NDArray[np.float32], g: NDArray[np.float32], below: NDArray[np.float32], sums: NDArray[np.float64]) -> None:
    """Add the differences of 64 pixels, a sum for each place: the order does not depend on the processor."""
    theta, one, zero = np.float32(0.15), np.float32(1), np.float32(0)
    for k in range(64):
        over_p, over_g = p[k] - below[k], g[k] - below[k]
        phi_p = one - (over_p if over_p >= theta else zero)
        phi_g = one - (over_g if over_g >= theta else zero)
        sums[k] += abs(phi_p - phi_g)
