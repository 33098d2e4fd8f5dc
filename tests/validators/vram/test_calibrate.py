"""Throw-away sessions and what is made of their figures. There is no GPU here: the same code runs on the CPU."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import Calibration, MemoryKey, MemoryMeasurement, Steady
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.sandbox import available
from changeover_validators.vram.calibrate import Subject, calibrate, constants, fitted
from changeover_validators.vram.measure import Place, measure_memory
from changeover_validators.vram.native import NativeSession
from changeover_validators.vram.small_nets import OPERATORS, identity, libraries, one_operator, torch_nets

PLACE = Place("ws-01", "2026-11-22T12:00:00Z", gpu="none", driver="none")
MIB = 1 << 20


@pytest.mark.parametrize("model", [identity(), libraries(), *(one_operator(one, 64) for one in OPERATORS)])
def test_models_written_by_hand_are_valid_and_run(model: bytes) -> None:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    with NativeSession(model) as session:
        answer = session.run({"x": np.ones((1, 16, 64, 64), np.float32)})["y"]
    assert np.isfinite(answer).all()


def test_an_operator_says_how_many_values_it_answers() -> None:
    for one in OPERATORS:
        with NativeSession(one_operator(one, 64)) as session:
            assert session.run({"x": np.ones((1, 16, 64, 64), np.float32)})["y"].size == one.elements(64)


def test_an_interpreter_without_torch_is_undecided_by_name(tmp_path: Path) -> None:
    with pytest.raises(UndecidedError, match="whose torch writes TorchScript"):
        torch_nets(str(tmp_path / "no-python"), tmp_path)


def measured(entry: str, process: int | Unknown, arena: int, extra: int = 0) -> MemoryMeasurement:
    held = Steady(in_use_bytes=arena + extra, arena_bytes=arena)
    nothing = Steady(in_use_bytes=0, arena_bytes=0)
    key = MemoryKey(
        model="ab" * 32,
        runtime="onnxruntime",
        version="1.31.1",
        provider="cuda",
        gpu="NVIDIA RTX A4000",
        driver="580.65.06",
        width=64,
        height=64,
    )
    return MemoryMeasurement(
        key=key,
        host=entry,
        made_at="2026-11-22T12:00:00Z",
        runs=5,
        loaded=nothing,
        first=held,
        steady=held,
        resting_bytes=arena,
        process_bytes=process,
        accounted_bytes=process,
    )


def test_constants_are_what_the_process_holds_beside_its_arena() -> None:
    first = measured("identity", 301 * MIB, 1 * MIB)
    second = measured("libraries", 390 * MIB, 10 * MIB)
    small, large = measured("real", 600 * MIB, 250 * MIB), measured("real", 700 * MIB, 250 * MIB)
    assert constants(first, second, small) == (300 * MIB, 80 * MIB)
    assert constants(first, second, large) == (300 * MIB, 150 * MIB)


def test_what_nobody_tells_is_no_calibration() -> None:
    first = measured("identity", Unknown(unknown="per-process unavailable: WDDM"), MIB)
    with pytest.raises(UndecidedError, match="per-process unavailable"):
        constants(first, first, first)


@given(
    constant=st.integers(0, 1 << 26),
    per_element=st.integers(0, 64),
    sizes=st.lists(st.integers(1, 1 << 24), min_size=2, max_size=4, unique=True),
)
def test_a_line_is_found_again_and_never_tells_less_than_was_measured(
    constant: int, per_element: int, sizes: list[int]
) -> None:
    extras = {size: constant + per_element * size for size in sizes}
    rate = fitted("Conv", extras)
    assert (rate.constant_bytes, rate.per_thousand) == (constant, 1000 * per_element)
    for size, extra in extras.items():
        assert rate.constant_bytes + rate.per_thousand * size // 1000 >= extra


@given(st.dictionaries(st.integers(1, 1 << 24), st.integers(0, 1 << 30), min_size=2, max_size=5))
def test_whatever_was_measured_the_rate_never_tells_less(extras: dict[int, int]) -> None:
    rate = fitted("Conv", extras)
    for size, extra in extras.items():
        assert rate.constant_bytes + rate.per_thousand * size // 1000 >= extra


@pytest.fixture
def subject(build: Callable[..., onnx.ModelProto], contract: Callable[..., Contract], tmp_path: Path) -> Subject:
    if available().name is None:
        pytest.skip(f"no isolation here: {available().reason}")
    (tmp_path / "net.onnx").write_bytes(build("plain", 4, 1).SerializeToString())
    request = RunRequest(
        interpreter=sys.executable,
        folder=tmp_path,
        entry="net.onnx",
        runtime="onnx",
        contract=contract(),
        tile=Tile(size=0),
        provider="cpu",
        sandbox="required",
        wall_seconds=60.0,
        ram_mib=2048,
    )
    return Subject(request, 64, 64)


def test_three_sessions_and_single_operators_become_one_calibration(subject: Subject) -> None:
    """On the CPU a transposed convolution takes scratch of out channels x kernel x input pixels, which is known."""
    ran: list[str] = []

    def measure(request: RunRequest, *rest: Any) -> MemoryMeasurement:
        ran.append(request.entry)
        return measure_memory(request, *rest, runs=1)

    found = calibrate(subject, PLACE, "none", measure)
    rates = {rate.operator: rate for rate in found.workspaces}
    assert ran[:3] == ["identity.onnx", "libraries.onnx", "net.onnx"]
    assert found.context_bytes > 10 * MIB
    assert (rates["ConvTranspose"].constant_bytes, rates["ConvTranspose"].per_thousand) == (0, 4 * 1000)
    assert (found.gpu, found.runtime, found.made_at) == ("none", "onnxruntime", "2026-11-22T12:00:00Z")
    assert Calibration.from_bytes(found.to_bytes(), where="here") == found


def test_a_calibration_belongs_to_the_gpu_and_driver_that_were_seen(subject: Subject) -> None:
    def measure(request: RunRequest, width: int, _height: int, _place: Place) -> MemoryMeasurement:
        """As a GPU might tell it: 16 channels in and out, scratch of 1000 bytes and two bytes an element."""
        pixels = 16 * width * width
        output = pixels * (4 if "Transpose" in request.entry else 1)
        return measured(request.entry, 400 * MIB, 4 * (pixels + output), extra=1000 + 2 * output)

    found = calibrate(subject, PLACE, "8.6", measure)
    assert (found.gpu, found.driver, found.compute_capability) == ("NVIDIA RTX A4000", "580.65.06", "8.6")
    assert [(rate.constant_bytes, rate.per_thousand) for rate in found.workspaces] == [(1000, 2000)] * 2


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch_is_calibrated_by_the_same_three_sessions_and_no_operators(subject: Subject) -> None:
    torch = pytest.importorskip("torch")
    ran: dict[str, tuple[int, ...]] = {}

    def measure(request: RunRequest, *_: Any) -> MemoryMeasurement:
        """Nobody counts torch's memory here; that the throw-away models are models is seen by running them."""
        path, given_x = request.folder / request.entry, torch.ones(1, 16, 32, 48)
        ran[request.entry] = tuple(torch.jit.load(str(path))(given_x).shape) if path.suffix == ".pt" else ()
        return measured(request.entry, 400 * MIB, 2 * MIB)

    found = calibrate(replace(subject, request=replace(subject.request, runtime="torchscript")), PLACE, "8.6", measure)
    assert ran == {"identity.pt": (1, 16, 32, 48), "libraries.pt": (1, 16, 32, 32), "net.onnx": ()}
    assert (found.context_bytes, found.libraries_bytes, found.workspaces) == (398 * MIB, 0, ())
