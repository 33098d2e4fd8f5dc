"""The frame on which the candidate lost most, found while the shot goes by.

The loss is the candidate's mean absolute difference less the current release's (without one, the candidate's own); of
equal losses the first frame counts. Kept are the mattes of that frame alone. Plate and truth are read again where
pictures are made of them. Left out: the pictures (`pictures`).
"""

import threading
from dataclasses import dataclass

from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.jobs import Plane
from changeover_validators.golden.metrics import FrameScores, Measured
from changeover_validators.golden.scorers import Given

__all__ = ["Worst", "WorstKeeper"]

_MAD = next(place for place, metric in enumerate(METRICS) if metric.name == "mad:rvm")


@dataclass(frozen=True, slots=True)
class Worst:
    """A frame: its loss, its number, the mattes of candidate and current, and the candidate's worst pixel on it.

    `x` counts to the right, `y` down; `difference` is candidate minus truth there.
    """

    loss: float
    number: int
    mattes: tuple[Plane, ...]
    x: int
    y: int
    difference: float


class WorstKeeper:
    """Takes what each scorer has scored, in any interleaving, and keeps the worst frame.

    Args:
        subjects: How many there are: a frame is compared when all are through with it.
    """

    def __init__(self, subjects: int) -> None:
        self._subjects = subjects
        self._waiting: dict[int, dict[int, tuple[Plane, FrameScores]]] = {}
        self._lock = threading.Lock()
        self.worst: Worst | None = None

    def take(self, subject: int, given: Given, scores: FrameScores) -> None:
        """One subject's frame: 0 is the candidate, 1 the current release."""
        with self._lock:
            parts = self._waiting.setdefault(given.place, {})
            parts[subject] = (given.prediction, scores)
            if len(parts) < self._subjects:
                return
            del self._waiting[given.place]
            loss = _loss([parts[place][1] for place in range(self._subjects)])
            if self.worst is None or loss > self.worst.loss:
                mattes = tuple(parts[place][0] for place in range(self._subjects))
                self.worst = Worst(loss, given.number, mattes, *parts[0][1].worst)


def _loss(scores: list[FrameScores]) -> float:
    """Minus infinity where it is not defined: any frame on which it is defined is worse."""
    values = [score.values[_MAD] for score in scores]
    measured = [value.value for value in values if isinstance(value, Measured)]
    if len(measured) < len(values):
        return float("-inf")
    return measured[0] - measured[1] if len(measured) > 1 else measured[0]
