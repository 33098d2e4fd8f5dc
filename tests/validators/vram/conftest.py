"""Small convolution nets built by hand, in the shapes that mattes are made with, and the real models where at hand."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.records.release import Contract, State, TensorIn, TensorOut, Tile


@dataclass
class Net:
    """Collects nodes and weights; each method answers the name of its output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, *shape: int) -> str:
        random = np.random.default_rng(len(self.weights))
        self.weights.append(numpy_helper.from_array((random.normal(size=shape) * 0.05).astype(np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def conv(self, source: str, name: str, into: int, out: int, *, stride: int = 1, norm: bool = False) -> str:
        weights = [self.weight(f"{name}.w", out, into, 3, 3), self.weight(f"{name}.b", out)]
        got = self.node(
            "Conv", [source, *weights], f"{name}.c", kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2
        )
        if norm:
            got = self.node(
                "BatchNormalization", [got, *(self.weight(f"{name}.{k}", out) for k in "sbmv")], f"{name}.n"
            )
        return self.node("Relu", [got], name)

    def up(self, source: str, name: str) -> str:
        self.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), f"{name}.scales"))
        return self.node("Resize", [source, "", f"{name}.scales"], name, mode="nearest")

    def model(self, last: str, channels: int, dims: tuple[int | str, int | str] = ("h", "w")) -> onnx.ModelProto:
        self.node("Conv", [last, self.weight("head", 1, channels, 1, 1)], "logit", kernel_shape=[1, 1])
        self.node("Sigmoid", ["logit"], "y")
        plate = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *dims])
        matte = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *dims])
        graph = helper.make_graph(self.nodes, "net", [plate], [matte], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def unet(width: int, depth: int, *, norm: bool) -> onnx.ModelProto:
    net, source, into = Net(), "x", 3
    skips: list[tuple[str, int]] = []
    for level in range(depth):
        out = width * 2**level
        source = net.conv(net.conv(source, f"e{level}a", into, out, norm=norm), f"e{level}b", out, out, norm=norm)
        skips.append((source, out))
        source, into = net.conv(source, f"d{level}", out, out * 2, stride=2, norm=norm), out * 2
    for skip, channels in reversed(skips):
        joined = net.node("Concat", [net.up(source, f"{skip}.up"), skip], f"{skip}.cat", axis=1)
        source, into = net.conv(joined, f"{skip}.dec", into + channels, channels, norm=norm), channels
    return net.model(source, into)


def residual(width: int, depth: int, *, norm: bool) -> onnx.ModelProto:
    net = Net()
    source = net.conv("x", "stem", 3, width, stride=2, norm=norm)
    for level in range(depth):
        inner = net.conv(net.conv(source, f"r{level}a", width, width, norm=norm), f"r{level}b", width, width, norm=norm)
        source = net.node("Add", [source, inner], f"r{level}")
    return net.model(net.up(source, "up"), width)


def plain(width: int, depth: int, *, norm: bool) -> onnx.ModelProto:
    net, source, into = Net(), "x", 3
    for level in range(depth):
        source, into = net.conv(source, f"p{level}", into, width, norm=norm), width
    return net.model(source, into)


BUILDERS = {"unet": unet, "residual": residual, "plain": plain}


@pytest.fixture
def build() -> Callable[..., onnx.ModelProto]:
    """A net by its kind: ``unet``, ``residual`` or ``plain``."""

    def make(kind: str, width: int = 8, depth: int = 2, *, norm: bool = False) -> onnx.ModelProto:
        return BUILDERS[kind](width, depth, norm=norm)

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def write(model: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def contract() -> Callable[..., Contract]:
    """A contract for a net with the input ``x`` of three channels and the output ``y``."""

    def make(
        *,
        name: str = "x",
        output: str = "y",
        multiple: int = 8,
        resize: tuple[int, int] | None = None,
        tiles: tuple[Tile, ...] = (Tile(size=0),),
        states: tuple[State, ...] = (),
    ) -> Contract:
        return Contract(
            evaluation="sequence" if states else "stateless",
            inputs=(TensorIn(name=name, port="plate", channels=("red", "green", "blue")),),
            output=TensorOut(name=output, port="matte"),
            states=states,
            colour="srgb",
            multiple=multiple,
            resize=resize,
            tiles=tiles,
        )

    return make


@pytest.fixture
def models() -> Path:
    """Third-party models, where they are at hand."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("CHANGEOVER_TEST_DATA") or root.parent / "shared" / "data") / "models"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}")
    return folder
