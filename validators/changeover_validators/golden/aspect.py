"""Anamorphic plates for a model that wants square pixels: widen the plate, narrow the matte back.

Where pixels grow, values are linear between their centres (on a photograph a quarter nearer to the truth than repeating
them); where pixels are merged, each new one is the mean over the area that it covers, as in a camera. The outermost
columns are repeated and weights sum to 1, so that a flat picture stays flat and 0..1 stays 0..1. At a pixel aspect of 1
both give what they were given. Left out: which contracts want it
(`contract.pixel_aspect`).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError

__all__ = ["narrow", "widen", "widened"]

_MOST = 8.0
"""No lens squeezes by more; a header that says so is damaged."""


def widened(width: int, pixel_aspect: float) -> int:
    """The width in square pixels of a row of `width` pixels, at least 1.

    Raises:
        InvalidInputError: No lens gives such pixels.
    """
    if not 1 / _MOST <= pixel_aspect <= _MOST:
        raise InvalidInputError(
            "pixel aspect",
            where=f"a plate {width} pixels wide",
            expected=f"from {1 / _MOST} to {_MOST}",
            actual=str(pixel_aspect),
            remedy="write the plate again with the pixel aspect that it has",
        )
    return max(1, round(width * pixel_aspect))


def widen(pixels: NDArray[np.float32], pixel_aspect: float) -> NDArray[np.float32]:
    """Pixels [H, W, C] with square pixels: [H, round(W * pixel_aspect), C].

    Raises:
        InvalidInputError: No lens gives such pixels.
    """
    return _resampled(pixels, widened(pixels.shape[1], pixel_aspect))


def narrow(matte: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """A matte [H, V] that was made of a widened plate, in the plate's own `width`: [H, width]."""
    return _resampled(matte[..., None], width)[..., 0]


def _resampled(pixels: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    if width == pixels.shape[1]:
        return pixels
    from changeover_validators.golden._kernels_aspect import resample

    first, weights = _weights(pixels.shape[1], width)
    out = np.empty((pixels.shape[0], width, pixels.shape[2]), np.float32)
    resample(np.ascontiguousarray(pixels, np.float32), first, weights, out)
    return out


@lru_cache(maxsize=8)
def _weights(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each new column: the leftmost old one that it takes, and the weights of that and those to its right."""
    scale = old / new
    return _areas(new, scale) if scale > 1 else _lines(new, scale)


def _areas(new: int, scale: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    left = np.arange(new) * scale
    first = np.floor(left).astype(np.intp)
    columns = first[:, None] + np.arange(int(np.ceil(scale)) + 1)
    covered = np.minimum(columns + 1, left[:, None] + scale) - np.maximum(columns, left[:, None])
    return first, (np.maximum(covered, 0) / scale).astype(np.float32)


def _lines(new: int, scale: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    centres = (np.arange(new) + 0.5) * scale - 0.5
    first = np.floor(centres)
    right = centres - first
    return first.astype(np.intp), np.stack([1 - right, right], axis=1).astype(np.float32)
