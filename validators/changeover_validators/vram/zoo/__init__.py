"""Architectures to hold predictions of memory against: small nets in the shapes of those that mattes are made with.

They are built here, operator by operator, with weights of noise; no file of them is kept. Those of `held_out` are the
proof: a rule of the prediction may be found on the others, never on them. What this leaves out: mattes that are any
good.
"""

from changeover_validators.vram.zoo import held_out as apart
from changeover_validators.vram.zoo.architecture import Architecture
from changeover_validators.vram.zoo.attentive import swin, vit
from changeover_validators.vram.zoo.convolutional import mobilenet, resnet_aspp, transposed, u2net, unet
from changeover_validators.vram.zoo.recurrent import STATE_CHANNELS, STATE_DIVISOR, convgru

__all__ = ["Architecture", "architectures"]


def architectures() -> tuple[Architecture, ...]:
    """All of them, those that are held out last."""
    return _OPEN + _HELD_OUT


_OPEN = (
    Architecture("unet", unet),
    Architecture("resnet-aspp", resnet_aspp),
    Architecture("vit", vit),
    Architecture("convgru", convgru, states={("state", "state_out"): (STATE_CHANNELS, STATE_DIVISOR)}),
    Architecture("u2net", u2net),
    Architecture("mobilenet", mobilenet),
    Architecture("transposed", transposed),
    Architecture("swin", swin, stride=64),
)
_HELD_OUT = (
    Architecture("aspp-shuffle", apart.aspp_shuffle, held_out=True),
    Architecture("convnext", apart.convnext, held_out=True),
    Architecture("attention-gate", apart.attention_gate, held_out=True),
    Architecture("segformer", apart.segformer, held_out=True),
    Architecture("pyramid", apart.pyramid, held_out=True),
    Architecture("separable", apart.separable, held_out=True),
    Architecture("group-norm", apart.group_norm, held_out=True),
)
