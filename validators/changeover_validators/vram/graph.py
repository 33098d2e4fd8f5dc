"""Reads an ONNX file as a memory graph: nodes in order, the bytes of every tensor, the bytes of the weights.

The file is parsed once without its weights (`read_skeleton`); each plate size then costs one shape inference on a graph
of a few kilobytes (`at_size`). Nothing of the model is executed. What this leaves out: what a runtime does with the
graph, which is the planner's matter, and scratch memory inside kernels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError
from changeover_registry.inspect.onnx import has_broken_text
from changeover_validators.vram.shapes import KEPT_ELEMENTS, dims, infos, settled, undecided, whole

if TYPE_CHECKING:
    import onnx

__all__ = ["Graph", "Node", "Skeleton", "at_size", "read_skeleton"]

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: its tensors in order, and its place in the file's topological order by its index in the graph."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """What a planner needs to know.

    `bytes_of` holds every tensor that is neither a weight nor computed from weights alone; `constants` names the
    others; `weights_bytes` is the size of those constants that a run reads.
    """

    nodes: tuple[Node, ...]
    bytes_of: Mapping[str, int]
    constants: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A parsed model without the values of its weights. `shapes` are the inputs' own dims, None where not fixed."""

    where: str
    model: "onnx.ModelProto"
    weight_sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int | None, ...]]


def read_skeleton(path: Path) -> Skeleton:
    """Parse `path` and drop the weights' values; external data is never opened.

    Raises:
        InvalidInputError: Not an ONNX model.
        UndecidedError: It has control flow, whose memory is not modelled.
    """
    model = _parse(path)
    flow = sorted({node.op_type for node in model.graph.node} & _CONTROL_FLOW)
    if flow:
        raise undecided(str(path), "a graph without control flow", f"operators {', '.join(flow)}")
    sizes = {tensor.name: _tensor_bytes(tensor) for tensor in model.graph.initializer}
    given = {item.name: item for item in model.graph.input if item.name not in sizes}
    _drop_values(model)
    return Skeleton(str(path), model, sizes, {name: _own_dims(item) for name, item in given.items()})


def at_size(skeleton: Skeleton, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Graph, Mapping[str, tuple[int, ...]]]:
    """The memory graph with the inputs fixed at `shapes` (name to dims), and the shape of every tensor.

    Raises:
        InvalidInputError: An input is missing from the graph, or the graph fixes it at another size.
        UndecidedError: A tensor's size does not follow from the inputs' sizes.
    """
    model = _fixed(skeleton, shapes)
    found = infos(settled(model, skeleton.where))
    constants = _constants(skeleton, model)
    known = {name: shape for name, item in found.items() if (shape := whole(item)) is not None}
    nodes = tuple(_node(node) for node in model.graph.node if not set(node.output) <= constants)
    needed = {name for node in nodes for name in (*node.inputs, *node.outputs)} | {o.name for o in model.graph.output}
    _refuse_unknown(needed - known.keys() - constants, skeleton.where)
    sizes = {name: math.prod(known[name]) * _item_bytes(found[name]) for name in needed - constants}
    inputs = tuple(name for name in skeleton.shapes if name in sizes)
    outputs = tuple(item.name for item in model.graph.output)
    read = {name for node in nodes for name in node.inputs} | set(outputs)
    weights = sum(_constant_bytes(name, skeleton, found, known) for name in read & constants)
    return Graph(nodes, sizes, constants, inputs, outputs, weights), known


def _parse(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    data = path.read_bytes()
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise _not_a_model(path, str(error)) from error
    if not model.graph.node:
        raise _not_a_model(path, "no operators")
    if has_broken_text(model):
        raise _not_a_model(path, "a name that is not UTF-8")
    for tensor in model.graph.initializer:
        if not _is_sound(tensor):
            raise _not_a_model(path, f"weight {tensor.name!r} whose bytes are not what its type and dims say")
    return model


def _is_sound(tensor: "onnx.TensorProto") -> bool:
    import onnx

    if tensor.data_type not in onnx.TensorProto.DataType.values() or any(dim < 0 for dim in tensor.dims):
        return False
    return not tensor.raw_data or len(tensor.raw_data) == _tensor_bytes(tensor)


def _not_a_model(path: Path, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "ONNX file",
        where=str(path),
        expected="an ONNX model with a graph",
        actual=actual,
        remedy="export the model again, or take the file again from the vendor",
    )


def _drop_values(model: "onnx.ModelProto") -> None:
    """Turn each large constant into an input of the same type, so that shape inference copies no weights."""
    import onnx

    already = {item.name for item in model.graph.input}
    kept = [tensor for tensor in model.graph.initializer if math.prod(tensor.dims) <= KEPT_ELEMENTS]
    kept = [tensor for tensor in kept if tensor.data_location != onnx.TensorProto.EXTERNAL]
    kept_names = {tensor.name for tensor in kept}
    for tensor in model.graph.initializer:
        if tensor.name not in kept_names and tensor.name not in already:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(info)
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)


def _fixed(skeleton: Skeleton, shapes: Mapping[str, tuple[int, ...]]) -> "onnx.ModelProto":
    """A copy of the model with its inputs fixed; stale shapes inside the graph are dropped."""
    import onnx

    _check_inputs(skeleton, shapes)
    model = onnx.ModelProto()
    model.CopyFrom(skeleton.model)
    del model.graph.value_info[:]
    for item in model.graph.input:
        if item.name in skeleton.shapes:
            _set_dims(item, shapes.get(item.name) or tuple(dim or 1 for dim in skeleton.shapes[item.name]))
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    return model


def _check_inputs(skeleton: Skeleton, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        own = skeleton.shapes.get(name)
        if own is None:
            raise _wrong_input(skeleton, name, "an input of this graph", f"inputs {', '.join(skeleton.shapes)}")
        if len(own) != len(shape) or any(a not in {None, b} for a, b in zip(own, shape, strict=True)):
            raise _wrong_input(skeleton, name, f"{_text(shape)}, as the contract feeds it", f"{_text(own)} in the file")


def _wrong_input(skeleton: Skeleton, name: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "model input",
        where=f"{skeleton.where}: {name}",
        expected=expected,
        actual=actual,
        remedy="export with dynamic height and width, or name the fixed size as the contract's resize or tile",
    )


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _set_dims(item: "onnx.ValueInfoProto", shape: tuple[int, ...]) -> None:
    item.type.tensor_type.ClearField("shape")
    for size in shape:
        item.type.tensor_type.shape.dim.add().dim_value = size


def _refuse_unknown(names: set[str], where: str) -> None:
    names.discard("")
    if names:
        first = min(names)
        raise undecided(where, "the shape of every tensor", f"{len(names)} without one, such as {first!r}")


def _constants(skeleton: Skeleton, model: "onnx.ModelProto") -> frozenset[str]:
    """Weights, and all that is computed from weights alone: a session computes it once, when it is built."""
    constants = {"", *skeleton.weight_sizes, *(tensor.name for tensor in model.graph.initializer)}
    for node in model.graph.node:
        if set(node.input) <= constants and not node.op_type.startswith("Random"):
            constants.update(node.output)
    return frozenset(constants)


def _constant_bytes(
    name: str,
    skeleton: Skeleton,
    infos: Mapping[str, "onnx.ValueInfoProto"],
    known: Mapping[str, tuple[int, ...]],
) -> int:
    if name in skeleton.weight_sizes:
        return skeleton.weight_sizes[name]
    if name not in known:
        # A constant whose shape cannot be inferred is a small computed list of sizes.
        return 0
    return math.prod(known[name]) * _item_bytes(infos[name])


def _node(node: "onnx.NodeProto") -> Node:
    names = [name for name in node.output if name]
    return Node(node.op_type, tuple(name for name in node.input if name), tuple(names))


def _own_dims(item: "onnx.ValueInfoProto") -> tuple[int | None, ...]:
    """The dims as the file states them; 0 there means not fixed, as older exporters write it."""
    return tuple(dim or None for dim in dims(item))


def _tensor_bytes(tensor: "onnx.TensorProto") -> int:
    return _packed_bytes(tensor.data_type, math.prod(tensor.dims))


def _item_bytes(item: "onnx.ValueInfoProto") -> int:
    return _packed_bytes(item.type.tensor_type.elem_type, 1)


def _packed_bytes(data_type: int, count: int) -> int:
    """Bytes of `count` elements; types under one byte are packed, text counts as nothing."""
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type)
    if name in {"INT4", "UINT4", "FLOAT4E2M1"}:
        return -(-count // 2)
    if name in {"INT2", "UINT2"}:
        return -(-count // 4)
    if name in {"STRING", "UNDEFINED"}:
        return 0
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
