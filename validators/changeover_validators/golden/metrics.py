"""How a matte is scored against its truth, one frame at a time: every metric of `catalogue`, each alone or all in one.

Mattes are float32 [H, W], nominally 0 to 1. Masks are ``matte > threshold``. Pixels outside an optional region are
void: they count nowhere and nothing depends on their values; where a metric looks at a neighbourhood they are 0 in both
mattes, before anything else is done. A value that is not defined is `NotAvailable` with its reason, never 0 and never
NaN.

`FrameScorer` scores the frames of one shot. Each pixel is read a few times at most, tiles in which both mattes are 0
once, and Python's global lock is not held meanwhile. Left out: how recall and decay of a shot are made (`series`; they
are offered here too), means over frames and shots, and what is good enough (`judge`).

Every function raises ValueError where arrays differ in size, where one is not [H, W], or where a matte holds NaN or
infinity, be it outside the region. Sums are float64 and do not depend on the processor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from changeover_validators.golden._frame import (
    Before,
    Frame,
    Mask,
    Matte,
    Region,
    band_width,
    boundary_reach,
    inner_band,
)
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.series import decay, recall

__all__ = [
    "COMPUTED",
    "FrameScorer",
    "FrameScores",
    "Measured",
    "NotAvailable",
    "band_width",
    "boundary_f",
    "boundary_iou",
    "boundary_reach",
    "conn",
    "decay",
    "dtssd",
    "dtssd_band",
    "empty",
    "flicker",
    "grad",
    "grad_band",
    "inner_band",
    "jaccard",
    "mad",
    "mad_band",
    "mse",
    "recall",
    "sad",
    "score_frame",
]

_NO_PIXEL = "no pixel is scored: the region is empty"
_NO_NEIGHBOUR = "the frame before is not scored, so there is no change to compare"
_NO_BAND = "the truth has no pixel between 0 and 1, so it has no band"
_NO_MASK = "the truth's mask is empty, and so may the prediction's be"


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value on one frame."""

    value: float


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """The metric is not defined on this frame, and why."""

    why: str


Score = Measured | NotAvailable


@dataclass(frozen=True, slots=True)
class FrameScores:
    """Every metric of one frame.

    Attributes:
        values: In the order of `METRICS`.
        band_px: How many pixels the truth's soft band reaches beyond its soft pixels.
        worst: The pixel (x right, y down) where prediction and truth differ most, the first of several in reading
            order, and prediction minus truth there; 0, 0, 0 where they are equal.
    """

    values: tuple[Score, ...]
    band_px: int
    worst: tuple[int, int, float]

    def __getitem__(self, name: str) -> Score:
        """The value of the metric of that full name.

        Raises:
            KeyError: There is no such metric.
        """
        return self.values[_PLACES[name]]


_PLACES = {metric.name: place for place, metric in enumerate(METRICS)}


class FrameScorer:
    """Scores the frames of one shot for one subject, in order, and keeps the frame before in memory.

    Args:
        threshold: Masks are ``matte > threshold``.
        region: Where pixels count, [H, W]; everywhere without one.
    """

    def __init__(self, *, threshold: float, region: Mask | None = None) -> None:
        self._threshold = threshold
        self._mask = region
        self._region: Region | None = None
        self._before: Before | None = None
        self._has_before = False

    def score(self, prediction: Matte, truth: Matte) -> FrameScores:
        """Every metric of the next frame. The arrays are not kept and not changed.

        Raises:
            ValueError: A size is not that of the region or of the frame before, or a value is not finite.
        """
        shape = _shape(prediction, truth, self._mask)
        if self._region is None:
            self._region = Region.of(shape, self._mask)
        if self._region.shape != shape:
            message = f"expected the size of the frame before, {_size(self._region.shape)}, found {_size(shape)}"
            raise ValueError(message)
        if not self._region.pixels:
            return FrameScores((NotAvailable(_NO_PIXEL),) * len(METRICS), band_width(shape[1]), (0, 0, 0.0))
        if self._before is None:
            self._before = Before.room(self._region)
        frame = Frame(prediction, truth, self._region, self._threshold, self._before)
        values = _values(frame, neighbour=self._has_before)
        self._has_before = True
        return FrameScores(values, band_width(shape[1]), frame.differences.worst)

    def reset(self) -> None:
        """The next frame does not follow the last one: it has no frame before."""
        self._has_before = False


def score_frame(prediction: Matte, truth: Matte, *, threshold: float, region: Mask | None = None) -> FrameScores:
    """Every metric of one frame that stands alone; those that need the frame before are not available."""
    return FrameScorer(threshold=threshold, region=region).score(prediction, truth)


def jaccard(prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None) -> Score:
    """``jaccard:davis2017``: intersection over union of the masks.

    0 to 1, higher is better; 1 where both masks are empty. DAVIS 2017 (Perazzi et al., CVPR 2016), to the last bit.
    """
    return _scored(_jaccard, prediction, truth, region, threshold)


def boundary_f(prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None) -> Score:
    """``boundary_f:davis2017``: F measure of the masks' boundaries, matched within `boundary_reach` pixels.

    That is 0.008 of the diagonal, rounded up. 0 to 1, higher is better; 1 where neither mask has a boundary, 0 where
    one alone has none. The masks are cleared outside the region before their boundaries are taken. DAVIS 2017, to the
    last bit.
    """
    return _scored(_boundary_f, prediction, truth, region, threshold)


def boundary_iou(prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None) -> Score:
    """``boundary_iou:cheng2021``: intersection over union of the masks' inner bands.

    The band is what `inner_band` erosions by 3 x 3 take away; beyond the frame, and outside the region, there is no
    mask. 0 to 1, higher is better; 1 where both masks are empty. Cheng et al., CVPR 2021.
    """
    return _scored(_boundary_iou, prediction, truth, region, threshold)


def empty(prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None) -> Score:
    """``empty:threshold``: 1 where the prediction's mask is empty and the truth's is not, else 0; lower is better.

    Not available where the truth's mask is empty.
    """
    return _scored(_empty, prediction, truth, region, threshold)


def mad(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``mad:rvm``: mean absolute difference, in the matte's own range; lower is better.

    RobustVideoMatting prints it times 1000.
    """
    return _scored(_mad, prediction, truth, region)


def mse(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``mse:rvm``: mean squared difference, in the matte's own range squared; lower is better.

    RobustVideoMatting prints it times 1000.
    """
    return _scored(_mse, prediction, truth, region)


def sad(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``sad:dim``: sum of absolute differences in thousands; lower is better; depends on the frame's size.

    Deep Image Matting (Xu et al., CVPR 2017), over the whole frame.
    """
    return _scored(_sad, prediction, truth, region)


def grad(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``grad:rvm-lr``: sum of squared differences of the gradients' lengths in thousands; lower is better.

    Each matte is stretched from its least to its largest value first, which hides a gain: look at `mad` too. The filter
    is the derivative of a Gaussian, sigma 1.4, 9 x 9, divided by its L2 norm, the frame's edge repeated. Depends on the
    frame's size. Rhemann et al., CVPR 2009, as RobustVideoMatting evaluates low resolution.
    """
    return _scored(_grad, prediction, truth, region)


def conn(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``conn:rvm-lr``: sum of differences of connectedness in thousands; lower is better.

    A pixel of value a is connected to the degree 1 - d, d = a - l where that is at least 0.15, else 0; l is the
    threshold (steps of 0.1) up to which the pixel is part of the largest component, 4 neighbours, that both mattes have
    in common, the first in reading order on ties. Depends on the frame's size. Rhemann et al., CVPR 2009, as
    RobustVideoMatting evaluates low resolution.
    """
    return _scored(_conn, prediction, truth, region)


def dtssd(
    prediction: Matte,
    truth: Matte,
    prediction_before: Matte,
    truth_before: Matte,
    *,
    region: Mask | None = None,
) -> Score:
    """``dtssd:rvm``: root mean square of the difference between the prediction's and the truth's change.

    Lower is better. In the matte's own range; RobustVideoMatting prints it times 100 and counts the first frame as 0,
    which is not available here. Erofeev et al., BMVC 2015.
    """
    return _paired(_dtssd, (prediction, truth), (prediction_before, truth_before), region)


def mad_band(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``mad:truth-band``: `mad` over the truth's soft band; not available where that is empty.

    The band is every pixel with a truth strictly between 0 and 1 at most `band_width` rows and columns away.
    """
    return _scored(_mad_band, prediction, truth, region)


def grad_band(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Score:
    """``grad:truth-band``: the terms of `grad` summed over the truth's soft band; not available where that is empty."""
    return _scored(_grad_band, prediction, truth, region)


def dtssd_band(
    prediction: Matte,
    truth: Matte,
    prediction_before: Matte,
    truth_before: Matte,
    *,
    region: Mask | None = None,
) -> Score:
    """``dtssd:truth-band``: `dtssd` over the soft band of this frame's truth; not available where that is empty."""
    return _paired(_dtssd_band, (prediction, truth), (prediction_before, truth_before), region)


def flicker(matte: Matte, before: Matte, *, region: Mask | None = None) -> Score:
    """``flicker:mean-abs``: mean absolute change since the frame before, in the matte's own range; lower is steadier.

    Needs no truth. ``flicker-truth:mean-abs`` is this for the truth: what flicker is right.
    """
    return _paired(_flicker, (matte, matte), (before, before), region)


def _jaccard(frame: Frame) -> Score:
    return Measured(frame.intersection / frame.union if frame.union else 1.0)


def _boundary_f(frame: Frame) -> Score:
    found, found_matched, real, real_matched = frame.boundaries
    if not found or not real:
        return Measured(1.0 if found == real else 0.0)
    precision, recalled = found_matched / found, real_matched / real
    return Measured(2 * precision * recalled / (precision + recalled) if precision + recalled else 0.0)


def _boundary_iou(frame: Frame) -> Score:
    both, either = frame.inner_bands
    return Measured(both / either if either else 1.0)


def _empty(frame: Frame) -> Score:
    predicted, real = frame.in_masks
    return Measured(float(not predicted)) if real else NotAvailable(_NO_MASK)


def _mad(frame: Frame) -> Score:
    return Measured(frame.differences.absolute / frame.region.pixels)


def _mse(frame: Frame) -> Score:
    return Measured(frame.differences.squared / frame.region.pixels)


def _sad(frame: Frame) -> Score:
    return Measured(frame.differences.absolute / 1000)


def _grad(frame: Frame) -> Score:
    return Measured(frame.gradients[0])


def _conn(frame: Frame) -> Score:
    return Measured(frame.connectivity)


def _dtssd(frame: Frame) -> Score:
    return Measured((frame.differences.changes / frame.region.pixels) ** 0.5)


def _mad_band(frame: Frame) -> Score:
    return (
        Measured(frame.differences.band_absolute / frame.band_pixels) if frame.band_pixels else NotAvailable(_NO_BAND)
    )


def _grad_band(frame: Frame) -> Score:
    return Measured(frame.gradients[1]) if frame.band_pixels else NotAvailable(_NO_BAND)


def _dtssd_band(frame: Frame) -> Score:
    if not frame.band_pixels:
        return NotAvailable(_NO_BAND)
    return Measured((frame.differences.band_changes / frame.band_pixels) ** 0.5)


def _flicker(frame: Frame) -> Score:
    return Measured(frame.differences.own / frame.region.pixels)


def _flicker_truth(frame: Frame) -> Score:
    return Measured(frame.differences.true / frame.region.pixels)


Computed = Callable[[Frame], Score]

COMPUTED: Mapping[str, Computed] = {
    "jaccard:davis2017": _jaccard,
    "boundary_f:davis2017": _boundary_f,
    "boundary_iou:cheng2021": _boundary_iou,
    "mad:rvm": _mad,
    "mse:rvm": _mse,
    "sad:dim": _sad,
    "grad:rvm-lr": _grad,
    "conn:rvm-lr": _conn,
    "dtssd:rvm": _dtssd,
    "mad:truth-band": _mad_band,
    "grad:truth-band": _grad_band,
    "dtssd:truth-band": _dtssd_band,
    "flicker:mean-abs": _flicker,
    "flicker-truth:mean-abs": _flicker_truth,
    "empty:threshold": _empty,
}
"""How each metric of `METRICS` is made of a frame that was made ready."""


def _values(frame: Frame, *, neighbour: bool) -> tuple[Score, ...]:
    """Every metric in the order of the catalogue; without a frame before, those that need one are not available."""
    missing = NotAvailable(_NO_NEIGHBOUR)
    return tuple(
        missing if "neighbour" in metric.needs and not neighbour else COMPUTED[metric.name](frame) for metric in METRICS
    )


def _scored(computed: Computed, prediction: Matte, truth: Matte, mask: Mask | None, threshold: float = 0.5) -> Score:
    """One metric of a frame that stands alone."""
    region = Region.of(_shape(prediction, truth, mask), mask)
    if not region.pixels:
        return NotAvailable(_NO_PIXEL)
    return computed(Frame(prediction, truth, region, threshold, Before.none()))


def _paired(computed: Computed, mattes: tuple[Matte, Matte], before: tuple[Matte, Matte], mask: Mask | None) -> Score:
    """One metric of a frame and the one before it."""
    region = Region.of(_shape(*mattes, *before, mask), mask)
    if not region.pixels:
        return NotAvailable(_NO_PIXEL)
    earlier = Frame(*before, region, 0.5, Before.none()).kept()
    return computed(Frame(*mattes, region, 0.5, earlier))


def _shape(*arrays: NDArray[Any] | None) -> tuple[int, int]:
    """The one size of all arrays, (height, width)."""
    sizes = list(dict.fromkeys(array.shape for array in arrays if array is not None))
    if len(sizes) != 1 or len(sizes[0]) != 2:
        message = f"expected mattes and region [H, W] of one size, found {' and '.join(map(_size, sizes))}"
        raise ValueError(message)
    return sizes[0][0], sizes[0][1]


def _size(shape: tuple[int, ...]) -> str:
    """A size as people say it, width first."""
    return " x ".join(map(str, reversed(shape)))
