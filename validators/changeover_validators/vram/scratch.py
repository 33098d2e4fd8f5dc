"""Scratch memory: what an operator of onnxruntime's CPU provider takes while it computes, and gives back at its end.

Found by running graphs of one operator at several sizes and reading what the arena held (`probes`); the formulas are
exact on releases 1.23 to 1.32 where no release is named. An operator is known (`is_known`) if it was seen to take none,
or has a formula that holds as it is used; every other one is not, for it may take any amount. What this leaves out:
workspaces of cuDNN, which only a calibration knows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from changeover_validators.vram.optimised import Operation, Tensor

__all__ = ["ScratchRules", "is_known", "scratch_bytes"]

_STRIPE = 65536
"""Bytes that a convolution lays out at a time, for each thread."""
_FLOAT = 4
_LINEAR_SINCE_MINOR = 27
"""From 1.27 on grouped convolutions take stripes too."""
_BLOCKED = "com.microsoft.nchwc"
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class ScratchRules:
    """What decides: the release's minor version, the threads inside an operator, and the standard's opset."""

    minor: int
    threads: int = 1
    opset: int = 17


Shapes = Mapping[str, Tensor]
_Formula = Callable[[Operation, Shapes, ScratchRules], tuple[int, ...]]


def scratch_bytes(operation: Operation, tensors: Shapes, rules: ScratchRules) -> tuple[int, ...]:
    """The temporary allocations of `operation`, in bytes and in order, all alive at once."""
    formula = _FORMULAS.get((operation.domain, operation.operator))
    return () if formula is None else formula(operation, tensors, rules)


def is_known(operation: Operation) -> bool:
    """Whether `scratch_bytes` tells the truth about `operation`."""
    name = (operation.domain, operation.operator)
    if name in {("", "Resize"), ("", "Upsample")}:
        return not operation.attributes.get("antialias")
    if name == ("", "Einsum"):
        return len(operation.inputs) == 1 or _letters(operation) in _PRODUCTS
    return name in _FORMULAS or name in _TAKES_NONE or operation.domain == _BLOCKED


def _convolution(operation: Operation, tensors: Shapes, rules: ScratchRules) -> tuple[int, ...]:
    weight, out = tensors[operation.inputs[1]].dims, tensors[operation.outputs[0]].dims
    if _is_pointwise(operation, weight):
        return ()
    group = _integer(operation, "group", 1)
    channels, pixels = out[1] // group, math.prod(out[2:])
    taps = weight[1] * math.prod(weight[2:])
    if channels > pixels:
        return (pixels * taps * _FLOAT,)
    groups = out[0] * group
    if groups == 1:
        return (min(rules.threads, channels * pixels * taps // _STRIPE + 1) * _STRIPE,)
    parts = min(rules.threads, groups)
    if rules.minor >= _LINEAR_SINCE_MINOR:
        return (parts * _STRIPE,)
    return (parts * max(pixels * taps, channels * pixels, _STRIPE // _FLOAT) * _FLOAT,)


def _is_pointwise(operation: Operation, weight: tuple[int, ...]) -> bool:
    ones = all(size == 1 for size in weight[2:])
    strides, pads = operation.attributes.get("strides", ()), operation.attributes.get("pads", ())
    plain = isinstance(strides, tuple) and all(step == 1 for step in strides)
    return ones and plain and isinstance(pads, tuple) and not any(pads)


def _transposed(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    taken, weight = tensors[operation.inputs[0]].dims, tensors[operation.inputs[1]].dims
    return (math.prod(weight[1:]) * math.prod(taken[2:]) * _FLOAT,)


def _resize(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    taken, given = tensors[operation.inputs[0]].dims, tensors[operation.outputs[0]].dims
    if operation.attributes.get("mode") != "linear" or taken == given:
        return ()
    return (16 * (given[-1] + given[-2]),)


def _softmax(operation: Operation, tensors: Shapes, rules: ScratchRules) -> tuple[int, ...]:
    taken = tensors[operation.inputs[0]]
    axis = _integer(operation, "axis", -1) % max(len(taken.dims), 1)
    if rules.opset < 13 or axis == len(taken.dims) - 1:
        return ()
    return (taken.bytes, taken.bytes)


def _where(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    given = tensors[operation.outputs[0]].bytes
    return (given, given)


def _variadic(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    # With more than two inputs one sum at a time is kept beside the output.
    return () if len(operation.inputs) <= 2 else (tensors[operation.outputs[0]].bytes,)


def _bias_gelu(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    return (tensors[operation.inputs[0]].bytes,) if len(operation.inputs) > 1 else ()


def _local_response(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    """The scales, and the squares with a margin of channels."""
    taken = tensors[operation.inputs[0]]
    margin = (_integer(operation, "size", 1) - 1) * math.prod(taken.dims[2:]) * taken.item_bytes
    return (taken.bytes, taken.bytes + margin)


def _mean_variance(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    taken = tensors[operation.inputs[0]].bytes
    return (taken, taken)


def _einsum(operation: Operation, tensors: Shapes, _rules: ScratchRules) -> tuple[int, ...]:
    """A permutation takes a copy; a product takes its output twice and copies of its factors."""
    taken = [tensors[name].bytes for name in operation.inputs]
    if len(taken) == 1:
        return (taken[0],)
    given = tensors[operation.outputs[0]].bytes
    again = taken[1:] if _letters(operation) == _OUTER else []
    return (given, given, *taken, *again)


def _letters(operation: Operation) -> str:
    """The equation with its letters in order of appearance, without blanks."""
    equation = str(operation.attributes.get("equation", "")).replace(" ", "")
    names: dict[str, str] = {}
    for letter in equation:
        if letter.isalpha():
            names.setdefault(letter, chr(ord("a") + len(names)))
    return "".join(names.get(letter, letter) for letter in equation)


def _attention(operation: Operation, tensors: Shapes, rules: ScratchRules) -> tuple[int, ...]:
    """The fused attention of com.microsoft: scores, the three projections, and the output before it is turned."""
    batch, length, width = tensors[operation.outputs[0]].dims
    heads = _integer(operation, "num_heads", 1)
    parts = (batch * heads * length * length * _FLOAT, 3 * batch * length * width * _FLOAT)
    last = (256,) if rules.minor >= 31 else ()
    return (*parts, batch * length * width * _FLOAT, *last)


def _integer(operation: Operation, name: str, default: int) -> int:
    value = operation.attributes.get(name, default)
    return value if isinstance(value, int) else default


_FORMULAS: Mapping[tuple[str, str], _Formula] = {
    ("", "Conv"): _convolution,
    (_MICROSOFT, "FusedConv"): _convolution,
    ("", "ConvTranspose"): _transposed,
    ("", "Resize"): _resize,
    ("", "Upsample"): _resize,
    ("", "Softmax"): _softmax,
    ("", "LogSoftmax"): _softmax,
    ("", "Where"): _where,
    **{("", name): _variadic for name in ("Sum", "Mean", "Max", "Min")},
    (_MICROSOFT, "BiasGelu"): _bias_gelu,
    (_MICROSOFT, "FastGelu"): _bias_gelu,
    ("", "LRN"): _local_response,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "Einsum"): _einsum,
    (_MICROSOFT, "Attention"): _attention,
}

_OUTER = "abcd,abed->abce"
"""Queries and keys: ``bhid,bhjd->bhij``."""
_PRODUCTS = frozenset({_OUTER, "abc,acd->abd"})

_STANDARD = (
    "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
    "AveragePool", "BatchNormalization", "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Col2Im",
    "Compress", "Concat", "Constant", "ConstantOfShape", "Cos", "Cosh", "CumSum", "DepthToSpace",
    "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor",
    "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GridSample", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf",
    "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LpPool", "MatMul", "MaxPool",
    "MemcpyFromHost", "MemcpyToHost", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow",
    "QuantizeLinear", "RMSNormalization", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    "Relu", "Reshape", "RoiAlign", "RotaryEmbedding", "Round", "ScatterElements", "ScatterND", "Selu", "Shape",
    "Shrink", "Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "Size", "Slice", "Softplus",
    "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Xor",
)  # fmt: skip
_OPTIMISED = (
    "BiasAdd", "FusedGemm", "FusedMatMul", "Gelu", "NhwcMaxPool", "QuickGelu", "RotaryEmbedding",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Trilu",
)  # fmt: skip
_TAKES_NONE = frozenset({*(("", name) for name in _STANDARD), *((_MICROSOFT, name) for name in _OPTIMISED)})
"""Seen to take none, in graphs of one operator and in whole nets."""
