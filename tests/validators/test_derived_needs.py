from pathlib import Path

import onnx
import pytest

from changeover_registry.inspect import inspect_variant
from changeover_registry.inspect.inspection import formats
from changeover_validators import tables
from changeover_validators.vram.zoo import Architecture, architectures

ATTENDING = {"vit", "segformer"}


def test_what_inspection_calls_newest_is_the_newest_of_the_tables() -> None:
    """The registry may not read the validators' tables, so the two are held together here."""
    newest = tables.runtime_limits(formats()["onnx"]["max_runtime"].rpartition(" ")[2] + ".0")

    assert newest is not None
    assert (formats()["onnx"]["max_ir_version"], formats()["onnx"]["max_opset"]) == (
        newest.max_ir_version,
        newest.max_opset,
    )


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
