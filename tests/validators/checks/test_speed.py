import pytest

from changeover_registry.records.findings import NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import SpeedPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import OperatingPoint, SpeedPoint
from changeover_validators.checks.speed import SpeedReport, check_speeds

POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")


@pytest.mark.parametrize(
    ("candidate", "current", "passes"),
    [
        (1, 100_000, True),
        (157_500, 100_000, True),
        (157_501, 100_000, False),
        (5_999, 1_000, True),
        (6_000, 1_000, False),
    ],
)
def test_the_ratio_decides_exactly_and_what_a_busy_machine_makes_refuses_nobody(
    candidate: int, current: int, passes: bool
) -> None:
    assert judged(at(1920, candidate, current))[0][0] == ("passed" if passes else "refused")


def at(width: int, candidate_us: int, current_us: int | None) -> SpeedPoint:
    return SpeedPoint(width=width, height=width // 2, frames=5, candidate_us=candidate_us, current_us=current_us)


def judged(
    *speeds: SpeedPoint,
    policy: SpeedPolicy | None = None,
    baseline: bool = True,
    load_us: int | None = None,
    ram: int | None = None,
) -> list[tuple[str, str]]:
    """Outcome and rule (or what is told) of each finding."""
    report = SpeedReport(speeds, load_us=load_us, peak_ram_bytes=ram)
    found = check_speeds(report, policy or SpeedPolicy(), POINT, baseline=baseline)
    assert {finding.subject for finding in found} == {"onnx-fp32/none/cpu"}
    return [
        (f.outcome, f.detail if isinstance(f, Passed) else f.why if isinstance(f, NotRun) else f.rule) for f in found
    ]


@pytest.mark.parametrize("candidate", [1, 100_000, 150_001, 157_500, 157_501, 900_000])
@pytest.mark.parametrize("current", [1, 1_000, 100_000])
def test_at_one_plate_size_the_rule_is_ratio_and_noise(candidate: int, current: int) -> None:
    (outcome, _) = judged(at(1920, candidate, current))[0]
    slow = candidate * 1000 > 1575 * current and candidate - current >= 5_000
    assert outcome == ("refused" if slow else "passed")


def test_each_plate_size_is_judged_by_itself() -> None:
    found = judged(at(1920, 20_000, 10_000), at(2048, 100_000, 99_000), at(4096, 400_000, 200_000))
    assert found == [("refused", "speed"), ("refused", "speed")]


def test_a_refusal_names_the_plate_and_both_times() -> None:
    (finding,) = check_speeds(SpeedReport([at(4096, 50_000, 20_000)]), SpeedPolicy(ratio="2"), POINT, baseline=True)
    assert isinstance(finding, Refused)
    assert finding.expected == (
        "at most 2 times the time of the release in use, and 5% for the noise of measuring, at every plate size"
    )
    assert finding.actual == "4096 x 2048: 50.0 ms a frame against 20.0 ms, 2.500 times as long"


def test_what_passed_names_every_plate() -> None:
    ((outcome, detail),) = judged(at(1920, 10_000, 10_000), at(4096, 40_000, 50_000))
    assert outcome == "passed"
    assert detail.startswith("1920 x 960: 10.0 ms a frame against 10.0 ms, 1.000 times as long; 4096 x 2048: 40.0 ms")


@pytest.mark.parametrize("speeds", [(), (at(1920, 5_000, None),), (at(1920, 5_000, 5_000), at(4096, 5_000, None))])
def test_plates_that_were_not_measured_with_both_are_not_run(speeds: tuple[SpeedPoint, ...]) -> None:
    assert [outcome for outcome, _ in judged(*speeds)] == ["not-run"]


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize(("load_us", "outcome"), [(20_000_000, "fine"), (20_000_001, "refused"), (None, "not-run")])
def test_first_load_is_held_against_the_policy_with_and_without_a_current_release(
    load_us: int | None, outcome: str, baseline: bool
) -> None:
    fine = "passed" if baseline else "not-applicable"
    found = judged(at(1920, 9_000, 9_000), policy=SpeedPolicy(first_load_ms=20_000), load_us=load_us, baseline=baseline)
    assert found[0][0] == (fine if outcome == "fine" else outcome)
    assert outcome != "refused" or found[0][1] == "first load"


@pytest.mark.parametrize(("ram", "outcome"), [(2**30, "passed"), (2**30 + 1, "refused"), (None, "not-run")])
def test_host_ram_is_held_against_the_policy(ram: int | None, outcome: str) -> None:
    found = judged(at(1920, 9_000, 9_000), policy=SpeedPolicy(ram_mib=1024), ram=ram)
    assert found[0][0] == outcome
    assert outcome != "refused" or found[0][1] == "RAM"


def test_without_limits_of_its_own_the_policy_asks_for_neither_load_nor_ram() -> None:
    assert judged(at(1920, 9_000, 9_000), load_us=10**12, ram=2**50)[0][0] == "passed"


def test_all_that_is_broken_is_told_at_once() -> None:
    found = judged(at(1920, 90_000, 9_000), policy=SpeedPolicy(first_load_ms=1, ram_mib=1), load_us=10**9, ram=2**40)
    assert [rule for _, rule in found] == ["speed", "first load", "RAM"]


def test_with_nothing_in_use_the_times_are_told_and_not_compared() -> None:
    (finding,) = check_speeds(SpeedReport([at(1920, 5_000, None)]), SpeedPolicy(), POINT, baseline=False)
    assert isinstance(finding, NotApplicable)
    assert finding.detail == "1920 x 960: 5.0 ms a frame; nothing in use to compare with"
