from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from changeover_registry.errors import ChangeoverError, RefusedError, TrustError, UndecidedError
from changeover_registry.records.findings import CHECKS
from changeover_updater.permission import MEASURED, permitting_verdict

DECISIONS = ("accept", "reject", "inconclusive", "error", "none")
STALE = ("no", "policy", "age", "baseline", "to come")


@pytest.fixture
def release(build: Any) -> Any:
    return build.release("1.1.0")


@pytest.fixture
def case_of(build: Any, release: Any) -> Callable[..., Any]:
    """A case with a verdict of a decision, stale in one way or not, and overrides for some checks."""
    former = build.release("1.0.0").ref()
    findings = {
        "accept": (build.passed("golden"),),
        "reject": (build.refused("golden"),),
        "inconclusive": (build.not_run("golden"),),
        "error": (build.not_run("golden", error=True),),
    }
    ways: dict[str, dict[str, Any]] = {
        "no": {},
        "policy": {"policy": "d" * 64},
        "age": {"made_at": build.after(days=-31)},
        "baseline": {"current": None},
        "to come": {"made_at": build.after(days=1)},
    }

    def make(decision: str, stale: str, checks: tuple[Any, ...]) -> Any:
        overrides = (build.override(release, *checks),) if checks else ()
        if decision == "none":
            return build.case(release, verdicts=(), overrides=overrides, baseline=former)
        found = (build.passed("speed"), build.passed("smoke"), *findings[decision])
        changes = {"current": former, "points": (build.report(release, found),)} | ways[stale]
        return build.case(
            release, verdicts=(build.verdict(release, decision, **changes),), overrides=overrides, baseline=former
        )

    return make


def expected(decision: str, stale: str, checks: tuple[str, ...]) -> type[ChangeoverError] | str | None:
    """Slow and obvious: what holds permits; else every open check needs an override."""
    if decision == "accept" and stale == "no":
        return "verdict"
    holds = decision != "none" and stale == "no"
    needed = {"golden"} if holds else set(MEASURED)
    if needed <= set(checks):
        return None
    return RefusedError if decision == "reject" else UndecidedError


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize("decision", DECISIONS)
def test_promotion_is_permitted_by_the_truth_table(case_of: Any, decision: str, stale: str) -> None:
    for count in range(len(MEASURED) + 1):
        for checks in combinations(MEASURED, count):
            case, outcome = case_of(decision, stale, checks), expected(decision, stale, checks)
            if isinstance(outcome, type):
                with pytest.raises(ChangeoverError) as caught:
                    permitting_verdict(case)
                assert type(caught.value) is outcome
            else:
                assert permitting_verdict(case) == (case.verdicts[0].digest if outcome else None)


@pytest.mark.parametrize(
    ("stale", "says"),
    [
        ("policy", "another policy"),
        ("age", "older than 30 days"),
        ("baseline", "compares with nothing, and acme/person-roto@1.0.0-"),
        ("to come", "which is to come"),
    ],
)
def test_accept_that_does_not_hold_is_undecided_and_says_why(case_of: Any, stale: str, says: str) -> None:
    with pytest.raises(UndecidedError, match=says) as caught:
        permitting_verdict(case_of("accept", stale, ()))

    assert "changeover check acme/person-roto@1.1.0" in caught.value.remedy
    assert "open: hardware, vram, speed, golden, smoke" in caught.value.actual


def test_verdict_holds_to_the_last_second_of_its_days_and_by_clocks_that_differ(build: Any, release: Any) -> None:
    for made_at in (build.after(days=-30), build.after(minutes=59)):
        verdict = build.verdict(release, made_at=made_at)
        assert permitting_verdict(build.case(release, verdicts=(verdict,))) == verdict.digest


def test_nothing_in_use_takes_a_verdict_whatever_it_compared_with(build: Any, release: Any) -> None:
    verdict = build.verdict(release, current=build.release("0.9.0").ref())

    assert permitting_verdict(build.case(release, verdicts=(verdict,), baseline=None)) == verdict.digest


def test_newest_verdict_decides_over_an_older_accept(build: Any, release: Any) -> None:
    newest = build.verdict(release, "reject", points=(), findings=(build.refused("vram"),))
    older = build.verdict(release, made_at=build.after(hours=-9))

    with pytest.raises(RefusedError, match="reject: because"):
        permitting_verdict(build.case(release, verdicts=(newest, older)))


def test_verdict_of_another_release_permits_nothing(build: Any, release: Any) -> None:
    other = build.verdict(build.release("9.9.9"))

    with pytest.raises(UndecidedError, match="no verdict at all"):
        permitting_verdict(build.case(release, verdicts=(other,)))


def test_verdict_of_the_same_version_with_another_digest_permits_nothing(build: Any, release: Any) -> None:
    twin = build.release("1.1.0", summary="other bytes")

    with pytest.raises(UndecidedError, match="no verdict at all"):
        permitting_verdict(build.case(release, verdicts=(build.verdict(twin),)))


def test_withdrawn_release_is_refused_with_5_whatever_is_overridden(build: Any, release: Any) -> None:
    every = build.override(release, *[check for check in CHECKS if check != "trust"])
    for finding in (build.refused("trust"), build.not_run("trust")):
        with pytest.raises(TrustError, match="promote another release"):
            permitting_verdict(build.case(release, findings=(finding,), overrides=(every,)))


@pytest.mark.parametrize("check", ["licence", "format", "interface"])
def test_release_that_a_cheap_check_refuses_needs_an_override_of_that_check(
    build: Any, release: Any, check: Any
) -> None:
    case = build.case(release, findings=(build.refused(check),))
    other = build.override(release, "golden")

    with pytest.raises(RefusedError, match=f"promotion: {check}"):
        permitting_verdict(case)
    with pytest.raises(RefusedError):
        permitting_verdict(build.case(release, findings=case.findings, overrides=(other,)))
    passed = build.case(release, findings=case.findings, overrides=(build.override(release, check),))
    assert permitting_verdict(passed) == case.verdicts[0].digest


def test_cheap_check_that_was_not_run_is_undecided(build: Any, release: Any) -> None:
    with pytest.raises(UndecidedError, match="not run: nobody tried"):
        permitting_verdict(build.case(release, findings=(build.not_run("interface"),)))


def test_override_ends_at_its_last_second(build: Any, release: Any) -> None:
    override = build.override(release, *MEASURED, until=build.after(seconds=1))
    case = build.case(release, verdicts=(), overrides=(override,))

    assert permitting_verdict(case) is None
    with pytest.raises(UndecidedError):
        permitting_verdict(
            build.case(release, verdicts=(), overrides=(override,), now=build.now + timedelta(seconds=1))
        )


def test_files_that_need_more_than_is_claimed_are_not_passed_over_by_overriding_measurements(
    build: Any, release: Any
) -> None:
    """The verdict looked into the files; the record alone, which is looked at again, is fine."""
    verdict = build.verdict(release, "reject", findings=(build.refused("format"),), points=())
    measured = build.override(release, *MEASURED)

    with pytest.raises(RefusedError, match="open: format"):
        permitting_verdict(build.case(release, verdicts=(verdict,), overrides=(measured,)))
    both = (measured, build.override(release, "format"))
    assert permitting_verdict(build.case(release, verdicts=(verdict,), overrides=both)) is None


def test_golden_shots_that_an_earlier_refusal_spared_are_open(build: Any, release: Any) -> None:
    found = (build.passed("speed"), build.spared("golden"), build.refused("smoke"))
    verdict = build.verdict(release, "reject", points=(build.report(release, found),))
    smoke = build.override(release, "smoke")

    with pytest.raises(RefusedError, match="open: golden"):
        permitting_verdict(build.case(release, verdicts=(verdict,), overrides=(smoke,)))


def test_reject_that_names_nothing_open_permits_nothing(build: Any, release: Any) -> None:
    verdict = build.verdict(release, "reject")

    with pytest.raises(RefusedError, match="open: hardware, vram, speed, golden, smoke"):
        permitting_verdict(build.case(release, verdicts=(verdict,)))


def test_overrides_may_cover_any_one_operating_point(build: Any, release: Any) -> None:
    """The point with the fewest open checks is not covered; another one is, with more of them."""
    first = build.report(release, (build.refused("speed"), build.passed("golden"), build.passed("smoke")))
    second = build.report(release, (build.passed("speed"), build.not_run("golden"), build.not_run("smoke")), tile=1)
    verdict = build.verdict(release, "inconclusive", points=(first, second))
    override = build.override(release, "golden", "smoke")

    assert permitting_verdict(build.case(release, verdicts=(verdict,), overrides=(override,))) is None
    with pytest.raises(UndecidedError, match="open: speed"):
        permitting_verdict(build.case(release, verdicts=(verdict,)))


@pytest.mark.parametrize("decision", DECISIONS)
def test_release_that_the_channel_held_before_goes_back_without_a_new_verdict(
    build: Any, case_of: Callable[..., Any], decision: str
) -> None:
    case = replace(
        case_of(decision, "age", ()), held_before=True, findings=(build.passed("trust"), build.refused("interface"))
    )

    assert permitting_verdict(case) is None


def test_withdrawn_release_does_not_go_back_though_the_channel_held_it(build: Any, case_of: Callable[..., Any]) -> None:
    case = replace(case_of("accept", "no", ()), held_before=True, findings=(build.refused("trust"),))

    with pytest.raises(TrustError):
        permitting_verdict(case)


def test_verdict_on_another_golden_set_than_the_policy_asks_for_does_not_hold(case_of: Callable[..., Any]) -> None:
    case = case_of("accept", "no", ())
    policy = case.policy.model_copy(update={"golden": case.policy.golden.model_copy(update={"set": "hero"})})

    with pytest.raises(UndecidedError, match="golden set none, and the policy asks for hero"):
        permitting_verdict(replace(case, policy=policy))


def test_what_if_on_another_hosts_facts_undoes_no_accept_and_a_clock_ahead_does_not_either(
    build: Any, release: Any
) -> None:
    accepted = build.verdict(release)
    what_if = build.verdict(release, "reject", made_at=build.after(minutes=-1), judged_host="old-gpu")
    ahead = build.verdict(release, "reject", made_at=build.after(days=9))

    case = build.case(release, verdicts=(ahead, what_if, accepted))

    assert permitting_verdict(case) == accepted.digest


def test_what_if_that_is_the_only_verdict_decides(build: Any, release: Any) -> None:
    what_if = build.verdict(release, judged_host="farm-gpu")

    assert permitting_verdict(build.case(release, verdicts=(what_if,))) == what_if.digest
