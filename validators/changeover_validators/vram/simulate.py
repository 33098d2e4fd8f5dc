"""Runs of one session, simulated: what the arena holds after loading, after the first run, from the second run on.

The first run takes each buffer on its own. With a memory pattern every later one takes a single block (`pattern`) and
only what is given to the caller, and scratch memory inside operators, comes beside it. What this leaves out: how a
session's graph and load come to be known (`sessions`), and what all of it means (`onnx_predictor`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from changeover_registry.records.memory import MemoryPlan
from changeover_validators.vram.arena import Arena, ArenaFullError
from changeover_validators.vram.buffers import BufferPlan, Step
from changeover_validators.vram.pattern import packed_bytes

__all__ = ["Loaded", "Simulated", "Usage", "simulate"]

Scratch = Callable[[Step], tuple[int, ...]]
"""The temporary allocations of one operator, in bytes, all alive at once."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The arena of a session that was just built, in bytes.

    Attributes:
        reserved: Beside the regions.
        asked: The requests that made a region, in order.
        held: What of that, and of smaller requests, is held for as long as the session lives.
    """

    reserved: int
    asked: tuple[int, ...] = ()
    held: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """The most in use so far, and the most that the arena held in a run, in bytes."""

    max_in_use: int
    total: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """`requested` is the most that buffers, scratch and reserved weights asked for at once, without rounding.

    `alive` is the same without scratch.
    """

    loaded: Usage
    first: Usage
    steady: Usage
    resting: int
    requested: int
    alive: int
    scratch: int


def simulate(
    buffers: BufferPlan,
    loaded: Loaded,
    plan: MemoryPlan,
    scratch: Scratch,
    *,
    opening: BufferPlan | None = None,
    runs: int = 4,
    limit_bytes: int | None = None,
    upward: bool = False,
) -> Simulated:
    """The usage over `runs` runs.

    Args:
        buffers: The steps of a run in the steady state.
        loaded: The arena before the first run.
        plan: Settings of session and arena.
        scratch: What an operator takes while it computes.
        opening: The steps of the very first run, where its states have another size; None where it is like the others.
        runs: How many runs of `buffers`.
        limit_bytes: The most that the arena may hold.
        upward: Whether later regions lie at higher addresses, which decides between free chunks of one size.

    Raises:
        ArenaFullError: The limit is too small.
    """
    arena = Arena(
        extend=plan.extend, initial_chunk_bytes=plan.initial_chunk_bytes, limit_bytes=limit_bytes, upward=upward
    )
    _load(arena, loaded)
    at_load = Usage(arena.max_in_use, arena.total)
    usages = []
    if opening is not None:
        _give_back(arena, _run(arena, opening, scratch))
    block = packed_bytes(_events(buffers)) if plan.pattern else 0
    for number in range(1, runs + 1):
        if number == 1 or not block:
            outputs = _run(arena, buffers, scratch)
        else:
            outputs = _run_in_block(arena, buffers, scratch, block)
        # Nothing is given back while operators run, so this is the most of the run.
        usages.append(Usage(arena.max_in_use, arena.total))
        if _shrinks(plan, number + (opening is not None)):
            # The run ends with this, and the caller still holds what it was given: regions with outputs stay.
            arena.shrink()
        _give_back(arena, outputs)
    requested, temporary = _requested(buffers, scratch)
    alive, _ = _requested(buffers, lambda _: ())
    return Simulated(
        at_load,
        usages[0],
        usages[-1],
        arena.total,
        loaded.reserved + requested,
        loaded.reserved + alive,
        temporary,
    )


def _load(arena: Arena, loaded: Loaded) -> None:
    if loaded.reserved:
        arena.reserve(loaded.reserved)
    kept = list(loaded.held)
    passing = []
    for size in loaded.asked:
        handle = arena.allocate(size)
        if size in kept:
            kept.remove(size)
        else:
            passing.append(handle)
    for handle in passing:
        arena.free(handle)
    for size in kept:
        arena.allocate(size)


def _run(arena: Arena, buffers: BufferPlan, scratch: Scratch) -> tuple[int, ...]:
    """One run, tensor by tensor; what the caller is given is still held."""
    handles: dict[str, int] = {}
    for step in buffers.steps:
        for name, size in step.taken:
            if size:
                handles[name] = arena.allocate(size)
        _compute(arena, step, scratch)
        for name in step.freed:
            if name in handles:
                arena.free(handles.pop(name))
    return tuple(handles.values())


def _run_in_block(arena: Arena, buffers: BufferPlan, scratch: Scratch, block: int) -> tuple[int, ...]:
    """One run whose tensors lie in one block, without those that the caller is given, which are still held."""
    try:
        whole = arena.allocate(block)
    except ArenaFullError:
        # onnxruntime logs that the block is not to be had, and runs tensor by tensor as the first time.
        return _run(arena, buffers, scratch)
    outside: list[int] = []
    for step in buffers.steps:
        outside += [arena.allocate(size) for name, size in step.taken if name in buffers.given_out and size]
        _compute(arena, step, scratch)
    arena.free(whole)
    return tuple(outside)


def _give_back(arena: Arena, handles: tuple[int, ...]) -> None:
    for handle in handles:
        arena.free(handle)


def _compute(arena: Arena, step: Step, scratch: Scratch) -> None:
    handles = [arena.allocate(size) for size in scratch(step) if size]
    for handle in handles:
        arena.free(handle)


def _events(buffers: BufferPlan) -> list[tuple[int, int]]:
    """The run as the pattern sees it: sizes rounded to 256 bytes, without what the caller gets."""
    numbers: dict[str, int] = {}
    events: list[tuple[int, int]] = []
    for step in buffers.steps:
        for name, size in step.taken:
            if name not in buffers.given_out:
                numbers[name] = len(numbers)
                events.append((numbers[name], -(-size // 256) * 256))
        events += [(numbers[name], -1) for name in step.freed if name in numbers]
    return events


def _shrinks(plan: MemoryPlan, number: int) -> bool:
    return plan.shrink == "each-run" or (plan.shrink == "after-warm-up" and number == 2)


def _requested(buffers: BufferPlan, scratch: Scratch) -> tuple[int, int]:
    """The most that is asked for at once, and the most scratch of any operator."""
    live = most = temporary = 0
    sizes: dict[str, int] = {}
    for step in buffers.steps:
        for name, size in step.taken:
            sizes[name] = size
            live += size
        inside = sum(scratch(step))
        temporary = max(temporary, inside)
        most = max(most, live + inside)
        live -= sum(sizes[name] for name in step.freed)
    return most, temporary
