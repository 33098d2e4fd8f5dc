import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from changeover_validators.golden.bench_pipeline import Footage, main, opened, write_footage
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.colour import linear_to_srgb
from changeover_validators.golden.frames import read_plate, read_truth
from changeover_validators.golden.metrics import FrameScorer, Measured
from changeover_validators.golden.results import Bundle

MOST_BYTES = 3 * 2**29

FRESH = """
import json, sys
from pathlib import Path
from changeover_validators.golden.bench_pipeline import measure, write_footage, write_model
folder = Path(sys.argv[1])
footage = write_footage(folder / "shot", frames=24, distinct=2, size=(4096, 2160))
models = [write_model(folder / f"model{at}" / "model.onnx", bias=bias) for at, bias in enumerate((0.0, 0.2))]
figures, bundle = measure(footage, (models[0], models[1]), sample=1)
(folder / "bundle").write_bytes(bundle.to_bytes())
print(json.dumps([figures.model_bytes, figures.peak_bytes, figures.beyond_bytes]))
"""
"""Measured in a process of its own: this one still holds what the tests before it needed."""


def one_after_the_other(footage: Footage, model: Path, count: int) -> list[tuple[str | None, ...]]:
    """The rows of the first frames, scored one after the other, without threads."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    encoded = linear_to_srgb(np.where(np.isfinite(halves), halves, 0).astype(np.float32))
    scorer = FrameScorer(threshold=0.5)
    rows: list[tuple[str | None, ...]] = []
    with opened(model) as subject:
        for frame in footage.shot.frames[:count]:
            pixels = read_plate(footage.shot, footage.folder, frame, ("R", "G", "B")).pixels
            matte = subject.model.infer({"plate": encoded[pixels.view(np.uint16)]}, reset=not rows).matte
            values = scorer.score(matte, read_truth(footage.shot, footage.folder, frame)).values
            rows.append(tuple(f"{one.value:.9f}" if isinstance(one, Measured) else None for one in values))
    return rows


def test_the_bench_tells_memory_and_time_of_a_small_shot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--frames", "4", "--size", "320", "180", "--folder", str(tmp_path)])
    said = capsys.readouterr().out
    for words in (
        r"6 distinct frames of 320 x 180",
        r"\n4 frames: [0-9.]+ s",
        r"decode alone: [0-9.]+ s",
        r"it took [0-9.]+ times that; others kept [0-9.]+ cores busy",
        r"beyond them -?[0-9]+ MiB",
        r"processor time a frame in this process: decode [0-9.]+ s, infer [0-9.]+ s, score [0-9.]+ s",
    ):
        assert re.search(words, said)
    assert list(tmp_path.iterdir()) == []


def test_24_frames_of_4k_stay_in_bounded_memory_and_give_what_a_plain_loop_gives(tmp_path: Path) -> None:
    """Two frames that come by turns: from the third on each row is that of the second or the third."""
    fresh = (sys.executable, "-c", FRESH, str(tmp_path))
    done = subprocess.run(fresh, capture_output=True, text=True, check=True, timeout=500)
    model_bytes, peak_bytes, beyond_bytes = json.loads(done.stdout)
    assert 0 < model_bytes < peak_bytes
    assert beyond_bytes < MOST_BYTES
    bundle = Bundle.from_bytes((tmp_path / "bundle").read_bytes(), where="bundle")
    footage = write_footage(tmp_path / "again", frames=3, distinct=2, size=(4096, 2160))
    models = [tmp_path / f"model{at}" / "model.onnx" for at in range(2)]
    for role, model in zip(("candidate", "current"), models, strict=True):
        rows = one_after_the_other(footage, model, 3)
        expected = [rows[0], *(rows[1 + at % 2] for at in range(23))]
        for at, metric in enumerate(METRICS):
            (curve,) = [one for one in bundle.scores.curves if (one.metric, one.subject) == (metric.name, role)]
            assert curve.values == tuple(row[at] for row in expected)
