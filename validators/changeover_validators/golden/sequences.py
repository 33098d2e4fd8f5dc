"""From what a person types to numbered frames: ``plate.####.exr``, ``plate.%04d.exr``, a folder, or one file.

A sequence is complete or refused: a gap is never closed up, since the frames on both sides are no neighbours. Left out:
what is in the files (`frames`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import InvalidInputError

__all__ = ["SUFFIXES", "FrameFile", "find_frames"]

SUFFIXES = frozenset({".exr", ".png", ".tif", ".tiff", ".dpx"})
"""The endings that count as images when a folder is given."""

_PLACE = re.compile(r"(#+|%0?(\d*)d)")
_NUMBER = re.compile(r"(.*?)(-?\d+)(\D*)")


@dataclass(frozen=True, slots=True)
class FrameFile:
    """One file of a sequence and its frame number."""

    number: int
    path: Path


def find_frames(pattern: str) -> tuple[FrameFile, ...]:
    """The frames that `pattern` stands for, by number, without gaps.

    Raises:
        InvalidInputError: No file fits, a number occurs twice, a frame is missing, or a folder holds several sequences.
    """
    path = Path(pattern)
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file():
        found = [_numbered(path)]
    else:
        found = _by_pattern(path)
    frames = tuple(sorted(found, key=lambda frame: frame.number))
    _check_complete(pattern, frames)
    return frames


def _by_pattern(path: Path) -> list[FrameFile]:
    place = _PLACE.search(path.name)
    if place is None or not path.parent.is_dir():
        raise _refused(str(path), "no such file or folder")
    digits = len(place[1]) if place[1].startswith("#") else int(place[2] or 1)
    name = re.compile(
        re.escape(path.name[: place.start()]) + rf"(-?\d{{{digits},}})" + re.escape(path.name[place.end() :])
    )
    matches = ((name.fullmatch(file.name), file) for file in path.parent.iterdir())
    return [FrameFile(int(match[1]), file) for match, file in matches if match]


def _in_folder(folder: Path) -> list[FrameFile]:
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    names = sorted({_sequence_name(file) for file in files})
    if len(names) > 1:
        raise _refused(str(folder), f"{len(names)} sequences ({', '.join(names[:3])})", "one sequence in the folder")
    return [_numbered(file) for file in files]


def _numbered(path: Path) -> FrameFile:
    """The file with the last number in its name; a file without one is frame 1."""
    match = _NUMBER.fullmatch(path.stem)
    return FrameFile(int(match[2]) if match else 1, path)


def _sequence_name(path: Path) -> str:
    match = _NUMBER.fullmatch(path.stem)
    return (f"{match[1]}#{match[3]}" if match else path.stem) + path.suffix


def _check_complete(pattern: str, frames: Iterable[FrameFile]) -> None:
    numbers = [frame.number for frame in frames]
    if not numbers:
        raise _refused(pattern, "no file that fits")
    if len(set(numbers)) != len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise _refused(pattern, f"frame {twice} twice", "each frame number once")
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        listed = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise _refused(pattern, f"no frame {listed}", f"every frame from {numbers[0]} to {numbers[-1]}")


def _refused(
    pattern: str, actual: str, expected: str = "frames such as plate.####.exr or a folder"
) -> InvalidInputError:
    return InvalidInputError(
        "frames",
        where=pattern,
        expected=expected,
        actual=actual,
        remedy="correct the pattern or render what is missing",
    )
