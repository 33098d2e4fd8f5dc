"""Which metrics are gated and by what, where each number came from, and margins that mean nothing here."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.policy import GoldenPolicy, Policy
from changeover_registry.records.verdict import NoiseFloor
from changeover_validators.golden.catalogue import METRICS, SUMMARIES
from changeover_validators.golden.gates import (
    BOUNDARY_F,
    EMPTY,
    JACCARD,
    MAD,
    TRUTH_FLICKER,
    below_noise,
    check_margins,
    check_noise,
    gates,
)
from changeover_validators.golden.judge import judge
from changeover_validators.golden.thresholds import thresholds

POLICY = GoldenPolicy()
OWN = {JACCARD, BOUNDARY_F, MAD}


def of(metric: str, difference: str) -> NoiseFloor:
    return NoiseFloor(metric=metric, difference=difference)


def test_further_margins_gate_further_metrics_in_their_own_direction(build: Any) -> None:
    policy = GoldenPolicy(margins={"dtssd:rvm": "0.002", "jaccard-recall:davis2017": "0.01"})
    assert [gate.name for gate in gates(policy)] == [
        JACCARD,
        BOUNDARY_F,
        MAD,
        "dtssd:rvm",
        "jaccard-recall:davis2017",
    ]
    scores = list(build.shots(["0"] * 6))
    for number in range(1, 7):
        worse = f"0.015{number}"
        scores += [
            build.score("dtssd:rvm", worse, "0.01", shot=f"s{number}"),
            build.score("jaccard-recall:davis2017", "1", "1", shot=f"s{number}"),
        ]
    judged = judge(scores, policy, baseline=True)
    assert judged.decision == "reject"
    assert judged.reason.startswith("margin: worse by at least 0.0052 over 6 shots, expected dtSSD not worse than")
    assert [one.metric for one in judged.metrics][3:] == ["dtssd:rvm", "jaccard-recall:davis2017"]
    assert Decimal(judged.metrics[3].mean) < 0
    assert judge(scores, POLICY, baseline=True).decision == "accept"


def test_gated_metric_without_a_score_is_inconclusive(build: Any) -> None:
    policy = GoldenPolicy(margins={"mad:truth-band": "0.01"})
    judged = judge(build.shots(["0"] * 6), policy, baseline=True)
    assert (judged.decision, judged.reason) == ("inconclusive", "no golden shot has a score of MAD in the band")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dtssd", "an unknown metric"),
        ("jaccard", "an unknown metric"),
        (JACCARD, "margin_jaccard"),
        (MAD, "margin_mad"),
        (EMPTY, "guards.empty_frames"),
        (TRUTH_FLICKER, "nothing of the candidate"),
    ],
)
def test_margin_of_what_cannot_be_gated_is_refused_with_the_names_that_can(name: str, says: str) -> None:
    policy = GoldenPolicy(margins={name: "0.01"})
    with pytest.raises(InvalidInputError, match=says) as caught:
        check_margins(policy, where="/site/policy.toml")
    assert caught.value.where == f'/site/policy.toml: golden.margins."{name}"'
    for metric in (*METRICS, *SUMMARIES):
        assert (metric.name in caught.value.expected) == (metric.name not in {*OWN, EMPTY, TRUTH_FLICKER})
    with pytest.raises(InvalidInputError):
        gates(policy)


sums = [metric.name for metric in METRICS if not metric.resolution_invariant]


@pytest.mark.parametrize("metric", sums)
def test_sums_over_pixels_are_not_gated_across_sizes(build: Any, metric: str) -> None:
    policy = GoldenPolicy(margins={metric: "5"})
    scores = [*build.shots(["0"] * 6), *(build.score(metric, "7", "7", shot=f"s{n}") for n in range(1, 7))]
    same = {f"s{n}": (1920, 1080) for n in range(1, 7)}
    mixed = same | {"s4": (4096, 2160)}
    assert judge(scores, policy, baseline=True, sizes=same).decision == "accept"
    for sizes, says in ((mixed, "the shots are of 1920 x 1080, 4096 x 2160"), (None, "sizes are not known")):
        judged = judge(scores, policy, baseline=True, sizes=sizes)
        assert judged.decision == "inconclusive"
        assert says in judged.reason
        assert isinstance(judged.findings[0], NotRun)
        assert judged.findings[0].rule is None


def test_there_are_sums_and_they_are_those_that_grow_with_the_frame() -> None:
    assert sums == ["sad:dim", "grad:rvm-lr", "conn:rvm-lr", "grad:truth-band"]


def test_means_are_gated_across_sizes(build: Any) -> None:
    sizes = {f"s{n}": (1920 + n, 1080) for n in range(1, 7)}
    assert judge(build.shots(["0"] * 6), POLICY, baseline=True, sizes=sizes).decision == "accept"


def test_sums_are_not_held_against_approved_ones_across_sizes_either(build: Any) -> None:
    """Without a baseline the margins only matter where something was approved before."""
    policy = GoldenPolicy(margins={"sad:dim": "5"})
    scores = [
        *build.shots(["0"] * 6, baseline=False),
        *(build.score("sad:dim", "7", shot=f"s{n}") for n in range(1, 7)),
    ]
    mixed = {f"s{n}": (1920 * n, 1080 * n) for n in range(1, 7)}
    best = tuple(build.best(f"s{n}", "sad:dim", "1") for n in range(1, 7))
    assert judge(scores, policy, baseline=False, sizes=mixed).decision == "accept"
    assert "sum over pixels" in judge(scores, policy, baseline=False, sizes=mixed, best=best).reason


def test_metric_that_few_shots_have_is_named(build: Any) -> None:
    policy = GoldenPolicy(margins={"mad:truth-band": "0.01"})
    scores = [*build.shots(["0"] * 6), *(build.score("mad:truth-band", "0", "0", shot=f"s{n}") for n in (2, 5))]
    judged = judge(scores, policy, baseline=True)
    assert judged.reason == "too few shots with a MAD in the band: 2 of 5"


@pytest.mark.parametrize(("floor", "fine"), [("0.002", True), ("0.002000001", False), ("0", True), ("0.5", False)])
def test_margin_holds_down_to_five_times_the_noise(floor: str, fine: bool) -> None:
    found = below_noise(POLICY, [of(JACCARD, floor), of("dtssd:rvm", "9")])
    assert (found == ()) == fine


def test_margin_below_the_noise_is_refused_naming_metric_floor_and_smallest_margin() -> None:
    policy = GoldenPolicy(margins={"dtssd:rvm": "0.001"})
    noise = [of(MAD, "0.002"), of("dtssd:rvm", "0.0003"), of(JACCARD, "0.00001")]
    with pytest.raises(RefusedError) as caught:
        check_noise(policy, noise, where="policy.toml")
    assert caught.value.where == 'policy.toml: golden.margin_mad, golden.margins."dtssd:rvm"'
    assert "MAD margin 0.005, two runs of one model differ by 0.002 here, smallest margin 0.010" in caught.value.actual
    assert "dtSSD margin 0.001, two runs of one model differ by 0.0003 here, smallest margin 0.0015" in str(
        caught.value
    )
    check_noise(policy, noise[2:], where="policy.toml")


def test_verdict_below_the_noise_is_inconclusive_and_a_broken_guard_still_rejects(build: Any) -> None:
    noise = [of(BOUNDARY_F, "0.003")]
    judged = judge(build.shots(["0.02"] * 6), POLICY, baseline=True, noise=noise)
    assert judged.decision == "inconclusive"
    assert judged.reason.startswith("policy margin below the noise of this machine: boundary F margin 0.01, two runs")
    assert isinstance(judged.findings[0], NotRun)
    assert judged.findings[0].rule is None
    broken = judge(build.shots(["0.02"] * 5 + ["-0.2"]), POLICY, baseline=True, noise=noise)
    assert isinstance(broken.findings[0], Refused)
    alone = build.shots(["0"] * 6, baseline=False)
    assert judge(alone, POLICY, baseline=False, noise=noise).decision == "accept"


@given(st.integers(1, 10**6), st.integers(1, 10**7))
def test_noise_rule_is_five_times_to_the_last_digit(floor: int, margin: int) -> None:
    policy = GoldenPolicy(margin_jaccard=f"{Decimal(margin) / 10**9:f}")
    found = below_noise(policy, [of(JACCARD, f"{Decimal(floor) / 10**9:f}")])
    assert bool(found) == (margin < 5 * floor)


def test_each_threshold_says_what_holds_and_where_it_is_from() -> None:
    text = b"""schema = "changeover.policy/1"
[golden]
min_shots = 8
margins = { "dtssd:rvm" = 0.002 }
[golden.guards]
worst_shot = 0.04
"""
    policy = Policy.from_toml(text, where="policy.toml")
    found = {one.name: one for one in thresholds(policy.golden, "policy.toml")}
    assert (found["golden.min_shots"].value, found["golden.min_shots"].origin) == ("8", "policy.toml")
    assert (found["golden.margin_mad"].value, found["golden.margin_mad"].origin) == ("0.005", "default")
    further = found['golden.margins."dtssd:rvm"']
    assert (further.value, further.origin, further.unit) == ("0.002", "policy.toml", "dtSSD, matte")
    assert (found["golden.guards.worst_shot"].value, found["golden.guards.worst_shot"].origin) == (
        "0.04",
        "policy.toml",
    )
    window = found["golden.guards.worst_window"]
    assert (window.value, window.origin) == ("0.08", "default")
    assert {one.name.removeprefix("golden.guards.") for one in found.values() if "guards." in one.name} == {
        *type(policy.golden.guards).model_fields
    }


def test_every_number_of_the_golden_policy_is_among_the_thresholds() -> None:
    names = {one.name for one in thresholds(POLICY, "policy.toml")}
    left_out = {"set", "guards", "margins", "supervisor_review"}
    assert names >= {f"golden.{field}" for field in GoldenPolicy.model_fields if field not in left_out}
