"""Every metric against its definition, pixel by pixel, on everything that hypothesis thinks of."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_validators.golden import metrics
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.metrics import FrameScorer, Measured, NotAvailable

Array = np.ndarray[Any, Any]

ALONE: dict[str, Callable[..., Any]] = {
    "jaccard:davis2017": metrics.jaccard,
    "boundary_f:davis2017": metrics.boundary_f,
    "boundary_iou:cheng2021": metrics.boundary_iou,
    "mad:rvm": metrics.mad,
    "mse:rvm": metrics.mse,
    "sad:dim": metrics.sad,
    "grad:rvm-lr": metrics.grad,
    "conn:rvm-lr": metrics.conn,
    "dtssd:rvm": metrics.dtssd,
    "mad:truth-band": metrics.mad_band,
    "grad:truth-band": metrics.grad_band,
    "dtssd:truth-band": metrics.dtssd_band,
    "empty:threshold": metrics.empty,
}
EXACT = {"jaccard:davis2017", "boundary_f:davis2017", "boundary_iou:cheng2021", "empty:threshold"}
"""Ratios of whole numbers: equal to the last bit, or wrong."""

FUZZ = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def alone(name: str, one: Any, region: Array | None) -> Any:
    """The metric by its public function."""
    if name.startswith("flicker"):
        frames = (one.truth, one.truth_before) if "truth" in name else (one.prediction, one.prediction_before)
        return metrics.flicker(*frames, region=region)
    function = ALONE[name]
    arguments = one.four if "truth_before" in inspect.signature(function).parameters else one.pair
    more = {"threshold": one.threshold} if "threshold" in inspect.signature(function).parameters else {}
    return function(*arguments, region=region, **more)


def together(one: Any, region: Array | None) -> metrics.FrameScores:
    """Every metric of the second of two frames."""
    scorer = FrameScorer(threshold=one.threshold, region=region)
    scorer.score(one.prediction_before, one.truth_before)
    return scorer.score(*one.pair)


def check(name: str, value: Any, expected: float | None) -> None:
    if expected is None:
        assert isinstance(value, NotAvailable), name
        assert value.why
        return
    assert isinstance(value, Measured), name
    if name in EXACT:
        assert value.value == expected, name
    else:
        assert value.value == pytest.approx(expected, rel=1e-5, abs=1e-9), name


@FUZZ
@given(data=st.data())
def test_each_metric_equals_its_definition(oracle: SimpleNamespace, data: st.DataObject) -> None:
    one = data.draw(oracle.situations())
    scores = together(one, one.region)
    for metric in METRICS:
        check(metric.name, scores[metric.name], oracle.by_name[metric.name](one))
    assert scores.worst == oracle.worst(one)


@settings(FUZZ, max_examples=12)
@given(data=st.data())
def test_each_metric_equals_its_definition_across_words_of_64_pixels(
    oracle: SimpleNamespace, data: st.DataObject
) -> None:
    one = data.draw(oracle.situations(heights=4, widths=200, whole=True))
    scores = together(one, None)
    for metric in METRICS:
        check(metric.name, scores[metric.name], oracle.by_name[metric.name](one))
    assert scores.worst == oracle.worst(one)


@settings(FUZZ, max_examples=40)
@given(data=st.data())
def test_a_metric_alone_gives_the_very_number_that_it_gives_among_all(
    oracle: SimpleNamespace, data: st.DataObject
) -> None:
    one = data.draw(oracle.situations())
    scores = together(one, one.region)
    for metric in METRICS:
        assert alone(metric.name, one, one.region) == scores[metric.name], metric.name


def smooth(seed: int, shape: tuple[int, int], blur: int) -> Array:
    """Noise that a square window smoothed, stretched beyond 0 and 1 and clipped, so that flat and soft parts meet."""
    random = np.random.default_rng(seed)
    sums = np.cumsum(np.cumsum(random.standard_normal((shape[0] + blur, shape[1] + blur)), axis=0), axis=1)
    window = sums[blur:, blur:] - sums[:-blur, blur:] - sums[blur:, :-blur] + sums[:-blur, :-blur]
    return np.clip(window / blur + 0.5, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("seed", "shape", "blur"), [(1, (24, 130), 6), (2, (61, 40), 9), (3, (17, 190), 4)])
def test_each_metric_equals_its_definition_on_what_a_matte_looks_like(
    oracle: SimpleNamespace, seed: int, shape: tuple[int, int], blur: int
) -> None:
    prediction, truth, before, truth_before = (smooth(10 * seed + number, shape, blur) for number in range(4))
    region = smooth(10 * seed + 5, shape, 12) > 0.2
    one = oracle.Situation(
        0.7 * truth + 0.3 * prediction, truth, 0.7 * truth_before + 0.3 * before, truth_before, region
    )
    scores = together(one, region)
    for metric in METRICS:
        check(metric.name, scores[metric.name], oracle.by_name[metric.name](one))
    assert scores.worst == oracle.worst(one)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 7), (9, 1), (1, 64), (2, 65)])
@pytest.mark.parametrize("prediction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("truth", [0.0, 0.4, 1.0])
def test_flat_mattes_of_any_size_equal_their_definitions(
    oracle: SimpleNamespace, shape: tuple[int, int], prediction: float, truth: float
) -> None:
    flat = [np.full(shape, value, np.float32) for value in (prediction, truth, truth, prediction)]
    one = oracle.Situation(*flat, np.ones(shape, np.bool_))
    scores = together(one, None)
    for metric in METRICS:
        check(metric.name, scores[metric.name], oracle.by_name[metric.name](one))


def test_a_tie_between_components_goes_to_the_first_in_reading_order(oracle: SimpleNamespace) -> None:
    """Two squares of one size, the second too thin: it counts whole if the first is chosen, by its step if it is."""
    truth = np.zeros((6, 12), np.float32)
    truth[1:3, 1:3] = truth[3:5, 8:10] = 1
    prediction = truth.copy()
    prediction[3:5, 8:10] = 0.55
    one = oracle.Situation(prediction, truth, truth, truth, np.ones(truth.shape, np.bool_))
    first = metrics.conn(prediction, truth)
    check("conn:rvm-lr", first, oracle.by_name["conn:rvm-lr"](one))
    mirrored = metrics.conn(prediction[::-1], truth[::-1])
    assert isinstance(first, Measured)
    assert isinstance(mirrored, Measured)
    assert first.value == pytest.approx(4 * 0.45 / 1000, rel=1e-5)
    assert mirrored.value == pytest.approx(4 * 0.5 / 1000, rel=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_connectivity_survives_any_order_of_joining(oracle: SimpleNamespace, seed: int) -> None:
    """Few levels and much noise make many components of equal size, at several levels at once."""
    random = np.random.default_rng(seed)
    shape = int(random.integers(2, 20)), int(random.integers(2, 24))
    prediction, truth = (random.choice([0.0, 0.15, 0.2, 0.35, 0.9, 1.0], shape).astype(np.float32) for _ in range(2))
    one = oracle.Situation(np.maximum(prediction, truth), truth, truth, truth, np.ones(shape, np.bool_))
    check("conn:rvm-lr", metrics.conn(*one.pair), oracle.by_name["conn:rvm-lr"](one))
