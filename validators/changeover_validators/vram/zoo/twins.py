"""Two architectures written in torch and exported by its own exporter, so that not every graph here is of our hand.

Only where torch is installed. They are held out like the others of that kind.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_validators.vram.zoo.architecture import Architecture

if TYPE_CHECKING:
    import torch

__all__ = ["Twin", "twins"]


def twins() -> tuple[Architecture, ...]:
    """None without torch."""
    if importlib.util.find_spec("torch") is None:
        return ()
    made = {"torch-unet": _unet, "torch-vit": _vit}
    return tuple(Twin(name, _nothing, held_out=True, module=module) for name, module in made.items())


def _nothing(_net: object) -> None:
    """A twin is drawn by torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin(Architecture):
    """An architecture whose graph torch writes. `module` makes the module, with seeded weights."""

    module: Callable[[], "torch.nn.Module"]

    def build(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        """Export to `path` by tracing; the traced size is any where axes are free."""
        import torch

        free = None if width else {"image": {2: "height", 3: "width"}, "matte": {2: "height", 3: "width"}}
        torch.manual_seed(4)
        with warnings.catch_warnings():
            # The exporter by tracing is on its way out and says so; models in use were written by it.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.module().eval(),
                (torch.zeros(1, 3, height or 128, width or 192),),
                str(path),
                input_names=["image"],
                output_names=["matte"],
                dynamic_axes=free,
                opset_version=17,
                dynamo=False,
            )


def _unet() -> "torch.nn.Module":
    """Two scales, normalised, transposed convolutions up; sizes are taken from the skips."""
    import torch
    from torch import nn
    from torch.nn import functional

    def block(into: int, out: int) -> nn.Sequential:
        layers = [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.Conv2d(out, out, 3, padding=1), nn.SiLU())

    class Unet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([block(3, 16), block(16, 32), block(32, 64)])
            self.rise = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
            self.up = nn.ModuleList([block(64, 32), block(32, 16)])
            self.head = nn.Conv2d(16, 1, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first = self.down[0](image)
            second = self.down[1](functional.max_pool2d(first, 2))
            found = self.down[2](functional.max_pool2d(second, 2))
            for rise, up, skip in zip(self.rise, self.up, (second, first), strict=True):
                risen = functional.interpolate(rise(found), size=skip.shape[2:], mode="bilinear", align_corners=False)
                found = up(torch.cat([risen, skip], 1))
            return torch.sigmoid(self.head(found))

    return Unet()


def _vit() -> "torch.nn.Module":
    """Patches of 16, two blocks of attention, and a shuffle of channels to pixels."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 96, 16, 16)
            self.asks = nn.ModuleList([nn.Linear(96, 3 * 96) for _ in "ab"])
            self.answers = nn.ModuleList([nn.Linear(96, 96) for _ in "ab"])
            self.norms = nn.ModuleList([nn.LayerNorm(96) for _ in "ab"])
            self.mixes = nn.ModuleList([nn.Sequential(nn.Linear(96, 192), nn.GELU(), nn.Linear(192, 96)) for _ in "ab"])
            self.head = nn.Conv2d(96, 16, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            found = self.patches(image)
            height, width = found.shape[2:]
            tokens = found.flatten(2).transpose(1, 2)
            for ask, answer, norm, mix in zip(self.asks, self.answers, self.norms, self.mixes, strict=True):
                split = ask(norm(tokens)).reshape(1, height * width, 3, 2, 48).permute(2, 0, 3, 1, 4)
                mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2])
                tokens = tokens + answer(mixed.transpose(1, 2).reshape(1, height * width, 96))
                tokens = tokens + mix(tokens)
            back = tokens.transpose(1, 2).reshape(1, 96, height, width)
            matte = functional.pixel_shuffle(self.head(back), 4)
            return torch.sigmoid(functional.interpolate(matte, scale_factor=4.0, mode="bilinear"))

    return Vit()
