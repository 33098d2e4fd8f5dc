import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.release import Contract, State, Tile
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.graph import at_size, read_skeleton
from changeover_validators.vram.planner import plan
from changeover_validators.vram.rules import memory_rules

Build = Callable[..., onnx.ModelProto]
Save = Callable[[onnx.ModelProto], Path]
Make = Callable[..., Contract]
WHOLE = Tile(size=0)


@dataclass(frozen=True)
class Alive:
    """What lives at once in a graph, and its weights, in bytes."""

    weights_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.activation_bytes


def predict(model: Path, contract: Contract, width: int, height: int, tile: Tile) -> Alive:
    """Plain liveness of one call, in the steady state: a state has the shape that it had on the frame before."""
    skeleton, size = read_skeleton(model), tensor_size(contract, width, height, tile)
    shapes = {tensor.name: (1, len(tensor.channels), *size[::-1]) for tensor in contract.inputs}
    graph, known = at_size(skeleton, shapes | {state.input: state.shape for state in contract.states})
    if contract.states:
        graph, _ = at_size(skeleton, shapes | {state.input: known[state.output] for state in contract.states})
    return Alive(graph.weights_bytes, plan(graph, memory_rules()).peak_bytes)


def totals(model: Path, contract: Contract, plates: list[tuple[int, int]]) -> list[int]:
    return [predict(model, contract, *plate, WHOLE).total_bytes for plate in plates]


CHILD = """
import json, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena = False
options.enable_mem_pattern = False
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {name: numpy.random.rand(*shape).astype("float32") for name, shape in json.loads(sys.argv[2]).items()}
def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) * 1024
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
session.run(None, feed)
print(status("VmHWM") - before)
"""


def real_peak(model: Path, feed: dict[str, list[int]]) -> int:
    """Bytes that a run of onnxruntime really takes at its peak, beside weights and inputs.

    A child without arena gives each tensor back to the system at once, so the growth of its high-water mark is what
    was alive.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    environment |= {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(model), json.dumps(feed)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    return int(done.stdout)


def needs_linux() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the high-water mark of a process is reset through /proc, which only Linux has")


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("kind", ["unet", "residual", "plain"])
def test_prediction_is_within_two_percent_of_what_onnxruntime_takes(
    build: Build, save: Save, contract: Make, kind: str, *, norm: bool
) -> None:
    needs_linux()
    path = save(build(kind, 16, norm=norm))

    found = predict(path, contract(), 960, 544, WHOLE)

    held_by_caller = 3 * 960 * 544 * 4
    real = real_peak(path, {"x": [1, 3, 544, 960]})
    assert found.activation_bytes - held_by_caller == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize(
    ("name", "tensor", "output", "size"),
    [
        ("sinet.onnx", "data", "Softmax/1", 320),
        ("prisma.onnx", "input_3", "permute_2", 256),
        ("deeplab.onnx", "MobilenetV2/MobilenetV2/input:0", "transpose:0", 513),
    ],
)
def test_prediction_of_a_real_model_is_a_lower_estimate_of_the_same_order(
    models: Path, contract: Make, name: str, tensor: str, output: str, size: int
) -> None:
    needs_linux()
    found = predict(
        models / name, contract(name=tensor, output=output, multiple=1, resize=(size, size)), 1920, 1080, WHOLE
    )

    held_by_caller = 3 * size * size * 4
    real = real_peak(models / name, {tensor: [1, 3, size, size]})
    # Kernels of these models take scratch memory (transposed and dilated convolutions), which is not modelled.
    assert 0.35 * real < found.activation_bytes - held_by_caller < 1.05 * real
    stored = sum(w.ByteSize() for w in onnx.load(models / name).graph.initializer)
    assert found.weights_bytes == pytest.approx(stored, rel=0.2)


def test_weights_are_exact(build: Build, save: Save, contract: Make) -> None:
    model = build("unet")
    exact = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)

    assert predict(save(model), contract(), 64, 64, WHOLE).weights_bytes == exact


def test_external_weights_count_without_being_opened(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    whole = predict(save(model), contract(), 64, 64, WHOLE)
    tensor = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="not-there.bin")

    assert predict(save(model), contract(), 64, 64, WHOLE) == whole


def test_weights_that_are_inputs_too_are_not_counted_twice(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    modern = predict(save(model), contract(), 64, 64, WHOLE)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))

    assert predict(save(model), contract(), 64, 64, WHOLE) == modern


def test_what_is_computed_from_weights_alone_counts_as_a_weight(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    size = 4 * 8 * 3
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 8, 1, 1), np.float32), "raw"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "unused"))
    model.graph.node.insert(0, helper.make_node("Concat", ["raw", "raw", "raw"], ["folded"], axis=2))
    plain = predict(save(build("plain")), contract(), 64, 64, WHOLE).weights_bytes
    model.graph.node.append(helper.make_node("ReduceSum", ["folded"], ["z"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["y", "folded"], ["unread"]))
    model.graph.node[-1].input[0] = "folded_y"
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("ReduceMax", ["y"], ["folded_y"], keepdims=1))

    assert predict(save(model), contract(), 64, 64, WHOLE).weights_bytes == plain + size


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["unet", "residual", "plain"]),
    sizes=st.lists(st.tuples(st.integers(16, 4096), st.integers(16, 2160)), min_size=2, max_size=4),
)
def test_curve_never_falls_as_the_plate_grows(
    build: Build, save: Save, contract: Make, kind: str, sizes: list[tuple[int, int]]
) -> None:
    path = save(build(kind))
    grown = [*sizes, *((width + 32, height + 32) for width, height in sizes)]
    points = list(zip(grown, totals(path, contract(), grown), strict=True))

    for small, less in points:
        for large, more in points:
            if small[0] <= large[0] and small[1] <= large[1]:
                assert less <= more


def test_curve_is_linear_in_pixels_for_a_convolution_net(build: Build, save: Save, contract: Make) -> None:
    model = build("unet")
    path = save(model)
    weights = predict(path, contract(), 64, 64, WHOLE).weights_bytes
    one, four = totals(path, contract(), [(640, 352), (1280, 704)])

    assert four - weights == 4 * (one - weights)


def test_metadata_of_the_file_changes_no_answer(build: Build, save: Save, contract: Make) -> None:
    model = build("unet")
    before = predict(save(model), contract(), 640, 360, WHOLE)
    model.doc_string, model.producer_name = "other words", "someone else"
    model.metadata_props.add(key="author", value="x")
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(reversed(weights))

    assert predict(save(model), contract(), 640, 360, WHOLE) == before


def recurrent() -> onnx.ModelProto:
    """A net whose state is as large as the plate after the first frame and one pixel before it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Add", ["grey", "before"], ["after"]),
        helper.make_node("Sigmoid", ["after"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"]),
        helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 1, "sh", "sw"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, "h", "w"]) for name in ("y", "after")]
    graph = helper.make_graph(nodes, "recurrent", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_state_counts_at_the_size_that_it_has_from_the_second_frame_on(save: Save, contract: Make) -> None:
    state = State(input="before", output="after")

    found = predict(save(recurrent()), contract(states=(state,)), 64, 64, WHOLE)

    pixels = 64 * 64 * 4
    # Plate and state come in; grey is gone when the matte is written; state and matte go out.
    assert found.activation_bytes == 3 * pixels + pixels + 2 * pixels


def test_fixed_graph_at_another_size_is_an_input_error_that_names_both(
    build: Build, save: Save, contract: Make
) -> None:
    model = build("plain")
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 256, 256), strict=True):
        dim.dim_value = size

    with pytest.raises(InvalidInputError) as caught:
        predict(save(model), contract(), 1920, 1080, WHOLE)

    assert "[1,3,1080,1920]" in caught.value.expected
    assert "[1,3,256,256]" in caught.value.actual


def test_contract_that_feeds_an_unknown_input_is_an_input_error(build: Build, save: Save, contract: Make) -> None:
    with pytest.raises(InvalidInputError, match="inputs x"):
        predict(save(build("plain")), contract(name="plate"), 64, 64, WHOLE)


def test_input_that_nobody_feeds_is_taken_at_its_least_size(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, ["n"]))
    model.graph.node.append(helper.make_node("Mul", ["y", "gain"], ["z"]))

    assert predict(save(model), contract(), 64, 64, WHOLE).total_bytes > 0


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x08\x08"])
def test_file_that_is_no_model_is_an_input_error(tmp_path: Path, contract: Make, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)

    with pytest.raises(InvalidInputError, match=r"model\.onnx"):
        predict(path, contract(), 64, 64, WHOLE)


@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(name="t", data_type=999, dims=[1]),
        TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[-1]),
        TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"\0"),
    ],
)
def test_weight_whose_bytes_do_not_fit_its_dims_is_an_input_error(
    build: Build, save: Save, contract: Make, tensor: TensorProto
) -> None:
    model = build("plain")
    model.graph.initializer.append(tensor)

    with pytest.raises(InvalidInputError, match="weight 't'"):
        predict(save(model), contract(), 64, 64, WHOLE)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_file_with_flipped_bytes_is_answered_or_refused_in_words(
    build: Build, save: Save, contract: Make, flips: list[tuple[int, int]]
) -> None:
    path = save(build("plain"))
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data)

    with contextlib.suppress(InvalidInputError, UndecidedError):
        assert predict(path, contract(), 64, 64, WHOLE).total_bytes >= 0


def test_name_that_is_not_utf8_is_an_input_error(build: Build, save: Save, contract: Make) -> None:
    path = save(build("plain"))
    path.write_bytes(path.read_bytes().replace(b"Sigmoid", b"\xff" * 7))

    with pytest.raises(InvalidInputError, match="not UTF-8"):
        predict(path, contract(), 64, 64, WHOLE)


def test_control_flow_is_undecided_and_named(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    empty = helper.make_graph([], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=empty, else_branch=empty))

    with pytest.raises(UndecidedError, match="operators If"):
        predict(save(model), contract(), 64, 64, WHOLE)


def test_size_that_depends_on_values_is_undecided(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    model.graph.node.append(helper.make_node("NonZero", ["y"], ["z"]))

    with pytest.raises(UndecidedError, match="without one, such as 'z'"):
        predict(save(model), contract(), 64, 64, WHOLE)


def test_contradicting_shapes_are_undecided(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 5, 7, 3), np.float32), "odd"))
    model.graph.node.append(helper.make_node("Concat", ["y", "odd"], ["z"], axis=1))

    with pytest.raises(UndecidedError):
        predict(save(model), contract(), 64, 64, WHOLE)


def test_graph_that_shape_inference_cannot_read_is_undecided(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    del model.opset_import[:]

    with pytest.raises(UndecidedError, match="shapes can be inferred"):
        predict(save(model), contract(), 64, 64, WHOLE)


def test_narrow_types_take_their_packed_size(build: Build, save: Save, contract: Make) -> None:
    model = build("plain")
    plain_bytes = predict(save(model), contract(), 64, 64, WHOLE).weights_bytes
    for name, code, packed in (("a", TensorProto.INT4, b"\0\0"), ("b", TensorProto.UINT2, b"\0\0")):
        model.graph.initializer.append(
            TensorProto(name=name, data_type=code, dims=[3 if name == "a" else 5], raw_data=packed)
        )
        model.graph.node.append(helper.make_node("Cast", [name], [f"{name}f"], to=TensorProto.FLOAT))
    model.graph.initializer.append(TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]))
    for name in ("a", "b"):
        model.graph.node.append(helper.make_node("Identity", [name], [f"{name}2"]))
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.INT4, [3]))
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.UINT2, [5]))
    model.graph.output.append(helper.make_tensor_value_info("s", TensorProto.STRING, [1]))

    assert predict(save(model), contract(), 64, 64, WHOLE).weights_bytes == plain_bytes + 2 + 2


def test_three_hundred_nodes_are_answered_in_under_three_seconds(build: Build, save: Save, contract: Make) -> None:
    model = build("plain", 8, 150)
    assert len(model.graph.node) >= 300
    path = save(model)
    started = time.perf_counter()

    totals(path, contract(), [(1920, 1080), (4096, 2160), (8192, 4320)])

    assert time.perf_counter() - started < 3
