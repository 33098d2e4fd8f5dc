from pathlib import Path

import onnx
import pytest

from changeover_registry.inspect import inspect_variant
from changeover_validators.vram.zoo import Architecture, architectures

ATTENDING = {"vit", "segformer"}


@pytest.mark.parametrize("size", [(None, None), (512, 512), (1024, 512)])
@pytest.mark.parametrize("net", architectures(), ids=lambda net: net.name)
def test_global_attention_is_found_in_the_nets_that_have_it_and_in_no_other(
    tmp_path: Path, net: Architecture, size: tuple[int | None, int | None]
) -> None:
    net.build(tmp_path / "model.onnx", *size)

    found = inspect_variant(tmp_path, "onnx", "model.onnx", ["model.onnx"])

    assert found.problems == ()
    assert found.requires.global_attention is (net.name in ATTENDING), found.evidence
    assert found.requires.dynamic_axes is (size[0] is None)
    assert found.requires.weight_bytes == sum(
        len(tensor.raw_data) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer
    )
