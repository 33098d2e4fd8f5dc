import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.golden.series import decay, mean, recall

VALUES = st.floats(0, 1, width=32)


def benchmark(values: list[float | None]) -> tuple[float, float]:
    """Recall and decay as the benchmark's definition says, with bin edges that do not wrap."""
    curve = np.array([np.nan if value is None else value for value in values], np.float64)
    edges = (np.round(np.linspace(1, len(curve), 5) + 1e-10) - 1).astype(np.int64)
    bins = [curve[edges[number] : edges[number + 1] + 1] for number in range(4)]
    return float(np.mean(curve[~np.isnan(curve)] > 0.5)), float(np.nanmean(bins[0]) - np.nanmean(bins[3]))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 255, 256, 257, 258, 300, 511, 1000, 1025])
def test_recall_and_decay_equal_the_benchmark_to_the_last_bit(frames: int) -> None:
    random = np.random.default_rng(frames)
    curve = [float(value) for value in np.linspace(0.9, 0.3, frames) + random.normal(0, 0.05, frames)]
    assert (recall(curve), decay(curve)) == benchmark(list(curve))


@given(st.lists(VALUES, min_size=1, max_size=400))
def test_a_mean_equals_numpy_to_the_last_bit(values: list[float]) -> None:
    assert mean(values) == float(np.nanmean(np.array(values, np.float64)))


@pytest.mark.parametrize("frames", [257, 300, 1000])
def test_a_shot_that_halves_decays_by_half_however_long_it_is(frames: int) -> None:
    """The benchmark's own code answers 0 at 257 frames and nothing at 300: its edges are 8-bit integers."""
    assert decay([1.0] * (frames // 2) + [0.5] * (frames - frames // 2)) == 0.5


def test_an_undefined_frame_keeps_its_place_in_time_and_counts_in_no_mean() -> None:
    curve = [1.0, None, 0.8, 0.7, None, 0.6, 0.5, None]
    assert decay(curve) == pytest.approx((1.0 + 0.8) / 2 - (0.6 + 0.5) / 2)
    assert recall(curve) == 4 / 5
    assert mean(curve) == pytest.approx(3.6 / 5)


def test_without_a_defined_value_there_is_no_number() -> None:
    assert (mean([]), recall([]), decay([])) == (None, None, None)
    assert (mean([None]), recall([None]), decay([None])) == (None, None, None)
    assert decay([None, None, 0.5, 0.5, 0.5, 0.5]) is None


def test_exactly_half_is_not_recalled() -> None:
    assert recall([0.5, 0.5000001]) == 0.5


def test_one_frame_does_not_decay() -> None:
    assert decay([0.7]) == 0.0


def test_names_and_summaries_need_no_numpy() -> None:
    script = """
import sys
import changeover_validators.golden.catalogue, changeover_validators.golden.series
sys.exit("numpy" in sys.modules or "numba" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
