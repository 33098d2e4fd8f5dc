"""Plans the memory of one run: which tensors share a buffer, how long each lives, and the most that lives at once.

A pure function of a memory graph and a table of rules. Liveness with in-place writes and aliases: a buffer lives from
the operator that first writes it to the last one that reads it. Inputs live for the whole run and outputs to its end,
because a runtime holds them for the caller. What this leaves out: rounding, fragmentation and growth of a runtime's
arena, and scratch memory inside kernels (cuDNN workspaces); the answer is therefore a lower estimate.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from changeover_validators.vram.graph import Graph, Node

__all__ = ["Fusion", "MemoryRules", "Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Fusion:
    """Operators that are folded into the producer of their input 0, if that is one of `after`."""

    operators: frozenset[str]
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """Operators that write in place, that only rename their input, and that are folded into their producer."""

    in_place: frozenset[str] = frozenset()
    alias: frozenset[str] = frozenset()
    fusions: tuple[Fusion, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer of liveness: the peak in bytes, and the index and operator of the node at which it is reached."""

    peak_bytes: int
    node: int
    operator: str
    buffers: int


@dataclass(slots=True)
class _Buffer:
    """One piece of memory: `reads` counts the reads still to come under any of the names that share it."""

    size_bytes: int
    first: int
    last: int
    reads: int


@dataclass(slots=True)
class _Walk:
    """The state of one pass over the graph: buffers, the buffer of each tensor, and what each tensor was made by."""

    graph: Graph
    rules: MemoryRules
    readers: Counter[str]
    buffers: list[_Buffer] = field(default_factory=list)
    buffer_of: dict[str, _Buffer] = field(default_factory=dict)
    maker_of: dict[str, str] = field(default_factory=dict)


def plan(graph: Graph, rules: MemoryRules) -> Plan:
    """The peak of `graph` under `rules`, in bytes without weights."""
    walk = _Walk(graph, rules, _readers(graph))
    end = len(graph.nodes)
    for name in graph.inputs:
        _allocate(walk, name, 0)
    for index, node in enumerate(graph.nodes):
        _step(walk, index, node)
    for name in {*graph.inputs, *graph.outputs} & walk.buffer_of.keys():
        walk.buffer_of[name].last = end
    return _peak(walk.buffers, graph.nodes)


def _readers(graph: Graph) -> Counter[str]:
    """How often each tensor is read; the caller counts as one more reader, so what is the caller's is never reused."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.outputs)
    readers.update(graph.inputs)
    return readers


def _step(walk: _Walk, index: int, node: Node) -> None:
    for position, name in enumerate(node.outputs):
        source = _shared(walk, node, name) if position == 0 else None
        if source is None:
            _allocate(walk, name, index)
        else:
            walk.buffer_of[name] = walk.buffer_of[source]
            walk.buffer_of[name].reads += walk.readers[name]
        # A convolution stays one after its normalisation is folded in, so that a second fusion can follow.
        fused = source is not None and _fuses(walk, node, source)
        walk.maker_of[name] = walk.maker_of[str(source)] if fused else node.operator
    for name in walk.buffer_of.keys() & {*node.inputs, *node.outputs}:
        buffer = walk.buffer_of[name]
        buffer.reads -= node.inputs.count(name)
        buffer.last = max(buffer.last, index)


def _allocate(walk: _Walk, name: str, index: int) -> None:
    buffer = _Buffer(walk.graph.bytes_of[name], index, index, walk.readers[name])
    walk.buffers.append(buffer)
    walk.buffer_of[name] = buffer


def _shared(walk: _Walk, node: Node, output: str) -> str | None:
    """The input whose buffer `output` takes, if any."""
    source = node.inputs[0] if node.inputs else ""
    if source not in walk.buffer_of:
        return None
    if node.operator in walk.rules.alias:
        return source
    writes = node.operator in walk.rules.in_place or _fuses(walk, node, source)
    same = walk.graph.bytes_of[source] == walk.graph.bytes_of[output]
    return source if writes and same and _is_last_reader(walk, node, source) else None


def _is_last_reader(walk: _Walk, node: Node, source: str) -> bool:
    buffer = walk.buffer_of[source]
    return buffer.reads == sum(walk.buffer_of.get(name) is buffer for name in node.inputs)


def _fuses(walk: _Walk, node: Node, source: str) -> bool:
    others = set(node.inputs) - {source}
    return others <= walk.graph.constants and any(
        node.operator in fusion.operators and walk.maker_of.get(source) in fusion.after for fusion in walk.rules.fusions
    )


def _peak(buffers: list[_Buffer], nodes: tuple[Node, ...]) -> Plan:
    changes = [0] * (len(nodes) + 2)
    for buffer in buffers:
        changes[buffer.first] += buffer.size_bytes
        changes[buffer.last + 1] -= buffer.size_bytes
    live = list(accumulate(changes))[: len(nodes)]
    index = live.index(max(live))
    return Plan(live[index], index, nodes[index].operator, len(buffers))
