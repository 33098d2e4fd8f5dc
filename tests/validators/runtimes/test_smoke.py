import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.release import Contract, State, TensorIn, Tile
from changeover_validators.runtimes.in_memory import FunctionModel
from changeover_validators.runtimes.interface import SMOKE_FILE, RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.smoke import (
    Smoke,
    default_tolerance,
    make_smoke,
    read_smoke,
    run_smoke,
    synthetic_planes,
    values_of,
)

FIRST = FunctionModel(lambda tensors: {"y": tensors["x"][:, :1], "t": tensors.get("s", np.zeros((1, 1, 1, 1))) + 1})


def with_values(data: bytes, **changes: Any) -> bytes:
    """The same file with some of its arrays changed, or removed where None."""
    arrays = dict(np.load(io.BytesIO(data)))
    kept = {name: value for name, value in (arrays | changes).items() if value is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **kept)
    return buffer.getvalue()


def test_a_smoke_file_has_the_keys_that_it_promises(contract: Contract) -> None:
    arrays = np.load(io.BytesIO(make_smoke(FIRST, contract, 7)), allow_pickle=False)

    assert set(arrays) == {"input0.plate", "output0", "input1.plate", "output1", "tolerance"}
    assert arrays["tolerance"].shape == ()
    assert arrays["tolerance"].dtype == np.float64
    assert arrays["input0.plate"].dtype == arrays["output0"].dtype == np.float32
    np.testing.assert_allclose(arrays["output1"], arrays["input1.plate"][..., 0], atol=1e-6)


def test_smoke_inputs_are_deterministic_and_have_smooth_parts_and_edges(contract: Contract) -> None:
    first, again = synthetic_planes(contract, 7, 0)["plate"], synthetic_planes(contract, 7, 0)["plate"]
    steps = np.abs(np.diff(first, axis=1))

    np.testing.assert_array_equal(first, again)
    assert make_smoke(FIRST, contract, 7) == make_smoke(FIRST, contract, 7)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (steps < 0.05).mean() > 0.9
    assert steps.max() > 0.1
    assert np.abs(synthetic_planes(contract, 8, 0)["plate"] - first).max() > 0.1
    assert np.abs(synthetic_planes(contract, 7, 1)["plate"] - first).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "shape"),
    [({}, (64, 96, 3)), ({"multiple": 60}, (120, 120, 3)), ({"resize": (320, 200)}, (200, 320, 3))],
)
def test_smoke_inputs_fit_the_contract(contract: Contract, changes: dict[str, Any], shape: tuple[int, ...]) -> None:
    assert synthetic_planes(contract.model_copy(update=changes), 1, 0)["plate"].shape == shape


def test_a_fixed_tile_is_smoked_at_its_size(contract: Contract) -> None:
    sizes: set[Any] = set()

    def first(tensors: Any) -> Any:
        sizes.add(tensors["x"].shape)
        return {"y": tensors["x"][:, :1]}

    fixed = contract.model_copy(update={"tiles": (Tile(size=128, overlap=8),)})

    make_smoke(FunctionModel(first), fixed, 1)

    assert sizes == {(1, 3, 128, 128)}


def test_tolerance_follows_the_precision(contract: Contract) -> None:
    half = contract.model_copy(update={"inputs": (TensorIn(name="x", port="plate", channels=("R",), dtype="float16"),)})
    state = contract.model_copy(
        update={"evaluation": "sequence", "states": (State(input="s", output="t", dtype="float16"),)}
    )

    assert default_tolerance(contract) == 1e-3
    assert default_tolerance(half) == default_tolerance(state) == 2e-2


def test_smoke_made_and_run_in_the_sandbox_agrees_and_counts_states(
    nets: Any, variant: Path, request_for: Callable[..., RunRequest], counting_contract: Contract, isolation: Isolation
) -> None:
    nets.counting()
    request = request_for(contract=counting_contract)
    with ModelProcess(request, isolation) as model:
        (variant / SMOKE_FILE).write_bytes(model.make_smoke(3))

    with ModelProcess(request, isolation) as model:
        result = model.smoke()

    assert result.passed
    assert result.worst == 0
    assert result.tolerance == 1e-3
    stored = np.load(variant / SMOKE_FILE)
    np.testing.assert_allclose([stored["output0"].mean(), stored["output1"].mean()], [0.01, 0.02], atol=1e-6)


def test_a_model_that_answers_otherwise_does_not_pass(
    nets: Any, variant: Path, request_for: Callable[..., RunRequest], some_isolation: Isolation
) -> None:
    nets.weighted()
    with ModelProcess(request_for(), some_isolation) as model:
        data = model.make_smoke(3)
    stored = np.load(io.BytesIO(data))
    changed = stored["output1"].copy()
    changed[3, 3] += 0.25
    (variant / SMOKE_FILE).write_bytes(with_values(data, output1=changed))

    with ModelProcess(request_for(), some_isolation) as model:
        result = model.smoke()

    assert not result.passed
    assert result.worst == pytest.approx(0.25, abs=1e-6)


def test_a_variant_without_smoke_is_not_run(
    nets: Any, request_for: Callable[..., RunRequest], some_isolation: Isolation
) -> None:
    nets.weighted()

    with ModelProcess(request_for(), some_isolation) as model, pytest.raises(UndecidedError, match="not run"):
        model.smoke()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output1": None}, "output1 is not a file"),
        ({"input0.plate": None}, "input0.plate is not a file"),
        ({"tolerance": np.float64(0)}, "a tolerance of 0.0"),
        ({"tolerance": np.float64(np.nan)}, "a tolerance of nan"),
        ({"output0": np.zeros((2, 2))}, "float64"),
        ({"output0": np.full((2, 2), np.nan, np.float32)}, "finite"),
    ],
)
def test_a_damaged_smoke_file_is_named(variant: Path, contract: Contract, changes: dict[str, Any], said: str) -> None:
    (variant / SMOKE_FILE).write_bytes(with_values(make_smoke(FIRST, contract, 1), **changes))

    with pytest.raises(InvalidInputError, match=said):
        read_smoke(variant, contract)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut", b"\x80\x04K\x01."])
def test_what_is_no_smoke_file_is_named_and_never_unpickled(variant: Path, contract: Contract, data: bytes) -> None:
    (variant / SMOKE_FILE).write_bytes(data)

    with pytest.raises(InvalidInputError, match="smoke file"):
        read_smoke(variant, contract)


@pytest.mark.parametrize(
    ("frames", "flat"),
    [((0.25, 0.25), True), ((0.25, 0.75), True), ((0.25, (0.25, 0.2505)), True), ((0.25, (0.25, 0.75)), False)],
)
def test_values_say_whether_every_frame_is_the_same_everywhere(frames: tuple[Any, Any], flat: bool) -> None:
    mattes = tuple(np.array([np.broadcast_to(frame, 2)], np.float32) for frame in frames)

    found = values_of(Smoke((), mattes, 1e-3))

    together = np.concatenate(mattes)
    assert (found.lowest, found.highest, found.flat) == (together.min(), together.max(), flat)
    assert found.mean == pytest.approx(together.mean(), abs=1e-6)


def test_an_output_of_another_size_is_named(variant: Path, contract: Contract) -> None:
    data = with_values(make_smoke(FIRST, contract, 1), output0=np.zeros((2, 2), np.float32))
    (variant / SMOKE_FILE).write_bytes(data)

    with pytest.raises(InvalidInputError, match="output0 of shape"):
        run_smoke(FIRST, contract, read_smoke(variant, contract))
