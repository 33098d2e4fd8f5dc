"""One shot to score, as a value that any machine of the golden class can be handed, and the one function that does it.

This process, a Dask worker and a command line on a farm all call `score_task`. It believes nothing of the task but
what it asks for: releases come from the studio's signed records, bytes are hashed, the shot is the one that the set
names, and the key is computed anew from what is here. If that is not the task's key, the numbers would be filed under
what they are not, so there are none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_registry.errors import MeasurementError, UndecidedError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Release
from changeover_registry.records.scores import ScoreKey, ScoreTask, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_updater.bench import Bench, Models, variant_of
from changeover_validators.classes import golden_class_of

if TYPE_CHECKING:
    from changeover_validators.golden.pipeline import Progress
    from changeover_validators.golden.results import Bundle

__all__ = ["Contest", "golden_class_at", "key_of", "score_task", "task_of"]


@dataclass(frozen=True, slots=True)
class Contest:
    """Candidate against current at one operating point, in one golden class, each under its memory plan.

    A plan that is None is the runtime's own settings.
    """

    candidate: Release
    point: OperatingPoint
    current: Release | None
    current_point: OperatingPoint | None
    golden_class: str
    plan: MemoryPlan | None = None
    current_plan: MemoryPlan | None = None


def golden_class_at(bench: Bench, release: Release, point: OperatingPoint) -> str:
    """The golden class of running a release at an operating point here.

    Raises:
        UndecidedError: Nothing here runs it, or this host is of no known class.
    """
    runtime = bench.runtimes.evidence(release, variant_of(release, point)).runtime
    return golden_class_of(bench.own, runtime, point.provider, point.precision)


def key_of(bench: Bench, contest: Contest, shot: GoldenShot) -> ScoreKey:
    """What the numbers of a shot are filed under.

    Raises:
        UndecidedError: Nothing here runs candidate or current.
    """
    from changeover_validators.golden.results import score_key

    current = None
    if contest.current is not None and contest.current_point is not None:
        current = _subject_key(bench, contest.current, contest.current_point, contest.current_plan)
    return score_key(
        shot,
        _subject_key(bench, contest.candidate, contest.point, contest.plan),
        current,
        threshold=bench.studio.policy.golden.threshold,
        golden_class=contest.golden_class,
    )


def task_of(contest: Contest, golden_set: GoldenSet, shot: GoldenShot, key: ScoreKey) -> ScoreTask:
    """The work of scoring a shot."""
    return ScoreTask(
        key=key.digest(),
        set=shot.set,
        shot=shot.shot,
        version=shot.version,
        shot_digest=key.shot,
        candidate=contest.candidate.ref(),
        candidate_point=contest.point,
        current=None if contest.current is None else contest.current.ref(),
        current_point=contest.current_point,
        threshold=key.threshold,
        golden_class=contest.golden_class,
        golden_set=golden_set.digest(),
        candidate_plan=contest.plan,
        current_plan=contest.current_plan,
    )


def score_task(
    bench: Bench, task: ScoreTask, models: Models, progress: "Callable[[Progress], None]" = lambda _: None
) -> "Bundle":
    """Do a task here.

    Args:
        bench: This machine.
        task: What is asked for.
        models: What was started by this thread; what is missing is started and stays.
        progress: Called after each frame.

    Raises:
        UndecidedError: This machine is of another golden class, the policy or the set has moved on, or nothing here
            runs the models: the task is for another machine, or out of date.
        TrustError: A release's bytes are not the signed ones.
        MeasurementError: The shot is not the one that was approved, a file of it is damaged, or a model failed; names
            shot and frame.
    """
    from changeover_validators.golden.pipeline import ShotJob, score_shot
    from changeover_validators.golden.sets import shot_folder

    contest = _contest(bench, task)
    shot = _shot(bench, task)
    key = key_of(bench, contest, shot)
    _check(task, "key of the numbers", task.key, key.digest(), "update changeover here and where the task is from")
    current = None
    if contest.current is not None and contest.current_point is not None:
        current = models.subject(contest.current, contest.current_point, contest.current_plan)
    job = ShotJob(
        shot=shot,
        folder=shot_folder(bench.site.golden, shot),
        key=key,
        candidate=models.subject(contest.candidate, contest.point, contest.plan),
        current=current,
        host=bench.own.host,
    )
    return score_shot(job, progress)


def _contest(bench: Bench, task: ScoreTask) -> Contest:
    candidate = bench.release(task.candidate)
    current = None if task.current is None else bench.release(task.current)
    again = "write the tasks again: changeover check ... --tasks DIR"
    _check(task, "golden class", task.golden_class, golden_class_at(bench, candidate, task.candidate_point), _ELSEWHERE)
    _check(task, "threshold of the policy", task.threshold, bench.studio.policy.golden.threshold, again)
    plans = task.candidate_plan, task.current_plan
    return Contest(candidate, task.candidate_point, current, task.current_point, task.golden_class, *plans)


_ELSEWHERE = "run it on a machine with the same GPU architecture or CPU level, runtime and provider"


def _check(task: ScoreTask, what: str, expected: str, actual: str, remedy: str) -> None:
    if expected != actual:
        raise UndecidedError(
            what, where=f"task {task.key[:12]}, shot {task.shot}", expected=expected, actual=actual, remedy=remedy
        )


def _shot(bench: Bench, task: ScoreTask) -> GoldenShot:
    """The shot, if the set still names it and its record is the one that the task means."""
    from changeover_validators.golden.sets import load_set

    golden_set, shots = load_set(bench.site.golden, task.set)
    found = next((shot for shot in shots if (shot.shot, shot.version) == (task.shot, task.version)), None)
    if found is None:
        raise UndecidedError(
            "golden shot",
            where=f"{task.set}/{task.shot}",
            expected=f"version {task.version} among the approved shots of the set",
            actual=f"version {golden_set.version} of the set without it",
            remedy="write the tasks again: changeover check ... --tasks DIR",
        )
    if found.digest() != task.shot_digest:
        raise MeasurementError(
            "golden shot",
            where=f"{task.set}/{task.shot} version {task.version}",
            expected=f"the record with sha256 {task.shot_digest[:12]}",
            actual=found.digest()[:12],
            remedy="find out who changed it; a new truth is a new version of the shot",
        )
    return found


def _subject_key(bench: Bench, release: Release, point: OperatingPoint, plan: MemoryPlan | None) -> SubjectKey:
    from changeover_validators.golden.results import subject_key

    return subject_key(bench.runtimes.evidence(release, variant_of(release, point)).variant, point, plan)
