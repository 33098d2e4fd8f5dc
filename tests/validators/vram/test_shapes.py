from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.errors import UndecidedError
from changeover_validators.vram.graph import at_size, read_skeleton
from changeover_validators.vram.shapes import infos, settled, whole


def padded(multiple: int) -> onnx.ModelProto:
    """What an exporter writes for "pad right and bottom to a multiple": sizes computed from the plate's own shape."""
    numbers = {"two": [2], "three": [3], "multiple": [multiple], "zeros": [0, 0, 0, 0, 0, 0]}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["height"]),
        helper.make_node("Gather", ["shape", "three"], ["width"]),
        helper.make_node("Neg", ["height"], ["minus_height"]),
        helper.make_node("Neg", ["width"], ["minus_width"]),
        helper.make_node("Mod", ["minus_height", "multiple"], ["below"]),
        helper.make_node("Mod", ["minus_width", "multiple"], ["right"]),
        helper.make_node("Concat", ["zeros", "below", "right"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "ph", "pw"])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sized(model: onnx.ModelProto, *shape: int) -> onnx.ModelProto:
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize(
    ("plate", "matte"), [((1, 3, 1080, 1920), (1, 3, 1088, 1920)), ((1, 3, 16, 17), (1, 3, 16, 32))]
)
def test_padding_to_a_multiple_is_followed(plate: tuple[int, ...], matte: tuple[int, ...]) -> None:
    found = infos(settled(sized(padded(16), *plate), "model"))

    assert whole(found["y"]) == matte


def test_memory_of_a_graph_with_computed_sizes_is_that_of_the_sizes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(padded(16).SerializeToString())

    graph, known = at_size(read_skeleton(path), {"x": (1, 3, 9, 9)})

    assert known["y"] == (1, 3, 16, 16)
    assert graph.bytes_of["y"] == 3 * 16 * 16 * 4
    assert [node.operator for node in graph.nodes] == ["Pad", "Relu"]


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand"])
def test_list_that_would_be_huge_is_never_made(operator: str) -> None:
    model = padded(16)
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**12], np.int64), "huge"))
    inputs = ["huge"] if operator == "ConstantOfShape" else ["two", "huge"]
    model.graph.node.append(helper.make_node(operator, inputs, ["large"]))
    model.graph.node.append(helper.make_node("NonZero", ["y"], ["unknown"]))

    found = settled(sized(model, 1, 3, 16, 16), "model")

    assert "large" not in {tensor.name for tensor in model.graph.initializer}
    assert whole(infos(found)["y"]) == (1, 3, 16, 16)


def test_arithmetic_on_an_unknown_tensor_or_of_a_foreign_domain_is_left_alone() -> None:
    model = padded(16)
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    model.graph.node.append(helper.make_node("NonZero", ["y"], ["unknown"]))
    model.graph.node.append(helper.make_node("Shape", ["unknown"], ["of_unknown"]))
    model.graph.node.append(helper.make_node("Neg", ["two"], ["foreign"], domain="com.acme"))

    settled(sized(model, 1, 3, 16, 16), "model")

    assert {"of_unknown", "foreign"} <= {name for node in model.graph.node for name in node.output}


def test_arithmetic_that_cannot_be_done_is_undecided() -> None:
    model = padded(16)
    model.graph.initializer.append(numpy_helper.from_array(np.array([9], np.int64), "nine"))
    model.graph.node.insert(1, helper.make_node("Gather", ["shape", "nine"], ["beyond"]))
    model.graph.node.append(helper.make_node("NonZero", ["y"], ["unknown"]))

    with pytest.raises(UndecidedError, match="Gather"):
        settled(sized(model, 1, 3, 16, 16), "model")
