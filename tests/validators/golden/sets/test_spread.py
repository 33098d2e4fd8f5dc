import math
import statistics
from typing import Any

import pytest

from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.release import ReleaseRef, Tile
from changeover_registry.records.verdict import (
    Decision,
    GoldenSetRef,
    OperatingPoint,
    PointReport,
    ShotScore,
    Verdict,
)
from changeover_validators.golden.power import power
from changeover_validators.golden.simulation import SETTING
from changeover_validators.golden.spread import forecasts

POLICY = GoldenPolicy()
DIGEST = "a" * 64


def verdict(
    gains: list[float],
    *,
    candidate: str = "2.0.0",
    decision: Decision = "accept",
    golden_set: str = "hair",
    current: str | None = "1.0.0",
    metric: str = "jaccard:davis2017",
) -> Verdict:
    """A verdict on a set in which the candidate's shots are better than the current release's by `gains`."""
    scores = tuple(
        ShotScore(
            shot=f"sh{index}",
            metric=metric,
            frames=3,
            candidate=f"{0.5 + gain:.6f}",
            current="0.500000" if current else None,
        )
        for index, gain in enumerate(gains)
    )
    point = OperatingPoint(variant="onnx", precision="fp32", tile=Tile(size=0), provider="cpu")

    def release(version: str) -> ReleaseRef:
        return ReleaseRef(model="acme/hair-roto", version=version, digest=version[0] * 64)

    return Verdict(
        candidate=release(candidate),
        current=release(current) if current else None,
        decision=decision,
        reason="measured",
        made_at="2026-11-22T00:00:00Z",
        made_by="td",
        host="vm1",
        host_class=DIGEST,
        facts=DIGEST,
        policy=DIGEST,
        sandbox="bubblewrap",
        golden_set=GoldenSetRef(name=golden_set, version=1, digest=DIGEST),
        findings=(),
        points=(PointReport(point=point, scores=scores),),
    )


def of(found: tuple[Any, ...], metric: str = "jaccard:davis2017") -> Any:
    (one,) = (forecast for forecast in found if forecast.gate.name == metric)
    return one


GAINS = [0.001, -0.004, 0.006, 0.0, -0.002, 0.003]


def test_the_spread_of_one_comparison_is_the_standard_deviation_of_its_differences() -> None:
    one = of(forecasts(6, POLICY, "hair", [verdict(GAINS)]))
    assert math.isclose(one.spread.sd, statistics.stdev(GAINS), rel_tol=1e-9)
    assert str(one.spread) == "6 differences of 1 comparison"
    assert one.chance == power(6, one.spread.sd, 0.01, 0.95)


def test_where_lower_is_better_and_where_names_are_old_the_spread_is_the_same() -> None:
    for metric in ("mad:rvm", "mad"):
        one = of(forecasts(6, POLICY, "hair", [verdict(GAINS, metric=metric)]), "mad:rvm")
        assert math.isclose(one.spread.sd, statistics.stdev(GAINS), rel_tol=1e-9)


def test_several_comparisons_are_pooled_by_their_degrees_of_freedom() -> None:
    other = [0.02, 0.024, 0.022, 0.03]
    one = of(forecasts(6, POLICY, "hair", [verdict(GAINS), verdict(other, candidate="3.0.0")]))
    pooled = math.sqrt((5 * statistics.variance(GAINS) + 3 * statistics.variance(other)) / 8)
    assert math.isclose(one.spread.sd, pooled, rel_tol=1e-9)
    assert (one.spread.comparisons, one.spread.differences) == (2, 10)


@pytest.mark.parametrize(
    "other",
    [
        verdict([0.3, -0.4, 0.2], decision="reject", candidate="3.0.0"),
        verdict([0.3, -0.4, 0.2], decision="error", candidate="3.0.0"),
        verdict([0.3, -0.4, 0.2], golden_set="skin", candidate="3.0.0"),
        verdict([0.3, -0.4, 0.2], current=None, candidate="3.0.0"),
        verdict([0.3, -0.4, 0.2], candidate="1.0.0"),
        verdict([0.3, -0.4, 0.2]),
        verdict([0.3], candidate="3.0.0"),
    ],
    ids=[
        "rejected early",
        "not measured",
        "another set",
        "no baseline",
        "itself",
        "an older verdict of the pair",
        "one shot",
    ],
)
def test_what_says_nothing_of_equal_releases_on_this_set_is_left_out(other: Verdict) -> None:
    alone = of(forecasts(6, POLICY, "hair", [verdict(GAINS)]))
    assert of(forecasts(6, POLICY, "hair", [verdict(GAINS), other])) == alone


def test_a_rejection_that_scored_every_shot_counts_as_any_other_comparison() -> None:
    lost = [-0.02, -0.05, -0.01, -0.03]
    rejected = verdict(lost, decision="reject")
    full = rejected.model_copy(update={"full": True})

    alone = of(forecasts(4, POLICY, "hair", [rejected], {1: 4}))

    assert math.isclose(alone.spread.sd, statistics.stdev(lost), rel_tol=1e-9)
    assert of(forecasts(4, POLICY, "hair", [full])) == alone
    assert of(forecasts(4, POLICY, "hair", [rejected], {1: 5})).spread.comparisons == 0


def test_a_later_verdict_that_ended_early_does_not_hide_the_whole_one_of_the_pair() -> None:
    early = verdict(GAINS[:2], decision="reject")
    alone = of(forecasts(6, POLICY, "hair", [verdict(GAINS)]))
    assert of(forecasts(6, POLICY, "hair", [early, verdict(GAINS)])) == alone


def test_without_a_comparison_the_spread_is_the_assumed_one_and_says_so() -> None:
    found = forecasts(8, POLICY, "hair", [])
    assert {one.spread.sd for one in found} == {SETTING.mean_sd()}
    assert {str(one.spread) for one in found} == {"assumed: no comparison of all shots is filed"}


def test_more_shots_tell_more_and_the_number_needed_is_enough_and_no_more() -> None:
    chances = [of(forecasts(shots, POLICY, "hair", [])).chance for shots in (0, 1, 2, 5, 10, 20)]
    assert chances == sorted(chances)
    assert chances[:2] == [0.0, 0.0]
    needed = of(forecasts(5, POLICY, "hair", [])).needed
    assert (
        of(forecasts(needed, POLICY, "hair", [])).chance >= 0.8 > of(forecasts(needed - 1, POLICY, "hair", [])).chance
    )


def test_every_gated_metric_has_a_forecast() -> None:
    policy = GoldenPolicy(margins={"dtssd:rvm": "0.002"})
    found = forecasts(8, policy, "hair", [verdict(GAINS, metric="dtssd:rvm")])
    assert [one.gate.name for one in found][3:] == ["dtssd:rvm"]
    assert found[3].spread.comparisons == 1
    assert found[0].spread.comparisons == 0
