"""The ``.cat`` files at a path, as whoever adopts them must know them: a file, a package of the Cattery, or many.

A package is a folder with a ``cat.json``; what that says is taken as a statement of whoever wrote it, and one that
cannot be read says nothing. Nothing is executed, and links to folders are not followed, as Nuke's own reader does not.
Left out: gizmos, which stay where they are and are named.
"""

import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.inspect.cat import inspect_cat
from changeover_registry.inspect.content import file_problems
from changeover_updater.adopted import Found
from changeover_updater.release_folder import describe_file
from changeover_validators.tables import nuke_torch_line

__all__ = ["CatFile", "look_for", "source_text"]

_CARD = "cat.json"
_CARD_BYTES = 1 << 20
_BESIDE = (".gizmo", ".nk")
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class CatFile:
    """One ``.cat`` on disk, and what is known of it."""

    path: Path
    found: Found


def look_for(path: Path, step: Callable[[str], None] = lambda _: None) -> tuple[tuple[CatFile, ...], tuple[Path, ...]]:
    """The ``.cat`` file that `path` is, or all below it, and the gizmos and scripts beside them.

    Raises:
        InvalidInputError: There is none.
        RefusedError: One holds something else than a ``.cat`` may.
        OSError: A file cannot be read.
    """
    if path.is_dir():
        below = tuple(_below(path))
        cats = tuple(file for file in below if file.suffix == ".cat")
        folders = {file.parent for file in cats}
        left = tuple(file for file in below if file.suffix.lower() in _BESIDE and file.parent in folders)
    else:
        cats, left = (path,) if path.suffix == ".cat" and path.is_file() else (), ()
    if not cats:
        raise InvalidInputError(
            "adopt",
            where=source_text(path),
            expected="a .cat file, or a folder with some",
            actual="a folder without any" if path.is_dir() else "another file" if path.exists() else "nothing there",
            remedy="name the .cat, the folder of its Cattery package, or the Cattery itself",
        )
    return tuple(_read(file, step) for file in cats), left


def source_text(path: Path) -> str:
    """Where a file lies, in text that a record can hold: what cannot be printed is written as escapes."""
    text = unicodedata.normalize("NFC", str(path.absolute()).encode("utf-8", "backslashreplace").decode())
    return (text if text.isprintable() else ascii(text))[-_LONGEST_TEXT:]


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        # A package that cannot be read is told of: nobody would miss it among a hundred.
        raise error

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders.sort()
        for name in sorted(files):
            if (path := Path(parent, name)).is_file():
                yield path


def _read(path: Path, step: Callable[[str], None]) -> CatFile:
    step(f"reading {path.name}")
    real = path.resolve()
    inspected = inspect_cat(path, source_text(path))
    problem = next(iter((*inspected.problems, *file_problems(real.parent, (real.name,)))), None)
    if problem is not None:
        raise RefusedError(
            problem.rule,
            where=source_text(path),
            expected=problem.expected,
            actual=problem.actual,
            remedy=problem.remedy,
        )
    card = _card(path.parent)
    found = Found(
        source=source_text(path),
        stem=path.stem,
        package=path.parent.name,
        file=describe_file(real, "model.cat"),
        modified_at=_moment(real.stat().st_mtime),
        torch_line=_torch_line(card.get("minimum_nuke_version_required")),
        says=_sentence(card.get("description")),
    )
    return CatFile(real, found)


def _card(package: Path) -> dict[str, Any]:
    """What a package says of itself; one that cannot be read says nothing."""
    path = package / _CARD
    try:
        if not path.is_file() or path.stat().st_size > _CARD_BYTES:
            return {}
        body = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _torch_line(minimum: object) -> str | None:
    """The torch of the oldest Nuke that a package says it runs in; the number is a float there, 15.10 being 15.1."""
    # No Nuke has a number of three digits before its dot, and a whole number of JSON may have four thousand.
    if isinstance(minimum, bool) or not isinstance(minimum, int | float) or not 0 < minimum < 1000:
        return None
    return nuke_torch_line(f"{minimum:.1f}")


def _sentence(text: object) -> str:
    words = " ".join(text.split()) if isinstance(text, str) else ""
    shown = words.encode("utf-8", "backslashreplace").decode()
    return "".join(letter for letter in shown if letter.isprintable())[:_LONGEST_TEXT].strip()


def _moment(seconds: float) -> str | None:
    """When a file was written last; None where its disk has a time that is none."""
    try:
        return format_time(datetime.fromtimestamp(int(seconds), UTC))
    except (OverflowError, OSError, ValueError):
        return None
