"""Each guard refuses by itself, at its limit and not before, and whatever the others say."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.findings import Refused
from changeover_registry.records.policy import GoldenPolicy, Guards
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.gates import BOUNDARY_F, EMPTY, FLICKER, JACCARD, MAD, TRUTH_FLICKER
from changeover_validators.golden.judge import Judgement, broken_early, judge
from changeover_validators.golden.metrics import FrameScorer, Measured
from changeover_validators.golden.summary import shot_scores
from changeover_validators.golden.thresholds import limits

POLICY = GoldenPolicy()
HELD = limits(POLICY.guards)


def rules(judged: Any) -> list[str]:
    return [finding.rule for finding in judged.findings if isinstance(finding, Refused)]


def test_eleven_shots_a_little_better_do_not_pay_for_one_that_falls(build: Any) -> None:
    scores = build.shots(["0.004"] * 11 + ["-0.04"], only=JACCARD)
    judged = judge(scores, POLICY, baseline=True, names={"s12": "fox"})
    assert Decimal(judged.metrics[0].mean) > 0
    assert (judged.decision, rules(judged)) == ("reject", ["worst shot"])
    assert "shot fox: Jaccard 0.8600, 0.0400 below 0.9000" in judged.reason


def test_collapse_inside_a_long_shot_whose_mean_is_fine_is_refused(build: Any) -> None:
    """Twelve of 300 frames lose everything that can be lost without the shot's mean losing 0.03."""
    good = ["0.9"] * 300
    bad = ["0.905"] * 100 + ["0.2"] * 12 + ["0.905"] * 188
    results = [
        build.result(
            {(metric, "candidate"): bad if n == 3 and metric == JACCARD else good, (metric, "current"): good}
            | _fine(300),
            shot=f"s{n}",
        )
        for n in range(6)
        for metric in (JACCARD,)
    ]
    scores = shot_scores(results, HELD.window_frames)
    assert broken_early(scores, POLICY, baseline=True)
    judged = judge(scores, POLICY, baseline=True)
    assert (judged.decision, rules(judged)) == ("reject", ["worst window"])
    assert "shot s3: Jaccard 0.7000 below it from frame 1101 on" in judged.reason
    lax = GoldenPolicy(guards=Guards(worst_window="0.7"), margin_jaccard="0.02")
    assert judge(scores, lax, baseline=True).decision == "accept"


def _fine(count: int) -> dict[tuple[str, str], list[str]]:
    return {
        (metric, subject): [value] * count
        for metric, value in ((BOUNDARY_F, "0.8"), (MAD, "0.02"))
        for subject in ("candidate", "current")
    }


@pytest.mark.parametrize("metric", [JACCARD, BOUNDARY_F])
@pytest.mark.parametrize(("loss", "breaks"), [("0.06", False), ("0.060000001", True)])
def test_worst_window_may_lose_to_the_limit_and_no_further(build: Any, metric: str, loss: str, breaks: bool) -> None:
    score = build.score(metric, "0.9", "0.9", window_loss=loss, window_first=1001)
    assert broken_early([score], POLICY, baseline=True) == breaks
    assert not broken_early([score], POLICY, baseline=False)


@pytest.mark.parametrize(
    ("empty", "current", "allowed", "breaks"),
    [
        ("0", "0", 0, False),
        ("0.083333333", "0", 0, True),
        ("0.083333333", "0", 1, False),
        ("0.166666667", "0", 1, True),
        ("0.166666667", "0.166666667", 0, False),
        ("0.25", "0.166666667", 0, True),
    ],
)
def test_nothing_found_is_allowed_on_as_many_frames_as_the_policy_or_the_current_release_has(
    build: Any, empty: str, current: str, allowed: int, breaks: bool
) -> None:
    policy = GoldenPolicy(guards=Guards(empty_frames=allowed))
    assert broken_early([build.score(EMPTY, empty, current)], policy, baseline=True) == breaks
    without = Decimal(empty) * 12 > Decimal("0.5") + allowed
    assert broken_early([build.score(EMPTY, empty)], policy, baseline=False) == without


def test_candidate_that_finds_nothing_is_refused_by_that_name(build: Any) -> None:
    scores = [*build.shots(["0"] * 6), build.score(EMPTY, "0.5", "0", shot="s4")]
    judged = judge(scores, POLICY, baseline=True)
    assert rules(judged) == ["not empty"]
    assert "shot s4: nothing found on 6 of 12 frames" in judged.reason


@pytest.mark.parametrize(
    ("candidate", "current", "truth", "breaks"),
    [
        ("0.0175", "0.01", "0.002", False),
        ("0.017500001", "0.01", "0.002", True),
        ("0.0175", "0.002", "0.01", False),
        ("0.017500001", "0.002", "0.01", True),
        ("0.000875", "0", "0", False),
        ("0.000875001", "0", "0", True),
    ],
)
def test_flicker_may_be_the_ratio_times_the_largest_of_current_truth_and_floor(
    build: Any, candidate: str, current: str, truth: str, breaks: bool
) -> None:
    scores = [build.score(FLICKER, candidate, current), build.score(TRUTH_FLICKER, truth, truth)]
    assert broken_early(scores, POLICY, baseline=True) == breaks


def test_without_a_baseline_flicker_is_held_against_the_truth(build: Any) -> None:
    scores = [build.score(FLICKER, "0.02"), build.score(TRUTH_FLICKER, "0.01")]
    assert broken_early(scores, POLICY, baseline=False)
    assert not broken_early(scores, GoldenPolicy(guards=Guards(flicker_ratio="2")), baseline=False)


def test_floor_of_flicker_may_be_nothing_at_all(build: Any) -> None:
    policy = GoldenPolicy(guards=Guards(flicker_floor="0"))
    assert broken_early([build.score(FLICKER, "0.000000001")], policy, baseline=False)
    assert not broken_early([build.score(FLICKER, "0")], policy, baseline=False)


def test_shot_of_one_frame_has_no_flicker_and_is_not_refused_for_it(build: Any) -> None:
    assert not broken_early([build.score(TRUTH_FLICKER, "0.01", "0.01")], POLICY, baseline=True)


@pytest.mark.parametrize("baseline", [True, False])
def test_boil_added_to_a_good_matte_alone_is_refused(build: Any, baseline: bool) -> None:
    """A calm figure whose matte boils by less than MAD's margin: J, F and MAD would let it pass."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:90, :120].astype(np.float32)
    truth = [np.clip(20 - np.hypot(x - 60 - 0.2 * n, y - 45) + 0.5, 0, 1) for n in range(24)]
    good = [np.clip(t + 0.002 * np.sin(x / 9), 0, 1) for t in truth]
    noise = [random.normal(0, 0.02, x.shape).astype(np.float32) for _ in truth]
    boil = [np.clip(g + n * (t > 0), 0, 1) for g, n, t in zip(good, noise, truth, strict=True)]
    curves = _curves("candidate", boil, truth) | (_curves("current", good, truth) if baseline else {})
    scores = shot_scores([build.result(curves, shot=f"s{n}") for n in range(1, 7)], HELD.window_frames)
    judged = judge(scores, POLICY, baseline=baseline)
    assert (judged.decision, set(rules(judged))) == ("reject", {"flicker"})
    rest = [score for score in scores if score.metric not in {FLICKER, TRUTH_FLICKER}]
    assert judge(rest, POLICY, baseline=baseline).decision == "accept"
    calm = _curves("candidate", good, truth) | (_curves("current", good, truth) if baseline else {})
    same = shot_scores([build.result(calm, shot=f"s{n}") for n in range(1, 7)], HELD.window_frames)
    assert judge(same, POLICY, baseline=baseline).decision == "accept"


def _curves(subject: str, mattes: list[Any], truth: list[Any]) -> dict[tuple[str, str], list[str | None]]:
    """What the product's own scorer says of every frame, as it is filed."""
    scorer = FrameScorer(threshold=0.5)
    frames = [scorer.score(matte, true) for matte, true in zip(mattes, truth, strict=True)]
    found = {metric.name: [frame[metric.name] for frame in frames] for metric in METRICS}
    return {
        (name, subject): [f"{one.value:.9f}" if isinstance(one, Measured) else None for one in values]
        for name, values in found.items()
    }


def refusals(judged: Judgement) -> list[Refused]:
    return [finding for finding in judged.findings if isinstance(finding, Refused)]


def test_worst_of_the_broken_guards_is_the_reason_and_comes_first(build: Any) -> None:
    scores = build.shots(["0", "-0.05", "0", "-0.2", "0", "0"])
    early = judge([score for score in scores if score.shot in {"s1", "s2"}], POLICY, baseline=True)
    full = judge(scores, POLICY, baseline=True)
    assert "shot s4" in full.reason
    assert "shot s4" in refusals(full)[0].actual
    assert early.findings == full.findings[-len(early.findings) :]
    assert early.decision == full.decision == "reject"


def test_guards_of_unlike_metrics_are_ordered_by_how_many_times_over_their_limits_they_are(build: Any) -> None:
    scores = [
        build.score(JACCARD, "0.85", "0.9", shot="s1"),
        build.score(MAD, "0.9", "0.9", shot="s2"),
        build.score(EMPTY, "0.25", "0", shot="s3"),
        build.score(JACCARD, "0.49", "0.49", shot="s4"),
    ]
    judged = judge(scores, POLICY, baseline=True)
    assert rules(judged) == ["ceiling", "not empty", "worst shot", "floor"]


@pytest.mark.parametrize("baseline", [True, False])
def test_alias_is_told_as_a_shots_once_and_the_remedy_fits_what_is_in_use(build: Any, baseline: bool) -> None:
    scores = [build.score(JACCARD, "0.4", "0.4", shot="ab0200"), build.score(JACCARD, "0.4", "0.4", shot="cd")]
    judged = judge(scores, POLICY, baseline=baseline, names={"ab0200": "shot-2", "cd": "hair"})
    assert [f.actual for f in refusals(judged)] == ["shot-2: Jaccard 0.4000", "shot hair: Jaccard 0.4000"]
    begins = "keep the current release" if baseline else "do not promote it"
    assert all(f.remedy.startswith(begins) for f in refusals(judged))


gain_lists = st.lists(st.integers(-60, 60).map(lambda n: Decimal(n) / 1000), min_size=1, max_size=9)


@given(gain_lists)
@settings(deadline=None, max_examples=80)
def test_run_that_ends_at_the_first_broken_guard_decides_as_the_full_one(build: Any, gains: list[Decimal]) -> None:
    scores = build.shots(gains)
    full = judge(scores, POLICY, baseline=True)
    for count in range(1, len(gains) + 1):
        so_far = scores[: 3 * count]
        if broken_early(so_far, POLICY, baseline=True):
            assert judge(so_far, POLICY, baseline=True).decision == full.decision == "reject"
            assert set(judge(so_far, POLICY, baseline=True).findings) <= set(full.findings)
            break
    else:
        assert "guards" not in full.reason


@given(gain_lists, st.data())
@settings(deadline=None, max_examples=80)
def test_once_broken_stays_broken_whatever_comes(build: Any, gains: list[Decimal], data: Any) -> None:
    scores = build.shots(gains)
    count = data.draw(st.integers(1, len(gains)))
    if broken_early(scores[: 3 * count], POLICY, baseline=True):
        assert broken_early(scores, POLICY, baseline=True)


@given(gain_lists, st.integers(0, 8), st.integers(1, 50))
@settings(deadline=None, max_examples=80)
def test_improving_a_shot_breaks_no_guard(build: Any, gains: list[Decimal], which: int, step: int) -> None:
    better = list(gains)
    better[which % len(gains)] += Decimal(step) / 1000
    if not broken_early(build.shots(gains), POLICY, baseline=True):
        assert not broken_early(build.shots(better), POLICY, baseline=True)


def test_absent_limits_have_their_defaults_and_given_ones_hold() -> None:
    assert (HELD.worst_window, HELD.window_frames, HELD.ratchet) == (Decimal("0.06"), 12, Decimal("0.03"))
    wide = limits(Guards(worst_shot="0.1"))
    assert (wide.worst_window, wide.ratchet) == (Decimal("0.2"), Decimal("0.1"))
    said = limits(
        Guards(worst_window="0", window_frames=5, flicker_ratio="3", flicker_floor="0", empty_frames=2, ratchet="0")
    )
    assert (said.window_frames, said.empty_frames) == (5, 2)
    assert [said.worst_window, said.flicker_ratio, said.flicker_floor, said.ratchet] == [
        Decimal(n) for n in (0, 3, 0, 0)
    ]
    assert math.isclose(HELD.flicker_ratio, 1.75)
