"""From what a person types to numbered frames: ``plate.####.exr``, ``plate.%04d.exr``, a folder, or one file.

A range after it, ``plate.####.exr 1009-1092``, takes these frames and no other, which leaves handles behind; files that
go with it, such as its mattes, may leave their own range out (`range_of`, `within`). A sequence is complete or refused;
somebody may allow frames to be missing. A gap is never closed up, since the frames on both sides are no neighbours:
`missing_numbers` says which numbers are not there. Left out: what is in the files (`frames`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from changeover_registry.errors import InvalidInputError

__all__ = ["SUFFIXES", "FrameFile", "find_frames", "missing_numbers", "range_of"]

SUFFIXES = frozenset({".exr", ".png", ".tif", ".tiff", ".dpx", ".jpg", ".jpeg"})
"""The endings that count as images when a folder is given."""

_PLACE = re.compile(r"(#+|%0?(\d*)d)")
_NUMBER = re.compile(r"(.*?)(-?\d+)(\D*)")
_RANGE = re.compile(r"(.+?)\s+(-?\d+)-(-?\d+)", re.DOTALL)

_MOST = 100_000
"""Frames of a shot: an hour at 24 a second is 86400. More is a number that is no frame number."""


@dataclass(frozen=True, slots=True)
class FrameFile:
    """One file of a sequence and its frame number."""

    number: int
    path: Path


def range_of(pattern: str) -> range | None:
    """The frames that the range after a pattern takes; None where there is none.

    Raises:
        InvalidInputError: It runs backwards, or is longer than any shot.
    """
    return _without_range(pattern)[1]


def find_frames(pattern: str, *, allow_missing: bool = False, within: range | None = None) -> tuple[FrameFile, ...]:
    """The frames that `pattern` stands for, by number, without gaps unless they are allowed.

    Args:
        pattern: What a person typed.
        allow_missing: Whether there may be gaps.
        within: Where `pattern` has no range and is no single file: frames outside are left behind, as handles are, and
            those inside need not all be there.

    Raises:
        InvalidInputError: No file fits, a number occurs twice, a frame is missing, a folder holds several sequences, or
            numbers lie farther apart than any shot is long.
    """
    text, wanted = _without_range(pattern)
    path = Path(text)
    if wanted is None and within is not None and not path.is_file():
        whole = find_frames(pattern, allow_missing=True)
        return _inside(pattern, whole, within, allow_missing=allow_missing)
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file():
        found = [_numbered(path)]
    else:
        found = _by_pattern(path)
    inside = [frame for frame in found if wanted is None or frame.number in wanted]
    frames = tuple(sorted(inside, key=lambda frame: frame.number))
    _check_distinct(pattern, frames)
    if not allow_missing:
        _check_complete(pattern, frames, wanted or range(frames[0].number, frames[-1].number + 1))
    return frames


def _inside(pattern: str, frames: Sequence[FrameFile], within: range, *, allow_missing: bool) -> tuple[FrameFile, ...]:
    found = tuple(frame for frame in frames if frame.number in within)
    if not found:
        raise _refused(pattern, f"no frame from {within[0]} to {within[-1]}", "files of the plate's range")
    if not allow_missing:
        _check_complete(pattern, found, range(found[0].number, found[-1].number + 1))
    return found


def missing_numbers(frames: Sequence[FrameFile]) -> tuple[int, ...]:
    """The numbers between the first and the last frame that no file has."""
    numbers = {frame.number for frame in frames}
    return tuple(number for number in range(min(numbers), max(numbers) + 1) if number not in numbers)


def _without_range(pattern: str) -> tuple[str, range | None]:
    """The pattern and the range after it; a file that has such a name is itself."""
    match = None if Path(pattern).exists() else _RANGE.fullmatch(pattern)
    if match is None:
        return pattern, None
    first, last = int(match[2]), int(match[3])
    if not first <= last < first + _MOST:
        raise _refused(pattern, f"{first}-{last}", "a range from the first frame to the last")
    return match[1], range(first, last + 1)


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


def _check_distinct(pattern: str, frames: Sequence[FrameFile]) -> None:
    if not frames:
        raise _refused(pattern, "no file that fits")
    for one, next_one in pairwise(frames):
        if one.number == next_one.number:
            raise _refused(pattern, f"frame {one.number} twice", "each frame number once")
    if frames[-1].number - frames[0].number >= _MOST:
        found = f"frames {frames[0].number} and {frames[-1].number}"
        raise _refused(pattern, found, f"at most {_MOST} frames from the first to the last")


def _check_complete(pattern: str, frames: Sequence[FrameFile], wanted: range) -> None:
    missing = sorted(set(wanted) - {frame.number for frame in frames})
    if missing:
        listed = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise _refused(pattern, f"no frame {listed}", f"every frame from {wanted[0]} to {wanted[-1]}")


def _refused(
    pattern: str, actual: str, expected: str = "frames such as plate.####.exr or a folder"
) -> InvalidInputError:
    return InvalidInputError(
        "frames",
        where=pattern,
        expected=expected,
        actual=actual,
        remedy="correct the pattern, render what is missing, or allow frames to be missing (--allow-missing)",
    )
