"""A new shot's files on their way in: copied into a staging folder, decoded from the copy, hashed.

What is decoded is what will be kept, from the bytes that were hashed. A message names the file that the person gave,
not the copy. Frames are looked at by a few threads. Left out: where the folder ends up and which record names it
(`shots`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError
from changeover_registry.names import check_name
from changeover_registry.records.golden import GoldenFrame, GoldenInput
from changeover_validators.golden._copy import copy_file
from changeover_validators.golden.cryptomatte import check_object, without_object
from changeover_validators.golden.frames import SNAP, at_frame, check_size, matte_of, read_region, sha256
from changeover_validators.golden.held import held
from changeover_validators.golden.images import Image, Pixels, decode
from changeover_validators.golden.sequences import SUFFIXES, FrameFile

__all__ = ["Look", "Source", "Staged", "pair_frames", "stage"]

_PLATE_CHANNELS = ("R", "G", "B")
_THREADS = 3
"""Frames in memory at a time: one is copied and one decoded while a third waits for the disk."""

_ASPECT = 1e-3
"""How far two pixel aspects may differ: files keep them as 32-bit floats, and people round them."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a new shot.

    Attributes:
        plates: Every plate; those without a matte are fed and not scored.
        mattes: The matte of each scored frame by its number.
        matte_channel: Its channel, or its Cryptomatte layer.
        region: An image outside which nothing is scored.
        region_channel: Its channel; without one, the mattes'.
        matte_object: The object of the Cryptomatte, by name or as ``0x1a2b3c4d``.
        seconds: Another artist's mattes of the same frames, by number.
        second_channel: Their channel; without one, they are read as the mattes are.
        inputs: Further images that an interface names: port, file by frame number, channels.
        ocio: The studio's colour configuration, a file.
        missing: Frame numbers that nobody has and that are allowed to be missing.
    """

    plates: tuple[FrameFile, ...]
    mattes: Mapping[int, Path]
    matte_channel: str
    region: Path | None = None
    region_channel: str | None = None
    matte_object: str | None = None
    seconds: Mapping[int, Path] = field(default_factory=dict)
    second_channel: str | None = None
    inputs: tuple[tuple[str, Mapping[int, Path], tuple[str, ...]], ...] = ()
    ocio: Path | None = None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in the files of one frame. Sizes are (width, height) in pixels; ranges are (lowest, highest).

    Attributes:
        number: The frame's number.
        size: The plate's size; all files of the shot have it.
        pixel_aspect: The plate's; all files that state one have it.
        plate_constant: Whether the plate is the same value everywhere.
        plate_not_finite: How many of its values are NaN or infinite.
        matte_range: The matte's range; None where the frame has none.
        matte_lossy: Whether its file may have changed its values.
        plate_lossy: Whether the plate's file may have.
        plate_range: The range of the plate's finite values; None where there are none.
        matte_outside: How many of the matte's values lie outside 0..1; scoring cuts them.
        matte_snapped: How many lie between `frames.SNAP` and 1; scoring takes them for 1.
        second_range: The second artist's matte's range; None where there is none.
        second_lossy: As `matte_lossy`.
        second_same: Whether both mattes are one file, which says nothing of how far two people differ.
        inputs_not_finite: How many values of further inputs are NaN or infinite.
        edge_hidden: Whether the matte has an edge and no pixel of it lies inside the region.
    """

    number: int
    size: tuple[int, int]
    pixel_aspect: float
    plate_constant: bool
    plate_not_finite: int
    matte_range: tuple[float, float] | None
    matte_lossy: bool
    plate_lossy: bool = False
    plate_range: tuple[float, float] | None = None
    matte_outside: int = 0
    matte_snapped: int = 0
    second_range: tuple[float, float] | None = None
    second_lossy: bool = False
    second_same: bool = False
    inputs_not_finite: int = 0
    edge_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """What lies in the staging folder: frames, region and colour configuration with digests, and what was seen."""

    frames: tuple[GoldenFrame, ...]
    looks: tuple[Look, ...]
    region: str | None
    region_sha256: str | None
    ocio_config: str | None = None
    ocio_config_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """One file that was copied: its name under the shot's folder, its digest, and the image in it."""

    name: str
    sha256: str
    image: Image


def pair_frames(
    plates: Sequence[FrameFile], mattes: Sequence[FrameFile], pre_roll: int, *, allow_missing: bool = False
) -> Mapping[int, Path]:
    """The matte of every frame that is scored; the first `pre_roll` frames are not. Two stills are a pair.

    With `allow_missing` a frame after the pre-roll may lack its matte, and is then fed and not scored.

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
    if missing and not (allow_missing and len(missing) < len(scored)):
        raise _refused("frames", str(mattes[0].path), f"a matte for frame {missing[0]}", "none")
    if extra and not allow_missing:
        raise _refused("frames", str(plates[0].path), f"a plate for the matte of frame {extra[0]}", "none")
    return {number: there[number] for number in scored if number in there}


def stage(folder: Path, source: Source, progress: Callable[[int, int], None]) -> Staged:
    """Copy every file of `source` into the empty `folder`, and look at it there.

    Raises:
        InvalidInputError: A file cannot be read, differs in size or pixel aspect, or belongs to no frame; no file names
            the object; names file and frame.
        OSError: The disk is full or read-only.
    """
    _check_inputs(source)
    if source.matte_object is not None:
        check_object(source.mattes, source.matte_channel, source.matte_object)
    region, digest, inside = _stage_region(folder, source)
    frames, looks = _stage_frames(folder, source, inside, progress)
    if source.region is not None and inside is not None:
        check_size(source.region, (inside.shape[1], inside.shape[0]), looks[0].size)
    config, config_digest = _stage_config(folder, source)
    return Staged(frames, looks, region, digest, config, config_digest)


def _check_inputs(source: Source) -> None:
    numbers = {plate.number for plate in source.plates}
    given = [(f"input {port}", files) for port, files, _ in source.inputs]
    for port, _, _ in source.inputs:
        check_name(port, where="input")
    for what, files in (*given, ("second matte", source.seconds)):
        strays = sorted(set(files) - numbers)
        if strays:
            expected = f"a plate for the {what} of frame {strays[0]}"
            raise _refused("frames", str(files[strays[0]]), expected, "none")


def _stage_frames(
    folder: Path, source: Source, inside: NDArray[np.bool_] | None, progress: Callable[[int, int], None]
) -> tuple[tuple[GoldenFrame, ...], tuple[Look, ...]]:
    frames: list[GoldenFrame] = []
    looks: list[Look] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            for frame, look in threads.map(lambda plate: _stage_frame(folder, source, inside, plate), source.plates):
                plate = source.plates[len(frames)]
                with at_frame(plate.number):
                    _check_alike(plate.path, look, looks[0] if looks else look)
                frames.append(frame)
                looks.append(look)
                progress(len(frames), len(source.plates))
        finally:
            threads.shutdown(cancel_futures=True)
    return tuple(frames), tuple(looks)


def _stage_frame(
    folder: Path, source: Source, inside: NDArray[np.bool_] | None, plate: FrameFile
) -> tuple[GoldenFrame, Look]:
    number = plate.number
    with at_frame(number):
        shown = _stage_file(folder, plate.path, f"plate/plate.{number:04d}", _PLATE_CHANNELS)
        truth = _stage_matte(folder, source, number, shown.image)
        second = _stage_second(folder, source, number, shown.image)
        inputs = tuple(_stage_inputs(folder, source, number, shown.image))
    frame = GoldenFrame(
        number=number,
        plate=shown.name,
        plate_sha256=shown.sha256,
        matte=None if truth is None else truth.name,
        matte_sha256=None if truth is None else truth.sha256,
        scored=truth is not None,
        second=None if second is None else second.name,
        second_sha256=None if second is None else second.sha256,
        inputs=tuple(given for given, _ in inputs) or None,
    )
    look = _look(number, shown, truth, second, sum(bad for _, bad in inputs))
    hidden = truth is not None and inside is not None and _hides_edge(inside, truth.image.pixels[..., 0])
    return frame, replace(look, edge_hidden=hidden)


def _stage_matte(folder: Path, source: Source, number: int, plate: Image) -> _File | None:
    path = source.mattes.get(number)
    if path is None:
        return None
    try:
        staged = _stage_truth(folder, path, f"matte/matte.{number:04d}", source.matte_channel, source.matte_object)
    except InvalidInputError as error:
        # A layer is no channel, and a list of all channels would not say what is missing.
        asked = None if source.matte_object else without_object(path, source.matte_channel)
        raise asked or error from error
    _check_fits(path, staged.image, plate)
    return staged


def _stage_second(folder: Path, source: Source, number: int, plate: Image) -> _File | None:
    path = source.seconds.get(number)
    if path is None:
        return None
    wanted = source.matte_object if source.second_channel is None else None
    channel = source.second_channel or source.matte_channel
    staged = _stage_truth(folder, path, f"second/second.{number:04d}", channel, wanted)
    _check_fits(path, staged.image, plate)
    return staged


def _stage_inputs(folder: Path, source: Source, number: int, plate: Image) -> Iterator[tuple[GoldenInput, int]]:
    for port, files, channels in source.inputs:
        if number in files:
            staged = _stage_file(folder, files[number], f"input/{port}.{number:04d}", channels)
            _check_fits(files[number], staged.image, plate)
            bad = int(np.count_nonzero(~np.isfinite(staged.image.pixels)))
            yield GoldenInput(port=port, file=staged.name, sha256=staged.sha256, channels=channels), bad


def _stage_file(folder: Path, path: Path, stem: str, channels: Sequence[str]) -> _File:
    name = _copy(path, folder, stem)
    with _naming(folder / name, path), held(folder / name) as copy:
        return _File(name, copy.sha256, decode(copy, channels))


def _stage_truth(folder: Path, path: Path, stem: str, channel: str, wanted: str | None) -> _File:
    name = _copy(path, folder, stem)
    with _naming(folder / name, path), held(folder / name) as copy:
        return _File(name, copy.sha256, matte_of(copy, channel, wanted))


def _look(number: int, plate: _File, truth: _File | None, second: _File | None, inputs_not_finite: int) -> Look:
    pixels = plate.image.pixels
    finite = np.isfinite(pixels)
    bad = int(finite.size - np.count_nonzero(finite))
    matte = None if truth is None else truth.image.pixels
    return Look(
        number=number,
        size=plate.image.size,
        pixel_aspect=plate.image.pixel_aspect,
        plate_constant=bool((pixels == pixels[0, 0]).all()),
        plate_not_finite=bad,
        matte_range=_range(truth),
        matte_lossy=truth is not None and truth.image.lossy,
        plate_lossy=plate.image.lossy,
        plate_range=None if bad == pixels.size else _extremes(pixels[finite] if bad else pixels),
        matte_outside=0 if matte is None else int(np.count_nonzero((matte < 0) | (matte > 1))),
        matte_snapped=0 if matte is None else int(np.count_nonzero((matte >= SNAP) & (matte < 1))),
        second_range=_range(second),
        second_lossy=second is not None and second.image.lossy,
        second_same=truth is not None and second is not None and truth.sha256 == second.sha256,
        inputs_not_finite=inputs_not_finite,
    )


def _hides_edge(inside: NDArray[np.bool_], matte: Pixels) -> bool:
    """Whether a matte [H, W] has an edge and none of it is inside; a region of another size is refused elsewhere."""
    if inside.shape != matte.shape:
        return False
    edge = (matte > 0) & (matte < 1)
    mask = matte > 0.5
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    for side, change in ((edge[:, 1:], across), (edge[:, :-1], across), (edge[1:], down), (edge[:-1], down)):
        np.logical_or(side, change, out=side)
    return bool(edge.any()) and not bool((edge & inside).any())


def _range(file: _File | None) -> tuple[float, float] | None:
    return None if file is None else _extremes(file.image.pixels)


def _extremes(pixels: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> tuple[float, float]:
    return float(pixels.min()), float(pixels.max())


def _check_alike(path: Path, look: Look, first: Look) -> None:
    check_size(path, look.size, first.size)
    _check_aspect(path, look.pixel_aspect, first.pixel_aspect)


def _check_fits(path: Path, image: Image, plate: Image) -> None:
    check_size(path, image.size, plate.size)
    if image.aspect_stated and plate.aspect_stated:
        _check_aspect(path, image.pixel_aspect, plate.pixel_aspect)


def _check_aspect(path: Path, found: float, expected: float) -> None:
    if abs(found - expected) > _ASPECT * expected:
        raise _refused("pixel aspect", str(path), f"{expected:g} as the plate", f"{found:g}")


def _stage_region(folder: Path, source: Source) -> tuple[str | None, str | None, NDArray[np.bool_] | None]:
    """The region's name, its digest, and what is inside [H, W]."""
    if source.region is None:
        return None, None, None
    name = _copy(source.region, folder, "region")
    with _naming(folder / name, source.region):
        inside = read_region(folder / name, source.region_channel or source.matte_channel)
    return name, sha256(folder / name), inside


def _stage_config(folder: Path, source: Source) -> tuple[str | None, str | None]:
    """Keep the colour configuration with the shot; whether the shot's colour is in it is for `colour` to say."""
    if source.ocio is None:
        return None, None
    suffix = source.ocio.suffix.lower()
    if suffix not in {".ocio", ".ocioz"}:
        raise _refused("colour", str(source.ocio), "a file .ocio or .ocioz", suffix or "a file without an ending")
    name = f"config{suffix}"
    copy_file(source.ocio, folder / name)
    return name, sha256(folder / name)


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
            actual=error.actual.replace(str(copy), str(original)).replace(copy.name, original.name),
            remedy=error.remedy,
        ) from error


def _copy(source: Path, folder: Path, stem: str) -> str:
    """Copy a file under the name `stem` and its own ending if that is one of an image; returns the name."""
    suffix = source.suffix.lower()
    name = f"{stem}{suffix if suffix in SUFFIXES else '.image'}"
    copy_file(source, folder / name)
    return name


def _refused(rule: str, where: str, expected: str, actual: str) -> InvalidInputError:
    remedy = "correct it and add the shot again"
    return InvalidInputError(rule, where=where, expected=expected, actual=actual, remedy=remedy)
