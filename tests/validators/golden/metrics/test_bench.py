from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from changeover_validators.golden import bench
from changeover_validators.golden._reference import REFERENCES
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.metrics import FrameScorer, Measured


def test_every_metric_is_timed_once() -> None:
    assert sorted(name for names in bench.GROUPS.values() for name in names) == sorted(one.name for one in METRICS)
    assert set(REFERENCES) == {one.name for one in METRICS}


@pytest.mark.parametrize("noisy", [False, True])
def test_on_the_small_figure_every_value_is_its_references(noisy: bool) -> None:
    """`compare` raises where one is not."""
    rows = bench.compare(bench.figure(*bench.SIZES["small"], noisy=noisy), 1)
    assert [row.name for row in rows] == [*bench.GROUPS, "all together"]
    assert all(row.ratio > 0 for row in rows)


@pytest.mark.parametrize(("name", "wrong"), [("jaccard:davis2017", 1e-16), ("conn:rvm-lr", 2e-5), ("mad:rvm", 2e-5)])
def test_a_wrong_value_ends_the_run(name: str, wrong: float) -> None:
    bench._check(name, Measured(0.5), 0.5)
    with pytest.raises(bench.DisagreesError, match=f"{name}: expected 0.5"):
        bench._check(name, Measured(0.5 + wrong), 0.5)


def test_the_figure_is_what_it_says(oracle: SimpleNamespace) -> None:
    prediction, truth, prediction_before, _ = bench.figure(480, 270)
    veil = (truth > 0.34) & (truth < 0.36)
    assert {matte.dtype for matte in (prediction, truth)} == {np.dtype(np.float32)}
    assert veil.sum() > 1000
    assert 0.05 < ((truth > 0) & (truth < 1)).mean() < 0.3
    assert len(oracle.edges(truth[:135] > 0.5)) > 1000
    assert 0 < np.abs(prediction - truth).mean() < 0.05
    assert np.abs(prediction - prediction_before).mean() > 0


def test_noise_everywhere_leaves_nothing_flat() -> None:
    quiet, noisy = (bench.figure(480, 270, noisy=flag)[0] for flag in (False, True))
    assert (quiet == 0).mean() > 0.5
    assert (noisy == 0).mean() < 0.5


def test_the_command_prints_a_table_of_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--size", "small", "--repeat", "1", "--markdown"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "480 x 270, one thread, medians of 1 rounds"
    assert printed[2] == "| metrics | reference ms | ours ms | times faster |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in printed[4:]] == [*bench.GROUPS, "all together"]
    assert bench.main(["--size", "small", "--repeat", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == [
        "metrics",
        "reference",
        "ms",
        "ours",
        "ms",
        "times",
        "faster",
    ]


@pytest.mark.parametrize("seed", range(12))
def test_at_the_size_of_a_proxy_every_value_is_its_references(seed: int) -> None:
    """Larger than a pixel by pixel oracle can reach: masks of many components, and tolerances of several pixels."""
    random = np.random.default_rng(seed)
    height, width = int(random.integers(100, 260)), int(random.integers(100, 400))
    coarse: Any = random.random((height // 9 + 2, width // 7 + 2, 4))
    frames: Any = np.repeat(np.repeat(coarse, 9, axis=0), 7, axis=1)[:height, :width]
    frames = np.clip(1.6 * frames - 0.3 + random.normal(0, 0.02 * (seed % 3), frames.shape), 0, 1).astype(np.float32)
    frames[..., 0] = np.where(random.random((height, width)) < 0.02, frames[..., 0], frames[..., 1])
    prediction, truth, prediction_before, truth_before = (frames[..., number] for number in range(4))
    scorer = FrameScorer(threshold=0.5)
    scorer.score(prediction_before, truth_before)
    scores = scorer.score(prediction, truth)
    for name, reference in REFERENCES.items():
        bench._check(name, scores[name], reference((prediction, truth, prediction_before, truth_before)))
