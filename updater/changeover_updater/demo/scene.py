"""What a rendered picture shows: figures, their light and what stands behind them, sampled from a seed.

A scene is a frozen value; `render` draws it. Golden shots and training pictures are sampled by the same code from
seeds that never meet, so a net is always judged on pictures that it has not seen. Lengths are pixels, colours are
scene-linear RGB, time is frames. What this leaves out: cameras, depth, shadows cast by figures; mattes need none.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Background", "Figure", "Kind", "Rgb", "Scene", "Strand", "sample_scene"]

Kind: TypeAlias = Literal["plain", "street", "foliage", "hair", "backlit", "night"]
KINDS: tuple[Kind, ...] = ("plain", "street", "foliage", "hair", "backlit", "night")
"""The kinds of picture: ``backlit`` shows dark figures before a bright window, ``night`` lit ones before black."""

Rgb: TypeAlias = tuple[float, float, float]

_BACKLIT_GAIN = 0.12
"""How much light reaches what stands before a bright window, as a share of what reaches it elsewhere."""


@dataclass(frozen=True, slots=True)
class Strand:
    """One hair: direction in radians, length as a share of the head's radius, bend, and phase of its sway."""

    angle: float
    length: float
    bend: float
    phase: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One person: centre at frame 0, velocity a frame, height, swing of the limbs, edge softness and materials.

    The top is striped in a colour of the wall behind: only its surroundings tell a stripe from the wall.
    """

    x: float
    y: float
    velocity: tuple[float, float]
    height: float
    swing: float
    phase: float
    softness: float
    skin: Rgb
    top: Rgb
    stripe: Rgb
    stripe_width: float
    legs: Rgb
    hair: Rgb
    strands: tuple[Strand, ...]


@dataclass(frozen=True, slots=True)
class Background:
    """A wall of noise between two colours, with warm spots the size of lamps and leaves, and a pan a frame."""

    seed: int
    low: Rgb
    high: Rgb
    cell: float
    spots: int
    spot: Rgb
    pan: float


@dataclass(frozen=True, slots=True)
class Scene:
    """All that one picture or one shot is drawn from."""

    width: int
    height: int
    kind: Kind
    level: int
    figures: tuple[Figure, ...]
    background: Background
    exposure: float
    grain: float
    seed: int


def sample_scene(seed: int, kind: Kind, level: int, size: tuple[int, int]) -> Scene:
    """Sample a scene.

    Args:
        seed: Everything that is drawn follows from it.
        kind: What the picture shows.
        level: 1 (easy) to 3 (hard): faster, softer, grainier, with more warm spots behind.
        size: Width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    background = _background(rng, kind, level)
    count = 2 if level > 1 and kind != "hair" else 1
    figures = tuple(_figure(rng, background, (kind, level), size, place / count) for place in range(count))
    return Scene(
        width=width,
        height=height,
        kind=kind,
        level=level,
        figures=figures,
        background=background,
        exposure=float(rng.uniform(0.8, 1.25)),
        grain=(0.0, 0.004, 0.01)[level - 1],
        seed=seed,
    )


def _figure(
    rng: np.random.Generator, wall: Background, look: tuple[Kind, int], size: tuple[int, int], place: float
) -> Figure:
    (kind, level), (width, height) = look, size
    speed = (1.5, 4.0, 7.0)[level - 1]
    dark = _BACKLIT_GAIN if kind == "backlit" else 1.0
    shade = float(rng.uniform(0.3, 0.7))
    return Figure(
        x=width * (place + float(rng.uniform(0.2, 0.45))),
        y=height * float(rng.uniform(0.6, 0.7)),
        velocity=(
            float(rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) * speed),
            float(rng.uniform(-0.2, 0.2) * speed),
        ),
        height=float(rng.uniform(1.1, 1.4)) * height,
        swing=float(rng.uniform(0.15, 0.3)) * (0.6 + 0.4 * level),
        phase=float(rng.uniform(0, 6.28)),
        softness=float(rng.uniform(1.0, 1.2 + 1.2 * (level - 1))),
        skin=_warm(rng, dark, 0.45),
        top=_warm(rng, dark, 0.3),
        stripe=_rgb(np.array(wall.low) * (1 - shade) + np.array(wall.high) * shade),
        stripe_width=float(rng.uniform(8.5, 11)),
        legs=_warm(rng, dark, 0.25),
        hair=_warm(rng, dark, 0.18),
        strands=_strands(rng, 220 if kind == "hair" else 0),
    )


def _warm(rng: np.random.Generator, gain: float, value: float) -> Rgb:
    red = value * float(rng.uniform(0.8, 1.3)) * gain
    return (red, red * float(rng.uniform(0.32, 0.55)), red * float(rng.uniform(0.15, 0.4)))


def _strands(rng: np.random.Generator, count: int) -> tuple[Strand, ...]:
    return tuple(
        Strand(
            angle=float(rng.uniform(-0.4, np.pi + 0.4)),
            length=float(rng.uniform(0.6, 1.6)),
            bend=float(rng.normal(0.0, 0.5)),
            phase=float(rng.uniform(0, 6.28)),
        )
        for _ in range(count)
    )


def _background(rng: np.random.Generator, kind: Kind, level: int) -> Background:
    cool = np.array([rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.3)])
    if kind == "foliage":
        cool = np.array([rng.uniform(0.5, 0.8), rng.uniform(0.9, 1.2), rng.uniform(0.3, 0.5)])
    low, high = {"backlit": (0.9, 1.6), "night": (0.002, 0.06)}.get(kind, (0.06, 0.35))
    bright = float(rng.uniform(0.8, 1.2))
    return Background(
        seed=int(rng.integers(1 << 31)),
        low=_rgb(cool * low * bright),
        high=_rgb(cool * high * bright),
        cell={"plain": 160.0, "street": 40.0, "foliage": 12.0, "hair": 60.0, "backlit": 120.0, "night": 50.0}[kind],
        spots=6 * level,
        spot=_warm(rng, _BACKLIT_GAIN if kind == "backlit" else 1.0, 0.35),
        pan=float(rng.uniform(-1.0, 1.0)) * (level - 1),
    )


def _rgb(values: NDArray[np.float64]) -> Rgb:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)
