"""Plain liveness: what is alive at once in a graph as the file states it, plus its weights.

It is what estimators without an allocator answer, so it is kept as a lower estimate to compare with: no arena, no
fusions of a session, no workspaces. What decides is a `Predictor`; what this leaves out is everything that it adds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryPart,
    MemoryPlan,
    MemoryRange,
    PartName,
    Steady,
)
from changeover_registry.records.release import Contract, Tile
from changeover_registry.records.verdict import CurvePoint
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.graph import Graph, Skeleton, at_size, read_skeleton
from changeover_validators.vram.planner import plan
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.rules import memory_rules

__all__ = ["LivenessPredictor", "Prediction", "curve", "predict"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run takes at its peak, in bytes. `operator` is where the peak is reached; the tensors are H by W."""

    weights_bytes: int
    activation_bytes: int
    operator: str
    tensor_width: int
    tensor_height: int

    @property
    def total_bytes(self) -> int:
        """Weights and activations together."""
        return self.weights_bytes + self.activation_bytes


@dataclass(slots=True)
class LivenessPredictor:
    """Liveness as a `Predictor`: the same bytes whatever the plan, for one model file at one target."""

    path: Path
    contract: Contract
    target: Target
    _skeleton: Skeleton | None = None
    _digest: str = ""

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        """What is alive at once, with the target's context."""
        if self._skeleton is None:
            self._skeleton = read_skeleton(self.path)
            self._digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        found = _predict(self._skeleton, self.contract, (width, height))
        target, alive = self.target, found.activation_bytes
        key = MemoryKey(
            model=self._digest,
            runtime=target.runtime,
            version=target.version,
            provider=target.provider,
            gpu=target.gpu,
            driver=target.driver,
            width=width,
            height=height,
            threads=target.threads,
            plan=plan,
        )
        parts = (("context", target.context_bytes), ("weights", found.weights_bytes), ("activations", alive))
        names: tuple[tuple[PartName, int], ...] = parts  # type: ignore[assignment]
        return MemoryAnswer(
            key=key,
            steady=Steady(in_use_bytes=found.total_bytes, arena_bytes=found.total_bytes),
            range=MemoryRange(low_bytes=found.total_bytes, high_bytes=found.total_bytes, sessions=1),
            parts=tuple(MemoryPart(name=name, bytes=size, label="modelled") for name, size in names),
            total_bytes=target.context_bytes + found.total_bytes,
            requested_bytes=found.total_bytes,
            label="modelled",
        )

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        """Whether what is alive at once is within the limit."""
        return self.answer(width, height, plan).steady.arena_bytes <= limit_bytes


def predict(model: Path, contract: Contract, width: int, height: int, tile: Tile) -> Prediction:
    """The peak of one call at a plate of `width` by `height` pixels under `tile`.

    Raises:
        InvalidInputError: Not an ONNX model, or the contract feeds what the graph does not take.
        UndecidedError: The graph's sizes do not follow from its inputs.
    """
    return _predict(read_skeleton(model), contract, tensor_size(contract, width, height, tile))


def curve(model: Path, contract: Contract, tile: Tile, plates: Sequence[tuple[int, int]]) -> tuple[CurvePoint, ...]:
    """The total at each of `plates` (width, height), in their order; the file is read once.

    Raises:
        InvalidInputError: Not an ONNX model, or the contract feeds what the graph does not take.
        UndecidedError: The graph's sizes do not follow from its inputs.
    """
    skeleton = read_skeleton(model)
    totals: dict[tuple[int, int], int] = {}
    points = []
    for width, height in plates:
        size = tensor_size(contract, width, height, tile)
        if size not in totals:
            totals[size] = _predict(skeleton, contract, size).total_bytes
        points.append(CurvePoint(width=width, height=height, bytes=totals[size]))
    return tuple(points)


def _predict(skeleton: Skeleton, contract: Contract, size: tuple[int, int]) -> Prediction:
    graph = _graph(skeleton, contract, size)
    found = plan(graph, memory_rules())
    return Prediction(graph.weights_bytes, found.peak_bytes, found.operator, *size)


def _graph(skeleton: Skeleton, contract: Contract, size: tuple[int, int]) -> Graph:
    """The graph in the steady state: each state input has the shape that its output had on the frame before."""
    width, height = size
    shapes = {tensor.name: (1, len(tensor.channels), height, width) for tensor in contract.inputs}
    graph, known = at_size(skeleton, shapes | {state.input: state.shape for state in contract.states})
    if not contract.states:
        return graph
    settled: Mapping[str, tuple[int, ...]] = {state.input: known[state.output] for state in contract.states}
    return at_size(skeleton, shapes | dict(settled))[0]
