"""Architectures of convolutions: encoder and decoder with skips, dilated context, nested scales, light blocks."""

from changeover_validators.vram.zoo.layers import (
    concat,
    conv,
    conv_transposed,
    global_pool,
    like,
    max_pool,
    relu6,
    squeeze_excite,
    up,
)
from changeover_validators.vram.zoo.net import Net

__all__ = ["mobilenet", "resnet_aspp", "transposed", "u2net", "unet"]


def unet(net: Net) -> None:
    """Four scales of two convolutions, max pooling down, bilinear up, skips by concatenation."""
    source, skips = net.image("image", 3), []
    for level in range(4):
        source = conv(net, conv(net, source, 16 << level), 16 << level)
        skips.append(source)
        source = max_pool(net, source)
    source = conv(net, conv(net, source, 256), 256)
    for skip in reversed(skips):
        joined = concat(net, [skip, up(net, source)])
        source = conv(net, conv(net, joined, net.channels(skip)), net.channels(skip))
    _matte(net, source)


def resnet_aspp(net: Net) -> None:
    """A residual encoder, dilated convolutions beside each other with a global mean, and a light decoder."""
    plate = net.image("image", 3)
    low = max_pool(net, conv(net, plate, 32, 7, stride=2), 3)
    source = low
    for width, stride in ((32, 1), (64, 2), (128, 2), (128, 1)):
        source = _residual(net, _residual(net, source, width, stride), width, 1)
    context = _aspp(net, source, 64)
    joined = concat(net, [like(net, context, low), conv(net, low, 24, 1)])
    source = conv(net, conv(net, joined, 64), 64)
    logit = conv(net, source, 1, 1, act=None)
    net.result(net.same("Sigmoid", like(net, logit, plate)), "matte")


def u2net(net: Net) -> None:
    """Small nets nested in a net: each stage is itself an encoder and decoder, and every scale gives a matte."""
    plate = net.image("image", 3)
    first = _nested(net, plate, 16, 4)
    second = _nested(net, max_pool(net, first), 32, 3)
    third = _nested(net, max_pool(net, second), 64, 2)
    fourth = _nested(net, concat(net, [like(net, third, second), second]), 32, 3)
    fifth = _nested(net, concat(net, [like(net, fourth, first), first]), 16, 4)
    sides = [like(net, conv(net, stage, 1, act=None), plate) for stage in (fifth, fourth, third)]
    fused = conv(net, concat(net, sides), 1, 1, act=None)
    net.result(net.same("Sigmoid", fused), "matte")
    for index, side in enumerate(sides):
        net.result(net.same("Sigmoid", side), f"side_{index}")


def mobilenet(net: Net) -> None:
    """Inverted residuals with depthwise convolutions, hard swish and channel gates; nearest upsampling with skips."""
    source = _hard_swish(net, conv(net, net.image("image", 3), 16, stride=2, act=None))
    skips = [source]
    for width, stride, gate in ((24, 2, False), (24, 1, False), (40, 2, True), (40, 1, True), (80, 2, False)):
        if stride == 2 and source != skips[-1]:
            skips.append(source)
        source = _inverted(net, source, width, stride=stride, gate=gate)
    for skip in reversed(skips):
        source = conv(net, concat(net, [like(net, source, skip, "nearest"), skip]), net.channels(skip))
    _matte(net, up(net, source, mode="nearest"))


def transposed(net: Net) -> None:
    """Strided convolutions down, transposed convolutions up, skips by addition."""
    source, skips = conv(net, net.image("image", 3), 16), []
    for level in range(1, 5):
        skips.append(source)
        source = conv(net, source, 16 << level, stride=2, act="LeakyRelu")
        source = conv(net, source, 16 << level, act="LeakyRelu")
    for skip in reversed(skips):
        kernel = 4 if net.channels(skip) > 32 else 2
        risen = net.same("Relu", conv_transposed(net, source, net.channels(skip), kernel))
        source = conv(net, net.same("Add", risen, skip), net.channels(skip))
    logit = conv(net, source, 1, act=None)
    net.result(net.same("Mul", net.same("Add", net.same("Tanh", logit), net.number(1)), net.number(0.5)), "matte")


def _matte(net: Net, source: str) -> None:
    net.result(net.same("Sigmoid", conv(net, source, 1, 1, act=None)), "matte")


def _residual(net: Net, source: str, width: int, stride: int) -> str:
    kept = source
    if stride > 1 or net.channels(source) != width:
        kept = conv(net, source, width, 1, stride=stride, act=None)
    inner = conv(net, conv(net, source, width, stride=stride), width, act=None)
    return net.same("Relu", net.same("Add", inner, kept))


def _aspp(net: Net, source: str, width: int) -> str:
    branches = [conv(net, source, width, 1)]
    branches += [conv(net, source, width, dilation=rate) for rate in (6, 12, 18)]
    branches.append(like(net, conv(net, global_pool(net, source), width, 1), source))
    return conv(net, concat(net, branches), width, 1)


def _nested(net: Net, source: str, width: int, depth: int) -> str:
    first = conv(net, source, width)
    stages = [conv(net, first, width // 2)]
    for _ in range(depth - 1):
        stages.append(conv(net, max_pool(net, stages[-1]), width // 2))
    inner = conv(net, stages[-1], width // 2, dilation=2)
    for index, stage in enumerate(reversed(stages)):
        last = index == depth - 1
        risen = inner if index == 0 else like(net, inner, stage)
        inner = conv(net, concat(net, [risen, stage]), width if last else width // 2)
    return net.same("Add", inner, first)


def _hard_swish(net: Net, source: str) -> str:
    return net.same("Mul", source, net.same("HardSigmoid", source, alpha=1 / 6))


def _inverted(net: Net, source: str, width: int, *, stride: int, gate: bool) -> str:
    inner = 4 * net.channels(source)
    grown = relu6(net, conv(net, source, inner, 1, act=None))
    seen = conv(net, grown, inner, stride=stride, groups=inner, act=None)
    seen = squeeze_excite(net, seen, inner // 4) if gate else seen
    shrunk = conv(net, _hard_swish(net, seen), width, 1, act=None)
    return net.same("Add", shrunk, source) if stride == 1 and width == net.channels(source) else shrunk
