"""Golden shots, scores and verdicts of the demonstration, computed once a session on every fourth frame."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.verdict import ShotScore
from changeover_updater.demo.models import read_model
from changeover_updater.demo.render import Picture, draw_backdrop, render
from changeover_updater.demo.scene import sample_scene
from changeover_updater.demo.shots import FRAMES, SHOTS, SIZE
from changeover_validators.golden.colour import transform
from changeover_validators.golden.gates import BOUNDARY_F, JACCARD, MAD
from changeover_validators.golden.judge import Judgement, judge
from changeover_validators.golden.metrics import Measured, score_frame

Scores = Mapping[tuple[str, str], float]
METRICS = (JACCARD, BOUNDARY_F, MAD)


def run_onnx(model: bytes, plate: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matte [H, W] of a scene-linear plate, by the contract that every demonstration release states."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    coded = transform("scene-linear", None, "srgb", None).apply(plate.astype(np.float16))
    height, width = plate.shape[:2]
    padded = np.pad(coded, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")
    image = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
    matte: NDArray[np.float32] = session.run(None, {"image": image})[0][0, 0, :height, :width]
    return np.clip(matte, 0, 1)


@dataclass(frozen=True, slots=True)
class Judges:
    """Scores models on the shots and judges one against another."""

    pictures: Mapping[str, tuple[Picture, ...]]
    policy: GoldenPolicy = field(default_factory=GoldenPolicy)

    def score(self, model: bytes) -> Scores:
        """The mean of each metric over the frames of each shot, by (shot, metric)."""
        scores: dict[tuple[str, str], float] = {}
        for shot, pictures in self.pictures.items():
            frames = [score_frame(run_onnx(model, p.plate), p.matte, threshold=0.5) for p in pictures]
            for metric in METRICS:
                values = [frame[metric] for frame in frames]
                scores[shot, metric] = statistics.mean(v.value for v in values if isinstance(v, Measured))
        return scores

    def judge(self, candidate: Scores, current: Scores | None) -> Judgement:
        """What the default policy says."""
        rows = tuple(
            ShotScore(
                shot=shot,
                metric=metric,
                frames=len(self.pictures[shot]),
                candidate=f"{value:.6f}",
                current=None if current is None else f"{current[shot, metric]:.6f}",
            )
            for (shot, metric), value in candidate.items()
        )
        return judge(rows, self.policy, baseline=current is not None)


@pytest.fixture(scope="session")
def judges() -> Judges:
    pictures = {}
    for shot in SHOTS:
        scene = sample_scene(shot.seed, shot.kind, shot.level, SIZE)
        backdrop = draw_backdrop(scene)
        pictures[shot.name] = tuple(render(scene, float(frame), backdrop) for frame in range(0, FRAMES, 4))
    return Judges(pictures)


@pytest.fixture(scope="session")
def committed(judges: Judges) -> Callable[[str], Scores]:
    known: dict[str, Scores] = {}

    def scores(version: str) -> Scores:
        if version not in known:
            known[version] = judges.score(read_model(version))
        return known[version]

    return scores
