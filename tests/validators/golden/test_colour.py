import numpy as np
import pytest

from changeover_validators.golden.colour import linear_to_srgb, srgb_to_linear


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
    assert round(float(linear_to_srgb(np.array([0.18], np.float32))[0]) * 255) == 118


def test_eight_bit_code_values_survive_the_way_there_and_back() -> None:
    codes = (np.arange(256) / 255).astype(np.float32)
    back = linear_to_srgb(srgb_to_linear(codes))
    assert np.array_equal(np.round(back * 255), np.arange(256))
