"""What is predicted of a plan, beside what a session in the isolated child really took: the same to the byte."""

import sys
from pathlib import Path

import onnxruntime
import pytest

from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.sandbox import available
from changeover_validators.vram.measure import Place, beside, measure_memory
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.zoo import architectures

pytestmark = pytest.mark.skipif(available().name is None, reason="no isolation on this machine")
PLANS = (
    MemoryPlan(),
    MemoryPlan(extend="same-as-requested", pattern=False, shrink="each-run"),
    MemoryPlan(extend="same-as-requested", shrink="after-warm-up"),
)


@pytest.mark.parametrize("name", ["resnet-aspp", "pyramid"])
def test_arena_in_use_and_rest_are_those_of_the_prediction_under_every_plan(name: str, tmp_path: Path) -> None:
    """An arena that is given back keeps what the caller still holds: the regions with the run's outputs."""
    (net,) = (one for one in architectures() if one.name == name)
    net.build(tmp_path / "net.onnx")
    target = Target("onnxruntime", onnxruntime.__version__, "cpu", interpreter=sys.executable)
    predictor = OnnxPredictor(tmp_path, "net.onnx", net.contract, target, sessions=1)
    for plan in PLANS:
        request = RunRequest(
            interpreter=sys.executable,
            folder=tmp_path,
            entry="net.onnx",
            runtime="onnx",
            contract=net.contract,
            tile=Tile(size=0),
            provider="cpu",
            sandbox="required",
            wall_seconds=60.0,
            ram_mib=4096,
            memory_plan=plan,
        )
        predicted = predictor.answer(256, 192, plan)
        found = beside(measure_memory(request, 256, 192, Place("here", "2026-11-22T12:00:00Z"), runs=1), predicted)
        assert found.error == "0"
        assert found.steady == predicted.steady
        assert found.resting_bytes == predicted.part("resting")
