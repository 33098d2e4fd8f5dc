"""What others answer when asked for a model's memory: the estimates that a prediction is held against.

Plain liveness, the sum of all outputs, and what onnx-tool packs (in an interpreter of its own, because it is no part of
this product). All of them are bytes of activations and weights together, as the file states its graph.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import MeasurementError
from changeover_validators.vram.graph import at_size, read_skeleton
from changeover_validators.vram.planner import plan
from changeover_validators.vram.rules import memory_rules

__all__ = ["ONNX_TOOL", "Estimates", "estimates", "packed_by_onnx_tool"]

ONNX_TOOL = ("onnx-tool==1.0.1", "onnx", "numpy")
"""What an interpreter must hold for `packed_by_onnx_tool`."""

_SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy, onnx_tool
graph = onnx_tool.Model(sys.argv[1], {"verbose": False}).graph
graph.shape_infer({name: numpy.zeros(shape, numpy.float32) for name, shape in json.loads(sys.argv[2]).items()})
print(graph.get_compute_graph().compress_memory()[1])
"""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Bytes of weights alone, then of weights with: what lives at once, and all that operators ever write."""

    weights: int
    liveness: int
    sum_of_outputs: int


def estimates(model: Path, shapes: Mapping[str, tuple[int, ...]]) -> Estimates:
    """The estimates for a call whose inputs have `shapes`.

    Raises:
        InvalidInputError: Not an ONNX model, or not these inputs.
        UndecidedError: A tensor's size does not follow from them.
    """
    graph, _ = at_size(read_skeleton(model), shapes)
    written = sum(graph.bytes_of.get(name, 0) for node in graph.nodes for name in node.outputs)
    live = plan(graph, memory_rules()).peak_bytes
    return Estimates(graph.weights_bytes, graph.weights_bytes + live, graph.weights_bytes + written)


def packed_by_onnx_tool(python: Path, model: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Bytes of activations as `compress_memory` of onnx-tool packs them, in the interpreter `python`.

    Raises:
        MeasurementError: It gives no answer for this model.
    """
    feeds = json.dumps({name: list(shape) for name, shape in shapes.items()})
    command = [str(python), "-I", "-c", _SCRIPT, str(model), feeds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(
            "onnx-tool",
            where=str(model),
            expected="a packed size",
            actual=(done.stderr.strip().splitlines() or ["nothing"])[-1],
            remedy="leave the model out of this comparison",
        )
    return int(done.stdout.split()[-1])
