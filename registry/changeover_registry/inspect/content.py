"""What a file is by its content, never by its name: pickles in every dress, native libraries, archives.

Only bytes are looked at. A pickle is recognised by walking its opcodes with `pickletools`, which constructs nothing.
What this leaves out: whether a model of an allowed format is sound (`onnx`, `torchscript`, `cat`).
"""

import errno
import io
import lzma
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.inspect.inspection import Problem
from changeover_registry.names import check_path

__all__ = [
    "ARCHIVE_FAULTS",
    "archive_fault",
    "bad_location",
    "file_problems",
    "inside",
    "is_pickle",
    "missing_and_unlisted",
]

ARCHIVE_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError),
    *(ValueError, KeyError, IndexError, OverflowError, struct.error),
)
"""All that reading a damaged or hostile zip raises; found by flipping bytes."""
_HEAD_BYTES = 1 << 20
_NATIVE = {b"\x7fELF": "a Linux library", b"MZ\x90\x00": "a Windows library", b"\xcf\xfa\xed\xfe": "a macOS library"}
_FEW_OPCODES = 4


def file_problems(folder: Path, files: Sequence[str]) -> tuple[Problem, ...]:
    """Problems of each listed file that exists: pickles, native code, object arrays, links out of the folder."""
    problems: list[Problem] = []
    for name in files:
        path = folder / name
        if path.is_symlink() or not inside(folder, path):
            problems.append(_problem("file", name, "a plain file inside the variant's folder", "a link"))
        elif path.is_file():
            found = _forbidden(path)
            if found:
                problems.append(_problem("file format", name, "data that nothing executes", found))
    return tuple(problems)


def missing_and_unlisted(folder: Path, files: Sequence[str]) -> tuple[Problem, ...]:
    """A problem for each listed file that is absent, and for each file in the folder that is not listed."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    listed = set(files)
    missing = [
        Problem("file", name, "this file", "no such file", "add the file, or take it out of the list")
        for name in sorted(listed - present)
    ]
    unlisted = [
        Problem("file", name, "only files that the variant lists", "a file that it does not list", "list or remove it")
        for name in sorted(present - listed)
    ]
    return tuple(missing + unlisted)


def inside(folder: Path, path: Path) -> bool:
    """Whether `path`, links followed, lies in `folder`."""
    return path.resolve().is_relative_to(folder.resolve())


def bad_location(text: str) -> str | None:
    """Why a location written in a model may not be followed, or None if it is a plain relative path."""
    try:
        check_path(text, where="")
    except ChangeoverError as error:
        return f"{text!r}, which is not {error.expected}"
    return None


def archive_fault(error: Exception) -> str:
    """What is wrong with an archive, in one line.

    Raises:
        OSError: It is the disk that failed and not the archive; a false offset in an archive is an invalid argument.
    """
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        raise error
    return f"{type(error).__name__}: {error}"


def is_pickle(data: bytes) -> bool:
    """Whether `data` is a pickle, or the start of one: its opcodes parse, and there are enough of them to mean it."""
    if data[:1] == b"\x80" and data[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return _opcodes(data) >= _FEW_OPCODES
    # Protocols 0 and 1 have no magic: only text that parses to its end and builds something counts.
    return data[:1] in b"(]}c" and len(data) > 1 and _builds(data)


def _opcodes(data: bytes) -> int:
    """How many opcodes parse; a pickle that parses to its end is one however short it is."""
    count = 0
    try:
        for _ in pickletools.genops(io.BytesIO(data)):
            count += 1
    except ValueError:
        return count
    return _FEW_OPCODES


def _builds(data: bytes) -> bool:
    names = set()
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(data)):
            names.add(opcode.name)
    except ValueError:
        return False
    return bool(names & {"GLOBAL", "INST", "REDUCE", "OBJ"})


def _forbidden(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, what in _NATIVE.items():
        if head.startswith(magic):
            return what
    if is_pickle(head):
        return "a pickle, which runs code when it is loaded"
    return _forbidden_archive(path) if head.startswith(b"PK") else None


def _forbidden_archive(path: Path) -> str | None:
    """A torch checkpoint is a pickle in a zip; a numpy archive with object arrays holds pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if _has(names, "data.pkl") and not _has(names, "constants.pkl"):
                return "a torch checkpoint, which is a pickle in a zip"
            if any(name.endswith(".npy") and _objects(archive, name) for name in names):
                return "a numpy archive with object arrays, which are pickles"
    except ARCHIVE_FAULTS as error:
        return f"an archive that cannot be read ({archive_fault(error)})"
    return None


def _has(names: Sequence[str], last: str) -> bool:
    return any(name == last or name.endswith(f"/{last}") for name in names)


def _objects(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as member:
        return b"'descr': '|O'" in member.read(512)


def _problem(rule: str, where: str, expected: str, actual: str) -> Problem:
    return Problem(
        rule, where, expected, actual, "publish the model as ONNX, TorchScript or .cat, and its data as plain files"
    )
