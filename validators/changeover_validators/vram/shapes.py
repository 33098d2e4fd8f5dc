"""The shape of every tensor of a graph whose inputs are fixed: inference, and where that stops, folding of sizes.

Models that pad or resize to computed sizes carry small integer arithmetic on shapes. Inference follows most of it;
what it leaves is evaluated here, operator by operator: arithmetic operators of the standard from a closed list, on at
most 1024 numbers at a time. Nothing else of a model is ever evaluated.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from changeover_registry.errors import UndecidedError

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["KEPT_ELEMENTS", "dims", "infos", "settled", "undecided", "whole"]

KEPT_ELEMENTS = 1024
"""Constants up to this many elements keep their values, because shapes are computed from them."""
_FOLDED = frozenset(
    {
        *("Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten"),
        *(
            "Floor",
            "Gather",
            "Greater",
            "Identity",
            "Less",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "ReduceProd",
        ),
        *("Reshape", "Round", "Shape", "Size", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
    }
)


def settled(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """`model` with every shape that follows from its inputs; folded operators become constants of `model` itself.

    Raises:
        UndecidedError: The graph contradicts itself.
    """
    found = _inferred(model, where)
    while _unknown(model, found) and _fold(model, found, where):
        found = _inferred(model, where)
    return found


def infos(model: "onnx.ModelProto") -> dict[str, "onnx.ValueInfoProto"]:
    """What is known of each tensor by name."""
    return {item.name: item for item in (*model.graph.value_info, *model.graph.input, *model.graph.output)}


def dims(item: "onnx.ValueInfoProto") -> tuple[int | None, ...]:
    """The dims of a tensor, None where not fixed; () also where nothing is known, which `whole` tells apart."""
    shape = item.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in shape)


def whole(item: "onnx.ValueInfoProto") -> tuple[int, ...] | None:
    """The dims of a tensor if all of them are known."""
    found = tuple(dim for dim in dims(item) if dim is not None)
    known = item.type.tensor_type.HasField("shape")
    return found if known and len(found) == len(item.type.tensor_type.shape.dim) else None


def undecided(where: str, expected: str, actual: str) -> UndecidedError:
    """The one error for a graph whose memory cannot be predicted."""
    return UndecidedError(
        "memory prediction",
        where=where,
        expected=expected,
        actual=actual,
        remedy="measure the model instead, or export it with shapes that follow from its inputs",
    )


def _inferred(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    from onnx import shape_inference

    try:
        # Values are followed here (`_fold`): the library would compute whatever a file of a kilobyte asks for.
        return shape_inference.infer_shapes(model, data_prop=False)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise undecided(where, "a graph whose shapes can be inferred", str(error).splitlines()[0]) from error


def _unknown(model: "onnx.ModelProto", found: "onnx.ModelProto") -> bool:
    known = {name for name, item in infos(found).items() if whole(item) is not None}
    return any(name and name not in known for node in model.graph.node for name in node.output)


def _fold(model: "onnx.ModelProto", found: "onnx.ModelProto", where: str) -> bool:
    """Evaluate all that can be evaluated by now; whether there was anything."""
    from onnx import numpy_helper

    shapes = infos(found)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    folded = []
    for node in model.graph.node:
        inputs = _inputs(node, values, shapes)
        if inputs is not None:
            for name, value in zip(node.output, _evaluate(node, inputs, model, where), strict=True):
                values[name] = value
                model.graph.initializer.append(numpy_helper.from_array(value, name))
            folded.append(node)
    for node in folded:
        model.graph.node.remove(node)
    return bool(folded)


def _inputs(
    node: "onnx.NodeProto", values: Mapping[str, "np.ndarray[Any, Any]"], shapes: Mapping[str, "onnx.ValueInfoProto"]
) -> dict[str, "np.ndarray[Any, Any]"] | None:
    """The operator's inputs, if it is arithmetic on shapes and all of them are known by now."""
    import numpy as np

    names = [name for name in node.input if name]
    if node.op_type not in _FOLDED or node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type in {"Shape", "Size"}:
        shape = whole(shapes[names[0]]) if names[0] in shapes else None
        # Only the shape is read, so an array that takes no memory stands for the tensor.
        return None if shape is None else {names[0]: np.broadcast_to(np.zeros((), np.float32), shape)}
    if not set(names) <= values.keys() or sum(values[name].size for name in names) > KEPT_ELEMENTS:
        return None
    inputs = {name: values[name] for name in names}
    return None if _grows(node, [inputs[name] for name in names]) else inputs


def _grows(node: "onnx.NodeProto", inputs: list["np.ndarray[Any, Any]"]) -> bool:
    """Whether the answer would be larger than a list of sizes ever is."""
    if node.op_type not in {"ConstantOfShape", "Expand"}:
        return False
    return any(int(size) > KEPT_ELEMENTS for size in inputs[-1].ravel()) or int(inputs[-1].prod()) > KEPT_ELEMENTS


def _evaluate(
    node: "onnx.NodeProto", inputs: Mapping[str, "np.ndarray[Any, Any]"], model: "onnx.ModelProto", where: str
) -> list["np.ndarray[Any, Any]"]:
    import numpy as np
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in inputs.items()}
    taken = [helper.make_tensor_value_info(name, code, None) for name, code in types.items()]
    given = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "one", taken, given)
    single = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        return [np.asarray(value) for value in ReferenceEvaluator(single).run(None, dict(inputs))]
    except Exception as error:
        # The evaluator raises whatever numpy raises; all of it means that the file's arithmetic does not work out.
        reason = f"{node.op_type} {node.name}: {error}".splitlines()[0]
        raise undecided(where, "arithmetic on sizes that works out", reason) from error
