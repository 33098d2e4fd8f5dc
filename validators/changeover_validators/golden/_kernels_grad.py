"""Compiled: the gradient error, by blocks of 16 rows and 64 columns, each filtered along columns and then along rows.

The filter is separable: a Gaussian across, its derivative along. A block around which neither matte varies has no
gradient and is skipped; that is most of a frame. Stretching a matte to 0 to 1 moves it, and scales its gradient.
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["gradients"]

Plane = NDArray[np.uint64]
Matte = NDArray[np.float32]

_ROWS, _COLUMNS, _HALF = 16, 64, 4
_TALL, _WIDE = _ROWS + 2 * _HALF, _COLUMNS + 2 * _HALF


@compiled
def gradients(
    prediction: Matte,
    truth: Matte,
    region: Plane,
    band: Plane,
    ranges: NDArray[np.float32],
    stretches: NDArray[np.float32],
    taps: NDArray[np.float32],
) -> tuple[float, float]:
    """The sum of squared differences of the gradients' lengths: over the region, and over the band.

    Args:
        prediction: [H, W].
        truth: [H, W].
        region: Plane of bits; pixels outside count as 0 in both mattes, and are not summed.
        band: Plane of bits, all of them in the region.
        ranges: [4, blocks, words], least and largest value of prediction and truth in each block (`_kernels_scan`).
        stretches: [2, 2], what is taken from prediction and truth, and what their gradients are multiplied with.
        taps: [2, 9], the Gaussian and its derivative.
    """
    height = prediction.shape[0]
    blocks, words = ranges.shape[1], ranges.shape[2]
    lengths = np.empty((2, _ROWS, _COLUMNS), np.float32)
    sums, band_sums = np.zeros(_COLUMNS, np.float64), np.zeros(_COLUMNS, np.float64)
    square, inside = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.float32)
    for block in range(blocks):
        rows = min(_ROWS, height - _ROWS * block)
        for w in range(words):
            varies_p, varies_g = _varies(ranges[0:2], block, w), _varies(ranges[2:4], block, w)
            if not varies_p and not varies_g:
                continue
            lengths[:] = 0
            if varies_p:
                _lengths(prediction, region, block, w, stretches[0], taps, lengths[0])
            if varies_g:
                _lengths(truth, region, block, w, stretches[1], taps, lengths[1])
            for row in range(rows):
                y = _ROWS * block + row
                for k in range(_COLUMNS):
                    difference = lengths[0, row, k] - lengths[1, row, k]
                    square[k] = difference * difference
                _add(square, region[y, w], inside, sums)
                _add(square, band[y, w], inside, band_sums)
    return sums.sum(), band_sums.sum()


@compiled
def _varies(ranges: NDArray[np.float32], block: int, w: int) -> bool:
    """Whether a matte has more than one value in a block and the eight around it."""
    least, most = ranges[0, block, w], ranges[1, block, w]
    for near in range(max(block - 1, 0), min(block + 2, ranges.shape[1])):
        for beside in range(max(w - 1, 0), min(w + 2, ranges.shape[2])):
            least, most = min(least, ranges[0, near, beside]), max(most, ranges[1, near, beside])
    return bool(least != most)


@compiled
def _add(square: NDArray[np.float32], word: np.uint64, inside: NDArray[np.float32], sums: NDArray[np.float64]) -> None:
    """Add the pixels of a word to the sums, one sum for each place in a tile."""
    if word == ~np.uint64(0):
        for k in range(_COLUMNS):
            sums[k] += square[k]
    elif word:
        for k in range(_COLUMNS):
            inside[k] = np.float32((word >> np.uint64(k)) & np.uint64(1))
        for k in range(_COLUMNS):
            sums[k] += square[k] * inside[k]


@compiled
def _gather(matte: Matte, region: Plane, block: int, w: int, least: np.float32, tile: NDArray[np.float32]) -> None:
    """A block and 4 pixels around it, 0 outside the region, the frame's edge repeated, the matte's least value at 0.

    It is taken away before anything is multiplied: a matte may vary by as little as float32 tells apart.
    """
    height, width = matte.shape
    left = _COLUMNS * w - _HALF
    whole = left >= 0 and left + _WIDE <= width
    for row in range(_TALL):
        y = min(max(_ROWS * block - _HALF + row, 0), height - 1)
        if whole and _full(region, y, w):
            part, out = matte[y, left : left + _WIDE], tile[row]
            for k in range(_WIDE):
                out[k] = part[k] - least
            continue
        for k in range(_WIDE):
            x = min(max(left + k, 0), width - 1)
            there = (region[y, x >> 6] >> np.uint64(x & 63)) & np.uint64(1)
            tile[row, k] = (matte[y, x] if there else np.float32(0)) - least


@compiled
def _full(region: Plane, y: int, w: int) -> bool:
    """Whether a word and the two beside it lie wholly in the region."""
    every = region[y, w]
    if w:
        every &= region[y, w - 1]
    if w + 1 < region.shape[1]:
        every &= region[y, w + 1]
    return bool(every == ~np.uint64(0))


@compiled
def _lengths(
    matte: Matte,
    region: Plane,
    block: int,
    w: int,
    stretch: NDArray[np.float32],
    taps: NDArray[np.float32],
    lengths: NDArray[np.float32],
) -> None:
    """The length of the gradient at each pixel of a block."""
    tile = np.empty((_TALL, _WIDE), np.float32)
    _gather(matte, region, block, w, stretch[0], tile)
    smooth, slope = np.empty(_WIDE, np.float32), np.empty(_WIDE, np.float32)
    g0, g1, g2, g3, g4 = taps[0, 4], taps[0, 5], taps[0, 6], taps[0, 7], taps[0, 8]
    d1, d2, d3, d4 = taps[1, 5], taps[1, 6], taps[1, 7], taps[1, 8]
    for row in range(_ROWS):
        t0, t1, t2, t3, t4 = tile[row], tile[row + 1], tile[row + 2], tile[row + 3], tile[row + 4]
        t5, t6, t7, t8 = tile[row + 5], tile[row + 6], tile[row + 7], tile[row + 8]
        for k in range(_WIDE):
            smooth[k] = (
                g0 * t4[k] + g1 * (t3[k] + t5[k]) + g2 * (t2[k] + t6[k]) + g3 * (t1[k] + t7[k]) + g4 * (t0[k] + t8[k])
            )
        for k in range(_WIDE):
            slope[k] = d1 * (t5[k] - t3[k]) + d2 * (t6[k] - t2[k]) + d3 * (t7[k] - t1[k]) + d4 * (t8[k] - t0[k])
        out = lengths[row]
        for k in range(_COLUMNS):
            across = (
                d1 * (smooth[k + 5] - smooth[k + 3])
                + d2 * (smooth[k + 6] - smooth[k + 2])
                + d3 * (smooth[k + 7] - smooth[k + 1])
                + d4 * (smooth[k + 8] - smooth[k])
            )
            down = (
                g0 * slope[k + 4]
                + g1 * (slope[k + 3] + slope[k + 5])
                + g2 * (slope[k + 2] + slope[k + 6])
                + g3 * (slope[k + 1] + slope[k + 7])
                + g4 * (slope[k] + slope[k + 8])
            )
            out[k] = np.sqrt(across * across + down * down) * stretch[1]
