"""Layers over tokens as exporters write them: reshapes between images and tokens, attention, normalisation, GELU.

In the static form a Reshape has a constant shape; in the dynamic form its shape is put together from Shape, Gather,
Mul and Concat. Every function takes the net first, adds operators, and answers the name of its result.
"""

import math
from collections.abc import Sequence

from changeover_validators.vram.zoo.net import Net

__all__ = [
    "attention",
    "composed_norm",
    "from_tokens",
    "gelu",
    "linear",
    "mlp",
    "norm",
    "reshape",
    "size_of",
    "to_tokens",
]


def linear(net: Net, source: str, out: int, *, bias: bool = True) -> str:
    """MatMul and Add over the last axis."""
    found = net.add("MatMul", [source, net.weight(net.channels(source), out)])
    net.keep(found, out, net.divisor(source))
    return net.same("Add", found, net.weight(out)) if bias else found


def gelu(net: Net, source: str) -> str:
    """GELU by Erf, in the five operators that an exporter writes."""
    inner = net.same("Erf", net.same("Div", source, net.number(math.sqrt(2))))
    scaled = net.same("Mul", source, net.same("Add", inner, net.number(1.0)))
    return net.same("Mul", scaled, net.number(0.5))


def mlp(net: Net, source: str, inner: int) -> str:
    """Two linear layers around a GELU."""
    return linear(net, gelu(net, linear(net, source, inner)), net.channels(source))


def norm(net: Net, source: str) -> str:
    """LayerNormalization over the last axis, the operator of opset 17."""
    width = net.channels(source)
    return net.same("LayerNormalization", source, net.weight(width), net.weight(width), axis=-1, epsilon=1e-6)


def composed_norm(net: Net, source: str) -> str:
    """The same as exporters wrote it before opset 17: means, differences, powers."""
    centred = net.same("Sub", source, net.same("ReduceMean", source, axes=[-1]))
    variance = net.same("ReduceMean", net.same("Pow", centred, net.number(2.0)), axes=[-1])
    root = net.same("Sqrt", net.same("Add", variance, net.number(1e-5)))
    scaled = net.same("Mul", net.same("Div", centred, root), net.weight(net.channels(source)))
    return net.same("Add", scaled, net.weight(net.channels(source)))


def size_of(net: Net, source: str, axis: int) -> str:
    """One dim of `source` as an int64 without axes, for the dynamic form."""
    import numpy as np

    return net.add("Gather", [net.add("Shape", [source]), net.constant(np.array(axis, np.int64))], axis=0)


def reshape(net: Net, source: str, dims: Sequence[int | str]) -> str:
    """A Reshape to `dims`, each a number or the name of an int64 without axes; what it is stays to be noted."""
    if all(isinstance(dim, int) for dim in dims):
        return net.add("Reshape", [source, net.integers(*(int(dim) for dim in dims))])
    parts = [
        net.integers(dim) if isinstance(dim, int) else net.add("Unsqueeze", [dim, net.integers(0)]) for dim in dims
    ]
    return net.add("Reshape", [source, net.add("Concat", parts, axis=0)])


def to_tokens(net: Net, source: str) -> str:
    """[1, C, h, w] as [1, h * w, C]."""
    channels, divisor = net.channels(source), net.divisor(source)
    if net.size is None:
        flat = reshape(net, source, [size_of(net, source, 0), size_of(net, source, 1), -1])
    else:
        flat = reshape(net, source, [1, channels, net.size[0] * net.size[1] // divisor**2])
    return net.keep(net.add("Transpose", [flat], perm=[0, 2, 1]), channels, divisor)


def from_tokens(net: Net, source: str, target: str) -> str:
    """[1, h * w, C] as an image of the height and width of `target`."""
    channels, divisor = net.channels(source), net.divisor(target)
    turned = net.add("Transpose", [source], perm=[0, 2, 1])
    if net.size is None:
        dims: list[int | str] = [1, channels, size_of(net, target, 2), size_of(net, target, 3)]
    else:
        dims = [1, channels, net.size[0] // divisor, net.size[1] // divisor]
    return net.keep(reshape(net, turned, dims), channels, divisor)


def attention(net: Net, source: str, heads: int, other: str | None = None, bias: str | None = None) -> str:
    """Attention of the tokens of `source` [B, N, C] to those of `other` (themselves if None).

    `bias` is added to the scores before the softmax, as windows with relative positions do.
    """
    width = net.channels(source)
    query = _heads(net, linear(net, source, width), heads, (0, 2, 1, 3))
    key = _heads(net, linear(net, other or source, width), heads, (0, 2, 3, 1))
    value = _heads(net, linear(net, other or source, width), heads, (0, 2, 1, 3))
    scores = net.add("Mul", [net.add("MatMul", [query, key]), net.number((width // heads) ** -0.5)])
    if bias is not None:
        scores = net.add("Add", [scores, bias])
    mixed = net.add("MatMul", [net.add("Softmax", [scores], axis=-1), value])
    turned = net.add("Transpose", [mixed], perm=[0, 2, 1, 3])
    joined = reshape(net, turned, [0, -1, width])
    return linear(net, net.keep(joined, width, net.divisor(source)), width)


def _heads(net: Net, source: str, heads: int, order: tuple[int, int, int, int]) -> str:
    """[B, N, C] as [B, heads, N, C / heads], or with its last two axes the other way round."""
    split = reshape(net, source, [0, -1, heads, net.channels(source) // heads])
    return net.add("Transpose", [split], perm=list(order))
