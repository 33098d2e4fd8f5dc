"""ONNX files without a record: which of them can be called as images are, and what is said of the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.errors import InvalidInputError
from changeover_updater.subjects import file_subject

FREE = (1, 3, "h", "w")


def saved(
    path: Path,
    dims: Sequence[int | str] = FREE,
    dtype: int = TensorProto.FLOAT,
    *,
    weight: tuple[int, ...] = (),
    groups: int = 1,
    outputs: int = 1,
) -> Path:
    """A model of one operator: an identity, or a convolution by weights of that shape."""
    given = helper.make_tensor_value_info("x", dtype, list(dims))
    made = helper.make_tensor_value_info("y", dtype, [None] * 4)
    weights = [numpy_helper.from_array(np.zeros(weight, np.float32), "w")] if weight else []
    node = (
        helper.make_node("Conv", ["x", "w"], ["y"], group=groups, pads=[1, 1, 1, 1])
        if weight
        else helper.make_node("Identity", ["x"], ["y"])
    )
    graph = helper.make_graph([node], "one", [given], [made][:outputs], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("dims", "weight", "groups", "channels"),
    [
        (FREE, (4, 3, 3, 3), 1, 3),
        ((1, "c", "h", "w"), (4, 3, 3, 3), 1, 3),
        ((1, 4, "h", "w"), (4, 2, 3, 3), 2, 4),
        ((1, 64, 32, 48), (), 1, 64),
        ((1, -1, -1, -1), (), 1, 3),
    ],
)
def test_image_is_fed_with_as_many_channels_as_the_file_takes(
    tmp_path: Path, dims: tuple[int | str, ...], weight: tuple[int, ...], groups: int, channels: int
) -> None:
    path = saved(tmp_path / "net.onnx", dims, weight=weight, groups=groups)

    (given,) = file_subject(path).release.variants[0].contract.inputs

    assert len(given.channels) == channels


@pytest.mark.parametrize(
    ("dims", "weight", "words"),
    [
        ((1, 10**9, "h", "w"), (), "input x: expected at most 64 channels, found 1000000000"),
        ((1, 2**62, "h", "w"), (), "input x: expected at most 64 channels"),
        ((1, 65, 8, 8), (), "input x: expected at most 64 channels, found 65"),
        ((1, -5, "h", "w"), (), "expected input x with sizes of 1 or more, or free axes, found -5"),
        ((1, "c", "h", "w"), (1, 7, 3, 3), "input x: expected 7 channels, which Conv takes, found 3"),
        (FREE, (4, 5, 3, 3), "input x: expected 5 channels, which Conv takes, found 3"),
        ((1, 3, 8, 8), (4, 5, 3, 3), "input x: expected 5 channels, which Conv takes, found 3"),
        ((1, 3, 70000, 70000), (), "input x: expected at most 16384 pixels a side, found 70000x70000"),
    ],
)
def test_file_that_cannot_be_called_so_is_refused_with_its_input_what_is_expected_and_found(
    tmp_path: Path, dims: tuple[int | str, ...], weight: tuple[int, ...], words: str
) -> None:
    path = saved(tmp_path / "net.onnx", dims, weight=weight)

    with pytest.raises(InvalidInputError) as caught:
        file_subject(path)

    assert words in str(caught.value)
    assert str(path) in caught.value.where
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["STRING", "UINT8", "DOUBLE", "BFLOAT16"])
def test_input_of_another_type_than_images_have_is_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "net.onnx", dtype=TensorProto.DataType.Value(name))

    with pytest.raises(InvalidInputError, match="input x: expected float32 or float16, as images are fed, found"):
        file_subject(path)


def test_graph_without_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a matte, found no output"):
        file_subject(saved(tmp_path / "net.onnx", outputs=0))


@pytest.mark.parametrize("name", ["a\x1b[31mred", "x" * 5000, "a\u202eb"])
def test_name_that_no_record_holds_is_refused_and_the_file_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, path)

    with pytest.raises(InvalidInputError, match="expected a name of 1 to 4000 printable characters") as caught:
        file_subject(path)

    assert str(path) in caught.value.where
    assert len(str(caught.value)) < 400
