"""Architectures with attention: over all tokens of the plate, and within windows that shift."""

from changeover_validators.vram.zoo.layers import concat, conv, like, up
from changeover_validators.vram.zoo.net import Net
from changeover_validators.vram.zoo.tokens import (
    attention,
    composed_norm,
    from_tokens,
    mlp,
    norm,
    reshape,
    size_of,
    to_tokens,
)

__all__ = ["swin", "vit"]

_WINDOW = 8


def vit(net: Net) -> None:
    """Patches of 16, positions resized to the plate, blocks of global attention, and a decoder that reads the plate."""
    plate = net.image("image", 3)
    patches = conv(net, plate, 96, 16, stride=16, act=None)
    grid = net.keep(net.weight(1, 96, 14, 14), 96, 1)
    source = to_tokens(net, net.same("Add", patches, like(net, grid, patches, "cubic")))
    for _ in range(3):
        source = net.same("Add", source, attention(net, norm(net, source), 2))
        source = net.same("Add", source, mlp(net, norm(net, source), 384))
    source = from_tokens(net, norm(net, source), patches)
    details = [plate]
    for width in (16, 24, 32):
        details.append(conv(net, details[-1], width, stride=2))
    for detail in reversed(details):
        source = conv(net, concat(net, [up(net, source), detail]), max(8, net.channels(detail)))
    net.result(net.same("Sigmoid", conv(net, source, 1, 1, act=None)), "matte")


def swin(net: Net) -> None:
    """Attention within windows of 8, every second block shifted, patches merged, normalisation in its old form."""
    plate = net.image("image", 3)
    first = conv(net, plate, 32, 4, stride=4, act=None)
    image, stages = first, []
    for depth in (2, 2):
        for index in range(depth):
            image = _window_block(net, image, shifted=bool(index % 2))
        stages.append(image)
        image = conv(net, image, 2 * net.channels(image), 2, stride=2, act=None)
    source = like(net, conv(net, image, 64), stages[1])
    source = conv(net, concat(net, [source, stages[1]]), 32)
    source = conv(net, concat(net, [like(net, source, stages[0]), stages[0]]), 16)
    net.result(net.same("Sigmoid", like(net, conv(net, source, 1, act=None), plate)), "matte")


def _window_block(net: Net, image: str, *, shifted: bool) -> str:
    """One block of a Swin net; the image goes to windows of tokens and back."""
    moved = _rolled(net, image, _WINDOW // 2) if shifted else image
    tokens = _windows(net, moved)
    bias = net.weight(2, _WINDOW**2, _WINDOW**2)
    tokens = net.same("Add", tokens, attention(net, composed_norm(net, tokens), 2, bias=bias))
    back = _unwindowed(net, tokens, moved)
    back = _rolled(net, back, -_WINDOW // 2) if shifted else back
    tokens = to_tokens(net, back)
    tokens = net.same("Add", tokens, mlp(net, composed_norm(net, tokens), 2 * net.channels(image)))
    return from_tokens(net, tokens, back)


def _rolled(net: Net, image: str, by: int) -> str:
    """`torch.roll` over height and width: two slices and a concatenation for each."""
    found = image
    for axis in (2, 3):
        tail = [net.integers(value) for value in (by, 2**62, axis)]
        head = [net.integers(value) for value in (0, by, axis)]
        parts = [net.add("Slice", [found, *tail]), net.add("Slice", [found, *head])]
        found = net.add("Concat", parts, axis=axis)
    return net.keep(found, net.channels(image), net.divisor(image))


def _windows(net: Net, image: str) -> str:
    """[1, C, h, w] as [windows, 64, C]."""
    width = net.channels(image)
    dims: list[int | str] = [1, width, *_across(net, image)]
    split = reshape(net, image, [*dims[:3], _WINDOW, dims[3], _WINDOW])
    turned = net.add("Transpose", [split], perm=[0, 2, 4, 3, 5, 1])
    return net.keep(reshape(net, turned, [-1, _WINDOW**2, width]), width, net.divisor(image))


def _unwindowed(net: Net, tokens: str, image: str) -> str:
    """Back to the form of `image`."""
    down, right = _across(net, image)
    width = net.channels(image)
    split = reshape(net, tokens, [1, down, right, _WINDOW, _WINDOW, width])
    turned = net.add("Transpose", [split], perm=[0, 5, 1, 3, 2, 4])
    if net.size is None:
        dims: list[int | str] = [1, width, size_of(net, image, 2), size_of(net, image, 3)]
    else:
        dims = [1, width, *(side // net.divisor(image) for side in net.size)]
    return net.keep(reshape(net, turned, dims), width, net.divisor(image))


def _across(net: Net, image: str) -> list[int | str]:
    """How many windows stand over and beside each other."""
    if net.size is not None:
        return [side // net.divisor(image) // _WINDOW for side in net.size]
    import numpy as np

    window = net.constant(np.array(_WINDOW, np.int64))
    return [net.add("Div", [size_of(net, image, axis), window]) for axis in (2, 3)]
