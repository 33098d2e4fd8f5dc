"""Scoring in threads of its own, one for each subject: the metrics of a frame need the frame before, so order matters.

Each thread takes mattes from a short line and keeps numbers alone. Where the frame before is not there (missing and
allowed to be, or not scored), what needs it is not defined, with that reason. Left out: the metrics (`metrics`), and
what the numbers become (`curves`).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from changeover_registry.records.golden import GoldenShot
from changeover_validators.golden._channel import Channel, CutError
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.jobs import Plane
from changeover_validators.golden.metrics import FrameScorer, FrameScores, NotAvailable

__all__ = ["Given", "Scorer", "gap_before"]

_ROOM = 1
"""Frames that wait for a scorer: enough to bridge the turns of the two models."""
_NEEDS_NEIGHBOUR = tuple("neighbour" in metric.needs for metric in METRICS)


@dataclass(frozen=True, slots=True)
class Given:
    """One matte to score: the place among the scored frames, the frame's number, both mattes float32 [H, W]."""

    place: int
    number: int
    prediction: Plane
    truth: Plane


class Scorer(threading.Thread):
    """Scores one subject's mattes in frame order.

    Args:
        role: Whose mattes they are.
        shot: What they are mattes of.
        threshold: Masks are ``matte > threshold``.
        region: Outside it nothing is scored.
        scored: Called after each frame, in this thread.
    """

    def __init__(
        self,
        role: str,
        shot: GoldenShot,
        *,
        threshold: float,
        region: NDArray[np.bool_] | None,
        scored: Callable[[Given, FrameScores], None] = lambda _given, _scores: None,
    ) -> None:
        super().__init__(name=f"golden-score-{role}", daemon=True)
        self._shot, self._scored = shot, scored
        self._scorer = FrameScorer(threshold=threshold, region=region)
        self._last: int | None = None
        self.line: Channel[Given] = Channel(_ROOM)
        self.rows: dict[int, FrameScores] = {}
        self.band_px: int | None = None
        self.error: BaseException | None = None
        self.cpu_ns = 0

    def run(self) -> None:
        """Score until the line ends. An error is kept, and cuts the line so that nobody waits for it to be emptied."""
        try:
            for given in self.line:
                self._score(given)
                del given
        except CutError:
            pass
        except BaseException as caught:  # noqa: BLE001 - whatever it is, the pipeline raises it
            self.error = caught
            self.line.cut()
        self.cpu_ns = time.thread_time_ns()

    def _score(self, given: Given) -> None:
        gap = gap_before(self._shot, given.number, self._last)
        if gap is not None:
            self._scorer.reset()
        scores = self._scorer.score(given.prediction, given.truth)
        self._last, self.band_px = given.number, scores.band_px
        self.rows[given.place] = scores if gap is None else _without_neighbour(scores, gap)
        self._scored(given, self.rows[given.place])


def gap_before(shot: GoldenShot, number: int, last: int | None) -> str | None:
    """Why the frame before `number` cannot be compared with, or None where it is `last`, the one scored before."""
    if last == number - 1:
        return None
    if number - 1 in (shot.missing or ()):
        return f"frame {number - 1} is missing, which was allowed"
    if number == shot.frames[0].number:
        return f"frame {number} is the first one"
    there = any(frame.number == number - 1 for frame in shot.frames)
    return f"frame {number - 1} is not scored" if there else f"there is no frame {number - 1}"


def _without_neighbour(scores: FrameScores, why: str) -> FrameScores:
    values = tuple(
        NotAvailable(why) if needs else value for needs, value in zip(_NEEDS_NEIGHBOUR, scores.values, strict=True)
    )
    return replace(scores, values=values)
