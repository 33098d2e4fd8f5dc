"""Reads the operators of onnxruntime's own optimiser as standard ones of the same shapes, so that these are inferred.

Only shapes count here: a blocked convolution has the shape of a convolution, a fused one that of its parts. Operators
that are neither standard nor in this table keep their outputs' shapes unknown, and the answer says so.
Source: onnxruntime, docs/ContribOperators and core/graph/contrib_ops, releases 1.15 to 1.31.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["translated"]

_IR_VERSION = 8
_SAME = frozenset(
    {
        *("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "BiasDropout", "BiasSoftmax", "FusedActivation"),
        *("LayerNormalization", "SimplifiedLayerNormalization", "GroupNorm", "SkipGroupNorm", "Rsqrt"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "NhwcFusedConvSum", "BiasAdd"),
    }
)
"""Their first output has the shape of their first input."""


def translated(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy in which only standard operators are left, as far as the table goes; values of weights are dropped."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # Before version 4 inference ignores constants that are not inputs too.
    copy.ir_version = max(copy.ir_version, _IR_VERSION)
    _drop_values(copy)
    _replace(copy, lambda node: _standard(node, copy))
    while any(_is_transposing(node) for node in copy.graph.node):
        ranks = _ranks(copy)
        known = [
            node.output[0] for node in copy.graph.node if _is_transposing(node) and set(node.input) <= ranks.keys()
        ]
        if not known:
            return copy
        _replace(copy, lambda node: _product(node, ranks) if node.output[0] in known else [node])  # noqa: B023
    return copy


def _replace(model: "onnx.ModelProto", by: Callable[["onnx.NodeProto"], list["onnx.NodeProto"]]) -> None:
    nodes = [new for node in model.graph.node for new in by(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_transposing(node: "onnx.NodeProto") -> bool:
    return node.op_type == "FusedMatMul"


def _ranks(model: "onnx.ModelProto") -> dict[str, int]:
    from onnx import shape_inference

    found = shape_inference.infer_shapes(model, data_prop=False).graph
    items = [*found.value_info, *found.input, *found.output]
    ranks = {
        item.name: len(item.type.tensor_type.shape.dim) for item in items if item.type.tensor_type.HasField("shape")
    }
    return ranks | {tensor.name: len(tensor.dims) for tensor in found.initializer}


def _product(node: "onnx.NodeProto", ranks: dict[str, int]) -> list["onnx.NodeProto"]:
    """A matrix product whose factors are transposed first, which takes their ranks."""
    given = {item.name: item.i for item in node.attribute}
    made, names = [], []
    for name, letter in zip(node.input[:2], "AB", strict=True):
        rank = ranks[name]
        order = list(range(rank))
        if given.get(f"transBatch{letter}"):
            order = [*order[1:-1], 0, order[-1]]
        if given.get(f"trans{letter}"):
            order[-2:] = order[:-3:-1]
        names.append(f"{node.output[0]}/{letter}")
        made.append(_made("Transpose", [name], [names[-1]], perm=order))
    return [*made, _made("MatMul", names, [node.output[0]])]


def _drop_values(model: "onnx.ModelProto") -> None:
    """Large constants become inputs of the same type: inference needs their shapes and copies no bytes."""
    import onnx

    known = {item.name for item in model.graph.input}
    kept = []
    for tensor in model.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if external or _count(tensor) > 1024:
            if tensor.name not in known:
                info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                model.graph.input.append(info)
        else:
            kept.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _count(tensor: "onnx.TensorProto") -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def _standard(node: "onnx.NodeProto", model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """The node itself, or what stands for it."""
    if node.op_type in _SAME and (node.domain or node.op_type == "LayerNormalization"):
        return [_made("Identity", [node.input[0]], [node.output[0]])]
    if node.domain == "com.microsoft.nchwc":
        return _BLOCKED.get(node.op_type, _itself)(node, model)
    if node.domain in {"com.microsoft", "com.microsoft.internal.nhwc"}:
        return _FUSED.get(node.op_type, _itself)(node, model)
    return [node]


def _itself(node: "onnx.NodeProto", _model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    return [node]


def _made(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> "onnx.NodeProto":  # noqa: ANN401
    import onnx

    return onnx.helper.make_node(operator, inputs, outputs, **attributes)


def _convolution(node: "onnx.NodeProto", _model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """A convolution with an activation, a sum, or blocked channels."""
    wanted = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}
    made = _made("Conv", list(node.input[:2]), [node.output[0]])
    made.attribute.extend(item for item in node.attribute if item.name in wanted)
    return [made]


def _pool(node: "onnx.NodeProto", _model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    wanted = {"auto_pad", "dilations", "kernel_shape", "pads", "strides", "ceil_mode"}
    operator = node.op_type.removeprefix("Nhwc")
    if operator == "AveragePool":
        wanted -= {"dilations"}
    made = _made(operator, [node.input[0]], [node.output[0]])
    made.attribute.extend(item for item in node.attribute if item.name in wanted)
    return [made]


def _global_pool(node: "onnx.NodeProto", _model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    return [_made(node.op_type, [node.input[0]], [node.output[0]])]


def _reorder(node: "onnx.NodeProto", model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """Only the number of channels changes, as a convolution with one tap changes it."""
    given = {item.name: item.i for item in node.attribute}
    channels = given.get("channels", 0)
    if node.op_type == "ReorderInput" and given.get("channels_last"):
        return [_made("Transpose", [node.input[0]], [node.output[0]], perm=[0, 3, 1, 2])]
    if node.op_type == "ReorderInput":
        channels = _blocked_channels(node.output[0], model)
        if channels is None:
            return [_made("Identity", [node.input[0]], [node.output[0]])]
        return [_one_tap(node.input[0], node.output[0], channels, model)]
    if given.get("channels_last"):
        inner = f"{node.output[0]}/nchw"
        swap = _made("Transpose", [inner], [node.output[0]], perm=[0, 2, 3, 1])
        return [_one_tap(node.input[0], inner, channels, model), swap]
    return [_one_tap(node.input[0], node.output[0], channels, model)]


def _blocked_channels(name: str, model: "onnx.ModelProto") -> int | None:
    """How many channels, rounded up to whole blocks, the convolution that reads `name` takes; None if none does."""
    shapes = {item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim] for item in model.graph.input}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if name in node.input[:1] and node.op_type == "Conv" and node.input[1] in shapes:
            weight: list[int] = shapes[node.input[1]]
            group = next((item.i for item in node.attribute if item.name == "group"), 1)
            return weight[0] if group > 1 else weight[1]
    return None


def _one_tap(source: str, target: str, channels: int, model: "onnx.ModelProto") -> "onnx.NodeProto":
    import onnx

    weight = f"{target}/shape"
    model.graph.input.append(onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, [channels, None, 1, 1]))
    return _made("Conv", [source, weight], [target], kernel_shape=[1, 1])


def _upsample(node: "onnx.NodeProto", model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    import onnx

    scales = next(tuple(item.ints) for item in node.attribute if item.name == "scales")
    name = f"{node.output[0]}/scales"
    model.graph.initializer.append(
        onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [4], [float(x) for x in scales])
    )
    return [_made("Resize", [node.input[0], "", name], [node.output[0]])]


def _attention(node: "onnx.NodeProto", model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """The fused one: its weight makes queries, keys and values, and the output is as wide as the values."""
    import onnx

    found = [tensor.dims for tensor in model.graph.initializer if tensor.name == node.input[1]]
    found += [
        [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
        if item.name == node.input[1]
    ]
    sizes = next((tuple(item.ints) for item in node.attribute if item.name == "qkv_hidden_sizes"), None)
    if not found or len(node.output) > 1:
        return [node]
    weight, width = f"{node.output[0]}/shape", sizes[2] if sizes else found[0][1] // 3
    shape = [found[0][0], width]
    model.graph.input.append(onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, shape))
    return [_made("MatMul", [node.input[0], weight], [node.output[0]])]


def _gemm(node: "onnx.NodeProto", _model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    made = _made("Gemm", list(node.input[:3]), [node.output[0]])
    made.attribute.extend(item for item in node.attribute if item.name in {"alpha", "beta", "transA", "transB"})
    return [made]


_BLOCKED: dict[str, Callable[..., list["onnx.NodeProto"]]] = {
    "Conv": _convolution,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalMaxPool": _global_pool,
    "GlobalAveragePool": _global_pool,
    "ReorderInput": _reorder,
    "ReorderOutput": _reorder,
    "Upsample": _upsample,
}
_FUSED: dict[str, Callable[..., list["onnx.NodeProto"]]] = {
    "Attention": _attention,
    "FusedConv": _convolution,
    "FusedGemm": _gemm,
    "NhwcMaxPool": _pool,
}
