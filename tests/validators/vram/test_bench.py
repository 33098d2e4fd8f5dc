import sys
from pathlib import Path

import pytest

from changeover_registry.errors import MeasurementError
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryMeasurement,
    MemoryPlan,
    MemoryRange,
    Steady,
)
from changeover_validators.vram import bench, estimates
from changeover_validators.vram.bench_cases import Case, cases
from changeover_validators.vram.bench_measure import predicted
from changeover_validators.vram.native import NativeSession
from changeover_validators.vram.zoo import Architecture, architectures

ZOO = {item.name: item for item in architectures()}
KEY = MemoryKey(model="0" * 64, runtime="onnxruntime", version="1.31.1", provider="cpu", width=64, height=64)


def row(name: str, said: int, real: int, *, held_out: bool = True, ends: tuple[int, int] | None = None) -> bench.Row:
    """A run whose arena was `real` and for which `said` was predicted; all else is a tenth of it."""
    case = Case(name, "fixed", 64, 64, ZOO["unet"].contract, {}, lambda _: None, held_out=held_out)
    steady = Steady(in_use_bytes=real // 10, arena_bytes=real)
    measured = MemoryMeasurement(
        key=KEY,
        host="here",
        made_at="2026-01-01T00:00:00Z",
        runs=3,
        loaded=steady,
        first=steady,
        steady=steady,
        resting_bytes=real,
        process_bytes=real,
        accounted_bytes=real,
    )
    low, high = ends or (said, said)
    answer = MemoryAnswer(
        key=KEY,
        steady=Steady(in_use_bytes=said // 10, arena_bytes=said),
        range=MemoryRange(low_bytes=low, high_bytes=high, sessions=5),
        parts=(),
        total_bytes=said,
        requested_bytes=said,
        label="modelled",
    )
    return bench.Row(case, measured, answer, estimates.Estimates(0, real // 20, real * 2), None)


def test_summary_is_of_errors_without_their_sign() -> None:
    rows = [row("a", 90, 100), row("b", 120, 100), row("c", 100, 100)]

    found = {one.estimator: one for one in bench.summaries(rows)}

    ours = found["ours: arena"]
    assert [ours.runs, ours.mean, ours.most] == [3, pytest.approx(0.1), pytest.approx(0.2)]
    assert ours.close == pytest.approx(1 / 3)
    assert found["sum of outputs: arena"].mean == pytest.approx(1.0)
    assert "onnx-tool: arena" not in found


def test_session_within_the_range_is_no_error_of_the_range() -> None:
    found = {one.estimator: one.mean for one in bench.summaries([row("a", 100, 200, ends=(100, 200))])}

    assert found["ours: arena"] == pytest.approx(0.5)
    assert found["ours: arena, range"] == 0.0


@pytest.mark.parametrize(
    ("rows", "missed"),
    [
        ([row("a", 100, 100)], False),
        ([row("a", 1000, 1000), row("b", 1015, 1000)], False),
        ([row("a", 103, 100)], True),
        ([*[row("a", 1000, 1000)] * 18, *[row("b", 1060, 1000)] * 2], True),
        ([row("a", 100, 100), row("b", 300, 100, held_out=False)], False),
    ],
)
def test_only_held_out_nets_decide_whether_the_promise_is_kept(rows: list[bench.Row], *, missed: bool) -> None:
    assert bench.misses(rows) == missed


@pytest.mark.parametrize("markdown", [False, True])
def test_table_sums_held_out_nets_up_apart(*, markdown: bool) -> None:
    text = bench.table([row("mine", 100, 100), row("theirs", 100, 100, held_out=False)], markdown=markdown)

    assert text.index("mine*") < text.index("Held out while building") < text.index("Known while building")
    assert "Real models" not in text


def test_every_architecture_is_a_case_in_both_forms(tmp_path: Path) -> None:
    found = list(cases(tmp_path, sizes=[(64, 64)]))

    assert {(item.name, form) for item in architectures() for form in ("fixed", "free")} <= {
        (case.name, case.form) for case in found
    }
    assert not any(case.real for case in found)


def test_real_model_runs_at_the_size_that_it_states(tmp_path: Path) -> None:
    ZOO["unet"].build(tmp_path / "roto.onnx", 96, 64)

    (case,) = cases(tmp_path, only=["roto"])

    assert (case.real, case.width, case.height, case.feeds) == (True, 96, 64, {"image": (1, 3, 64, 96)})
    case.build(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "roto.onnx").read_bytes()


def test_sum_of_outputs_is_over_what_lives_and_both_hold_the_weights(tmp_path: Path) -> None:
    ZOO["unet"].build(tmp_path / "model.onnx", 64, 64)

    found = estimates.estimates(tmp_path / "model.onnx", {"image": (1, 3, 64, 64)})

    assert 0 < found.weights < found.liveness < found.sum_of_outputs


def test_interpreter_without_onnx_tool_is_a_measurement_error(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="onnx_tool"):
        estimates.packed_by_onnx_tool(Path(sys.executable), tmp_path / "model.onnx", {})


def real_arena(path: Path, architecture: Architecture, size: tuple[int, int]) -> tuple[int, int, int]:
    """Most in use on the first run, most in use and arena from the second one on."""
    numpy = pytest.importorskip("numpy")
    values = {name: numpy.full(shape, 0.5, numpy.float32) for name, shape in architecture.feeds(*size).items()}
    with NativeSession(path) as session:
        session.run(values)
        first = session.statistics()
        for _ in range(2):
            session.run(values)
        steady = session.statistics()
    assert first is not None
    assert steady is not None
    return first.max_in_use, steady.max_in_use, steady.total_allocated


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are built in the sandbox of Linux")
@pytest.mark.parametrize(
    ("name", "form"),
    [("unet", "fixed"), ("separable", "free"), ("pyramid", "fixed"), ("pyramid", "free")],
)
def test_prediction_is_exact_on_nets_that_it_was_not_tuned_on_too(name: str, form: str, tmp_path: Path) -> None:
    """`separable` and `pyramid` are held out: no rule may be found on them; where one misses, the rule is wrong."""
    pytest.importorskip("onnxruntime")
    architecture, size = ZOO[name], (320, 256)
    path = tmp_path / "model.onnx"
    architecture.build(path, *(size if form == "fixed" else ()))
    contract = architecture.contract_at(*size) if form == "fixed" else architecture.contract

    said = predicted(path, contract, *size, MemoryPlan())

    _, in_use, arena = real_arena(path, architecture, size)
    assert said.range.low_bytes <= arena <= said.range.high_bytes
    if said.range.low_bytes == said.range.high_bytes:
        assert (said.steady.in_use_bytes, said.steady.arena_bytes) == (in_use, arena)


@pytest.mark.skipif(sys.platform != "linux", reason="models run in the sandbox of Linux")
def test_benchmark_predicts_runs_and_prints(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ZOO["separable"].build(tmp_path / "roto.onnx", 128, 64)

    code = bench.main(["--small", "--no-peers", "--only", "roto", "--models", str(tmp_path)])

    assert code == 0
    shown = capsys.readouterr().out
    assert "roto" in shown
    assert "Real models" in shown
