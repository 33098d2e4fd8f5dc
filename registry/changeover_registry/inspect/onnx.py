"""Inspects an ONNX file: what it needs, what it takes and gives, and what is wrong with it. Nothing is executed.

The protobuf is parsed without opening external data; those files are only compared with the folder, the list and the
sizes that the tensors state. Operators outside the known domains are custom code and a problem. Whether memory grows
faster than the plate is seen by `attention`. What this leaves out: whether the graph computes anything sensible, which
only running it in the sandbox shows.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry.inspect.attention import Growth, global_attention
from changeover_registry.inspect.content import bad_location, inside
from changeover_registry.inspect.inspection import Inspection, Problem, TensorInfo, compute_capability, formats
from changeover_registry.records.release import Requires

if TYPE_CHECKING:
    import onnx

__all__ = ["has_broken_text", "inspect_onnx"]

_BATCH_AND_CHANNEL_AXES = 2


def inspect_onnx(folder: Path, entry: str, files: Sequence[str]) -> Inspection:
    """What ``folder/entry`` says; external data must lie in `folder` and be among `files`."""
    model = _parse(folder / entry)
    if isinstance(model, str):
        remedy = "export the model again, or take the file again"
        problem = Problem("ONNX file", entry, "an ONNX model with a graph", model, remedy)
        return Inspection(Requires(), problems=(problem,))
    weights = tuple(_tensors(model))
    initializers = {tensor.name for tensor in model.graph.initializer}
    evidence = dict(_evidence(model, weights))
    inputs = tuple(_info(item) for item in model.graph.input if item.name not in initializers)
    problems = (
        *_ir(model, entry),
        *_sides(model, entry),
        *_operators(model, entry),
        *_values(entry, weights),
        *_external(folder, entry, weights, files),
    )
    outputs = tuple(_info(item) for item in model.graph.output)
    requires = _requires(model, weights, inputs)
    # The last that is asked of the model: it loses its weights. A graph that is wrong is not asked at all.
    growth = Growth(found=False) if problems else global_attention(model)
    requires = requires.model_copy(update={"global_attention": growth.found})
    return Inspection(requires, inputs, outputs, problems, evidence | {"global_attention": growth.shown})


def _parse(path: Path) -> "onnx.ModelProto | str":
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except (DecodeError, ValueError) as error:
        return f"bytes that do not parse ({error})"
    if model.ir_version < 1 or not model.graph.node:
        return "no IR version or no operators"
    return "a name that is not UTF-8" if has_broken_text(model) else model


def has_broken_text(message: Any) -> bool:  # noqa: ANN401 - any protobuf message
    """Whether some name in a parsed model is not UTF-8; protobuf hands such a one over as bytes, and goes on."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            values = [value] if isinstance(value, (str, bytes)) else value
            if any(isinstance(item, bytes) for item in values):
                return True
        elif field.type == field.TYPE_MESSAGE:
            values = value if isinstance(value, Sequence) or hasattr(value, "add") else [value]
            if any(has_broken_text(item) for item in values):
                return True
    return False


def _requires(
    model: "onnx.ModelProto", weights: Sequence["onnx.TensorProto"], inputs: Sequence[TensorInfo]
) -> Requires:
    opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    nodes = tuple(_nodes(model))
    dtypes = _dtypes(model, weights)
    spatial = [dim for item in inputs for dim in item.dims[_BATCH_AND_CHANNEL_AXES:]]
    return Requires(
        ir_version=model.ir_version,
        opset=opsets.get("ai.onnx"),
        domains=tuple(sorted({node.domain or "ai.onnx" for node in nodes})),
        operators=tuple(sorted({node.op_type for node in nodes})),
        dtypes=dtypes,
        dynamic_axes=any(isinstance(dim, str) for dim in spatial),
        external_data=any(_is_external(tensor) for tensor in weights),
        weight_bytes=sum(_tensor_bytes(tensor) for tensor in weights),
        compute_capability=compute_capability(dtypes),
    )


def _evidence(model: "onnx.ModelProto", weights: Sequence["onnx.TensorProto"]) -> Iterator[tuple[str, str]]:
    """What in the file shows a need, for those that a vendor cannot see at a glance."""
    files = sorted({item.value for tensor in weights for item in tensor.external_data if item.key == "location"})
    if files:
        yield "external_data", f"values in {', '.join(files[:3])}"
    sides = [dim for item in model.graph.input for dim in item.type.tensor_type.shape.dim[_BATCH_AND_CHANNEL_AXES:]]
    free = [dim.dim_param or "?" for dim in sides if dim.dim_value <= 0]
    if free:
        yield "dynamic_axes", f"axes {', '.join(dict.fromkeys(free))}"


def _graphs(model: "onnx.ModelProto") -> Iterator["onnx.GraphProto"]:
    pending = [model.graph]
    pending.extend(graph for function in model.functions for graph in _subgraphs(function.node))
    while pending:
        graph = pending.pop()
        yield graph
        pending.extend(_subgraphs(graph.node))


def _subgraphs(nodes: Iterable["onnx.NodeProto"]) -> Iterator["onnx.GraphProto"]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _nodes(model: "onnx.ModelProto") -> Iterator["onnx.NodeProto"]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: "onnx.ModelProto") -> Iterator["onnx.TensorProto"]:
    """Every tensor with a value: weights, and constants in attributes."""
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _dtypes(model: "onnx.ModelProto", weights: Sequence["onnx.TensorProto"]) -> tuple[str, ...]:
    codes = {tensor.data_type for tensor in weights}
    for graph in _graphs(model):
        for item in (*graph.input, *graph.output, *graph.value_info):
            codes.add(item.type.tensor_type.elem_type)
    for node in _nodes(model):
        if node.op_type == "Cast":
            codes.update(attribute.i for attribute in node.attribute if attribute.name == "to")
    return tuple(sorted(_dtype(code) for code in codes if code))


def _dtype(code: int) -> str:
    import onnx

    known = onnx.TensorProto.DataType.values()
    if code not in known:
        return f"type-{code}"
    name = str(onnx.TensorProto.DataType.Name(code)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _info(item: "onnx.ValueInfoProto") -> TensorInfo:
    tensor = item.type.tensor_type
    dims = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in tensor.shape.dim)
    return TensorInfo(item.name, _dtype(tensor.elem_type), dims)


def _sides(model: "onnx.ModelProto", entry: str) -> Iterator[Problem]:
    """Inputs with a negative size; older exporters write -1 for a free axis."""
    for item in model.graph.input:
        least = min((dim.dim_value for dim in item.type.tensor_type.shape.dim), default=0)
        if least < -1:
            expected = f"input {item.name} with sizes of 1 or more, or free axes"
            yield Problem("input size", entry, expected, str(least), "export the model again")


def _ir(model: "onnx.ModelProto", entry: str) -> Iterator[Problem]:
    limit = formats()["onnx"]["max_ir_version"]
    if model.ir_version > limit:
        expected = f"at most {limit}, which {formats()['onnx']['max_runtime']} loads"
        remedy = f"set ir_version to {limit} or less when exporting"
        yield Problem("ONNX IR version", entry, expected, str(model.ir_version), remedy)
    newest = max((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), default=0)
    if newest > (limit := formats()["onnx"]["max_opset"]):
        expected = f"at most {limit}, which {formats()['onnx']['max_runtime']} loads"
        yield Problem("ONNX opset", entry, expected, str(newest), f"export for opset {limit} or less")
    if not any(item.domain in {"", "ai.onnx"} for item in model.opset_import):
        yield Problem("ONNX opset", entry, "an opset import for ai.onnx", "none", "export the model again")


def _operators(model: "onnx.ModelProto", entry: str) -> Iterator[Problem]:
    allowed = set(formats()["onnx"]["domains"])
    foreign = (node for node in _nodes(model) if (node.domain or "ai.onnx") not in allowed)
    custom = sorted({f"{node.domain}.{node.op_type}" for node in foreign})
    if custom:
        yield Problem(
            "operator domain",
            entry,
            f"operators of {', '.join(sorted(allowed))} only",
            ", ".join(custom[:5]),
            "export without custom operators (inline functions of the exporter)",
        )
    unknown = sorted(_unknown_operators(model))
    if unknown:
        remedy = "export the model again for an opset that has them"
        yield Problem("operator", entry, "operators that the file's opset knows", ", ".join(unknown[:5]), remedy)


def _unknown_operators(model: "onnx.ModelProto") -> set[str]:
    """Operators of ai.onnx that its stated opset does not have; an opset newer than this library says nothing."""
    from onnx import defs

    opset = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 0)
    if not 0 < opset <= defs.onnx_opset_version():
        return set()
    names = {node.op_type for node in _nodes(model) if node.domain in {"", "ai.onnx"}}
    return {name for name in names if not _has_schema(name, opset)}


def _has_schema(name: str, opset: int) -> bool:
    from onnx import defs

    try:
        defs.get_schema(name, opset, "")
    except defs.SchemaError:
        return False
    return True


def _values(entry: str, weights: Sequence["onnx.TensorProto"]) -> Iterator[Problem]:
    """Tensors whose bytes are not what their type and dims say: a reader that trusts them reads past their end."""
    for tensor in weights:
        actual = None
        if _dtype(tensor.data_type).startswith("type-"):
            actual = f"type {tensor.data_type}, which ONNX does not have"
        elif any(dim < 0 for dim in tensor.dims):
            actual = f"dims {list(tensor.dims)}"
        elif tensor.raw_data and len(tensor.raw_data) != _tensor_bytes(tensor):
            actual = f"{len(tensor.raw_data)} bytes for a tensor of {_tensor_bytes(tensor)}"
        if actual:
            remedy = "export the model again, or take the file again"
            yield Problem(
                "tensor", f"{entry}: {tensor.name}", "a type, dims and as many bytes as they say", actual, remedy
            )


def _external(
    folder: Path, entry: str, weights: Sequence["onnx.TensorProto"], files: Sequence[str]
) -> Iterator[Problem]:
    for tensor in weights:
        if _is_external(tensor):
            actual = _external_fault(folder, tensor, files)
            if actual:
                expected = "external data in a listed file of the variant's folder, as long as the tensor"
                remedy = "save the model with its data beside it, and list that file"
                yield Problem("external data", f"{entry}: {tensor.name}", expected, actual, remedy)


def _external_fault(folder: Path, tensor: "onnx.TensorProto", files: Sequence[str]) -> str | None:
    fields = {item.key: item.value for item in tensor.external_data}
    location = fields.get("location", "")
    bad = bad_location(location)
    if bad is not None:
        return f"location {bad}"
    if location not in files:
        return f"location {location!r}, which the variant does not list"
    path = folder / location
    if path.is_symlink() or not inside(folder, path):
        return f"location {location!r}, which is a link"
    if not path.is_file():
        return f"location {location!r}, which does not exist"
    return _range_fault(fields, _tensor_bytes(tensor), path.stat().st_size)


def _range_fault(fields: dict[str, str], needed: int, size: int) -> str | None:
    offset, length = fields.get("offset", "0"), fields.get("length", str(needed))
    if not (offset.isdecimal() and length.isdecimal()):
        return f"offset {offset!r} and length {length!r}, which are not numbers"
    if int(length) != needed:
        return f"{length} bytes for a tensor of {needed}"
    if int(offset) + int(length) > size:
        return f"bytes {offset} to {int(offset) + int(length)} of a file of {size}"
    return None


def _is_external(tensor: "onnx.TensorProto") -> bool:
    return tensor.data_location == 1


def _tensor_bytes(tensor: "onnx.TensorProto") -> int:
    """The bytes that the tensor's values take; text and unknown types count as nothing, types under a byte packed."""
    import onnx

    count = int(math.prod(tensor.dims))
    name = _dtype(tensor.data_type)
    if name in {"string", "undefined"} or name.startswith("type-"):
        return 0
    if name in {"int4", "uint4", "float4e2m1"}:
        return -(-count // 2)
    if name in {"int2", "uint2"}:
        return -(-count // 4)
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
