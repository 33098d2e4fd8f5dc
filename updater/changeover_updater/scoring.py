"""Scoring a golden set at one operating point: what is filed already is taken, the rest is done, however it is run.

The hardest shots come first, and the point is decided as soon as a guard breaks that no later shot can mend: the shots
after it are not waited for, and the decision is the same. What counts is the order of the shots, not that in which
results arrive, so that every way of running comes to the same verdict. Each result is filed when it lands: a check that
is killed begins again where it was. Left out: how a shot is scored (`tasks`), where (`ways`), what is good enough.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from changeover_registry.errors import ChangeoverError, MeasurementError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.scores import ScoreKey, ScoreTask, ShotScores
from changeover_registry.records.verdict import ScoresRef
from changeover_updater.bench import Bench
from changeover_updater.tasks import Contest, key_of, task_of

if TYPE_CHECKING:
    from changeover_validators.golden.results import Bundle, ResultStore

__all__ = ["Decided", "Landed", "Plan", "Results", "Way", "hardest_first", "missing_tasks", "plan_scoring", "score_all"]

Decided = Callable[[Sequence[ShotScores]], bool]
"""Whether what was scored so far, in the order of the shots, has decided."""


Landed: TypeAlias = "tuple[ScoreTask, Bundle | ChangeoverError]"
"""A task with its result, or with why there is none."""


class Way(Protocol):
    """A way of having tasks done: here, on a Dask cluster."""

    def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
        """What comes of the tasks, in whatever order it lands; closing the iterator gives up the rest.

        Raises:
            ChangeoverError: Nothing can be done this way.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The shots of a set at one operating point, the hardest first, each with the key of its result.

    `isolated` is whether the policy takes only results of models that ran in a sandbox.
    """

    contest: Contest
    golden_set: GoldenSet
    shots: tuple[GoldenShot, ...]
    keys: Mapping[str, ScoreKey]
    isolated: bool = False

    def task(self, shot: GoldenShot) -> ScoreTask:
        """The work of scoring one of them."""
        return task_of(self.contest, self.golden_set, shot, self.keys[shot.shot])


@dataclass(frozen=True, slots=True)
class Results:
    """What came of a plan.

    Attributes:
        scores: The shots that count, in their order.
        refs: Where they are filed.
        fresh: How many results landed, as against those that were filed already.
        error: Why the shot after them has none, if that ended it.
    """

    scores: tuple[ShotScores, ...]
    refs: tuple[ScoresRef, ...]
    fresh: int
    error: ChangeoverError | None


def hardest_first(shots: Sequence[GoldenShot]) -> tuple[GoldenShot, ...]:
    """The shots by falling level; those of one level in the order of the set."""
    return tuple(sorted(shots, key=lambda shot: -shot.level))


def plan_scoring(bench: Bench, contest: Contest, golden_set: GoldenSet, shots: Sequence[GoldenShot]) -> Plan:
    """Put the shots in their order and say what their results are filed under.

    Raises:
        UndecidedError: Nothing here runs candidate or current.
    """
    ordered = hardest_first(shots)
    keys = {shot.shot: key_of(bench, contest, shot) for shot in ordered}
    return Plan(contest, golden_set, ordered, keys, isolated=bench.studio.policy.sandbox == "required")


def missing_tasks(plan: Plan, store: "ResultStore", decided: Decided) -> tuple[ScoreTask, ...]:
    """The tasks that are still to be done; none where what is filed has decided already."""
    front = _Front(plan.shots, decided)
    filed = _filed(plan, store)
    front.advance(filed)
    return () if front.decided else tuple(plan.task(shot) for shot in plan.shots if shot.shot not in filed)


def score_all(
    plan: Plan, store: "ResultStore", way: Way, decided: Decided, done: Callable[[int, int], None] = lambda _i, _n: None
) -> Results:
    """Have every shot scored that is not, until all are there or those that count have decided.

    Args:
        plan: What to score.
        store: Where results are filed, each when it lands.
        way: Who does what is missing.
        decided: Whether the shots so far, in their order, have decided; one that never says so has all of them scored.
        done: Called with how many of how many shots are there.

    Raises:
        ChangeoverError: As the way; what was done is filed.
        OSError: The site cannot be written.
    """
    found: dict[str, ShotScores | ChangeoverError] = {**_filed(plan, store)}
    front, fresh = _Front(plan.shots, decided), 0
    front.advance(found)
    tasks = () if front.decided else tuple(plan.task(shot) for shot in plan.shots if shot.shot not in found)
    with closing(_landing(way, tasks)) as landing:
        for task, landed in landing:
            found[task.shot] = landed if isinstance(landed, ChangeoverError) else _put(plan, store, task, landed)
            fresh += not isinstance(landed, ChangeoverError)
            done(len(found), len(plan.shots))
            front.advance(found)
            if front.decided:
                break
    return Results(tuple(front.counting), tuple(map(_ref, front.counting)), fresh, front.error)


def _put(plan: Plan, store: "ResultStore", task: ScoreTask, bundle: "Bundle") -> ShotScores:
    """File a result; another check may have filed its own first, which then stands for everybody.

    Raises:
        MeasurementError: It is the result of something else.
    """
    key = plan.keys[task.shot]
    shot = next(shot for shot in plan.shots if shot.shot == task.shot)
    other = f"one of key {bundle.scores.key.digest()[:12]}"
    if bundle.scores.key == key:
        other = _unfit(plan, bundle.scores, shot) or ""
    if other:
        raise MeasurementError(
            "golden result",
            where=f"shot {task.shot}",
            expected=f"a result of key {task.key[:12]}",
            actual=other,
            remedy="update changeover where it was scored",
        )
    store.put(bundle)
    return store.get(key) or bundle.scores


@dataclass(slots=True)
class _Front:
    """The results that count: those without a gap from the first shot on, as far as the one that decided."""

    shots: Sequence[GoldenShot]
    decide: Decided
    counting: list[ShotScores] = field(default_factory=list)
    error: ChangeoverError | None = None
    decided: bool = False

    def advance(self, found: "Mapping[str, ShotScores | ChangeoverError]") -> None:
        """Take in what has landed; an error counts when its turn comes, and ends it."""
        while not self.decided and len(self.counting) < len(self.shots):
            landed = found.get(self.shots[len(self.counting)].shot)
            if landed is None:
                return
            if isinstance(landed, ChangeoverError):
                self.error, self.decided = landed, True
                return
            self.counting.append(landed)
            self.decided = self.decide(self.counting)


def _filed(plan: Plan, store: "ResultStore") -> dict[str, ShotScores]:
    """What is filed, without results that cannot be of the shot whose key they have: these are scored anew."""
    found = ((shot, store.get(plan.keys[shot.shot])) for shot in plan.shots)
    return {shot.shot: scores for shot, scores in found if scores and _unfit(plan, scores, shot) is None}


def _unfit(plan: Plan, scores: ShotScores, shot: GoldenShot) -> str | None:
    """Why a result does not count for a plan, or None: it is of something else, or was made without isolation."""
    from changeover_validators.golden.results import is_isolated, misfit

    if plan.isolated and not is_isolated(scores):
        return f"one whose models ran with sandbox {scores.sandbox}, where the policy says required"
    return misfit(scores, shot)


def _landing(way: Way, tasks: Sequence[ScoreTask]) -> Generator[Landed, None, None]:
    """A way's results; with nothing to do, nothing is started."""
    if tasks:
        yield from way.results(tasks)


def _ref(scores: ShotScores) -> ScoresRef:
    return ScoresRef(shot=scores.shot, key=scores.key.digest(), digest=scores.digest())
