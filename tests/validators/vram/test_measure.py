import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from changeover_registry.errors import MeasurementError, UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryMeasurement,
    MemoryPart,
    MemoryPlan,
    MemoryRange,
    Steady,
)
from changeover_registry.records.release import Contract, State, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.sandbox import Isolation, available
from changeover_validators.vram.device_memory import DeviceWatch, accounted_bytes, opened_nvml, seen_now
from changeover_validators.vram.measure import (
    Figures,
    MeasuringProcess,
    Place,
    _of_the_process,
    _watched,
    beside,
    is_alarm,
    measure_memory,
)
from changeover_validators.vram.measure_child import synthetic_tensors
from changeover_validators.vram.native import NativeSession

PLACE = Place("ws-01", "2026-11-22T12:00:00Z", gpu="NVIDIA RTX A4000", driver="580.65.06")
Ask = Callable[..., RunRequest]


@pytest.fixture
def ask(build: Callable[..., onnx.ModelProto], contract: Callable[..., Contract], tmp_path: Path) -> Ask:
    """A request for a small net, with whatever the test changes."""
    if available().name is None:
        pytest.skip(f"no isolation here: {available().reason}")

    def make(model: onnx.ModelProto | bytes | None = None, **changes: Any) -> RunRequest:
        found = build("unet", 8, 2) if model is None else model
        data = found if isinstance(found, bytes) else found.SerializeToString()
        (tmp_path / "net.onnx").write_bytes(data)
        fields: dict[str, Any] = {
            "interpreter": sys.executable,
            "folder": tmp_path,
            "entry": "net.onnx",
            "runtime": "onnx",
            "contract": contract(),
            "tile": Tile(size=0),
            "provider": "cpu",
            "sandbox": "required",
            "wall_seconds": 60.0,
            "ram_mib": 2048,
        }
        return RunRequest(**(fields | changes))

    return make


def test_what_the_isolated_child_tells_is_what_a_session_here_tells(ask: Ask) -> None:
    request = ask()
    measured = measure_memory(request, 160, 96, PLACE)

    with NativeSession(request.folder / "net.onnx") as session:
        seen = []
        for number in range(6):
            if number:
                session.run(synthetic_tensors(request.contract, 160, 96))
            figures = session.statistics()
            assert figures is not None
            seen.append(Steady(in_use_bytes=figures.max_in_use, arena_bytes=figures.total_allocated))
    assert (measured.loaded, measured.first, measured.steady) == (seen[0], seen[1], seen[-1])
    assert measured.first.in_use_bytes < measured.steady.in_use_bytes
    assert measured.resting_bytes == seen[-1].arena_bytes
    assert measured.runs == 5


def test_a_measurement_says_what_it_belongs_to(ask: Ask) -> None:
    plan = MemoryPlan(extend="same-as-requested", pattern=False)
    request = ask(memory_plan=plan)
    measured = measure_memory(request, 64, 32, PLACE, runs=1)
    key = measured.key
    assert key.model == hashlib.sha256((request.folder / "net.onnx").read_bytes()).hexdigest()
    assert (key.runtime, key.provider, key.width, key.height, key.plan) == ("onnxruntime", "cpu", 64, 32, plan)
    assert (key.gpu, key.driver) == (None, None)
    assert (measured.host, measured.made_at) == ("ws-01", "2026-11-22T12:00:00Z")
    assert MemoryMeasurement.from_bytes(measured.to_bytes(), where="here") == measured


def test_the_process_holds_more_than_its_arena_and_the_cpu_keeps_no_accounts(ask: Ask) -> None:
    measured = measure_memory(ask(), 320, 320, PLACE, runs=1)
    assert not isinstance(measured.process_bytes, Unknown)
    assert measured.process_bytes > measured.steady.in_use_bytes
    assert isinstance(measured.accounted_bytes, Unknown)
    assert "CPU" in measured.accounted_bytes.unknown


def test_an_arena_that_is_given_back_after_each_run_is_told_at_its_most_and_at_rest(ask: Ask) -> None:
    """Counters after the run alone would tell a footprint below what was in use at once."""
    plan = MemoryPlan(extend="same-as-requested", pattern=False, shrink="each-run")
    measured = measure_memory(ask(memory_plan=plan), 320, 320, PLACE, runs=2)
    assert measured.steady.arena_bytes >= measured.steady.in_use_bytes
    assert measured.resting_bytes < measured.steady.in_use_bytes


def test_a_plan_that_freezes_is_measured_at_its_size(ask: Ask) -> None:
    measured = measure_memory(ask(memory_plan=MemoryPlan(freeze=True)), 64, 32, PLACE, runs=1)
    assert measured.key.plan.freeze
    assert measured.steady.arena_bytes > 0


def test_states_go_round_from_frame_to_frame(ask: Ask, tmp_path: Path) -> None:
    dims: list[int | str | None] = [1, 1, "h", "w"]
    nodes = [
        onnx.helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        onnx.helper.make_node("Add", ["m", "s"], ["t"]),
        onnx.helper.make_node("Sigmoid", ["t"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    given = [value("x", 1, [1, 3, "h", "w"]), value("s", 1, [1, 1, "p", "q"])]
    graph = onnx.helper.make_graph(nodes, "net", given, [value("y", 1, dims), value("t", 1, dims)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    recurrent = Contract(
        evaluation="sequence",
        inputs=(TensorIn(name="x", port="plate", channels=("red", "green", "blue")),),
        output=TensorOut(name="y", port="matte"),
        states=(State(input="s", output="t"),),
        colour="srgb",
    )
    request = ask(model, contract=recurrent)
    with MeasuringProcess(request, 64, 32) as child:
        first, second = child.run(), child.run()
    assert second.in_use_bytes >= first.in_use_bytes > 64 * 32 * 4


def test_what_is_asked_of_the_gpu_never_runs_on_the_cpu(ask: Ask) -> None:
    """Without a GPU the session is not built; a child that ran on the CPU in silence would tell figures."""
    with pytest.raises(MeasurementError, match="cuda|CUDA") as caught:
        measure_memory(ask(provider="cuda"), 64, 32, PLACE)
    assert caught.value.rule == "provider"


def test_an_arena_that_does_not_fit_is_named_and_is_no_figure(ask: Ask) -> None:
    with pytest.raises(MeasurementError) as caught:
        measure_memory(ask(ram_mib=256), 4096, 4096, PLACE)
    assert "memory" in caught.value.rule


def test_a_file_that_is_no_model_cannot_be_measured(ask: Ask) -> None:
    with pytest.raises(MeasurementError) as caught:
        measure_memory(ask(b"\x00\xffno model"), 64, 32, PLACE)
    assert caught.value.rule == "invalid model"


def test_a_contract_that_names_another_output_cannot_be_measured(ask: Ask, contract: Callable[..., Contract]) -> None:
    with pytest.raises(MeasurementError, match="an output of this name"):
        measure_memory(ask(contract=contract(output="alpha")), 64, 32, PLACE)


def test_without_isolation_nothing_is_run(ask: Ask) -> None:
    with pytest.raises(UndecidedError, match="was not run"):
        measure_memory(ask(), 64, 32, PLACE, isolation=Isolation(None, "none here"))


def test_tensors_have_the_contracts_type_channels_and_size(contract: Callable[..., Contract]) -> None:
    half = TensorIn(name="x", port="plate", channels=("red", "green"), dtype="float16")
    made = synthetic_tensors(contract().model_copy(update={"inputs": (half,)}), 40, 24)
    assert made["x"].shape == (1, 2, 24, 40)
    assert made["x"].dtype == np.float16
    assert len(np.unique(made["x"])) > 100


def _measured(arena: int) -> MemoryMeasurement:
    held = Steady(in_use_bytes=arena, arena_bytes=arena)
    return MemoryMeasurement(
        key=MemoryKey(model="0" * 64, runtime="onnxruntime", version="1.31.1", provider="cpu", width=64, height=32),
        host="ws-01",
        made_at="2026-11-22T12:00:00Z",
        runs=5,
        loaded=held,
        first=held,
        steady=held,
        resting_bytes=arena,
        process_bytes=arena,
        accounted_bytes=Unknown(unknown="not asked"),
    )


def _answer(low: int, high: int) -> MemoryAnswer:
    return MemoryAnswer(
        key=_measured(1).key,
        steady=Steady(in_use_bytes=low, arena_bytes=low),
        range=MemoryRange(low_bytes=low, high_bytes=high, sessions=5),
        parts=(MemoryPart(name="activations", bytes=high, label="modelled"),),
        total_bytes=high,
        requested_bytes=low,
        label="modelled",
    )


@pytest.mark.parametrize(
    ("low", "high", "arena", "error", "alarm"),
    [
        (1000, 1000, 1000, "0", False),
        (1049, 1060, 1000, "0.049", False),
        (1051, 1060, 1000, "0.051", True),
        (800, 940, 1000, "-0.06", True),
        (900, 2100, 1000, "0", False),
        (2, 2, 3, "-0.333333", True),
        (0, 0, 0, "0", False),
        (5, 5, 0, "1", True),
    ],
)
def test_the_error_is_the_distance_to_the_range_as_a_share_of_what_was_measured(
    low: int, high: int, arena: int, error: str, alarm: bool
) -> None:
    found = beside(_measured(arena), _answer(low, high))
    assert (found.error, is_alarm(found)) == (error, alarm)
    assert found.predicted == _answer(low, high)
    assert MemoryMeasurement.from_bytes(found.to_bytes(), where="here") == found


def test_without_a_prediction_there_is_no_error_and_no_alarm() -> None:
    found = beside(_measured(1000), None)
    assert (found.error, found.predicted, is_alarm(found)) == (None, None, False)


class _NvmlError(Exception):
    pass


class _Nvml:
    """NVML as its binding answers: two devices; a figure is bytes, or None where the driver tells none."""

    NVMLError = _NvmlError

    def __init__(self, computing: dict[int, dict[int, int | None]], accounts: dict[int, int | None]) -> None:
        self.computing, self.accounts = computing, accounts

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's name
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - as above
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802 - as above
        return (b"NVIDIA T400", b"NVIDIA RTX A4000")[handle]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:  # noqa: N802 - as above
        return [SimpleNamespace(pid=p, usedGpuMemory=m) for p, m in self.computing.get(handle, {}).items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:  # noqa: N802 - as above
        if handle == 0:
            raise _NvmlError("Not Supported")
        return self.nvmlDeviceGetComputeRunningProcesses(handle)

    def nvmlDeviceGetAccountingStats(self, handle: int, pid: int) -> Any:  # noqa: N802 - as above
        if handle == 0 or pid not in self.accounts:
            raise _NvmlError("Not Found")
        return SimpleNamespace(maxMemoryUsage=self.accounts[pid])


def test_memory_of_all_processes_and_devices_is_one_sum_and_names_the_gpu_with_the_most() -> None:
    nvml = _Nvml({0: {7: 100}, 1: {7: 5000, 8: 30, 9: 10**9}}, {7: 6000})
    seen = seen_now(nvml, {7, 8})
    assert (seen.bytes, seen.gpu) == (5130, "NVIDIA RTX A4000")
    assert accounted_bytes(nvml, {7}) == 6000


def test_a_driver_that_tells_no_figure_of_one_process_is_unknown_and_never_zero() -> None:
    nvml = _Nvml({1: {7: None}}, {7: None})
    for found in (seen_now(nvml, {7}).bytes, accounted_bytes(nvml, {7})):
        assert isinstance(found, Unknown)
        assert found.unknown.startswith("per-process unavailable")


def test_a_process_that_no_gpu_lists_is_unknown() -> None:
    nvml = _Nvml({}, {})
    assert isinstance(seen_now(nvml, {7}).bytes, Unknown)
    accounted = accounted_bytes(nvml, {7})
    assert isinstance(accounted, Unknown)
    assert "Not Found" in accounted.unknown


def test_the_watch_keeps_the_most_that_it_saw() -> None:
    nvml = _Nvml({1: {7: 100}}, {})
    watch = DeviceWatch(nvml, lambda: {7})
    watch.start()
    for held in (9000, 200):
        nvml.computing = {1: {7: held}}
        while watch.most.bytes != 9000:
            time.sleep(0.001)
    nvml.computing = {}
    watch.stop()
    assert (watch.most.bytes, watch.most.gpu) == (9000, "NVIDIA RTX A4000")


def test_what_the_process_took_of_the_gpu_is_the_most_that_was_seen_of_it() -> None:
    nvml = _Nvml({1: {7: 9000}}, {7: 9500})
    model: Any = SimpleNamespace(pids=lambda: {7})
    last = Figures(in_use_bytes=1, arena_bytes=1, now_bytes=1, peak_rss=5, run_us=1)
    with _watched(nvml, model) as watch:
        assert watch is not None
        _, accounted = _of_the_process("cuda", nvml, watch, model, last)
    assert (watch.most.bytes, watch.most.gpu) == (9000, "NVIDIA RTX A4000")
    assert accounted == 9500
    assert _of_the_process("cpu", None, None, model, last)[0].bytes == 5


def test_without_nvml_the_process_share_of_the_gpu_is_unknown_by_its_reason() -> None:
    model: Any = SimpleNamespace(pids=lambda: {7})
    last = Figures(in_use_bytes=1, arena_bytes=1, now_bytes=1, peak_rss=5, run_us=1)
    reason = Unknown(unknown="NVML does not start")
    with _watched(reason, model) as watch:
        assert watch is None
    seen, accounted = _of_the_process("cuda", reason, None, model, last)
    assert (seen.bytes, accounted) == (reason, reason)


def test_where_nvml_does_not_start_the_reason_stands_for_it() -> None:
    with opened_nvml() as nvml:
        if not isinstance(nvml, Unknown):
            pytest.skip("there is a driver here")
        assert "NVML" in nvml.unknown
