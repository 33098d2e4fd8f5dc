"""Real kills: a set that is scored shot by shot is killed in the middle and run again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from changeover_validators.golden.sets import create_set, load_set
from changeover_validators.golden.shots import NewShot, add_shot

SHOTS = ("a", "b", "c")
SCORE_THE_SET = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changeover_registry.records.release import Contract, Port, TensorIn, TensorOut, Tile
from changeover_registry.records.scores import ScoreKey, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden.pipeline import ShotJob, Subject, score_shot
from changeover_validators.golden.results import ResultStore
from changeover_validators.golden.sets import create_set, load_set, shot_folder
from changeover_validators.runtimes.interface import Started

golden, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
port = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
contract = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    colour="scene-linear",
)
point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")


@dataclass
class Inferred:
    matte: Any
    frame_us: int = 1


class Green:
    def infer(self, planes, *, reset):
        time.sleep(seconds)
        return Inferred(planes["plate"][..., 1])


def say(*words):
    print(*words, flush=True)


subject = Subject(Green(), contract, (port,), Started("cpu", 0, "1", "none"))
one = SubjectKey(files=("a" * 64,), contract="b" * 64, point=point)
store = ResultStore(folder)
for shot in load_set(golden, "hair")[1]:
    key = ScoreKey(shot=shot.digest(), candidate=one, current=one, threshold="0.5", metrics="m", golden_class="c" * 64)
    if store.get(key) is not None:
        say("there", shot.shot)
        continue
    job = ShotJob(shot, shot_folder(golden, shot), key, subject, subject, "host")
    store.put(score_shot(job, lambda step: say("frame", step.shot, step.frame)))
    say("scored", shot.shot)
"""


@pytest.fixture
def golden(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """A set of three shots of six small frames."""
    create_set(tmp_path / "golden", "hair")
    for name in SHOTS:
        for number in range(1, 7):
            plate = np.random.default_rng([number, *name.encode()]).random((12, 20, 3))
            write_image(tmp_path / name / f"plate.{number}.exr", plate, ("R", "G", "B"))
            write_image(tmp_path / name / f"matte.{number}.exr", plate[..., :1], ("A",))
        new = NewShot(
            set="hair",
            shot=name,
            plate=str(tmp_path / name / "plate.%d.exr"),
            matte=str(tmp_path / name / "matte.%d.exr"),
            matte_channel="A",
            colour="scene-linear",
            level=1,
            added_by="ana",
            approved_by="Jane Doe",
        )
        add_shot(tmp_path / "golden", new, now=datetime(2026, 11, 22, tzinfo=UTC))
    assert len(load_set(tmp_path / "golden", "hair")[1]) == 3
    return tmp_path / "golden"


def start(golden: Path, scores: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCORE_THE_SET, str(golden), str(scores), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> list[str]:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [line for line in said.splitlines() if not line.startswith("frame")]


def files(scores: Path) -> dict[str, bytes]:
    """Every filed byte apart from times."""
    paths = [path for path in scores.rglob("*") if path.is_file() and path.name not in {"times.json", ".lock"}]
    return {str(path.relative_to(scores)): path.read_bytes() for path in paths}


def test_a_run_that_was_killed_goes_on_where_it_was_and_gives_the_same_bytes(golden: Path, tmp_path: Path) -> None:
    assert finished(start(golden, tmp_path / "clean", 0)) == ["scored a", "scored b", "scored c"]
    with start(golden, tmp_path / "scores", 0.05) as process:
        assert process.stdout is not None
        line = ""
        while line != "frame b 3\n":
            line = process.stdout.readline()
            assert line, "it ended before it was killed"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = {path: path.stat() for path in (tmp_path / "scores").rglob("scores.json")}
    assert len(done) == 1, "the first shot is filed, and nothing of the second"
    assert finished(start(golden, tmp_path / "scores", 0)) == ["there a", "scored b", "scored c"]
    assert all(path.stat().st_mtime_ns == before.st_mtime_ns for path, before in done.items())
    assert files(tmp_path / "scores") == files(tmp_path / "clean")
    assert finished(start(golden, tmp_path / "scores", 60)) == ["there a", "there b", "there c"]
