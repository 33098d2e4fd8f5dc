"""Chosen plans against what the arena of a real session holds, on every architecture of the zoo."""

import os
import sys
from pathlib import Path

import pytest

from changeover_registry.records.memory import MemoryAnswer, MemoryKey, MemoryPlan, MemoryRange, Steady
from changeover_registry.records.release import Contract, TensorIn, TensorOut
from changeover_validators.vram.bench_plans import Compared, Ran, main, run_here
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.plans import Choice, choose_plan
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.zoo import Architecture, architectures

onnxruntime = pytest.importorskip("onnxruntime")

WIDTH, HEIGHT, RUNS = 320, 192, 4


@pytest.fixture(params=architectures(), ids=lambda one: one.name)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    one: Architecture = request.param
    return one


@pytest.fixture
def model(architecture: Architecture, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    architecture.build(path)
    return path


def predictor_of(architecture: Architecture, model: Path) -> OnnxPredictor:
    target = Target("onnxruntime", onnxruntime.__version__, "cpu", interpreter=sys.executable)
    return OnnxPredictor(model.parent, model.name, architecture.contract, target, sessions=1)


def ran(architecture: Architecture, model: Path, plan: MemoryPlan) -> Ran:
    return run_here(model, plan, tuple(architecture.feeds(WIDTH, HEIGHT).items()), RUNS)


def test_the_chosen_plan_holds_less_than_the_runtimes_own_settings_and_answers_the_same_bits(
    architecture: Architecture, model: Path
) -> None:
    choice = choose_plan(predictor_of(architecture, model), WIDTH, HEIGHT)

    own, planned = ran(architecture, model, MemoryPlan()), ran(architecture, model, choice.plan)

    assert choice.plan != MemoryPlan()
    assert planned.peak_bytes < own.peak_bytes
    assert planned.digest == own.digest
    assert abs(planned.peak_bytes / choice.answer.range.high_bytes - 1) <= 0.01


@pytest.mark.parametrize(
    ("name", "given", "answer", "side"),
    [
        ("sinet.onnx", "data", "Softmax/1", 320),
        ("prisma.onnx", "input_3", "permute_2", 256),
        ("deeplab.onnx", "MobilenetV2/MobilenetV2/input:0", "transpose:0", 513),
    ],
)
def test_published_portrait_models_hold_less_than_half_and_answer_the_same_bits(
    name: str, given: str, answer: str, side: int
) -> None:
    root = Path(__file__).parents[3]
    path = Path(os.environ.get("CHANGEOVER_TEST_DATA", root.parent / "shared" / "data")) / "models" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name=given, port="plate", channels=("R", "G", "B")),),
        output=TensorOut(name=answer, port="matte"),
        colour="srgb",
    )
    target = Target("onnxruntime", onnxruntime.__version__, "cpu", interpreter=sys.executable)
    choice = choose_plan(OnnxPredictor(path.parent, name, contract, target, sessions=1), side, side)

    feeds = ((given, (1, 3, side, side)),)
    own, planned = run_here(path, MemoryPlan(), feeds, RUNS), run_here(path, choice.plan, feeds, RUNS)

    assert planned.digest == own.digest
    assert planned.peak_bytes < own.peak_bytes / 2
    assert abs(planned.peak_bytes / choice.answer.range.high_bytes - 1) <= 0.01


def test_plans_that_were_passed_over_run_as_they_were_simulated_and_change_no_bit(tmp_path: Path) -> None:
    architecture = next(one for one in architectures() if one.name == "resnet-aspp")
    path = tmp_path / "model.onnx"
    architecture.build(path)
    predictor, own = predictor_of(architecture, path), ran(architecture, path, MemoryPlan())
    plans = (
        MemoryPlan(extend="same-as-requested"),
        MemoryPlan(extend="same-as-requested", pattern=False),
        MemoryPlan(pattern=False),
        MemoryPlan(extend="same-as-requested", shrink="each-run"),
    )

    for plan in plans:
        kept = plan.model_copy(update={"shrink": "never"})
        high = predictor.answer(WIDTH, HEIGHT, kept).range.high_bytes
        other = ran(architecture, path, plan)
        assert other.digest == own.digest
        assert other.peak_bytes <= high * 1.01
        assert plan.shrink != "never" or other.peak_bytes >= high * 0.99


def test_frozen_shapes_change_bits_of_some_model_which_is_why_no_choice_takes_them(tmp_path: Path) -> None:
    architecture = next(one for one in architectures() if one.name == "pyramid")
    path = tmp_path / "model.onnx"
    architecture.build(path)

    own, frozen = ran(architecture, path, MemoryPlan()), ran(architecture, path, MemoryPlan(freeze=True))

    assert frozen.digest != own.digest
    assert not choose_plan(predictor_of(architecture, path), WIDTH, HEIGHT, one_size=True).plan.freeze


def test_a_plan_that_holds_more_or_changes_a_bit_does_not_hold() -> None:
    key = MemoryKey(model="0" * 64, runtime="onnxruntime", version="1", provider="cpu", width=8, height=8)
    answer = MemoryAnswer(
        key=key,
        steady=Steady(in_use_bytes=1, arena_bytes=1),
        range=MemoryRange(low_bytes=1, high_bytes=110, sessions=1),
        parts=(),
        total_bytes=0,
        requested_bytes=1,
        label="modelled",
    )
    choice = Choice("none", MemoryPlan(), answer, ())
    own, planned = Ran(200, 200, "a", 100), Ran(100, 100, "a", 110)

    good = Compared("x", "512p", choice, own, planned)
    assert (good.holds, good.saved) == (True, 0.5)
    assert 0.09 < good.error < 0.11
    assert 0.9 < good.speed < 0.92
    assert not Compared("x", "512p", choice, planned, own).holds
    assert not Compared("x", "512p", choice, own, Ran(100, 100, "b", 110)).holds


def test_the_bench_runs_each_way_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("changeover_validators.vram.bench_plans.SIZES", {"512p": (WIDTH, HEIGHT)})
    monkeypatch.setattr("changeover_validators.vram.bench_plans._TURNS", 1)

    code = main(["--sizes", "512p", "--only", "resnet-aspp"])

    said = capsys.readouterr().out
    assert code == 0
    assert "resnet-aspp" in said
    assert "more memory or other bits: none" in said
