"""The demonstration's nets as plain values: what `train` runs in torch and `export` writes as ONNX, from one plan.

A plan is a list of steps; each takes the results of earlier steps by name and gives its own. The picture is called
``image``, the last step is the logit of the matte, and a sigmoid follows it. Weights are float32 arrays by name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLANS", "Conv", "Join", "Plan", "Step", "Sum", "Up", "Weights", "multiple", "parameters"]

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]
"""``<step>.weight`` [out, in / groups, k, k] and ``<step>.bias`` [out] of every convolution."""


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution that keeps the size (divided by `stride`), with a rectifier unless it is linear."""

    name: str
    source: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    linear: bool = False

    @property
    def padding(self) -> int:
        """Pixels of zeros on every side."""
        return self.dilation * (self.kernel // 2)


@dataclass(frozen=True, slots=True)
class Up:
    """Twice the size, each value four times."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Join:
    """Two results, channel after channel."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Two results, added."""

    name: str
    first: str
    second: str


Step: TypeAlias = Conv | Up | Join | Sum
Plan: TypeAlias = tuple[Step, ...]


def parameters(plan: Plan) -> int:
    """How many numbers training sets."""
    convs = (step for step in plan if isinstance(step, Conv))
    return sum(conv.outputs * (conv.inputs // conv.groups * conv.kernel**2 + 1) for conv in convs)


def multiple(plan: Plan) -> int:
    """What height and width must be multiples of: the product of all strides."""
    return math.prod(step.stride for step in plan if isinstance(step, Conv))


def _local() -> Plan:
    """Sees four pixels around each, at full resolution: knows colours better than shapes."""
    return (
        Conv("near", "image", 3, 20),
        Conv("further", "near", 20, 20),
        Conv("furthest", "further", 20, 20, dilation=2),
        Conv("logit", "furthest", 20, 1, kernel=1, linear=True),
    )


def _context(width: int) -> Plan:
    """Three scales with skips: sees about 90 pixels around each, and costs less than ``local``."""
    half, quarter, eighth = width, width * 3 // 2, width * 2
    return (
        Conv("half", "image", 3, half, stride=2),
        Conv("quarter", "half", half, quarter, stride=2),
        Conv("eighth", "quarter", quarter, eighth, stride=2),
        Conv("around", "eighth", eighth, eighth, dilation=2),
        Up("around_up", "around"),
        Join("with_quarter", "around_up", "quarter"),
        Conv("shape", "with_quarter", eighth + quarter, quarter),
        Up("shape_up", "shape"),
        Join("with_half", "shape_up", "half"),
        Conv("edge", "with_half", quarter + half, half),
        Up("edge_up", "edge"),
        Join("with_image", "edge_up", "image"),
        Conv("fine", "with_image", half + 3, 8),
        Conv("logit", "fine", 8, 1, kernel=1, linear=True),
    )


def _wide(width: int, blocks: int) -> Plan:
    """Inverted residuals at full resolution: few weights, and `width` channels of the whole picture at once."""
    steps: list[Step] = [Conv("stem", "image", 3, 16)]
    last = "stem"
    for block in range(1, blocks + 1):
        grown, seen, shrunk = f"grown{block}", f"seen{block}", f"shrunk{block}"
        steps += [
            Conv(grown, last, 16, width, kernel=1),
            Conv(seen, grown, width, width, dilation=3 ** (block - 1), groups=width),
            Conv(shrunk, seen, width, 16, kernel=1, linear=True),
            Sum(f"block{block}", shrunk, last),
        ]
        last = f"block{block}"
    return (*steps, Conv("logit", last, 16, 1, kernel=1, linear=True))


PLANS: Mapping[str, Plan] = {
    "local": _local(),
    "context": _context(8),
    "wide": _wide(384, 3),
}
"""Every plan by the name that recipes use."""
