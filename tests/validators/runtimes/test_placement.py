from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from changeover_registry.errors import MeasurementError
from changeover_validators.runtimes.placement import check_nodes, nodes_of, placement_entries
from changeover_validators.vram.zoo import architectures

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def placed(tmp_path: Path) -> list[tuple[str, str]]:
    """Where a real session puts each node of a net with free axes, which computes the shapes of its resizes itself."""
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip("this onnxruntime does not tell where its nodes are")
    next(net for net in architectures() if net.name == "resnet-aspp").build(tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    for name, value in placement_entries(onnxruntime).items():
        options.add_session_config_entry(name, value)
    return list(nodes_of(onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=[CPU])))


def test_every_node_of_a_session_is_told(placed: list[tuple[str, str]]) -> None:
    assert {ran for ran, _ in placed} == {CPU}
    assert {"Conv", "Shape", "Gather", "Resize"} <= {kind for _, kind in placed}
    check_nodes(CPU, placed)


def test_what_works_on_images_may_not_be_elsewhere(placed: list[tuple[str, str]]) -> None:
    with pytest.raises(MeasurementError) as caught:
        check_nodes(CUDA, placed)

    assert caught.value.rule == "provider"
    assert "Conv on CPUExecutionProvider" in caught.value.actual
    assert "Shape" not in caught.value.actual


def test_shapes_are_computed_on_the_cpu_on_purpose(placed: list[tuple[str, str]]) -> None:
    """As onnxruntime does it for CUDA: the chains behind Shape stay on the CPU, all else does not."""
    chains = {"Shape", "Gather", "Concat", "Unsqueeze", "Slice", "Cast", "Mul", "Div"}
    as_on_cuda = [(CPU if kind in chains else CUDA, kind) for _, kind in placed]

    check_nodes(CUDA, as_on_cuda)
    with pytest.raises(MeasurementError, match="Resize on CPUExecutionProvider"):
        check_nodes(CUDA, [*as_on_cuda, (CPU, "Resize")])


def test_a_release_that_does_not_tell_is_forbidden_to_fall_back() -> None:
    older = SimpleNamespace(InferenceSession=object)

    assert placement_entries(older) == {"session.disable_cpu_ep_fallback": "1"}
    assert list(nodes_of(object())) == []


def test_many_kinds_are_counted_and_few_are_named() -> None:
    with pytest.raises(MeasurementError, match="and 2 more kinds"):
        check_nodes(CUDA, [(CPU, f"Op{number}") for number in range(7)])
