"""From a shot's colour to the colour that a contract takes.

A shot says ``scene-linear`` (Rec. 709 primaries), ``srgb``, ``raw``, or a colour space of an OpenColorIO configuration
that it names; a contract says one of the first three. Between ``scene-linear`` and ``srgb`` lies one curve, that of IEC
61966-2-1, its straight part extended below 0 and its power part above 1, since a plate has both. ``raw``, and what a
configuration calls data, are values that no curve may touch; they meet ``raw`` alone.

Where each channel's result depends on that channel alone, half pixels go through tables of all 65536 halves, made by
the slow way and compared with it to the bit. A change of primaries goes through OpenColorIO. Left out: what NaN becomes
(`frames`): pixels are finite here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError, RefusedError

__all__ = ["Colour", "Transform", "check_colour", "linear_to_srgb", "srgb_to_linear", "transform"]

Colour: TypeAlias = Literal["scene-linear", "srgb", "raw"]
Clamp: TypeAlias = Literal["none", "unit"]
Pixels: TypeAlias = NDArray[np.float16] | NDArray[np.float32]
Slow: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

PLAIN: tuple[str, ...] = get_args(Colour)

_RED, _GREEN, _BLUE, _GREY, _DATA = range(5)
"""What a channel is; also the number of its table."""

_ENDS = {"r": _RED, "red": _RED, "g": _GREEN, "green": _GREEN, "b": _BLUE, "blue": _BLUE, "y": _GREY}

_BLOCK = 2**16
"""Pixels that the slow way takes at once: what it computes on the way stays in the caches, not in gigabytes."""


@dataclass(frozen=True, slots=True)
class Transform:
    """How to come from a shot's colour to a contract's.

    Attributes:
        identity: All that decides the result: configuration, from, to, clamp, and the path that halves take.
        slow: float32 [N, 3], R, G and B of N pixels, to new ones.
        crosstalk: Whether a channel's result depends on the others; R, G and B then go together.
        alike: Whether all three channels go through the same curve, so that a grey one can.
        unit: Whether the result is cut to 0..1.
        tables: float32 [5, 65536], what becomes of each half that is red, green, blue, grey or no colour; None where
            channels mix.
    """

    identity: str
    slow: Slow
    crosstalk: bool
    alike: bool
    unit: bool
    tables: NDArray[np.float32] | None

    def apply(self, pixels: Pixels, channels: Sequence[str] = ()) -> NDArray[np.float32]:
        """Bring finite pixels [H, W, C] to the contract's colour, as new float32 of the same shape.

        Args:
            pixels: Half or float.
            channels: Their names. What ends in R, G or B (red, green, blue) is colour, Y is grey, and all others (an
                alpha, a trimap, a depth) are no colour. Without names one or two channels are grey, and of more the
                first three are R, G and B.

        Raises:
            RefusedError: The channels mix, or differ, and R, G and B are not all there.
        """
        parts = _parts(pixels.shape[2], channels)
        self._check(parts, channels)
        if self.tables is not None and pixels.dtype == np.float16:
            return _look_up(pixels.view(np.uint16), self.tables, parts)
        converted = np.array(pixels, np.float32, order="C")
        flat = converted.reshape(-1, converted.shape[2])
        for start in range(0, len(flat), _BLOCK):
            self._convert(flat[start : start + _BLOCK], parts)
        return converted

    def _convert(self, flat: NDArray[np.float32], parts: Sequence[int]) -> None:
        """The slow way, in place: float32 [N, C]."""
        together = [parts.index(letter) for letter in (_RED, _GREEN, _BLUE) if letter in parts]
        if len(together) == 3:
            places = slice(0, 3) if together == [0, 1, 2] else together
            flat[:, places] = self.slow(flat[:, places])
        for index, part in enumerate(parts):
            if part != _DATA and not (len(together) == 3 and index in together):
                letter = 0 if part == _GREY else part
                flat[:, index] = self.slow(np.repeat(flat[:, index, None], 3, axis=1))[:, letter]
        if self.unit:
            np.clip(flat, 0, 1, out=flat)

    def _check(self, parts: Sequence[int], channels: Sequence[str]) -> None:
        letters = sorted(part for part in parts if part != _DATA)
        if not letters or letters == [_RED, _GREEN, _BLUE]:
            return
        if self.crosstalk or (_GREY in letters and not self.alike):
            raise RefusedError(
                "colour",
                where=self.identity,
                expected="R, G and B together, since the transform makes each of them out of all three",
                actual=f"the channels {', '.join(channels) or len(parts)}",
                remedy="let the model take R, G and B, or add the shot with plates in scene-linear or srgb",
            )


def check_colour(colour: str, config: str | None, *, where: str) -> None:
    """See that a shot may say `colour`, and that it can be brought to all that contracts say.

    Args:
        colour: ``scene-linear``, ``srgb``, ``raw``, or a space of `config`.
        config: ``ocio://<name>`` or a file ``.ocio`` or ``.ocioz``; none for the three.
        where: What the colour was said of.

    Raises:
        InvalidInputError: There is no such space, or there is no way from it.
    """
    if colour in PLAIN:
        return
    if config is None:
        raise InvalidInputError(
            "colour",
            where=where,
            expected=f"one of {', '.join(PLAIN)}, or a colour space of an OpenColorIO configuration (--ocio)",
            actual=repr(colour),
            remedy="say what the plates hold; there is no default",
        )
    from changeover_validators.golden import _ocio

    if not _ocio.is_data(config, colour):
        for target in _CURVED:
            _ocio.road(config, colour, target)


def transform(source: str, config: Path | str | None, target: Colour, clamp: str | None) -> Transform:
    """How to come from `source`, a plain name or a space of `config`, to `target`; kept, since tables take a while.

    Args:
        source: The shot's colour.
        config: The shot's configuration, which does not change at its path.
        target: The contract's colour.
        clamp: ``unit`` cuts the result to 0..1.

    Raises:
        RefusedError: Data meets a curve.
        InvalidInputError: As `check_colour`.
    """
    return _transform(source, None if config is None or source in PLAIN else str(config), target, clamp == "unit")


@lru_cache(maxsize=16)
def _transform(source: str, config: str | None, target: Colour, unit: bool) -> Transform:  # noqa: FBT001 - a cache's key
    ending = f"clamp {'unit' if unit else 'none'}"
    if source == target or (config is not None and target == "raw" and _is_data(config, source)):
        return _made(f"{source} -> {target}, {ending}", np.copy, unit=unit, crosstalk=False, path="none")
    if (source, target) in _CURVES:
        curve = _CURVES[source, target]
        return _made(f"{source} -> {target}, iec 61966-2-1, {ending}", curve, unit=unit, crosstalk=False)
    if config is None or target == "raw" or _is_data(config, source):
        check_colour(source, config, where="golden shot")
        raise _no_way(source, target, "golden shot")
    from changeover_validators.golden import _ocio

    road = _ocio.road(config, source, target)
    identity = f"{source} -> {target}, {road.identity}, {ending}"
    return _made(identity, road.convert, unit=unit, crosstalk=road.crosstalk)


def _is_data(config: str, space: str) -> bool:
    from changeover_validators.golden import _ocio

    return _ocio.is_data(config, space)


def _made(identity: str, slow: Slow, *, unit: bool, crosstalk: bool, path: str = "table") -> Transform:
    """The transform, with tables if they say what the slow way says."""
    tables = None if crosstalk else _tables(slow, unit=unit)
    alike = tables is not None and bool((tables[0] == tables[:3]).all())
    name = "ocio" if tables is None else path
    return Transform(f"{identity}, path {name}", slow, crosstalk or tables is None, alike, unit, tables)


def _tables(slow: Slow, *, unit: bool) -> NDArray[np.float32] | None:
    """What `slow` makes of every half by channel; None if it makes something else of it in other company.

    That a library calls a transform free of crosstalk is checked: each half is converted again beside other halves.
    """
    halves = _finite_halves()
    grey = slow(np.repeat(halves[:, None], 3, axis=1))
    order = np.random.default_rng(0).permuted(np.tile(np.arange(65536), (3, 1)), axis=1)
    beside = slow(np.ascontiguousarray(halves[order].T))
    again = np.stack([grey[order[letter], letter] for letter in range(3)], axis=1)
    if not np.array_equal(beside, again):
        return None
    tables = np.stack([grey[:, 0], grey[:, 1], grey[:, 2], grey[:, 0], halves])
    return np.clip(tables, 0, 1) if unit else tables


def _finite_halves() -> NDArray[np.float32]:
    """Every half value at the index of its bits; 0 for NaN and infinity, which nobody asks for."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    return np.where(np.isfinite(halves), halves, np.float16(0)).astype(np.float32)


def _look_up(bits: NDArray[np.uint16], tables: NDArray[np.float32], parts: Sequence[int]) -> NDArray[np.float32]:
    from changeover_validators.golden._kernels_colour import look_up

    converted = np.empty(bits.shape, np.float32)
    look_up(bits, tables, np.array(parts, np.intp), converted)
    return converted


def _parts(count: int, channels: Sequence[str]) -> tuple[int, ...]:
    if channels:
        return tuple(_ENDS.get(name.rpartition(":")[2].rpartition(".")[2].lower(), _DATA) for name in channels)
    return (_GREY,) * count if count < 3 else (_RED, _GREEN, _BLUE, *(_DATA,) * (count - 3))


def _no_way(source: str, target: str, where: str) -> RefusedError:
    return RefusedError(
        "colour",
        where=where,
        expected=f"a shot whose colour can be brought to {target!r}, which the model takes",
        actual=f"a shot in {source!r}",
        remedy="add the shot again with the colour that its plates really have, or leave this model to other shots",
    )


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
_CURVED: tuple[Colour, ...] = ("scene-linear", "srgb")
