import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from changeover_registry.errors import MeasurementError, UndecidedError
from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.capi import Api, NativeError, find_library, minor_of
from changeover_validators.runtimes.endings import cause_of_error
from changeover_validators.runtimes.statistics import (
    ArenaStatistics,
    arena_statistics,
    highest_total,
    logged_total,
    read_statistics,
)
from changeover_validators.vram.native import NativeSession

MODULES_LOG = """
import sys, numpy, onnxruntime
onnxruntime.set_default_logger_severity(1)
options = onnxruntime.SessionOptions()
options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, 1, 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
plate = numpy.linspace(0, 1, 3 * 96 * 160, dtype="f4").reshape(1, 3, 96, 160)
for _ in range(3):
    session.run(None, {"x": plate})
"""


@pytest.fixture
def plate() -> Any:
    return np.linspace(0, 1, 3 * 96 * 160, dtype=np.float32).reshape(1, 3, 96, 160)


@pytest.fixture
def net(build: Callable[..., onnx.ModelProto], save: Callable[[onnx.ModelProto], Path]) -> Path:
    return save(build("unet", 8, 3))


@contextlib.contextmanager
def after_runs(net: Path, plate: Any, runs: int, **settings: Any) -> Iterator[ArenaStatistics]:
    with NativeSession(net, **settings) as session:
        for _ in range(runs):
            session.run({"x": plate})
        found = session.statistics()
        assert found is not None
        yield found


def test_the_library_is_the_wheels_own_and_of_its_version() -> None:
    assert Api(find_library()).version == onnxruntime.__version__


def test_a_native_session_answers_what_the_module_answers(net: Path, plate: Any) -> None:
    expected = onnxruntime.InferenceSession(str(net), providers=["CPUExecutionProvider"]).run(["y"], {"x": plate})[0]
    with NativeSession(net) as session:
        answers = session.run({"x": plate})
    assert (session.inputs, session.outputs) == (("x",), ("y",))
    np.testing.assert_array_equal(answers["y"], expected)


def test_the_arena_moves_with_real_runs_and_rests_from_the_second_on(net: Path, plate: Any) -> None:
    seen = []
    with NativeSession(net) as session:
        for _ in range(4):
            session.run({"x": plate})
            seen.append(arena_statistics(session, "cpu"))
    first, second, third, fourth = (figures for figures in seen if figures is not None)
    assert first.max_in_use > plate.nbytes
    assert second.total_allocated >= first.total_allocated > first.max_in_use
    assert second.max_in_use > first.max_in_use
    assert (third.max_in_use, third.total_allocated) == (second.max_in_use, second.total_allocated)
    assert fourth.allocations > third.allocations
    assert fourth.extensions == third.extensions > 0


def test_the_arena_is_that_of_the_python_module_by_its_own_log(net: Path, plate: Any) -> None:
    """The module's sessions cannot be asked; their log tells each extension."""
    command = [sys.executable, "-c", MODULES_LOG, str(net)]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    with after_runs(net, plate, 3) as figures:
        assert figures.total_allocated == logged_total(log)
        assert figures.extensions == len(re.findall("Extended allocation by", log))


def test_a_plan_is_applied_to_a_native_session(net: Path, plate: Any) -> None:
    shrinking = MemoryPlan(extend="same-as-requested", pattern=False, shrink="each-run")
    with after_runs(net, plate, 3) as default, after_runs(net, plate, 3, plan=shrinking) as planned:
        assert planned.shrinkages >= 3
        assert planned.total_allocated < default.total_allocated


def test_a_plan_that_freezes_reads_the_names_of_dimensions_from_the_file(net: Path, plate: Any) -> None:
    with NativeSession(net, plan=MemoryPlan(freeze=True), shapes={"x": plate.shape}) as session:
        session.run({"x": plate})
        with pytest.raises(NativeError, match="INVALID_ARGUMENT"):
            session.run({"x": plate[:, :, :48]})


def test_an_arena_limit_is_told_and_ends_in_out_of_memory(net: Path, plate: Any) -> None:
    with NativeSession(net, limit_bytes=3 << 20) as session:
        figures = session.statistics()
        assert figures is not None
        assert figures.limit == 3 << 20
        with pytest.raises(NativeError) as caught:
            session.run({"x": plate})
    assert cause_of_error("NativeError", str(caught.value)) == "over budget"


def test_a_session_that_failed_leaves_no_arena_behind(net: Path, plate: Any) -> None:
    with pytest.raises(NativeError):
        NativeSession(b"no model", limit_bytes=1 << 20)
    with after_runs(net, plate, 1, plan=MemoryPlan(initial_chunk_bytes=64 << 20)) as figures:
        assert figures.limit is None
        assert figures.total_allocated >= 64 << 20


def test_what_is_no_model_is_refused_in_the_runtimes_words() -> None:
    with pytest.raises(NativeError) as caught:
        NativeSession(b"no model")
    assert cause_of_error("NativeError", str(caught.value)) == "invalid model"


def test_cuda_without_its_libraries_is_an_error_and_no_session_on_the_cpu(net: Path) -> None:
    """The module would only warn; here nothing runs."""
    with pytest.raises((NativeError, MeasurementError)) as caught:
        NativeSession(net, provider="cuda")
    assert "cuda" in str(caught.value).lower()


def test_a_wheel_without_library_is_undecided_by_name(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_pybind11_state.so").write_bytes(b"")
    with pytest.raises(UndecidedError, match="1.20 or later"):
        find_library(tmp_path)


def test_a_release_before_statistics_answers_none(net: Path) -> None:
    with NativeSession(net) as session:
        api = session._runtime.api
        api.version = "1.22.1"
        assert read_statistics(api, session._session.pointer, "cpu") is None


def test_of_several_arenas_each_lines_belong_to_the_one_that_was_named_before() -> None:
    log = (
        "Extending BFCArena for Cuda. bin_num:12",
        "Extended allocation by 8 bytes.",
        "Total allocated bytes: 8000",
        "Extending BFCArena for Cpu. bin_num:2",
        "Total allocated bytes: 90000",
        "Extending BFCArena for CudaPinned. bin_num:2",
        "Total allocated bytes: 70000",
        "Extending BFCArena for Cuda. bin_num:12",
        "Total allocated bytes: 5000",
    )
    assert (highest_total(log, "cuda"), highest_total(log, "cpu")) == (8000, 90000)
    assert highest_total((), "cpu") == 0


def test_a_session_that_keeps_its_log_tells_the_most_inside_of_a_run(net: Path, plate: Any) -> None:
    plan = MemoryPlan(extend="same-as-requested", pattern=False, shrink="each-run")
    with NativeSession(net, plan=plan, keep_log=True) as session:
        session.run({"x": plate})
        figures = session.statistics()
        assert figures is not None
        assert session.logged_total() is not None
        inside, after = session.highest_total(), session.highest_total()
    assert inside is not None
    assert inside >= figures.max_in_use > figures.total_allocated
    assert after == figures.total_allocated


def test_the_log_tells_the_last_total_and_nothing_where_no_line_does() -> None:
    log = "[I:x] Total allocated bytes: 1048576\n[I:x] Allocated memory\n[I:x] Total allocated bytes: 3145728\n"
    assert logged_total(log) == 3145728
    assert logged_total("nothing") is None


@pytest.mark.parametrize(("version", "minor"), [("1.31.1", 31), ("1.9.0", 9), ("1.27.0rc1", 27), ("dev", 0)])
def test_the_api_is_numbered_by_the_minor_release(version: str, minor: int) -> None:
    assert minor_of(version) == minor


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_every_type_of_tensor_comes_back_as_it_went_in(dtype: str) -> None:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [onnx.helper.make_tensor_value_info(name, kind, ["n", 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    array = np.arange(12).reshape(4, 3).astype(dtype)
    with NativeSession(model.SerializeToString()) as session:
        answer = session.run({"x": array})["y"]
    assert answer.dtype == array.dtype
    np.testing.assert_array_equal(answer, array)
