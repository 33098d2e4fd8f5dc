import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import ChangeoverError, InvalidInputError, MeasurementError, UndecidedError
from changeover_registry.records.release import Contract, Port, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.watch import family_pids

Make = Callable[..., RunRequest]


def weighted(plate: Any) -> Any:
    return plate @ np.array([0.5, 0.25, 0.125], np.float32)


def infer_often(model: ModelProcess, plate: Any) -> None:
    for _ in range(50):
        model.infer({"plate": plate}, reset=True)
        time.sleep(0.02)


def test_a_model_in_the_sandbox_answers_the_matte(
    nets: Any, request_for: Make, isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(), isolation) as model:
        got = model.infer({"plate": plate}, reset=True)
        started, peak = model.started, model.peak_rss_bytes

    np.testing.assert_allclose(got.matte, weighted(plate), rtol=0, atol=1e-6)
    assert got.matte.dtype == np.float32
    assert got.frame_us > 0
    assert started.sandbox == isolation.name
    assert started.provider_ran == "cpu"
    assert started.load_us > 0
    assert started.runtime_version.count(".") == 2
    assert 20 * 2**20 < peak < 2**30


def test_limits_only_runs_onnx_and_says_so(nets: Any, request_for: Make, plate: Any) -> None:
    nets.weighted()

    with ModelProcess(request_for(sandbox="limits-only"), Isolation(None, "none wanted")) as model:
        got = model.infer({"plate": plate}, reset=True)

    assert model.started.sandbox == "limits-only"
    np.testing.assert_allclose(got.matte, weighted(plate), rtol=0, atol=1e-6)


def test_the_interfaces_ports_fix_the_order_of_channels(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()
    ports = (Port(name="plate", channels=("B", "G", "R"), colour="scene-linear"),)

    with ModelProcess(request_for(ports=ports), some_isolation) as model:
        got = model.infer({"plate": plate[..., ::-1]}, reset=True)

    np.testing.assert_allclose(got.matte, weighted(plate), rtol=0, atol=1e-6)


def test_tiles_and_the_whole_frame_agree_for_a_pointwise_model(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(tile=Tile(size=16, overlap=4)), some_isolation) as model:
        got = model.infer({"plate": plate}, reset=True)

    np.testing.assert_allclose(got.matte, weighted(plate), rtol=0, atol=1e-6)


def test_states_are_carried_and_reset_with_each_shot(
    nets: Any, request_for: Make, counting_contract: Contract, some_isolation: Isolation, plate: Any
) -> None:
    nets.counting()

    with ModelProcess(request_for(contract=counting_contract), some_isolation) as model:
        counts = [
            float(model.infer({"plate": plate}, reset=reset).matte.mean())
            for reset in (True, False, False, True, False)
        ]

    np.testing.assert_allclose(counts, [0.01, 0.02, 0.03, 0.01, 0.02], atol=1e-6)


def test_no_frame_that_is_answered_is_among_the_first_two_of_its_size(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(), some_isolation) as model:
        first = model.warm(40, 30)
        model.infer({"plate": plate}, reset=True)
        model.infer({"plate": plate[:15]}, reset=True)
        warmed = dict(model._warmed)

    assert len(first) == 2
    assert warmed == {(30, 40): first, (15, 40): warmed[15, 40]}
    assert model.compile_us == max(0, first[0] - first[-1])


def test_tiles_of_one_size_are_warmed_once_whatever_the_plate(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(tile=Tile(size=16, overlap=4)), some_isolation) as model:
        model.infer({"plate": plate}, reset=True)
        model.infer({"plate": plate[:20]}, reset=True)

    assert list(model._warmed) == [(16, 16)]


def test_warming_up_leaves_the_states_of_a_shot_alone(
    nets: Any, request_for: Make, counting_contract: Contract, some_isolation: Isolation, plate: Any
) -> None:
    nets.counting()

    with ModelProcess(request_for(contract=counting_contract), some_isolation) as model:
        first = model.infer({"plate": plate}, reset=True).matte.mean()
        assert len(model.warm(40, 30)) == 3
        model.warm(64, 64)
        second = model.infer({"plate": plate}, reset=False).matte.mean()

    np.testing.assert_allclose([first, second], [0.01, 0.02], atol=1e-6)


def test_a_first_run_that_compiles_is_told_apart_from_a_slow_model(
    nets: Any, request_for: Make, tmp_path: Path, plate: Any
) -> None:
    """A runtime that sleeps in its first run, as one that compiles for a GPU it was not built for."""
    nets.weighted()
    (tmp_path / "child.py").write_text(
        "import time\nfrom changeover_validators.runtimes.onnx import OnnxModel\nrun = OnnxModel.run\n"
        "def compiling(self, tensors):\n    time.sleep(0 if self._runs else 0.4)\n    return run(self, tensors)\n"
        "OnnxModel.run = compiling\nfrom changeover_validators.runtimes.child import main\nmain()\n"
    )
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = -c ]; then exec {sys.executable} "$@"; fi\nexec {sys.executable} {tmp_path}/child.py\n'
    )
    python.chmod(0o755)

    with ModelProcess(request_for(interpreter=str(python), sandbox="limits-only")) as model:
        assert model.compile_us == 0
        model.infer({"plate": plate}, reset=True)

    assert model.compile_us > 300_000


def test_a_model_in_half_precision_answers_float32(
    nets: Any, request_for: Make, contract: Contract, some_isolation: Isolation, plate: Any
) -> None:
    nets.half()
    inputs = (contract.inputs[0].model_copy(update={"dtype": "float16"}),)
    half = contract.model_copy(update={"inputs": inputs})

    with ModelProcess(request_for(contract=half), some_isolation) as model:
        got = model.infer({"plate": plate}, reset=True)

    assert got.matte.dtype == np.float32
    np.testing.assert_allclose(got.matte, plate.mean(axis=2), atol=2e-3)


def test_a_matte_that_is_not_finite_is_a_failed_measurement_and_the_next_frame_may_follow(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.not_a_number()

    with ModelProcess(request_for(), some_isolation) as model:
        for _ in range(2):
            with pytest.raises(MeasurementError) as caught:
                model.infer({"plate": plate}, reset=True)

    assert caught.value.rule == "not finite"
    assert "1200 of 1200 values" in str(caught.value)


def test_an_endless_model_is_a_hang(nets: Any, request_for: Make, isolation: Isolation, plate: Any) -> None:
    nets.endless()
    before = time.monotonic()

    with ModelProcess(request_for(wall_seconds=5.0), isolation) as model:
        quick = model._request
        model._request = replace(quick, wall_seconds=0.3)
        with pytest.raises(MeasurementError) as caught:
            model.infer({"plate": plate}, reset=True)
        with pytest.raises(MeasurementError) as again:
            model.infer({"plate": plate}, reset=True)

    assert caught.value.rule == "hang"
    assert caught.value.expected == "an answer within 0.3 s"
    assert again.value is caught.value
    assert time.monotonic() - before < 10


def test_resident_memory_over_the_bound_ends_the_child(
    nets: Any, request_for: Make, isolation: Isolation, plate: Any
) -> None:
    """240 MiB, once or twice, stay under the bound of private memory (2 x 200 + 512 MiB), and over ours."""
    nets.expanding(1, 1, 5_000, 12_500)

    with ModelProcess(request_for(ram_mib=200), isolation) as model, pytest.raises(MeasurementError) as caught:
        infer_often(model, plate)

    assert caught.value.rule == "out of host memory"
    assert caught.value.expected == "at most 200 MiB of RAM"
    assert caught.value.actual == "the watch ended it"


def test_a_model_of_another_shape_than_the_contract_is_named(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.halving()

    with ModelProcess(request_for(), some_isolation) as model, pytest.raises(MeasurementError) as caught:
        model.infer({"plate": plate}, reset=True)

    assert "expected [1, more than 0, 30, 40], found [1, 1, 15, 20]" in str(caught.value)


def test_a_child_that_is_killed_is_a_crash(nets: Any, request_for: Make, isolation: Isolation, plate: Any) -> None:
    nets.weighted()

    with ModelProcess(request_for(), isolation) as model:
        assert model._running is not None
        youngest = max(family_pids(model._running.process.pid))
        os.kill(youngest, signal.SIGSEGV)
        with pytest.raises(MeasurementError) as caught:
            infer_often(model, plate)

    assert caught.value.rule == "crash"
    assert caught.value.actual == "SIGSEGV"


def test_a_child_killed_in_limits_only_is_a_crash(nets: Any, request_for: Make, plate: Any) -> None:
    nets.weighted()

    with ModelProcess(request_for(sandbox="limits-only")) as model:
        assert model._running is not None
        model._running.process.kill()
        with pytest.raises(MeasurementError, match="crash.*SIGKILL"):
            model.infer({"plate": plate}, reset=True)


def test_without_isolation_nothing_is_run(nets: Any, request_for: Make) -> None:
    nets.weighted()

    with (
        pytest.raises(UndecidedError) as caught,
        ModelProcess(request_for(), Isolation(None, "bwrap is not installed")),
    ):
        pytest.fail("it ran")

    assert caught.value.rule == "isolation"
    assert "it was not run (bwrap is not installed)" in caught.value.actual


def test_a_tool_that_stops_working_is_undecided_and_not_the_models_fault(
    nets: Any, request_for: Make, tmp_path: Path
) -> None:
    nets.weighted()
    tool = tmp_path / "bwrap"
    tool.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed: Operation not permitted' >&2\nexit 1\n")
    tool.chmod(0o755)

    with (
        pytest.raises(UndecidedError) as caught,
        ModelProcess(request_for(), Isolation("bubblewrap", "it worked a moment ago", str(tool))),
    ):
        pytest.fail("it ran")

    assert caught.value.rule == "isolation"
    assert "Operation not permitted" in caught.value.actual


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"runtime": "nuke-cat"}, UndecidedError, "runtime"),
        ({"runtime": "pickle"}, InvalidInputError, "run request"),
        ({"provider": "tensorrt"}, InvalidInputError, "run request"),
        ({"entry": "absent.onnx"}, InvalidInputError, "run request"),
        ({"sandbox": "none"}, InvalidInputError, "sandbox"),
        ({"interpreter": "/nowhere/python"}, UndecidedError, "runtime"),
    ],
)
def test_a_request_that_cannot_be_run_says_what_is_wrong(
    nets: Any,
    request_for: Make,
    some_isolation: Isolation,
    changes: dict[str, str],
    kind: type[ChangeoverError],
    rule: str,
) -> None:
    nets.weighted()

    with pytest.raises(kind) as caught, ModelProcess(request_for(**changes), some_isolation):
        pytest.fail("it ran")

    assert caught.value.rule == rule


def test_a_plane_that_is_missing_is_the_callers_mistake_and_the_child_lives_on(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(), some_isolation) as model:
        with pytest.raises(InvalidInputError, match="port plate"):
            model.infer({"other": plate}, reset=True)
        assert model.infer({"plate": plate}, reset=True).matte.shape == (30, 40)


def test_a_model_process_is_used_as_a_context_manager(nets: Any, request_for: Make, some_isolation: Isolation) -> None:
    nets.weighted()
    model = ModelProcess(request_for(), some_isolation)

    with pytest.raises(RuntimeError, match="context manager"):
        _ = model.started
    with pytest.raises(RuntimeError, match="context manager"):
        model.smoke()
    assert model.peak_rss_bytes == 0


def test_leaving_the_block_ends_every_process(nets: Any, request_for: Make, isolation: Isolation) -> None:
    nets.weighted()
    with ModelProcess(request_for(), isolation) as model:
        assert model._running is not None
        family = family_pids(model._running.process.pid)
        assert len(family) > 1

    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert model.peak_rss_bytes > 20 * 2**20


def test_the_child_ends_with_the_parent(nets: Any, request_for: Make, isolation: Isolation) -> None:
    """A parent that is killed cannot tidy up; the isolation does."""
    path = nets.weighted()
    code = f"""
import sys, time
from pathlib import Path
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.watch import family_pids
contract = Contract.model_validate_json({request_for().contract.model_dump_json()!r})
request = RunRequest(sys.executable, Path({str(path.parent)!r}), "net.onnx", "onnx", contract, Tile(size=0), "cpu",
                     "required", 60.0, 1024)
with ModelProcess(request, {isolation!r}) as model:
    print(*family_pids(model._running.process.pid), flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        family = [int(text) for text in parent.stdout.readline().split()]
        parent.kill()

    assert len(family) > 1
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_two_models_run_beside_each_other_in_threads(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()
    results: list[Any] = []

    def run() -> None:
        with ModelProcess(request_for(), some_isolation) as model:
            results.append(model.infer({"plate": plate}, reset=True).matte)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 2
    np.testing.assert_array_equal(results[0], results[1])
