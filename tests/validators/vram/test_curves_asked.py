"""What real graphs ask for at a size lies within the bounds that other sizes give, on every architecture."""

from pathlib import Path

import pytest

from changeover_registry.inspect import inspect_variant
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.verdict import CurvePoint
from changeover_validators.fits import curve_point
from changeover_validators.vram.curves import asked_for
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.zoo import Architecture, architectures

FROM_THE_FILE = Target("onnxruntime", "1.31.1", "cuda", interpreter=None)
KNOWN = ((192, 192), (384, 384), (640, 640), (1024, 1024))
WANTED = ((256, 256), (512, 320), (832, 640), (1280, 1024))


@pytest.mark.parametrize("net", architectures(), ids=lambda net: net.name)
def test_what_a_graph_asks_for_lies_between_the_bounds_of_other_sizes(net: Architecture, tmp_path: Path) -> None:
    net.build(tmp_path / "model.onnx")
    needs = inspect_variant(tmp_path, "onnx", "model.onnx", ("model.onnx",)).requires
    predictor = OnnxPredictor(tmp_path, "model.onnx", net.contract, FROM_THE_FILE)

    def point(plate: tuple[int, int]) -> CurvePoint:
        width, height = (-(-side // net.stride) * net.stride for side in plate)
        return curve_point((width, height), predictor.answer(width, height, MemoryPlan()))

    curve = [point(plate) for plate in KNOWN]
    for plate in WANTED:
        real = point(plate)
        found = asked_for(curve, (real.width, real.height), attention=bool(needs.global_attention))

        assert found is not None
        assert real.requested_bytes is not None
        assert found.least <= real.requested_bytes * 1.001
        assert found.most is None or real.requested_bytes <= found.most * 1.001
