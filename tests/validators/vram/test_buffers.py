import pytest

from changeover_validators.vram.buffers import Reuse, plan_buffers
from changeover_validators.vram.optimised import Operation, SessionGraph, Tensor

RELU = ("", "Relu", 0, 0)
SUM = ("", "FusedConv", 3, 0)


def graph(
    *operations: tuple[str, tuple[str, ...], str], outputs: tuple[str, ...], **known: tuple[object, ...] | None
) -> SessionGraph:
    """Operators of (name, inputs, output) on tensors of four floats; `known` overrides what is known of a shape."""
    made = tuple(Operation("", name, inputs, (output,), {}) for name, inputs, output in operations)
    names = {name for op in made for name in (*op.inputs, *op.outputs)}
    tensors = {name: Tensor(4, (1, 4), known.get(name, (1, 4))) for name in names}  # type: ignore[arg-type]
    return SessionGraph(made, tensors, frozenset({"w"} & names), ("x",), outputs)


def taken(found: SessionGraph, reuse: Reuse) -> list[list[str]]:
    return [[name for name, _ in step.taken] for step in plan_buffers(found, reuse).steps]


def freed(found: SessionGraph, reuse: Reuse) -> list[list[str]]:
    return [list(step.freed) for step in plan_buffers(found, reuse).steps]


def test_an_activation_writes_over_what_nobody_reads_later() -> None:
    found = graph(("Conv", ("x", "w"), "a"), ("Relu", ("a",), "b"), ("Conv", ("b", "w"), "y"), outputs=("y",))

    assert taken(found, Reuse(in_place=frozenset({RELU}))) == [["a"], [], ["y"]]
    assert taken(found, Reuse()) == [["a"], ["b"], ["y"]]


def test_an_activation_keeps_off_what_is_read_later() -> None:
    found = graph(("Conv", ("x", "w"), "a"), ("Relu", ("a",), "b"), ("Add", ("a", "b"), "y"), outputs=("y",))

    assert taken(found, Reuse(in_place=frozenset({RELU}))) == [["a"], ["b"], ["y"]]


def test_an_activation_keeps_off_the_callers_input() -> None:
    found = graph(("Relu", ("x",), "a"), ("Conv", ("a", "w"), "y"), outputs=("y",))

    assert taken(found, Reuse(in_place=frozenset({RELU}))) == [["a"], ["y"]]


def test_the_input_that_is_written_over_is_the_one_of_the_table() -> None:
    found = graph(
        ("Conv", ("x", "w"), "a"),
        ("Conv", ("x", "w"), "b"),
        ("FusedConv", ("a", "w", "", "b"), "c"),
        ("Conv", ("c", "w"), "y"),
        outputs=("y",),
    )

    steps = plan_buffers(found, Reuse(in_place=frozenset({SUM}))).steps

    assert [[name for name, _ in step.taken] for step in steps] == [["a"], ["b"], [], ["y"]]
    assert [list(step.freed) for step in steps] == [[], [], ["a"], ["b"]]


@pytest.mark.parametrize("unknown", [(1, None), (1, "width"), None])
def test_where_sizes_are_not_known_to_be_equal_nothing_is_shared(unknown: tuple[object, ...] | None) -> None:
    found = graph(
        ("Conv", ("x", "w"), "a"), ("Relu", ("a",), "b"), ("Conv", ("b", "w"), "y"), outputs=("y",), a=unknown
    )

    assert taken(found, Reuse(in_place=frozenset({RELU}))) == [["a"], ["b"], ["y"]]


def test_equal_names_of_free_dimensions_are_known_to_be_equal() -> None:
    shape = (1, "width")
    found = graph(
        ("Conv", ("x", "w"), "a"), ("Relu", ("a",), "b"), ("Conv", ("b", "w"), "y"), outputs=("y",), a=shape, b=shape
    )

    assert taken(found, Reuse(in_place=frozenset({RELU}))) == [["a"], [], ["y"]]


def test_a_free_buffer_of_the_same_shape_is_taken_over_and_kept_through_its_idle_time() -> None:
    found = graph(
        ("Conv", ("x", "w"), "a"),
        ("Conv", ("a", "w"), "b"),
        ("Conv", ("b", "w"), "c"),
        ("Conv", ("c", "w"), "y"),
        outputs=("y",),
    )

    assert taken(found, Reuse()) == [["a"], ["b"], [], ["y"]]
    assert freed(found, Reuse()) == [[], [], ["b"], ["a"]]


def test_the_buffer_that_became_free_last_is_taken_over_first() -> None:
    found = graph(
        ("Conv", ("x", "w"), "a"),
        ("Conv", ("x", "w"), "b"),
        ("Conv", ("b", "w"), "c"),
        ("Conv", ("a", "w"), "d"),
        ("Conv", ("c", "w"), "e"),
        ("Add", ("d", "e"), "y"),
        outputs=("y",),
    )

    # b is free when d is made; a, which became free after b was taken, is what e gets.
    assert taken(found, Reuse()) == [["a"], ["b"], ["c"], [], [], ["y"]]
    assert freed(found, Reuse())[-1] == ["a", "b"]


def test_a_new_name_for_a_tensor_takes_no_buffer_whatever_its_shape() -> None:
    found = graph(
        ("Conv", ("x", "w"), "a"),
        ("Reshape", ("a",), "b"),
        ("Add", ("a", "b"), "y"),
        outputs=("y",),
        b=(4, 1),
    )

    assert taken(found, Reuse(aliases=frozenset({("", "Reshape", 0, 0)}))) == [["a"], [], ["y"]]


def test_what_the_caller_gets_is_never_given_back() -> None:
    found = graph(("Conv", ("x", "w"), "a"), ("Conv", ("a", "w"), "y"), outputs=("a", "y"))

    plan = plan_buffers(found, Reuse())

    assert plan.given_out == {"a", "y"}
    assert freed(found, Reuse()) == [[], []]


def test_an_output_that_nobody_reads_is_held_to_the_end_of_the_run() -> None:
    found = graph(("Conv", ("x", "w"), "a"), ("Conv", ("x", "w"), "y"), outputs=("y",))

    assert freed(found, Reuse()) == [[], []]


def test_a_buffer_that_nobody_reads_is_taken_over_and_given_back_after_its_last_reader() -> None:
    found = graph(("Conv", ("x", "w"), "a"), ("Conv", ("x", "w"), "b"), ("Conv", ("b", "w"), "y"), outputs=("y",))

    assert taken(found, Reuse()) == [["a"], [], ["y"]]
    assert freed(found, Reuse()) == [[], [], ["a"]]
