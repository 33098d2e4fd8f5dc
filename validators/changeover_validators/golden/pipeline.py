"""Scoring a golden set: candidate and current see the same frames, one frame in memory at a time.

For each shot the states of both start anew; frames before the first scored one (pre-roll) are fed and not scored. A
metric's value for a shot is the mean over its scored frames: the shot is the unit that `judge` reasons about. Every
file is hashed again before it is decoded: a truth that changed is not the truth that was approved. Left out: who runs
the models (any `Infers`), and what is good enough.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import MeasurementError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.release import Contract, Port
from changeover_registry.records.scores import Curve, ScoreKey, ShotScores, ShotTimes, WorstFrame
from changeover_registry.records.verdict import ShotScore
from changeover_validators.golden.colour import convert
from changeover_validators.golden.frames import at_frame, check_bytes, check_size, measuring, read_matte, read_region
from changeover_validators.golden.images import Image, Pixels, read_image
from changeover_validators.golden.metrics import FrameScores, Measured, NotAvailable, score_frame
from changeover_validators.golden.results import Bundle
from changeover_validators.golden.shots import shot_folder
from changeover_validators.runtimes.interface import Started

__all__ = [
    "Infers",
    "Matte",
    "NotScored",
    "Progress",
    "Scored",
    "SetProgress",
    "ShotJob",
    "Subject",
    "score_set",
    "score_shot",
]

METRICS = tuple(field.name for field in fields(FrameScores))


class Matte(Protocol):
    """What a model makes of one frame: the matte, float32 [H, W], and the time it took in microseconds."""

    @property
    def matte(self) -> NDArray[np.float32]:
        """The matte in the plate's size."""
        ...

    @property
    def frame_us(self) -> int:
        """Microseconds."""
        ...


class Infers(Protocol):
    """A loaded model. `planes` are float32 [H, W, C] by port, in the contract's colour; `reset` drops its states."""

    def infer(self, planes: Mapping[str, NDArray[np.float32]], *, reset: bool) -> Matte:
        """The matte of one frame.

        Raises:
            MeasurementError: The model crashed, hung, ran out of memory or gave what is not finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One who is scored: the loaded model, how it must be called, the images that its interface takes, what runs it."""

    model: Infers
    contract: Contract
    ports: tuple[Port, ...]
    started: Started | None = None


@dataclass(frozen=True, slots=True)
class ShotJob:
    """One shot to score.

    Attributes:
        shot: Its record.
        folder: Where its files lie.
        key: What the result is filed under; its threshold is the masks'.
        candidate: The release being judged.
        current: The one in use, if there is one.
        host: This machine's name, for the times.
    """

    shot: GoldenShot
    folder: Path
    key: ScoreKey
    candidate: Subject
    current: Subject | None
    host: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the work on a shot stands: `done` of `frames` are scored, `frame` was the last one.

    `seconds_left` is what the rest will take at the pace so far, None before there is one.
    """

    shot: str
    frame: int
    done: int
    frames: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class SetProgress:
    """Where the work stands: shot `shot_number` of `shots`, and how many of its `frames` are done."""

    shot: str
    shot_number: int
    shots: int
    frame: int
    done: int
    frames: int


@dataclass(frozen=True, slots=True)
class NotScored:
    """A metric that is defined on no frame of a shot, and why."""

    shot: str
    metric: str
    why: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a set.

    Attributes:
        scores: One for each shot and metric, in that order.
        not_scored: What is not defined.
        candidate_us: Median time of a frame in microseconds.
        current_us: The same of the current release, if there is one.
        replaced: How many values of plates were NaN or infinite and were replaced by 0 as the contract says.
    """

    scores: tuple[ShotScore, ...]
    not_scored: tuple[NotScored, ...]
    candidate_us: int
    current_us: int | None
    replaced: int


@dataclass(slots=True)
class _Tally:
    """What adds up while a set is scored: times of both subjects, replaced values, results."""

    times: tuple[list[int], ...]
    replaced: int
    scores: list[ShotScore]
    not_scored: list[NotScored]


_ROLES: tuple[Literal["candidate", "current"], ...] = ("candidate", "current")
_NAMES = {"jaccard": "jaccard:davis2017", "boundary_f": "boundary_f:davis2017", "mad": "mad:rvm"}


def score_shot(job: ShotJob, progress: Callable[[Progress], None] = lambda _: None) -> Bundle:
    """Score candidate and current on one shot.

    Args:
        job: The shot and the loaded models; a `ModelProcess` must have been made in this thread.
        progress: Called in this thread after each frame.

    Raises:
        MeasurementError: A file is damaged, missing or another one, a model failed, or a matte is not finite; names
            shot and frame.
        RefusedError: The shot's colour cannot be brought to a contract's.
    """
    subjects = (job.candidate,) if job.current is None else (job.candidate, job.current)
    started = job.candidate.started
    if started is None:
        message = "a subject that says what runs it"
        raise ValueError(message)
    shot, begun = job.shot, time.perf_counter_ns()
    _check_pre_roll(shot, subjects)
    tally = _Tally(tuple([] for _ in subjects), 0, [], [])
    numbers: list[int] = []
    rows: list[tuple[FrameScores, ...]] = []
    worst: tuple[float, WorstFrame] | None = None
    with measuring(shot.shot):
        region = _region(shot, job.folder)
        for index, frame in enumerate(shot.frames):
            mattes = _infer_frame(shot, job.folder, frame, subjects, tally, reset=index == 0)
            if frame.scored and frame.matte is not None:
                truth = _truth(shot, job.folder / frame.matte, frame)
                row = tuple(
                    score_frame(matte, truth, threshold=float(job.key.threshold), region=region) for matte in mattes
                )
                rows.append(row)
                numbers.append(frame.number)
                found = _loss(row), _worst_pixel(frame, mattes[0], truth, region)
                worst = found if worst is None or found[0] > worst[0] else worst
            seconds = (time.perf_counter_ns() - begun) / 1e9 / (index + 1) * (len(shot.frames) - index - 1)
            progress(Progress(shot.shot, frame.number, index + 1, len(shot.frames), seconds))
    if worst is None:
        raise MeasurementError(
            "golden shot", where=shot.shot, expected="a scored frame", actual="none", remedy="add the shot again"
        )
    curves = tuple(
        Curve(metric=_NAMES[name], subject=subject, values=tuple(_text(getattr(row[at], name)) for row in rows))
        for at, subject in enumerate(_ROLES[: len(subjects)])
        for name in METRICS
    )
    scores = ShotScores(
        key=job.key,
        set=shot.set,
        shot=shot.shot,
        version=shot.version,
        width=shot.width,
        height=shot.height,
        frames=tuple(numbers),
        curves=curves,
        worst=worst[1],
        provider_ran=started.provider_ran,
        runtime_version=started.runtime_version,
        sandbox=started.sandbox,
        replaced=tally.replaced,
    )
    times = ShotTimes(
        host=job.host,
        candidate_us=tuple(tally.times[0]),
        current_us=tuple(tally.times[1]) if job.current else (),
        wall_us=(time.perf_counter_ns() - begun) // 1000,
        scores=scores.digest(),
    )
    return Bundle(scores, times)


def _text(value: Measured | NotAvailable) -> str | None:
    return f"{value.value:.9f}" if isinstance(value, Measured) else None


def _loss(row: Sequence[FrameScores]) -> float:
    values = [score.mad.value if isinstance(score.mad, Measured) else 0.0 for score in row]
    return values[0] - values[1] if len(values) > 1 else values[0]


def _worst_pixel(
    frame: GoldenFrame, matte: NDArray[np.float32], truth: NDArray[np.float32], region: NDArray[np.bool_] | None
) -> WorstFrame:
    difference = matte - truth
    away = np.abs(difference) if region is None else np.where(region, np.abs(difference), 0)
    y, x = np.unravel_index(int(np.argmax(away)), away.shape)
    return WorstFrame(frame=frame.number, x=int(x), y=int(y), difference=f"{difference[y, x]:.9f}")


def score_set(
    shots: Sequence[GoldenShot],
    site_golden: Path,
    candidate: Subject,
    current: Subject | None,
    *,
    threshold: float,
    progress: Callable[[SetProgress], None] = lambda _: None,
) -> Scored:
    """Score every shot of a set.

    Args:
        shots: The set's shots, as `load_set` gives them.
        site_golden: The site's folder of golden sets.
        candidate: The release being judged.
        current: The one in use, if there is one.
        threshold: Masks are ``matte > threshold``.
        progress: Called after each frame.

    Raises:
        MeasurementError: A file is damaged or of another size, a model failed, or a matte is not finite; names shot and
            frame.
        RefusedError: A shot's colour cannot be brought to a contract's.
    """
    subjects = (candidate,) if current is None else (candidate, current)
    tally = _Tally(tuple([] for _ in subjects), 0, [], [])
    for number, shot in enumerate(shots, start=1):
        _check_pre_roll(shot, subjects)
        steps = _Steps(number, len(shots), progress)
        with measuring(shot.shot):
            _score_shot(shot, shot_folder(site_golden, shot), subjects, threshold, tally, steps)
    medians = [int(statistics.median(times)) for times in tally.times if times]
    return Scored(
        scores=tuple(tally.scores),
        not_scored=tuple(tally.not_scored),
        candidate_us=medians[0] if medians else 0,
        current_us=medians[1] if len(medians) > 1 else None,
        replaced=tally.replaced,
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """Which shot it is, and whom to tell."""

    number: int
    shots: int
    tell: Callable[[SetProgress], None]

    def done(self, shot: GoldenShot, index: int) -> None:
        frame = shot.frames[index].number
        self.tell(SetProgress(shot.shot, self.number, self.shots, frame, index + 1, len(shot.frames)))


def _score_shot(
    shot: GoldenShot,
    folder: Path,
    subjects: Sequence[Subject],
    threshold: float,
    tally: _Tally,
    steps: _Steps,
) -> None:
    region = _region(shot, folder)
    frames: list[tuple[FrameScores, ...]] = []
    for index, frame in enumerate(shot.frames):
        mattes = _infer_frame(shot, folder, frame, subjects, tally, reset=index == 0)
        if frame.scored and frame.matte is not None:
            truth = _truth(shot, folder / frame.matte, frame)
            frames.append(tuple(score_frame(matte, truth, threshold=threshold, region=region) for matte in mattes))
        steps.done(shot, index)
    for metric in METRICS:
        _add_mean(shot.shot, metric, frames, tally)


def _infer_frame(
    shot: GoldenShot, folder: Path, frame: GoldenFrame, subjects: Sequence[Subject], tally: _Tally, *, reset: bool
) -> list[NDArray[np.float32]]:
    plate, channels = _plate(shot, folder / frame.plate, frame, subjects)
    replaced = int(np.count_nonzero(~np.isfinite(plate)))
    tally.replaced += replaced
    mattes: dict[int, NDArray[np.float32]] = {}
    for index in _turns(tally.times):
        subject = subjects[index]
        _check_finite(shot, frame, subject, replaced)
        planes = _planes(shot, plate, channels, subject)
        inferred = _infer(shot, frame, subject, planes, reset=reset)
        mattes[index] = _checked_matte(shot, frame, inferred.matte)
        tally.times[index].append(inferred.frame_us)
    return [mattes[index] for index in range(len(subjects))]


def _turns(times: Sequence[Sequence[int]]) -> Sequence[int]:
    """Who goes first, in turn: the one that runs right after a plate was decoded finds the caches cold."""
    order = range(len(times))
    return order if len(times[0]) % 2 == 0 else order[::-1]


def _plate(
    shot: GoldenShot, path: Path, frame: GoldenFrame, subjects: Sequence[Subject]
) -> tuple[Pixels, tuple[str, ...]]:
    """The plate with every channel that any subject takes, and the channels' names in its order."""
    channels = tuple(dict.fromkeys(name for subject in subjects for port in subject.ports for name in port.channels))
    with at_frame(frame.number):
        check_bytes(path, frame.plate_sha256)
        image = read_image(path, channels)
        _check_size(shot, path, image)
    return image.pixels, channels


def _truth(shot: GoldenShot, path: Path, frame: GoldenFrame) -> NDArray[np.float32]:
    with at_frame(frame.number):
        check_bytes(path, frame.matte_sha256)
        image = read_matte(path, shot.matte_channel)
        _check_size(shot, path, image)
    return image.pixels[..., 0].astype(np.float32)


def _region(shot: GoldenShot, folder: Path) -> NDArray[np.bool_] | None:
    if shot.region is None:
        return None
    path = folder / shot.region
    check_bytes(path, shot.region_sha256)
    region = read_region(path, shot.region_channel or shot.matte_channel)
    check_size(path, (region.shape[1], region.shape[0]), (shot.width, shot.height))
    return region


def _planes(
    shot: GoldenShot, plate: Pixels, channels: tuple[str, ...], subject: Subject
) -> dict[str, NDArray[np.float32]]:
    """The image of each port in the contract's colour, NaN and infinity replaced by 0."""
    finite = plate if np.isfinite(plate).all() else np.where(np.isfinite(plate), plate, plate.dtype.type(0))
    planes = {}
    for port in subject.ports:
        part = finite[..., [channels.index(name) for name in port.channels]]
        converted = convert(part, shot.colour, subject.contract.colour, where=f"golden shot {shot.shot}")
        planes[port.name] = np.ascontiguousarray(converted)
    return planes


def _infer(
    shot: GoldenShot, frame: GoldenFrame, subject: Subject, planes: Mapping[str, NDArray[np.float32]], *, reset: bool
) -> Matte:
    try:
        with at_frame(frame.number):
            return subject.model.infer(planes, reset=reset)
    except MeasurementError as error:
        raise MeasurementError(
            error.rule,
            where=f"golden shot {shot.shot}, frame {frame.number}: {error.where}",
            expected=error.expected,
            actual=error.actual,
            remedy=error.remedy,
        ) from error


def _checked_matte(shot: GoldenShot, frame: GoldenFrame, matte: NDArray[np.float32]) -> NDArray[np.float32]:
    size = tuple(reversed(matte.shape))
    if size != (shot.width, shot.height):
        found = " x ".join(map(str, size))
        raise _bad_matte(shot, frame, f"a matte of {shot.width} x {shot.height} as the plate", found)
    bad = int(np.count_nonzero(~np.isfinite(matte)))
    if bad:
        raise _bad_matte(shot, frame, "finite values", f"{bad} pixels of NaN or infinity")
    return matte


def _check_size(shot: GoldenShot, path: Path, image: Image) -> None:
    check_size(path, image.size, (shot.width, shot.height))


def _check_finite(shot: GoldenShot, frame: GoldenFrame, subject: Subject, bad: int) -> None:
    if bad and subject.contract.non_finite == "error":
        raise MeasurementError(
            "plate",
            where=f"golden shot {shot.shot}, frame {frame.number}",
            expected="finite values, since the contract says non_finite = 'error'",
            actual=f"{bad} values of NaN or infinity",
            remedy="repair the plate, or judge this model on other shots",
        )


def _check_pre_roll(shot: GoldenShot, subjects: Sequence[Subject]) -> None:
    there = next((index for index, frame in enumerate(shot.frames) if frame.scored), len(shot.frames))
    wanted = max(subject.contract.pre_roll for subject in subjects)
    if wanted > there:
        raise MeasurementError(
            "pre-roll",
            where=f"golden shot {shot.shot}",
            expected=f"{wanted} frames before the first scored one, as the contract says",
            actual=f"{there}",
            remedy="add the shot again with that many frames of pre-roll",
        )


def _bad_matte(shot: GoldenShot, frame: GoldenFrame, expected: str, actual: str) -> MeasurementError:
    return MeasurementError(
        "matte",
        where=f"golden shot {shot.shot}, frame {frame.number}",
        expected=expected,
        actual=actual,
        remedy="tell the vendor; the release cannot be judged on this shot",
    )


def _add_mean(shot: str, metric: str, frames: Sequence[tuple[FrameScores, ...]], tally: _Tally) -> None:
    """File the mean of a metric over a shot's frames for each subject, or why there is none.

    Where a metric is defined depends on truth and region alone, so it is defined for both subjects or for neither.
    """
    values: list[list[Measured | NotAvailable]] = [[getattr(score, metric) for score in frame] for frame in frames]
    measured = [[value.value for value in row if isinstance(value, Measured)] for row in values]
    defined = [row for row in measured if row]
    if not defined:
        why = next((value.why for row in values for value in row if isinstance(value, NotAvailable)), "no scored frame")
        tally.not_scored.append(NotScored(shot, metric, why))
        return
    means = [f"{math.fsum(column) / len(defined):.6f}" for column in zip(*defined, strict=True)]
    current = means[1] if len(means) > 1 else None
    tally.scores.append(ShotScore(shot=shot, metric=metric, frames=len(defined), candidate=means[0], current=current))
