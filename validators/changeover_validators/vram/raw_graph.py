"""A model's own file as if a session had written it, where no runtime is at hand to build one.

What every session does is done here in the plainest form: constants are constants, a normalisation or an activation
that alone reads a convolution is part of it. What only a real session shows is missing: layouts, larger fusions, the
order of work. An answer from this is always modelled. Nothing is executed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from changeover_validators.vram.optimised import read_optimised
from changeover_validators.vram.sessions import BuiltSession
from changeover_validators.vram.shapes import KEPT_ELEMENTS
from changeover_validators.vram.simulate import Loaded

if TYPE_CHECKING:
    import onnx

__all__ = ["raw_sessions"]

_PARTS_OF_A_CONVOLUTION = frozenset(
    {"BatchNormalization", "Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}
)
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


def raw_sessions(path: Path) -> tuple[BuiltSession, ...]:
    """One session, as far as the file tells.

    Raises:
        InvalidInputError: Not a model.
        UndecidedError: It has control flow.
    """
    graph = read_optimised(path.read_bytes(), str(path))
    model = graph.model
    _drop_values(model)
    _lift_constants(model)
    _fold(model)
    return (BuiltSession(graph, Loaded(_weight_bytes(model)), 0),)


def _drop_values(model: "onnx.ModelProto") -> None:
    """Only shapes of large weights count, and their bytes would be copied with every size."""
    import onnx

    for tensor in model.graph.initializer:
        if _elements(tensor) > KEPT_ELEMENTS:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL


def _lift_constants(model: "onnx.ModelProto") -> None:
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        value = next((item.t for item in node.attribute if item.name == "value"), None)
        if value is not None:
            lifted = model.graph.initializer.add()
            lifted.CopyFrom(value)
            lifted.name = node.output[0]
            model.graph.node.remove(node)


def _fold(model: "onnx.ModelProto") -> None:
    """Take away what a convolution does itself; its output gets the name of what followed."""
    readers: dict[str, int] = {}
    for name in [name for node in model.graph.node for name in node.input] + [item.name for item in model.graph.output]:
        readers[name] = readers.get(name, 0) + 1
    maker = {node.output[0]: node for node in model.graph.node if node.op_type in _CONVOLUTIONS}
    for node in list(model.graph.node):
        source = node.input[0] if node.input else ""
        if node.op_type in _PARTS_OF_A_CONVOLUTION and source in maker and readers[source] == 1:
            convolution = maker.pop(source)
            convolution.output[0] = node.output[0]
            maker[node.output[0]] = convolution
            model.graph.node.remove(node)


def _weight_bytes(model: "onnx.ModelProto") -> int:
    import onnx

    read = {name for node in model.graph.node for name in node.input}
    return sum(
        _elements(tensor) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        for tensor in model.graph.initializer
        if tensor.name in read
    )


def _elements(tensor: "onnx.TensorProto") -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count
