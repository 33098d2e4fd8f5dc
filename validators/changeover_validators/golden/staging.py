"""A new shot's files on their way in: copied into a staging folder, decoded from the copy, hashed.

What is decoded is what will be kept. A message names the file that the person gave, not the copy. Left out: where the
folder ends up and which record names it (`shots`).
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenFrame
from changeover_validators.golden.frames import at_frame, check_size, read_matte, read_region, sha256
from changeover_validators.golden.images import Image, read_image
from changeover_validators.golden.sequences import FrameFile

__all__ = ["Look", "Source", "Staged", "pair_frames", "stage"]

_PLATE_CHANNELS = ("R", "G", "B")


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a new shot: every plate, the matte of each scored frame by its number, the region."""

    plates: tuple[FrameFile, ...]
    mattes: Mapping[int, Path]
    matte_channel: str
    region: Path | None = None
    region_channel: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in the files of one frame. Sizes are (width, height) in pixels; ranges are (lowest, highest)."""

    number: int
    size: tuple[int, int]
    pixel_aspect: float
    plate_constant: bool
    plate_not_finite: int
    matte_range: tuple[float, float] | None
    matte_lossy: bool


@dataclass(frozen=True, slots=True)
class Staged:
    """What lies in the staging folder: frames with their digests, the region, and what was seen."""

    frames: tuple[GoldenFrame, ...]
    looks: tuple[Look, ...]
    region: str | None
    region_sha256: str | None


def pair_frames(plates: Sequence[FrameFile], mattes: Sequence[FrameFile], pre_roll: int) -> Mapping[int, Path]:
    """The matte of every frame that is scored; the first `pre_roll` frames are not. Two stills are a pair.

    Raises:
        InvalidInputError: A scored frame has no matte, a matte has no plate, or no frame is left to score.
    """
    if not 0 <= pre_roll < len(plates):
        actual = str(pre_roll)
        raise _refused(
            "pre-roll", str(plates[0].path), f"0 to {len(plates) - 1} frames before the first scored", actual
        )
    if len(plates) == len(mattes) == 1:
        return {plates[0].number: mattes[0].path}
    there = {frame.number: frame.path for frame in mattes}
    scored = [frame.number for frame in plates[pre_roll:]]
    missing = [number for number in scored if number not in there]
    extra = sorted(set(there) - {frame.number for frame in plates})
    if missing:
        raise _refused("frames", str(mattes[0].path), f"a matte for frame {missing[0]}", "none")
    if extra:
        raise _refused("frames", str(plates[0].path), f"a plate for the matte of frame {extra[0]}", "none")
    return {number: there[number] for number in scored}


def stage(folder: Path, source: Source, progress: Callable[[int, int], None]) -> Staged:
    """Copy every file of `source` into the empty `folder`, and look at it there.

    Raises:
        InvalidInputError: A file cannot be read or differs in size; names file and frame.
        OSError: The disk is full or read-only.
    """
    frames: list[GoldenFrame] = []
    looks: list[Look] = []
    for done, plate in enumerate(source.plates, start=1):
        with at_frame(plate.number):
            frame, look = _stage_frame(folder, plate, source.mattes.get(plate.number), source.matte_channel)
            check_size(plate.path, look.size, looks[0].size if looks else look.size)
        frames.append(frame)
        looks.append(look)
        progress(done, len(source.plates))
    region, digest = _stage_region(folder, source, looks[0].size)
    return Staged(tuple(frames), tuple(looks), region, digest)


def _stage_frame(folder: Path, plate: FrameFile, matte: Path | None, channel: str) -> tuple[GoldenFrame, Look]:
    plate_name = f"plate/plate.{plate.number:04d}{plate.path.suffix.lower()}"
    matte_name = None if matte is None else f"matte/matte.{plate.number:04d}{matte.suffix.lower()}"
    plate_sha256 = _copy(plate.path, folder / plate_name)
    with _naming(folder / plate_name, plate.path):
        image = read_image(folder / plate_name, _PLATE_CHANNELS)
    truth = matte_sha256 = None
    if matte is not None and matte_name is not None:
        matte_sha256 = _copy(matte, folder / matte_name)
        with _naming(folder / matte_name, matte):
            truth = read_matte(folder / matte_name, channel)
            check_size(matte, truth.size, image.size)
    frame = GoldenFrame(
        number=plate.number,
        plate=plate_name,
        plate_sha256=plate_sha256,
        matte=matte_name,
        matte_sha256=matte_sha256,
        scored=matte is not None,
    )
    return frame, _look(plate.number, image, truth)


def _look(number: int, plate: Image, truth: Image | None) -> Look:
    return Look(
        number=number,
        size=plate.size,
        pixel_aspect=plate.pixel_aspect,
        plate_constant=bool((plate.pixels == plate.pixels[0, 0]).all()),
        plate_not_finite=int(np.count_nonzero(~np.isfinite(plate.pixels))),
        matte_range=None if truth is None else (float(truth.pixels.min()), float(truth.pixels.max())),
        matte_lossy=truth is not None and truth.lossy,
    )


def _stage_region(folder: Path, source: Source, size: tuple[int, int]) -> tuple[str | None, str | None]:
    if source.region is None:
        return None, None
    name = f"region{source.region.suffix.lower()}"
    digest = _copy(source.region, folder / name)
    with _naming(folder / name, source.region):
        region = read_region(folder / name, source.region_channel or source.matte_channel)
        check_size(source.region, (region.shape[1], region.shape[0]), size)
    return name, digest


@contextmanager
def _naming(copy: Path, original: Path) -> Iterator[None]:
    """Name the person's own file in what goes wrong with our copy of it."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(
            error.rule,
            where=error.where.replace(str(copy), str(original)),
            expected=error.expected,
            actual=error.actual.replace(str(copy), str(original)),
            remedy=error.remedy,
        ) from error


def _copy(source: Path, target: Path) -> str:
    """Copy a file, sharing its blocks where the file system can, and return the sha256 of the copy."""
    target.parent.mkdir(exist_ok=True)
    if not _reflink(source, target):
        shutil.copyfile(source, target)
    return sha256(target)


def _reflink(source: Path, target: Path) -> bool:
    """Share blocks between two files; False where the file system, or this system, has no such thing."""
    if sys.platform != "linux":  # pragma: windows
        return False
    import fcntl  # The module exists on POSIX alone.

    ficlone = 0x40049409
    with source.open("rb") as old, target.open("wb") as fresh:
        try:
            fcntl.ioctl(fresh, ficlone, old.fileno())
        except OSError:
            return False
    return True


def _refused(rule: str, where: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        rule, where=where, expected=expected, actual=actual, remedy="correct it and add the shot again"
    )
