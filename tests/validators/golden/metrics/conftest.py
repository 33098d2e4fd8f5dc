"""What the tests of metrics share: every metric once more, pixel by pixel from its definition, slow and obvious."""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

Array = np.ndarray[Any, Any]
Pixel = tuple[int, int]

STEPS = np.arange(0, 1.1, 0.1)
THETA = np.float32(0.15)


@dataclass(frozen=True)
class Situation:
    """Two frames of a prediction and its truth, where pixels count, and the masks' threshold."""

    prediction: Array
    truth: Array
    prediction_before: Array
    truth_before: Array
    region: Array
    threshold: float = 0.5

    @property
    def pair(self) -> tuple[Array, Array]:
        return self.prediction, self.truth

    @property
    def four(self) -> tuple[Array, Array, Array, Array]:
        return self.prediction, self.truth, self.prediction_before, self.truth_before

    @property
    def inside(self) -> list[Pixel]:
        return [pixel for pixel in np.ndindex(self.region.shape) if self.region[pixel]]


def cleared(matte: Array, region: Array) -> Array:
    """The matte with 0 wherever pixels do not count, as float64."""
    result = np.zeros(matte.shape)
    for pixel in np.ndindex(matte.shape):
        if region[pixel]:
            result[pixel] = float(matte[pixel])
    return result


def masks(one: Situation) -> tuple[Array, Array]:
    threshold = np.float32(one.threshold)
    return (one.prediction > threshold) & one.region, (one.truth > threshold) & one.region


def jaccard(one: Situation) -> float:
    found, real = masks(one)
    both = sum(bool(found[pixel] and real[pixel]) for pixel in one.inside)
    either = sum(bool(found[pixel] or real[pixel]) for pixel in one.inside)
    return both / either if either else 1.0


def edges(mask: Array) -> list[Pixel]:
    """Pixels that differ from their east, south or south-east neighbour, where there is one."""
    height, width = mask.shape
    found = []
    for y, x in np.ndindex(mask.shape):
        neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
        if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in neighbours):
            found.append((y, x))
    return found


def within(points: list[Pixel], others: list[Pixel], reach: int) -> int:
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= reach * reach for v, u in others) for y, x in points)


def boundary_f(one: Situation) -> float:
    reach = math.ceil(0.008 * math.hypot(*one.region.shape))
    found, real = (edges(mask) for mask in masks(one))
    if not found or not real:
        return float(found == real)
    precision, recall = within(found, real, reach) / len(found), within(real, found, reach) / len(real)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def inner_band(mask: Array) -> set[Pixel]:
    """The mask's pixels with a gap near by; what lies beyond the frame is a gap."""
    height, width = mask.shape
    reach = max(1, round(0.02 * math.hypot(height, width)))
    return {
        (y, x)
        for y, x in np.ndindex(mask.shape)
        if mask[y, x]
        and not all(
            0 <= v < height and 0 <= u < width and mask[v, u]
            for v in range(y - reach, y + reach + 1)
            for u in range(x - reach, x + reach + 1)
        )
    }


def boundary_iou(one: Situation) -> float:
    found, real = (inner_band(mask) for mask in masks(one))
    return len(found & real) / len(found | real) if found | real else 1.0


def empty(one: Situation) -> float | None:
    found, real = masks(one)
    return float(not found.any()) if real.any() else None


def difference(one: Situation, pixel: Pixel) -> float:
    return float(one.prediction[pixel]) - float(one.truth[pixel])


def mad(one: Situation) -> float:
    return math.fsum(abs(difference(one, pixel)) for pixel in one.inside) / len(one.inside)


def mse(one: Situation) -> float:
    return math.fsum(difference(one, pixel) ** 2 for pixel in one.inside) / len(one.inside)


def sad(one: Situation) -> float:
    return math.fsum(abs(difference(one, pixel)) for pixel in one.inside) / 1000


def gradient_length(matte: Array) -> Array:
    """Stretched to 0 to 1, filtered with both 9 x 9 derivatives of a Gaussian; the edge goes on beyond the frame."""
    least, most = matte.min(), matte.max()
    stretched = (matte - least) / (most - least) if most - least > np.finfo(np.float64).eps else matte * 0
    kernel = np.array([[math.exp(-(v * v + u * u) / (2 * 1.4**2)) * -u for u in range(-4, 5)] for v in range(-4, 5)])
    kernel /= math.sqrt((kernel**2).sum())
    padded, lengths = np.pad(stretched, 4, mode="edge"), np.zeros(matte.shape)
    for y, x in np.ndindex(matte.shape):
        patch = padded[y : y + 9, x : x + 9]
        lengths[y, x] = math.hypot((patch * kernel).sum(), (patch * kernel.T).sum())
    return lengths


def gradient_errors(one: Situation) -> Array:
    lengths = [gradient_length(cleared(matte, one.region)) for matte in one.pair]
    errors: Array = (lengths[0] - lengths[1]) ** 2
    return errors


def grad(one: Situation) -> float:
    errors = gradient_errors(one)
    return math.fsum(errors[pixel] for pixel in one.inside) / 1000


def components(mask: Array) -> list[set[Pixel]]:
    """Sets of pixels that hang together by their sides, in reading order of their first pixels."""
    found: list[set[Pixel]] = []
    seen: set[Pixel] = set()
    for start in np.ndindex(mask.shape):
        if not mask[start] or start in seen:
            continue
        waiting, component = deque([start]), {start}
        while waiting:
            y, x = waiting.popleft()
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                there = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
                if there and mask[v, u] and (v, u) not in component:
                    component.add((v, u))
                    waiting.append((v, u))
        seen |= component
        found.append(component)
    return found


def connected(prediction: Array, truth: Array) -> Array:
    """For each pixel the last threshold before the first at which it is not in the largest common component."""
    level, out = np.ones(truth.shape, np.float32), np.zeros(truth.shape, np.bool_)
    for before, step in pairwise(STEPS):
        found = components((prediction >= step) & (truth >= step))
        largest = max(found, key=len) if found else set()
        for pixel in np.ndindex(truth.shape):
            if not out[pixel] and pixel not in largest:
                out[pixel], level[pixel] = True, before
    return level


def conn(one: Situation) -> float:
    """The arithmetic of a pixel is float32, as the reference's: the step at 0.15 depends on it."""
    prediction, truth = (cleared(matte, one.region) for matte in one.pair)
    level, errors = connected(prediction, truth), []
    for pixel in np.ndindex(truth.shape):
        over = [np.float32(matte[pixel]) - level[pixel] for matte in (prediction, truth)]
        phi = [np.float32(1) - (value if value >= THETA else np.float32(0)) for value in over]
        errors.append(abs(float(phi[0]) - float(phi[1])))
    return math.fsum(errors) / 1000


def change(one: Situation, pixel: Pixel) -> float:
    own = float(one.prediction[pixel]) - float(one.prediction_before[pixel])
    return own - (float(one.truth[pixel]) - float(one.truth_before[pixel]))


def dtssd(one: Situation) -> float:
    return math.sqrt(math.fsum(change(one, pixel) ** 2 for pixel in one.inside) / len(one.inside))


def flicker(one: Situation) -> float:
    changes = (abs(float(one.prediction[p]) - float(one.prediction_before[p])) for p in one.inside)
    return math.fsum(changes) / len(one.inside)


def flicker_truth(one: Situation) -> float:
    return math.fsum(abs(float(one.truth[p]) - float(one.truth_before[p])) for p in one.inside) / len(one.inside)


def band(one: Situation) -> list[Pixel]:
    """Pixels of the region at most k rows and columns away from one of the region that is strictly between 0 and 1."""
    reach = max(1, math.floor(one.region.shape[1] / 192 + 0.5))
    soft = [pixel for pixel in one.inside if 0 < one.truth[pixel] < 1]
    return [(y, x) for y, x in one.inside if any(max(abs(y - v), abs(x - u)) <= reach for v, u in soft)]


def mad_band(one: Situation) -> float | None:
    pixels = band(one)
    return math.fsum(abs(difference(one, pixel)) for pixel in pixels) / len(pixels) if pixels else None


def grad_band(one: Situation) -> float | None:
    pixels, errors = band(one), gradient_errors(one)
    return math.fsum(errors[pixel] for pixel in pixels) / 1000 if pixels else None


def dtssd_band(one: Situation) -> float | None:
    pixels = band(one)
    return math.sqrt(math.fsum(change(one, pixel) ** 2 for pixel in pixels) / len(pixels)) if pixels else None


def worst(one: Situation) -> tuple[int, int, float]:
    """Column, row and difference of the first of the largest differences."""
    if not any(abs(difference(one, pixel)) for pixel in one.inside):
        return 0, 0, 0.0
    y, x = max(one.inside, key=lambda pixel: abs(np.float32(one.prediction[pixel]) - np.float32(one.truth[pixel])))
    return x, y, float(np.float32(one.prediction[y, x]) - np.float32(one.truth[y, x]))


BY_NAME = {
    "jaccard:davis2017": jaccard,
    "boundary_f:davis2017": boundary_f,
    "boundary_iou:cheng2021": boundary_iou,
    "mad:rvm": mad,
    "mse:rvm": mse,
    "sad:dim": sad,
    "grad:rvm-lr": grad,
    "conn:rvm-lr": conn,
    "dtssd:rvm": dtssd,
    "mad:truth-band": mad_band,
    "grad:truth-band": grad_band,
    "dtssd:truth-band": dtssd_band,
    "flicker:mean-abs": flicker,
    "flicker-truth:mean-abs": flicker_truth,
    "empty:threshold": empty,
}

# Values on and around the thresholds of masks and of Conn, where float32 and float64 part.
VALUES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.30000001192092896, 0.5, 0.5000001, 0.55, 0.7, 0.9, 0.999, 1.0])


@st.composite
def situations(draw: st.DrawFn, heights: int = 10, widths: int = 12, *, whole: bool | None = None) -> Situation:
    """Blocks and noise of any size, so that there are large components, ties, soft bands and empty masks."""
    shape = draw(st.integers(1, heights)), draw(st.integers(1, widths))
    mattes = []
    for _ in range(4):
        matte = np.full(shape, draw(VALUES), np.float32)
        for _ in range(draw(st.integers(0, 3))):
            top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
            matte[top : top + draw(st.integers(1, shape[0])), left : left + draw(st.integers(1, shape[1]))] = draw(
                VALUES
            )
        if draw(st.booleans()):
            noise = draw(arrays.arrays(np.float32, shape, elements=VALUES))
            matte = np.where(draw(arrays.arrays(np.bool_, shape)), noise, matte)
        mattes.append(matte)
    region = np.ones(shape, np.bool_)
    if not (draw(st.booleans()) if whole is None else whole):
        region = draw(arrays.arrays(np.bool_, shape))
        region[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    first, second, third, fourth = mattes
    return Situation(first, second, third, fourth, region, draw(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.999])))


@pytest.fixture(scope="session")
def oracle() -> SimpleNamespace:
    """Each metric from its definition: `by_name`, `worst`, `Situation`, `situations`, `within`, `edges`."""
    return SimpleNamespace(
        by_name=BY_NAME,
        worst=worst,
        Situation=Situation,
        situations=situations,
        within=within,
        edges=edges,
        masks=masks,
    )
