"""What is worked out from shapes, held against onnx's own slow reference of every operator."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from changeover_registry.inspect.shape_values import fold_values

INT, FLOAT = np.int64, np.float32


def folded(model: onnx.ModelProto) -> dict[str, Any]:
    """The values of all constants that the folding leaves in a copy of `model`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fold_values(copy, lambda item: onnx.shape_inference.infer_shapes(item, data_prop=True), dims)
    return {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in copy.graph.node
        if node.op_type == "Constant"
    }


def dims(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    return {
        item.name: tuple(d.dim_value if d.HasField("dim_value") else None for d in item.type.tensor_type.shape.dim)
        for item in (*model.graph.input, *model.graph.value_info)
    }


def graph(*nodes: Any, constants: dict[str, Any], opset: int = 17) -> onnx.ModelProto:
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 37, 50])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), ["y"], **attributes)


LINE, NUMBER, HALVES = np.array([7, -3, 12, 5], INT), np.array(4, INT), np.array([0.5, -1.5, 2.25], FLOAT)
CASES = [
    (node("Shape", "x"), {}),
    (node("Shape", "x", start=1, end=-1), {}),
    (node("Size", "x"), {}),
    (node("Gather", "a", "b", axis=0), {"a": LINE, "b": np.array([2, 0], INT)}),
    (node("Gather", "a", "b"), {"a": LINE, "b": np.array(-1, INT)}),
    (node("Concat", "a", "b", axis=0), {"a": LINE, "b": np.array([1], INT)}),
    (node("Slice", "a", "b", "c"), {"a": LINE, "b": np.array([1], INT), "c": np.array([9999], INT)}),
    (node("Slice", "a", "b", "c", "d", "e"), {
        "a": LINE, "b": np.array([-1], INT), "c": np.array([-9999], INT), "d": np.array([0], INT),
        "e": np.array([-2], INT),
    }),
    (node("Unsqueeze", "a", "b"), {"a": NUMBER, "b": np.array([0], INT)}),
    (node("Squeeze", "a", "b"), {"a": LINE.reshape(1, 4), "b": np.array([0], INT)}),
    (node("Squeeze", "a"), {"a": LINE.reshape(1, 4, 1)}),
    (node("Div", "a", "b"), {"a": LINE, "b": NUMBER}),
    (node("Div", "a", "b"), {"a": HALVES, "b": np.array(2, FLOAT)}),
    (node("Mod", "a", "b"), {"a": LINE, "b": NUMBER}),
    (node("Cast", "a", to=TensorProto.FLOAT), {"a": LINE}),
    (node("Cast", "a", to=TensorProto.INT64), {"a": HALVES}),
    (node("Where", "a", "b", "c"), {"a": LINE > 0, "b": LINE, "c": -LINE}),
    (node("ReduceProd", "a", keepdims=0), {"a": LINE}),
    (node("ReduceProd", "a", axes=[0]), {"a": LINE}),
    (node("Range", "a", "b", "c"), {"a": np.array(2, INT), "b": np.array(17, INT), "c": np.array(5, INT)}),
    (node("ConstantOfShape", "a"), {"a": np.array([2, 3], INT)}),
    (node("ConstantOfShape", "a", value=numpy_helper.from_array(np.array([9], INT))), {"a": np.array([3], INT)}),
    (node("Expand", "a", "b"), {"a": NUMBER, "b": np.array([2, 2], INT)}),
    (node("Reshape", "a", "b"), {"a": LINE.reshape(2, 2), "b": np.array([0, -1, 1], INT)}),
    (node("Identity", "a"), {"a": LINE}),
    (node("Max", "a", "b"), {"a": LINE, "b": NUMBER}),
    *[(node(kind, "a"), {"a": HALVES}) for kind in ("Floor", "Ceil", "Neg", "Abs", "Round")],
    *[(node(kind, "a", "b"), {"a": LINE, "b": NUMBER}) for kind in ("Add", "Sub", "Mul", "Min", "Equal", "Greater")],
    (node("Not", "a"), {"a": LINE > 0}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "constants"), CASES, ids=[f"{number}-{c[0].op_type}" for number, c in enumerate(CASES)]
)
def test_a_value_is_that_of_the_reference(asked: Any, constants: dict[str, Any]) -> None:
    model = graph(asked, constants=constants)
    image = np.zeros((1, 3, 37, 50), FLOAT)

    (expected,) = ReferenceEvaluator(model).run(None, {"x": image})

    found = folded(model)["y"]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.asarray(expected).dtype


@pytest.mark.parametrize(
    ("asked", "constants"),
    [
        (node("Slice", "a", starts=[1], ends=[3]), {"a": LINE}),
        (node("Unsqueeze", "a", axes=[0]), {"a": LINE}),
        (node("Squeeze", "a", axes=[0]), {"a": LINE.reshape(1, 4)}),
    ],
)
def test_older_opsets_have_their_numbers_in_attributes(asked: Any, constants: dict[str, Any]) -> None:
    model = graph(asked, constants=constants, opset=9)

    (expected,) = ReferenceEvaluator(model).run(None, {"x": np.zeros((1, 3, 37, 50), FLOAT)})

    np.testing.assert_array_equal(folded(model)["y"], expected)


@settings(deadline=None, max_examples=40)
@given(side=st.integers(1, 4000), window=st.integers(1, 64))
def test_padding_up_to_a_multiple_is_what_arithmetic_says(side: int, window: int) -> None:
    arithmetic = [("Mod", "side", "w"), ("Sub", "w", "a"), ("Mod", "b", "w"), ("Add", "side", "c")]
    nodes = [
        helper.make_node(kind, [one, other], [name])
        for (kind, one, other), name in zip(arithmetic, "abcd", strict=True)
    ]
    model = graph(*nodes, node("Div", "d", "w"), constants={"side": np.array(side, INT), "w": np.array(window, INT)})

    assert folded(model)["y"] == -(-side // window)


@pytest.mark.parametrize(
    ("asked", "constants"),
    [
        (node("Div", "a", "b"), {"a": LINE, "b": np.array(0, INT)}),
        (node("Gather", "a", "b"), {"a": LINE, "b": np.array(9, INT)}),
        (node("Reshape", "a", "b"), {"a": LINE, "b": np.array([3, 3], INT)}),
        (node("ConstantOfShape", "a"), {"a": np.array([1 << 40, 1 << 20], INT)}),
        (node("Expand", "a", "b"), {"a": NUMBER, "b": np.array([1 << 40], INT)}),
        (node("Range", "a", "b", "c"), {"a": np.array(0, INT), "b": np.array(1 << 60, INT), "c": np.array(1, INT)}),
        (node("Range", "a", "b", "c"), {"a": np.array(0, INT), "b": np.array(9, INT), "c": np.array(0, INT)}),
        (node("Add", "a", "b"), {"a": np.zeros(2000, INT), "b": NUMBER}),
        (node("NonZero", "a"), {"a": LINE}),
        (node("Cast", "a", to=999), {"a": LINE}),
    ],
)
def test_what_no_runtime_would_compute_or_is_no_shape_stays_unknown(asked: Any, constants: dict[str, Any]) -> None:
    assert "y" not in folded(graph(asked, constants=constants))


def test_a_graph_that_contradicts_itself_is_left_with_what_it_says() -> None:
    model = graph(node("Concat", "x", "a", axis=1), constants={"a": np.zeros((1, 3, 1, 1), FLOAT)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT

    def failing(_: onnx.ModelProto) -> onnx.ModelProto:
        raise onnx.shape_inference.InferenceError

    assert fold_values(model, failing, dims) == {"x": (1, 3, 37, 50)}
