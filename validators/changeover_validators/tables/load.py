"""Reads the tables of this folder into values, once a process, and answers questions about them.

Every answer is a value or None for "not in the table". Versions are compared as numbers, never as text.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from packaging.version import InvalidVersion, Version

__all__ = [
    "RuntimeLimits",
    "Toolkit",
    "TorchBuild",
    "capability_key",
    "capability_of_gpu",
    "driver_ceiling",
    "nuke_python",
    "nuke_toolkit",
    "nuke_torch_line",
    "rows",
    "runtime_limits",
    "toolkit",
    "torch_build",
]


@dataclass(frozen=True, slots=True)
class Toolkit:
    """One CUDA toolkit line: the least driver branch, and the compute capabilities that it serves, both included."""

    line: str
    first_driver: int
    lowest: str
    highest: str


@dataclass(frozen=True, slots=True)
class RuntimeLimits:
    """What one onnxruntime release loads at most, and the CUDA toolkit line of its default GPU package."""

    max_ir_version: int
    max_opset: int
    cuda: str


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """One torch wheel: its CUDA toolkit line and the compute capabilities that it carries, both included."""

    toolkit: str
    lowest: str
    highest: str


@cache
def rows(table: str) -> dict[str, Any]:
    """The parsed table ``<table>.toml`` of this package."""
    data = resources.files("changeover_validators.tables").joinpath(f"{table}.toml").read_bytes()
    return tomllib.loads(data.decode("utf-8"))


def capability_key(text: str) -> tuple[int, int]:
    """``8.6`` as a pair that orders as numbers do."""
    major, minor = text.split(".")
    return int(major), int(minor)


def toolkit(line: str) -> Toolkit | None:
    """The newest known toolkit line that is not newer than `line` (``12.6`` is answered by 12.0) within its major."""
    wanted = capability_key(line)
    known = [row for row in rows("cuda")["toolkit"] if capability_key(row["line"]) <= wanted]
    best = max(known, key=lambda row: capability_key(row["line"]), default=None)
    if best is None or capability_key(best["line"])[0] != wanted[0]:
        return None
    return Toolkit(best["line"], best["first_driver"], best["lowest"], best["highest"])


def driver_ceiling(capability: str) -> int | None:
    """The last driver branch that drives cards of that compute capability, or None if none is known to be the last."""
    for row in rows("cuda")["last_driver"]:
        if capability_key(capability) < capability_key(row["below"]):
            return int(row["branch"])
    return None


def capability_of_gpu(name: str) -> str | None:
    """The compute capability of the family that a GPU's product name belongs to."""
    for row in rows("gpus")["family"]:
        if any(re.search(rf"(?<![A-Za-z0-9]){re.escape(known)}(?![0-9])", name) for known in row["names"]):
            return str(row["capability"])
    return None


def runtime_limits(version: str) -> RuntimeLimits | None:
    """The limits of the onnxruntime release `version`, if its line is in the table."""
    line = _line(version)
    for row in rows("onnxruntime")["release"]:
        if line is not None and capability_key(row["first"]) <= line <= capability_key(row["last"]):
            return RuntimeLimits(row["max_ir_version"], row["max_opset"], row["cuda"])
    return None


def torch_build(version: str) -> TorchBuild | None:
    """The build of the torch `version` with its local part, such as ``2.7.1+cu128``."""
    line = _line(version)
    suffix = version.partition("+")[2]
    for row in rows("torch")["build"]:
        if suffix == row["suffix"] and line in {capability_key(known) for known in row["lines"]}:
            return TorchBuild(row["toolkit"], row["lowest"], row["highest"])
    return None


def nuke_torch_line(line: str) -> str | None:
    """The torch that the Nuke line (``15.1``) embeds."""
    return _nuke(line, "torch")


def nuke_toolkit(line: str) -> str | None:
    """The CUDA toolkit line that the torch of the Nuke line is built for."""
    return _nuke(line, "toolkit")


def nuke_python(line: str) -> str | None:
    """The Python of the Nuke line."""
    return _nuke(line, "python")


def _nuke(line: str, key: str) -> str | None:
    for row in rows("nuke")["line"]:
        if line in row["lines"]:
            value = row.get(key)
            return None if value is None else str(value)
    return None


def _line(version: str) -> tuple[int, int] | None:
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None
    return parsed.major, parsed.minor
