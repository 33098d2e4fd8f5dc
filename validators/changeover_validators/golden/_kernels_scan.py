"""Compiled: the first pass over a frame. What is finite, what is inside the masks, what is soft, what is flat.

A frame is cut into tiles of 64 pixels of one row; a mask is a plane of 64-bit words [H, ceil(W / 64)], one word a tile,
the lowest bit its first pixel. Pixels outside the region count as 0 in both mattes.
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["BLOCK", "pack", "scan"]

Plane = NDArray[np.uint64]
Matte = NDArray[np.float32]
Tile = NDArray[np.float32]

BLOCK = 16
"""Rows of the blocks for which `scan` notes the least and the largest value."""

_GATHER = np.uint64(0x0102040810204080)
_TOP = np.uint64(56)
_EXPONENT = np.int32(0x7F800000)
_NO_SIGN = np.int32(0x7FFFFFFF)


@compiled
def _word(flags: NDArray[np.uint64]) -> np.uint64:
    """64 bytes of 0 or 1, given as 8 words, as one word of 64 bits."""
    word = np.uint64(0)
    for part in range(8):
        word |= ((flags[part] * _GATHER) >> _TOP) << np.uint64(8 * part)
    return word


@compiled
def pack(mask: NDArray[np.bool_]) -> Plane:
    """A mask [H, W] as a plane of bits."""
    height, width = mask.shape
    plane = np.zeros((height, (width + 63) // 64), np.uint64)
    for y in range(height):
        for x in range(width):
            plane[y, x >> 6] |= np.uint64(mask[y, x]) << np.uint64(x & 63)
    return plane


@compiled
def _load(part: Tile, word: np.uint64, tile: Tile) -> None:
    """One tile of a row, 0 outside the region, its last value repeated beyond the frame."""
    if word == ~np.uint64(0):
        for k in range(64):
            tile[k] = part[k]
        return
    count = part.size
    for k in range(count):
        tile[k] = part[k] if (word >> np.uint64(k)) & np.uint64(1) else np.float32(0)
    for k in range(count, 64):
        tile[k] = tile[count - 1]


@compiled
def _broken(part: NDArray[np.int32]) -> int:
    """How many values of a tile are NaN or infinite, the region notwithstanding."""
    bad = np.int32(0)
    for k in range(part.size):
        bad += np.int32((part[k] & _EXPONENT) == _EXPONENT)
    return int(bad)


@compiled
def _anything(prediction: NDArray[np.int32], truth: NDArray[np.int32]) -> bool:
    """Whether a tile of either matte holds anything but 0."""
    bits = np.int32(0)
    for k in range(prediction.size):
        bits |= prediction[k] | truth[k]
    return bool(bits & _NO_SIGN)


@compiled
def _note(
    ranges: NDArray[np.float32], least_p: np.float32, most_p: np.float32, least_g: np.float32, most_g: np.float32
) -> None:
    """Widen a block's ranges by what one of its tiles holds."""
    ranges[0], ranges[1] = min(ranges[0], least_p), max(ranges[1], most_p)
    ranges[2], ranges[3] = min(ranges[2], least_g), max(ranges[3], most_g)


@compiled
def scan(
    prediction: Matte, truth: Matte, region: Plane, threshold: np.float32
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Look at every pixel once.

    Returns:
        Planes [3, H, words]: prediction above the threshold, truth above it, truth strictly between 0 and 1.
        Tiles [H, words]: 1 where anything in either matte is not 0.
        Ranges [4, blocks, words]: least and largest value of the prediction, then of the truth, by block of rows.
        Numbers: broken values of the prediction, of the truth; first and last + 1 row and tile that is not all 0.
    """
    height, width = prediction.shape
    words = region.shape[1]
    planes = np.zeros((3, height, words), np.uint64)
    tiles = np.zeros((height, words), np.uint8)
    ranges = np.empty((4, (height + BLOCK - 1) // BLOCK, words), np.float32)
    ranges[0], ranges[1], ranges[2], ranges[3] = np.inf, -np.inf, np.inf, -np.inf
    numbers = np.array([0, 0, height, 0, words, 0], np.int64)
    p, g = np.empty(64, np.float32), np.empty(64, np.float32)
    flags = np.empty(64, np.uint8)
    packed = flags.view(np.uint64)
    p_raw, g_raw = prediction.view(np.int32), truth.view(np.int32)
    for y in range(height):
        block = y // BLOCK
        for w in range(words):
            x, word = 64 * w, region[y, w]
            end = min(x + 64, width)
            if not _anything(p_raw[y, x:end], g_raw[y, x:end]):
                _note(ranges[:, block, w], np.float32(0), np.float32(0), np.float32(0), np.float32(0))
                continue
            _load(prediction[y, x:end], word, p)
            _load(truth[y, x:end], word, g)
            numbers[0] += _broken(p_raw[y, x:end])
            numbers[1] += _broken(g_raw[y, x:end])
            least_p, most_p = _range(p)
            least_g, most_g = _range(g)
            _note(ranges[:, block, w], least_p, most_p, least_g, most_g)
            if least_p == 0 and most_p == 0 and least_g == 0 and most_g == 0:
                continue
            tiles[y, w] = 1
            numbers[2], numbers[3] = min(numbers[2], y), y + 1
            numbers[4], numbers[5] = min(numbers[4], w), max(numbers[5], w + 1)
            for k in range(64):
                flags[k] = p[k] > threshold
            planes[0, y, w] = _word(packed) & word
            for k in range(64):
                flags[k] = g[k] > threshold
            planes[1, y, w] = _word(packed) & word
            for k in range(64):
                flags[k] = (g[k] > np.float32(0)) & (g[k] < np.float32(1))
            planes[2, y, w] = _word(packed) & word
    return planes, tiles, ranges, numbers


@compiled
def _range(tile: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Least and largest of 64 values, compared as integers of the same order, which the processor does 8 at a time."""
    bits = tile.view(np.int32)
    least, most = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for k in range(64):
        value = bits[k] ^ ((bits[k] >> np.int32(31)) & _NO_SIGN)
        least = min(least, value)
        most = max(most, value)
    pair = np.empty(2, np.int32)
    pair[0] = least ^ ((least >> np.int32(31)) & _NO_SIGN)
    pair[1] = most ^ ((most >> np.int32(31)) & _NO_SIGN)
    both = pair.view(np.float32)
    return both[0], both[1]
