"""Answers of the tables about frameworks and hosts: onnxruntime, torch, TorchScript, Nuke, the two runtime sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from changeover_validators.tables.cuda import ptx_toolkit
from changeover_validators.tables.load import capability_key, line_of, row_name, rows

__all__ = [
    "Build",
    "CpuFloor",
    "Jit",
    "RuntimeLimits",
    "RuntimeSet",
    "below_cpu_floor",
    "cpu_floor",
    "newest_torch_toolkit",
    "nuke_jit",
    "nuke_platform",
    "nuke_python",
    "nuke_toolkit",
    "nuke_torch_line",
    "onnxruntime_build",
    "runtime_limits",
    "runtime_sets",
    "torch_build",
    "torchscript_limit",
    "torchscript_operators",
]


@dataclass(frozen=True, slots=True)
class RuntimeLimits:
    """What one onnxruntime release loads at most."""

    max_ir_version: int
    max_opset: int
    row: str


@dataclass(frozen=True, slots=True)
class Build:
    """What a wheel with CUDA was built for; what no row says is None or empty.

    Attributes:
        toolkit: The CUDA toolkit line.
        cudnn: The cuDNN release that it asks for, at least its major.
        glibc: The least glibc.
        architectures: What was read out of the binary, such as ``sm_86`` and ``compute_90``.
        ptx: The toolkit line whose driver compiles its PTX.
        served: The lowest and the highest compute capability that the project announced, where nobody read the binary.
        row: The row that says so.
    """

    toolkit: str
    cudnn: str | None = None
    glibc: str | None = None
    architectures: tuple[str, ...] = ()
    ptx: str | None = None
    served: tuple[str, str] | None = None
    row: str = ""


@dataclass(frozen=True, slots=True)
class Jit:
    """A one-time compilation when a Nuke meets a newer card: minutes, and the size that the driver's cache needs."""

    minutes: int
    cache_gib: int
    row: str


@dataclass(frozen=True, slots=True)
class RuntimeSet:
    """One of the sets of runtimes that are tested together: an extra of this distribution.

    Attributes:
        name: The extra.
        onnxruntime: The releases of onnxruntime-gpu in it.
        toolkit: The CUDA toolkit line whose driver floor counts.
        row: The row that says so.
    """

    name: str
    onnxruntime: SpecifierSet
    toolkit: str
    row: str


@dataclass(frozen=True, slots=True)
class CpuFloor:
    """The least CPU level of what runs every model beside its runtime."""

    level: str
    package: str
    row: str


def cpu_floor() -> CpuFloor:
    """The least level, as archspec names it, that the numerical library of the runtime sets is built for."""
    row = rows("cpu")["floor"][0]
    return CpuFloor(row["level"], f"{row['package']} {row['version']}", row_name("cpu", "floor", row))


def below_cpu_floor(level: str) -> bool:
    """Whether a CPU of that level lacks instructions of the floor; a level of another family is not compared."""
    order = rows("cpu")["order"]
    return level in order and order.index(level) < order.index(cpu_floor().level)


def runtime_limits(version: str) -> RuntimeLimits | None:
    """The limits of the onnxruntime release `version`, if its line is in the table."""
    row = _of_line("onnxruntime", "release", version)
    if row is None or "max_ir_version" not in row or "max_opset" not in row:
        return None
    return RuntimeLimits(row["max_ir_version"], row["max_opset"], row_name("onnxruntime", "release", row))


def onnxruntime_build(version: str, system: str = "linux") -> Build | None:
    """What the default GPU wheel of the onnxruntime release `version` is built for, if its line is in the table.

    The wheels for ``linux`` and ``windows`` carry different architectures.
    """
    told = _of_line("onnxruntime", "gpu", version) or {}
    read = _of_line("onnxruntime", "binary", version, os=system) or {}
    ptx = ptx_toolkit(read["ptx_isa"]) if "ptx_isa" in read else None
    toolkit = read.get("toolkit") or ptx or told.get("toolkit")
    if toolkit is None:
        return None
    return Build(
        toolkit=toolkit,
        cudnn=told.get("cudnn") or read.get("cudnn"),
        glibc=told.get("glibc"),
        architectures=tuple(read.get("architectures", ())),
        ptx=ptx,
        row=row_name("onnxruntime", f"binary for {system},", read) if read else row_name("onnxruntime", "gpu", told),
    )


def torch_build(version: str) -> Build | None:
    """The build of the torch `version` such as ``2.7.1+cu128``; without a local part, the default wheel's."""
    public, _, suffix = version.partition("+")
    told = _of_line("torch", "wheel", version) or {}
    toolkit = _toolkit_of(suffix) if suffix else told.get("toolkit")
    if toolkit is None:
        return None
    # The default wheel's other facts hold for a build with the suffix of the same toolkit, and for no other.
    same = told if told.get("toolkit") == toolkit else {}
    announced = next(
        (r for r in rows("torch")["build"] if suffix == r["suffix"] and line_of(version) in r["lines"]), None
    )
    read = _read_torch(public, toolkit)
    kind, row = ("binary", read) if read else ("build", announced) if announced else ("wheel", same)
    return Build(
        toolkit=toolkit,
        cudnn=same.get("cudnn"),
        glibc=same.get("glibc"),
        architectures=tuple(read["architectures"]) if read else (),
        served=(announced["lowest"], announced["highest"]) if announced else None,
        row=row_name("torch", kind, row) if row else "",
    )


def newest_torch_toolkit(version: str) -> str | None:
    """The newest CUDA toolkit that any build of the torch `version` was read to have, where one was."""
    found = [str(row["toolkit"]) for row in rows("torch")["binary"] if row["version"] == version]
    return max(found, key=capability_key, default=None)


def torchscript_limit(version: str) -> int | None:
    """The newest TorchScript archive that the torch `version` reads.

    Between two releases whose wheels were read and agree it is theirs; elsewhere nobody knows.
    """
    try:
        wanted = Version(Version(version).public)
    except InvalidVersion:
        return None
    readers = [(Version(row["torch"]), int(row["max"])) for row in rows("torchscript")["reader"]]
    before = [limit for known, limit in sorted(readers) if known <= wanted]
    behind = [limit for known, limit in sorted(readers) if known >= wanted]
    return before[-1] if before and behind and before[-1] == behind[0] else None


def torchscript_operators() -> Mapping[str, int]:
    """The operators that raise an archive's version, and to which."""
    return {str(row["name"]): int(row["version"]) for row in rows("torchscript")["operator"]}


def nuke_torch_line(line: str) -> str | None:
    """The torch that the Nuke line (``15.1``) embeds."""
    return _nuke(line, "torch")


def nuke_toolkit(line: str) -> str | None:
    """The CUDA toolkit line that the torch of the Nuke line is built for."""
    return _nuke(line, "toolkit")


def nuke_python(line: str) -> str | None:
    """The Python of the Nuke line."""
    return _nuke(line, "python")


def nuke_platform(line: str) -> Mapping[str, Any] | None:
    """The row of the VFX Reference Platform year that the Nuke line follows, where a source says which."""
    year = _nuke(line, "platform")
    return next((row for row in rows("platform")["year"] if str(row["year"]) == year), None)


def nuke_jit(line: str, capability: str) -> Jit | None:
    """The one-time compilation that this Nuke line makes on a card of that compute capability, if it is known."""
    for row in rows("nuke")["jit"]:
        if line in row["lines"] and capability_key(capability) >= capability_key(row["from"]):
            return Jit(row["minutes"], row["cache_gib"], row_name("nuke", "jit", row))
    return None


def runtime_sets() -> tuple[RuntimeSet, ...]:
    """The runtime sets, oldest toolkit first."""
    return tuple(
        RuntimeSet(row["name"], SpecifierSet(row["onnxruntime"]), row["toolkit"], row_name("onnxruntime", "set", row))
        for row in rows("onnxruntime")["set"]
    )


def _of_line(table: str, kind: str, version: str, **wanted: str) -> Mapping[str, Any] | None:
    wanted["line"] = line_of(version) or ""
    return next((row for row in rows(table)[kind] if wanted.items() <= row.items()), None)


def _read_torch(version: str, toolkit: str) -> Mapping[str, Any] | None:
    found = rows("torch")["binary"]
    return next((row for row in found if (row["version"], row["toolkit"]) == (version, toolkit)), None)


def _toolkit_of(suffix: str) -> str | None:
    """``12.8`` of ``cu128``."""
    digits = suffix.removeprefix("cu")
    return f"{digits[:-1]}.{digits[-1]}" if suffix != digits and digits.isdecimal() and len(digits) > 2 else None


def _nuke(line: str, key: str) -> str | None:
    for row in rows("nuke")["line"]:
        if line in row["lines"]:
            value = row.get(key)
            return None if value is None else str(value)
    return None
