"""Answers about memory: what one operating point takes, the curve over plate sizes, and the largest tile that fits.

The tensor size follows from the contract: its fixed resize, else the tile or the whole plate, padded to its multiple.
All answers are "modelled": liveness of the graph plus its weights, without the runtime's context (the policy's
`context_mib`) and without kernels' workspaces. What this leaves out: budgets and findings (`checks/vram.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.records.release import Contract, Tile
from changeover_registry.records.verdict import CurvePoint
from changeover_validators.vram.graph import Graph, Skeleton, at_size, read_skeleton
from changeover_validators.vram.planner import plan
from changeover_validators.vram.rules import memory_rules

__all__ = ["Prediction", "curve", "largest_size", "largest_tile", "predict", "tensor_size"]

_LARGEST_TILE = 16384


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


def tensor_size(contract: Contract, width: int, height: int, tile: Tile) -> tuple[int, int]:
    """Width and height in pixels of the tensor that one call takes for a plate of `width` by `height`.

    A tile is always handed over at its full size, also where the plate is smaller.
    """
    if contract.resize is not None:
        width, height = contract.resize
    elif tile.size:
        width = height = tile.size
    return _up(width, contract.multiple), _up(height, contract.multiple)


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


def largest_tile(model: Path, contract: Contract, width: int, height: int, budget_bytes: int) -> Tile | None:
    """The largest tile that the contract allows and that fits `budget_bytes` at that plate; the whole frame is largest.

    Raises:
        InvalidInputError: Not an ONNX model, or the contract feeds what the graph does not take.
        UndecidedError: The graph's sizes do not follow from its inputs.
    """
    skeleton = read_skeleton(model)
    by_size = sorted(contract.tiles, key=lambda tile: (tile.size or _LARGEST_TILE + 1, -tile.overlap), reverse=True)
    for tile in by_size:
        if _predict(skeleton, contract, tensor_size(contract, width, height, tile)).total_bytes <= budget_bytes:
            return tile
    return None


def largest_size(model: Path, contract: Contract, budget_bytes: int) -> int | None:
    """The side in pixels of the largest square tensor that fits, a multiple of the contract's; None if none fits.

    It tells a vendor which tile to publish; a station only ever uses tiles that the contract allows. A contract that
    resizes has one size whatever the tile, so there is none to name.

    Raises:
        InvalidInputError: Not an ONNX model, or the graph fixes its size.
        UndecidedError: The graph's sizes do not follow from its inputs.
    """
    if contract.resize is not None:
        return None
    skeleton = read_skeleton(model)
    step = contract.multiple if contract.multiple > 1 else 8
    low, high = 0, _LARGEST_TILE // step
    while low < high:
        middle = (low + high + 1) // 2
        fits = _predict(skeleton, contract, (middle * step, middle * step)).total_bytes <= budget_bytes
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * step or None


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


def _up(pixels: int, multiple: int) -> int:
    return -(-pixels // multiple) * multiple
