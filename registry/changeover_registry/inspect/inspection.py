"""What an inspection answers: derived requirements, tensors and problems, as values."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from changeover_registry.records.release import Requires

__all__ = ["Inspection", "Problem", "TensorInfo", "compute_capability", "formats"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a variant's files, in the words of an error."""

    rule: str
    where: str
    expected: str
    actual: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output as the file states it: dims are integers, or the axis' own name, or ``?``."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the files of one variant say. With problems, `requires` holds what could still be read.

    `evidence` says by the name of a requirement what in the files shows it, where that is not plain to see.
    """

    requires: Requires
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    problems: tuple[Problem, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)


@cache
def formats() -> dict[str, Any]:
    """The parsed table ``formats.toml``."""
    data = resources.files("changeover_registry.inspect").joinpath("formats.toml").read_bytes()
    return tomllib.loads(data.decode("utf-8"))


def compute_capability(dtypes: Iterable[str]) -> str | None:
    """The least compute capability that a GPU needs for tensors of `dtypes`, or None if any GPU will do."""
    found = set(dtypes)
    needed = [row["compute_capability"] for row in formats()["capability"] if found & set(row["dtypes"])]
    return max(needed, key=lambda text: tuple(int(part) for part in text.split(".")), default=None)
