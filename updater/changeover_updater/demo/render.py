"""Draws a scene: a scene-linear plate and its exact matte, in numpy alone.

The matte is exact because the plate is made from it: plate = matte * foreground + (1 - matte) * background, with the
matte already rounded to half. Shapes are signed distances, hair is splatted along each strand, and motion blur is the
mean of several instants within a shutter of half a frame. Arrays are float32, [height, width] or [height, width, 3].
"""

from dataclasses import dataclass

import numpy as np

from changeover_updater.demo.figures import Array, box, draw_figures, grid
from changeover_updater.demo.scene import Background, Scene

__all__ = ["Picture", "draw_backdrop", "render"]

_SHUTTER = 0.5
_INSTANTS = (5, 7, 9)
_MARGIN = 48
"""Pixels that a backdrop is wider than the picture on either side, for the pan."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plate [height, width, 3], scene-linear and never below 0, and its matte [height, width] in 0..1."""

    plate: Array
    matte: Array


def render(scene: Scene, frame: float, backdrop: Array | None = None) -> Picture:
    """Draw one frame.

    Args:
        scene: What to draw.
        frame: The time in frames; the shutter opens then and stays open for half a frame.
        backdrop: What `draw_backdrop` made of this scene; drawn anew when absent.
    """
    canvas = draw_backdrop(scene) if backdrop is None else backdrop
    instants = frame + _SHUTTER * (np.arange(_INSTANTS[scene.level - 1]) + 0.5) / _INSTANTS[scene.level - 1]
    layers = [draw_figures(scene, float(instant)) for instant in instants]
    alpha = np.mean([layer.alpha for layer in layers], axis=0, dtype=np.float32)
    colour = np.mean([layer.colour for layer in layers], axis=0, dtype=np.float32)
    matte = np.clip(alpha, 0, 1).astype(np.float16).astype(np.float32)
    foreground = colour / np.maximum(alpha, 1e-4)[..., None]
    behind = _pan(canvas, scene, frame)
    plate = (matte[..., None] * foreground + (1 - matte[..., None]) * behind) * np.float32(scene.exposure)
    return Picture(plate=_grain(plate, scene, frame), matte=matte)


def draw_backdrop(scene: Scene) -> Array:
    """The wall behind the figures, wider than the picture by the pan's margin on both sides."""
    back = scene.background
    rng = np.random.default_rng(back.seed)
    shape = (scene.height, scene.width + 2 * _MARGIN)
    coarse = _noise(rng, shape, back.cell)
    fine = _noise(rng, shape, max(3.0, back.cell / 5))
    mix = np.clip(0.65 * coarse + 0.35 * fine, 0, 1)[..., None]
    wall: Array = (np.array(back.low, np.float32) * (1 - mix) + np.array(back.high, np.float32) * mix).astype(
        np.float32
    )
    return _spots(rng, wall, back)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Array:
    """Value noise in 0..1: random corners, `cell` pixels apart, blended bilinearly."""
    height, width = shape
    corners = rng.random((int(height / cell) + 2, int(width / cell) + 2)).astype(np.float32)
    rows, columns = np.arange(height) / cell, np.arange(width) / cell
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top).astype(np.float32)[:, None], (columns - left).astype(np.float32)[None, :]
    upper = corners[top][:, left] * (1 - right) + corners[top][:, left + 1] * right
    lower = corners[top + 1][:, left] * (1 - right) + corners[top + 1][:, left + 1] * right
    noise: Array = upper * (1 - down) + lower * down
    return noise


def _spots(rng: np.random.Generator, wall: Array, back: Background) -> Array:
    height, width = wall.shape[:2]
    count = round(back.spots * height * width / (270 * 480))
    for _ in range(count):
        radius = float(rng.uniform(4, 15))
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        gain = float(rng.uniform(0.6, 1.2))
        area = box(x, y, radius + 2, width, height)
        rows, columns = grid(area)
        cover = np.clip(radius - np.hypot(columns - x, rows - y), 0, 1)[..., None]
        wall[area] = wall[area] * (1 - cover) + np.array(back.spot, np.float32) * np.float32(gain) * cover
    return wall


def _pan(canvas: Array, scene: Scene, frame: float) -> Array:
    shift = scene.background.pan * frame
    whole = int(np.floor(shift))
    part = np.float32(shift - whole)
    left = canvas[:, _MARGIN + whole : _MARGIN + whole + scene.width]
    right = canvas[:, _MARGIN + whole + 1 : _MARGIN + whole + 1 + scene.width]
    panned: Array = left * (1 - part) + right * part
    return panned


def _grain(plate: Array, scene: Scene, frame: float) -> Array:
    if scene.grain == 0:
        return plate
    rng = np.random.default_rng((scene.seed, round(frame * 64)))
    noise = rng.standard_normal(plate.shape, dtype=np.float32)
    grainy: Array = np.maximum(plate + noise * np.float32(scene.grain) * np.sqrt(np.maximum(plate, 0) + 0.02), 0)
    return grainy
