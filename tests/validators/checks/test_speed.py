import pytest

from changeover_registry.records.findings import NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import SpeedPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.checks.speed import check_speed

POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")


@pytest.mark.parametrize(
    ("candidate", "passes"), [(1, True), (100_000, True), (150_000, True), (150_001, False), (900_000, False)]
)
def test_the_ratio_of_the_policy_decides_exactly(candidate: int, passes: bool) -> None:
    finding = check_speed(candidate, 100_000, SpeedPolicy(ratio="1.5"), POINT)

    assert isinstance(finding, Passed if passes else Refused)
    assert finding.subject == "onnx-fp32/none/cpu"


@pytest.mark.parametrize(("candidate", "passes"), [(5_999, True), (6_000, False)])
def test_a_difference_that_a_busy_machine_makes_refuses_nobody(candidate: int, passes: bool) -> None:
    finding = check_speed(candidate, 1_000, SpeedPolicy(ratio="1.5"), POINT)

    assert isinstance(finding, Passed if passes else Refused)


def test_a_refusal_names_both_times_and_the_bound() -> None:
    finding = check_speed(50_000, 20_000, SpeedPolicy(ratio="2"), POINT)

    assert isinstance(finding, Refused)
    assert finding.expected == "at most 2 times the time of the release in use"
    assert finding.actual == "50.0 ms a frame against 20.0 ms, 2.50 times as long"


def test_with_nothing_in_use_there_is_nothing_to_compare() -> None:
    finding = check_speed(5000, None, SpeedPolicy(), POINT)

    assert isinstance(finding, NotApplicable)
    assert finding.rule == "no-baseline"
    assert "5.0 ms" in finding.detail


@pytest.mark.parametrize(("candidate", "current"), [(None, 1000), (None, None), (1000, None), (1000, 0)])
def test_what_was_not_measured_is_not_run(candidate: int | None, current: int | None) -> None:
    assert isinstance(check_speed(candidate, current, SpeedPolicy(), POINT, baseline=True), NotRun)
