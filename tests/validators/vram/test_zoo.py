from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_validators.vram.zoo import Architecture, architectures

WIDTH, HEIGHT = 128, 64

every = pytest.mark.parametrize("architecture", architectures(), ids=lambda item: item.name)


def run(path: Path, architecture: Architecture) -> list[np.ndarray[Any, Any]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    feeds = architecture.feeds(WIDTH, HEIGHT).items()
    answers: list[np.ndarray[Any, Any]] = session.run(
        None, {name: random.random(shape, np.float32) for name, shape in feeds}
    )
    return answers


@every
def test_fixed_and_free_forms_of_an_architecture_are_the_same_function(
    architecture: Architecture, tmp_path: Path
) -> None:
    fixed, free = tmp_path / "fixed.onnx", tmp_path / "free.onnx"
    architecture.build(fixed, WIDTH, HEIGHT)
    architecture.build(free)

    of_fixed, of_free = run(fixed, architecture), run(free, architecture)

    assert of_fixed[0].shape == (1, 1, HEIGHT, WIDTH)
    assert of_fixed[0].std() > 0
    for one, other in zip(of_fixed, of_free, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@every
def test_architecture_is_the_same_file_each_time_and_small(architecture: Architecture, tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    architecture.build(first)
    architecture.build(second)

    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 20_000_000


def test_zoo_holds_enough_and_keeps_some_apart() -> None:
    zoo = architectures()

    assert len({item.name for item in zoo}) == len(zoo) >= 12
    assert sum(item.held_out for item in zoo) >= 5


def test_recurrent_state_starts_as_a_pixel_only_where_axes_are_free() -> None:
    (recurrent,) = (item for item in architectures() if item.states)

    assert recurrent.contract.states[0].shape == (1, 1, 1, 1)
    assert recurrent.contract_at(WIDTH, HEIGHT).states[0].shape == recurrent.feeds(WIDTH, HEIGHT)["state"]
