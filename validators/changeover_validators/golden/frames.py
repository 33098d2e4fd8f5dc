"""One frame of a golden shot, decoded and checked: its plate, its approved matte, the region outside which all is void.

A file is read once: the bytes that are hashed are those that are decoded. The same checks hold when a shot is added and
when it is scored; only whose fault a bad file is differs, so `measuring` turns the one error into the other. Left out:
sequences, digests and records (`sequences`, `shots`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_registry.records.golden import GoldenFrame, GoldenInput, GoldenShot
from changeover_validators.golden.held import Held, held
from changeover_validators.golden.images import Image, Pixels, decode, read_image
from changeover_validators.golden.kept import sha256

__all__ = [
    "SNAP",
    "at_frame",
    "check_bytes",
    "check_size",
    "matte_of",
    "measuring",
    "read_input",
    "read_matte",
    "read_plate",
    "read_region",
    "read_truth",
    "settled",
    "sha256",
]

SNAP = 1 - 2**-11
"""A truth from here up is 1: the largest half below 1, which is what an opaque pixel becomes on many roads."""


def read_truth(shot: GoldenShot, folder: Path, frame: GoldenFrame, *, second: bool = False) -> NDArray[np.float32]:
    """The approved matte of a frame [H, W], 0..1, `settled`; with `second`, the other artist's.

    Args:
        shot: The shot's record.
        folder: Its folder.
        frame: One of its frames that has such a matte.
        second: Which matte.

    Raises:
        InvalidInputError: There is none, it is not the one that was added, cannot be read, holds NaN or infinity, or is
            not as large as the plate; names file and frame.
    """
    file, digest = (frame.second, frame.second_sha256) if second else (frame.matte, frame.matte_sha256)
    own = second and shot.second_channel is not None
    channel = shot.second_channel if own and shot.second_channel is not None else shot.matte_channel
    with at_frame(frame.number), _kept(folder, file, digest) as kept:
        image = matte_of(kept, channel, None if own else shot.matte_object)
        check_size(kept.path, image.size, (shot.width, shot.height))
        return settled(image.pixels)[..., 0]


def read_plate(shot: GoldenShot, folder: Path, frame: GoldenFrame, channels: Sequence[str]) -> Image:
    """The named channels of a frame's plate; they may hold NaN or infinity.

    Raises:
        InvalidInputError: It is not the one that was added, cannot be read, lacks a channel, or has another size than
            the shot; names file and frame.
    """
    with at_frame(frame.number), _kept(folder, frame.plate, frame.plate_sha256) as kept:
        return _as_large_as(shot, kept, channels)


def read_input(shot: GoldenShot, folder: Path, frame: GoldenFrame, given: GoldenInput) -> Image:
    """The channels of a further input of a frame, as `read_plate`.

    Raises:
        InvalidInputError: As `read_plate`.
    """
    with at_frame(frame.number), _kept(folder, given.file, given.sha256) as kept:
        return _as_large_as(shot, kept, given.channels)


def _as_large_as(shot: GoldenShot, kept: Held, channels: Sequence[str]) -> Image:
    image = decode(kept, channels)
    check_size(kept.path, image.size, (shot.width, shot.height))
    return image


@contextmanager
def _kept(folder: Path, file: str | None, digest: str | None) -> Iterator[Held]:
    """The bytes of a file of a shot, if they are those that were added."""
    if file is None:
        raise InvalidInputError(
            "golden file",
            where=str(folder),
            expected="a matte of this frame",
            actual="none in the shot's record",
            remedy="add the shot again with the matte",
        )
    with held(folder / file) as kept:
        if kept.sha256 != digest:
            raise _changed(folder / file, digest, kept.sha256)
        yield kept


def read_matte(path: Path, channel: str, wanted: str | None = None) -> Image:
    """An approved matte [H, W, 1]; `wanted` is an object of the Cryptomatte layer `channel`.

    Raises:
        InvalidInputError: The file cannot be read, lacks channel or object, or holds NaN or infinity.
    """
    with held(path) as file:
        return matte_of(file, channel, wanted)


def matte_of(file: Held, channel: str, wanted: str | None) -> Image:
    """As `read_matte`, of bytes that are held."""
    from changeover_validators.golden.cryptomatte import named, read_coverage

    image = decode(file, (channel,)) if wanted is None else read_coverage(file, channel, named(wanted))
    bad = int(np.count_nonzero(~np.isfinite(image.pixels)))
    if bad:
        raise InvalidInputError(
            "matte",
            where=str(file.path),
            expected=f"finite values in channel {channel}",
            actual=f"{bad} pixels of NaN or infinity",
            remedy="correct the matte; a truth has no such pixel",
        )
    return image


def settled(pixels: Pixels) -> NDArray[np.float32]:
    """A matte [H, W, C] as it is scored: float32, cut to 0..1, and what is `SNAP` or more is 1.

    Half cannot hold 254.9/255, and a renderer's opaque pixel is often the half below 1; Conn asks for exact 1.
    """
    if pixels.dtype == np.float16:
        from changeover_validators.golden._kernels_colour import look_up

        answer = np.empty(pixels.shape, np.float32)
        look_up(pixels.view(np.uint16), _settled_halves(), np.zeros(pixels.shape[2], np.intp), answer)
        return answer
    return _settle(pixels)


def _settle(pixels: Pixels) -> NDArray[np.float32]:
    cut = np.clip(pixels.astype(np.float32, copy=False), 0, 1)
    cut[cut >= np.float32(SNAP)] = 1
    return cut


@cache
def _settled_halves() -> NDArray[np.float32]:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, -1)
    return _settle(np.where(np.isfinite(halves), halves, np.float16(0)))


def read_region(path: Path, channel: str) -> NDArray[np.bool_]:
    """The scored region [H, W]: True where the channel is above 0.5.

    Raises:
        InvalidInputError: The file cannot be read, lacks the channel, or no pixel is inside.
    """
    region: NDArray[np.bool_] = read_image(path, (channel,)).pixels[..., 0] > 0.5
    if not region.any():
        raise InvalidInputError(
            "region",
            where=str(path),
            expected=f"at least one pixel of channel {channel} above 0.5",
            actual="none",
            remedy="give the region that is to be scored, or none to score the whole frame",
        )
    return region


def check_bytes(path: Path, expected: str | None) -> None:
    """See that a file is there and is the one that was added, by its sha256.

    Raises:
        InvalidInputError: It is gone, or has other bytes.
    """
    found = sha256(path) if path.is_file() else None
    if found is None or found != expected:
        raise _changed(path, expected, found)


def _changed(path: Path, expected: str | None, found: str | None) -> InvalidInputError:
    return InvalidInputError(
        "golden file",
        where=str(path),
        expected=f"the file that was added (sha256 {str(expected)[:12]})",
        actual="no file" if found is None else f"one with sha256 {found[:12]}",
        remedy="bring the file back",
    )


def check_size(path: Path, size: tuple[int, int], plate: tuple[int, int]) -> None:
    """See that an image is as large as the plate; sizes are (width, height) of display windows.

    Raises:
        InvalidInputError: It is not; both sizes are named.
    """
    if size != plate:
        raise InvalidInputError(
            "size",
            where=str(path),
            expected=f"{plate[0]} x {plate[1]} as the plate",
            actual=f"{size[0]} x {size[1]}",
            remedy="render plate, matte and region in one format",
        )


@contextmanager
def at_frame(number: int) -> Iterator[None]:
    """Add the frame number to what goes wrong inside."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(
            error.rule,
            where=f"{error.where}, frame {number}",
            expected=error.expected,
            actual=error.actual,
            remedy=error.remedy,
        ) from error


@contextmanager
def measuring(shot: str) -> Iterator[None]:
    """Turn what is wrong with a file of `shot` into a verdict that could not be measured."""
    try:
        yield
    except InvalidInputError as error:
        raise MeasurementError(
            error.rule,
            where=f"golden shot {shot}: {error.where}",
            expected=error.expected,
            actual=error.actual,
            remedy="bring the file back from the archive, or add the shot again",
        ) from error
