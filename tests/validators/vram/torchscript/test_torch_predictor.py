"""Answers for TorchScript: from a recorder that really runs, from one that pretends, and from traces that are given."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.memory import Calibration, MemoryPlan, WorkspaceRate
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    Variant,
)
from changeover_validators.probe import forged_host, nuke_install
from changeover_validators.vram.derive import anchors, derive
from changeover_validators.vram.lines import line_of
from changeover_validators.vram.predictor import Predictor, Target
from changeover_validators.vram.replay import Device, resident
from changeover_validators.vram.torch_predictor import TorchPredictor, twin_target
from changeover_validators.vram.trace import Trace

MIB = 1 << 20
OWN = MemoryPlan()
LINE = line_of("2.1.1")
Make = Callable[..., Trace]
Pretend = Callable[[str], str]

RECORDER = """
import json, sys
asked = json.loads(sys.stdin.readline())
kind = sys.argv[1]
for session in range(asked["sessions"]):
    for width, height in asked["sizes"]:
        if kind == "one size" and (width, height) != (640, 512) or kind == "no size":
            print('{"error":{"class":"RuntimeError","text":"out of memory"}}', flush=True)
            sys.exit()
        feature = width * height * 32 + ((width * height // 256) ** 2 * 4 if kind == "attention" else 0)
        if kind == "varying":
            feature *= session % 2 + 1
        steps = [[0, width * height * 12, 0, 0], [1, feature, 1, 1], [2, feature, 1, 0], [1]]
        steps += [[3, width * height * 4, 2, 2], [2], [0], [3]]
        print(json.dumps({
            "torch": "2.7.1", "device": "cpu", "width": width, "height": height, "weights": [5000000],
            "operators": ["input", "aten::conv2d", "aten::sigmoid"], "calls": [steps] * asked["calls"],
        }), flush=True)
"""


@pytest.fixture
def predictor(
    isolated: None, scripts: Path, contracts: dict[str, Contract], target: Target, pretend: Pretend, tmp_path: Path
) -> Callable[..., TorchPredictor]:
    """A predictor whose recorder makes up a net of the given kind."""

    def make(kind: str, sessions: int = 5, resize: tuple[int, int] | None = None, **changes: Any) -> TorchPredictor:
        program = pretend(f'exec /usr/bin/python3 -I "$(dirname "$0")/recorder.py" \'{kind}\'')
        (Path(program).parent / "recorder.py").write_text(RECORDER)
        here = replace(target, interpreter=program, **changes)
        contract = contracts["conv"].model_copy(update={"resize": resize})
        return TorchPredictor(scripts, "conv.pt", contract, here, sessions=sessions)

    return make


@pytest.fixture
def given(scripts: Path, contracts: dict[str, Contract], target: Target) -> Callable[..., TorchPredictor]:
    """A predictor that has traces already, and no interpreter."""

    def make(*traces: Trace, **changes: Any) -> TorchPredictor:
        here = replace(target, interpreter=None, **changes)
        return TorchPredictor(scripts, "conv.pt", contracts["conv"], here, traces=traces)

    return make


def calibration(**changes: Any) -> Calibration:
    fields: dict[str, Any] = {
        "gpu": "NVIDIA RTX A4000",
        "compute_capability": "8.6",
        "driver": "580.1",
        "runtime": "torch",
        "version": "2.1.1",
        "made_at": "2026-11-22T00:00:00Z",
        "context_bytes": 260 * MIB,
        "libraries_bytes": 40 * MIB,
        "source": "three sessions that were thrown away",
    }
    return Calibration(**(fields | changes))


def test_a_large_size_is_answered_from_small_recordings_of_the_real_net(
    isolated: None,
    scripts: Path,
    contracts: dict[str, Contract],
    target: Target,
    recorded: Callable[..., tuple[Trace, ...]],
) -> None:
    asked: Predictor = TorchPredictor(scripts, "unet.pt", contracts["unet"], target, sessions=2)

    answer = asked.answer(1920, 1088, OWN)

    at = anchors(contracts["unet"].multiple)
    trace = derive(recorded("unet", *at.sizes()), at, 1920, 1088)
    assert trace is not None
    replay = resident([trace], Device(LINE, LINE.blas))
    assert answer.steady == replay.steady
    assert answer.requested_bytes == replay.requested_bytes
    assert (answer.range.low_bytes, answer.range.high_bytes) == (replay.steady.arena_bytes,) * 2
    assert answer.range.sessions == 2
    assert answer.label == "modelled"
    assert (answer.key.version, answer.key.gpu, answer.key.width) == ("2.1.1", "NVIDIA RTX A4000", 1920)
    assert answer.total_bytes == 300 * MIB + replay.steady.arena_bytes == answer.part("resting")
    assert answer.total_bytes == sum(part.bytes for part in answer.parts if part.name != "resting")


@pytest.mark.parametrize("kind", ["plain", "varying"])
def test_a_range_is_over_five_sessions_that_may_differ(predictor: Callable[..., TorchPredictor], kind: str) -> None:
    asked = predictor(kind)

    small, large = asked.answer(512, 480, OWN), asked.answer(1024, 768, OWN)

    for answer in (small, large):
        assert answer.range.sessions == 5
        assert (answer.range.low_bytes < answer.range.high_bytes) == (kind == "varying")
        # Three of the five sessions ask for less.
        assert answer.steady.arena_bytes == answer.range.low_bytes
        assert answer.total_bytes == 300 * MIB + answer.range.high_bytes
    assert large.requested_bytes == 5_000_000 + 1024 * 768 * (12 + 64 * (2 if kind == "varying" else 1))


@pytest.mark.parametrize(("kind", "alike"), [("attention", True), ("one size", False)])
def test_what_does_not_follow_from_small_sizes_is_recorded_at_its_own(
    predictor: Callable[..., TorchPredictor], kind: str, alike: bool
) -> None:
    asked = predictor(kind, sessions=3)

    traces = asked.traces(640, 512)

    pixels = 640 * 512
    feature = pixels * 32 + ((pixels // 256) ** 2 * 4 if kind == "attention" else 0)
    assert [trace.calls[-1].allocations[2].size for trace in traces] == [feature] * 3
    assert (traces[0] is traces[1]) == alike
    assert asked.traces(640, 512) is traces


def test_a_contract_with_a_size_of_its_own_is_recorded_at_that_size(predictor: Callable[..., TorchPredictor]) -> None:
    asked = predictor("one size", sessions=1, resize=(640, 512))

    assert asked.answer(640, 512, OWN).range.sessions == 1
    assert "_anchored" not in vars(asked)


def test_what_cannot_be_recorded_is_undecided_and_says_why(predictor: Callable[..., TorchPredictor]) -> None:
    with pytest.raises(UndecidedError, match="a recording of the model's allocations, found out of") as caught:
        predictor("no size").answer(320, 256, OWN)

    assert "RuntimeError: out of memory" in caught.value.actual


def test_on_the_cpu_nothing_is_kept_beyond_what_is_in_use(predictor: Callable[..., TorchPredictor]) -> None:
    asked = predictor("plain", sessions=1, provider="cpu", gpu=None, context_bytes=0)

    answer = asked.answer(320, 256, OWN)

    assert answer.steady.in_use_bytes == answer.steady.arena_bytes == answer.requested_bytes
    assert answer.part("fragmentation") == 0
    assert answer.total_bytes == answer.requested_bytes == 5_000_000 + 320 * 256 * (12 + 64)
    assert asked.runs_in(320, 256, OWN, answer.requested_bytes)
    assert not asked.runs_in(320, 256, OWN, answer.requested_bytes - 1)


def test_it_runs_in_what_it_reserves_and_not_in_what_is_in_use_less_one_segment(
    predictor: Callable[..., TorchPredictor],
) -> None:
    asked = predictor("plain", sessions=2)
    steady = asked.answer(1024, 768, OWN).steady

    assert asked.runs_in(1024, 768, OWN, steady.arena_bytes)
    assert not asked.runs_in(1024, 768, OWN, steady.in_use_bytes - 2 * MIB)


def test_a_trace_of_a_gpu_is_calibrated_and_needs_no_interpreter(
    given: Callable[..., TorchPredictor], made: Make
) -> None:
    steps = [(30 * MIB, "script", ""), (50 * MIB, "script", ""), 0, 1]
    gpu = made([9 * MIB], steps, device="cuda", width=64, height=64, libraries=(8519680,))
    other = replace(gpu, weights=(15 * MIB,))

    answer = given(gpu, other, gpu, gpu, gpu, calibration=calibration()).answer(64, 64, OWN)

    assert answer.label == "calibrated"
    assert {part.label for part in answer.parts} == {"calibrated"}
    assert answer.part("context") == 300 * MIB
    # 9 MiB and the workspace of cuBLAS share 20 MiB; 15 MiB get 16 of their own, and the workspace 20 more.
    assert (answer.range.low_bytes, answer.range.high_bytes) == (100 * MIB, 116 * MIB)
    assert answer.steady.arena_bytes == 100 * MIB
    assert answer.part("weights") == 16 * MIB
    assert answer.part("workspace") == 8519680
    without = given(gpu, context_bytes=MIB).answer(64, 64, OWN)
    assert without.label == "modelled"
    assert (without.part("context"), without.parts[1].label) == (MIB, "calibrated")


def test_measured_workspaces_stand_for_those_of_the_cpu(predictor: Callable[..., TorchPredictor]) -> None:
    rate = WorkspaceRate(operator="aten::conv2d", constant_bytes=3 * MIB, per_thousand=0)
    asked = predictor("plain", sessions=1, calibration=calibration(workspaces=(rate,)))

    answer = asked.answer(320, 256, OWN)

    # Input, feature and the workspace while the convolution runs.
    assert answer.requested_bytes == 5_000_000 + 320 * 256 * (12 + 32) + 3 * MIB
    assert answer.part("workspace") == 3 * MIB
    assert answer.part("context") == 300 * MIB
    assert answer.label == "modelled"


@pytest.mark.parametrize(
    ("gpu", "capability", "lent"),
    [
        ("NVIDIA RTX A4000", None, LINE.blas),
        ("NVIDIA H100 PCIe", None, LINE.blas_hopper),
        ("a card of next year", None, LINE.blas),
        ("a card of next year", "12.0", LINE.blas_hopper),
    ],
)
def test_what_cublas_is_lent_depends_on_the_card(
    given: Callable[..., TorchPredictor], made: Make, gpu: str, capability: str | None, lent: int
) -> None:
    known = None if capability is None else calibration(compute_capability=capability)
    asked = given(gpu=gpu, calibration=known)

    replay = resident([made([], [(MIB, "aten::linear", ""), 0])], asked.device)

    assert replay.requested_bytes == lent + MIB


def test_only_the_default_plan_is_one_of_torch(given: Callable[..., TorchPredictor], made: Make) -> None:
    asked = given(made([], [(MIB, "script", ""), 0], device="cuda"))

    with pytest.raises(InvalidInputError, match="memory plan"):
        asked.answer(256, 256, MemoryPlan(shrink="each-run"))
    with pytest.raises(InvalidInputError, match="memory plan"):
        asked.runs_in(256, 256, MemoryPlan(pattern=False), MIB)


def test_without_evidence_the_answer_is_undecided(
    given: Callable[..., TorchPredictor], made: Make, scripts: Path, contracts: dict[str, Contract], target: Target
) -> None:
    elsewhere = given(made([], [(MIB, "script", ""), 0], device="cpu"))
    with pytest.raises(UndecidedError, match="a Python with torch"):
        elsewhere.answer(256, 256, OWN)
    with pytest.raises(UndecidedError, match="a .cat, which only Nuke loads"):
        TorchPredictor(scripts, "roto.cat", contracts["conv"], target).answer(256, 256, OWN)
    unknown = given(made([], [(MIB, "script", ""), 0], device="cuda"), version="3.1")
    with pytest.raises(UndecidedError, match="no row"):
        unknown.answer(256, 256, OWN)


def test_a_cat_is_answered_by_its_twin_under_the_torch_of_the_nuke(contracts: dict[str, Contract]) -> None:
    host = forged_host("no-gpu").model_copy(update={"nukes": (nuke_install("15.1v3"),)})
    cat, twin = _variant(contracts, "cat", derived_from="ts"), _variant(contracts, "ts")

    assert twin_target(_release(cat, twin), cat, host) == (twin, "2.1.1")

    alone = _variant(contracts, "cat")
    with pytest.raises(UndecidedError, match="a TorchScript twin"):
        twin_target(_release(alone, twin), alone, host)
    old = host.model_copy(update={"nukes": (nuke_install("13.0v1"),)})
    with pytest.raises(UndecidedError, match="a Nuke with a known torch line"):
        twin_target(_release(cat, twin), cat, old)


def _variant(contracts: dict[str, Contract], name: str, **fields: Any) -> Variant:
    is_cat = name == "cat"
    entry = f"roto.{name}"
    return Variant(
        id=name,
        runtime="nuke-cat" if is_cat else "torchscript",
        precision="fp32",
        loaders=("nuke-inference",) if is_cat else ("python",),
        entry=entry,
        files=(FileEntry(path=entry, size=0, sha256="0" * 64, blocks=()),),
        contract=contracts["conv"],
        requires=Requires(torch_line="2.1.1"),
        **fields,
    )


def _release(*variants: Variant) -> Release:
    return Release(
        model="acme/person-roto",
        version="1.0.0",
        summary="mattes of people",
        changes="first",
        licences=Licences(code="MIT", weights="Apache-2.0", training_data="LicenseRef-Acme"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("R", "G", "B"), colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("alpha",), colour="raw"),),
        ),
        variants=variants,
    )
