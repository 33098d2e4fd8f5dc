"""The power of the judge's own test: against a simulation, against published values, and as the reference says it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_validators.golden.power import (
    _main,
    detectable,
    power,
    quantile,
    shots_needed,
    shots_to_decide,
)
from changeover_validators.golden.simulation import RUNS, SETTING, SHOTS, Rates, draw_shot_means, rates

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "power.md"


@pytest.fixture(scope="module")
def simulated() -> Mapping[int, Rates]:
    return {shots: rates(shots) for shots in SHOTS}


def test_simulation_is_as_large_and_as_wide_as_it_must_be() -> None:
    assert RUNS >= 20_000
    assert SHOTS == (5, 6, 8, 10, 12, 15, 20)
    assert (SETTING.shot_sd, SETTING.frame_sd, SETTING.lag, SETTING.frames) == (0.006, 0.01, 0.95, 60)


@pytest.mark.parametrize("shots", SHOTS)
def test_at_most_six_per_cent_of_releases_worse_by_the_margin_are_accepted(
    simulated: Mapping[int, Rates], shots: int
) -> None:
    assert 0.04 <= simulated[shots].false_accepts <= 0.06
    assert 0.04 <= simulated[shots].false_rejects <= 0.06


@pytest.mark.parametrize("shots", SHOTS)
def test_power_is_what_the_simulation_finds(simulated: Mapping[int, Rates], shots: int) -> None:
    """Within four standard errors of 20000 runs."""
    expected = power(shots, SETTING.mean_sd(), SETTING.margin, 0.95)
    assert abs(simulated[shots].power - expected) < 4 * (expected * (1 - expected) / RUNS) ** 0.5 + 0.001


def test_drawn_shots_have_the_spread_and_the_drift_that_they_should() -> None:
    """The mean of frames that drift varies as the sum of every pair's covariance says."""
    lags = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    of_frames = float((0.01**2 * np.power(0.95, lags)).sum()) / 60**2
    assert SETTING.mean_sd() == pytest.approx((0.006**2 + of_frames) ** 0.5)
    drawn = draw_shot_means(np.random.default_rng(5), (20_000, 2), SETTING)
    assert drawn.std() == pytest.approx(SETTING.mean_sd(), rel=0.02)
    assert abs(float(np.corrcoef(drawn[:, 0], drawn[:, 1]).ravel()[1])) < 0.03


def test_a_power_of_five_per_cent_is_what_a_loss_of_the_margin_has() -> None:
    for shots in SHOTS:
        assert power(shots, 0.009, 0.005, 0.95, loss=0.005) == pytest.approx(0.05)


@pytest.mark.parametrize(("freedom", "value"), [(1, 6.314), (4, 2.132), (9, 1.833), (30, 1.697)])
def test_quantile_is_that_of_the_published_table(freedom: int, value: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(value, abs=5e-4)


spreads = st.floats(1e-6, 0.2)
margins = st.floats(1e-4, 0.5)


@given(st.integers(2, 60), spreads, margins)
@settings(deadline=None, max_examples=200)
def test_more_shots_a_wider_margin_and_a_smaller_loss_never_lower_the_power(
    shots: int, sd: float, margin: float
) -> None:
    found = power(shots, sd, margin, 0.95)
    assert 0 <= found <= 1
    for more in (power(shots + 1, sd, margin, 0.95), power(shots, sd, margin * 1.1, 0.95)):
        assert more >= found - 1e-9
    assert power(shots, sd, margin, 0.95, loss=margin / 2) <= found + 1e-9


@given(st.integers(2, 40), spreads)
@settings(deadline=None, max_examples=100)
def test_what_can_be_told_is_the_margin_at_which_four_of_five_are_accepted(shots: int, sd: float) -> None:
    found = detectable(shots, sd, 0.95)
    assert found is not None
    assert power(shots, sd, found, 0.95) == pytest.approx(0.8, abs=0.001)


@given(spreads, margins)
@settings(deadline=None, max_examples=60)
def test_shots_needed_are_the_fewest_with_that_power(sd: float, margin: float) -> None:
    found = shots_needed(sd, margin, 0.95, most=300)
    if found is None:
        assert power(300, sd, margin, 0.95) < 0.8
    else:
        assert power(found, sd, margin, 0.95) >= 0.8
        assert found == 2 or power(found - 1, sd, margin, 0.95) < 0.8


def test_one_shot_tells_nothing_and_no_spread_everything() -> None:
    assert power(1, 0.01, 0.01, 0.95) == 0
    assert detectable(1, 0.01, 0.95) is None
    assert (power(5, 0, 0.01, 0.95), power(5, 0, 0.01, 0.95, loss=0.01)) == (1, 0)


@pytest.mark.parametrize(
    ("mean", "sd", "shots"), [(-0.002, 0.006, 4), (-0.018, 0.006, 4), (-0.0099, 0.006, 9742), (-0.01, 0.006, None)]
)
def test_shots_to_decide_are_those_at_which_the_reach_is_shorter_than_the_way_to_the_margin(
    mean: float, sd: float, shots: int | None
) -> None:
    found = shots_to_decide(mean, sd, 0.01, 0.95, most=20_000)
    assert found == shots
    if found:
        assert quantile(0.95, found - 1) * sd / found**0.5 < abs(mean + 0.01)
        assert quantile(0.95, found - 2) * sd / (found - 1) ** 0.5 >= abs(mean + 0.01)


def test_the_reference_holds_the_table_that_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["--markdown"]) == 0
    table = capsys.readouterr().out
    assert table.count("\n") == 2 + len(SHOTS)
    assert table in PAGE.read_text(encoding="utf-8")
    assert _main([]) == 2
