"""Works out the integers that a graph computes from shapes, so that the shapes behind them can be inferred.

Exporters write ``Reshape`` to a shape that the graph puts together from ``Shape``, ``Gather``, ``Div``, ``Concat`` and
the like. Inference of onnx follows some of them; this follows all that exporters write, on arrays no larger than a
shape, in rounds: infer, work out, put in as constants, infer again. Nothing of a model's weights or operators on images
is computed. What this leaves out: graphs inside of graphs, whose values are left as they are.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["fold_values"]

_MOST_ELEMENTS = 1024
_MOST_ROUNDS = 48

Dims = Mapping[str, tuple[int | None, ...]]


def fold_values(
    model: "onnx.ModelProto",
    infer: "Callable[[onnx.ModelProto], onnx.ModelProto]",
    dims_of: "Callable[[onnx.ModelProto], Dims]",
) -> Dims:
    """The dims of every tensor of `model`, whose nodes are replaced by constants where their values are known.

    Args:
        model: A copy that may be changed.
        infer: Infers shapes.
        dims_of: Reads them.
    """
    known: dict[str, Any] = _constants(model)
    dims: Dims = {}
    for _ in range(_MOST_ROUNDS):
        dims = dims_of(_tried(infer, model))
        fresh = _round(model, dims, known)
        if not fresh:
            break
        _put(model, fresh)
    return dims


def _tried(infer: "Callable[[onnx.ModelProto], onnx.ModelProto]", model: "onnx.ModelProto") -> "onnx.ModelProto":
    """What can be inferred; a graph that contradicts itself is left with what it says."""
    try:
        return infer(model)
    except Exception:  # noqa: BLE001 - onnx raises errors of C++ for graphs that no runtime would load either
        return model


def _constants(model: "onnx.ModelProto") -> dict[str, Any]:
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if _count(tensor.dims) <= _MOST_ELEMENTS and _has_values(tensor)
    }


def _has_values(tensor: "onnx.TensorProto") -> bool:
    """Whether the tensor's values lie in it; those of external files stay there, and text is no number."""
    given = any(len(getattr(tensor, name)) for name in ("raw_data", "int64_data", "int32_data", "float_data"))
    return tensor.data_location == 0 and tensor.data_type in {1, 6, 7, 9} and (given or 0 in tensor.dims)


def _round(model: "onnx.ModelProto", dims: Dims, known: dict[str, Any]) -> dict[str, Any]:
    """The values that can be worked out now, by name; they are added to `known`."""
    fresh: dict[str, Any] = {}
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if node.op_type == "Constant" or name in known:
            continue
        value = _value(node, dims, known)
        if value is not None and value.size <= _MOST_ELEMENTS:
            fresh[name] = known[name] = value
    return fresh


def _value(node: "onnx.NodeProto", dims: Dims, known: Mapping[str, Any]) -> Any | None:  # noqa: ANN401 - an array
    import numpy as np

    if node.op_type in {"Shape", "Size"}:
        return _of_shape(node, dims.get(node.input[0]))
    rule = _RULES.get(node.op_type)
    if rule is None or not node.input or any(name and name not in known for name in node.input):
        return None
    if sum(known[name].size for name in node.input if name) > _MOST_ELEMENTS:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(rule(node, *(known[name] if name else None for name in node.input)))
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, MemoryError, KeyError):
        return None  # The runtime would refuse it too; whatever hangs on it stays unknown.


def _of_shape(node: "onnx.NodeProto", dims: tuple[int | None, ...] | None) -> Any | None:  # noqa: ANN401 - an array
    import numpy as np

    if dims is None:
        return None
    if node.op_type == "Size":
        return None if None in dims else np.asarray(_count([dim or 0 for dim in dims]), np.int64)
    part = dims[slice(_attribute(node, "start", 0), _attribute(node, "end", None))]
    return None if None in part else np.asarray(part, np.int64)


def _put(model: "onnx.ModelProto", values: Mapping[str, Any]) -> None:
    """Make the nodes whose values are known into constants."""
    from onnx import helper, numpy_helper

    for place, node in enumerate(model.graph.node):
        name = node.output[0] if node.output else ""
        if name in values:
            constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values[name], name))
            model.graph.node[place].CopyFrom(constant)


def _attribute(node: "onnx.NodeProto", name: str, default: Any) -> Any:  # noqa: ANN401 - what the attribute holds
    from onnx import helper

    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _count(dims: Any) -> int:  # noqa: ANN401 - any numbers
    total = 1
    for dim in dims:
        total *= int(dim)
    return total


def _cast(node: Any, value: Any) -> Any:  # noqa: ANN401 - a node and an array, as in all rules below
    from onnx import helper

    return value.astype(helper.tensor_dtype_to_np_dtype(_attribute(node, "to", 7)))


def _divided(_node: Any, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
    """Integers are cut towards zero, as ONNX has it."""
    import numpy as np

    if one.dtype.kind != "i":
        return one / other
    if not np.all(other):
        raise ZeroDivisionError
    return (np.abs(one) // np.abs(other)) * np.sign(one) * np.sign(other)


def _gathered(node: Any, value: Any, places: Any) -> Any:  # noqa: ANN401 - as above
    return value.take(places, axis=_attribute(node, "axis", 0))


def _joined(node: Any, *parts: Any) -> Any:  # noqa: ANN401 - as above
    import numpy as np

    return np.concatenate(parts, axis=_attribute(node, "axis", 0))


def _sliced(node: Any, value: Any, *bounds: Any) -> Any:  # noqa: ANN401 - as above
    """One axis or several; before opset 10 the bounds are attributes."""
    given: list[Any] = [None if item is None else item.tolist() for item in bounds] + [None] * (4 - len(bounds))
    starts = _attribute(node, "starts", []) if given[0] is None else given[0]
    ends = _attribute(node, "ends", []) if given[1] is None else given[1]
    axes = given[2] or _attribute(node, "axes", None) or range(len(starts))
    steps = given[3] or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        value = value[(slice(None),) * (axis % value.ndim) + (slice(start, end, step),)]
    return value


def _axes(node: Any, given: Any) -> list[int] | None:  # noqa: ANN401 - as above
    return _attribute(node, "axes", None) if given is None else [int(axis) for axis in given.reshape(-1)]


def _unsqueezed(node: Any, value: Any, given: Any = None) -> Any:  # noqa: ANN401 - as above
    import numpy as np

    return np.expand_dims(value, tuple(_axes(node, given) or ()))


def _squeezed(node: Any, value: Any, given: Any = None) -> Any:  # noqa: ANN401 - as above
    axes = _axes(node, given)
    return value.squeeze(None if axes is None else tuple(axes))


def _multiplied_out(node: Any, value: Any, given: Any = None) -> Any:  # noqa: ANN401 - as above
    axes, keep = _axes(node, given), bool(_attribute(node, "keepdims", 1))
    return value.prod(axis=None if axes is None else tuple(axes), keepdims=keep)


def _ranged(_node: Any, start: Any, limit: Any, step: Any) -> Any:  # noqa: ANN401 - as above
    import numpy as np

    if abs((float(limit) - float(start)) / float(step)) > _MOST_ELEMENTS:
        raise ValueError
    return np.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _filled(node: Any, shape: Any) -> Any:  # noqa: ANN401 - as above
    import numpy as np
    from onnx import numpy_helper

    if _count(shape.reshape(-1)) > _MOST_ELEMENTS:
        raise ValueError
    value = _attribute(node, "value", None)
    fill = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return np.full(tuple(shape.tolist()), fill.reshape(-1)[0], fill.dtype)


def _spread(_node: Any, value: Any, shape: Any) -> Any:  # noqa: ANN401 - as above
    import numpy as np

    wanted = np.broadcast_shapes(value.shape, tuple(shape.tolist()))
    if _count(wanted) > _MOST_ELEMENTS:
        raise ValueError
    return np.broadcast_to(value, wanted).copy()


def _chosen(_node: Any, condition: Any, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
    import numpy as np

    return np.where(condition, one, other)


def _reshaped(_node: Any, value: Any, shape: Any) -> Any:  # noqa: ANN401 - as above
    return value.reshape([value.shape[place] if side == 0 else side for place, side in enumerate(shape.tolist())])


def _plain(name: str) -> Callable[..., Any]:
    """The rule of numpy's function of that name, over all the inputs."""

    def rule(_node: Any, *values: Any) -> Any:  # noqa: ANN401 - as above
        import numpy as np

        if len(values) == 1:
            return getattr(np, name)(values[0])
        total = values[0]
        for value in values[1:]:
            total = getattr(np, name)(total, value)
        return total

    return rule


_NUMPY = {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Floor": "floor", "Ceil": "ceil", "Neg": "negative",
    "Abs": "abs", "Max": "maximum", "Min": "minimum", "Mod": "mod", "Sqrt": "sqrt", "Round": "round",
    "Equal": "equal", "Greater": "greater", "Less": "less", "GreaterOrEqual": "greater_equal",
    "LessOrEqual": "less_equal", "Not": "logical_not", "And": "logical_and", "Or": "logical_or",
}  # fmt: skip
_RULES: Mapping[str, Callable[..., Any]] = {
    **{name: _plain(function) for name, function in _NUMPY.items()},
    "Identity": lambda _node, value: value,
    "Cast": _cast,
    "Concat": _joined,
    "ConstantOfShape": _filled,
    "Div": _divided,
    "Expand": _spread,
    "Gather": _gathered,
    "Range": _ranged,
    "ReduceProd": _multiplied_out,
    "Reshape": _reshaped,
    "Slice": _sliced,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Where": _chosen,
}
