"""Reading plates and mattes: OpenEXR, PNG, TIFF, DPX and JPEG, each channel by its name.

What is returned is the display window: pixels of the data window lie where they belong, all else is 0, and what hangs
over is cut off. Channels are named explicitly: ``R``, ``A``, ``layer.name``, and ``part:name`` where several parts of a
file have a channel of that name. Only the part that is asked for is decoded. Integer formats become 0 to 1; an alpha is
neither multiplied in nor divided out. Half pixels stay half, which is what makes the colour table possible. Of a tiled
file with levels the full-size one is read.

OpenImageIO opens every file and decodes all but large plain EXR files, which OpenEXR decodes in half the time. Each
image is decoded in one thread, so that many can be decoded at once. Refused, each by name: damaged and truncated files,
other formats, deep and subsampled images, channels of identifiers (uint), turned pictures, and sizes that no plate has,
before any memory is taken for them. Left out: what NaN means.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden import _openexr
from changeover_validators.golden.held import Held, held

__all__ = ["FORMATS", "Image", "Part", "Pixels", "decode", "opened", "read_image", "read_plane", "read_plate"]

FORMATS = frozenset({"openexr", "png", "tiff", "dpx", "jpeg"})
"""The formats that are read, as OpenImageIO names them; a file is what its content says, whatever its name."""

MAX_SIDE = 65536
MAX_PIXELS = 2**28
"""A window above this is a damaged header, not a plate: 16384 x 16384 is four times the largest that anybody shoots."""

Pixels: TypeAlias = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Image:
    """Channels of one image file.

    Attributes:
        pixels: float16 or float32 [H, W, C], the display window, channels in the order asked for.
        pixel_aspect: Width over height of one pixel.
        lossy: Whether the file's compression may have changed these channels.
        aspect_stated: Whether the file says its pixel aspect; a file that does not is taken for square.
    """

    pixels: Pixels
    pixel_aspect: float
    lossy: bool
    aspect_stated: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a file: its index, its name ("" if it has none), OpenImageIO's description, the file's format."""

    index: int
    name: str
    spec: oiio.ImageSpec
    format: str

    def channels(self) -> tuple[str, ...]:
        """The names of its channels, as they stand in the file."""
        return tuple(self.spec.channelnames)

    def position(self, wanted: str) -> int | None:
        """Where the channel `wanted` is: as it stands in the file, after ``part:``, or by what artists call it."""
        names = self.channels()
        part, colon, channel = wanted.rpartition(":")
        if colon and part == self.name and channel in names:
            return names.index(channel)
        known = wanted if wanted in names else _FILE_NAMES.get(wanted.removeprefix("rgba."), wanted)
        if known not in names and known in _COLOURS and names[0] == "Y" and self.format != "openexr":
            return 0
        return names.index(known) if known in names else None


_FILE_NAMES = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}
"""What Nuke and artists call a channel (also ``rgba.red``), and what it is called in files."""

_COLOURS = frozenset({"R", "G", "B"})
"""All three are the one channel of a grey PNG, TIFF, DPX or JPEG, which OpenImageIO calls Y."""


def read_plane(path: Path, channel: str) -> NDArray[np.float32]:
    """One channel as float32 [H, W], the display window.

    Raises:
        InvalidInputError: `path` is damaged, refused, or has no or several channels of that name.
    """
    return read_image(path, (channel,)).pixels[..., 0].astype(np.float32)


def read_plate(path: Path) -> NDArray[np.float32]:
    """The channels R, G and B as float32 [H, W, 3], the display window.

    Raises:
        InvalidInputError: `path` is damaged, refused, or lacks one of the channels.
    """
    return read_image(path, ("R", "G", "B")).pixels.astype(np.float32, copy=False)


def read_image(path: Path, channels: Sequence[str]) -> Image:
    """The named channels of one file, all from one part.

    Raises:
        InvalidInputError: `path` is damaged, refused, or has no or several channels of those names.
    """
    with held(path) as file:
        return decode(file, channels)


def decode(file: Held, channels: Sequence[str]) -> Image:
    """The named channels of bytes that are held, all from one part.

    Raises:
        InvalidInputError: They are damaged, refused, or have no or several channels of those names.
    """
    with opened(file) as (source, parts):
        part = _part(file.path, parts, channels)
        _check_spec(file.path, part)
        positions = [position for channel in channels if (position := part.position(channel)) is not None]
        pixels = _decode(file, source, part, positions, alone=len(parts) == 1)
        return Image(
            pixels=_compose(pixels, part.spec),
            pixel_aspect=float(part.spec.get_float_attribute("PixelAspectRatio", 1.0)),
            lossy=_is_lossy(part, positions),
            aspect_stated=part.spec.get_float_attribute("PixelAspectRatio", -1.0) > 0,
        )


@contextmanager
def opened(file: Held) -> Iterator[tuple[oiio.ImageInput, tuple[Part, ...]]]:
    """The open file and its parts, headers only.

    Raises:
        InvalidInputError: No reader knows it, it is in a format that is refused, or its header is damaged.
    """
    source = None
    try:
        source = _open(file)
        yield source, tuple(_parts(source))
    except UnicodeDecodeError as error:
        # Damaged headers have names that are no text, and so have the library's messages about them.
        raise _damaged(file.path, "a header with names that are no text") from error
    finally:
        if source is not None:
            source.close()


@cache
def _one_thread() -> None:
    """Decode each image in the thread that asks, so that stages beside each other do not fight for cores."""
    oiio.attribute("threads", 1)


def _open(file: Held) -> oiio.ImageInput:
    _one_thread()
    wishes = oiio.ImageSpec()
    wishes.attribute("oiio:UnassociatedAlpha", 1)
    source = oiio.ImageInput.open(file.at, wishes)
    if source is None:
        raise _damaged(file.path, _why_not(file))
    if source.format_name() not in FORMATS:
        found = source.format_name()
        source.close()
        raise _damaged(file.path, f"{found}", remedy="write it as OpenEXR, or as PNG, TIFF or DPX")
    return source


def _why_not(file: Held) -> str:
    """What the reader says that the file's ending names; without an ending the library says only that none fits."""
    oiio.geterror()
    if file.path.is_file() and (source := oiio.ImageInput.open(str(file.path))) is not None:
        source.close()
    return _reason(file, oiio.geterror(), "a file that no reader knows")


def _parts(source: oiio.ImageInput) -> Iterator[Part]:
    index = 0
    while source.seek_subimage(index, 0):
        spec = source.spec()
        yield Part(index, spec.get_string_attribute("oiio:subimagename"), spec, source.format_name())
        index += 1


def _part(path: Path, parts: Sequence[Part], channels: Sequence[str]) -> Part:
    fitting = [part for part in parts if all(part.position(channel) is not None for channel in channels)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = ", ".join(channels)
    if not fitting:
        there = ", ".join(sorted({name for part in parts for name in part.channels()})) or "none"
        raise _damaged(path, f"the channels {there}", expected=f"channel {wanted}", remedy="name a channel it has")
    choices = ", ".join(f"{part.name}:{channels[0]}" for part in fitting)
    raise _damaged(
        path,
        f"{len(fitting)} parts that have it ({choices})",
        expected=f"channel {wanted} in one part",
        remedy="name the part before the channel, or write a file of one part",
    )


def _check_spec(path: Path, part: Part) -> None:
    spec = part.spec
    if spec.deep:
        raise _damaged(path, "a deep image", remedy="flatten it")
    for width, height in ((spec.width, spec.height), (spec.full_width, spec.full_height)):
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            raise _damaged(path, f"a window of {width} x {height}", expected=f"at most {MAX_PIXELS} pixels")
    if spec.depth > 1:
        raise _damaged(path, f"a volume {spec.depth} pixels deep", remedy="export a flat image")
    turned = spec.get_int_attribute("Orientation", 1)
    if turned not in {0, 1}:
        raise _damaged(path, f"a picture to be turned (orientation {turned})", remedy="export it upright")


def _decode(file: Held, source: oiio.ImageInput, part: Part, positions: Sequence[int], *, alone: bool) -> Pixels:
    kinds = {_kind(part.spec, position) for position in positions}
    if part.format == "openexr" and not kinds <= {"half", "float"}:
        found = f"{', '.join(sorted(kinds))} pixels"
        raise _damaged(file.path, found, expected="half or float pixels in those channels")
    kind = "half" if kinds == {"half"} else "float"
    if alone and len(kinds) == 1 and _is_large_and_plain(part, positions):
        pixels = _decode_plain(file, source, part, positions, kind)
        if pixels is not None:
            return pixels
    if max(positions) - min(positions) < 4 * len(positions):
        return _decode_span(file, source, part, positions, kind)
    planes = [_decode_span(file, source, part, [position], kind) for position in positions]
    return cast("Pixels", np.concatenate(planes, axis=2))


def _is_large_and_plain(part: Part, positions: Sequence[int]) -> bool:
    spec = part.spec
    large = spec.width * spec.height >= _openexr.WORTH_IT
    few = spec.nchannels <= max(4, 2 * len(positions))
    return part.format == "openexr" and large and spec.tile_width == 0 and few


def _decode_plain(
    file: Held, source: oiio.ImageInput, part: Part, positions: Sequence[int], kind: str
) -> Pixels | None:
    """Through OpenEXR, if first and last line are there: a file that was cut lacks one, whatever its line order."""
    spec = part.spec
    for row in (spec.y, spec.y + spec.height - 1):
        if source.read_scanlines(part.index, 0, row, row + 1, 0, positions[0], positions[0] + 1, kind) is None:
            raise _damaged(file.path, _reason(file, source.geterror(), "a file that ends too early"))
    pixels = _openexr.decode(file.at, [part.channels()[position] for position in positions])
    if pixels is None or pixels.shape[:2] != (spec.height, spec.width):
        return None
    return cast("Pixels", pixels) if pixels.dtype == (np.float16 if kind == "half" else np.float32) else None


def _decode_span(file: Held, source: oiio.ImageInput, part: Part, positions: Sequence[int], kind: str) -> Pixels:
    """Through OpenImageIO: one reading of all channels between the first and the last of them."""
    first, last = min(positions), max(positions) + 1
    read = source.read_image(part.index, 0, first, last, kind)
    if read is None:
        raise _damaged(file.path, _reason(file, source.geterror(), "a file that ends too early"))
    wanted = [position - first for position in positions]
    return cast("Pixels", read if wanted == list(range(last - first)) else read[..., wanted])


def _kind(spec: oiio.ImageSpec, position: int) -> str:
    formats = spec.channelformats
    return str(formats[position] if formats else spec.format)


def _compose(pixels: Pixels, spec: oiio.ImageSpec) -> Pixels:
    """Put the data window into the display window; both are given in the same pixel coordinates."""
    left, top = spec.x - spec.full_x, spec.y - spec.full_y
    if (left, top) == (0, 0) and pixels.shape[:2] == (spec.full_height, spec.full_width):
        return pixels
    display = np.zeros((spec.full_height, spec.full_width, pixels.shape[2]), pixels.dtype)
    rows, columns = _overlap(top, spec.height, spec.full_height), _overlap(left, spec.width, spec.full_width)
    if rows and columns:
        source = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        display[rows.start : rows.stop, columns.start : columns.stop] = source
    return display


def _overlap(start: int, length: int, whole: int) -> range:
    return range(max(start, 0), min(start + length, whole))


_DWA_LOSES = frozenset({"R", "G", "B", "Y", "RY", "BY"})
"""Channels that DWA takes for colour, by the end of their name and to the letter: ``hair.R``, not ``hair.red``."""


def _is_lossy(part: Part, positions: Sequence[int]) -> bool:
    """Whether the file's compression may have changed these channels: JPEG's changes all, others some."""
    compression = part.spec.get_string_attribute("compression").lower()
    kinds = {_kind(part.spec, position) for position in positions}
    names = [part.channels()[position] for position in positions]
    if part.format == "jpeg" or "jpeg" in compression:
        return True
    if compression.startswith("dwa"):
        return any(name.rpartition(".")[2] in _DWA_LOSES for name in names)
    if compression.startswith("lj2k"):
        return any(_is_of_three(part, name) for name in names)
    return (compression.startswith("b44") and "half" in kinds) or (compression == "pxr24" and "float" in kinds)


def _is_of_three(part: Part, name: str) -> bool:
    """Whether a channel is R, G or B of a layer that has all three, which LJ2K loses together."""
    layer, dot, end = name.rpartition(".")
    return end in _COLOURS and all(f"{layer}{dot}{letter}" in part.channels() for letter in _COLOURS)


def _reason(file: Held, said: str, otherwise: str) -> str:
    """The end of a library's account of what went wrong, which is where it says why it gave up."""
    last = said.strip().rpartition("\n")[2].replace(file.at, file.path.name)[:200]
    return last or otherwise


def _damaged(
    path: Path,
    actual: str,
    *,
    expected: str = "a complete OpenEXR, PNG, TIFF or DPX image",
    remedy: str = "render or export the file again",
) -> InvalidInputError:
    readable = "".join(sign if sign.isprintable() else " " for sign in actual)
    return InvalidInputError("image", where=str(path), expected=expected, actual=readable, remedy=remedy)
