"""From a shot's colour to the colour that a contract takes: the sRGB curve, exact, each channel by itself.

``scene-linear`` and ``srgb`` share their primaries here, so only the transfer curve lies between them. ``raw`` means
values that no curve may touch; it meets ``raw`` alone. The curve is that of IEC 61966-2-1, its straight part extended
below 0 and its power part above 1, since a plate has both. Left out: camera logs, gamut changes, OCIO configurations.
"""

from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import RefusedError

__all__ = ["Colour", "convert", "linear_to_srgb", "srgb_to_linear"]

Colour: TypeAlias = Literal["scene-linear", "srgb", "raw"]
Pixels: TypeAlias = NDArray[np.float16] | NDArray[np.float32]


def convert(pixels: Pixels, source: Colour, target: Colour, *, where: str) -> NDArray[np.float32]:
    """Bring finite pixels from `source` to `target`, as float32 of the same shape.

    Half pixels go through a table of all 65536 half values, made by the same function as the slow way.

    Raises:
        RefusedError: Nobody said how to come from `source` to `target`.
    """
    if source == target:
        return pixels.astype(np.float32, copy=False)
    if (source, target) not in _CURVES:
        raise RefusedError(
            "colour",
            where=where,
            expected=f"a shot whose colour can be brought to {target!r}, which the model takes",
            actual=f"a shot in {source!r}",
            remedy="add the shot again with the colour that its plates really have, or leave this model to other shots",
        )
    if pixels.dtype == np.float16:
        table: NDArray[np.float32] = _table(source, target)[pixels.view(np.uint16)]
        return table
    return _CURVES[source, target](pixels)


def linear_to_srgb(pixels: Pixels) -> NDArray[np.float32]:
    """Encode scene-linear values; computed in float64, rounded once."""
    linear = pixels.astype(np.float64)
    power = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    encoded: NDArray[np.float32] = np.where(linear <= 0.0031308, 12.92 * linear, power).astype(np.float32)
    return encoded


def srgb_to_linear(pixels: Pixels) -> NDArray[np.float32]:
    """Decode sRGB values; computed in float64, rounded once."""
    encoded = pixels.astype(np.float64)
    power = ((np.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4
    linear: NDArray[np.float32] = np.where(encoded <= 0.04045, encoded / 12.92, power).astype(np.float32)
    return linear


_CURVES = {("scene-linear", "srgb"): linear_to_srgb, ("srgb", "scene-linear"): srgb_to_linear}


@cache
def _table(source: Colour, target: Colour) -> NDArray[np.float32]:
    """What the curve makes of every half value, at the index of its bits; 256 KiB."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.where(np.isfinite(halves), halves, np.float16(0))
    return _CURVES[source, target](finite)
