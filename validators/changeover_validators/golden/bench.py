"""How fast the metrics are, beside the same metrics as they are usually written (`_reference`), in one run.

    python -m changeover_validators.golden.bench [--size 1080p|4k|small] [--repeat N] [--noisy] [--markdown]

Reference and ours take turns on one thread, so that both see the same machine; seconds are those that the thread
worked, and the ratio of the medians is what counts. Every value is compared too: a fast wrong number ends the run. The
figure has 600 anti-aliased hairs, an island and a semi-transparent veil; the prediction is shifted, blurred and noisy,
with holes and specks. With ``--noisy`` there is noise in every pixel, so that nothing is flat and nothing is skipped.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._frame import Before, Frame, Region
from changeover_validators.golden._reference import REFERENCES, Frames
from changeover_validators.golden.metrics import COMPUTED, FrameScorer, Measured, NotAvailable

__all__ = ["GROUPS", "SIZES", "Row", "compare", "figure", "main", "table"]

Matte = NDArray[np.float32]
Score = Measured | NotAvailable
Result = TypeVar("Result")

SIZES = {"small": (480, 270), "1080p": (1920, 1080), "4k": (4096, 2160)}
"""Width and height."""

GROUPS = {
    "J, F": ("jaccard:davis2017", "boundary_f:davis2017"),
    "Boundary IoU": ("boundary_iou:cheng2021",),
    "MAD, MSE, SAD, dtSSD, flicker": (
        "mad:rvm",
        "mse:rvm",
        "sad:dim",
        "dtssd:rvm",
        "flicker:mean-abs",
        "flicker-truth:mean-abs",
    ),
    "Grad": ("grad:rvm-lr",),
    "Conn": ("conn:rvm-lr",),
    "MAD, Grad, dtSSD in the band": ("mad:truth-band", "grad:truth-band", "dtssd:truth-band"),
    "Empty": ("empty:threshold",),
}
"""What is timed together: one reading of the frame serves all of a group."""

OF_THE_REPORT = ("J, F", "Boundary IoU", "MAD, MSE, SAD, dtSSD, flicker", "Grad", "Conn")
"""The groups whose references make up "all together"; ours gives every metric of the catalogue in that time."""

_EXACT = ("jaccard:davis2017", "boundary_f:davis2017", "boundary_iou:cheng2021", "empty:threshold")


@dataclass(slots=True)
class Row:
    """One line of the table: seconds of each round."""

    name: str
    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the medians."""
        return statistics.median(self.reference) / statistics.median(self.ours)


class DisagreesError(Exception):
    """A metric and its reference give different numbers."""


def compare(frames: Frames, rounds: int) -> list[Row]:
    """Time every metric and its reference by turns, after one round that does not count.

    Returns:
        A row for each group, then "all together": one `FrameScorer.score`.

    Raises:
        DisagreesError: A value is not the reference's.
    """
    rows, together = [Row(name) for name in GROUPS], Row("all together")
    for number in range(rounds + 1):
        expected: dict[str, float | None] = {}
        for row in rows:
            values, reference, ours = _round(GROUPS[row.name], frames)
            expected |= values
            if number:
                row.reference.append(reference)
                row.ours.append(ours)
        seconds = _all(frames, expected)
        if number:
            together.ours.append(seconds)
    together.reference = _sums([row.reference for row in rows if row.name in OF_THE_REPORT])
    return [*rows, together]


def _round(names: Sequence[str], frames: Frames) -> tuple[dict[str, float | None], float, float]:
    """One group once: what the references say, their seconds, ours."""
    expected, reference = _timed(lambda: {name: REFERENCES[name](frames) for name in names})
    region = Region.of((frames[0].shape[0], frames[0].shape[1]), None)
    before = Frame(*frames[2:], region, 0.5, Before.none()).kept()
    values, ours = _timed(lambda: _group(names, Frame(*frames[:2], region, 0.5, before)))
    for name in names:
        _check(name, values[name], expected[name])
    return expected, reference, ours


def _group(names: Sequence[str], frame: Frame) -> dict[str, Score]:
    return {name: COMPUTED[name](frame) for name in names}


def _all(frames: Frames, expected: Mapping[str, float | None]) -> float:
    """Seconds of scoring the second of two frames."""
    scorer = FrameScorer(threshold=0.5)
    scorer.score(*frames[2:])
    scores, seconds = _timed(lambda: scorer.score(*frames[:2]))
    for name, value in expected.items():
        _check(name, scores[name], value)
    return seconds


def figure(width: int, height: int, *, noisy: bool = False, seed: int = 7) -> Frames:
    """Prediction and truth of a frame and of the one before, on which the figure stood a little further left."""
    random = np.random.default_rng(seed)
    truth = _body(width, height)
    _add_hairs(truth, random)
    step = max(1, width // 640)
    before = np.roll(truth, -step, axis=1)
    return _predicted(truth, random, noisy=noisy), truth, _predicted(before, random, noisy=noisy), before


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """The rows as text, or as a Markdown table: medians in milliseconds and their ratio."""
    head = ("metrics", "reference ms", "ours ms", "times faster")
    lines = [head, *((row.name, _ms(row.reference), _ms(row.ours), f"{row.ratio:.1f}") for row in rows)]
    if markdown:
        lines.insert(1, ("---", "---:", "---:", "---:"))
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return "".join(f"{line[0]:32}{line[1]:>14}{line[2]:>10}{line[3]:>14}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a value is wrong."""
    parser = argparse.ArgumentParser(prog="python -m changeover_validators.golden.bench")
    parser.add_argument("--size", choices=sorted(SIZES), default="1080p")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--noisy", action="store_true", help="noise in every pixel: nothing is flat")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    width, height = SIZES[given.size]
    try:
        rows = compare(figure(width, height, noisy=given.noisy), max(1, given.repeat))
    except DisagreesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{width} x {height}, one thread, medians of {max(1, given.repeat)} rounds\n\n")
    sys.stdout.write(table(rows, markdown=given.markdown))
    return 0


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What came of it, and the seconds that this thread worked; what else the machine does is not in them."""
    begun = time.thread_time()
    result = work()
    return result, time.thread_time() - begun


def _sums(columns: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(values) for values in zip(*columns, strict=True)]


def _ms(seconds: Sequence[float]) -> str:
    value = 1000 * statistics.median(seconds)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _check(name: str, value: Score, expected: float | None) -> None:
    found = value.value if isinstance(value, Measured) else None
    same = found == expected
    if not same and name not in _EXACT and found is not None and expected is not None:
        same = math.isclose(found, expected, rel_tol=1e-5)
    if not same:
        message = f"{name}: expected {expected} as the reference, found {found}"
        raise DisagreesError(message)


def _disc(width: int, height: int, at: tuple[float, float], size: tuple[float, float]) -> Matte:
    """An ellipse with a soft edge of a pixel and a half; place and size (x, y) as shares of the frame's height."""
    y, x = np.ogrid[0:height, 0:width]
    far = np.hypot((x / height - at[0]) / size[0], (y / height - at[1]) / size[1])
    disc: Matte = np.clip((1 - far) * min(size) * height / 1.5 + 0.5, 0, 1).astype(np.float32)
    return disc


def _body(width: int, height: int) -> Matte:
    """Head, shoulders, an island beside them, and a veil of 0.35."""
    middle, share = 0.45 * width / height, width / height
    parts = [
        _disc(width, height, (middle, 0.35), (0.12, 0.16)),
        _disc(width, height, (middle, 0.95), (0.28, 0.45)),
        _disc(width, height, (0.85 * share, 0.2), (0.05, 0.05)),
        np.float32(0.35) * _disc(width, height, (0.65 * share, 0.6), (0.18, 0.25)),
    ]
    body: Matte = np.maximum.reduce(parts)
    return body


def _add_hairs(matte: Matte, random: np.random.Generator) -> None:
    """600 bent hairs around the head, less than a pixel to a few pixels wide, thinner towards their ends."""
    height, width = matte.shape
    for _ in range(600):
        angle, length, bend = (
            random.uniform(-math.pi, 0),
            random.uniform(0.05, 0.22) * height,
            random.uniform(-0.6, 0.6),
        )
        along = np.linspace(0, 1, int(2 * length) + 2)
        y = 0.35 * height + 0.15 * height * math.sin(angle) + along * length * np.sin(angle + bend * along)
        x = 0.45 * width + 0.11 * height * math.cos(angle) + along * length * np.cos(angle + bend * along)
        half = random.uniform(0.4, 1.0) * height / 1080
        reach = range(-math.ceil(half + 1), math.ceil(half + 1) + 1)
        for down in reach:
            for right in reach:
                v, u = np.floor(y).astype(int) + down, np.floor(x).astype(int) + right
                value = np.clip(half + 0.5 - np.hypot(v - y, u - x), 0, 1) * (1 - 0.5 * along)
                there = (v >= 0) & (v < height) & (u >= 0) & (u < width)
                np.maximum.at(matte, (v[there], u[there]), value[there].astype(np.float32))


def _predicted(truth: Matte, random: np.random.Generator, *, noisy: bool) -> Matte:
    """What a mediocre model makes of a truth."""
    from scipy import ndimage

    height, width = truth.shape
    scale = height / 1080
    matte = ndimage.gaussian_filter(ndimage.shift(truth, (1.2 * scale, 0.8 * scale), order=1), 0.8 * scale)
    noise = random.normal(0, 0.03, truth.shape)
    if not noisy:
        noise[(matte < 0.002) | (matte > 0.998)] = 0
        matte = np.where(noise == 0, np.round(matte), matte)
    answer: Matte = np.clip(matte + noise, 0, 1).astype(np.float32)
    for _ in range(60):
        side = int(random.integers(2, int(8 * scale) + 4))
        y, x = random.integers(0, height - side), random.integers(0, width - side)
        answer[y : y + side, x : x + side] = 1 - answer[y : y + side, x : x + side]
    return answer


if __name__ == "__main__":
    sys.exit(main())
