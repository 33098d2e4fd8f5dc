"""Nets that are measured on a GPU: TorchScript built here, and ONNX files where onnx is at hand. Weights are noise.

They have the shapes of nets that mattes are made with: convolutions that shrink and grow, dilated ones, depthwise ones,
global attention, transposed convolutions. Nothing of them is kept but what they took of memory.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable

__all__ = ["ONNX", "TORCH", "onnx_net", "torch_net"]


def torch_net(name: str, *, half: bool) -> Any:
    """A TorchScript module, ready to be saved; takes [1, 3, H, W] and answers [1, 1, H, W]."""
    torch = importlib.import_module("torch")
    torch.manual_seed(3)
    with torch.no_grad():
        # Traced in single precision: not every torch has convolutions of halves on the CPU.
        script = torch.jit.trace(TORCH[name](torch).eval(), torch.rand(1, 3, 64, 64), check_trace=False)
    return script.half() if half else script


def _unet(torch: Any) -> Any:
    nn = torch.nn

    class UNet(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            widths = (24, 48, 96, 192)
            self.down = nn.ModuleList([_pair(nn, a, b) for a, b in zip((3, *widths), widths)])
            self.up = nn.ModuleList([_pair(nn, a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1])])
            self.last = nn.Conv2d(widths[0], 1, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for number, block in enumerate(self.down):
                x = block(x if number == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            for block, skip in zip(self.up, kept[-2::-1]):
                x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
                x = block(torch.cat([x, skip], 1))
            return torch.sigmoid(self.last(x))

    return UNet()


def _pair(nn: Any, before: int, after: int) -> Any:
    steps = [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*steps)


def _dilated(torch: Any) -> Any:
    nn = torch.nn

    class Dilated(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 32, 7, stride=4, padding=3)
            self.arms = nn.ModuleList([nn.Conv2d(32, 32, 3, padding=d, dilation=d) for d in (1, 6, 12, 18)])
            self.join = nn.Conv2d(128, 16, 1)
            self.grow = nn.ConvTranspose2d(16, 1, 4, stride=4)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.stem(x))
            x = torch.cat([torch.relu(arm(x)) for arm in self.arms], 1)
            return torch.sigmoid(self.grow(torch.relu(self.join(x))))

    return Dilated()


def _depthwise(torch: Any) -> Any:
    nn = torch.nn
    steps = [nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.Hardswish()]
    for _ in range(4):
        steps += [nn.Conv2d(32, 32, 5, padding=2, groups=32), nn.BatchNorm2d(32), nn.Hardswish(), nn.Conv2d(32, 32, 1)]
    steps += [nn.Conv2d(32, 4, 1), nn.PixelShuffle(2), nn.Sigmoid()]
    return nn.Sequential(*steps)


def _attention(torch: Any) -> Any:
    nn = torch.nn

    class Attention(nn.Module):  # type: ignore[name-defined,misc]
        """Patches of 16 pixels; scores are laid out in full, as exporters write them."""

        def __init__(self, width: int = 96) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, width, 16, stride=16)
            self.mixes = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(3)])
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
            self.head = nn.Conv2d(width, 256, 1)

        def forward(self, x: Any) -> Any:
            x = self.patch(x)
            rows, columns = x.shape[2], x.shape[3]
            tokens = x.flatten(2).transpose(1, 2)
            for mix, norm in zip(self.mixes, self.norms):
                q, k, v = mix(norm(tokens)).chunk(3, -1)
                tokens = tokens + torch.softmax(q @ k.transpose(1, 2) * 0.1, -1) @ v
            x = tokens.transpose(1, 2).reshape(1, -1, rows, columns)
            return torch.sigmoid(nn.functional.pixel_shuffle(self.head(x), 16))

    return Attention()


TORCH: dict[str, Callable[[Any], Any]] = {
    "unet": _unet,
    "dilated": _dilated,
    "depthwise": _depthwise,
    "attention": _attention,
}


def onnx_net(name: str) -> bytes:
    """An ONNX file (opset 17, IR 8) with free sizes; takes `x` [1, 3, height, width].

    Raises:
        ImportError: There is no onnx or no numpy.
    """
    helper = importlib.import_module("onnx.helper")
    numpy = importlib.import_module("numpy")
    to_tensor = importlib.import_module("onnx.numpy_helper").from_array
    rng = numpy.random.default_rng(3)
    nodes: list[Any] = []
    weights: list[Any] = []

    def conv(source: str, before: int, after: int, **attributes: Any) -> str:
        place = len(weights)
        weights.append(to_tensor((rng.standard_normal((after, before, 3, 3)) / 10).astype("float32"), f"w{place}"))
        nodes.append(helper.make_node("Conv", [source, f"w{place}"], [f"c{place}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        return f"r{place}"

    ONNX[name](conv)
    nodes[-1].output[0] = "y"
    x, y = (helper.make_tensor_value_info(n, 1, [1, c, "height", "width"]) for n, c in (("x", 3), ("y", 1)))
    graph = helper.make_graph(nodes, name, [x], [y], initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _hourglass(conv: Callable[..., str]) -> None:
    now, before = "x", 3
    for after in (16, 32, 64, 32, 16, 1):
        now, before = conv(now, before, after, pads=[1, 1, 1, 1]), after


def _single(conv: Callable[..., str]) -> None:
    conv("x", 3, 1, pads=[1, 1, 1, 1])


def _spread(conv: Callable[..., str]) -> None:
    now, before = "x", 3
    for after, dilation in ((24, 1), (24, 2), (24, 4), (24, 8), (1, 1)):
        now = conv(now, before, after, pads=[dilation] * 4, dilations=[dilation, dilation])
        before = after


ONNX: dict[str, Callable[..., None]] = {"hourglass": _hourglass, "spread": _spread, "single": _single}
