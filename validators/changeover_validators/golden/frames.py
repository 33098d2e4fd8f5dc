"""One frame of a golden shot, decoded and checked: its plate, its approved matte, the region outside which all is void.

The same checks hold when a shot is added and when it is scored; only whose fault a bad file is differs, so `measuring`
turns the one error into the other. Left out: sequences, digests and records (`sequences`, `shots`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_validators.golden.images import Image, read_image

__all__ = ["at_frame", "check_bytes", "check_size", "measuring", "read_matte", "read_region", "sha256"]


def read_matte(path: Path, channel: str) -> Image:
    """An approved matte [H, W, 1].

    Raises:
        InvalidInputError: The file cannot be read, lacks the channel, or holds NaN or infinity.
    """
    image = read_image(path, (channel,))
    bad = int(np.count_nonzero(~np.isfinite(image.pixels)))
    if bad:
        raise InvalidInputError(
            "matte",
            where=str(path),
            expected=f"finite values in channel {channel}",
            actual=f"{bad} pixels of NaN or infinity",
            remedy="correct the matte; a truth has no such pixel",
        )
    return image


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


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_bytes(path: Path, expected: str | None) -> None:
    """See that a file is there and is the one that was added, by its sha256.

    Raises:
        InvalidInputError: It is gone, or has other bytes.
    """
    found = sha256(path) if path.is_file() else None
    if found is None or found != expected:
        raise InvalidInputError(
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
