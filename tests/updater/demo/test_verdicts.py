"""What the golden shots say of the releases, by the policy's defaults: no verdict hangs on chance."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from changeover_registry.records.findings import Refused
from changeover_registry.records.policy import GoldenPolicy
from changeover_updater.demo.models import read_model
from changeover_updater.demo.models.__main__ import main
from changeover_validators.golden.gates import BOUNDARY_F, JACCARD, MAD
from changeover_validators.golden.judge import Judgement

Scores = Mapping[tuple[str, str], float]
Committed = Callable[[str], Scores]
POLICY = GoldenPolicy()
MARGINS = {
    JACCARD: float(POLICY.margin_jaccard),
    BOUNDARY_F: float(POLICY.margin_boundary_f),
    MAD: -float(POLICY.margin_mad),
}


class Judges(Protocol):
    def score(self, model: bytes) -> Scores: ...

    def judge(self, candidate: Scores, current: Scores | None) -> Judgement: ...


def margins_better(candidate: Scores, current: Scores) -> dict[tuple[str, str], float]:
    """How many margins the candidate is better, by shot and metric."""
    return {key: (value - current[key]) / MARGINS[key[1]] for key, value in candidate.items()}


def assert_accepted_alone(judges: Judges, scores: Scores) -> None:
    assert judges.judge(scores, None).decision == "accept"
    limits = POLICY.guards
    for (shot, metric), value in scores.items():
        room = {
            JACCARD: value - float(limits.floor_jaccard),
            BOUNDARY_F: value - float(limits.floor_boundary_f),
            MAD: float(limits.ceiling_mad) - value,
        }[metric]
        assert room > 3 * abs(MARGINS[metric]), (shot, metric)


def test_first_release_is_accepted_without_a_baseline(judges: Judges, committed: Committed) -> None:
    assert_accepted_alone(judges, committed("1.0.0"))


def test_second_release_is_three_margins_better_on_every_shot(judges: Judges, committed: Committed) -> None:
    gains = margins_better(committed("1.1.0"), committed("1.0.0"))

    assert judges.judge(committed("1.1.0"), committed("1.0.0")).decision == "accept"
    assert min(gains.values()) > 3


def test_third_release_is_better_on_average_and_rejected_for_the_window(judges: Judges, committed: Committed) -> None:
    gains = margins_better(committed("1.2.0"), committed("1.1.0"))

    verdict = judges.judge(committed("1.2.0"), committed("1.1.0"))

    assert verdict.decision == "reject"
    assert "window" in verdict.reason
    assert all("window" in finding.actual for finding in verdict.findings if isinstance(finding, Refused))
    assert all(Decimal(metric.mean) > 0 for metric in verdict.metrics)
    drop = (committed("1.1.0")["window", JACCARD] - committed("1.2.0")["window", JACCARD]) / 0.03
    assert drop > 3
    assert all(gain > 0 for (shot, _), gain in gains.items() if shot != "window")


def test_fifth_release_is_better_on_every_shot(judges: Judges, committed: Committed) -> None:
    assert judges.judge(committed("1.4.0"), committed("1.1.0")).decision == "accept"
    assert min(margins_better(committed("1.4.0"), committed("1.1.0")).values()) > 0


def test_retrained_model_gets_the_verdicts_of_the_committed_one(
    judges: Judges, committed: Committed, tmp_path: Path
) -> None:
    assert main(["1.1.0"], tmp_path) == 0

    retrained = judges.score(read_model("1.1.0", tmp_path))

    assert judges.judge(retrained, committed("1.0.0")).decision == "accept"
    assert min(margins_better(retrained, committed("1.0.0")).values()) > 2
    assert "window" in judges.judge(committed("1.2.0"), retrained).reason
