"""Small pictures of a shot's worst frame: what a person looks at before signing a verdict.

Plate, truth, current and candidate as they would be seen, and the signed difference of candidate and truth: white
where they agree, red where the candidate has too much, blue where it lacks. Each once as a whole (at most 1280 pixels
wide, by the mean of what a pixel covers) and once around the worst pixel, pixel by pixel. Eight-bit PNG, written here
by hand, so that the same arrays are the same bytes. A difference is drawn by its square root, for eyes see .01 as
nothing.

Left out: pages (`report`), and who may see pictures.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from changeover_registry.records.golden import GoldenFrame
from changeover_registry.records.scores import Picture
from changeover_validators.golden.colour import Colour
from changeover_validators.golden.decoding import colour_of, replace_non_finite
from changeover_validators.golden.frames import read_plate, read_truth
from changeover_validators.golden.jobs import Plane, ShotJob
from changeover_validators.golden.worst import Worst

__all__ = ["CROP", "WIDTH", "difference", "pictures_of", "png", "shrink"]

WIDTH = 1280
"""The most pixels that a picture of a whole frame is wide."""
CROP = 256
"""The side of the surroundings of the worst pixel."""

Kind = Literal["plate", "truth", "current", "candidate", "difference"]
Bytes = NDArray[np.uint8]
_LEVEL = 6
_CHANNELS = ("R", "G", "B")
"""What every plate has: no other is added."""


def pictures_of(job: ShotJob, worst: Worst) -> tuple[tuple[Picture, bytes], ...]:
    """Every picture of the worst frame, in a fixed order, with its PNG.

    Raises:
        InvalidInputError: Plate or truth cannot be read any more.
    """
    frame = next(frame for frame in job.shot.frames if frame.number == worst.number)
    truth = read_truth(job.shot, job.folder, frame)
    drawn: list[tuple[Picture, bytes]] = []
    for kind, image in _images(job, worst, truth):
        drawn += [_picture(kind, shrink(image), crop=False), _picture(kind, _around(image, worst), crop=True)]
    return tuple(drawn)


def _images(job: ShotJob, worst: Worst, truth: Plane) -> Iterator[tuple[Kind, Plane]]:
    """One at a time, float32 [H, W] or [H, W, 3] in 0..1: a 4K frame in colour is 106 MB."""
    frame = next(frame for frame in job.shot.frames if frame.number == worst.number)
    yield "plate", _seen(job, frame)
    yield "truth", truth
    if len(worst.mattes) > 1:
        yield "current", worst.mattes[1]
    yield "candidate", worst.mattes[0]
    yield "difference", difference(worst.mattes[0], truth)


def _seen(job: ShotJob, frame: GoldenFrame) -> Plane:
    """The plate as it would be seen, [H, W, 3]: in sRGB with highlights cut at white; raw values as they are."""
    pixels = read_plate(job.shot, job.folder, frame, _CHANNELS).pixels
    replace_non_finite(pixels)
    target: Colour = "raw" if job.candidate.contract.colour == "raw" else "srgb"
    return colour_of(job.shot, job.folder, target, "unit").apply(pixels, _CHANNELS)


def difference(prediction: Plane, truth: Plane) -> Plane:
    """The signed difference as colour, float32 [H, W, 3]: white is none, red too much, blue too little."""
    signed = prediction - truth
    strength = np.sqrt(np.clip(np.abs(signed), 0, 1))
    colour: Plane = np.ones((*truth.shape, 3), np.float32)
    colour[..., 0] -= np.where(signed < 0, strength, 0)
    colour[..., 1] -= strength
    colour[..., 2] -= np.where(signed > 0, strength, 0)
    return colour


def shrink(image: Plane, width: int = WIDTH) -> Plane:
    """`image` [H, W, ...] at most `width` pixels wide: each pixel is the mean of the area that it covers."""
    if image.shape[1] <= width:
        return image
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    return _shrink_rows(_shrink_rows(image, height).swapaxes(0, 1), width).swapaxes(0, 1)


def _shrink_rows(image: Plane, count: int) -> Plane:
    """`count` rows [count, W, ...], each the mean of its share of the rows; a row that two share counts for both."""
    rows, step = image.shape[0], image.shape[0] / count
    out: Plane = np.empty((count, *image.shape[1:]), np.float32)
    for at in range(count):
        start, stop = at * step, min((at + 1) * step, rows)
        first, last = int(start), min(int(np.ceil(stop)), rows)
        shares = np.minimum(np.arange(first, last) + 1, stop) - np.maximum(np.arange(first, last), start)
        weights = (shares / shares.sum()).astype(np.float32)
        out[at] = np.einsum("i,i...->...", weights, image[first:last])
    return out


def png(pixels: Bytes) -> bytes:
    """A PNG of uint8 [H, W] (grey) or [H, W, 3]; every row is stored as its difference from the pixel to the left."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = pixels.reshape(height, width, channels)
    lines = np.empty((height, 1 + width * channels), np.uint8)
    lines[:, 0] = 1
    lines[:, 1 : 1 + channels] = rows[:, 0]
    lines[:, 1 + channels :] = (rows[:, 1:] - rows[:, :-1]).reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), _LEVEL)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _around(image: Plane, worst: Worst) -> Plane:
    """The surroundings of the worst pixel, moved into the frame where it is near an edge."""
    rows, columns = _span(worst.y, image.shape[0]), _span(worst.x, image.shape[1])
    return image[rows, columns]


def _span(centre: int, length: int) -> slice:
    first = min(max(centre - CROP // 2, 0), max(length - CROP, 0))
    return slice(first, min(first + CROP, length))


def _picture(kind: Kind, image: NDArray[Any], *, crop: bool) -> tuple[Picture, bytes]:
    data = png(np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
    file = f"{kind}-crop.png" if crop else f"{kind}.png"
    return Picture(kind=kind, crop=crop, file=file, sha256=hashlib.sha256(data).hexdigest()), data
