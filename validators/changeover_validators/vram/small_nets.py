"""Throw-away models of one or two operators, as bytes: what a calibration runs before it runs a model that counts.

ONNX files are written by hand, so that neither onnx nor numpy is needed where a calibration is started; TorchScript
needs torch to be written, so its interpreter is asked. All take ``x`` [1, 16, H, W] and answer ``y``.
"""

import math
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import UndecidedError
from changeover_registry.records.release import Contract, TensorIn, TensorOut
from changeover_validators.probe_child import part

__all__ = ["CHANNELS", "OPERATORS", "Operator", "identity", "libraries", "one_operator", "small_contract", "torch_nets"]

CHANNELS = 16
_IR, _OPSET = 8, 17
_FLOAT, _INTS = 1, 7
_TORCH_SECONDS = 120
_TORCH = """
import sys, torch
class Product(torch.nn.Module):
    def forward(self, x):
        return torch.matmul(x, x.transpose(2, 3))
given = torch.ones(1, 16, 8, 8)
both = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, padding=1), Product())
for name, module in (("identity", torch.nn.Identity()), ("libraries", both)):
    torch.jit.trace(module.eval(), given).save(f"{sys.argv[1]}/{name}.pt")
"""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator whose scratch memory is measured: attributes, the shape of its weights, how it scales the sides."""

    name: str
    attributes: tuple[tuple[str, tuple[int, ...]], ...]
    weights: tuple[int, ...]
    scale: int = 1

    def elements(self, side: int) -> int:
        """How many values it answers for an input of `side` by `side`."""
        return CHANNELS * (self.scale * side) ** 2


OPERATORS = (
    Operator("Conv", (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1))), (CHANNELS, CHANNELS, 3, 3)),
    Operator("ConvTranspose", (("kernel_shape", (2, 2)), ("strides", (2, 2))), (CHANNELS, CHANNELS, 2, 2), scale=2),
)


def identity() -> bytes:
    """One Identity: what it takes is the runtime's alone."""
    return _model([_node("Identity", ("x",), "y")], (), (None, None))


def libraries() -> bytes:
    """One convolution and one matrix product: with them come the handles and the code of the libraries behind."""
    shape = (CHANNELS, CHANNELS, 3, 3)
    nodes = [
        _node("Conv", ("x", "w"), "c", (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))),
        _node("Transpose", ("c",), "t", (("perm", (0, 1, 3, 2)),)),
        _node("MatMul", ("c", "t"), "y"),
    ]
    return _model(nodes, (_weights("w", shape),), (None, None))


def one_operator(operator: Operator, side: int) -> bytes:
    """The operator alone on an input of `side` by `side`."""
    node = _node(operator.name, ("x", "w"), "y", operator.attributes)
    return _model([node], (_weights("w", operator.weights),), (side, side))


def torch_nets(interpreter: str, folder: Path) -> None:
    """Write ``identity.pt`` and ``libraries.pt`` into `folder`, by the torch of that interpreter.

    Raises:
        UndecidedError: It has no torch, or does not answer.
    """
    try:
        subprocess.run(
            [interpreter, "-I", "-W", "ignore", "-c", _TORCH, str(folder)],
            capture_output=True,
            timeout=_TORCH_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UndecidedError(
            "calibration",
            where=interpreter,
            expected="an interpreter whose torch writes TorchScript",
            actual=f"one that does not ({type(error).__name__})",
            remedy="name another interpreter under [runtimes] in host.toml",
        ) from error


def small_contract() -> Contract:
    """How all of them are called."""
    channels = tuple(f"c{number}" for number in range(CHANNELS))
    return Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="x", port="plate", channels=channels),),
        output=TensorOut(name="y", port="matte"),
        colour="raw",
    )


def _model(nodes: list[bytes], weights: tuple[bytes, ...], size: tuple[int | None, int | None]) -> bytes:
    graph = b"".join(part(1, node) for node in nodes) + part(2, "small") + b"".join(part(5, item) for item in weights)
    given = _value("x", (1, CHANNELS, size[0] or "h", size[1] or "w"))
    answer = _value("y", (1, "c", "p", "q"))
    graph += part(11, given) + part(12, answer)
    return part(1, _IR) + part(7, graph) + part(8, part(1, "") + part(2, _OPSET))


def _node(
    kind: str, inputs: tuple[str, ...], output: str, attributes: tuple[tuple[str, tuple[int, ...]], ...] = ()
) -> bytes:
    head = b"".join(part(1, name) for name in inputs) + part(2, output) + part(4, kind)
    return head + b"".join(part(5, _attribute(name, values)) for name, values in attributes)


def _attribute(name: str, values: tuple[int, ...]) -> bytes:
    return part(1, name) + b"".join(part(8, value) for value in values) + part(20, _INTS)


def _weights(name: str, shape: tuple[int, ...]) -> bytes:
    """A tensor of one small number; what a convolution takes does not depend on it."""
    data = struct.pack("<f", 0.01) * math.prod(shape)
    return b"".join(part(1, size) for size in shape) + part(2, _FLOAT) + part(8, name) + part(9, data)


def _value(name: str, dims: tuple[int | str, ...]) -> bytes:
    """The declaration of a tensor; a dimension that is a name is free."""
    shape = b"".join(part(1, part(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return part(1, name) + part(2, part(1, part(1, _FLOAT) + part(2, shape)))
