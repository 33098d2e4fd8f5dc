"""Scoring one golden shot as a stream: decoding, the models and the metrics work at the same time, on few frames.

    decode (a thread, ahead) -> candidate and current by turns (the caller's thread) -> metrics (a thread each)

Every line between them is short, so memory does not grow with the shot. States start anew with the shot; frames before
the first scored one (pre-roll) are fed and not scored. Another artist's matte is scored as a third subject. An error of
any part ends the others, and the one of the earliest frame is raised, once. What is answered depends on the files, the
models and the job's key alone; what differs from run to run stands in the times.

Left out: who runs the models (any `Infers`), where results are kept (`results`), and what is good enough (`judge`).
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import MeasurementError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.scores import ShotScores, ShotTimes, WorstFrame
from changeover_validators.golden._channel import CutError
from changeover_validators.golden.aspect import narrow
from changeover_validators.golden.curves import Role, curves, decimal
from changeover_validators.golden.decoding import Ahead, Decoded, read_scored_region
from changeover_validators.golden.frames import at_frame, measuring
from changeover_validators.golden.jobs import Inferred, Infers, Plane, Progress, ShotJob, Subject
from changeover_validators.golden.pictures import pictures_of
from changeover_validators.golden.results import Bundle
from changeover_validators.golden.scorers import Given, Scorer
from changeover_validators.golden.worst import WorstKeeper

__all__ = ["Infers", "Progress", "ShotJob", "Subject", "score_shot"]

_ROLES: tuple[Role, ...] = ("candidate", "current")


def score_shot(job: ShotJob, progress: Callable[[Progress], None] = lambda _: None) -> Bundle:
    """Score candidate and current on one shot.

    Args:
        job: The shot and the loaded models; a `ModelProcess` must have been made in this thread.
        progress: Called in this thread after each frame.

    Raises:
        MeasurementError: A file is damaged, missing or another one, a model failed, or a matte is not finite or of
            another size; names shot and frame.
        RefusedError: The shot's colour cannot be brought to a contract's.
    """
    begun = time.perf_counter_ns()
    check_frames(job.shot, job.subjects)
    with measuring(job.shot.shot), _with_memory(job.shot):
        line = _Line(job, read_scored_region(job.shot, job.folder))
        with line.running():
            for place, decoded in enumerate(line.ahead.line):
                line.infer(decoded, first=place == 0)
                progress(_progress(job.shot, place, begun))
                del decoded
            line.finish()
        return _bundle(job, line, begun)


@dataclass(slots=True)
class _Tally:
    """What adds up in the caller's thread: microseconds of each frame by subject, replaced values, scored frames."""

    frame_us: tuple[list[int], ...]
    infer_ns: int = 0
    replaced: int = 0
    scored: list[int] = field(default_factory=list)


class _Line:
    """The threads of one shot and the lines between them."""

    def __init__(self, job: ShotJob, region: NDArray[np.bool_] | None) -> None:
        self._job = job
        self.tally = _Tally(tuple([] for _ in job.subjects))
        self.keeper = WorstKeeper(len(job.subjects))
        self.ahead = Ahead(job)
        self.scorers = {role: self._scorer(at, role, region) for at, role in enumerate(_ROLES[: len(job.subjects)])}
        if any(frame.second is not None for frame in job.shot.frames):
            self.scorers["second"] = self._scorer(None, "second", region)

    def _scorer(self, at: int | None, role: Role, region: NDArray[np.bool_] | None) -> Scorer:
        threshold = float(self._job.key.threshold)
        if at is None:
            return Scorer(role, self._job.shot, threshold=threshold, region=region)
        take = self.keeper.take
        return Scorer(
            role, self._job.shot, threshold=threshold, region=region, scored=lambda given, row: take(at, given, row)
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the threads for the length of the block; none is left behind it, whatever happens inside."""
        threads: tuple[threading.Thread, ...] = (self.ahead, *self.scorers.values())
        try:
            for thread in threads:
                thread.start()
            yield
        except CutError as error:
            # Only a scorer cuts a line that is being filled, and it keeps the reason.
            raise self._failure() or error from None
        finally:
            self.ahead.line.cut()
            for scorer in self.scorers.values():
                scorer.line.cut()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def infer(self, decoded: Decoded, *, first: bool) -> None:
        """Have every model's matte of one frame, and hand it to its scorer."""
        mattes = self._mattes(decoded, first=first)
        self.tally.replaced += decoded.replaced
        if decoded.truth is None:
            return
        place, number = len(self.tally.scored), decoded.frame.number
        self.tally.scored.append(number)
        for at, role in enumerate(_ROLES[: len(mattes)]):
            self.scorers[role].line.put(Given(place, number, mattes[at], decoded.truth))
        if decoded.second is not None:
            self.scorers["second"].line.put(Given(place, number, decoded.second, decoded.truth))

    def finish(self) -> None:
        """Wait until the scorers are through.

        Raises:
            BaseException: What one of them failed with.
        """
        for scorer in self.scorers.values():
            scorer.line.end()
        for scorer in self.scorers.values():
            scorer.join()
        failure = self._failure()
        if failure is not None:
            raise failure

    def _failure(self) -> BaseException | None:
        return next((scorer.error for scorer in self.scorers.values() if scorer.error is not None), None)

    def _mattes(self, decoded: Decoded, *, first: bool) -> list[Plane]:
        """Who goes first changes with each frame: the one right after a plate was decoded finds the caches cold."""
        count = len(self._job.subjects)
        mattes: dict[int, Plane] = {}
        order = range(count) if len(self.tally.frame_us[0]) % 2 == 0 else range(count)[::-1]
        for at in order:
            subject, begun = self._job.subjects[at], time.thread_time_ns()
            inferred = _infer(self._job.shot, decoded, at, subject, first=first)
            mattes[at] = _checked(self._job.shot, decoded, at, inferred.matte)
            self.tally.frame_us[at].append(inferred.frame_us)
            self.tally.infer_ns += time.thread_time_ns() - begun
        return [mattes[at] for at in range(count)]


def check_frames(shot: GoldenShot, subjects: Sequence[Subject]) -> None:
    """See that a shot has a frame to score, the pre-roll that the contracts want, and the same inputs on each frame.

    Raises:
        MeasurementError: It has not.
    """
    there = next((index for index, frame in enumerate(shot.frames) if frame.scored and frame.matte), None)
    if there is None:
        raise _unfit(shot, "golden shot", "at least one frame with a matte that is scored", "none")
    wanted = max(subject.contract.pre_roll for subject in subjects)
    if wanted > there:
        expected = f"{wanted} frames before the first scored one, as the contract says"
        raise _unfit(shot, "pre-roll", expected, str(there))
    _check_inputs(shot, {port.name for subject in subjects for port in subject.ports})


def _check_inputs(shot: GoldenShot, named: set[str]) -> None:
    """A port takes its channels from the plate only if no frame has an input for it: else a gap would go unseen."""
    ports = {frame.number: {given.port for given in frame.inputs or ()} & named for frame in shot.frames}
    every = set().union(*ports.values())
    lacking = next((number for number, there in ports.items() if there != every), None)
    if lacking is not None:
        port = min(every - ports[lacking])
        raise _unfit(shot, "input", f"the input {port} on every frame, black where there is none", f"not on {lacking}")


@contextmanager
def _with_memory(shot: GoldenShot) -> Iterator[None]:
    """Say which shot this process has no memory for; what a model runs out of is its own error."""
    try:
        yield
    except MemoryError as error:
        raise MeasurementError(
            "out of memory",
            where=f"golden shot {shot.shot}",
            expected=f"memory for a few frames of {shot.width} x {shot.height}",
            actual=str(error) or "none left",
            remedy="run the check on a machine with more memory, or with less beside it",
        ) from error


def _infer(shot: GoldenShot, decoded: Decoded, at: int, subject: Subject, *, first: bool) -> Inferred:
    """One model's answer; what is wrong is said with shot and frame."""
    number = decoded.frame.number
    try:
        with at_frame(number):
            return subject.model.infer(decoded.planes[at], reset=first)
    except MeasurementError as error:
        raise MeasurementError(
            error.rule,
            where=f"golden shot {shot.shot}, frame {number}: {error.where}",
            expected=error.expected,
            actual=error.actual,
            remedy=error.remedy,
        ) from error


def _checked(shot: GoldenShot, decoded: Decoded, at: int, matte: Plane) -> Plane:
    """A matte in the planes' size and finite, brought to the plate's size."""
    height, width = next(iter(decoded.planes[at].values())).shape[:2]
    if matte.shape != (height, width):
        found = " x ".join(map(str, reversed(matte.shape)))
        raise _bad_matte(shot, decoded.frame, f"a matte of {width} x {height} as the plate", found)
    if not np.isfinite(matte).all():
        bad = int(np.count_nonzero(~np.isfinite(matte)))
        raise _bad_matte(shot, decoded.frame, "finite values", f"{bad} pixels of NaN or infinity")
    return matte if width == shot.width else narrow(matte, shot.width)


def _progress(shot: GoldenShot, place: int, begun_ns: int) -> Progress:
    done, frames = place + 1, len(shot.frames)
    seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    return Progress(shot.shot, shot.frames[place].number, done, frames, seconds / done * (frames - done))


def _bundle(job: ShotJob, line: _Line, begun_ns: int) -> Bundle:
    worst, tally, shot = line.keeper.worst, line.tally, job.shot
    if worst is None:  # pragma: no cover - check_frames has seen a frame that is scored
        raise _unfit(shot, "golden shot", "a frame that was scored", "none")
    drawn = pictures_of(job, worst)
    frames = len(tally.scored)
    started = job.candidate.started
    scores = ShotScores(
        key=job.key,
        set=shot.set,
        shot=shot.shot,
        version=shot.version,
        width=shot.width,
        height=shot.height,
        frames=tuple(tally.scored),
        curves=tuple(curve for role, scorer in line.scorers.items() for curve in curves(role, scorer.rows, frames)),
        band_px=line.scorers["candidate"].band_px,
        worst=WorstFrame(frame=worst.number, x=worst.x, y=worst.y, difference=decimal(worst.difference)),
        pictures=tuple(picture for picture, _ in drawn),
        provider_ran=started.provider_ran,
        runtime_version=started.runtime_version,
        sandbox=started.sandbox,
        replaced=tally.replaced,
    )
    return Bundle(scores, _times(job, line, scores, begun_ns), tuple((one.file, data) for one, data in drawn))


def _times(job: ShotJob, line: _Line, scores: ShotScores, begun_ns: int) -> ShotTimes:
    frame_us = line.tally.frame_us
    score_ns = sum(scorer.cpu_ns for scorer in line.scorers.values())
    stages = {"decode": line.ahead.cpu_ns, "infer": line.tally.infer_ns, "score": score_ns}
    return ShotTimes(
        host=job.host,
        candidate_us=tuple(frame_us[0]),
        current_us=tuple(frame_us[1]) if job.current else (),
        wall_us=(time.perf_counter_ns() - begun_ns) // 1000,
        stages_us={name: ns // 1000 for name, ns in stages.items()},
        peak_ram_bytes=getattr(job.candidate.model, "peak_rss_bytes", None),
        scores=scores.digest(),
    )


def _unfit(shot: GoldenShot, rule: str, expected: str, actual: str) -> MeasurementError:
    remedy = "add the shot again with these frames"
    return MeasurementError(rule, where=f"golden shot {shot.shot}", expected=expected, actual=actual, remedy=remedy)


def _bad_matte(shot: GoldenShot, frame: GoldenFrame, expected: str, actual: str) -> MeasurementError:
    return MeasurementError(
        "matte",
        where=f"golden shot {shot.shot}, frame {frame.number}",
        expected=expected,
        actual=actual,
        remedy="tell the vendor; the release cannot be judged on this shot",
    )
