from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import RefusedError
from changeover_registry.records.findings import CHECKS, Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import GoldenPolicy, Policy
from changeover_registry.records.release import ReleaseRef, Tile
from changeover_registry.records.verdict import Decision, OperatingPoint, PointReport, SignOff, Verdict
from changeover_validators.verdict import decide, point_decision, sign_off_problem, signed_off

GOOD = Passed(check="golden", detail="J +0.01")
BAD = Refused(check="golden", rule="margin", expected="as good", actual="worse", remedy="keep")
SLOW = Refused(check="speed", rule="speed", expected="fast", actual="slow", remedy="keep")
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
        ((SLOW, BAD), "reject", "golden: margin: expected as good, found worse; keep"),
        ((SLOW, OPEN), "reject", "speed: speed: expected fast, found slow; keep"),
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


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
REVIEW = Policy(golden=GoldenPolicy(supervisor_review=True))
FEW = NotRun(check="golden", why="too few shots: 3 of 5", remedy="add some", rule="few-shots")
FIRST = "f" * 64


def filed(*points: PointReport, release: tuple[Finding, ...] = (), **changes: Any) -> Verdict:
    decision, reason = decide(release, points)
    base: dict[str, Any] = {
        "candidate": ReleaseRef(model="acme/person-roto", version="1.1.0", digest="a" * 64),
        "decision": decision,
        "reason": reason,
        "made_at": "2026-11-22T11:00:00Z",
        "made_by": "td@vm1",
        "host": "vm1",
        "host_class": "a" * 64,
        "facts": "a" * 64,
        "policy": "b" * 64,
        "sandbox": "bubblewrap",
        "findings": release,
        "points": points,
    }
    return Verdict(**(base | changes))


def sign(verdict: Verdict, policy: Policy = REVIEW, now: datetime = NOW) -> Verdict:
    return signed_off(verdict, FIRST, policy, "Ada Lovelace", "looked at all three shots", by="sup@vm2", now=now)


def test_sign_off_accepts_where_shots_alone_are_missing() -> None:
    first = filed(report(FEW, Passed(check="speed"), Passed(check="smoke")))
    made = sign(first)
    assert (first.decision, made.decision) == ("inconclusive", "accept")
    assert made.sign_off == SignOff(
        of=FIRST, name="Ada Lovelace", note="looked at all three shots", by="sup@vm2", at="2026-11-22T12:00:00Z"
    )
    assert (made.made_at, made.made_by) == ("2026-11-22T12:00:00Z", "sup@vm2")
    assert "signed off by Ada Lovelace: looked at all three shots" in made.reason
    (point,) = made.points
    assert point_decision(point.findings) == "accept"
    changed = {"decision", "reason", "made_at", "made_by", "points", "sign_off"}
    assert made.model_dump(exclude=changed) == first.model_dump(exclude=changed)
    assert sign_off_problem(made, first, REVIEW) is None
    assert sign_off_problem(first, None, REVIEW) is None


def test_point_to_which_more_is_missing_stays_as_it_is() -> None:
    more = report(FEW, NotRun(check="smoke", why="no sandbox"), size=1024)
    broken = report(FEW, Refused(check="speed", rule="r", expected="e", actual="a", remedy="m"), size=2048)
    made = sign(filed(report(FEW), more, broken))
    assert made.decision == "accept"
    assert [point_decision(point.findings) for point in made.points] == ["accept", "inconclusive", "reject"]
    assert made.points[1:] == (more, broken)


BROKEN = Refused(check="golden", rule="worst shot", expected="e", actual="shot fox fell", remedy="m")


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (filed(report(BROKEN)), "the verdict is reject"),
        (filed(report(FEW, BROKEN)), "the verdict is reject"),
        (filed(report(GOOD)), "the verdict is accept"),
        (filed(report(BROKE, FEW)), "the verdict is error"),
        (filed(report(OPEN)), "more is missing than shots"),
        (filed(report(FEW, OPEN)), "more is missing than shots"),
        (filed(report(NotRun(check="speed", why="w", rule="few-shots"))), "more is missing than shots"),
        (filed(), "more is missing than shots"),
        (filed(report(FEW), release=(NotRun(check="hardware", why="no GPU is known"),)), "no GPU is known"),
        (filed(report(FEW), made_at="2026-10-22T11:59:59Z"), "older than 30 days"),
        (filed(report(FEW), made_at="2026-11-22T13:00:01Z"), "which is to come"),
    ],
)
def test_sign_off_is_refused_where_anything_but_shots_speaks_against(verdict: Verdict, says: str) -> None:
    with pytest.raises(RefusedError, match="sign-off") as caught:
        sign(verdict)
    assert says in caught.value.actual


def test_sign_off_needs_the_policy() -> None:
    for golden in (GoldenPolicy(), GoldenPolicy(supervisor_review=False)):
        with pytest.raises(RefusedError, match="supervisor_review is not set"):
            sign(filed(report(FEW)), Policy(golden=golden))


def test_signed_off_verdict_is_not_signed_off_again() -> None:
    with pytest.raises(RefusedError, match="the verdict is accept"):
        sign(sign(filed(report(FEW))))


def test_sign_off_holds_to_the_last_second_of_the_verdicts_days() -> None:
    first = filed(report(FEW))
    sign(first, now=datetime(2026, 12, 22, 11, 0, 0, tzinfo=UTC))
    with pytest.raises(RefusedError, match="older than 30 days"):
        sign(first, now=datetime(2026, 12, 22, 11, 0, 1, tzinfo=UTC))
    sign(first, now=NOW - timedelta(hours=2))


FORGED: dict[str, Any] = {
    "candidate": ReleaseRef(model="acme/person-roto", version="1.2.0", digest="c" * 64),
    "current": ReleaseRef(model="acme/person-roto", version="1.0.0", digest="d" * 64),
    "policy": "c" * 64,
    "host_class": "c" * 64,
    "findings": (Passed(check="hardware"),),
    "points": (report(GOOD),),
    "made_at": "2026-11-23T12:00:00Z",
    "made_by": "somebody@else",
    "reason": "better",
    "full": True,
}


@pytest.mark.parametrize("field", FORGED)
def test_sign_off_that_says_anything_else_than_the_first_verdict_does_not_hold(field: str) -> None:
    first = filed(report(FEW))
    forged = sign(first).model_copy(update={field: FORGED[field]})
    assert (
        sign_off_problem(forged, first, REVIEW)
        == f"it says something else than verdict {FIRST[:12]}, which it signs off"
    )


@pytest.mark.parametrize("first", [filed(report(FEW, OPEN)), filed(report(BROKEN)), filed(report(BROKE)), filed()])
def test_sign_off_beside_a_verdict_that_lacks_more_does_not_hold(first: Verdict) -> None:
    made = sign(filed(report(FEW)))
    assert (sign_off_problem(made, first, REVIEW) or "").startswith(f"it signs off verdict {FIRST[:12]}: ")


def test_sign_off_alone_does_not_hold_nor_under_a_policy_that_has_none() -> None:
    first = filed(report(FEW))
    made = sign(first)
    assert sign_off_problem(made, None, REVIEW) == f"it signs off verdict {FIRST[:12]}, which is not filed here"
    assert "supervisor_review is not set" in (sign_off_problem(made, first, Policy()) or "")


@given(lists, st.lists(lists, max_size=3))
@settings(deadline=None)
def test_only_few_shots_are_ever_answered_by_a_sign_off(
    release: tuple[Finding, ...], of_points: list[tuple[Finding, ...]]
) -> None:
    """Findings without that rule are never enough, whatever they are."""
    verdict = filed(*(report(*found, size=number) for number, found in enumerate(of_points)), release=release)
    with pytest.raises(RefusedError):
        sign(verdict)
