"""Architectures that no one may tune the prediction on: they are only ever compared with, and reported apart."""

from changeover_validators.vram.zoo.layers import (
    concat,
    conv,
    global_pool,
    like,
    max_pool,
    pixel_shuffle,
    up,
)
from changeover_validators.vram.zoo.net import Net
from changeover_validators.vram.zoo.tokens import attention, from_tokens, gelu, linear, norm, reshape, to_tokens

__all__ = ["aspp_shuffle", "attention_gate", "convnext", "group_norm", "pyramid", "segformer", "separable"]


def aspp_shuffle(net: Net) -> None:
    """Dilated branches beside each other, and channels shuffled to pixels on the way up."""
    source = conv(net, net.image("image", 3), 24, 5, stride=2, act="Elu")
    skip = source
    source = conv(net, conv(net, source, 48, stride=2), 64, stride=2)
    branches = [conv(net, source, 32, dilation=rate) for rate in (1, 3, 6, 9)]
    pooled = like(net, conv(net, global_pool(net, source), 32, 1), source, "nearest")
    source = conv(net, concat(net, [*branches, pooled]), 64, 1)
    for _ in range(2):
        source = pixel_shuffle(net, conv(net, source, 96))
        source = conv(net, source, 32)
    source = conv(net, concat(net, [source, skip]), 16)
    net.result(net.same("Sigmoid", pixel_shuffle(net, conv(net, source, 4, act=None))), "matte")


def convnext(net: Net) -> None:
    """Wide depthwise convolutions, then linear layers over channels-last tokens with a learned scale."""
    plate = net.image("image", 3)
    source, skips = conv(net, plate, 32, 4, stride=4, act=None), []
    for width in (32, 64, 128):
        if width > 32:
            skips.append(source)
            source = conv(net, source, width, 2, stride=2, act=None)
        for _ in range(2):
            source = _convnext_block(net, source)
    for skip in reversed(skips):
        source = conv(net, concat(net, [like(net, source, skip), skip]), net.channels(skip))
    source = conv(net, like(net, source, plate), 8)
    net.result(net.same("Sigmoid", conv(net, source, 1, 1, act=None)), "matte")


def attention_gate(net: Net) -> None:
    """A net with skips that are weighed pixel by pixel by what lies below them."""
    source, skips = net.image("image", 3), []
    for level in range(3):
        source = conv(net, conv(net, source, 16 << level), 16 << level)
        skips.append(source)
        source = max_pool(net, source)
    source = conv(net, source, 128)
    for skip in reversed(skips):
        risen = conv(net, up(net, source, mode="nearest"), net.channels(skip))
        summed = net.same("Add", conv(net, risen, 16, 1, act=None), conv(net, skip, 16, 1, act=None))
        weight = net.same("Sigmoid", conv(net, net.same("Relu", summed), 1, 1, act=None))
        joined = concat(net, [net.same("Mul", skip, weight), risen])
        source = conv(net, conv(net, joined, net.channels(skip)), net.channels(skip))
    net.result(net.same("Sigmoid", conv(net, source, 1, 1, act=None)), "matte")


def segformer(net: Net) -> None:
    """Overlapping patches, attention to fewer tokens than ask, and a decoder that joins all scales at a quarter."""
    plate = net.image("image", 3)
    image, scales = plate, []
    for width, kernel, stride, ratio in ((32, 7, 4, 8), (64, 3, 2, 4), (96, 3, 2, 2)):
        image = conv(net, image, width, kernel, stride=stride, act=None)
        image = _segformer_block(net, image, ratio)
        scales.append(image)
    flat = [like(net, _projected(net, image, 48), scales[0]) for image in reversed(scales)]
    source = conv(net, concat(net, flat), 48, 1)
    logit = conv(net, source, 1, 1, act=None)
    net.result(net.same("Sigmoid", like(net, logit, plate)), "matte")


def pyramid(net: Net) -> None:
    """A feature pyramid: lateral convolutions, sums from top to bottom, every size read from the tensor below."""
    plate = net.image("image", 3)
    source, levels = conv(net, plate, 32, stride=2), []
    for width in (32, 64, 96, 128):
        source = conv(net, conv(net, source, width, stride=2), width)
        levels.append(source)
    merged = conv(net, levels[-1], 48, 1, act=None)
    tops = [merged]
    for level in reversed(levels[:-1]):
        merged = net.same("Add", conv(net, level, 48, 1, act=None), like(net, merged, level, "nearest"))
        tops.append(merged)
    heads = [like(net, conv(net, conv(net, top, 48), 32), tops[-1]) for top in tops]
    total = heads[0]
    for head in heads[1:]:
        total = net.same("Add", total, head)
    both = net.same("Softmax", like(net, conv(net, total, 2, 1, act=None), plate), axis=1)
    matte = net.add("Slice", [both, net.integers(1), net.integers(2), net.integers(1)])
    net.result(net.keep(matte, 1, 1), "matte")


def separable(net: Net) -> None:
    """Depthwise and pointwise convolutions with PRelu, a padded stem, and a matte refined from the plate itself."""
    plate = net.image("image", 3)
    padded = net.add("Pad", [plate, net.integers(0, 0, 1, 1, 0, 0, 1, 1)], mode="reflect")
    stem = net.add("Conv", [padded, net.weight(16, 3, 3, 3), net.weight(16)], kernel_shape=[3, 3], strides=[1, 1])
    source, skips = _prelu(net, net.keep(stem, 16, 1)), []
    for width in (24, 48, 96):
        skips.append(source)
        source = _separable(net, source, width, 2)
        source = net.same("Add", _separable(net, source, width, 1), source)
    for skip in reversed(skips):
        risen = like(net, _separable(net, source, net.channels(skip), 1), skip)
        source = net.same("Add", risen, skip)
    coarse = conv(net, source, 1, act=None)
    refined = conv(net, concat(net, [plate, coarse]), 8)
    total = net.same("Add", conv(net, refined, 1, act=None), coarse)
    net.result(net.same("Clip", total, net.number(0.0), net.number(1.0)), "matte")


def group_norm(net: Net) -> None:
    """Residual blocks with group normalisation, as exporters compose it of InstanceNormalization, and SiLU."""
    source, skips = conv(net, net.image("image", 3), 16, act=None), []
    for width in (16, 32, 64):
        source = _normalised(net, source, width)
        skips.append(source)
        source = conv(net, source, width, stride=2, act=None)
    source = _normalised(net, source, 64)
    for skip in reversed(skips):
        risen = conv(net, up(net, source, mode="nearest"), net.channels(skip), act=None)
        source = _normalised(net, concat(net, [risen, skip]), net.channels(skip))
    net.result(net.same("Sigmoid", conv(net, _silu(net, source), 1, act=None)), "matte")


def _convnext_block(net: Net, source: str) -> str:
    width, divisor = net.channels(source), net.divisor(source)
    seen = conv(net, source, width, 7, groups=width, act=None)
    tokens = net.keep(net.add("Transpose", [seen], perm=[0, 2, 3, 1]), width, divisor)
    tokens = linear(net, gelu(net, linear(net, norm(net, tokens), 4 * width)), width)
    scaled = net.add("Mul", [net.weight(width), tokens])
    back = net.add("Transpose", [scaled], perm=[0, 3, 1, 2])
    return net.same("Add", source, net.keep(back, width, divisor))


def _segformer_block(net: Net, image: str, ratio: int) -> str:
    """Attention to tokens of an image that is `ratio` times smaller, then a mix of tokens by a depthwise conv."""
    width = net.channels(image)
    tokens = norm(net, to_tokens(net, image))
    asked = norm(net, tokens)
    fewer = norm(net, to_tokens(net, conv(net, from_tokens(net, asked, image), width, ratio, stride=ratio, act=None)))
    tokens = net.same("Add", tokens, attention(net, asked, 2, fewer))
    grown = from_tokens(net, linear(net, norm(net, tokens), 4 * width), image)
    mixed = to_tokens(net, conv(net, grown, 4 * width, groups=4 * width, act=None))
    tokens = net.same("Add", tokens, linear(net, gelu(net, mixed), width))
    return from_tokens(net, norm(net, tokens), image)


def _projected(net: Net, image: str, width: int) -> str:
    return from_tokens(net, linear(net, to_tokens(net, image), width), image)


def _prelu(net: Net, source: str) -> str:
    return net.same("PRelu", source, net.weight(net.channels(source), 1, 1))


def _separable(net: Net, source: str, width: int, stride: int) -> str:
    into = net.channels(source)
    seen = _prelu(net, conv(net, source, into, stride=stride, groups=into, act=None))
    return _prelu(net, conv(net, seen, width, 1, act=None))


def _normalised(net: Net, source: str, width: int) -> str:
    """Two convolutions behind group normalisation and SiLU, and the source beside them."""
    inner = conv(net, _silu(net, _group_norm(net, source, 8)), width, act=None)
    inner = conv(net, _silu(net, _group_norm(net, inner, 8)), width, act=None)
    kept = source if net.channels(source) == width else conv(net, source, width, 1, act=None)
    return net.same("Add", kept, inner)


def _group_norm(net: Net, source: str, groups: int) -> str:
    width, divisor = net.channels(source), net.divisor(source)
    grouped = reshape(net, source, [0, groups, -1])
    ones = [net.weight(groups), net.weight(groups)]
    normal = net.add("InstanceNormalization", [grouped, *ones], epsilon=1e-5)
    if net.size is None:
        back = net.add("Reshape", [normal, net.add("Shape", [source])])
    else:
        back = reshape(net, normal, [1, width, *(side // divisor for side in net.size)])
    scaled = net.same("Mul", net.keep(back, width, divisor), net.weight(width, 1, 1))
    return net.same("Add", scaled, net.weight(width, 1, 1))


def _silu(net: Net, source: str) -> str:
    return net.same("Mul", source, net.same("Sigmoid", source))
