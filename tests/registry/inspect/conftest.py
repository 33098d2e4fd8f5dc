"""Models as small as a problem needs, and a folder of files as a variant has them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def make_model() -> Callable[..., onnx.ModelProto]:
    """One Conv and one Relu with weights of a type; `nodes` are put behind them, `fields` go to the model."""

    def make(
        *,
        nodes: tuple[onnx.NodeProto, ...] = (),
        opset: int = 17,
        ir_version: int = 8,
        domains: tuple[str, ...] = (),
        dims: tuple[int | str, ...] = (1, 3, "h", "w"),
    ) -> onnx.ModelProto:
        weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
                helper.make_node("Relu", ["c"], ["y"]),
                *nodes,
            ],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(dims))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, *dims[2:]])],
            [weights],
        )
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """Write a model as ``variant/model.onnx`` and answer the variant's folder."""

    def write(model: onnx.ModelProto) -> Path:
        folder = tmp_path / "variant"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder

    return write


@pytest.fixture
def models() -> Path:
    """Third-party models, where they are at hand."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("CHANGEOVER_TEST_DATA") or root.parent / "shared" / "data") / "models"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}")
    return folder
