"""Whether a graph holds a matrix that grows faster than the plate: every place against every other, global attention.

It is seen by shapes and not by patterns, since exporters write attention in many ways: the shapes of the whole graph
are inferred at two sizes, and the output of each matrix product, softmax or fused attention is compared. Attention
within windows, over channels or over a fixed number of places grows no faster than the pixels and does not count.

A file of one size cannot be asked twice. There a score matrix counts if each of its sides is as long as the feature map
that it was made from has places. Where shapes cannot be inferred, a product that reaches a softmax counts: a wrong yes
costs a measurement more, a wrong no gives a wrong number for a plate that nobody tried.

Weights are not needed for that and are dropped. What this leaves out: running anything; chains of integers that
compute shapes are worked out here, element by element, and no larger than a shape is.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from changeover_registry.inspect.shape_values import fold_values

if TYPE_CHECKING:
    import onnx

__all__ = ["Growth", "global_attention"]

_FUSED = frozenset(
    {"Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "PackedMultiHeadAttention",
     "DecoderMaskedMultiHeadAttention", "QOrderedAttention", "LongformerAttention", "RelativePositionBias"}
)  # fmt: skip
_WINDOWED_BY_NAME = frozenset({"LongformerAttention", "RelativePositionBias"})
_PRODUCTS = frozenset({"MatMul", "Einsum", "Gemm", "FusedMatMul", "MatMulInteger"})
_MAPS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "Upsample"})
_PASSING = frozenset(
    {"Add", "Cast", "Clip", "Div", "Dropout", "Expand", "Identity", "Max", "Min", "Mul", "Reshape", "Sqrt", "Squeeze",
     "Sub", "Transpose", "Unsqueeze", "Where", "Concat", "Slice", "Softcap", "Tanh"}
)  # fmt: skip
_SIZES = ((512, 512), (1024, 1024))
"""Height and width of the two sizes; multiples of every stride and window that is a power of two."""
_FASTER = 1.25
"""The power of the pixels above which a matrix counts: windows have 1, a row against a row 1.5, all against all 2."""
_EXTRA_TOKENS = 16
"""How many more places a score matrix may have than its feature map: tokens for the class, registers."""
_MOST_NODES = 100_000
"""More nodes than any net that is run on plates has."""
_LARGE = 4096
"""Constants of more elements are weights, whose values no shape depends on."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The answer: yes or no, and what shows it, in words."""

    found: bool
    shown: str = ""


Shapes = Mapping[str, tuple[int | None, ...]]


def global_attention(model: "onnx.ModelProto") -> Growth:
    """Whether some score matrix of `model` grows faster than the pixels; the model's weights are dropped on the way."""
    if not _inline(model):
        return Growth(found=True, shown="functions inside the file that call themselves, or too many others")
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    candidates = [node for node in nodes if _may_score(node)]
    if not candidates:
        return Growth(found=False)
    _drop_weights(model)
    if any(_free_sides(model.graph)):
        return _by_growth(model, candidates)
    return _by_places(nodes, _shapes(model, None), candidates)


def _inline(model: "onnx.ModelProto") -> bool:
    """Put the exporter's functions in their places; False where that would have no end, or none that is near."""
    if not model.functions:
        return True
    from onnx import inliner

    try:
        if _nodes_inlined(model) > _MOST_NODES:
            return False
    except RecursionError:
        return False
    model.CopyFrom(inliner.inline_local_functions(model))
    return True


def _nodes_inlined(model: "onnx.ModelProto") -> int:
    """How many nodes the graph would have.

    Raises:
        RecursionError: A function calls itself, over others or at once.
    """
    bodies = {(function.domain, function.name): function.node for function in model.functions}

    @functools.cache
    def size(key: tuple[str, str]) -> int:
        return sum(count(node) for node in bodies[key])

    def count(node: "onnx.NodeProto") -> int:
        key = (node.domain, node.op_type)
        inner = [item.g for item in node.attribute if item.HasField("g")]
        inner += [graph for item in node.attribute for graph in item.graphs]
        own = size(key) if key in bodies else 1
        return own + sum(count(other) for graph in inner for other in graph.node)

    return sum(count(node) for node in model.graph.node)


def _graphs(graph: "onnx.GraphProto") -> "Iterator[onnx.GraphProto]":
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for item in inner:
                yield from _graphs(item)


def _may_score(node: "onnx.NodeProto") -> bool:
    return node.op_type in _FUSED | _PRODUCTS | {"Softmax"}


def _drop_weights(model: "onnx.ModelProto") -> None:
    for graph in _graphs(model.graph):
        tensors = [*graph.initializer]
        tensors += [item.t for node in graph.node for item in node.attribute if node.op_type == "Constant"]
        for tensor in tensors:
            if _elements(tensor.dims) > _LARGE:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "external_data"):
                    tensor.ClearField(field)
                tensor.ClearField("data_location")


def _free_sides(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorShapeProto.Dimension]":
    """The free height and width of every input that is an image."""
    constants = {tensor.name for tensor in graph.initializer}
    for item in graph.input:
        dims = item.type.tensor_type.shape.dim
        if item.name not in constants and len(dims) == 4:
            yield from (dim for dim in dims[2:] if dim.dim_value <= 0)


def _by_growth(model: "onnx.ModelProto", candidates: "Sequence[onnx.NodeProto]") -> Growth:
    small, large = (_shapes(model, size) for size in _SIZES)
    pixels = (_SIZES[1][0] * _SIZES[1][1]) / (_SIZES[0][0] * _SIZES[0][1])
    for node in candidates:
        before, after = _scores(node, small), _scores(node, large)
        if before is None or after is None:
            if _in_doubt(node, candidates, model):
                return Growth(found=True, shown=f"{_name(node)}, whose shape is not known before it runs")
        elif _elements(after) > _elements(before) * pixels**_FASTER:
            sizes = " and ".join(
                f"{_text(dims)} at {w}x{h}" for dims, (h, w) in zip((before, after), _SIZES, strict=True)
            )
            return Growth(found=True, shown=f"{_name(node)}: {sizes}")
    return Growth(found=False)


def _scores(node: "onnx.NodeProto", shapes: Shapes) -> tuple[int, ...] | None:
    """The dims of the score matrix that a node makes, or None where they are not known."""
    if node.op_type not in _FUSED:
        return _known(shapes.get(node.output[0]))
    if node.op_type in _WINDOWED_BY_NAME:
        return (1,)
    sides = [_length(node, number, shapes) for number in (0, 1)]
    query, key = sides[0], sides[1] or sides[0]
    if query is None or key is None:
        return None
    return (*query[:-1], query[-1], key[-1])


def _length(node: "onnx.NodeProto", number: int, shapes: Shapes) -> tuple[int, ...] | None:
    """The batch and the number of places of an input of fused attention: [B, L, C], [B, heads, L, C] or packed."""
    name = node.input[number] if len(node.input) > number else ""
    # The first input of Microsoft's Attention is the sequence, the second its weights.
    if not name or (number == 1 and node.op_type == "Attention" and node.domain == "com.microsoft"):
        return None
    dims = _known(shapes.get(name))
    if dims is None or len(dims) not in {3, 4, 5}:
        return None
    return (dims[0], dims[2]) if len(dims) == 4 else (dims[0], dims[1])


def _in_doubt(node: "onnx.NodeProto", candidates: "Sequence[onnx.NodeProto]", model: "onnx.ModelProto") -> bool:
    """Whether a node of unknown shape may be attention: fused, or a product of computed tensors near a softmax."""
    if node.op_type in _FUSED:
        return True
    if node.op_type == "Softmax":
        return _feeds(node, model, lambda maker: maker.op_type in _PRODUCTS and _is_computed(maker, model))
    softmaxes = [other for other in candidates if other.op_type == "Softmax"]
    return any(_feeds(other, model, lambda maker: maker is node) for other in softmaxes) and _is_computed(node, model)


def _is_computed(node: "onnx.NodeProto", model: "onnx.ModelProto") -> bool:
    made = {output for graph in _graphs(model.graph) for other in graph.node for output in other.output}
    made |= {item.name for item in model.graph.input}
    constants = {tensor.name for tensor in model.graph.initializer}
    return all(name in made and name not in constants for name in node.input[:2])


def _feeds(node: "onnx.NodeProto", model: "onnx.ModelProto", wanted: "Callable[[onnx.NodeProto], bool]") -> bool:
    """Whether what `node` takes comes from a wanted one, past all that only scales, masks or rearranges."""
    makers = {output: other for graph in _graphs(model.graph) for other in graph.node for output in other.output}
    pending, seen = list(node.input), set[str]()
    while pending:
        name = pending.pop()
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.add(name)
        if wanted(maker):
            return True
        if maker.op_type in _PASSING:
            pending += maker.input
    return False


def _by_places(nodes: "Sequence[onnx.NodeProto]", shapes: Shapes, candidates: "Sequence[onnx.NodeProto]") -> Growth:
    """For a file of one size: whether both sides of a score matrix are as long as the maps that they come from."""
    makers = {output: node for node in nodes for output in node.output}
    for node in candidates:
        if node.op_type == "Softmax" or (node.op_type not in _FUSED and not all(n in makers for n in node.input[:2])):
            continue
        dims = _scores(node, shapes)
        if dims is None:
            if node.op_type in _FUSED:
                return Growth(found=True, shown=f"{_name(node)}, whose shape is not known before it runs")
            continue
        operands = [name for name in node.input[:2] if name in makers] * 2
        places = [_places(name, makers, shapes) for name in operands[:2]]
        if len(dims) >= 2 and all(_covers(side, place) for side, place in zip(dims[-2:], places, strict=True)):
            return Growth(found=True, shown=f"{_name(node)}: {_text(dims)}, every place of its feature map")
    return Growth(found=False)


def _covers(side: int, places: int | None) -> bool:
    """Whether a side of a score matrix has all places; without a map to count them by, it is taken to."""
    return side > _EXTRA_TOKENS if places is None else 1 < places <= side <= places + _EXTRA_TOKENS


def _places(name: str, makers: "Mapping[str, onnx.NodeProto]", shapes: Shapes) -> int | None:
    """Height times width of the nearest feature map that a tensor was made from; None if there is none."""
    pending, seen = [name], {name}
    while pending:
        following: list[str] = []
        for item in pending:
            maker = makers.get(item)
            if maker is None:
                continue
            dims = _known(shapes.get(item))
            if maker.op_type in _MAPS and dims is not None and len(dims) == 4:
                return dims[2] * dims[3]
            fresh = [source for source in maker.input if source and source not in seen]
            seen.update(fresh)
            following += fresh
        pending = following
    return None


def _shapes(model: "onnx.ModelProto", size: tuple[int, int] | None) -> Shapes:
    """The dims of every tensor at a size (height, width); None is the file's own."""
    import onnx

    work = onnx.ModelProto()
    work.CopyFrom(model)
    _fix(work.graph, size)
    return fold_values(work, lambda item: onnx.shape_inference.infer_shapes(item, data_prop=True), _dims_of)


def _fix(graph: "onnx.GraphProto", size: tuple[int, int] | None) -> None:
    """Give every input its size: an image's sides as said, a batch of one, and what else is free likewise one."""
    del graph.value_info[:]
    constants = {tensor.name for tensor in graph.initializer}
    named: dict[str, int] = {}
    inputs = [item for item in graph.input if item.name not in constants]
    for item in inputs:
        dims = item.type.tensor_type.shape.dim
        for place, dim in enumerate(dims):
            if dim.dim_value > 0:
                continue
            side = size[place - 2] if size is not None and len(dims) == 4 and place >= 2 else 1
            dim.dim_value = named.setdefault(dim.dim_param, side) if dim.dim_param else side
    for item in graph.output:
        item.type.tensor_type.ClearField("shape")


def _dims_of(model: "onnx.ModelProto") -> dict[str, tuple[int | None, ...]]:
    found: dict[str, tuple[int | None, ...]] = {}
    for graph in _graphs(model.graph):
        for item in (*graph.input, *graph.value_info, *graph.output):
            if item.type.tensor_type.HasField("shape"):
                dims: Iterable[Any] = item.type.tensor_type.shape.dim
                found[item.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        found |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return found


def _known(dims: tuple[int | None, ...] | None) -> tuple[int, ...] | None:
    known = tuple(dim for dim in dims or () if dim is not None and dim >= 0)
    return known if dims is not None and len(known) == len(dims) else None


def _elements(dims: Iterable[int]) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def _text(dims: Iterable[int]) -> str:
    return "x".join(map(str, dims))


def _name(node: "onnx.NodeProto") -> str:
    return f"{node.op_type} {node.name or node.output[0]}"
