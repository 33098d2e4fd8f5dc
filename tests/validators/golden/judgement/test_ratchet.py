"""What was approved once is the bar: small steps down do not add up, and nobody can lower or raise the bar by a lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.findings import NotRun, Passed, Refused
from changeover_registry.records.policy import GoldenPolicy, Guards
from changeover_registry.records.scores import ScoreKey
from changeover_registry.records.verdict import ShotScore
from changeover_validators.golden.gates import BOUNDARY_F, FLICKER, JACCARD, MAD, gates
from changeover_validators.golden.judge import Judgement, broken_early, judge
from changeover_validators.golden.ratchet import Best, best_scores, gains_by_release

POLICY = GoldenPolicy()
SHOTS = tuple(f"s{number}" for number in range(1, 9))
START = {JACCARD: Decimal("0.9"), BOUNDARY_F: Decimal("0.8"), MAD: Decimal("0.02")}
MARGINS = {JACCARD: Decimal("-0.01"), BOUNDARY_F: Decimal("-0.01"), MAD: Decimal("0.005")}


@dataclass
class History:
    """A studio that judges release after release on the same shots and promotes whatever is accepted."""

    build: Any
    filed: list[Any] = field(default_factory=list)
    promoted: set[str] = field(default_factory=set)
    known: dict[str, ScoreKey] = field(default_factory=dict)

    def keys(self, number: int, **changes: Any) -> dict[str, ScoreKey]:
        """What the scores of a release depend on, filed where the ratchet may look them up."""
        keys = {shot: self.build.key(shot, release=f"{number}", **changes) for shot in SHOTS}
        self.known.update({key.digest(): key for key in keys.values()})
        return keys

    def best(self, keys: Mapping[str, ScoreKey]) -> tuple[Best, ...]:
        return best_scores(self.filed, self.promoted, keys, self.known.get)

    def judge(self, number: int, values: Mapping[str, Decimal], current: Mapping[str, Decimal] | None) -> Judgement:
        """Judge a release with these means (a little different from shot to shot) and promote it if it is accepted."""
        scores, keys = tuple(self._scores(values, current)), self.keys(number)
        judged = judge(scores, POLICY, baseline=current is not None, best=self.best(keys))
        if judged.decision == "accept":
            before = number - 1 if current is not None else None
            self.filed.insert(0, self.build.filed(number, scores, keys, current=before))
            self.promoted.add(self.build.ref(number).digest)
        return judged

    def _scores(self, values: Mapping[str, Decimal], current: Mapping[str, Decimal] | None) -> list[ShotScore]:
        drift = {shot: Decimal(index % 3) / 5000 for index, shot in enumerate(SHOTS)}
        return [
            self.build.score(
                metric, value + drift[shot], None if current is None else current[metric] + drift[shot], shot=shot
            )
            for shot in SHOTS
            for metric, value in values.items()
        ]


def step(count: int, metrics: tuple[str, ...]) -> dict[str, Decimal]:
    """The means after `count` losses of 0.9 of the margin in these metrics."""
    return {m: value + (count * Decimal("0.9") * MARGINS[m] if m in metrics else 0) for m, value in START.items()}


@pytest.mark.parametrize("metrics", [(JACCARD,), (BOUNDARY_F,), (MAD,), (JACCARD, BOUNDARY_F, MAD)])
def test_five_losses_of_nine_tenths_of_the_margin_are_refused_at_the_second(
    build: Any, metrics: tuple[str, ...]
) -> None:
    history = History(build)
    assert history.judge(0, step(0, metrics), None).decision == "accept"
    assert history.judge(1, step(1, metrics), step(0, metrics)).decision == "accept"
    for count in range(2, 6):
        judged = history.judge(count, step(count, metrics), step(count - 1, metrics))
        assert judged.decision == "reject"
        assert {f.rule for f in judged.findings if isinstance(f, Refused)} == {"ratchet"}
        assert "of 1.0.0" in judged.reason or "than 1.0.0, the best ever approved," in judged.reason


def test_without_the_ratchet_all_five_would_be_accepted(build: Any) -> None:
    """The road that the ratchet closes: each step alone is within the margin."""
    for count in range(1, 6):
        history = History(build)
        assert history.judge(count, step(count, (JACCARD,)), step(count - 1, (JACCARD,))).decision == "accept"


def test_release_that_was_never_promoted_is_no_bar(build: Any) -> None:
    history = History(build)
    history.judge(0, step(0, ()), None)
    history.promoted.clear()
    assert history.judge(1, step(1, (JACCARD,)), step(0, ())).decision == "accept"
    assert history.judge(2, step(2, (JACCARD,)), step(1, (JACCARD,))).decision == "accept"


def test_release_in_use_that_was_approved_is_a_bar_on_shots_that_are_newer_than_its_verdict(build: Any) -> None:
    """Its own verdict is on other shots; beside a rejected candidate it was scored on today's."""
    history = History(build)
    other = {shot: build.key(shot, release="0", metrics="old") for shot in SHOTS}
    history.known.update({key.digest(): key for key in other.values()})
    history.filed = [
        build.filed(3, build.shots(["-0.05"] * 8), history.keys(3), current=0, decision="reject"),
        build.filed(0, build.shots(["0"] * 8), other),
    ]
    history.promoted = {build.ref(0).digest, build.ref(3).digest}
    found = history.best(history.keys(9))
    assert {(one.release, one.value) for one in found if one.metric == JACCARD} == {(build.ref(0), "0.900000000")}


@pytest.mark.parametrize(
    "changes",
    [{"shot": "f" * 64}, {"threshold": "0.4"}, {"metrics": "changeover-metrics/2"}, {"golden_class": "e" * 64}],
)
def test_only_equal_shot_threshold_metrics_and_class_are_compared(build: Any, changes: dict[str, Any]) -> None:
    history = History(build)
    history.judge(0, step(0, ()), None)
    assert len(history.best(history.keys(1))) == 3 * len(SHOTS)
    assert history.best(history.keys(1, **changes)) == ()


def test_threshold_is_compared_as_a_number(build: Any) -> None:
    history = History(build)
    history.judge(0, step(0, ()), None)
    assert len(history.best(history.keys(1, threshold="0.50"))) == 3 * len(SHOTS)


def test_key_that_is_not_the_signed_one_raises_no_bar_and_lowers_none(build: Any) -> None:
    """Whoever may write the site puts another key where the signed one lay, or takes it away."""
    history = History(build)
    history.judge(0, step(0, ()), None)
    signed = dict(history.known)
    other = build.key("s1", release="f")
    for digest in signed:
        history.known[digest] = other
    assert history.best(history.keys(1)) == ()
    history.known = {}
    assert best_scores(history.filed, history.promoted, history.keys(1), lambda _: None) == ()


@pytest.mark.parametrize("decision", ["reject", "inconclusive", "error"])
def test_only_accepted_verdicts_approve(build: Any, decision: str) -> None:
    history = History(build)
    history.filed = [build.filed(0, build.shots(["0"] * 8), history.keys(0), decision=decision)]
    history.promoted = {build.ref(0).digest}
    assert history.best(history.keys(1)) == ()


def test_operating_point_that_was_not_accepted_approves_nothing(build: Any) -> None:
    history = History(build)
    filed = build.filed(0, build.shots(["0"] * 8), history.keys(0))
    (report,) = filed.verdict.points
    refused = Refused(check="golden", rule="margin", expected="as good", actual="worse", remedy="keep")
    for findings in ((refused,), (Passed(check="golden"), NotRun(check="smoke", why="no sandbox"))):
        points = (report.model_copy(update={"findings": findings}),)
        history.filed = [build.filed(0, (), {}, points=points)]
        history.promoted = {build.ref(0).digest}
        assert history.best(history.keys(1)) == ()


@pytest.mark.parametrize(("loss", "breaks"), [("0.03", False), ("0.030000001", True)])
@pytest.mark.parametrize("baseline", [True, False])
def test_one_shot_may_fall_to_the_limit_below_its_best(build: Any, loss: str, breaks: bool, baseline: bool) -> None:
    scores = [build.score(JACCARD, Decimal("0.9") - Decimal(loss), "0.86" if baseline else None)]
    best = (build.best("s1", JACCARD, "0.9", 3), build.best("s1", JACCARD, "0.88", 4), build.best("s2", JACCARD, "1"))
    assert broken_early(scores, POLICY, baseline=baseline, best=best) == breaks
    lax = GoldenPolicy(guards=Guards(ratchet="0.04"))
    assert not broken_early(scores, lax, baseline=baseline, best=best)


def test_refusal_names_the_release_that_was_better(build: Any) -> None:
    best = (build.best("s2", BOUNDARY_F, "0.85", 4),)
    judged = judge(build.shots(["0"] * 6), POLICY, baseline=True, best=best, names={"s2": "owl"})
    assert judged.decision == "reject"
    assert judged.reason == (
        "ratchet: shot owl: boundary F 0.8000, 0.0500 below 0.8500 of 1.4.0, "
        "expected boundary F at most 0.03 below the best ever approved on every shot"
    )


def test_flicker_does_not_creep_up_either(build: Any) -> None:
    best = (build.best("s1", FLICKER, "0.01"), build.best("s1", FLICKER, "0.015", 1))
    scores = [build.score(FLICKER, "0.02", "0.015")]
    assert not broken_early(scores, POLICY, baseline=True)
    assert broken_early(scores, POLICY, baseline=True, best=best)


def test_bound_against_the_best_asks_for_as_many_shots_as_the_policy_does(build: Any) -> None:
    """Four shared shots say nothing, five do; the per-shot guard holds on each of them."""
    best = tuple(build.best(f"s{number}", JACCARD, "0.92") for number in range(1, 9))
    scores = build.shots(["0"] * 8, only=JACCARD)
    assert judge(scores, POLICY, baseline=True, best=best[:4]).decision == "accept"
    judged = judge(scores, POLICY, baseline=True, best=best[:5])
    assert (judged.decision, "the best ever approved" in judged.reason) == ("reject", True)
    assert "over 5 shots" in judged.reason


def test_bound_against_the_best_that_leaves_it_open_is_inconclusive_with_a_baseline_alone(build: Any) -> None:
    values = ["0.9", "0.915", "0.9", "0.915", "0.9", "0.915"]
    best = tuple(build.best(f"s{number}", JACCARD, value) for number, value in enumerate(values, start=1))
    scores = build.shots(["0"] * 6, only=JACCARD)
    judged = judge(scores, POLICY, baseline=True, best=best)
    assert judged.decision == "inconclusive"
    assert "of 1.0.0, the best ever approved (margin 0.01)" in judged.reason
    alone = build.shots(["0"] * 6, only=JACCARD, baseline=False)
    assert judge(alone, POLICY, baseline=False, best=best).decision == "accept"


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(SHOTS), st.integers(800, 999)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_gains_are_against_each_releases_best_on_each_shot(build: Any, rows: list[tuple[int, str, int]]) -> None:
    best = [build.best(shot, JACCARD, f"0.{value}", number) for number, shot, value in rows]
    scores = [score for score in build.shots(["0"] * 8) if score.metric == JACCARD]
    found = gains_by_release(best, gates(POLICY)[0], scores, 2)
    for number in range(3):
        top: dict[str, int] = {}
        for release, shot, value in rows:
            if release == number:
                top[shot] = max(value, top.get(shot, 0))
        expected = tuple(Decimal(900 - top[shot]) / 1000 for shot in SHOTS if shot in top)
        assert found.get(build.ref(number), ()) == (expected if len(expected) >= 2 else ())


def test_order_of_verdicts_and_of_approved_scores_changes_no_decision(build: Any) -> None:
    best = tuple(
        build.best(shot, JACCARD, Decimal("0.9") + Decimal(n * i % 7) / 1000, n)
        for i, shot in enumerate(SHOTS)
        for n in range(3)
    )
    scores = build.shots(["0.001"] * 8)
    decisions = {
        judge(scores, POLICY, baseline=True, best=order).decision for order in (best, best[::-1], best[5:] + best[:5])
    }
    assert len(decisions) == 1
