"""What the micro-probe asks a runtime: one operator a question, each of its large inputs in turn.

An operator is given its input in a buffer that nobody else reads (`alone`), and the same again with a later reader
(`read_again`). If it writes over the input, the first takes a buffer less; if it only renames the input, both take one
buffer. What differs between operators is here as data: inputs, attributes, first operator set. Operators that only
onnxruntime's own optimiser writes stand in its domains.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["CASES", "CONTRIB", "NCHWC", "Case", "Operand", "feeds", "models"]

CONTRIB, NCHWC = "com.microsoft", "com.microsoft.nchwc"
_IMAGE = (1, 16, 256, 256)
_TOKENS = (1, 4096, 256)


@dataclass(frozen=True, slots=True)
class Operand:
    """One input: of `dims`, asked about if it is `probed`, a constant if `values` are given; "" for one left out."""

    dims: tuple[int, ...] = ()
    dtype: str = "float32"
    probed: bool = False
    values: tuple[float, ...] | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One operator, with the outputs that it is asked for: by default its first alone."""

    operator: str
    operands: tuple[Operand, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    opset: int = 17
    outputs: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """``com.microsoft:Gelu``, or ``Relu`` for a standard operator."""
        return f"{self.domain}:{self.operator}" if self.domain else self.operator

    def bytes_of(self, index: int) -> int:
        """The bytes of the operand at `index` where it is probed; 0 for all others, whose buffers are the caller's."""
        import numpy as np

        operand = self.operands[index]
        return math.prod(operand.dims) * np.dtype(operand.dtype).itemsize if operand.probed else 0


_T = Operand(_IMAGE, probed=True)
_TOK = Operand(_TOKENS, probed=True)
_ROWS = Operand((4096, 256), probed=True)
_HEADS = Operand((1, 4, 4096, 64), probed=True)
_LONG = Operand((1, 512, 2048), probed=True)
_BOOL = Operand(_IMAGE, "bool", probed=True)
_INT32 = Operand(_IMAGE, "int32", probed=True)
_BYTE = Operand((1, 64, 256, 256), "uint8", probed=True)
_NONE = Operand(absent=True)


def _weight(*dims: int, dtype: str = "float32") -> Operand:
    return Operand(dims, dtype)


def _whole(*values: int) -> Operand:
    return Operand((len(values),), "int64", values=tuple(float(value) for value in values))


def _number(value: float, dtype: str = "float32") -> Operand:
    return Operand((), dtype, values=(value,))


_UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp"),
    *("Floor", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization"),
    *("MeanVarianceNormalization", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
    *("Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu", "Dropout"),
)
_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean")
_SPATIAL = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
_LSTM = {"hidden_size": 256}


def _standard() -> Iterator[Case]:
    for name in _UNARY:
        yield Case(name, (_T,))
    for name in _BINARY:
        yield Case(name, (_T, _T))
    yield Case("Gelu", (_T,), opset=20)
    yield Case("Mish", (_T,), opset=18)
    yield Case("Swish", (_T,), opset=24)
    yield Case("Cast", (_T,), {"to": 1})
    yield Case("Clip", (_T, _number(0.0), _number(1.0)))
    yield Case("PRelu", (_T, _weight(16, 1, 1)))
    yield Case("Mod", (_T, _T), {"fmod": 1})
    yield Case("CumSum", (_T, Operand((), "int64", values=(1,))))
    yield Case("Where", (Operand(_IMAGE, "bool"), _T, _T))
    yield Case("Not", (_BOOL,))
    for name in ("And", "Or", "Xor"):
        yield Case(name, (_BOOL, _BOOL))
    yield Case("Equal", (_BOOL, _BOOL))
    yield Case("BitShift", (_BYTE, _BYTE), {"direction": "LEFT"})


def _shaped() -> Iterator[Case]:
    yield Case("Reshape", (_T, _whole(1, 16, 65536)))
    yield Case("Flatten", (_T,))
    yield Case("Squeeze", (_T, _whole(0)))
    yield Case("Unsqueeze", (_T, _whole(0)))
    yield Case("Expand", (_T, _whole(*_IMAGE)))
    yield Case("Transpose", (_T,), {"perm": [0, 2, 3, 1]})
    yield Case("Concat", (_T,), {"axis": 1})
    yield Case("Split", (_T,), {"axis": 1})
    yield Case("Slice", (_T, _whole(0), _whole(16), _whole(1)))
    yield Case("Tile", (_T, _whole(1, 1, 1, 1)))
    yield Case("Pad", (_T, _whole(*(0,) * 8)))
    yield Case("DepthToSpace", (_T,), {"blocksize": 2, "mode": "CRD"})
    yield Case("SpaceToDepth", (_T,), {"blocksize": 2})
    yield Case("Gather", (_T, _whole(*range(16))), {"axis": 1})
    yield Case("Trilu", (_T,))
    yield Case("ScatterND", (_T, Operand((1, 1), "int64", values=(0,)), _weight(1, 16, 256, 256)))
    yield Case("ReverseSequence", (_T, Operand((16,), "int64", values=(1,) * 16)), {"batch_axis": 1, "time_axis": 0})
    yield Case("Einsum", (_T,), {"equation": "nchw->nchw"})


def _computed() -> Iterator[Case]:
    yield Case("Conv", (_T, _weight(16, 16, 3, 3), _weight(16)), _SPATIAL)
    yield Case("ConvTranspose", (_T, _weight(16, 16, 3, 3), _weight(16)), _SPATIAL)
    for name in ("MaxPool", "AveragePool"):
        yield Case(name, (_T,), _SPATIAL)
    yield Case("LpPool", (_T,), _SPATIAL)
    yield Case("Resize", (_T, _NONE, Operand((4,), values=(1, 1, 1, 1))), {"mode": "linear"})
    yield Case("Resize", (_T, _NONE, Operand((4,), values=(1, 1, 1, 1))), {"mode": "nearest"})
    yield Case("Upsample", (_T, Operand((4,), values=(1, 1, 1, 1))), {"mode": "linear"}, opset=9)
    yield Case("GridSample", (_T, _weight(1, 256, 256, 2)))
    yield Case("BatchNormalization", (_T, *(_weight(16) for _ in range(4))))
    yield Case("InstanceNormalization", (_T, _weight(16), _weight(16)))
    yield Case("LRN", (_T,), {"size": 3})
    yield Case("LayerNormalization", (_TOK, _weight(256), _weight(256)))
    for name in ("ReduceMean", "ReduceMax"):
        yield Case(name, (_T,), {"axes": [0]})
    yield Case("ReduceSum", (_T, _whole(0)))
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(name, (Operand((1, 1 << 20, 1, 1), probed=True),))
    yield Case("DequantizeLinear", (_INT32, _number(0.1)))
    yield Case("GatherElements", (_T, Operand(_IMAGE, "int64")), {"axis": 1})
    yield Case("ScatterElements", (_T, Operand((1, 16, 1, 1), "int64"), _weight(1, 16, 1, 1)), {"axis": 1})
    yield Case("GroupNormalization", (_T, _weight(16), _weight(16)), {"num_groups": 4}, opset=21)
    yield Case("RMSNormalization", (_TOK, _weight(256)), opset=23)
    yield Case("SimplifiedLayerNormalization", (_TOK, _weight(256)))
    yield Case("MatMul", (_TOK, _weight(256, 256)))
    yield Case("Gemm", (_ROWS, _weight(256, 256), _ROWS))
    yield Case(
        "RotaryEmbedding",
        (_HEADS, _weight(1, 4096, 32), _weight(1, 4096, 32)),
        opset=23,
    )
    yield Case("Attention", (Operand((1, 4, 512, 512), probed=True),) * 3, opset=23)


def _contributed() -> Iterator[Case]:
    def own(operator: str, *operands: Operand, **attributes: Any) -> Case:  # noqa: ANN401 - as onnx takes them
        return Case(operator, operands, attributes, CONTRIB)

    for name in ("Gelu", "FastGelu", "QuickGelu"):
        yield own(name, _TOK)
    yield own("BiasGelu", _TOK, _weight(256))
    yield own("FastGelu", _TOK, _weight(256))
    yield own("BiasDropout", _TOK, _weight(256), _TOK)
    skip = (_TOK, _TOK, _weight(256), _weight(256))
    yield own("SkipLayerNormalization", *skip, epsilon=1e-5)
    yield Case("SkipLayerNormalization", skip, {"epsilon": 1e-5}, CONTRIB, outputs=(0, 3))
    yield own("SkipSimplifiedLayerNormalization", *skip[:3], epsilon=1e-5)
    yield own("FusedMatMul", _TOK, _weight(256, 256), alpha=0.5)
    yield own("TransposeMatMul", _TOK, _weight(256, 256), alpha=0.5)
    yield own(
        "FusedGemm",
        _ROWS,
        _weight(256, 256),
        _ROWS,
        activation="Relu",
    )
    yield own("FusedConv", _T, _weight(16, 16, 3, 3), _weight(16), activation="Relu", **_SPATIAL)
    yield own("FusedConv", _T, _weight(16, 16, 3, 3), _weight(16), _T, activation="Relu", **_SPATIAL)
    yield own("NhwcMaxPool", Operand((1, 512, 512, 16), "uint8", probed=True), **_SPATIAL)
    yield own("GridSample", _T, _weight(1, 256, 256, 2))
    yield own("Trilu", _T)
    yield own("Inverse", Operand((16, 256, 256), probed=True))
    yield own("Attention", _TOK, _weight(256, 768), _weight(768), num_heads=4)
    yield own(
        "MultiHeadAttention",
        _LONG,
        _LONG,
        _LONG,
        num_heads=4,
    )
    scales = (_number(0.1), Operand((), "uint8", values=(1,)))
    for name in ("QLinearSigmoid", "QLinearLeakyRelu"):
        yield own(name, _BYTE, *scales, *scales)
    for name in ("QLinearAdd", "QLinearMul"):
        yield own(name, _BYTE, *scales, _BYTE, *scales, *scales)


def _blocked() -> Iterator[Case]:
    def own(operator: str, *operands: Operand, **attributes: Any) -> Case:  # noqa: ANN401 - as onnx takes them
        return Case(operator, operands, attributes, NCHWC)

    weight = _weight(16, 16, 3, 3)
    yield own("Conv", _T, weight, _weight(16), **_SPATIAL)
    yield own("Conv", _T, weight, _weight(16), _T, **_SPATIAL)
    yield own("Conv", _T, weight, _weight(16), _T, activation="Relu", **_SPATIAL)
    yield own("MaxPool", _T, **_SPATIAL)
    yield own("AveragePool", _T, **_SPATIAL)
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        yield own(name, Operand((1, 1 << 20, 1, 1), probed=True))
    yield own("Upsample", _T, scales=[1, 1, 1, 1])
    yield own("ReorderInput", _T)
    yield own("ReorderOutput", _T, channels=16)


CASES: tuple[Case, ...] = (*_standard(), *_shaped(), *_computed(), *_contributed(), *_blocked())
"""All questions."""


def models(case: Case, index: int) -> tuple["onnx.ModelProto", "onnx.ModelProto"]:
    """The question about the input at `index`: alone, and read again after the operator."""
    return _model(case, index, read_again=False), _model(case, index, read_again=True)


def feeds(case: Case) -> dict[str, tuple[list[int], str]]:
    """Dims and type of what the models of `case` are fed, by input name."""
    found = {}
    for index, operand in enumerate(case.operands):
        if not operand.absent and operand.values is None:
            found[f"x{index}"] = (list(_fed(operand)), operand.dtype)
    return found


def _fed(operand: Operand) -> tuple[int, ...]:
    """A probed operand is fed with its first axes the other way round, because a Transpose makes its buffer."""
    return (operand.dims[1], operand.dims[0], *operand.dims[2:]) if operand.probed else operand.dims


def _model(case: Case, index: int, *, read_again: bool) -> "onnx.ModelProto":
    """All probed operands but that at `index` are the caller's, whose buffers nobody writes over."""
    from onnx import TensorProto, helper

    names = ["" if operand.absent else f"x{at}" for at, operand in enumerate(case.operands)]
    nodes = []
    for at, operand in enumerate(case.operands):
        if operand.probed:
            order = [1, 0, *range(2, len(operand.dims))]
            nodes.append(helper.make_node("Transpose", [f"x{at}"], [f"a{at}"], perm=order))
            names[at] = f"a{at}"
    outputs = [f"b{at}" if at in case.outputs else "" for at in range(max(case.outputs) + 1)]
    nodes.append(helper.make_node(case.operator, names, outputs, domain=case.domain, **case.attributes))
    results = [f"b{at}" for at in case.outputs]
    ends = []
    for at, name in enumerate(results):
        nodes.append(helper.make_node("Shape", [name], [f"s{at}"]))
        ends.append(f"s{at}")
    for at, operand in enumerate(case.operands):
        if operand.probed and (read_again or at != index):
            nodes += [
                helper.make_node("Reshape", [f"a{at}", "s0"], [f"r{at}"]),
                helper.make_node("Shape", [f"r{at}"], [f"t{at}"]),
            ]
            ends.append(f"t{at}")
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(name, _code(dtype), dims) for name, (dims, dtype) in feeds(case).items()],
        [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ends],
        _constants(case),
    )
    sets = [helper.make_opsetid("", case.opset)]
    if case.domain:
        sets.append(helper.make_opsetid(case.domain, 1))
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def _constants(case: Case) -> Sequence["onnx.TensorProto"]:
    import numpy as np
    from onnx import numpy_helper

    return [
        numpy_helper.from_array(np.array(operand.values, operand.dtype).reshape(operand.dims), f"x{index}")
        for index, operand in enumerate(case.operands)
        if operand.values is not None
    ]


def _code(dtype: str) -> int:
    import numpy as np
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
