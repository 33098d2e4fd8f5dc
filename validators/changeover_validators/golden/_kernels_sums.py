"""Compiled: every sum of differences in one pass, over the frame and over the band, and the pixel that is farthest off.

Differences are float32, as both mattes are; sums are float64, one for each of the 64 places in a tile, so that the
order of adding, and with it the last bit, does not depend on how wide the processor's registers are.
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["sums"]

Plane = NDArray[np.uint64]
Matte = NDArray[np.float32]
Tile = NDArray[np.float32]


@compiled
def sums(
    prediction: Matte,
    truth: Matte,
    region: Plane,
    band: Plane,
    tiles: NDArray[np.uint8],
    before: NDArray[np.float32],
    before_tiles: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum up, and leave this frame in the place of the one before.

    Args:
        prediction: [H, W].
        truth: [H, W].
        region: Plane of bits; pixels outside count as 0 in both mattes.
        band: Plane of bits, all of them in the region.
        tiles: [H, words], 0 where both mattes are 0 in those 64 pixels.
        before: [2, H, W], both mattes of the frame before; [2, 0, 0] if none is kept. Overwritten with this frame's.
        before_tiles: Its tiles. Overwritten with this frame's.

    Returns:
        Sums of |p - g|, of its square, of the squared difference of both changes, of the sizes of the prediction's and
        of the truth's change; over the band, of |p - g| and of the squared difference of both changes.
        The place (y, x) of the first of the largest |p - g|; -1, -1 where there is none above 0.
    """
    height = prediction.shape[0]
    totals, worst = np.zeros((7, 64), np.float64), np.full(2, -1, np.int64)
    p, g, p_before, g_before = (
        np.empty(64, np.float32),
        np.empty(64, np.float32),
        np.zeros(64, np.float32),
        np.zeros(64, np.float32),
    )
    inside = np.empty(64, np.float32)
    largest = np.float32(0)
    keeps = before.shape[1] > 0
    for y in range(height):
        for w in range(tiles.shape[1]):
            if not tiles[y, w] and not (keeps and before_tiles[y, w]):
                continue
            x = 64 * w
            _load(prediction[y, x : x + 64], region[y, w], p)
            _load(truth[y, x : x + 64], region[y, w], g)
            if keeps:
                _swap(before[0, y, x : x + 64], p, p_before)
                _swap(before[1, y, x : x + 64], g, g_before)
                before_tiles[y, w] = tiles[y, w]
                _add_changes(p, g, p_before, g_before, totals)
            largest = _add_differences(p, g, largest, y, x, totals, worst)
            if band[y, w]:
                _expand(band[y, w], inside)
                _add_band(p, g, p_before, g_before, inside, totals)
    result = np.zeros(7, np.float64)
    for which in range(7):
        for k in range(64):
            result[which] += totals[which, k]
    return result, worst


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
def _swap(kept: Tile, tile: Tile, earlier: Tile) -> None:
    """Take out the frame before and put this one there; beyond the frame both are 0."""
    if kept.size == 64:
        for k in range(64):
            earlier[k] = kept[k]
        for k in range(64):
            kept[k] = tile[k]
        return
    earlier[:] = 0
    for k in range(kept.size):
        earlier[k] = kept[k]
        kept[k] = tile[k]


@compiled
def _expand(word: np.uint64, inside: Tile) -> None:
    """The bits of a word as 0 and 1."""
    for k in range(64):
        inside[k] = np.float32((word >> np.uint64(k)) & np.uint64(1))


@compiled
def _add_differences(
    p: Tile, g: Tile, largest: np.float32, y: int, x: int, totals: NDArray[np.float64], worst: NDArray[np.int64]
) -> np.float32:
    """Add the differences of both mattes; the largest one up to here, whose place is noted."""
    absolute, squared = totals[0], totals[1]
    most = np.float32(0)
    for k in range(64):
        absolute[k] += abs(p[k] - g[k])
    for k in range(64):
        difference = p[k] - g[k]
        squared[k] += np.float64(difference) * np.float64(difference)
    for k in range(64):
        difference = abs(p[k] - g[k])
        most = max(most, difference)
    if most > largest:
        for k in range(64):
            if abs(p[k] - g[k]) == most:
                worst[0], worst[1] = y, x + k
                break
        return most
    return largest


@compiled
def _add_changes(p: Tile, g: Tile, p_before: Tile, g_before: Tile, totals: NDArray[np.float64]) -> None:
    """Add what changed since the frame before."""
    both, own, true = totals[2], totals[3], totals[4]
    for k in range(64):
        difference = np.float64((p[k] - p_before[k]) - (g[k] - g_before[k]))
        both[k] += difference * difference
    for k in range(64):
        own[k] += abs(p[k] - p_before[k])
    for k in range(64):
        true[k] += abs(g[k] - g_before[k])


@compiled
def _add_band(p: Tile, g: Tile, p_before: Tile, g_before: Tile, inside: Tile, totals: NDArray[np.float64]) -> None:
    """Add the band's part of both."""
    absolute, changes = totals[5], totals[6]
    for k in range(64):
        absolute[k] += abs(p[k] - g[k]) * inside[k]
    for k in range(64):
        difference = np.float64(((p[k] - p_before[k]) - (g[k] - g_before[k])) * inside[k])
        changes[k] += difference * difference
