"""The ten golden shots of the demonstration: what each shows, and its files.

A shot is twelve frames at 480 x 270 pixels: ``plate.1001.exr`` with R, G, B in scene-linear half and ``matte.1001.exr``
with A in half. The seeds are fixed, so everybody sees the same shots.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from changeover_updater.demo.figures import Array
from changeover_updater.demo.render import Picture, draw_backdrop, render
from changeover_updater.demo.scene import Kind, sample_scene

__all__ = ["FIRST_FRAME", "FRAMES", "SHOTS", "SIZE", "Shot", "draw_shot", "write_shot", "write_shots"]

SIZE = (480, 270)
FRAMES = 12
FIRST_FRAME = 1001


@dataclass(frozen=True, slots=True)
class Shot:
    """One golden shot: its name, what it shows, how hard it is (1 to 3) and the seed that it is drawn from."""

    name: str
    kind: Kind
    level: int
    seed: int


SHOTS: tuple[Shot, ...] = (
    Shot("gallery", "plain", 1, 11),
    Shot("hallway", "plain", 1, 12),
    Shot("crossing", "street", 1, 13),
    Shot("market", "street", 2, 14),
    Shot("orchard", "foliage", 2, 15),
    Shot("rooftop", "hair", 2, 16),
    Shot("window", "backlit", 2, 17),
    Shot("chase", "street", 3, 518),
    Shot("jungle", "foliage", 3, 19),
    Shot("storm", "hair", 3, 20),
)
"""Easy ones first; ``window`` is the only one of its kind."""


def draw_shot(shot: Shot) -> Iterator[Picture]:
    """Draw the frames of a shot, one after the other."""
    scene = sample_scene(shot.seed, shot.kind, shot.level, SIZE)
    backdrop = draw_backdrop(scene)
    for frame in range(FRAMES):
        yield render(scene, float(frame), backdrop)


def write_shots(folder: Path, shots: Sequence[Shot] = SHOTS) -> tuple[Path, ...]:
    """Write each shot into a folder of its own name below `folder`; returns those folders."""
    return tuple(write_shot(shot, folder / shot.name) for shot in shots)


def write_shot(shot: Shot, folder: Path) -> Path:
    """Write the frames of one shot as EXR into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(draw_shot(shot), start=FIRST_FRAME):
        _write_exr(folder / f"plate.{number}.exr", {"RGB": picture.plate})
        _write_exr(folder / f"matte.{number}.exr", {"A": picture.matte})
    return folder


def _write_exr(path: Path, channels: dict[str, Array]) -> None:
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    half = {name: np.ascontiguousarray(pixels.astype(np.float16)) for name, pixels in channels.items()}
    OpenEXR.File(header, half).write(str(path))
