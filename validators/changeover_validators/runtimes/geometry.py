"""Where pixels go: padding, resizing and tiling of [H, W, C] and [H, W] arrays, in numpy alone.

Resizing is bilinear with half-pixel centres and without anti-aliasing (``align_corners = False``), as the runtimes'
own operators do it. Padding is on the right and at the bottom. Tiles share at least the overlap; the last one of a row
or column is flush with the frame's end, so no tile is smaller than asked unless the frame is.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Array", "Box", "blend_weights", "boxes", "fill", "pad_to", "resize", "round_up"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a frame: left, top, width, height in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, image: Array) -> Array:
        """The part of `image` [H, W, ...] in this box, as a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not under `size`."""
    return -(-size // multiple) * multiple


def pad_to(image: Array, height: int, width: int, rule: str) -> Array:
    """`image` [H, W, ...] with rows and columns added at bottom and right.

    Args:
        image: At most `height` by `width`.
        height: Rows of the answer.
        width: Columns of the answer.
        rule: ``zero``, ``replicate`` (the last pixel again) or ``reflect`` (mirrored at the last pixel, which is not
            repeated; a padding longer than the image goes to and fro, and one pixel stays one pixel).
    """
    if image.shape[:2] == (height, width):
        return image
    padded: Array = np.empty((height, width, *image.shape[2:]), image.dtype)
    fill(padded, image, rule)
    return padded


def fill(target: Array, image: Array, rule: str) -> None:
    """Write `image` into the top left of `target`, which is not smaller, and its padding into the rest."""
    rows, columns = image.shape[:2]
    height, width = target.shape[:2]
    target[:rows, :columns] = image
    if rule == "zero":
        target[:rows, columns:] = 0
        target[rows:] = 0
        return
    index = _reflected if rule == "reflect" else _replicated
    target[:rows, columns:] = image[:, index(columns, width)[columns:]]
    target[rows:] = target[index(rows, height)[rows:]]


def resize(image: Array, height: int, width: int) -> Array:
    """`image` [H, W, ...] at another size, float32."""
    if image.shape[:2] == (height, width):
        return image
    return _resize_axis(_resize_axis(image, height, 0), width, 1)


def boxes(height: int, width: int, size: int, overlap: int) -> tuple[Box, ...]:
    """The tiles of a frame, row by row; one box of the whole frame for size 0."""
    if size == 0:
        return (Box(0, 0, width, height),)
    tops, lefts = _starts(height, size, overlap), _starts(width, size, overlap)
    return tuple(Box(left, top, min(size, width), min(size, height)) for top in tops for left in lefts)


def blend_weights(box: Box, overlap: int) -> Array:
    """How much each pixel of a tile counts, float32 [H, W]: rising linearly over the overlap, never zero."""
    return np.outer(_ramp(box.height, overlap), _ramp(box.width, overlap)).astype(np.float32)


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]


def _ramp(length: int, overlap: int) -> Array:
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1])
    ramp: Array = np.minimum(from_edge + 1, overlap + 1) / (overlap + 1)
    return ramp


def _resize_axis(image: Array, count: int, axis: int) -> Array:
    length = image.shape[axis]
    centre = np.clip((np.arange(count) + 0.5) * (length / count) - 0.5, 0, length - 1)
    low = np.floor(centre).astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    share = (centre - low).astype(np.float32).reshape(-1, *(1,) * (image.ndim - 1 - axis))
    mixed: Array = np.take(image, low, axis)
    mixed *= 1 - share
    other = np.take(image, high, axis)
    other *= share
    mixed += other
    return mixed


def _reflected(length: int, count: int) -> Array:
    period = max(2 * (length - 1), 1)
    place = np.arange(count) % period
    return np.minimum(place, period - place) if length > 1 else np.zeros(count, np.intp)


def _replicated(length: int, count: int) -> Array:
    return np.minimum(np.arange(count), length - 1)
