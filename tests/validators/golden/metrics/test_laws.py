"""What must hold whatever the pictures are: perfection, symmetry, void, cropping, and where a figure stands."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_validators.golden import metrics
from changeover_validators.golden.catalogue import METRICS, metric
from changeover_validators.golden.metrics import FrameScorer, FrameScores, Measured, NotAvailable

Array = np.ndarray[Any, Any]

LAW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NAMES = tuple(one.name for one in METRICS)
SYMMETRIC = tuple(name for name in NAMES if not name.startswith(("flicker", "empty")) and "band" not in name)
CROPPED = (
    "jaccard:davis2017",
    "mad:rvm",
    "mse:rvm",
    "sad:dim",
    "conn:rvm-lr",
    "dtssd:rvm",
    "flicker:mean-abs",
    "empty:threshold",
)
"""Metrics that look at no pixel beyond their own or beyond those that hang together with it."""


def scored(one: Any, region: Array | None = None) -> FrameScores:
    scorer = FrameScorer(threshold=one.threshold, region=region)
    scorer.score(one.prediction_before, one.truth_before)
    return scorer.score(one.prediction, one.truth)


def number(value: Measured | NotAvailable) -> float:
    """The value, or -1, which no metric has."""
    return value.value if isinstance(value, Measured) else -1.0


def moved(one: Any, change: Any) -> Any:
    """The situation with each of its arrays changed in the same way."""
    return type(one)(*(change(array) for array in (*one.four, one.region)), one.threshold)


@LAW
@given(data=st.data())
def test_a_matte_is_perfect_beside_itself(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations())
    same = type(one)(one.truth, one.truth, one.truth_before, one.truth_before, one.region, one.threshold)
    scores = scored(same, one.region)
    for name in NAMES:
        if not name.startswith("flicker"):
            assert number(scores[name]) in {float(metric(name).higher_is_better), -1.0}, name
    assert scores["flicker:mean-abs"] == scores["flicker-truth:mean-abs"]
    assert scores.worst == (0, 0, 0.0)


@LAW
@given(data=st.data())
def test_prediction_and_truth_may_change_places(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations())
    swapped = type(one)(one.truth, one.prediction, one.truth_before, one.prediction_before, one.region, one.threshold)
    ahead, back = scored(one, one.region), scored(swapped, one.region)
    for name in SYMMETRIC:
        assert number(ahead[name]) == number(back[name]), name


@LAW
@given(data=st.data())
def test_nothing_depends_on_what_lies_outside_the_region(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations(whole=False))
    noise = np.random.default_rng(data.draw(st.integers(0, 99)))
    other = moved(one, lambda array: np.where(one.region, array, noise.random(array.shape)).astype(array.dtype))
    other = type(one)(*other.four, one.region, one.threshold)
    assert scored(one, one.region) == scored(other, one.region)


@LAW
@given(data=st.data())
def test_a_region_of_every_pixel_is_no_region(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations(whole=True))
    assert scored(one, one.region) == scored(one)


@LAW
@given(data=st.data())
def test_a_rectangle_as_region_is_that_part_cut_out(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations(whole=True))
    height, width = one.region.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = np.s_[top : data.draw(st.integers(top + 1, height)), left : data.draw(st.integers(left + 1, width))]
    region = np.zeros((height, width), np.bool_)
    region[part] = True
    inside, alone = scored(one, region), scored(moved(one, lambda array: array[part]))
    for name in CROPPED:
        assert number(inside[name]) == pytest.approx(number(alone[name]), rel=1e-12), name


@LAW
@given(data=st.data())
def test_a_figure_in_a_large_empty_frame_costs_the_same_wherever_it_stands(
    oracle: SimpleNamespace, data: st.DataObject
) -> None:
    """It starts at any place of a word of 64 pixels, and further from the frame's edge than Grad reaches."""
    one = data.draw(oracle.situations(whole=True))
    height, width = one.region.shape
    places = [(data.draw(st.integers(6, 20)), data.draw(st.integers(6, 140))) for _ in range(2)]
    results = []
    for top, left in places:
        margins = ((top, 40 - top - height), (left, 170 - left - width))
        results.append(scored(moved(one, lambda array, margins=margins: np.pad(array, margins))))
    for name in NAMES:
        assert number(results[0][name]) == pytest.approx(number(results[1][name]), rel=1e-12), name


@LAW
@given(data=st.data())
def test_a_shot_scored_in_order_is_its_pairs_scored_alone(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations())
    scorer = FrameScorer(threshold=one.threshold, region=one.region)
    frames = [(one.prediction, one.truth), (one.prediction_before, one.truth_before), (one.truth, one.prediction)]
    for before, frame in zip([None, *frames], [*frames, frames[0]], strict=True):
        scores = scorer.score(*frame)
        if before is not None:
            assert scores["dtssd:rvm"] == metrics.dtssd(*frame, *before, region=one.region)
            assert scores["flicker:mean-abs"] == metrics.flicker(frame[0], before[0], region=one.region)
