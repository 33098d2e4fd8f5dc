from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import RefusedError
from changeover_validators.golden.colour import Colour, convert, linear_to_srgb, srgb_to_linear

Array = np.ndarray[Any, Any]


def oracle_encode(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def oracle_decode(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


VALUES = [-0.5, 0.0, 0.001, 0.0031308, 0.0031309, 0.04045, 0.0405, 0.18, 0.5, 1.0, 4.0, 60000.0]


@pytest.mark.parametrize("value", VALUES)
def test_curve_equals_its_definition_rounded_once(value: float) -> None:
    given = np.array([value], np.float32)
    exact = float(given[0])
    assert linear_to_srgb(given)[0] == np.float32(oracle_encode(exact))
    assert srgb_to_linear(given)[0] == np.float32(oracle_decode(exact))


def test_middle_grey_is_the_published_code_value() -> None:
    assert round(float(convert(np.array([0.18], np.float32), "scene-linear", "srgb", where="x")[0]) * 255) == 118


def test_eight_bit_code_values_survive_the_way_there_and_back() -> None:
    codes = (np.arange(256) / 255).astype(np.float32)
    there = convert(codes, "srgb", "scene-linear", where="x")
    back = convert(there, "scene-linear", "srgb", where="x")
    assert np.array_equal(np.round(back * 255), np.arange(256))


@pytest.mark.parametrize(("source", "target"), [("scene-linear", "srgb"), ("srgb", "scene-linear")])
def test_the_table_of_halves_equals_the_slow_way_for_every_finite_half(source: Colour, target: Colour) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].reshape(-1, 2)
    fast = convert(finite, source, target, where="x")
    slow = convert(finite.astype(np.float32), source, target, where="x")
    assert fast.dtype == np.float32
    assert fast.shape == finite.shape
    assert np.array_equal(fast.view(np.uint32), slow.view(np.uint32))


@pytest.mark.parametrize("colour", ["scene-linear", "srgb", "raw"])
def test_the_same_colour_changes_nothing(colour: Colour) -> None:
    pixels = np.array([[-1.0, 0.3, 7.0]], np.float16)
    same = convert(pixels, colour, colour, where="x")
    assert same.dtype == np.float32
    assert np.array_equal(same, pixels.astype(np.float32))


@pytest.mark.parametrize(
    ("source", "target"), [("raw", "srgb"), ("raw", "scene-linear"), ("srgb", "raw"), ("scene-linear", "raw")]
)
def test_raw_meets_raw_alone(source: Colour, target: Colour) -> None:
    with pytest.raises(RefusedError, match="colour: golden shot ab010: .*brought to '") as caught:
        convert(np.zeros(3, np.float32), source, target, where="golden shot ab010")
    assert caught.value.actual == f"a shot in '{source}'"
