import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from changeover_validators.golden import _kernels
from changeover_validators.golden.metrics import (
    Measured,
    NotAvailable,
    boundary_f,
    jaccard,
    mad,
    score_frame,
)

Array = np.ndarray[Any, Any]
SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def triples(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Prediction and truth with values on and around the threshold, and a region with at least one pixel."""
    shape = draw(SHAPES)
    values = st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0])
    prediction, truth = (draw(arrays.arrays(np.float32, shape, elements=values)) for _ in range(2))
    region = draw(arrays.arrays(np.bool_, shape))
    region[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    return prediction, truth, region


def oracle_jaccard(prediction: Array, truth: Array, region: Array) -> float:
    both = either = 0
    for y, x in np.ndindex(prediction.shape):
        if region[y, x]:
            p, g = prediction[y, x] > 0.5, truth[y, x] > 0.5
            both += bool(p and g)
            either += bool(p or g)
    return both / either if either else 1.0


def oracle_edges(mask: Array) -> list[tuple[int, int]]:
    height, width = mask.shape
    edges = []
    for y, x in np.ndindex(mask.shape):
        east = mask[y, x + 1] if x + 1 < width else None
        south = mask[y + 1, x] if y + 1 < height else None
        corner = mask[y + 1, x + 1] if x + 1 < width and y + 1 < height else None
        if any(other is not None and other != mask[y, x] for other in (east, south, corner)):
            edges.append((y, x))
    return edges


def oracle_within(points: list[tuple[int, int]], others: list[tuple[int, int]], reach: int) -> int:
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= reach * reach for v, u in others) for y, x in points)


def oracle_boundary_f(prediction: Array, truth: Array, region: Array) -> float:
    reach = math.ceil(0.008 * math.hypot(*prediction.shape))
    found = oracle_edges((prediction > 0.5) & region)
    real = oracle_edges((truth > 0.5) & region)
    if not found and not real:
        return 1.0
    if not found or not real:
        return 0.0
    precision = oracle_within(found, real, reach) / len(found)
    recall = oracle_within(real, found, reach) / len(real)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def oracle_mad(prediction: Array, truth: Array, region: Array) -> float:
    inside = [abs(float(prediction[i]) - float(truth[i])) for i in np.ndindex(prediction.shape) if region[i]]
    return math.fsum(inside) / len(inside)


@settings(deadline=None, max_examples=300)
@given(triples())
def test_metrics_equal_their_definitions(triple: tuple[Array, Array, Array]) -> None:
    prediction, truth, region = triple
    whole = np.ones_like(region)
    assert jaccard(prediction, truth, region=region) == Measured(oracle_jaccard(prediction, truth, region))
    assert boundary_f(prediction, truth, region=region) == Measured(oracle_boundary_f(prediction, truth, region))
    assert jaccard(prediction, truth) == Measured(oracle_jaccard(prediction, truth, whole))
    assert boundary_f(prediction, truth) == Measured(oracle_boundary_f(prediction, truth, whole))
    measured = mad(prediction, truth, region=region)
    assert isinstance(measured, Measured)
    assert measured.value == pytest.approx(oracle_mad(prediction, truth, region), rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(triples())
def test_one_call_for_all_metrics_gives_what_each_alone_gives(triple: tuple[Array, Array, Array]) -> None:
    prediction, truth, region = triple
    together = score_frame(prediction, truth, threshold=0.25, region=region)
    assert together.jaccard == jaccard(prediction, truth, threshold=0.25, region=region)
    assert together.boundary_f == boundary_f(prediction, truth, threshold=0.25, region=region)
    assert together.mad == mad(prediction, truth, region=region)


@settings(deadline=None, max_examples=100)
@given(arrays.arrays(np.bool_, SHAPES), st.integers(0, 9), st.randoms(use_true_random=False))
def test_matching_equals_comparing_every_pair_of_pixels(edge: Array, reach: int, random: Random) -> None:
    other = np.array([[random.random() < 0.1 for _ in range(edge.shape[1])] for _ in range(edge.shape[0])])
    points = [(int(y), int(x)) for y, x in np.argwhere(edge)]
    others = [(int(y), int(x)) for y, x in np.argwhere(other)]
    assert _kernels.matched(edge, other, reach) == oracle_within(points, others, reach)


@pytest.mark.parametrize("seed", range(6))
def test_on_a_whole_frame_matching_equals_a_dilation_by_the_disk(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(random.standard_normal((270, 480)), 5) > 0 for _ in range(2))
    reach = _kernels.radius(270, 480, 0.008)
    ys, xs = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = xs * xs + ys * ys <= reach * reach
    edge, other = _kernels.boundary(first), _kernels.boundary(second)
    expected = int((edge & ndimage.binary_dilation(other, disk)).sum())
    assert 0 < expected < edge.sum()
    assert _kernels.matched(edge, other, reach) == expected


@pytest.mark.parametrize(
    ("height", "width", "pixels"),
    [(480, 854, 8), (1080, 1920, 18), (2160, 4096, 38), (600, 800, 8), (270, 480, 5), (1, 1, 1)],
)
def test_tolerance_is_a_share_of_the_diagonal_rounded_up(height: int, width: int, pixels: int) -> None:
    assert _kernels.radius(height, width, 0.008) == pixels


def test_tolerance_from_one_up_is_in_pixels() -> None:
    assert [_kernels.radius(100, 100, tolerance) for tolerance in (1, 3, 2.5)] == [1, 3, 3]


def test_both_masks_empty_is_full_marks() -> None:
    empty = np.zeros((20, 20), np.float32)
    assert score_frame(empty, empty, threshold=0.5).jaccard == Measured(1.0)
    assert score_frame(empty, empty, threshold=0.5).boundary_f == Measured(1.0)


@pytest.mark.parametrize("swap", [False, True])
def test_one_mask_empty_is_no_marks(swap: bool) -> None:
    empty, square = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    square[5:10, 5:10] = 1
    pair = (square, empty) if swap else (empty, square)
    assert jaccard(*pair) == Measured(0.0)
    assert boundary_f(*pair) == Measured(0.0)
    assert mad(*pair) == Measured(25 / 400)


def test_boundaries_that_lie_far_apart_do_not_match() -> None:
    left, right = np.zeros((60, 60), np.float32), np.zeros((60, 60), np.float32)
    left[10:20, 5:15] = 1
    right[40:50, 40:50] = 1
    assert boundary_f(left, right) == Measured(0.0)


def test_a_mask_moved_by_no_more_than_the_tolerance_has_a_perfect_boundary() -> None:
    truth = np.zeros((100, 100), np.float32)
    truth[30:60, 30:60] = 1
    assert _kernels.radius(100, 100, 0.008) == 2
    assert boundary_f(np.roll(truth, 2, axis=1), truth) == Measured(1.0)
    further = boundary_f(np.roll(truth, 3, axis=1), truth)
    assert isinstance(further, Measured)
    assert further.value < 1


def test_threshold_itself_is_outside_the_mask() -> None:
    half, full = np.full((4, 4), 0.5, np.float32), np.ones((4, 4), np.float32)
    assert jaccard(half, full) == Measured(0.0)
    assert jaccard(half, full, threshold=0.499) == Measured(1.0)


def test_pixels_outside_the_region_count_nowhere() -> None:
    truth, region = np.zeros((30, 30), np.float32), np.zeros((30, 30), np.bool_)
    truth[5:15, 5:15] = 1
    region[:20, :20] = True
    wrong_outside = truth.copy()
    wrong_outside[22:, 22:] = 1
    inside = score_frame(wrong_outside, truth, threshold=0.5, region=region)
    assert (inside.jaccard, inside.boundary_f, inside.mad) == (Measured(1.0), Measured(1.0), Measured(0.0))


def test_an_empty_region_is_not_available_and_never_a_number() -> None:
    matte = np.ones((5, 5), np.float32)
    scores = score_frame(matte, matte, threshold=0.5, region=np.zeros((5, 5), np.bool_))
    for value in (scores.jaccard, scores.boundary_f, scores.mad):
        assert value == NotAvailable("no pixel is scored: the region is empty")


def test_arrays_of_different_sizes_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="one size, found 4 x 4 and 5 x 4"):
        jaccard(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32))
    with pytest.raises(ValueError, match="one size"):
        mad(np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 1), np.float32))


def test_mad_is_summed_in_float64() -> None:
    """In float32 the small difference would vanish beside the large one."""
    assert mad(np.array([[2.0**24, 1.0]], np.float32), np.zeros((1, 2), np.float32)) == Measured(2.0**23 + 0.5)


def test_a_flat_gain_error_shows_in_mad_alone() -> None:
    truth, dim = np.ones((50, 50), np.float32), np.full((50, 50), 0.98, np.float32)
    scores = score_frame(dim, truth, threshold=0.5)
    assert (scores.jaccard, scores.boundary_f) == (Measured(1.0), Measured(1.0))
    assert isinstance(scores.mad, Measured)
    assert scores.mad.value == pytest.approx(0.02, abs=1e-6)
