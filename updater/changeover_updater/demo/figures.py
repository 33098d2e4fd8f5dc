"""Draws figures at one instant: capsules by signed distance, hair by splatting each strand.

What it makes is a layer of premultiplied colour and coverage; `render` averages several instants to blur motion. Sizes
are pixels, arrays float32.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from changeover_updater.demo.scene import Figure, Rgb, Scene

__all__ = ["Array", "Layer", "box", "draw_figures", "grid"]

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """Premultiplied colour and coverage of the figures at one instant."""

    colour: Array
    alpha: Array


def draw_figures(scene: Scene, time: float) -> Layer:
    """Draw every figure of the scene at one instant, in frames."""
    shape = (scene.height, scene.width)
    layer = Layer(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32))
    for figure in scene.figures:
        _draw_hair(layer, figure, time)
        for part in _parts(figure, time):
            _draw_part(layer, part, figure.softness)
    return layer


@dataclass(frozen=True, slots=True)
class _Part:
    """A capsule from one end to the other, in pixels, and its colour."""

    start: tuple[float, float]
    end: tuple[float, float]
    radius: float
    colour: Rgb
    stripe: Rgb | None = None
    stripe_width: float = 8.0


def _parts(figure: Figure, time: float) -> tuple[_Part, ...]:
    """The body at one instant, back to front. Lengths are shares of the figure's height."""
    swing = figure.swing * float(np.sin(figure.phase + 0.55 * time))

    def at(x: float, y: float) -> tuple[float, float]:
        return _place(figure, time, x, y)

    def part(start: tuple[float, float], end: tuple[float, float], radius: float, colour: Rgb) -> _Part:
        return _Part(at(*start), at(*end), radius * figure.height, colour)

    hand = (0.10 + 0.5 * swing, 0.08)
    other = (-0.10 + 0.5 * swing, 0.08)
    return (
        part((-0.07, 0.1), (-0.07 - 0.5 * swing, 0.48), 0.065, figure.legs),
        part((0.07, 0.1), (0.07 + 0.5 * swing, 0.48), 0.065, figure.legs),
        _Part(at(0.0, -0.18), at(0.0, 0.08), 0.115 * figure.height, figure.top, figure.stripe, figure.stripe_width),
        part((-0.13, -0.22), other, 0.042, figure.top),
        part((0.13, -0.22), (0.06 + hand[0], hand[1]), 0.042, figure.top),
        part((0.06 + hand[0], hand[1]), (0.07 + hand[0], hand[1] + 0.03), 0.036, figure.skin),
        part((0.0, -0.3), (0.0, -0.24), 0.045, figure.skin),
        part((0.0, -0.41), (0.0, -0.37), 0.075, figure.skin),
    )


def _place(figure: Figure, time: float, x: float, y: float) -> tuple[float, float]:
    bob = 0.006 * float(np.sin(2 * (figure.phase + 0.55 * time)))
    return (
        figure.x + figure.velocity[0] * time + x * figure.height,
        figure.y + figure.velocity[1] * time + (y + bob) * figure.height,
    )


def _draw_part(layer: Layer, part: _Part, softness: float) -> None:
    """Lay a shaded capsule over the layer. Where it overlaps what is there, coverage is the larger of the two."""
    height, width = layer.alpha.shape
    middle = ((part.start[0] + part.end[0]) / 2, (part.start[1] + part.end[1]) / 2)
    reach = part.radius + softness + float(np.hypot(part.end[0] - part.start[0], part.end[1] - part.start[1])) / 2
    area = box(*middle, reach, width, height)
    rows, columns = grid(area)
    if not (rows.size and columns.size):
        return
    inside = part.radius - _segment_distance(rows, columns, part)
    cover = np.clip(0.5 + inside / np.float32(softness), 0, 1)
    shade = 0.6 + 0.4 * np.sqrt(np.clip(inside / np.float32(part.radius), 0, 1))
    alpha = layer.alpha[area]
    total = np.maximum(alpha, cover)
    keep = (total - cover) / np.maximum(alpha, 1e-6)
    layer.colour[area] = layer.colour[area] * keep[..., None] + (cover * shade)[..., None] * _cloth(part, rows, columns)
    layer.alpha[area] = total


def _cloth(part: _Part, rows: Array, columns: Array) -> Array:
    """The part's colour at every pixel: plain, or striped across its axis with edges a pixel soft."""
    if part.stripe is None:
        return np.array(part.colour, np.float32)
    (ax, ay), (bx, by) = part.start, part.end
    length = max(float(np.hypot(bx - ax, by - ay)), 1e-6)
    along = ((columns - np.float32(ax)) * (bx - ax) + (rows - np.float32(ay)) * (by - ay)) / length
    wave = np.abs(np.mod(along / part.stripe_width, 2) - 1) - 0.5
    mix = np.clip(0.5 + wave * part.stripe_width, 0, 1).astype(np.float32)[..., None]
    cloth: Array = np.array(part.colour, np.float32) * (1 - mix) + np.array(part.stripe, np.float32) * mix
    return cloth


def _segment_distance(rows: Array, columns: Array, part: _Part) -> Array:
    (ax, ay), (bx, by) = part.start, part.end
    dx, dy = np.float32(bx - ax), np.float32(by - ay)
    x, y = columns - np.float32(ax), rows - np.float32(ay)
    along = np.clip((x * dx + y * dy) / max(float(dx * dx + dy * dy), 1e-6), 0, 1)
    distance: Array = np.hypot(x - along * dx, y - along * dy)
    return distance


def _draw_hair(layer: Layer, figure: Figure, time: float) -> None:
    """Splat every strand: points half a pixel apart, shared among the four nearest pixels, thinner to the tip."""
    if not figure.strands:
        return
    x, y, weight = _strand_points(figure, time)
    alpha = layer.alpha
    height, width = alpha.shape
    density = np.zeros(height * width, np.float64)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = weight * np.abs(1 - right - (x - column)) * np.abs(1 - down - (y - row))
            inside = (column + right >= 0) & (column + right < width) & (row + down >= 0) & (row + down < height)
            index = ((row + down) * width + column + right)[inside]
            density += np.bincount(index, share[inside], height * width)
    cover = (1 - np.exp(-density.reshape(height, width))).astype(np.float32)
    keep = 1 - cover
    layer.colour[...] = layer.colour * keep[..., None] + cover[..., None] * np.array(figure.hair, np.float32)
    layer.alpha[...] = alpha * keep + cover


def _strand_points(figure: Figure, time: float) -> tuple[Array, Array, Array]:
    radius = 0.08 * figure.height
    centre = _place(figure, time, 0.0, -0.39)
    strands = figure.strands
    angle = np.array([strand.angle for strand in strands], np.float32)[:, None]
    length = np.array([strand.length for strand in strands], np.float32)[:, None] * radius
    phase = np.array([strand.phase for strand in strands], np.float32)[:, None]
    bend = np.array([strand.bend for strand in strands], np.float32)[:, None] + 0.25 * np.sin(phase + 0.7 * time)
    along = np.linspace(0, 1, int(2.6 * radius) + 2, dtype=np.float32)[None, :]
    turn = angle + bend * along * along
    x = centre[0] + np.cos(angle) * radius * 0.9 + np.cos(turn) * along * length
    y = centre[1] - np.sin(angle) * radius * 0.9 - np.sin(turn) * along * length + 0.25 * length * along * along
    weight = np.broadcast_to((1.15 - along) * length / along.shape[1], x.shape)
    return x.ravel(), y.ravel(), weight.ravel()


def box(x: float, y: float, reach: float, width: int, height: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that lie within `reach` pixels of a point."""
    rows = slice(min(height, max(0, int(y - reach))), min(height, max(0, int(y + reach) + 2)))
    columns = slice(min(width, max(0, int(x - reach))), min(width, max(0, int(x + reach) + 2)))
    return rows, columns


def grid(area: tuple[slice, slice]) -> tuple[Array, Array]:
    """The row numbers [n, 1] and column numbers [1, m] of an area."""
    rows = np.arange(area[0].start, area[0].stop, dtype=np.float32)[:, None]
    columns = np.arange(area[1].start, area[1].stop, dtype=np.float32)[None, :]
    return rows, columns
