"""The graph that a session really runs, as onnxruntime wrote it: operators in order, and the shape of every tensor.

Two shapes belong to a tensor: the one that the runtime knew when it planned (`known`, with names for free dimensions
and None where it knew nothing), which decides what may share a buffer; and the one of a call (`dims`), which decides
how large it is. The operators that a runtime's own optimiser writes are read as standard ones that have the same
shapes (`_translated`). Nothing is executed. What this leaves out: what is done with the graph (`buffers`, `simulate`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from changeover_registry.errors import InvalidInputError
from changeover_validators.vram.shapes import dims, infos, settled, undecided, whole
from changeover_validators.vram.translate import translated

if TYPE_CHECKING:
    import onnx

__all__ = ["Operation", "OptimisedGraph", "SessionGraph", "Tensor", "read_optimised"]

Attribute = int | str | tuple[int, ...]
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator. Empty names keep the places of what is left out."""

    domain: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a call: bytes of an element, `dims` of this call, and `known`, its shape when buffers were planned.

    `known` is None where not even the rank was known; a dimension is a number, a name, or None.
    """

    item_bytes: int
    dims: tuple[int, ...]
    known: tuple[int | str | None, ...] | None

    @property
    def bytes(self) -> int:
        """The bytes of its values."""
        return self.item_bytes * math.prod(self.dims)


@dataclass(frozen=True, slots=True)
class SessionGraph:
    """A session's graph at one size of its inputs. `weights` are all constants; only their shapes are in `tensors`."""

    operations: tuple[Operation, ...]
    tensors: Mapping[str, Tensor]
    weights: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OptimisedGraph:
    """A parsed optimised model; asked for one size after another."""

    where: str
    model: "onnx.ModelProto"
    provider: str = "cpu"

    @cached_property
    def _readable(self) -> "onnx.ModelProto":
        return translated(self.model)

    @cached_property
    def _symbolic(self) -> Mapping[str, tuple[int | str | None, ...] | None]:
        from onnx import shape_inference

        found = shape_inference.infer_shapes(self._readable, data_prop=False)
        return {name: _known(item) for name, item in infos(found).items()}

    @cached_property
    def inputs(self) -> Mapping[str, tuple[int | None, ...]]:
        """The inputs that a caller gives, None where a dimension is free."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return {item.name: dims(item) for item in self.model.graph.input if item.name not in weights}

    @cached_property
    def is_static(self) -> bool:
        """Whether no dimension of an input is free, so that there is one size only."""
        return all(dim is not None for shape in self.inputs.values() for dim in shape)

    def at(self, shapes: Mapping[str, tuple[int, ...]]) -> SessionGraph:
        """The graph for a call whose inputs have `shapes`.

        Raises:
            InvalidInputError: An input is not of this graph, or of another size than the graph fixes.
            UndecidedError: A tensor's size does not follow from the inputs' sizes.
        """
        settled_model = settled(_fixed(self._readable, self.inputs, shapes, self.where), self.where)
        found, folded = infos(settled_model), {tensor.name: tensor for tensor in settled_model.graph.initializer}
        graph = self.model.graph
        weights = frozenset(tensor.name for tensor in graph.initializer)
        operations = tuple(_operation(node) for node in graph.node)
        names = {name for op in operations for name in (*op.inputs, *op.outputs) if name}
        names |= {item.name for item in graph.output} | set(self.inputs)
        tensors = {tensor.name: _weight(tensor) for tensor in graph.initializer if tensor.name in names}
        for name in names & folded.keys() - tensors.keys():
            tensors[name] = replace(_weight(folded[name]), known=self._symbolic.get(name))
        missing = sorted(name for name in names - tensors.keys() if name not in found or whole(found[name]) is None)
        if missing:
            raise undecided(
                self.where, "the shape of every tensor", f"{len(missing)} without one, such as {missing[0]!r}"
            )
        for name in names - tensors.keys():
            tensors[name] = Tensor(_item_bytes(found[name]), whole(found[name]) or (), self._symbolic.get(name))
        outputs = tuple(item.name for item in graph.output)
        return SessionGraph(operations, tensors, weights, tuple(self.inputs), outputs)


def read_optimised(data: bytes, where: str) -> OptimisedGraph:
    """Parse a model as a session wrote it, with the values of its weights or without.

    Raises:
        InvalidInputError: Not a model.
        UndecidedError: It has control flow, whose memory is not modelled.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise InvalidInputError(
            "optimised model",
            where=where,
            expected="an ONNX model with a graph",
            actual=str(error) or "other bytes",
            remedy="build the session again",
        ) from error
    flow = sorted({node.op_type for node in model.graph.node} & _CONTROL_FLOW)
    if flow:
        raise undecided(where, "a graph without control flow", f"operators {', '.join(flow)}")
    return OptimisedGraph(where, model)


def _fixed(
    model: "onnx.ModelProto",
    inputs: Mapping[str, tuple[int | None, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
) -> "onnx.ModelProto":
    import onnx

    for name, shape in shapes.items():
        own = inputs.get(name)
        if own is None or len(own) != len(shape) or any(a not in {None, b} for a, b in zip(own, shape, strict=True)):
            raise _wrong_input(where, name, shape, own)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for item in fixed.graph.input:
        if item.name in inputs:
            given = shapes.get(item.name) or tuple(dim or 1 for dim in inputs[item.name])
            item.type.tensor_type.ClearField("shape")
            for size in given:
                item.type.tensor_type.shape.dim.add().dim_value = size
    for item in fixed.graph.output:
        item.type.tensor_type.ClearField("shape")
    return fixed


def _wrong_input(
    where: str, name: str, shape: tuple[int, ...], own: tuple[int | None, ...] | None
) -> InvalidInputError:
    return InvalidInputError(
        "model input",
        where=f"{where}: {name}",
        expected=f"{list(shape)}, as the contract feeds it",
        actual="no such input" if own is None else f"{['?' if dim is None else dim for dim in own]} in the file",
        remedy="export with dynamic height and width, or name the fixed size as the contract's resize or tile",
    )


def _operation(node: "onnx.NodeProto") -> Operation:
    return Operation(node.domain, node.op_type, tuple(node.input), tuple(node.output), _attributes(node.attribute))


def _attributes(found: Iterable["onnx.AttributeProto"]) -> dict[str, Attribute]:
    kept: dict[str, Attribute] = {}
    for item in found:
        value: Any = {2: item.i, 3: item.s.decode("utf-8", "replace"), 7: tuple(item.ints)}.get(item.type)
        if value is not None:
            kept[item.name] = value
    return kept


def _known(item: "onnx.ValueInfoProto") -> tuple[int | str | None, ...] | None:
    """The shape that inference gives without values. Names that inference invents are unknown to a runtime."""
    if not item.type.tensor_type.HasField("shape"):
        return None
    shape: list[int | str | None] = []
    for dim in item.type.tensor_type.shape.dim:
        name = dim.dim_param if dim.HasField("dim_param") and not dim.dim_param.startswith("unk__") else None
        shape.append(dim.dim_value if dim.HasField("dim_value") else name or None)
    return tuple(shape)


def _weight(tensor: "onnx.TensorProto") -> Tensor:
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return Tensor(int(kind.itemsize), tuple(tensor.dims), tuple(tensor.dims))


def _item_bytes(item: "onnx.ValueInfoProto") -> int:
    import onnx

    code = item.type.tensor_type.elem_type
    if code in {onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED}:
        return 0
    return int(onnx.helper.tensor_dtype_to_np_dtype(code).itemsize)
