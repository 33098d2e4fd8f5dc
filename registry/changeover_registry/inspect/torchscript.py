"""Inspects a TorchScript archive by its table of contents, its code and its pickles; nothing is unpickled or loaded.

A TorchScript file is a zip with ``version`` (or ``.data/version``, which torch reads first), ``code/``, ``data.pkl``
and ``constants.pkl`` under one top folder. The version is read as text, types of tensors from the pickles' opcodes as
names, and operators from the code as the names that it calls, text in quotes left out. An operator of another library
is custom code and a problem. What this leaves out: whether the code runs; that is seen only in the sandbox.
"""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from changeover_registry.inspect.content import ARCHIVE_FAULTS, archive_fault
from changeover_registry.inspect.inspection import Inspection, Problem, compute_capability, formats
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
_CALL = re.compile(
    r'"(?:\\.|[^"\\\n])*"'
    r"|(?<![\w.])torch\.(?P<aten>[A-Za-z_]\w*)\("
    r"|(?<![\w.])ops\.(?P<space>\w+)\.(?P<name>\w+)\("
)
"""A string, which is passed over, or the call of an operator; ``torch.`` stands for the namespace ``aten``."""


_FUSED = frozenset({"scaled_dot_product_attention", "_scaled_dot_product_attention", "_native_multi_head_attention"})
_PRODUCTS = frozenset({"matmul", "bmm", "baddbmm", "einsum"})


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
    versions = _versions(archive, top)
    if len(versions) != 1:
        found = ", ".join(f"{name} says {text!r}" for name, text in versions.items()) or "none"
        return _broken(where, "a file 'version' that holds one number", found)
    version = next(iter(versions.values()))
    if not version.isdecimal() or len(version) > 5:
        return _broken(where, "a file 'version' that holds one number", repr(version))
    operators = tuple(sorted({name for member in code if member.endswith(".py") for name in _called(archive, member)}))
    return Inspection(_requires(archive, top, int(version), operators), problems=tuple(_foreign(where, operators)))


def _requires(archive: zipfile.ZipFile, top: str, version: int, operators: tuple[str, ...]) -> Requires:
    dtypes = _dtypes(archive, (f"{top}/data.pkl", f"{top}/constants.pkl"))
    folders = (f"{top}/data/", f"{top}/constants/")
    weights = sum(info.file_size for info in archive.infolist() if info.filename.startswith(folders))
    return Requires(
        torchscript_version=version,
        operators=operators,
        global_attention=_may_attend(operators),
        dtypes=dtypes,
        weight_bytes=weights,
        compute_capability=compute_capability(dtypes),
    )


def _may_attend(operators: Iterable[str]) -> bool:
    """Whether the code may hold global attention: without shapes nobody can say more, and in doubt it is yes."""
    names = {name.partition("::")[2] for name in operators}
    return bool(names & _FUSED) or ("softmax" in names and bool(names & _PRODUCTS))


def _versions(archive: zipfile.ZipFile, top: str) -> dict[str, str]:
    """What the one version file says; both, where there are two that differ, for readers differ in which they take."""
    names = [name for name in (".data/version", "version") if f"{top}/{name}" in archive.namelist()]
    said = {name: _member(archive, f"{top}/{name}").decode("ascii", "replace").strip() for name in names}
    return said if len(set(said.values())) > 1 else dict(list(said.items())[:1])


def _called(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """The operators that a member of ``code/`` calls, such as ``aten::gelu``."""
    for found in _CALL.finditer(_member(archive, name).decode("utf-8", "replace")):
        if found["aten"]:
            yield f"aten::{found['aten']}"
        elif found["space"]:
            yield f"{found['space']}::{found['name']}"


def _foreign(where: str, operators: tuple[str, ...]) -> Iterator[Problem]:
    allowed = formats()["torchscript"]["domains"]
    custom = [name for name in operators if name.partition("::")[0] not in allowed]
    if custom:
        remedy = "write the operator in TorchScript itself, or export without it; no loader has that library"
        yield Problem(
            "operator domain", where, f"operators of {', '.join(allowed)} only", ", ".join(custom[:5]), remedy
        )


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
