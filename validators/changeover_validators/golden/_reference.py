"""Every metric once more, the way it is usually written: whole arrays, numpy and scipy, one metric at a time.

`bench` compares speed and values with these, and so do the tests at sizes that a pixel by pixel oracle cannot reach.
They are meant to be fair: the disk of boundary F is an exact distance transform, squares are separable rank filters,
Grad's 9 x 9 filter is two passes of 9, components are labelled by `scipy.ndimage`. There is no region here.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["REFERENCES", "Frames"]

Matte = NDArray[np.float32]
Mask = NDArray[np.bool_]
Frames = tuple[Matte, Matte, Matte, Matte]
"""Prediction, truth, and both of the frame before."""

_THRESHOLD = 0.5


def _jaccard(frames: Frames) -> float:
    found, real = frames[0] > _THRESHOLD, frames[1] > _THRESHOLD
    union = np.count_nonzero(found | real)
    return np.count_nonzero(found & real) / union if union else 1.0


def _edges(mask: Mask) -> Mask:
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _near(edge: Mask) -> Mask:
    from scipy import ndimage

    reach = math.ceil(0.008 * math.hypot(*edge.shape))
    near: Mask = ndimage.distance_transform_edt(~edge) <= reach
    return near


def _boundary_f(frames: Frames) -> float:
    found, real = _edges(frames[0] > _THRESHOLD), _edges(frames[1] > _THRESHOLD)
    if not found.any() or not real.any():
        return float(found.any() == real.any())
    precision = np.count_nonzero(found & _near(real)) / np.count_nonzero(found)
    recall = np.count_nonzero(real & _near(found)) / np.count_nonzero(real)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _inner_band(mask: Mask) -> Mask:
    from scipy import ndimage

    side = 2 * max(1, round(0.02 * math.hypot(*mask.shape))) + 1
    gone: Mask = ndimage.minimum_filter(mask.view(np.uint8), side, mode="constant", cval=0) == 0
    return mask & gone


def _boundary_iou(frames: Frames) -> float:
    found, real = _inner_band(frames[0] > _THRESHOLD), _inner_band(frames[1] > _THRESHOLD)
    union = np.count_nonzero(found | real)
    return np.count_nonzero(found & real) / union if union else 1.0


def _empty(frames: Frames) -> float | None:
    return float(not (frames[0] > _THRESHOLD).any()) if (frames[1] > _THRESHOLD).any() else None


def _mad(frames: Frames) -> float:
    return float(np.abs(frames[0] - frames[1]).mean(dtype=np.float64))


def _mse(frames: Frames) -> float:
    return float(((frames[0] - frames[1]) ** 2).mean(dtype=np.float64))


def _sad(frames: Frames) -> float:
    return float(np.abs(frames[0] - frames[1]).sum(dtype=np.float64)) / 1000


def _length(matte: Matte) -> Matte:
    from scipy import ndimage

    at = np.arange(-4, 5)
    gauss = np.exp(-(at**2) / (2 * 1.4**2))
    slope = -at * gauss
    norm = math.sqrt((np.outer(gauss, slope) ** 2).sum())
    least, most = matte.min(), matte.max()
    stretched = (matte - least) / (most - least) if most > least else np.zeros_like(matte)
    across, down = (
        ndimage.correlate1d(ndimage.correlate1d(stretched, first, axis=0, mode="nearest"), second, mode="nearest")
        for first, second in ((gauss, slope / norm), (slope, gauss / norm))
    )
    length: Matte = np.sqrt(across**2 + down**2)
    return length


def _grad(frames: Frames) -> float:
    return float(((_length(frames[0]) - _length(frames[1])) ** 2).sum(dtype=np.float64)) / 1000


def _largest(mask: Mask) -> Mask:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else np.zeros_like(mask)


def _conn(frames: Frames) -> float:
    prediction, truth = frames[0], frames[1]
    steps = np.arange(0, 1.1, 0.1)
    level, out = np.ones_like(truth), np.zeros(truth.shape, np.bool_)
    for before, step in pairwise(steps):
        lost = ~_largest((prediction >= step) & (truth >= step)) & ~out
        level[lost] = before
        out |= lost
    over = [matte - level for matte in (prediction, truth)]
    phi = [1 - value * (value >= np.float32(0.15)) for value in over]
    return float(np.abs(phi[0] - phi[1]).sum(dtype=np.float64)) / 1000


def _change(frames: Frames) -> Matte:
    prediction, truth, prediction_before, truth_before = frames
    return (prediction - prediction_before) - (truth - truth_before)


def _dtssd(frames: Frames) -> float:
    return math.sqrt((_change(frames) ** 2).mean(dtype=np.float64))


def _band(truth: Matte) -> Mask:
    from scipy import ndimage

    side = 2 * max(1, math.floor(truth.shape[1] / 192 + 0.5)) + 1
    soft = ((truth > 0) & (truth < 1)).view(np.uint8)
    band: Mask = ndimage.maximum_filter(soft, side, mode="constant", cval=0) == 1
    return band


def _mad_band(frames: Frames) -> float | None:
    band = _band(frames[1])
    return float(np.abs(frames[0] - frames[1])[band].mean(dtype=np.float64)) if band.any() else None


def _grad_band(frames: Frames) -> float | None:
    band = _band(frames[1])
    errors = (_length(frames[0]) - _length(frames[1])) ** 2
    return float(errors[band].sum(dtype=np.float64)) / 1000 if band.any() else None


def _dtssd_band(frames: Frames) -> float | None:
    band = _band(frames[1])
    return math.sqrt((_change(frames)[band] ** 2).mean(dtype=np.float64)) if band.any() else None


def _flicker(frames: Frames) -> float:
    return float(np.abs(frames[0] - frames[2]).mean(dtype=np.float64))


def _flicker_truth(frames: Frames) -> float:
    return float(np.abs(frames[1] - frames[3]).mean(dtype=np.float64))


REFERENCES: Mapping[str, Callable[[Frames], float | None]] = {
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
