"""Which tensors share a buffer, and when each buffer is taken and given back: onnxruntime's plan for one session.

The plan is made once, from what was known of shapes then. In order of the operators an output (1) is the caller's if
the graph gives it out, (2) is its input where the operator only renames it, (3) is written over an input that nobody
reads later, where the operator may do that and both shapes are known to be equal, (4) takes over a buffer that became
free, the most recent of the same shape first, else (5) is a buffer of its own. A buffer that is taken over stays taken
through its idle time. Source: onnxruntime, core/framework/allocation_planner, releases 1.15 to 1.31.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from changeover_validators.vram.optimised import Operation, SessionGraph, Tensor

__all__ = ["BufferPlan", "Reuse", "Step", "plan_buffers"]

Pair = tuple[str, str, int, int]
"""Domain, operator, index of the input, index of the output."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What one runtime release does: which outputs only rename an input, and which may be written over one."""

    aliases: frozenset[Pair] = frozenset()
    in_place: frozenset[Pair] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One operator: buffers to take before it (name and bytes, in order) and to give back after it."""

    operation: Operation
    taken: tuple[tuple[str, int], ...]
    freed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BufferPlan:
    """All steps. `given_out` are the buffers that the caller owns after a run; they never lie in the block."""

    steps: tuple[Step, ...]
    given_out: frozenset[str]


@dataclass(slots=True)
class _State:
    graph: SessionGraph
    reuse: Reuse
    uses: dict[str, int]
    buffer: dict[str, str] = field(default_factory=dict)
    free: list[str] = field(default_factory=list)
    made_by: dict[str, int] = field(default_factory=dict)
    last_use: dict[str, int] = field(default_factory=dict)


def plan_buffers(graph: SessionGraph, reuse: Reuse) -> BufferPlan:
    """The steps of a run of `graph`."""
    state = _State(graph, reuse, _uses(graph))
    outputs = frozenset(graph.outputs)
    for name in (*graph.inputs, *graph.weights):
        state.buffer[name] = name
    for index, operation in enumerate(graph.operations):
        for place, name in enumerate(operation.outputs):
            if name:
                _assign(state, operation, place, name, index, given_out=name in outputs)
        _release(state, operation, index)
    return BufferPlan(tuple(_steps(state)), outputs)


def _uses(graph: SessionGraph) -> dict[str, int]:
    """Readers of each tensor, and one more for what a caller or the session holds, and for the maker's own step."""
    uses: dict[str, int] = dict.fromkeys((*graph.inputs, *graph.weights), 1)
    for operation in graph.operations:
        for name in operation.outputs:
            if name:
                uses[name] = uses.get(name, 0) + 1
        for name in operation.inputs:
            if name:
                uses[name] = uses.get(name, 0) + 1
    for name in graph.outputs:
        uses[name] = uses.get(name, 0) + 1
    return uses


def _assign(state: _State, operation: Operation, place: int, name: str, index: int, *, given_out: bool) -> None:
    source = None if given_out else _reusable_input(state, operation, place, name) or _reusable_buffer(state, name)
    if source is None:
        state.buffer[name] = name
        state.made_by[name] = index
        return
    original = state.buffer[source]
    state.buffer[name] = original
    state.uses[original] += state.uses[name]


def _reusable_input(state: _State, operation: Operation, place: int, name: str) -> str | None:
    for aliases, pairs in ((True, state.reuse.aliases), (False, state.reuse.in_place)):
        for index, source in enumerate(operation.inputs):
            if not source or (operation.domain, operation.operator, index, place) not in pairs:
                continue
            if aliases or (state.uses[state.buffer[source]] == 1 and _same(state.graph.tensors, source, name)):
                return source
    return None


def _reusable_buffer(state: _State, name: str) -> str | None:
    tensor = state.graph.tensors[name]
    if not tensor.known:
        return None
    for index, free in enumerate(state.free):
        if _same(state.graph.tensors, free, name):
            return state.free.pop(index)
    return None


def _same(tensors: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Whether a runtime can tell beforehand that two tensors are of one size: equal numbers or equal names."""
    first, second = tensors[one], tensors[other]
    if first.known is None or second.known is None or first.item_bytes != second.item_bytes or not first.item_bytes:
        return False
    return len(first.known) == len(second.known) and all(
        a is not None and a == b for a, b in zip(first.known, second.known, strict=True)
    )


def _release(state: _State, operation: Operation, index: int) -> None:
    for place, name in enumerate((*operation.inputs, *operation.outputs)):
        if name:
            original = state.buffer[name]
            if place < len(operation.inputs):
                state.last_use[original] = index
            state.uses[original] -= 1
            if state.uses[original] == 0:
                state.free.insert(0, original)


def _steps(state: _State) -> Iterator[Step]:
    taken: list[list[tuple[str, int]]] = [[] for _ in state.graph.operations]
    freed: list[list[str]] = [[] for _ in state.graph.operations]
    outputs = set(state.graph.outputs)
    for name, index in state.made_by.items():
        taken[index].append((name, state.graph.tensors[name].bytes))
        # What nobody reads is free to be taken over, and given back only when the run ends.
        if name not in outputs and name in state.last_use:
            freed[state.last_use[name]].append(name)
    for operation, takes, frees in zip(state.graph.operations, taken, freed, strict=True):
        yield Step(operation, tuple(takes), tuple(frees))
