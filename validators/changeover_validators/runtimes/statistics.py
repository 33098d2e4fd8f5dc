"""What an arena of onnxruntime holds, in bytes, as the runtime itself counts it.

The figures come from ``AllocatorGetStats`` of the C API, which releases from 1.23 on have. The Python module hides its
sessions from that API, so only a `vram.native.NativeSession` can be asked; it is the same release from the same wheel.
Older releases tell one figure in their log: what the arena holds after each extension (`logged_total`).
"""

import ctypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from changeover_validators.runtimes.capi import STATISTICS_SINCE, Api, minor_of

__all__ = ["ArenaStatistics", "HasArena", "arena_statistics", "highest_total", "logged_total", "read_statistics"]

_ARENA_ALLOCATOR, _DEFAULT_MEMORY = 1, 0
_DEVICES = {"cpu": "Cpu", "cuda": "Cuda"}
_TOTAL = re.compile(r"Total allocated bytes: (\d+)")
_ARENA = re.compile(r"Extending BFCArena for (\w+)")
_NO_LIMIT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ArenaStatistics:
    """One arena at one moment, in bytes.

    Attributes:
        in_use: The chunks that are held now, each whole, with what its tensor does not use.
        max_in_use: The most of that so far.
        total_allocated: The regions that the arena holds of the device, reserves included.
        allocations: How many times something was asked for.
        reserves: How many of those lie outside of the regions (weights).
        extensions: How many regions were taken.
        shrinkages: How many regions were given back.
        max_alloc: The largest that was asked for at once.
        limit: What the arena may hold; None where it has no limit.
        requested: What tensors ask for of `in_use`; None before onnxruntime 1.31.
    """

    in_use: int
    max_in_use: int
    total_allocated: int
    allocations: int
    reserves: int
    extensions: int
    shrinkages: int
    max_alloc: int
    limit: int | None
    requested: int | None = None


class HasArena(Protocol):
    """A session that can be asked for its arena."""

    def statistics(self, provider: str | None = None) -> ArenaStatistics | None:
        """Its arena of `provider`, absent for the one that runs it."""
        ...


def arena_statistics(session: HasArena, provider: str) -> ArenaStatistics | None:
    """The arena of `session` on `provider` (``cpu`` or ``cuda``); None where this release tells no statistics."""
    return session.statistics(provider)


def read_statistics(api: Api, session: ctypes.c_void_p, provider: str, device: int = 0) -> ArenaStatistics | None:
    """Ask the library.

    Args:
        api: The library that made `session`.
        session: An ``OrtSession``.
        provider: ``cpu`` or ``cuda``.
        device: The number of the GPU; 0 for the CPU.

    Returns:
        None where the release is older than 1.23, or the session keeps no arena there.

    Raises:
        NativeError: The session has no allocator for this device.
    """
    if minor_of(api.version) < STATISTICS_SINCE:
        return None
    name = _DEVICES[provider].encode()
    memory = api.made("CreateMemoryInfo", name, _ARENA_ALLOCATOR, device, _DEFAULT_MEMORY)
    try:
        allocator = api.made("CreateAllocator", session, memory)
        try:
            pairs = api.pairs(api.made("AllocatorGetStats", allocator))
        finally:
            api.plain("ReleaseAllocator", allocator)
    finally:
        api.plain("ReleaseMemoryInfo", memory)
    return _parsed(pairs)


def logged_total(lines: str) -> int | None:
    """The bytes that the arena held after its last extension, out of the runtime's log at level INFO.

    A log that was kept from the start of the session tells the arena of that session alone; None where no line tells.
    """
    found = _TOTAL.findall(lines)
    return int(found[-1]) if found else None


def highest_total(lines: Iterable[str], provider: str) -> int:
    """The most that the arena of `provider` held after any of these extensions; 0 where none of them is its own.

    A process has an arena for each kind of memory; the line before an extension names the one.
    """
    most, own = 0, True
    for line in lines:
        if named := _ARENA.match(line):
            own = named[1] == _DEVICES[provider]
        elif own and (total := _TOTAL.match(line)):
            most = max(most, int(total[1]))
    return most


def _parsed(pairs: Mapping[str, str]) -> ArenaStatistics | None:
    """The figures of one answer; an allocator that is no arena answers none."""
    if "TotalAllocated" not in pairs:
        return None
    number = {name: int(text) for name, text in pairs.items() if re.fullmatch(r"-?\d+", text)}
    limit = number.get("Limit", 0)
    return ArenaStatistics(
        in_use=number["InUse"],
        max_in_use=number["MaxInUse"],
        total_allocated=number["TotalAllocated"],
        allocations=number["NumAllocs"],
        reserves=number["NumReserves"],
        extensions=number["NumArenaExtensions"],
        shrinkages=number["NumArenaShrinkages"],
        max_alloc=number["MaxAllocSize"],
        limit=limit if 0 < limit < _NO_LIMIT else None,
        requested=number.get("RequestedInUse"),
    )
