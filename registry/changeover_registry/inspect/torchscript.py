"""Inspects a TorchScript archive by its table of contents and two of its members; nothing is unpickled or loaded.

A TorchScript file is a zip with ``version``, ``code/``, ``data.pkl`` and ``constants.pkl`` under one top folder. The
version is read as text. Types of tensors are read from the pickle's opcodes as names, without constructing anything.
What this leaves out: whether the code runs, and its operators; that is seen only in the sandbox.
"""

import io
import pickletools
import zipfile
from pathlib import Path

from changeover_registry.inspect.content import ARCHIVE_FAULTS, archive_fault
from changeover_registry.inspect.inspection import Inspection, Problem, compute_capability
from changeover_registry.records.release import Requires

__all__ = ["inspect_torchscript"]

_MEMBER_BYTES = 64 << 20
_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "BoolStorage": "bool",
}


def inspect_torchscript(path: Path, where: str) -> Inspection:
    """What the archive at `path` says; `where` names it in problems."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _inspect(archive, where)
    except ARCHIVE_FAULTS as error:
        return _broken(where, "a TorchScript archive (zip)", archive_fault(error))


def _inspect(archive: zipfile.ZipFile, where: str) -> Inspection:
    names = archive.namelist()
    climbing = [name for name in names if name.startswith("/") or ".." in name.split("/") or "\\" in name]
    if climbing:
        return _broken(where, "members inside the archive's own folder", repr(climbing[0]))
    top = names[0].split("/")[0] if names else ""
    code = [name for name in names if name.startswith(f"{top}/code/")]
    if f"{top}/constants.pkl" not in names or not code:
        return _broken(where, "a TorchScript archive with code/ and constants.pkl", "a zip without them")
    version = _version(archive, top)
    if version is None:
        return _broken(where, "a file 'version' that holds one number", "none")
    return Inspection(_requires(archive, top, version))


def _requires(archive: zipfile.ZipFile, top: str, version: int) -> Requires:
    dtypes = _dtypes(archive, (f"{top}/data.pkl", f"{top}/constants.pkl"))
    folders = (f"{top}/data/", f"{top}/constants/")
    weights = sum(info.file_size for info in archive.infolist() if info.filename.startswith(folders))
    return Requires(
        torchscript_version=version,
        dtypes=dtypes,
        weight_bytes=weights,
        compute_capability=compute_capability(dtypes),
    )


def _version(archive: zipfile.ZipFile, top: str) -> int | None:
    for name in (f"{top}/version", f"{top}/.data/version"):
        if name in archive.namelist():
            text = _member(archive, name).decode("ascii", "replace").strip()
            return int(text) if text.isdecimal() and len(text) < 6 else None
    return None


def _dtypes(archive: zipfile.ZipFile, names: tuple[str, ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for name in names:
        if name in archive.namelist():
            for _, argument, _ in pickletools.genops(io.BytesIO(_member(archive, name))):
                words = str(argument).split() if isinstance(argument, str) else []
                found.update(_STORAGES[word] for word in words if word in _STORAGES)
    return tuple(sorted(found))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, at most 64 MiB of them: a small archive may promise terabytes."""
    with archive.open(name) as member:
        data = member.read(_MEMBER_BYTES + 1)
    if len(data) > _MEMBER_BYTES:
        message = f"member {name!r} is larger than {_MEMBER_BYTES} bytes"
        raise ValueError(message)
    return data


def _broken(where: str, expected: str, actual: str) -> Inspection:
    remedy = "export it with torch.jit.script(...).save(...), or take the file again"
    return Inspection(Requires(), problems=(Problem("TorchScript file", where, expected, actual, remedy),))
