"""Which results count, whatever order they land in, and that ending early decides as all shots would."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import ChangeoverError, MeasurementError, UnreachableError
from changeover_registry.records.golden import GoldenFrame, GoldenSet, GoldenShot
from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.scores import Curve, ScoreKey, ScoreTask, ShotScores, ShotTimes, SubjectKey, WorstFrame
from changeover_registry.records.verdict import OperatingPoint
from changeover_updater.scoring import Landed, Plan, Results, hardest_first, missing_tasks, score_all
from changeover_updater.tasks import Contest
from changeover_validators.golden.catalogue import VERSION
from changeover_validators.golden.judge import broken_early, judge
from changeover_validators.golden.results import Bundle, ResultStore
from changeover_validators.golden.summary import shot_scores

POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
SUBJECT = SubjectKey(files=("a" * 64,), contract="b" * 64, point=POINT)
CLASS = "c" * 64


def shot(name: str, level: int = 3) -> GoldenShot:
    return GoldenShot(
        set="hero",
        shot=name,
        version=1,
        alias=name,
        width=8,
        height=4,
        colour="raw",
        matte_channel="A",
        level=level,
        frames=(GoldenFrame(number=1, plate="p.exr", plate_sha256="a" * 64),),
        added_by="td",
        added_at="2026-01-01T00:00:00Z",
    )


def key(one: GoldenShot) -> ScoreKey:
    return ScoreKey(
        shot=one.digest(), candidate=SUBJECT, current=SUBJECT, threshold="0.5", metrics=VERSION, golden_class=CLASS
    )


def bundle(one: GoldenShot, candidate: str = "0.9", current: str = "0.9") -> Bundle:
    """A result in which both subjects have the same J and F, and no other error."""
    values = (("candidate", candidate), ("current", current))
    scores = ShotScores(
        key=key(one),
        set="hero",
        shot=one.shot,
        version=1,
        width=8,
        height=4,
        frames=(1,),
        curves=tuple(
            Curve(metric=metric, subject=subject, values=(value if metric != "mad:rvm" else "0",))  # type: ignore[arg-type]
            for metric in ("jaccard:davis2017", "boundary_f:davis2017", "mad:rvm")
            for subject, value in values
        ),
        worst=WorstFrame(frame=1, x=0, y=0, difference="0"),
        provider_ran="cpu",
        runtime_version="1",
        sandbox="none",
    )
    return Bundle(scores, ShotTimes(host="vm1", candidate_us=(1,), wall_us=1, scores=scores.digest()))


@pytest.fixture
def plan_of(build: Any) -> Callable[[Sequence[GoldenShot]], Plan]:
    def make(shots: Sequence[GoldenShot]) -> Plan:
        contest = Contest(build.release(), POINT, build.release("0.9.0"), POINT, CLASS)
        ordered = hardest_first(shots)
        return Plan(contest, GoldenSet(name="hero", version=1), ordered, {one.shot: key(one) for one in ordered})

    return make


@dataclass
class Scripted:
    """A way that lands what it is told to, in that order; it notes what it was asked for and whether it was closed."""

    landings: Sequence[tuple[str, Bundle | ChangeoverError]]
    asked: list[str] = field(default_factory=list)
    landed: list[str] = field(default_factory=list)
    closed: bool = False

    def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
        self.asked += [task.shot for task in tasks]
        by_name = {task.shot: task for task in tasks}
        try:
            for name, outcome in self.landings:
                self.landed.append(name)
                yield by_name[name], outcome
        finally:
            self.closed = True


def below(limit: str) -> Callable[[Sequence[ShotScores]], bool]:
    """Decided as soon as a shot's J lies below a limit."""
    return lambda results: Decimal(results[-1].curves[0].values[0] or "NaN") < Decimal(limit)


def names(results: Results) -> list[str]:
    return [one.shot for one in results.scores]


def test_hardest_shots_come_first_and_those_of_one_level_in_the_order_of_the_set() -> None:
    found = hardest_first([shot("a", 2), shot("b", 5), shot("c", 2), shot("d", 5), shot("e", 3)])

    assert [one.shot for one in found] == ["b", "d", "e", "a", "c"]


def test_what_is_filed_is_not_scored_again_and_what_lands_is_filed(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    shots = [shot(name) for name in "abc"]
    store = ResultStore(tmp_path)
    store.put(bundle(shots[1], "0.7"))
    way = Scripted([("c", bundle(shots[2])), ("a", bundle(shots[0]))])
    told: list[tuple[int, int]] = []

    results = score_all(plan_of(shots), store, way, below("0"), lambda *at: told.append(at))
    again = score_all(plan_of(shots), store, Scripted([]), below("0"))

    assert way.asked == ["a", "c"]
    assert names(results) == ["a", "b", "c"]
    assert results.fresh == 2
    assert told == [(2, 3), (3, 3)]
    assert again == Results(results.scores, results.refs, 0, None)
    assert [ref.digest for ref in results.refs] == [one.digest() for one in results.scores]


@pytest.mark.parametrize("order", ["abcd", "dcba", "cadb", "bdac"])
def test_shots_count_in_their_own_order_however_they_land(
    tmp_path: Path, plan_of: Callable[..., Plan], order: str
) -> None:
    values = {"a": "0.9", "b": "0.3", "c": "0.2", "d": "0.9"}
    shots = {name: shot(name) for name in values}
    way = Scripted([(name, bundle(shots[name], values[name])) for name in order])

    results = score_all(plan_of(list(shots.values())), ResultStore(tmp_path), way, below("0.5"))

    assert names(results) == ["a", "b"]
    assert way.closed
    assert {"a", "b"} <= set(way.landed)
    assert not {"a", "b"} <= set(way.landed[:-1])


def test_what_is_filed_and_decides_starts_nothing(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    shots = [shot(name) for name in "abc"]
    store = ResultStore(tmp_path)
    store.put(bundle(shots[0], "0.1"))
    way = Scripted([])

    results = score_all(plan_of(shots), store, way, below("0.5"))

    assert names(results) == ["a"]
    assert way.asked == []
    assert missing_tasks(plan_of(shots), store, below("0.5")) == ()
    assert [task.shot for task in missing_tasks(plan_of(shots), store, below("0"))] == ["b", "c"]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_error_of_a_shot_counts_when_its_turn_comes_and_not_after_what_decided(
    tmp_path: Path, plan_of: Callable[..., Plan], order: str
) -> None:
    shots = {name: shot(name) for name in "ab"}
    error = MeasurementError("crash", where="shot b", expected="x", actual="y", remedy="z")
    bad: dict[str, Bundle | ChangeoverError] = {"a": bundle(shots["a"], "0.1"), "b": error}
    good: dict[str, Bundle | ChangeoverError] = {"a": bundle(shots["a"], "0.9"), "b": error}

    decided = score_all(
        plan_of(list(shots.values())), ResultStore(tmp_path / "1"), Scripted([(n, bad[n]) for n in order]), below("0.5")
    )
    broke = score_all(
        plan_of(list(shots.values())),
        ResultStore(tmp_path / "2"),
        Scripted([(n, good[n]) for n in order]),
        below("0.5"),
    )

    assert (names(decided), decided.error) == (["a"], None)
    assert (names(broke), broke.error) == (["a"], error)


def test_what_landed_before_a_way_broke_is_filed(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    shots = [shot(name) for name in "ab"]

    class Breaks:
        def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
            yield tasks[0], bundle(shots[0])
            raise UnreachableError("cluster", where="x", expected="y", actual="z", remedy="w")

    with pytest.raises(UnreachableError):
        score_all(plan_of(shots), ResultStore(tmp_path), Breaks(), below("0"))

    assert [task.shot for task in missing_tasks(plan_of(shots), ResultStore(tmp_path), below("0"))] == ["b"]


def test_result_of_something_else_is_never_filed(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    shots = [shot(name) for name in "ab"]
    way = Scripted([("a", bundle(shots[1]))])

    with pytest.raises(MeasurementError, match="shot a"):
        score_all(plan_of(shots), ResultStore(tmp_path), way, below("0"))

    assert not list(tmp_path.rglob("scores.json"))


@pytest.mark.parametrize(
    "lie",
    [
        {"shot": "b"},
        {"set": "other"},
        {"version": 2},
        {"frames": (2,)},
        {"curves": ()},
        {"curves": (Curve(metric="jaccard:davis2017", subject="candidate", values=(None,)),)},
    ],
)
def test_filed_result_that_cannot_be_of_its_shot_is_scored_anew(
    tmp_path: Path, plan_of: Callable[..., Plan], lie: dict[str, Any]
) -> None:
    shots, store = [shot(name) for name in "ab"], ResultStore(tmp_path)
    told = bundle(shots[0]).scores.model_copy(update=lie)
    store.put(Bundle(told, ShotTimes(host="vm1", candidate_us=(1,), wall_us=1, scores=told.digest())))
    way = Scripted([("a", bundle(shots[0])), ("b", bundle(shots[1]))])

    found = score_all(plan_of(shots), store, way, below("0"))

    assert way.asked == ["a", "b"]
    assert found.scores == (bundle(shots[0]).scores, bundle(shots[1]).scores)
    assert store.get(key(shots[0])) == bundle(shots[0]).scores


HUNDREDTHS = st.integers(0, 100).map(lambda value: f"{value / 100:.2f}")


@settings(deadline=None)  # The first call imports numpy and scipy.
@given(st.lists(st.tuples(HUNDREDTHS, HUNDREDTHS), min_size=1, max_size=9), st.booleans())
def test_ending_at_the_first_broken_guard_decides_as_all_shots_do(pairs: list[tuple[str, str]], baseline: bool) -> None:
    policy = GoldenPolicy(min_shots=3)
    all_shots = [bundle(shot(f"sh{n}"), *pair).scores for n, pair in enumerate(pairs)]
    counting: list[ShotScores] = []
    for one in all_shots:
        counting.append(one)
        if broken_early(shot_scores([one], 12), policy, baseline=baseline):
            break

    early = judge(shot_scores(counting, 12), policy, baseline=baseline)
    full = judge(shot_scores(all_shots, 12), policy, baseline=baseline)

    assert early.decision == full.decision
    assert (early.decision == "reject") >= (len(counting) < len(all_shots))


def made(one: GoldenShot, **changes: str) -> Bundle:
    """A result of a shot that ran in another way."""
    other = bundle(one)
    scores = other.scores.model_copy(update=changes)
    return Bundle(scores, other.times.model_copy(update={"scores": scores.digest()}))


def test_result_made_without_isolation_counts_only_where_the_policy_takes_it(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    shots, store = [shot("a")], ResultStore(tmp_path)
    plan = plan_of(shots)
    strict = replace(plan, isolated=True)
    store.put(made(shots[0], sandbox="limits-only"))

    assert missing_tasks(plan, store, below("0")) == ()
    assert [task.shot for task in missing_tasks(strict, store, below("0"))] == ["a"]
    with pytest.raises(MeasurementError, match="sandbox limits-only, where the policy says required"):
        score_all(strict, store, Scripted([("a", made(shots[0], sandbox="limits-only"))]), below("0"))

    results = score_all(strict, store, Scripted([("a", made(shots[0], sandbox="namespaces"))]), below("0"))

    assert [one.sandbox for one in results.scores] == ["namespaces"]
    assert missing_tasks(strict, store, below("0")) == ()


def test_result_made_without_isolation_never_takes_the_place_of_one_made_with_it(tmp_path: Path) -> None:
    one, store = shot("a"), ResultStore(tmp_path)
    for sandbox in ("bubblewrap", "limits-only", "none"):
        store.put(made(one, sandbox=sandbox))

    found = store.get(key(one))

    assert found is not None
    assert found.sandbox == "bubblewrap"


def test_result_of_another_provider_than_its_key_says_is_not_taken(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    shots, store = [shot("a")], ResultStore(tmp_path)

    with pytest.raises(MeasurementError, match="a result of provider cuda"):
        score_all(plan_of(shots), store, Scripted([("a", made(shots[0], provider_ran="cuda"))]), below("0"))

    assert store.get(key(shots[0])) is None
