"""Which operators each torch has, read out of its binary: an archive's version does not tell whether they are there.

A script that was compiled holds every branch of every function that it calls, so an ``interpolate`` alone names
operators that an older torch never had, in an archive of version 3. The table lists the operators of the oldest torch
that a Nuke embeds, and what each later one added and removed.
``python -m changeover_validators.tables.operators WHEEL...`` reads wheels, oldest first, and prints the table.
"""

import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from changeover_registry import clock
from changeover_validators.tables.load import rows

__all__ = ["Lacking", "lacking", "names_in", "operators_of", "table_of"]

_LIBRARY = re.compile(r"(^|/)libtorch_cpu\.(so|dylib)$|(^|/)torch_cpu\.dll$")
_TEXT = re.compile(rb"[\x20-\x7e\n]{6,}")
_SCHEMA = re.compile(rb"\s*(?:(\w+)::)?([A-Za-z_]\w*)(?:\.\w+)?\(.*\) *-> *[A-Za-z(]")
_WIDTH = 118
_HEAD = """\
# The operators of the namespace aten that each torch has, as the schemas in its binary name them; the first row lists
# all, each later one what it added to the row before and what it removed. Names of other libraries' operators that the
# same binary holds are among them, which hides nothing: they are asked for under another namespace.
# Written by `python -m changeover_validators.tables.operators WHEEL...`, oldest first.

schema = "changeover.table.operators/1"
"""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Of the operators that were asked for: those that a torch does not have, and those of which nobody knows."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]


def lacking(version: str, operators: Sequence[str]) -> Lacking:
    """Which of `operators` (``aten::gelu``) the torch `version` does not have.

    Between two releases that were read, an operator is missing where neither has it, and unknown where one has.
    Operators of other namespaces than aten are not judged.
    """
    asked = tuple(sorted({name.removeprefix("aten::") for name in operators if name.startswith("aten::")}))
    around = _around(version)
    if around is None:
        return Lacking((), asked)
    before, behind = around
    missing = tuple(name for name in asked if name not in before and name not in behind)
    return Lacking(missing, tuple(name for name in asked if (name in before) != (name in behind)))


@cache
def operators_of() -> Mapping[str, frozenset[str]]:
    """The operators of each torch that was read, without namespace, oldest torch first."""
    known: dict[str, frozenset[str]] = {}
    names: frozenset[str] = frozenset()
    for row in rows("operators")["torch"]:
        names = (names - frozenset(row["removed"])) | frozenset(row["added"])
        known[str(row["version"])] = names
    return known


def names_in(data: bytes) -> frozenset[str]:
    """The names of operators whose schemas, such as ``gelu(Tensor self) -> Tensor``, stand in a library's bytes."""
    lines = (line for text in _TEXT.findall(data) if b"->" in text for line in text.split(b"\n"))
    found = (_SCHEMA.match(line) for line in lines)
    return frozenset(match[2].decode() for match in found if match is not None and match[1] in {None, b"aten"})


def table_of(wheels: Sequence[Path]) -> str:
    """The table of these wheels, oldest first, as TOML.

    Raises:
        ValueError: A wheel holds no torch.
    """
    parts, before = [_HEAD], frozenset[str]()
    for wheel in wheels:
        now = _read(wheel)
        version = parse_wheel_filename(wheel.name)[1].public
        parts.append("".join(_row(version, wheel, now - before, before - now)))
        before = now
    return "\n".join(parts)


def _around(version: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """What the releases before and behind `version` that were read have; twice the same where it is one of them.

    None where it is older than all of them. One newer than all may have anything that the newest lacks, so nothing
    of that can be said to be missing.
    """
    try:
        wanted = Version(Version(version).public)
    except InvalidVersion:
        return None
    known = {Version(text): names for text, names in operators_of().items()}
    before = [names for release, names in known.items() if release <= wanted]
    behind = [names for release, names in known.items() if release >= wanted]
    if not before:
        return None
    return before[-1], behind[0] if behind else before[-1] | _ANY


class _Any(frozenset[str]):
    """A set that holds every name."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __ror__(self, _other: object) -> "_Any":
        return self


_ANY = _Any()


def _read(wheel: Path) -> frozenset[str]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if _LIBRARY.search(name):
                return names_in(archive.read(name))
    message = f"expected libtorch_cpu in {wheel.name}"
    raise ValueError(message)


def _row(version: str, wheel: Path, added: frozenset[str], removed: frozenset[str]) -> Iterator[str]:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    yield f'[[torch]]\nversion = "{version}"\norigin = "binary"\nsource = "schemas in libtorch_cpu of {wheel.name}"\n'
    yield f'sha256 = "{digest}"\ndate = "{clock.now().date()}"\n'
    yield from _list("added", sorted(added))
    yield from _list("removed", sorted(removed))


def _list(key: str, names: Sequence[str]) -> Iterator[str]:
    yield f"{key} = ["
    width = _WIDTH
    for name in names:
        text = f' "{name}",'
        if width + len(text) > _WIDTH:
            yield "\n   "
            width = 4
        yield text
        width += len(text)
    yield "\n]\n" if names else "]\n"


if __name__ == "__main__":
    sys.stdout.write(table_of([Path(name) for name in sys.argv[1:]]))
