import math
from decimal import Decimal, localcontext
from random import Random
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.findings import NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import GoldenPolicy, Guards
from changeover_registry.records.verdict import NoiseFloor, ShotScore
from changeover_validators.golden.gates import BOUNDARY_F, JACCARD, MAD
from changeover_validators.golden.judge import bounds, judge
from changeover_validators.golden.power import quantile

POLICY = GoldenPolicy()
BASE = {JACCARD: Decimal("0.9"), BOUNDARY_F: Decimal("0.8"), MAD: Decimal("0.02")}
BETTER = {JACCARD: 1, BOUNDARY_F: 1, MAD: -1}


def shots(gains: list[str], *, only: str | None = None, baseline: bool = True) -> tuple[ShotScore, ...]:
    """One shot for each gain; every metric is better by it (only one of them where `only` says)."""
    scores = []
    for number, gain in enumerate(gains, start=1):
        for metric, current in BASE.items():
            change = BETTER[metric] * Decimal(gain) if only in {None, metric} else Decimal(0)
            scores.append(
                ShotScore(
                    shot=f"s{number}",
                    metric=metric,
                    frames=12,
                    candidate=f"{current + change:.6f}",
                    current=f"{current:.6f}" if baseline else None,
                )
            )
    return tuple(scores)


# Published quantiles of Student's t at 95 %, one-sided (degrees of freedom: value).
T95 = {1: 6.314, 4: 2.132, 7: 1.895, 10: 1.812, 11: 1.796}


@pytest.mark.parametrize("count", [2, 5, 8, 11, 12])
def test_bounds_are_mean_plus_and_minus_t_times_the_standard_error(count: int) -> None:
    gains = [1000.0 * math.sin(number) for number in range(count)]
    reach = T95[count - 1] * stdev(gains) / math.sqrt(count)
    found = bounds(np.array(gains), 0.95)
    assert float(found.mean) == pytest.approx(mean(gains))
    assert float(found.lower) == pytest.approx(mean(gains) - reach, abs=1.0 + 0.001 * reach)
    assert float(found.upper) == pytest.approx(mean(gains) + reach, abs=1.0 + 0.001 * reach)


@settings(deadline=None)
@given(st.lists(st.integers(-1_000_000, 1_000_000), min_size=2, max_size=20), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_enclose_the_mean_and_widen_with_confidence(gains: list[int], confidence: float) -> None:
    values = np.array(gains, np.float64)
    found, wider = bounds(values, confidence), bounds(values, 0.999)
    assert found.lower <= found.mean <= found.upper
    assert wider.lower <= found.lower
    assert found.upper <= wider.upper


@settings(deadline=None)
@given(st.integers(-1_000_000, 1_000_000), st.integers(2, 40))
def test_equal_differences_have_their_own_value_as_bounds(gain: int, count: int) -> None:
    found = bounds(np.full(count, float(gain)), 0.95)
    assert found.lower == found.mean == found.upper == gain


def test_a_better_release_is_accepted_with_its_numbers() -> None:
    judged = judge(shots(["0.02", "0.025", "0.015", "0.02", "0.018", "0.022"]), POLICY, baseline=True)
    assert judged.decision == "accept"
    assert judged.reason.startswith("no worse than the current release on 6 shots: Jaccard +0.0200, at least +0.0")
    assert judged.findings == (Passed(check="golden", detail=judged.reason),)
    jaccard = judged.metrics[0]
    assert (jaccard.metric, jaccard.shots, jaccard.margin, jaccard.mean) == (JACCARD, 6, "0.01", "0.020000")
    assert jaccard.lower is not None
    assert 0.016 < float(jaccard.lower) < 0.02


def test_the_same_release_again_is_accepted() -> None:
    judged = judge(shots(["0"] * 5), POLICY, baseline=True)
    assert judged.decision == "accept"
    assert {(one.mean, one.lower, one.upper) for one in judged.metrics} == {("0.000000", "0.000000", "0.000000")}


@pytest.mark.parametrize(
    ("gain", "decision"), [("-0.009999", "accept"), ("-0.01", "inconclusive"), ("-0.010001", "reject")]
)
def test_without_variance_the_margin_decides_to_the_last_digit(gain: str, decision: str) -> None:
    judged = judge(shots([gain] * 6, only=JACCARD), POLICY, baseline=True)
    assert judged.decision == decision


@pytest.mark.parametrize(("metric", "loss"), [(JACCARD, "-0.02"), (BOUNDARY_F, "-0.02"), (MAD, "-0.01")])
def test_one_metric_that_is_surely_worse_rejects(metric: str, loss: str) -> None:
    gains = [str(Decimal(loss) + Decimal(step) / 10000) for step in range(6)]
    judged = judge(shots(gains, only=metric), POLICY, baseline=True)
    assert judged.decision == "reject"
    (finding,) = judged.findings
    assert isinstance(finding, Refused)
    assert finding.rule == "margin"
    assert "over 6 shots" in judged.reason
    assert {JACCARD: "Jaccard", BOUNDARY_F: "boundary F", MAD: "MAD"}[metric] in judged.reason


def test_a_wide_spread_is_inconclusive_with_its_interval() -> None:
    judged = judge(shots(["0.02", "-0.025", "0.02", "-0.025", "0.01", "-0.01"], only=BOUNDARY_F), POLICY, baseline=True)
    assert judged.decision == "inconclusive"
    assert judged.reason.startswith("6 shots cannot tell whether it is worse than the margin: boundary F between -0.0")
    (finding,) = judged.findings
    assert isinstance(finding, NotRun)
    assert not finding.error


def test_eleven_better_shots_do_not_hide_one_that_collapses() -> None:
    policy = GoldenPolicy(margin_jaccard="0.05", margin_boundary_f="0.05", margin_mad="0.05")
    scores = shots(["0.004"] * 11 + ["-0.04"], only=JACCARD)
    judged = judge(scores, policy, baseline=True, names={"s12": "fox"})
    assert float(judged.metrics[0].mean) > 0
    assert judged.decision == "reject"
    assert judged.reason == (
        "worst shot: shot fox: Jaccard 0.8600, 0.0400 below 0.9000, "
        "expected Jaccard at most 0.03 below the current release on every shot"
    )


@pytest.mark.parametrize(("drop", "decision"), [("-0.03", "accept"), ("-0.030001", "reject")])
def test_the_worst_shot_may_drop_to_the_limit_and_no_further(drop: str, decision: str) -> None:
    policy = GoldenPolicy(margin_jaccard="0.05", margin_boundary_f="0.05", margin_mad="0.05")
    assert judge(shots(["0"] * 9 + [drop], only=BOUNDARY_F), policy, baseline=True).decision == decision


@pytest.mark.parametrize(
    ("guards", "text"),
    [
        (
            Guards(floor_jaccard="0.9001"),
            "floor: shot s1: Jaccard 0.9000, expected Jaccard at least 0.9001 on every shot",
        ),
        (Guards(floor_boundary_f="0.81"), "floor: shot s1: boundary F 0.8000"),
        (Guards(ceiling_mad="0.0199"), "ceiling: shot s1: MAD 0.0200, expected MAD at most 0.0199 on every shot"),
    ],
)
@pytest.mark.parametrize("baseline", [True, False])
def test_floors_and_ceiling_reject_with_and_without_a_baseline(guards: Guards, text: str, baseline: bool) -> None:
    judged = judge(shots(["0"] * 6, baseline=baseline), GoldenPolicy(guards=guards), baseline=baseline)
    assert judged.decision == "reject"
    assert judged.reason.startswith(text)
    assert judged.reason.endswith("(5 more guards broken)")
    assert len(judged.findings) == 6


def test_limits_themselves_are_within() -> None:
    guards = Guards(floor_jaccard="0.9", floor_boundary_f="0.8", ceiling_mad="0.02")
    assert judge(shots(["0"] * 5, baseline=False), GoldenPolicy(guards=guards), baseline=False).decision == "accept"


def test_without_a_baseline_the_guards_alone_decide_and_the_reason_says_so() -> None:
    judged = judge(shots(["0", "-0.1", "0.01", "0", "0"], baseline=False), POLICY, baseline=False, names={"s2": "owl"})
    assert judged.decision == "reject"
    judged = judge(shots(["0", "-0.05", "0.01", "0", "0"], baseline=False), POLICY, baseline=False, names={"s2": "owl"})
    assert judged.decision == "accept"
    assert judged.reason.startswith("no baseline: floors and guards hold on 5 shots; worst Jaccard 0.8500 (owl)")
    assert judged.reason.endswith("MAD 0.0700 (owl)")
    assert judged.metrics == ()
    absent = judged.findings[1]
    assert isinstance(absent, NotApplicable)
    assert absent.rule == "no-baseline"


@pytest.mark.parametrize("baseline", [True, False])
def test_fewer_shots_than_the_policy_asks_for_are_inconclusive(baseline: bool) -> None:
    judged = judge(shots(["0.02"] * 4, baseline=baseline), POLICY, baseline=baseline)
    assert (judged.decision, judged.reason) == ("inconclusive", "too few shots: 4 of 5")


def test_one_shot_has_no_bounds_and_is_inconclusive() -> None:
    judged = judge(shots(["0.02"]), POLICY, baseline=True)
    assert judged.decision == "inconclusive"
    assert {(one.lower, one.upper) for one in judged.metrics} == {(None, None)}


def test_a_broken_guard_rejects_however_few_the_shots() -> None:
    assert judge(shots(["-0.2"]), POLICY, baseline=True).decision == "reject"


def test_no_scores_are_inconclusive() -> None:
    judged = judge((), POLICY, baseline=True)
    assert (judged.decision, judged.reason) == (
        "inconclusive",
        "no golden shot has a score of Jaccard, boundary F, MAD",
    )


def test_a_shot_without_its_current_score_is_inconclusive() -> None:
    scores = [*shots(["0.02"] * 6), *shots(["0.02"] * 7, baseline=False)[-3:]]
    judged = judge(scores, POLICY, baseline=True)
    assert (judged.decision, judged.reason) == ("inconclusive", "shot s7 has no score of the current release")


def test_the_number_of_frames_proves_nothing() -> None:
    gains = ["0.02", "-0.025", "0.02", "-0.025", "0.01", "-0.01"]
    few = shots(gains)
    many = tuple(score.model_copy(update={"frames": 100_000}) for score in few)
    assert judge(many, POLICY, baseline=True) == judge(few, POLICY, baseline=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-40_000, 40_000), min_size=5, max_size=12))
def test_the_decision_follows_from_what_is_printed(gains: list[int]) -> None:
    judged = judge(shots([str(Decimal(gain) / 1_000_000) for gain in gains]), POLICY, baseline=True)
    margins = {JACCARD: 0.01, BOUNDARY_F: 0.01, MAD: 0.005}
    dropped = min(gains) < -30_000
    worse = any(float(one.upper or "nan") < -margins[one.metric] for one in judged.metrics)
    sure = all(float(one.lower or "nan") > -margins[one.metric] for one in judged.metrics)
    assert judged.decision == ("reject" if dropped or worse else "accept" if sure else "inconclusive")


def test_frames_as_the_unit_would_accept_far_too_often() -> None:
    """Why the shot is the unit: the same sets, every frame counted as if it stood alone."""
    random = np.random.default_rng(20261122)
    margin, frames = 10_000.0, 60
    of_shots = random.normal(-margin, 6_000.0, (2_000, 8, 1))
    seen = (of_shots + random.normal(0, 1_000.0, (2_000, 8, frames))).reshape(2_000, -1)
    assert float((bounds(seen, 0.95).lower > -margin).mean()) > 0.3


REVIEW = GoldenPolicy(supervisor_review=True)
ORDER = {"reject": 0, "inconclusive": 1, "accept": 2}
gains_lists = st.lists(st.integers(-30_000, 30_000), min_size=5, max_size=10)


def micro(gains: list[int]) -> tuple[ShotScore, ...]:
    return shots([f"{Decimal(gain) / 1_000_000:f}" for gain in gains])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("baseline", [True, False])
def test_few_shots_are_marked_as_such_and_a_sign_off_is_named_only_where_it_helps(count: int, baseline: bool) -> None:
    scores = shots(["0.001"] * count, baseline=baseline)
    plain, review = judge(scores, POLICY, baseline=baseline), judge(scores, REVIEW, baseline=baseline)
    for judged in (plain, review):
        assert judged.decision == "inconclusive"
        assert isinstance(judged.findings[0], NotRun)
        assert judged.findings[0].rule == "few-shots"
    assert isinstance(review.findings[0], NotRun)
    assert "sign-off" not in plain.reason + str(plain.findings[0])
    assert "one named sign-off on the report would accept it" in review.reason
    assert "changeover verdict sign-off DIGEST --name NAME --note NOTE" in review.findings[0].remedy


def test_few_shots_that_are_surely_worse_say_so_to_the_supervisor() -> None:
    judged = judge(shots(["-0.02", "-0.021", "-0.02"], only=JACCARD), REVIEW, baseline=True)
    assert judged.decision == "inconclusive"
    assert "on these shots Jaccard is worse by at least 0.0" in judged.reason


@pytest.mark.parametrize(
    ("scores", "noise"),
    [
        (shots(["-0.2"] * 3), ()),
        ((), ()),
        (shots(["0.01"] * 3), (NoiseFloor(metric=JACCARD, difference="0.01"),)),
        (shots(["0.02", "-0.02"] * 4), ()),
    ],
)
def test_whatever_else_is_missing_is_not_called_few_shots(
    scores: tuple[ShotScore, ...], noise: tuple[NoiseFloor, ...]
) -> None:
    judged = judge(scores, REVIEW, baseline=True, noise=noise)
    assert all(getattr(finding, "rule", None) != "few-shots" for finding in judged.findings)
    assert judged.decision != "accept"


def test_inconclusive_says_how_many_shots_would_decide_and_so_many_do() -> None:
    pattern = ["0.008", "-0.016", "0.004", "-0.012", "0.002", "-0.004"]
    judged = judge(shots(pattern, only=JACCARD), POLICY, baseline=True)
    assert judged.decision == "inconclusive"
    number = int(judged.reason.partition("about ")[2].partition(" would")[0])
    assert 6 < number < 30
    more = judge(shots((pattern * number)[: 6 * -(-number // 6)], only=JACCARD), POLICY, baseline=True)
    assert more.decision == "accept"


def test_loss_as_large_as_the_margin_is_decided_by_no_number_of_shots() -> None:
    judged = judge(shots(["-0.001", "-0.019"] * 3, only=JACCARD), POLICY, baseline=True)
    assert judged.decision == "inconclusive"
    assert judged.reason.endswith("no number up to 1000 would decide, since the loss is as large as the margin")


def test_one_metric_that_leans_to_worse_is_what_further_shots_would_decide() -> None:
    """Boundary F leans to a reject, which needs fewer shots than Jaccard's accept would."""
    scores = [
        *shots(["0.02", "-0.03"] * 3, only=JACCARD)[0::3],
        *shots(["-0.005", "-0.018"] * 3, only=BOUNDARY_F)[1::3],
        *shots(["0"] * 6)[2::3],
    ]
    judged = judge(scores, GoldenPolicy(guards=Guards(worst_shot="0.5")), baseline=True)
    assert judged.decision == "inconclusive"
    number = int(judged.reason.partition("about ")[2].partition(" would")[0])
    found = next(one for one in judged.metrics if one.metric == BOUNDARY_F)
    assert float(found.mean) < -0.01
    spread = stdev([-5_000.0, -18_000.0] * 3)
    needed = next(n for n in range(7, 999) if T_95(n - 1) * spread / math.sqrt(n) < 1_500)
    assert number == needed


def T_95(freedom: int) -> float:  # noqa: N802 - the table above, where it ends
    from scipy import stats

    return float(stats.t.ppf(0.95, freedom))


@settings(deadline=None, max_examples=60)
@given(gains_lists, st.randoms(use_true_random=False))
def test_order_of_shots_leaves_the_decision_and_the_numbers(gains: list[int], random: Random) -> None:
    scores = list(micro(gains))
    found = judge(scores, POLICY, baseline=True)
    random.shuffle(scores)
    again = judge(scores, POLICY, baseline=True)
    assert again.decision == found.decision
    assert sorted(map(str, again.metrics)) == sorted(map(str, found.metrics))


@settings(deadline=None, max_examples=100)
@given(gains_lists, st.integers(0, 9), st.integers(1, 40_000))
def test_improving_one_shot_never_turns_accept_into_reject(gains: list[int], which: int, step: int) -> None:
    """It may turn it into inconclusive: an outlier to the good widens the spread, see the next test."""
    better = list(gains)
    better[which % len(gains)] += step
    if judge(micro(gains), POLICY, baseline=True).decision == "accept":
        assert judge(micro(better), POLICY, baseline=True).decision != "reject"


def test_spread_counts_in_both_directions() -> None:
    """One shot that is much better makes an accept inconclusive; one that is less bad makes an open answer a reject."""
    accepted = [-9_000] * 6
    assert judge(micro(accepted), POLICY, baseline=True).decision == "reject"
    calm = GoldenPolicy(margin_mad="0.01")
    assert judge(micro(accepted), calm, baseline=True).decision == "accept"
    assert judge(micro([*accepted[:5], 29_000]), calm, baseline=True).decision == "inconclusive"
    leaning = [-12_000] * 5 + [-29_000]
    assert judge(micro(leaning), calm, baseline=True).decision == "inconclusive"
    assert judge(micro([-12_000] * 6), calm, baseline=True).decision == "reject"


@settings(deadline=None, max_examples=100)
@given(gains_lists, st.integers(1, 40_000))
def test_improving_every_shot_alike_never_makes_the_decision_worse(gains: list[int], step: int) -> None:
    before, after = micro(gains), micro([gain + step for gain in gains])
    found, better = judge(before, POLICY, baseline=True), judge(after, POLICY, baseline=True)
    assert ORDER[better.decision] >= ORDER[found.decision]


@settings(deadline=None, max_examples=60)
@given(gains_lists, st.integers(2, 20))
def test_decision_does_not_depend_on_the_unit(gains: list[int], factor: int) -> None:
    """Differences and margins in a unit that is so many times smaller; bounds that round onto the margin aside."""

    def policy(scale: int) -> GoldenPolicy:
        margin = f"{Decimal(10_000 * scale) / 1_000_000:f}"
        wide = Guards(worst_shot="9", floor_jaccard="0", floor_boundary_f="0", ceiling_mad="9")
        return GoldenPolicy(margin_jaccard=margin, margin_boundary_f=margin, margin_mad=margin, guards=wide)

    one = judge(micro(gains), policy(1), baseline=True)
    other = judge(micro([factor * gain for gain in gains]), policy(factor), baseline=True)
    near = min(abs(abs(float(bound or 0)) - 0.01) for m in one.metrics for bound in (m.lower, m.upper))
    if near > 3e-6:
        assert other.decision == one.decision


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=20))
def test_bounds_are_rounded_outwards_and_by_less_than_a_millionth(nanos: list[int]) -> None:
    """Against decimals of fifty digits; the quantile is the one that was used."""
    gains = [Decimal(nano) / 1000 for nano in nanos]
    found = bounds(np.array([float(gain) for gain in gains]), 0.95)
    with localcontext() as context:
        context.prec = 50
        average = sum(gains, Decimal(0)) / len(gains)
        squares = [(gain - average) * (gain - average) for gain in gains]
        spread = (sum(squares, Decimal(0)) / (len(gains) - 1)).sqrt()
        reach = Decimal(quantile(0.95, len(gains) - 1)) * spread / Decimal(len(gains)).sqrt()
        slack = Decimal("0.0001")
        assert average - reach - 1 - slack < Decimal(float(found.lower)) <= average - reach + slack
        assert average + reach - slack <= Decimal(float(found.upper)) < average + reach + 1 + slack
