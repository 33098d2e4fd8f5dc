"""How a matte is scored against its truth: Jaccard, boundary F and mean absolute difference, one frame at a time.

Mattes are float32 [H, W], nominally 0 to 1. The masks of Jaccard and boundary F are ``matte > threshold``. Pixels
outside an optional region are void: they count nowhere, and for boundary F they are cleared in both masks before the
boundary is taken. Jaccard and boundary F are those of the DAVIS benchmark (Perazzi et al., CVPR 2016), with a tolerance
of 0.008 of the diagonal. Left out: means over frames and shots (`pipeline`), and what is good enough (`judge`).

A value that is not defined is `NotAvailable` with its reason, never 0 and never NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._kernels import boundary, matched, radius

__all__ = ["TOLERANCE", "FrameScores", "Measured", "NotAvailable", "boundary_f", "jaccard", "mad", "score_frame"]

TOLERANCE = 0.008
"""How far a boundary may lie from the true one, as a share of the frame's diagonal."""

Matte = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value on one frame."""

    value: float


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """The metric is not defined on this frame, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class FrameScores:
    """Every metric of one frame; the field's name is the metric's name."""

    jaccard: Measured | NotAvailable
    boundary_f: Measured | NotAvailable
    mad: Measured | NotAvailable


def score_frame(prediction: Matte, truth: Matte, *, threshold: float, region: Mask | None = None) -> FrameScores:
    """All metrics of one frame, thresholding each matte once.

    Raises:
        ValueError: The arrays are not of one size.
    """
    nothing = _undefined(prediction, truth, region)
    if nothing is not None:
        return FrameScores(nothing, nothing, nothing)
    masks = _mask(prediction, threshold, region), _mask(truth, threshold, region)
    return FrameScores(
        jaccard=Measured(_jaccard(*masks)),
        boundary_f=Measured(_boundary_f(*masks)),
        mad=Measured(_mad(prediction, truth, region)),
    )


def jaccard(
    prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None
) -> Measured | NotAvailable:
    """Intersection over union of the masks, 0 to 1, higher is better; 1 where both are empty.

    Raises:
        ValueError: The arrays are not of one size.
    """
    nothing = _undefined(prediction, truth, region)
    return nothing or Measured(_jaccard(_mask(prediction, threshold, region), _mask(truth, threshold, region)))


def boundary_f(
    prediction: Matte, truth: Matte, *, threshold: float = 0.5, region: Mask | None = None
) -> Measured | NotAvailable:
    """F measure of the masks' boundaries, matched within `TOLERANCE`; 0 to 1, higher is better.

    1 where neither mask has a boundary, 0 where one alone has none.

    Raises:
        ValueError: The arrays are not of one size.
    """
    nothing = _undefined(prediction, truth, region)
    return nothing or Measured(_boundary_f(_mask(prediction, threshold, region), _mask(truth, threshold, region)))


def mad(prediction: Matte, truth: Matte, *, region: Mask | None = None) -> Measured | NotAvailable:
    """Mean absolute difference of the mattes in their own unit, summed in float64; lower is better.

    Raises:
        ValueError: The arrays are not of one size.
    """
    nothing = _undefined(prediction, truth, region)
    return nothing or Measured(_mad(prediction, truth, region))


def _jaccard(prediction: Mask, truth: Mask) -> float:
    union = int(np.count_nonzero(prediction | truth))
    return int(np.count_nonzero(prediction & truth)) / union if union else 1.0


def _boundary_f(prediction: Mask, truth: Mask) -> float:
    edges, true_edges = boundary(prediction), boundary(truth)
    found, real = int(np.count_nonzero(edges)), int(np.count_nonzero(true_edges))
    if not found or not real:
        return 1.0 if found == real else 0.0
    reach = radius(prediction.shape[0], prediction.shape[1], TOLERANCE)
    precision = matched(edges, true_edges, reach) / found
    recall = matched(true_edges, edges, reach) / real
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _mad(prediction: Matte, truth: Matte, region: Mask | None) -> float:
    difference = np.abs(prediction - truth)
    if region is not None:
        difference = difference[region]
    return float(difference.mean(dtype=np.float64))


def _mask(matte: Matte, threshold: float, region: Mask | None) -> Mask:
    mask: Mask = matte > threshold
    return mask if region is None else mask & region


def _undefined(prediction: Matte, truth: Matte, region: Mask | None) -> NotAvailable | None:
    sizes = {array.shape for array in (prediction, truth, region) if array is not None}
    if len(sizes) != 1 or prediction.ndim != 2:
        message = f"expected arrays [H, W] of one size, found {sorted(sizes)}"
        raise ValueError(message)
    empty = prediction.size == 0 or (region is not None and not region.any())
    return NotAvailable("no pixel is scored: the region is empty") if empty else None
