"""Layers as exporters write them: convolutions with their normalisation folded in, resizing, pooling, blocks of these.

Every function takes the net first, adds operators, and answers the name of its result.
"""

from collections.abc import Sequence

from changeover_validators.vram.zoo.net import Net

__all__ = [
    "concat",
    "conv",
    "conv_transposed",
    "global_pool",
    "like",
    "max_pool",
    "pixel_shuffle",
    "plate_size",
    "relu6",
    "squeeze_excite",
    "up",
]


def conv(
    net: Net,
    source: str,
    out: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    act: str | None = "Relu",
) -> str:
    """A convolution that keeps the size (divided by `stride`), its normalisation folded into weights and bias."""
    into = net.channels(source)
    pad = dilation * (kernel // 2) if kernel % 2 else 0
    weights = [net.weight(out, into // groups, kernel, kernel), net.weight(out)]
    found = net.add(
        "Conv",
        [source, *weights],
        dilations=[dilation] * 2,
        group=groups,
        kernel_shape=[kernel] * 2,
        pads=[pad] * 4,
        strides=[stride] * 2,
    )
    net.keep(found, out, net.divisor(source) * stride)
    return found if act is None else net.same(act, found)


def conv_transposed(net: Net, source: str, out: int, kernel: int = 2) -> str:
    """Twice the size by a transposed convolution with stride 2."""
    pad = (kernel - 2) // 2
    weights = [net.weight(net.channels(source), out, kernel, kernel), net.weight(out)]
    found = net.add(
        "ConvTranspose",
        [source, *weights],
        dilations=[1, 1],
        group=1,
        kernel_shape=[kernel] * 2,
        pads=[pad] * 4,
        strides=[2, 2],
    )
    return net.keep(found, out, net.divisor(source) // 2)


def relu6(net: Net, source: str) -> str:
    """The rectifier that stops at 6."""
    return net.same("Clip", source, net.number(0.0), net.number(6.0))


def max_pool(net: Net, source: str, kernel: int = 2, stride: int = 2) -> str:
    """The largest of each window; a kernel of 3 is padded by 1."""
    pad = (kernel - 1) // 2
    found = net.add(
        "MaxPool",
        [source],
        ceil_mode=0,
        dilations=[1, 1],
        kernel_shape=[kernel] * 2,
        pads=[pad] * 4,
        strides=[stride] * 2,
    )
    return net.keep(found, net.channels(source), net.divisor(source) * stride)


def global_pool(net: Net, source: str) -> str:
    """The mean of each channel; its size is one pixel whatever the plate's, so its divisor means nothing."""
    return net.keep(net.add("GlobalAveragePool", [source]), net.channels(source), 1)


def concat(net: Net, sources: Sequence[str]) -> str:
    """Channel after channel."""
    found = net.add("Concat", sources, axis=1)
    return net.keep(found, sum(net.channels(name) for name in sources), net.divisor(sources[0]))


def up(net: Net, source: str, factor: int = 2, mode: str = "linear") -> str:
    """A Resize by a constant scale, as `torch.nn.Upsample` is exported."""
    import numpy as np

    scales = net.constant(np.array([1, 1, factor, factor], np.float32))
    found = net.add("Resize", [source, "", scales], **_resize(mode))
    return net.keep(found, net.channels(source), net.divisor(source) // factor)


def like(net: Net, source: str, target: str, mode: str = "linear") -> str:
    """A Resize to the height and width of `target`: constants in the static form, else read from it."""
    divisor = net.divisor(target)
    if net.size is not None:
        sizes = net.integers(1, net.channels(source), net.size[0] // divisor, net.size[1] // divisor)
    else:
        own = net.add("Slice", [net.add("Shape", [source]), *(net.integers(value) for value in (0, 2, 0))])
        sizes = net.add("Concat", [own, plate_size(net, target)], axis=0)
    found = net.add("Resize", [source, "", "", sizes], **_resize(mode))
    return net.keep(found, net.channels(source), divisor)


def plate_size(net: Net, target: str) -> str:
    """Height and width of `target` as an int64 list, read one by one as an exporter does."""
    import numpy as np

    found = []
    for axis in (2, 3):
        size = net.add("Gather", [net.add("Shape", [target]), net.constant(np.array(axis, np.int64))], axis=0)
        found.append(net.add("Unsqueeze", [size, net.integers(0)]))
    return net.add("Concat", found, axis=0)


def pixel_shuffle(net: Net, source: str, block: int = 2) -> str:
    """Channels to pixels."""
    found = net.add("DepthToSpace", [source], blocksize=block, mode="CRD")
    return net.keep(found, net.channels(source) // block**2, net.divisor(source) // block)


def squeeze_excite(net: Net, source: str, inner: int) -> str:
    """Scales each channel by what the means of all channels say."""
    gate = conv(net, conv(net, global_pool(net, source), inner, 1), net.channels(source), 1, act=None)
    return net.same("Mul", source, net.same("HardSigmoid", gate, alpha=1 / 6))


def _resize(mode: str) -> dict[str, str | float]:
    found: dict[str, str | float] = {"mode": mode, "nearest_mode": "floor", "cubic_coeff_a": -0.75}
    asymmetric = mode == "nearest"
    return found | {"coordinate_transformation_mode": "asymmetric" if asymmetric else "pytorch_half_pixel"}
