"""Operators of the runtime's own optimiser, and the shapes that inference finds for what stands for them."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.errors import UndecidedError
from changeover_validators.vram.optimised import OptimisedGraph

OPSETS = [
    helper.make_opsetid("", 17),
    helper.make_opsetid("com.microsoft", 1),
    helper.make_opsetid("com.microsoft.nchwc", 1),
]
NCHWC = "com.microsoft.nchwc"
MICROSOFT = "com.microsoft"
TAPS = {"kernel_shape": [3, 3]}


def graph(
    operator: str,
    domain: str,
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    **attributes: Any,
) -> OptimisedGraph:
    node = helper.make_node(operator, [*inputs, *weights], ["y"], domain=domain, **attributes)
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()]
    held = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "one", given, [answer], held), opset_imports=OPSETS, ir_version=8
    )
    return OptimisedGraph("one", model)


@pytest.mark.parametrize(
    ("operator", "domain", "inputs", "weights", "attributes", "shape"),
    [
        ("Conv", NCHWC, {"x": (1, 16, 9, 7)}, {"w": (32, 16, 3, 3)}, {**TAPS, "pads": [1] * 4}, (1, 32, 9, 7)),
        ("FusedConv", MICROSOFT, {"x": (1, 3, 9, 7)}, {"w": (8, 3, 3, 3)}, {**TAPS, "strides": [2, 2]}, (1, 8, 4, 3)),
        ("MaxPool", NCHWC, {"x": (1, 16, 8, 8)}, {}, {"kernel_shape": [2, 2], "strides": [2, 2]}, (1, 16, 4, 4)),
        ("AveragePool", NCHWC, {"x": (1, 16, 8, 8)}, {}, {"kernel_shape": [8, 8]}, (1, 16, 1, 1)),
        ("GlobalAveragePool", NCHWC, {"x": (1, 16, 8, 6)}, {}, {}, (1, 16, 1, 1)),
        ("ReorderOutput", NCHWC, {"x": (1, 16, 8, 6)}, {}, {"channels": 10}, (1, 10, 8, 6)),
        ("ReorderOutput", NCHWC, {"x": (1, 16, 8, 6)}, {}, {"channels": 10, "channels_last": 1}, (1, 8, 6, 10)),
        ("ReorderInput", NCHWC, {"x": (1, 8, 6, 16)}, {}, {"channels_last": 1}, (1, 16, 8, 6)),
        ("ReorderInput", NCHWC, {"x": (1, 16, 8, 6)}, {}, {}, (1, 16, 8, 6)),
        ("Upsample", NCHWC, {"x": (1, 16, 8, 6)}, {}, {"scales": [1, 1, 2, 3]}, (1, 16, 16, 18)),
        ("FusedGemm", MICROSOFT, {"x": (4, 8)}, {"w": (6, 8)}, {"transB": 1}, (4, 6)),
        ("FusedMatMul", MICROSOFT, {"x": (2, 5, 8), "z": (2, 6, 8)}, {}, {"transB": 1}, (2, 5, 6)),
        ("FusedMatMul", MICROSOFT, {"x": (2, 8, 5), "z": (2, 8, 6)}, {}, {"transA": 1}, (2, 5, 6)),
        ("FusedMatMul", MICROSOFT, {"x": (5, 2, 8), "z": (2, 8, 6)}, {}, {"transBatchA": 1}, (2, 5, 6)),
        ("BiasGelu", MICROSOFT, {"x": (2, 5, 8)}, {"b": (8,)}, {}, (2, 5, 8)),
        ("LayerNormalization", "", {"x": (2, 5, 8)}, {"s": (8,)}, {}, (2, 5, 8)),
        ("Attention", MICROSOFT, {"x": (1, 5, 8)}, {"w": (8, 24), "b": (24,)}, {"num_heads": 2}, (1, 5, 8)),
    ],
)  # fmt: skip
def test_shape_of_an_operator_of_the_optimiser_is_found(
    operator: str,
    domain: str,
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    attributes: dict[str, Any],
    shape: tuple[int, ...],
) -> None:
    found = graph(operator, domain, inputs, weights, **attributes).at(inputs)

    assert found.tensors["y"].dims == shape


def test_channels_are_rounded_up_to_the_blocks_of_the_convolution_that_reads_them() -> None:
    nodes = [
        helper.make_node("ReorderInput", ["x"], ["blocked"], domain=NCHWC),
        helper.make_node("Conv", ["blocked", "w"], ["y"], domain=NCHWC, kernel_shape=[1, 1]),
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40, 4, 4])
    weight = numpy_helper.from_array(np.zeros((16, 48, 1, 1), np.float32), "w")
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", [taken], [answer], [weight]), opset_imports=OPSETS)

    found = OptimisedGraph("g", model).at({"x": (1, 40, 4, 4)})

    assert found.tensors["blocked"].dims == (1, 48, 4, 4)


def test_an_operator_that_nobody_knows_is_undecided_and_named() -> None:
    unknown = graph("Mystery", MICROSOFT, {"x": (1, 4)}, {})

    with pytest.raises(UndecidedError, match="'y'"):
        unknown.at({"x": (1, 4)})


def test_what_was_read_is_left_as_it_was() -> None:
    found = graph("FusedMatMul", MICROSOFT, {"x": (2, 5, 8), "z": (2, 6, 8)}, {}, transB=1)
    before = found.model.SerializeToString()

    found.at({"x": (2, 5, 8), "z": (2, 6, 8)})

    assert found.model.SerializeToString() == before
