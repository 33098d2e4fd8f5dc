"""Architectures that remember: a convolutional gated unit whose state goes from frame to frame."""

from changeover_validators.vram.zoo.layers import concat, conv, up
from changeover_validators.vram.zoo.net import Net

__all__ = ["STATE_CHANNELS", "STATE_DIVISOR", "convgru"]

STATE_CHANNELS = 32
STATE_DIVISOR = 4


def convgru(net: Net) -> None:
    """An encoder, a gated unit at a quarter of the plate's size, and a decoder that reads the plate again.

    In the dynamic form the state may be a single pixel on the first frame and is expanded to the features' size.
    """
    plate = net.image("image", 3)
    half = conv(net, conv(net, plate, 16, stride=2), 16)
    features = conv(net, conv(net, half, 32, stride=2), 32)
    before = net.state("state", STATE_CHANNELS, STATE_DIVISOR)
    if net.size is None:
        before = net.keep(net.add("Expand", [before, net.add("Shape", [features])]), STATE_CHANNELS, STATE_DIVISOR)
    after = _unit(net, features, before)
    source = conv(net, concat(net, [up(net, after), half]), 16)
    source = conv(net, concat(net, [up(net, source), plate]), 16)
    matte = net.same("Clip", conv(net, source, 1, act=None), net.number(0.0), net.number(1.0))
    net.result(matte, "matte")
    net.result(after, "state_out")


def _unit(net: Net, features: str, before: str) -> str:
    """The gated unit as PyTorch code of matting nets writes it: gates by one convolution, split in two."""
    width = net.channels(features)
    gates = net.same("Sigmoid", conv(net, concat(net, [features, before]), 2 * width, act=None))
    reset, update = net.add_many("Split", [gates, net.integers(width, width)], 2, axis=1)
    for name in (reset, update):
        net.keep(name, width, net.divisor(features))
    recalled = net.same("Mul", reset, before)
    new = net.same("Tanh", conv(net, concat(net, [features, recalled]), width, act=None))
    return _mixed(net, new, update, before)


def _mixed(net: Net, new: str, update: str, before: str) -> str:
    """(1 - update) * before + update * new."""
    kept = net.keep(net.add("Sub", [net.number(1.0), update]), net.channels(update), net.divisor(update))
    return net.same("Add", net.same("Mul", kept, before), net.same("Mul", update, new))
