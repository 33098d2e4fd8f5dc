from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.findings import CHECKS, Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import Decision, OperatingPoint, PointReport
from changeover_validators.verdict import decide, point_decision

GOOD = Passed(check="golden", detail="J +0.01")
BAD = Refused(check="golden", rule="margin", expected="as good", actual="worse", remedy="keep")
OPEN = NotRun(check="golden", why="no set")
BROKE = NotRun(check="golden", why="the child crashed", error=True)
SPARED = NotApplicable(check="golden", rule="no-baseline")


def report(*findings: Finding, size: int = 0) -> PointReport:
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=size), provider="cpu")
    return PointReport(point=point, findings=findings)


def findings() -> st.SearchStrategy[Finding]:
    checks = st.sampled_from(CHECKS)
    return st.one_of(
        st.builds(lambda c: Passed(check=c), checks),
        st.builds(lambda c: Refused(check=c, rule="r", expected="e", actual="a", remedy="m"), checks),
        st.builds(lambda c, error: NotRun(check=c, why="w", error=error), checks, st.booleans()),
        st.builds(lambda c: NotApplicable(check=c, rule="no-baseline"), checks),
    )


lists = st.lists(findings(), max_size=4).map(tuple)


def is_accepted(found: tuple[Finding, ...]) -> bool:
    """Slow and obvious: golden shots passed, and everything else passed or does not concern the point."""
    golden = [f for f in found if f.check == "golden" and f.outcome == "passed"]
    return len(golden) > 0 and {f.outcome for f in found} <= {"passed", "not-applicable"}


@pytest.mark.parametrize(
    ("found", "decision"),
    [
        ((GOOD,), "accept"),
        ((GOOD, SPARED), "accept"),
        ((SPARED,), "inconclusive"),
        ((), "inconclusive"),
        ((Passed(check="speed"),), "inconclusive"),
        ((OPEN,), "inconclusive"),
        ((GOOD, NotRun(check="smoke", why="no sandbox")), "inconclusive"),
        ((BAD,), "reject"),
        ((BAD, NotRun(check="smoke", why="no sandbox")), "reject"),
        ((BROKE,), "error"),
        ((BAD, BROKE), "error"),
    ],
)
def test_point_comes_to_what_its_findings_say(found: tuple[Finding, ...], decision: str) -> None:
    assert point_decision(found) == decision


@given(lists)
@settings(deadline=None)
def test_point_is_accepted_only_where_golden_shots_passed_and_nothing_is_open(found: tuple[Finding, ...]) -> None:
    assert (point_decision(found) == "accept") == is_accepted(found)


@given(lists)
@settings(deadline=None)
def test_broken_measurement_never_counts_as_reject(found: tuple[Finding, ...]) -> None:
    assert point_decision((*found, BROKE)) == "error"


@given(lists)
@settings(deadline=None)
def test_order_of_findings_changes_no_decision(found: tuple[Finding, ...]) -> None:
    assert len({point_decision(order) for order in permutations(found)}) == 1


@given(lists, st.lists(lists, max_size=3))
@settings(deadline=None)
def test_verdict_is_accept_exactly_if_one_point_is_and_nothing_concerns_the_release(
    release: tuple[Finding, ...], of_points: list[tuple[Finding, ...]]
) -> None:
    decision, reason = decide(release, tuple(report(*found) for found in of_points))

    against = any(f.outcome in {"refused", "not-run"} for f in release)
    assert (decision == "accept") == (not against and any(is_accepted(found) for found in of_points))
    assert decision in get_args(Decision)
    assert reason.strip() == reason != ""


@given(lists, st.lists(lists, max_size=3))
@settings(deadline=None)
def test_reject_needs_a_refusal_and_nothing_that_broke_before_it(
    release: tuple[Finding, ...], of_points: list[tuple[Finding, ...]]
) -> None:
    decision, _ = decide(release, tuple(report(*found) for found in of_points))

    if decision == "reject" and not any(isinstance(f, Refused) for f in release):
        assert any(isinstance(f, Refused) for found in of_points for f in found)
        assert not any(isinstance(f, NotRun) and f.error for f in (*release, *sum(of_points, ())))


@given(st.lists(lists, max_size=4))
@settings(deadline=None)
def test_order_of_points_changes_no_decision(of_points: list[tuple[Finding, ...]]) -> None:
    reports = [report(*found) for found in of_points]

    assert len({decide((), order)[0] for order in permutations(reports)}) == 1


def test_refusal_of_the_release_rejects_whatever_its_points_say() -> None:
    decision, reason = decide((Passed(check="trust"), BAD), (report(GOOD), report(BROKE)))

    assert decision == "reject"
    assert reason == "golden: margin: expected as good, found worse; keep"


def test_one_accepted_point_accepts_beside_points_that_broke_or_were_rejected() -> None:
    decision, reason = decide((), (report(BROKE), report(BAD), report(GOOD, size=512), report(OPEN)))

    assert decision == "accept"
    assert reason == "onnx-fp32/512+0/cpu: J +0.01"


def test_accepted_point_without_a_detail_gives_a_reason_all_the_same() -> None:
    assert decide((), (report(SPARED, Passed(check="golden")),))[1] == "onnx-fp32/none/cpu: every check passed"


def test_release_of_which_something_was_not_run_is_inconclusive_beside_an_accepted_point() -> None:
    hardware = NotRun(check="hardware", why="driver unknown")

    assert decide((hardware,), (report(GOOD),)) == ("inconclusive", "hardware was not run: driver unknown")


def test_release_whose_measurement_broke_is_an_error_beside_an_accepted_point() -> None:
    decision, reason = decide((BROKE,), (report(GOOD),))

    assert (decision, reason) == ("error", "golden was not run: the child crashed")


@pytest.mark.parametrize(
    ("found", "decision", "reason"),
    [
        ((BAD, BROKE), "error", "golden was not run: the child crashed"),
        ((Passed(check="speed"), BAD), "reject", "golden: margin: expected as good, found worse; keep"),
        ((GOOD, NotRun(check="smoke", why="no sandbox")), "inconclusive", "smoke was not run: no sandbox"),
        ((), "inconclusive", "no golden shots passed"),
    ],
)
def test_reason_names_the_finding_that_decided(found: tuple[Finding, ...], decision: str, reason: str) -> None:
    assert decide((), (report(*found),)) == (decision, f"onnx-fp32/none/cpu: {reason}")


@pytest.mark.parametrize(
    ("others", "decision"), [((BAD,), "reject"), ((BAD, OPEN), "inconclusive"), ((BAD, OPEN, BROKE), "error")]
)
def test_rejected_point_rejects_only_with_no_other_undecided(others: tuple[Finding, ...], decision: str) -> None:
    assert decide((), tuple(report(found) for found in others))[0] == decision


def test_nothing_measured_is_inconclusive_and_says_what_was_not_run() -> None:
    assert decide((), ()) == ("inconclusive", "no operating point was measured")
    assert decide((NotRun(check="vram", why="no point"),), ()) == ("inconclusive", "vram was not run: no point")
