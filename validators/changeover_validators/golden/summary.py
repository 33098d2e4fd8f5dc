"""From the frames' numbers to one number a shot: means, recall and decay, and the worst run of frames. Needs no numpy.

A mean is taken over the frames on which a metric is defined, for both subjects if there are two, exactly, and written
with nine digits: a shot's number is the same on every machine. A window is a run of neighbouring scored frames. Frames
are neighbours if they are as far apart as the shot's closest ones (every frame, or every tenth); a frame that is
missing, or on which the metric is not defined, ends a run. Left out: what is good enough (`judge`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import TypeAlias

from changeover_registry.records.scores import ShotScores
from changeover_registry.records.verdict import ShotScore
from changeover_validators.golden.catalogue import METRICS, Metric
from changeover_validators.golden.series import decay, recall

__all__ = ["shot_scores"]

_Values: TypeAlias = tuple[Decimal | None, ...]
_Row: TypeAlias = tuple[int, Decimal, Decimal | None]
_Losses: TypeAlias = list[tuple[int, Decimal]]
_DIGITS = Decimal("0.000000001")
_BOUND = {"jaccard:davis2017": "jaccard", "boundary_f:davis2017": "boundary_f"}
"""The curves of which recall and decay are taken, and what their names begin with."""


def shot_scores(results: Sequence[ShotScores], window: int) -> tuple[ShotScore, ...]:
    """One score for each shot and metric, in the order of `results` and of the catalogue; none where not defined.

    Args:
        results: The frames' numbers of each shot.
        window: How many frames a run has at most, at least 1. A shorter run counts whole.

    Returns:
        Means in each metric's unit. `window_loss` is how much worse the candidate's mean is than the current one's over
        the worst run (positive is worse), `window_first` that run's first frame.
    """
    return tuple(score for result in results for score in _of_shot(result, window))


def _of_shot(result: ShotScores, window: int) -> Iterator[ShotScore]:
    curves: dict[tuple[str, str], _Values] = {
        (curve.metric, curve.subject): _decimals(curve.values) for curve in result.curves
    }
    for metric in METRICS:
        candidate, current = curves.get((metric.name, "candidate")), curves.get((metric.name, "current"))
        rows = _rows(result.frames, candidate, current) if candidate else []
        if rows:
            yield _mean_score(result, metric, rows, window)
    yield from _summaries(result, curves)


def _decimals(values: Sequence[str | None]) -> _Values:
    return tuple(None if value is None else Decimal(value) for value in values)


def _rows(frames: Sequence[int], candidate: _Values, current: _Values | None) -> list[_Row]:
    """Frame, candidate's value and the current release's, of the frames on which each subject has one."""
    there = current or (None,) * len(frames)
    found = zip(frames, candidate, there, strict=True)
    return [
        (frame, one, other) for frame, one, other in found if one is not None and (other is not None or not current)
    ]


def _mean_score(result: ShotScores, metric: Metric, rows: Sequence[_Row], window: int) -> ShotScore:
    sign = 1 if metric.higher_is_better else -1
    losses = [(frame, sign * (other - one)) for frame, one, other in rows if other is not None]
    worst = _worst_window(losses, _step(result.frames), window) if losses else None
    return ShotScore(
        shot=result.shot,
        metric=metric.name,
        frames=len(rows),
        candidate=_text(_mean([one for _, one, _ in rows])),
        current=_text(_mean([other for _, _, other in rows if other is not None])) if losses else None,
        window_loss=_text(worst[0]) if worst else None,
        window_first=worst[1] if worst else None,
        band_px=result.band_px if "band" in metric.needs else None,
    )


def _step(frames: Sequence[int]) -> int:
    """How far neighbouring frames are apart."""
    return min((later - earlier for earlier, later in pairwise(frames)), default=1)


def _worst_window(losses: _Losses, step: int, window: int) -> tuple[Decimal, int]:
    """The largest mean loss over a window, and its first frame; of equal ones the earliest."""
    found = [one for run in _runs(losses, step) for one in _windows(run, window)]
    return max(found, key=lambda one: (one[0], -one[1]))


def _runs(losses: _Losses, step: int) -> Iterator[_Losses]:
    run = losses[:1]
    for earlier, later in pairwise(losses):
        if later[0] - earlier[0] != step:
            yield run
            run = []
        run.append(later)
    yield run


def _windows(run: _Losses, window: int) -> Iterator[tuple[Decimal, int]]:
    """The mean loss of each window of a run, with its first frame."""
    size = min(window, len(run))
    total = sum((loss for _, loss in run[:size]), Decimal(0))
    yield total / size, run[0][0]
    for index in range(len(run) - size):
        total += run[index + size][1] - run[index][1]
        yield total / size, run[index + 1][0]


def _summaries(result: ShotScores, curves: Mapping[tuple[str, str], _Values]) -> Iterator[ShotScore]:
    kinds: tuple[tuple[str, Callable[[Sequence[float | None]], float | None]], ...] = (
        ("recall", recall),
        ("decay", decay),
    )
    for metric, begins in _BOUND.items():
        for kind, of in kinds:
            candidate = _summary(of, curves.get((metric, "candidate")))
            current = _summary(of, curves.get((metric, "current")))
            if candidate is not None:
                name = f"{begins}-{kind}:davis2017"
                frames = sum(value is not None for value in curves[metric, "candidate"])
                yield ShotScore(shot=result.shot, metric=name, frames=frames, candidate=candidate, current=current)


def _summary(of: Callable[[Sequence[float | None]], float | None], curve: _Values | None) -> str | None:
    value = of([None if one is None else float(one) for one in curve]) if curve else None
    return None if value is None else _text(Decimal(value))


def _mean(values: Sequence[Decimal]) -> Decimal:
    return sum(values, Decimal(0)) / len(values)


def _text(value: Decimal) -> str:
    """Nine digits; a zero has no sign."""
    return f"{value.quantize(_DIGITS, ROUND_HALF_EVEN) + 0:f}"
