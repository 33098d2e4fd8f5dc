"""Which releases each filed verdict speaks of, so that a release's verdicts are found without opening all of them.

``verdicts/.index`` holds a line a verdict: its digest, and the digests of the releases that it judges and compares
with. It decides nothing: what it finds is read and verified like any other file, and a file that it does not list is
opened. A line is written only of a file whose bytes have the digest of its name, which never change. It is written anew
once many files are not in it; where it cannot be, or is damaged, all that is lost is time.
"""

import base64
import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from changeover_registry import _fs, canonical

__all__ = ["INDEX", "speaking_of"]

INDEX = ".index"
_HEAD = "changeover.verdict-index/1"
_BATCH = 64
"""How many files may be missing from it before it is written anew."""
_DIGEST_CHARS = 64


def speaking_of(folder: Path, releases: Collection[str], limit: int) -> Iterator[Path]:
    """The files that may hold a verdict on a release, or against it: those that the index lists, and what it lacks.

    Args:
        folder: ``verdicts`` of a site.
        releases: The releases' digests.
        limit: What no verdict is larger than, in bytes; a larger file is none.
    """
    lines = _lines(folder / INDEX)
    names = _names(folder)
    unlisted = names.difference(line[:_DIGEST_CHARS] for line in lines)
    found = {name: about for name in unlisted if (about := _about(folder / f"{name}.json", limit)) is not None}
    if len(found) > _BATCH:
        kept = (line for line in lines if line[:_DIGEST_CHARS] in names)
        _write(folder / INDEX, [*kept, *(f"{name} {about}" for name, about in found.items())])
    wanted = frozenset(releases)
    speaking = {line[:_DIGEST_CHARS] for line in lines if not wanted.isdisjoint(line[_DIGEST_CHARS:].split())} & names
    speaking |= {name for name in unlisted if name not in found or not wanted.isdisjoint(found[name].split())}
    return (folder / f"{name}.json" for name in sorted(speaking))


def _names(folder: Path) -> set[str]:
    """The names of the files that may be verdicts, without their ending."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name[:-5] for entry in entries if entry.name.endswith(".json")}
    except FileNotFoundError:
        return set()


def _lines(path: Path) -> list[str]:
    """The lines of the index; none where it is damaged or cannot be read."""
    try:
        head, *lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return lines[:-1] if head == _HEAD and lines and not lines[-1] else []


def _write(path: Path, lines: Iterable[str]) -> None:
    with contextlib.suppress(OSError):
        _fs.write_atomic(path, "".join(f"{line}\n" for line in (_HEAD, *sorted(lines))).encode())


def _about(path: Path, limit: int) -> str | None:
    """The releases that a file speaks of; None where that cannot be told, so that it is opened each time."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if canonical.digest(data) != path.stem:
        return None
    try:
        verdict = json.loads(base64.b64decode(json.loads(data)["payload"]))
        refs = (verdict["candidate"], verdict.get("current"))
        digests = [str(ref["digest"]) for ref in refs if ref]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return " ".join(digests) if all(_is_digest(digest) for digest in digests) else None


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_CHARS and set(text) <= set("0123456789abcdef")
