"""Names, versions and paths: parsed once, at the boundary.

A model is ``vendor/name``. A version is three integers and optionally ``aN``, ``bN`` or ``rcN``. Every path in a record
is POSIX, relative, and made of ``A-Z a-z 0-9 . _ -`` so that no host, shell, Nuke or farm submitter reads it as
anything else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from pathlib import PurePosixPath
from typing import Self

from changeover_registry.errors import InvalidInputError

__all__ = [
    "RESERVED_NAMES",
    "Version",
    "check_digest",
    "check_model",
    "check_name",
    "check_path",
    "check_paths",
    "digest12",
    "is_name",
    "release_folder",
]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:(a|b|rc)(0|[1-9]\d{0,8}))?", re.ASCII)
_STAGES = ("a", "b", "rc", "")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}

RESERVED_NAMES = frozenset({"root", "targets", "snapshot", "timestamp", "site", "shows", *_WINDOWS_DEVICES})
"""Names that a vendor, model, show or set may not have: TUF's own roles, our folders and Windows' devices."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """Three integers and an optional pre-release stage; ordered as PEP 440 orders the same text."""

    major: int
    minor: int
    patch: int
    stage: str = ""
    stage_number: int = 0

    @classmethod
    def parse(cls, text: str, *, where: str = "version") -> Self:
        """Read a version.

        Raises:
            InvalidInputError: `text` has an epoch, a local part, a leading zero or any other form.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise InvalidInputError(
                "version",
                where=where,
                expected="three integers and optionally aN, bN or rcN, such as 4.2.0 or 4.2.0rc1",
                actual=repr(text),
                remedy="write the version in that form (no epoch, local part or dev)",
            )
        major, minor, patch, stage, number = match.groups()
        return cls(int(major), int(minor), int(patch), stage or "", int(number or 0))

    def __str__(self) -> str:
        """The only spelling of this version."""
        return f"{self.major}.{self.minor}.{self.patch}" + (f"{self.stage}{self.stage_number}" if self.stage else "")

    def __lt__(self, other: "Version") -> bool:
        """Order: release numbers, then a < b < rc < final."""
        return self._key() < other._key()

    def _key(self) -> tuple[int, int, int, int, int]:
        return (self.major, self.minor, self.patch, _STAGES.index(self.stage), self.stage_number)


def check_name(text: str, *, where: str) -> str:
    """Return `text` if it may name a vendor, a model, a show or a set.

    Raises:
        InvalidInputError: It may not.
    """
    if not is_name(text):
        raise InvalidInputError(
            "name",
            where=where,
            expected="1 to 40 characters of a-z, 0-9 and -, not starting or ending with -, no reserved word",
            actual=repr(text),
            remedy="choose another name",
        )
    return text


def is_name(text: str) -> bool:
    """Whether `check_name` would take it."""
    return _NAME.fullmatch(text) is not None and text not in RESERVED_NAMES


def check_model(text: str, *, where: str) -> str:
    """Return `text` if it is ``vendor/name``.

    Raises:
        InvalidInputError: It is not.
    """
    vendor, slash, name = text.partition("/")
    if not slash:
        raise InvalidInputError(
            "model",
            where=where,
            expected="vendor/name, such as acme/person-roto",
            actual=repr(text),
            remedy="write the vendor's name, a slash and the model's name",
        )
    check_name(vendor, where=where)
    check_name(name, where=where)
    return text


def check_digest(text: str, *, where: str) -> str:
    """Return `text` if it is a sha256 in lower-case hexadecimal.

    Raises:
        InvalidInputError: It is not.
    """
    if _DIGEST.fullmatch(text) is None:
        raise InvalidInputError(
            "digest",
            where=where,
            expected="64 characters of 0-9 and a-f (sha256)",
            actual=repr(text),
            remedy="take the record again from whoever wrote it",
        )
    return text


def check_path(text: str, *, where: str) -> str:
    """Return `text` if it is a relative POSIX path that stays inside its folder on every system.

    Raises:
        InvalidInputError: It is absolute, climbs with ``..``, or has characters that some host reads as a pattern.
    """
    parts = text.split("/")
    bad = _PATH.fullmatch(text) is None or any(_bad_part(part) for part in parts) or len(text) > 200
    if bad:
        raise InvalidInputError(
            "path",
            where=where,
            expected="a relative path of A-Z a-z 0-9 . _ - with single slashes, no part that is '..' or a device of"
            " Windows, starts with - or ends with a dot, at most 200 characters",
            actual=repr(text),
            remedy="rename the file, or write its path relative to the variant's folder",
        )
    return text


def check_paths(paths: Iterable[str], *, where: str) -> None:
    """Check every path, that no two differ by upper and lower case alone, and that none is another one's folder.

    Raises:
        InvalidInputError: A path is bad, or two could not both be files on Windows or macOS.
    """
    seen: dict[str, str] = {}
    for path in paths:
        check_path(path, where=where)
        if path.lower() in seen:
            raise _collision(where, seen[path.lower()], path)
        seen[path.lower()] = path
    for path in seen.values():
        for folder in PurePosixPath(path.lower()).parents:
            if str(folder) in seen:
                raise _collision(where, seen[str(folder)], path)


def digest12(digest: str) -> str:
    """The first 12 characters of a digest: what folders and people use."""
    return digest[:12]


def release_folder(version: str, digest: str) -> str:
    """The folder name of a release under its model: ``<version>-<digest12>``."""
    return f"{version}-{digest12(digest)}"


def _bad_part(part: str) -> bool:
    stem = part.partition(".")[0].lower()
    return part in {"", ".", ".."} or part.startswith("-") or part.endswith(".") or stem in _WINDOWS_DEVICES


def _collision(where: str, first: str, second: str) -> InvalidInputError:
    return InvalidInputError(
        "path",
        where=where,
        expected="paths that each occur once, differ by more than upper and lower case, and are not folders of others",
        actual=f"{first!r} and {second!r}",
        remedy="rename one of them",
    )
