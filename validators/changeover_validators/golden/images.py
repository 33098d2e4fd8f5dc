"""Reading plates and mattes: OpenEXR, PNG, TIFF and DPX, through one function of one library (OpenImageIO).

What is returned is the display window: pixels of the data window lie where they belong, all else is 0, and what hangs
over is cut off. Channels are named explicitly: ``R``, ``A``, ``layer.name``, and ``part:name`` where several parts of a
file have a channel of that name. Only the part that is asked for is decoded. Integer formats become 0 to 1; an alpha is
neither multiplied in nor divided out. Half pixels stay half, which is what makes the colour table possible.

Refused, each by name: damaged and truncated files, other formats (JPEG is lossy), deep and subsampled images, channels
of identifiers (uint), and sizes that no plate has, before any memory is taken for them. Left out: what NaN means.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError

__all__ = ["FORMATS", "Image", "read_image", "read_plane", "read_plate"]

FORMATS = frozenset({"openexr", "png", "tiff", "dpx"})
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
    """

    pixels: Pixels
    pixel_aspect: float
    lossy: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a file: its index, its name ("" if it has none) and OpenImageIO's description of it."""

    index: int
    name: str
    spec: oiio.ImageSpec

    def channels(self) -> tuple[str, ...]:
        return tuple(self.spec.channelnames)

    def has(self, wanted: str) -> bool:
        part, colon, channel = wanted.rpartition(":")
        names = self.channels()
        return _in_file(wanted, names) in names or (bool(colon) and part == self.name and channel in names)

    def position(self, wanted: str) -> int:
        names = self.channels()
        known = _in_file(wanted, names)
        return names.index(known if known in names else wanted.rpartition(":")[2])


_FILE_NAMES = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}
"""What Nuke and artists call a channel (also ``rgba.red``), and what it is called in files."""


def _in_file(wanted: str, names: tuple[str, ...]) -> str:
    """The name in the file: the one that is wanted, else the file's name for what artists call it."""
    return wanted if wanted in names else _FILE_NAMES.get(wanted.removeprefix("rgba."), wanted)


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
    try:
        with closing(_open(path)) as file:
            return _read(path, file, channels)
    except UnicodeDecodeError as error:
        # Damaged headers have names that are no text, and so have the library's messages about them.
        raise _damaged(path, "a header with names that are no text") from error


def _read(path: Path, file: oiio.ImageInput, channels: Sequence[str]) -> Image:
    part = _part(path, _parts(file), channels)
    _check_spec(path, part.spec)
    positions = [part.position(channel) for channel in channels]
    pixels = _decode(path, file, part, positions)
    return Image(
        pixels=_compose(pixels, part.spec),
        pixel_aspect=float(part.spec.get_float_attribute("PixelAspectRatio", 1.0)),
        lossy=_is_lossy(part, positions),
    )


def _open(path: Path) -> oiio.ImageInput:
    if not path.is_file():
        raise _damaged(path, "no file", remedy="bring the file back")
    wishes = oiio.ImageSpec()
    wishes.attribute("oiio:UnassociatedAlpha", 1)
    file = oiio.ImageInput.open(str(path), wishes)
    if file is None:
        raise _damaged(path, _last_line(oiio.geterror()) or "a file that no reader knows")
    if file.format_name() not in FORMATS:
        found = file.format_name()
        file.close()
        raise _damaged(path, f"{found}", remedy="write it as OpenEXR, or as PNG, TIFF or DPX")
    return file


def _parts(file: oiio.ImageInput) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    while file.seek_subimage(len(parts), 0):
        spec = file.spec()
        parts.append(_Part(len(parts), spec.get_string_attribute("oiio:subimagename"), spec))
    return tuple(parts)


def _part(path: Path, parts: Sequence[_Part], channels: Sequence[str]) -> _Part:
    fitting = [part for part in parts if all(part.has(channel) for channel in channels)]
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


def _check_spec(path: Path, spec: oiio.ImageSpec) -> None:
    if spec.deep:
        raise _damaged(path, "a deep image", remedy="flatten it")
    for width, height in ((spec.width, spec.height), (spec.full_width, spec.full_height)):
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            raise _damaged(path, f"a window of {width} x {height}", expected=f"at most {MAX_PIXELS} pixels")


def _decode(path: Path, file: oiio.ImageInput, part: _Part, positions: Sequence[int]) -> Pixels:
    kinds = {_kind(part.spec, position) for position in positions}
    if file.format_name() == "openexr" and not kinds <= {"half", "float"}:
        raise _damaged(path, f"{', '.join(sorted(kinds))} pixels", expected="half or float pixels in those channels")
    first, last = min(positions), max(positions) + 1
    read = file.read_image(part.index, 0, first, last, "half" if kinds == {"half"} else "float")
    if read is None:
        raise _damaged(path, _last_line(file.geterror()) or "a file that ends too early")
    pixels: Pixels = read[..., [position - first for position in positions]]
    return pixels


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


def _is_lossy(part: _Part, positions: Sequence[int]) -> bool:
    """Whether DWA or B44 took these channels as colour, or PXR24 cut their floats."""
    compression = part.spec.get_string_attribute("compression").lower()
    names = [part.channels()[position].rpartition(".")[2].upper() for position in positions]
    if compression.startswith("dwa"):
        return any(name in {"R", "G", "B", "Y", "RED", "GREEN", "BLUE"} for name in names)
    if compression.startswith("b44"):
        return any(_kind(part.spec, position) == "half" for position in positions)
    return compression.startswith("pxr24") and any(_kind(part.spec, position) == "float" for position in positions)


def _last_line(said: str) -> str:
    """The end of a library's account of what went wrong, which is where it says why it gave up."""
    return said.strip().rpartition("\n")[2][:200]


def _damaged(
    path: Path,
    actual: str,
    *,
    expected: str = "a complete OpenEXR, PNG, TIFF or DPX image",
    remedy: str = "render or export the file again",
) -> InvalidInputError:
    readable = "".join(sign if sign.isprintable() else " " for sign in actual)
    return InvalidInputError("image", where=str(path), expected=expected, actual=readable, remedy=remedy)
