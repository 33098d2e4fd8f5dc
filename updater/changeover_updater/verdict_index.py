"""Which releases each filed verdict speaks of, so that one release's verdicts are found without opening all of them.

``verdicts/.index`` holds a line a verdict: its digest, and the digests of the releases that it judges and compares
with. It decides nothing: what it finds is read and verified like any other file, and a file that it does not list is
opened. A line is written only of a file whose bytes have the digest of its name, which never change. It is written anew
once many files are not in it; where it cannot be, or is damaged, all that is lost is time.
"""

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from changeover_registry import _fs, canonical

__all__ = ["INDEX", "speaking_of"]

INDEX = ".index"
_HEAD = "changeover.verdict-index/1"
_BATCH = 64
"""How many files may be missing from it before it is written anew."""
_DIGEST_CHARS = 64


def speaking_of(folder: Path, release: str, limit: int) -> Iterator[Path]:
    """The files that may hold a verdict on a release, or against it: those that the index lists, and what it lacks.

    Args:
        folder: ``verdicts`` of a site.
        release: The release's digest.
        limit: What no verdict is larger than, in bytes; a larger file is none.
    """
    listed = _read(folder / INDEX)
    names = [name.removesuffix(".json") for name in _names(folder) if name.endswith(".json")]
    unlisted = [name for name in names if name not in listed]
    found = {name: about for name in unlisted if (about := _about(folder / f"{name}.json", limit)) is not None}
    if len(found) > _BATCH:
        there = set(names)
        kept = {name: about for name, about in listed.items() if name in there}
        _write(folder / INDEX, {**kept, **found})
    for name in names:
        if release in listed.get(name, found.get(name, release)):
            yield folder / f"{name}.json"


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _read(path: Path) -> Mapping[str, str]:
    """The index: what stands after each verdict's digest; nothing where it is damaged or cannot be read."""
    try:
        head, *lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError):
        return {}
    if head != _HEAD or not lines or lines[-1]:
        return {}
    return {line[:_DIGEST_CHARS]: line[_DIGEST_CHARS + 1 :] for line in lines[:-1]}


def _write(path: Path, found: Mapping[str, str]) -> None:
    lines = (f"{name} {about}\n" for name, about in sorted(found.items()))
    with contextlib.suppress(OSError):
        _fs.write_atomic(path, (f"{_HEAD}\n" + "".join(lines)).encode())


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
