"""One model predicted, and the same model measured in an isolated child, on the CPU provider of this interpreter."""

import sys
from pathlib import Path

from changeover_registry.records.memory import MemoryAnswer, MemoryMeasurement, MemoryPlan
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.capi import Api, find_library
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.vram.measure import Place, measure_memory
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target

__all__ = ["measured", "predicted"]

_PLACE = Place("here", "2026-01-01T00:00:00Z")
"""Nothing is kept, so neither matters."""
_RAM_MIB = 20_000


def measured(model: Path, contract: Contract, width: int, height: int, plan: MemoryPlan) -> MemoryMeasurement:
    """The arena over two runs of warm-up and one more.

    Raises:
        UndecidedError: There is no isolation or no runtime here.
        MeasurementError: The model did not run.
    """
    request = RunRequest(
        interpreter=sys.executable,
        folder=model.parent,
        entry=model.name,
        runtime="onnx",
        contract=contract,
        tile=Tile(size=0),
        provider="cpu",
        sandbox="required",
        wall_seconds=600.0,
        ram_mib=_RAM_MIB,
        memory_plan=plan,
    )
    return measure_memory(request, width, height, _PLACE, runs=1)


def predicted(model: Path, contract: Contract, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
    """What is said beforehand, for the runtime of this interpreter.

    Raises:
        UndecidedError: The sizes do not follow from the inputs.
    """
    target = Target("onnxruntime", Api(find_library()).version, "cpu", interpreter=sys.executable)
    return OnnxPredictor(model.parent, model.name, contract, target).answer(width, height, plan)
