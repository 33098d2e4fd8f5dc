from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from changeover_registry.inspect import inspect_variant
from changeover_updater.demo.export import IR_VERSION, OPSET, Storage, export_onnx
from changeover_updater.demo.net import PLANS, Conv, Join, Plan, Sum, Up, multiple, parameters


def weights_for(plan: Plan, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[np.float32]] = {}
    for step in plan:
        if isinstance(step, Conv):
            shape = (step.outputs, step.inputs // step.groups, step.kernel, step.kernel)
            made[f"{step.name}.weight"] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            made[f"{step.name}.bias"] = (0.1 * rng.standard_normal(step.outputs)).astype(np.float32)
    return made


def slow_convolution(
    step: Conv, image: NDArray[np.float64], weights: dict[str, NDArray[np.float32]]
) -> NDArray[np.float64]:
    kernel, bias = weights[f"{step.name}.weight"].astype(np.float64), weights[f"{step.name}.bias"]
    reach = step.padding
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)))
    height, width = -(-image.shape[1] // step.stride), -(-image.shape[2] // step.stride)
    share, out = step.inputs // step.groups, step.outputs // step.groups
    result = np.empty((step.outputs, height, width))
    for channel in range(step.outputs):
        group = channel // out
        total = np.full((height, width), float(bias[channel]))
        for source in range(share):
            for row in range(step.kernel):
                for column in range(step.kernel):
                    y, x = row * step.dilation, column * step.dilation
                    seen = padded[group * share + source, y :: step.stride, x :: step.stride][:height, :width]
                    total += kernel[channel, source, row, column] * seen
        result[channel] = total
    return result if step.linear else np.maximum(result, 0)


def slow_matte(plan: Plan, weights: dict[str, NDArray[np.float32]], image: NDArray[np.float32]) -> NDArray[np.float64]:
    done = {"image": image.astype(np.float64)}
    for step in plan:
        match step:
            case Conv():
                done[step.name] = slow_convolution(step, done[step.source], weights)
            case Up():
                done[step.name] = done[step.source].repeat(2, axis=1).repeat(2, axis=2)
            case Join():
                done[step.name] = np.concatenate((done[step.first], done[step.second]))
            case Sum():
                done[step.name] = done[step.first] + done[step.second]
    matte: NDArray[np.float64] = 1 / (1 + np.exp(-done[plan[-1].name][0]))
    return matte


def run(model: bytes, image: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    matte: NDArray[np.float32] = session.run(["matte"], {"image": image[None]})[0]
    return matte


@pytest.mark.parametrize("size", [(16, 24), (40, 8)])
@pytest.mark.parametrize("name", ["local", "context"])
def test_onnx_file_computes_what_the_plan_says_at_any_size(name: str, size: tuple[int, int]) -> None:
    plan = PLANS[name]
    weights = weights_for(plan)
    image = np.random.default_rng(1).random((3, *size), dtype=np.float32)

    matte = run(export_onnx(plan, weights), image)

    assert matte.shape == (1, 1, *size)
    np.testing.assert_allclose(matte[0, 0], slow_matte(plan, weights, image), atol=2e-5)


def test_grouped_and_summed_steps_compute_what_the_plan_says() -> None:
    plan: Plan = (
        Conv("stem", "image", 3, 4),
        Conv("seen", "stem", 4, 4, dilation=3, groups=4),
        Conv("shrunk", "seen", 4, 4, kernel=1, linear=True),
        Sum("block", "shrunk", "stem"),
        Conv("logit", "block", 4, 1, kernel=1, linear=True),
    )
    weights = weights_for(plan, 2)
    image = np.random.default_rng(3).random((3, 9, 11), dtype=np.float32)

    np.testing.assert_allclose(
        run(export_onnx(plan, weights), image)[0, 0], slow_matte(plan, weights, image), atol=2e-5
    )


def test_bfloat16_file_computes_with_weights_rounded_to_eight_bits_of_mantissa() -> None:
    plan = PLANS["context"]
    weights = weights_for(plan, 4)
    image = np.random.default_rng(5).random((3, 16, 16), dtype=np.float32)

    stored = export_onnx(plan, weights, "bfloat16")

    rounded = {name: to_bfloat16(value) for name, value in weights.items()}
    np.testing.assert_allclose(run(stored, image)[0, 0], slow_matte(plan, rounded, image), atol=2e-5)
    assert np.abs(run(stored, image) - run(export_onnx(plan, weights), image)).max() > 1e-5


def to_bfloat16(value: NDArray[np.float32]) -> NDArray[np.float32]:
    bits = value.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("storage", "capability", "dtypes"), [("float32", None, ("float32",)), ("bfloat16", "8.0", ("bfloat16", "float32"))]
)
def test_file_is_inspected_without_problems(
    tmp_path: Path, storage: Storage, capability: str | None, dtypes: tuple[str, ...]
) -> None:
    plan = PLANS["context"]
    (tmp_path / "model.onnx").write_bytes(export_onnx(plan, weights_for(plan), storage))

    found = inspect_variant(tmp_path, "onnx", "model.onnx", ["model.onnx"])

    assert found.problems == ()
    assert (found.requires.ir_version, found.requires.opset) == (IR_VERSION, OPSET)
    assert found.requires.compute_capability == capability
    assert found.requires.dtypes == dtypes
    assert found.requires.dynamic_axes


def test_file_is_the_same_every_time() -> None:
    plan = PLANS["context"]
    assert export_onnx(plan, weights_for(plan)) == export_onnx(plan, weights_for(plan))


@pytest.mark.parametrize("name", sorted(PLANS))
def test_parameters_are_the_numbers_in_the_file(name: str) -> None:
    plan = PLANS[name]
    model = onnx.load_from_string(export_onnx(plan, weights_for(plan)))

    held = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name != "twice")

    assert parameters(plan) == held


def test_multiple_is_the_product_of_the_strides() -> None:
    assert {name: multiple(plan) for name, plan in PLANS.items()} == {"local": 1, "context": 8, "wide": 1}
