from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.aspect import narrow, widen, widened

Array = np.ndarray[Any, Any]
WIDTHS = st.integers(1, 60)
ASPECTS = st.floats(0.25, 4)


def plate(width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((3, width, 2), dtype=np.float32)


def oracle(row: Array, width: int) -> Array:
    """One row in another width, from the definition: lines between centres, or means over areas."""
    old, answer = len(row), np.zeros(width)
    for x in range(width):
        if width >= old:
            centre = (x + 0.5) * old / width - 0.5
            answer[x] = np.interp(centre, np.arange(old), row)
        else:
            left, right = x * old / width, (x + 1) * old / width
            covered = [max(0.0, min(right, c + 1) - max(left, c)) for c in range(old)]
            answer[x] = np.dot(covered, row) / sum(covered)
    return answer


@settings(deadline=None)
@given(WIDTHS, ASPECTS)
def test_each_row_is_resampled_as_defined(width: int, aspect: float) -> None:
    given_plate = plate(width)
    wide = widen(given_plate, aspect)
    assert wide.shape == (3, max(1, round(width * aspect)), 2)
    for y in range(3):
        for c in range(2):
            assert np.allclose(wide[y, :, c], oracle(given_plate[y, :, c], wide.shape[1]), atol=2e-6)


@settings(deadline=None)
@given(WIDTHS)
def test_square_pixels_stay_as_they_are(width: int) -> None:
    given_plate = plate(width)
    assert widen(given_plate, 1.0) is given_plate
    assert np.array_equal(narrow(given_plate[..., 0], width), given_plate[..., 0])


@settings(deadline=None)
@given(WIDTHS, ASPECTS, st.floats(0, 1, width=32))
def test_a_flat_picture_stays_flat_and_nothing_leaves_the_range(width: int, aspect: float, value: float) -> None:
    flat = np.full((2, width, 1), value, np.float32)
    wide = widen(flat, aspect)
    assert np.allclose(wide, value, atol=1e-6)
    back = narrow(wide[..., 0], width)
    assert back.shape == (2, width)
    assert np.allclose(back, value, atol=1e-6)
    noise = widen(plate(width), aspect)
    assert noise.min() >= -1e-6
    assert noise.max() <= 1 + 1e-6


@settings(deadline=None)
@given(WIDTHS, st.integers(2, 4))
def test_narrowing_keeps_the_mean_of_every_row(width: int, times: int) -> None:
    wide = np.random.default_rng(1).random((3, width * times), dtype=np.float32)
    assert np.allclose(narrow(wide, width).mean(axis=1), wide.mean(axis=1), atol=1e-5)


def test_a_matte_finds_its_way_back_to_the_plates_pixels() -> None:
    columns = np.linspace(0, 6, 240, dtype=np.float32)
    matte = np.repeat(np.sin(columns)[None] * 0.5 + 0.5, 4, axis=0).astype(np.float32)
    back = narrow(widen(matte[..., None], 1.8)[..., 0], 240)
    assert np.abs(back - matte).max() < 2e-3


@pytest.mark.parametrize("aspect", [0.0, -1.0, 0.1, 9.0, float("nan"), float("inf")])
def test_an_aspect_that_no_lens_has_is_refused(aspect: float) -> None:
    with pytest.raises(InvalidInputError, match="pixel aspect: a plate 10 pixels wide"):
        widened(10, aspect)
