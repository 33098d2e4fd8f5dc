import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_validators.vram.graph import Graph, Node
from changeover_validators.vram.planner import Fusion, MemoryRules, plan

NO_RULES = MemoryRules()
RULES = MemoryRules(
    in_place=frozenset({"Relu"}),
    alias=frozenset({"Reshape"}),
    fusions=(Fusion(frozenset({"BatchNormalization"}), frozenset({"Conv"})),),
)


def graph(
    nodes: Sequence[Node], sizes: dict[str, int], outputs: tuple[str, ...], weights: tuple[str, ...] = ()
) -> Graph:
    return Graph(tuple(nodes), sizes, frozenset(weights), ("x",), outputs, 0)


def slow_peak(found: Graph) -> int:
    """Walk the graph; at each node add up every tensor that exists: written, and still to be read or handed back."""
    peak = 0
    for index, node in enumerate(found.nodes):
        written = {*found.inputs, *(name for earlier in found.nodes[: index + 1] for name in earlier.outputs)}
        read_later = {name for later in found.nodes[index:] for name in later.inputs}
        alive = written & (read_later | {*found.inputs, *found.outputs, *node.outputs})
        peak = max(peak, sum(found.bytes_of[name] for name in alive))
    return peak


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    sizes = {"x": draw(st.integers(1, 50))}
    nodes = []
    for index in range(draw(st.integers(1, 12))):
        inputs = draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=3))
        outputs = [f"t{index}.{part}" for part in range(draw(st.integers(1, 2)))]
        sizes.update((name, draw(st.integers(1, 50))) for name in outputs)
        operator = draw(st.sampled_from(["Conv", "Relu", "Reshape", "BatchNormalization"]))
        nodes.append(Node(operator, tuple(inputs), tuple(outputs)))
    outputs = draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=2, unique=True))
    return graph(nodes, sizes, tuple(outputs))


@settings(deadline=None)
@given(found=graphs())
def test_without_rules_the_plan_is_the_sum_of_live_tensors(found: Graph) -> None:
    assert plan(found, NO_RULES).peak_bytes == slow_peak(found)


@settings(deadline=None)
@given(found=graphs())
def test_rules_never_make_a_plan_larger_than_all_tensors_and_keep_the_callers(found: Graph) -> None:
    planned = plan(found, MemoryRules(in_place=RULES.in_place, fusions=RULES.fusions)).peak_bytes

    assert found.bytes_of["x"] <= planned <= plan(found, NO_RULES).peak_bytes


@settings(deadline=None)
@given(found=graphs(), seed=st.integers(0, 100))
def test_names_and_their_order_in_the_table_change_nothing(found: Graph, seed: int) -> None:
    names = sorted(found.bytes_of)
    shuffled = names.copy()
    random.Random(seed).shuffle(shuffled)
    renamed = dict(zip(names, (f"r{name}" for name in shuffled), strict=True))
    nodes = [
        Node(n.operator, tuple(renamed[i] for i in n.inputs), tuple(renamed[o] for o in n.outputs)) for n in found.nodes
    ]
    sizes = {renamed[name]: found.bytes_of[name] for name in shuffled}
    outputs = tuple(renamed[name] for name in found.outputs)
    other = Graph(tuple(nodes), sizes, frozenset(), (renamed["x"],), outputs, 0)

    assert plan(other, RULES) == plan(found, RULES)


def test_activation_writes_in_place_where_nobody_else_reads() -> None:
    nodes = [Node("Conv", ("x",), ("a",)), Node("Relu", ("a",), ("b",)), Node("Conv", ("b",), ("y",))]
    found = graph(nodes, {"x": 1, "a": 10, "b": 10, "y": 10}, ("y",))

    assert plan(found, NO_RULES).peak_bytes == 1 + 10 + 10
    assert plan(found, RULES).peak_bytes == 1 + 10 + 10
    assert plan(found, RULES).buffers == 3


@pytest.mark.parametrize("outputs", [("y", "a"), ("y",)])
def test_activation_does_not_overwrite_what_is_still_needed(outputs: tuple[str, ...]) -> None:
    nodes = [Node("Conv", ("x",), ("a",)), Node("Relu", ("a",), ("b",)), Node("Add", ("b", "a"), ("y",))]
    found = graph(nodes, {"x": 1, "a": 10, "b": 10, "y": 10}, outputs)

    assert plan(found, RULES).buffers == 4


def test_activation_never_overwrites_the_callers_input() -> None:
    found = graph([Node("Relu", ("x",), ("y",))], {"x": 10, "y": 10}, ("y",))

    assert plan(found, RULES).peak_bytes == 20


def test_alias_of_a_tensor_keeps_its_buffer_from_being_overwritten() -> None:
    nodes = [
        Node("Conv", ("x",), ("a",)),
        Node("Reshape", ("a",), ("flat",)),
        Node("Relu", ("a",), ("b",)),
        Node("Add", ("b", "flat"), ("y",)),
    ]
    found = graph(nodes, {"x": 1, "a": 10, "flat": 10, "b": 10, "y": 10}, ("y",))

    assert plan(found, RULES).buffers == 4


def test_normalisation_behind_a_convolution_takes_no_buffer_but_behind_another_operator_does() -> None:
    sizes = {"x": 1, "a": 10, "b": 10, "y": 10}
    tail = [Node("BatchNormalization", ("a", "w"), ("b",)), Node("Relu", ("b",), ("y",))]
    folded = graph([Node("Conv", ("x",), ("a",)), *tail], sizes, ("y",), weights=("w",))
    separate = graph([Node("Concat", ("x",), ("a",)), *tail], sizes, ("y",), weights=("w",))

    assert plan(folded, RULES).peak_bytes == 11
    assert plan(separate, RULES).peak_bytes == 21


def test_plan_names_the_operator_at_the_peak() -> None:
    nodes = [Node("Conv", ("x",), ("a",)), Node("Concat", ("a",), ("b",)), Node("Conv", ("b",), ("y",))]
    found = plan(graph(nodes, {"x": 1, "a": 5, "b": 90, "y": 1}, ("y",)), RULES)

    assert (found.node, found.operator, found.peak_bytes) == (1, "Concat", 96)
