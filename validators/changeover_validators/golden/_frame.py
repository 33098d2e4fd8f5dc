"""One frame made ready to be scored: both mattes checked, scanned once, cut to tiles; and each metric as plain numbers.

This is what the public functions of `metrics` and its `FrameScorer` share, so that one alone and all together give the
same bits. All sizes are in pixels; planes are words of 64 bits (`_kernels_masks`).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden import _kernels_conn, _kernels_grad, _kernels_masks, _kernels_scan, _kernels_sums

__all__ = ["Before", "Differences", "Frame", "Mask", "Matte", "Region", "band_width", "boundary_reach", "inner_band"]

Matte = NDArray[np.float32]
Mask = NDArray[np.bool_]
Plane = NDArray[np.uint64]

TOLERANCE: Final = 0.008
INNER_BAND: Final = 0.02
THRESHOLDS: Final = np.arange(0, 1.1, 0.1)
"""The steps of Conn as its definition makes them: the fourth is 0.30000000000000004, the last is 1."""

_FLAT = float(np.finfo(np.float64).eps)
"""A matte whose values differ by no more is flat, as in the reference; its gradient is 0 and not noise."""

_SIGMA = 1.4
_AT = np.arange(-4, 5, dtype=np.float64)
_GAUSS = np.exp(-(_AT**2) / (2 * _SIGMA**2))
_SLOPE = -_AT * _GAUSS
# The 9 x 9 filter is their outer product, divided by its L2 norm, which is the product of both norms.
_TAPS = np.array([_GAUSS / np.linalg.norm(_GAUSS), _SLOPE / np.linalg.norm(_SLOPE)]).astype(np.float32)


def boundary_reach(height: int, width: int) -> int:
    """How far a boundary may lie from the true one: 0.008 of the diagonal, rounded up."""
    return math.ceil(TOLERANCE * math.sqrt(height * height + width * width))


def inner_band(height: int, width: int) -> int:
    """How wide the band of boundary IoU is: 0.02 of the diagonal, rounded, at least 1."""
    return max(1, round(INNER_BAND * math.sqrt(height * height + width * width)))


def band_width(width: int) -> int:
    """How far the truth's soft band is widened: a 192nd of the frame's width, a half rounded up, at least 1."""
    return max(1, (width + 96) // 192)


@dataclass(frozen=True, slots=True)
class Region:
    """Where pixels count.

    Attributes:
        shape: Of the frame, (height, width).
        plane: A bit for each pixel that counts.
        pixels: How many there are.
    """

    shape: tuple[int, int]
    plane: Plane
    pixels: int

    @classmethod
    def of(cls, shape: tuple[int, int], mask: Mask | None) -> "Region":
        """The region of a mask, or the whole frame."""
        height, width = shape
        if mask is not None:
            plane = _kernels_scan.pack(_frozen(np.ascontiguousarray(mask, np.bool_)))
            return cls(shape, _frozen(plane), _kernels_masks.count(_frozen(plane)))
        plane = np.full((height, (width + 63) // 64), ~np.uint64(0), np.uint64)
        if width % 64:
            plane[:, -1] = np.uint64((1 << width % 64) - 1)
        return cls(shape, _frozen(plane), height * width)


@dataclass(frozen=True, slots=True)
class Before:
    """The frame before: both mattes, 0 outside the region, and which tiles hold anything. Scoring replaces it."""

    mattes: NDArray[np.float32]
    tiles: NDArray[np.uint8]

    @classmethod
    def room(cls, region: Region) -> "Before":
        """Room for frames of that size, all 0."""
        return cls(np.zeros((2, *region.shape), np.float32), np.zeros(region.plane.shape, np.uint8))

    @classmethod
    def none(cls) -> "Before":
        """No frame before is wanted."""
        return cls(np.zeros((2, 0, 0), np.float32), np.zeros((0, 0), np.uint8))


@dataclass(frozen=True, slots=True)
class Differences:
    """Sums over the region, and over the band where its name says so.

    Attributes:
        absolute: Of the mattes' differences.
        squared: Of their squares.
        changes: Of the squared differences of both changes since the frame before.
        own: Of the prediction's change.
        true: Of the truth's change.
        band_absolute: As `absolute`.
        band_changes: As `changes`.
        worst: Column and row of the largest difference, and prediction minus truth there; 0, 0, 0 without one.
    """

    absolute: float
    squared: float
    changes: float
    own: float
    true: float
    band_absolute: float
    band_changes: float
    worst: tuple[int, int, float]


class Frame:
    """A prediction and its truth, scanned. Every property is computed once, when it is asked for.

    Args:
        prediction: [H, W] with at least one pixel.
        truth: [H, W].
        region: Of that size, with at least one pixel.
        threshold: Masks are ``matte > threshold``.
        before: The frame before; `differences` puts this one in its place.

    Raises:
        ValueError: A value is NaN or infinite, inside the region or outside.
    """

    def __init__(self, prediction: Matte, truth: Matte, region: Region, threshold: float, before: Before) -> None:
        self.prediction = _frozen(np.ascontiguousarray(prediction, np.float32))
        self.truth = _frozen(np.ascontiguousarray(truth, np.float32))
        self.region = region
        self._before = before
        planes, tiles, ranges, broken = _kernels_scan.scan(
            self.prediction, self.truth, region.plane, np.float32(threshold)
        )
        _check_finite(int(broken[0]), int(broken[1]))
        self._masks, self._soft = (planes[0], planes[1]), planes[2]
        self._tiles, self._ranges = tiles, ranges

    @cached_property
    def intersection(self) -> int:
        """Pixels in both masks."""
        return _kernels_masks.count_both(*self._masks)

    @cached_property
    def union(self) -> int:
        """Pixels in either mask."""
        return _kernels_masks.count_either(*self._masks)

    @cached_property
    def in_masks(self) -> tuple[int, int]:
        """Pixels in the prediction's mask, and in the truth's."""
        return _kernels_masks.count(self._masks[0]), _kernels_masks.count(self._masks[1])

    @cached_property
    def boundaries(self) -> tuple[int, int, int, int]:
        """Pixels of the prediction's boundary, how many of them match, and the same of the truth's."""
        height, width = self.region.shape
        found, real = (_kernels_masks.boundary(mask, width) for mask in self._masks)
        reach = boundary_reach(height, width)
        return (
            _kernels_masks.count(found),
            _kernels_masks.matched(found, real, width, reach),
            _kernels_masks.count(real),
            _kernels_masks.matched(real, found, width, reach),
        )

    @cached_property
    def inner_bands(self) -> tuple[int, int]:
        """Pixels in both masks' inner bands, and in either."""
        reach = inner_band(*self.region.shape)
        found, real = (mask & ~_kernels_masks.narrowed(mask, self.region.shape[1], reach) for mask in self._masks)
        return _kernels_masks.count_both(found, real), _kernels_masks.count_either(found, real)

    @cached_property
    def band(self) -> Plane:
        """The truth's soft band: its pixels strictly between 0 and 1, widened, inside the region."""
        return _kernels_masks.widened(self._soft, band_width(self.region.shape[1])) & self.region.plane

    @cached_property
    def band_pixels(self) -> int:
        """How many pixels the band has."""
        return _kernels_masks.count(self.band)

    @cached_property
    def gradients(self) -> tuple[float, float]:
        """The gradient error in thousands: over the region, and over the band."""
        stretches = np.array([_stretch(*self._ranges[:2]), _stretch(*self._ranges[2:])], np.float32)
        whole, band = _kernels_grad.gradients(
            self.prediction, self.truth, self.region.plane, self.band, self._ranges, stretches, _TAPS
        )
        return whole / 1000, band / 1000

    @cached_property
    def connectivity(self) -> float:
        """The connectivity error in thousands."""
        error = _kernels_conn.connectivity(self.prediction, self.truth, self.region.plane, self._tiles, THRESHOLDS)
        return error / 1000

    @cached_property
    def differences(self) -> Differences:
        """All sums of differences; the frame before is this one afterwards."""
        sums, (y, x) = self._sums(self._before)
        worst = (0, 0, 0.0)
        if y >= 0:
            worst = int(x), int(y), float(self.prediction[y, x] - self.truth[y, x])
        absolute, squared, changes, own, true, band_absolute, band_changes = map(float, sums)
        return Differences(absolute, squared, changes, own, true, band_absolute, band_changes, worst)

    def kept(self) -> Before:
        """This frame as the one before another."""
        room = Before.room(self.region)
        self._sums(room)
        return room

    def _sums(self, before: Before) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return _kernels_sums.sums(
            self.prediction, self.truth, self.region.plane, self.band, self._tiles, before.mattes, before.tiles
        )


def _stretch(least: NDArray[np.float32], most: NDArray[np.float32]) -> tuple[float, float]:
    """What stretching a matte to 0 to 1 takes from it and multiplies it with; a flat one becomes 0."""
    low, high = float(least.min()), float(most.max())
    return low, 1 / (high - low) if high - low > _FLAT else 0.0


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: kernels are compiled for one kind of array, and a caller's may be of either."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_finite(prediction: int, truth: int) -> None:
    for name, bad in (("prediction", prediction), ("truth", truth)):
        if bad:
            message = f"expected finite values, found {bad} pixels of NaN or infinity in the {name}"
            raise ValueError(message)
