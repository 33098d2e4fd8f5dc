"""The pipeline with real ONNX files in real isolated children."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from changeover_registry.errors import MeasurementError
from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_registry.records.scores import ScoreKey, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden.frames import read_truth
from changeover_validators.golden.metrics import Measured, mad
from changeover_validators.golden.pipeline import Progress, ShotJob, Subject, score_shot
from changeover_validators.golden.sets import create_set, shot_folder
from changeover_validators.golden.shots import NewShot, add_shot
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import available
from changeover_validators.runtimes.watch import family_pids

PORT = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
CONTRACT = Contract(
    evaluation="sequence",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    states=(State(input="seen", output="seen_out"),),
    colour="scene-linear",
    pre_roll=1,
)


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose matte is a tenth of the number of frames that its state has seen."""
    if available().name is None:
        pytest.skip(f"no isolation here: {available().reason}")
    scalar = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Add", ["seen", "one"], ["seen_out"]),
        helper.make_node("Mul", ["seen_out", "tenth"], ["level"]),
        helper.make_node("ReduceMean", ["src"], ["grey"], axes=[1]),
        helper.make_node("Mul", ["grey", "zero"], ["black"]),
        helper.make_node("Add", ["black", "level"], ["pha"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, scalar, [value])
        for name, value in (("one", 1.0), ("tenth", 0.1), ("zero", 0.0))
    ]
    graph = helper.make_graph(
        nodes,
        "counter",
        [
            helper.make_tensor_value_info("src", TensorProto.FLOAT, [1, 3, "H", "W"]),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, scalar),
        ],
        [
            helper.make_tensor_value_info("pha", TensorProto.FLOAT, [1, 1, "H", "W"]),
            helper.make_tensor_value_info("seen_out", TensorProto.FLOAT, scalar),
        ],
        constants,
    )
    path = tmp_path_factory.mktemp("counter") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture
def shot(tmp_path: Path, write_image: Callable[..., Path]) -> tuple[Path, GoldenShot]:
    """Seven frames, the first two of which are pre-roll."""
    create_set(tmp_path / "golden", "hair")
    for number in range(1, 8):
        plate = np.random.default_rng(number).random((16, 24, 3))
        write_image(tmp_path / f"plate.{number}.exr", plate, ("R", "G", "B"))
        write_image(tmp_path / f"matte.{number}.exr", plate[..., :1], ("A",))
    new = NewShot(
        set="hair",
        shot="a",
        plate=str(tmp_path / "plate.%d.exr"),
        matte=str(tmp_path / "matte.%d.exr"),
        matte_channel="A",
        colour="scene-linear",
        level=1,
        added_by="ana",
        approved_by="Jane Doe",
        pre_roll=2,
    )
    added = add_shot(tmp_path / "golden", new, now=datetime(2026, 11, 22, tzinfo=UTC)).shot
    return shot_folder(tmp_path / "golden", added), added


@contextmanager
def opened(model: Path) -> Iterator[Subject]:
    request = RunRequest(
        interpreter=sys.executable,
        folder=model.parent,
        entry=model.name,
        runtime="onnx",
        contract=CONTRACT,
        tile=Tile(size=0),
        provider="cpu",
        sandbox="required",
        wall_seconds=60,
        ram_mib=4096,
        ports=(PORT,),
    )
    with ModelProcess(request) as process:
        yield Subject(process, CONTRACT, (PORT,), process.started)


def job(shot: tuple[Path, GoldenShot], subject: Subject) -> ShotJob:
    of = SubjectKey(files=("a" * 64,), contract="b" * 64, point=POINT)
    key = ScoreKey(shot=shot[1].digest(), candidate=of, threshold="0.5", metrics="m", golden_class="c" * 64)
    return ShotJob(shot[1], shot[0], key, subject, None, "host")


def test_a_real_model_counts_the_frames_of_each_shot_pre_roll_included(
    counter: Path, shot: tuple[Path, GoldenShot]
) -> None:
    expected = []
    for seen, frame in enumerate(shot[1].frames, start=1):
        if frame.scored:
            matte = np.full((16, 24), np.float32(seen) * np.float32(0.1), np.float32)
            value = mad(matte, read_truth(shot[1], shot[0], frame))
            assert isinstance(value, Measured)
            expected.append(f"{value.value:.9f}")
    with opened(counter) as subject:
        bundles = [score_shot(job(shot, subject)) for _ in range(2)]
    assert bundles[0].scores.to_bytes() == bundles[1].scores.to_bytes(), "the second run starts anew"
    (curve,) = [one for one in bundles[0].scores.curves if one.metric == "mad:rvm"]
    assert curve.values == tuple(expected)
    assert bundles[0].scores.frames == (3, 4, 5, 6, 7)
    assert bundles[0].scores.sandbox in {"bubblewrap", "namespaces"}
    assert len(bundles[0].times.candidate_us) == 7
    assert bundles[0].times.peak_ram_bytes


def test_a_child_that_dies_in_the_middle_is_an_error_that_names_shot_and_frame(
    counter: Path, shot: tuple[Path, GoldenShot]
) -> None:
    mine = set(family_pids(os.getpid()))

    def kill(step: Progress) -> None:
        if step.frame == 4:
            for pid in set(family_pids(os.getpid())) - mine:
                os.kill(pid, signal.SIGKILL)

    with (
        opened(counter) as subject,
        pytest.raises(MeasurementError, match="crash: golden shot a, frame 5: .*model.onnx"),
    ):
        score_shot(job(shot, subject), kill)
