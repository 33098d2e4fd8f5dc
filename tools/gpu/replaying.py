"""Measured traces against the simulated caching allocator of this repository, by the files of its source alone.

The modules are loaded under their own names without the packages around them, which would need libraries that the
Python at hand may not have.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["check", "replayed"]

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT = 0.05
_MOST_ROUNDS = 12
_RESERVED = "reserved_bytes.all.peak"


def check(folder: Path) -> tuple[list[str], bool]:
    """A line for each trace, and whether every one that was compared is within 5 % of what torch counted."""
    lines, errors = [], []
    for path in sorted(folder.glob("traces-*.jsonl")):
        for recording in _recordings(path):
            counted = recording["counters"][-1].get(_RESERVED) if recording["counters"] else None
            where = f"{path.name} {recording['width']}x{recording['height']}, torch {recording['torch']}"
            if recording["device"] != "cuda" or counted is None:
                lines.append(f"{where}: not compared: torch counted nothing, for it ran on the {recording['device']}")
                continue
            predicted = replayed(recording)
            errors.append(abs(predicted / counted - 1))
            lines.append(f"{where}: reserved {counted}, predicted {predicted}, off by {errors[-1]:.2%}")
    if not errors:
        return [*lines, "not measured on a GPU: there is no trace to compare"], True
    worst = max(errors)
    lines.append(f"{len(errors)} compared, off by {worst:.2%} at most; {sum(e <= _LIMIT for e in errors)} within 5 %")
    return lines, worst <= _LIMIT


def replayed(recording: dict[str, Any]) -> int:
    """What is reserved once the last call of a recording repeats itself, in bytes."""
    caching, line = _allocator(str(recording["torch"]))
    allocator = caching.CachingAllocator(line)
    for size in (*recording["weights"], *recording.get("libraries", ())):
        allocator.allocate(size)
    calls = recording["calls"]
    for call in calls[:-1]:
        _play(allocator, call)
    before = -1
    for _ in range(_MOST_ROUNDS):
        _play(allocator, calls[-1])
        if allocator.stats.reserved == before:
            break
        before = allocator.stats.reserved
    return int(allocator.stats.reserved)


def _play(allocator: Any, call: list[list[int]]) -> None:
    handles: dict[int, int] = {}
    for event in call:
        if len(event) == 1:
            allocator.free(handles.pop(event[0]))
        else:
            handles[event[0]] = allocator.allocate(event[1])


def _recordings(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="ascii") as lines:
        next(lines)
        for line in lines:
            yield json.loads(line)


def _allocator(version: str) -> tuple[Any, Any]:
    """The allocator's module, and the sizes of the torch line that `version` belongs to.

    Raises:
        RuntimeError: This Python cannot read the table (before 3.11).
    """
    _shell("changeover_registry", _ROOT / "registry" / "changeover_registry")
    source = _ROOT / "validators" / "changeover_validators"
    _shell("changeover_validators", source)
    _shell("changeover_validators.vram", source / "vram")
    tables = _shell("changeover_validators.tables", source / "tables")
    tables.rows = _rows  # type: ignore[attr-defined]
    caching = importlib.import_module("changeover_validators.vram.caching")
    lines = importlib.import_module("changeover_validators.vram.lines")
    return caching, lines.line_of(version)


def _shell(name: str, folder: Path) -> types.ModuleType:
    """A package without its ``__init__``."""
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    return sys.modules[name]


def _rows(name: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError as error:
        message = "the check needs Python 3.11 or newer"
        raise RuntimeError(message) from error
    path = _ROOT / "validators" / "changeover_validators" / "tables" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))
