"""Signed-off verdicts at promotion and at stations: what holds, what does not, and how old one is."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from changeover_registry.errors import ChangeoverError, RefusedError, UndecidedError
from changeover_registry.records.findings import NotRun
from changeover_registry.records.policy import GoldenPolicy
from changeover_updater.eligible import judge_release
from changeover_updater.permission import permitting_verdict
from changeover_updater.sign_off import holding, in_order
from changeover_updater.studio import FiledVerdict, find_verdict
from changeover_validators.verdict import signed_off


@pytest.fixture
def release(build: Any) -> Any:
    return build.release("1.1.0")


@pytest.fixture
def policy(build: Any) -> Any:
    return build.policy.model_copy(update={"golden": GoldenPolicy(supervisor_review=True)})


@pytest.fixture
def first(build: Any, release: Any) -> FiledVerdict:
    """Inconclusive, since there were three shots; everything else passed."""
    few = NotRun(check="golden", why="too few shots: 3 of 5", rule="few-shots")
    found = (build.spared("speed", "no-baseline"), few, build.passed("smoke"))
    points = tuple(build.report(release, found, tile=n) for n in range(2))
    verdict: FiledVerdict = build.verdict(release, "inconclusive", points=points)
    return verdict


def sign(build: Any, first: FiledVerdict, policy: Any, **late: float) -> FiledVerdict:
    now = build.now + timedelta(**late)
    made = signed_off(first.verdict, first.digest, policy, "Ada", "fine", by="sup", now=now)
    return FiledVerdict(made.digest(), made, "sup")


def forged(filed: FiledVerdict, **changes: Any) -> FiledVerdict:
    verdict = filed.verdict.model_copy(update=changes)
    return FiledVerdict(verdict.digest(), verdict, filed.signer)


def test_signed_off_verdict_permits_promotion_and_is_its_evidence(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    signed = sign(build, first, policy)
    for verdicts in permutations((signed, first)):
        assert permitting_verdict(build.case(release, verdicts=verdicts, policy=policy)) == signed.digest
    with pytest.raises(UndecidedError, match="because") as caught:
        permitting_verdict(build.case(release, verdicts=(first,), policy=policy))
    assert f"or changeover verdict sign-off {first.digest[:12]} --name" in caught.value.remedy
    for case in (
        build.case(release, verdicts=(first,)),
        build.case(release, verdicts=(build.verdict(release, "reject"),), policy=policy),
        build.case(release, verdicts=(first,), policy=policy, policy_digest="0" * 64),
    ):
        with pytest.raises(ChangeoverError) as other:
            permitting_verdict(case)
        assert "sign-off" not in other.value.remedy


def test_sign_off_holds_only_while_the_policy_has_it(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    signed = sign(build, first, policy)
    with pytest.raises(UndecidedError, match="supervisor_review is not set in the policy"):
        permitting_verdict(build.case(release, verdicts=(signed, first)))


def test_sign_off_of_nothing_that_is_filed_permits_nothing(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    signed = sign(build, first, policy)
    with pytest.raises(UndecidedError, match="which is not filed here"):
        permitting_verdict(build.case(release, verdicts=(signed,), policy=policy))


def test_sign_off_of_another_releases_verdict_permits_nothing(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    """The first verdict is of 1.1.0; its sign-off is passed off as one of 1.2.0."""
    other = build.release("1.2.0")
    signed = forged(sign(build, first, policy), candidate=other.ref())
    with pytest.raises(UndecidedError, match="something else"):
        permitting_verdict(build.case(other, verdicts=(signed, first), policy=policy))


@pytest.mark.parametrize("more", ["refused", "not_run"])
def test_sign_off_of_a_verdict_that_lacks_more_permits_nothing(
    build: Any, release: Any, policy: Any, first: FiledVerdict, more: str
) -> None:
    """Somebody with a verdict key writes an accept beside a verdict that no sign-off could turn into one."""
    points = tuple(
        point.model_copy(update={"findings": (*point.findings, getattr(build, more)("golden"))})
        for point in first.verdict.points
    )
    worse = build.verdict(release, "reject" if more == "refused" else "inconclusive", points=points)
    signed = sign(build, first, policy)
    word = signed.verdict.sign_off.model_copy(update={"of": worse.digest})  # type: ignore[union-attr]
    case = build.case(release, verdicts=(forged(signed, sign_off=word), worse), policy=policy)
    with pytest.raises(UndecidedError, match=f"it signs off verdict {worse.digest[:12]}: "):
        permitting_verdict(case)


def test_sign_off_is_as_old_as_what_it_signs_off(build: Any, release: Any, policy: Any, first: FiledVerdict) -> None:
    """Signed off on the 29th day, it does not hold on the 31st."""
    signed = sign(build, first, policy, days=29)
    late = build.case(release, verdicts=(signed, first), policy=policy, now=build.now + timedelta(days=29, hours=22))
    assert permitting_verdict(late) == signed.digest
    with pytest.raises(UndecidedError, match="older than 30 days"):
        permitting_verdict(replace(late, now=build.now + timedelta(days=31)))


def test_later_check_that_rejects_stands_though_the_sign_off_is_later_still(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    rejected = build.verdict(
        release, "reject", made_at=build.after(minutes=-30), points=(build.report(release, (build.refused("golden"),)),)
    )
    signed = sign(build, first, policy)
    assert [one.digest for one in in_order((signed, rejected, first))] == [rejected.digest, signed.digest, first.digest]
    with pytest.raises(RefusedError, match="reject: because"):
        permitting_verdict(build.case(release, verdicts=(signed, rejected, first), policy=policy))


def test_order_keeps_every_verdict_once(build: Any, release: Any, policy: Any, first: FiledVerdict) -> None:
    signed, again = sign(build, first, policy), sign(build, first, policy, minutes=5)
    other = build.verdict(build.release("1.0.0"))
    for verdicts in permutations((signed, again, first, other)):
        assert sorted(one.digest for one in in_order(verdicts)) == sorted(one.digest for one in verdicts)
    assert holding((again, signed, other), policy) == (other,)


def test_sign_offs_that_name_each_other_hang_nothing_and_do_not_hold(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    """Digests cannot be made to name each other; files read under such digests must still end."""
    signed = sign(build, first, policy)
    word = signed.verdict.sign_off
    assert word is not None
    one = FiledVerdict(
        "1" * 64, signed.verdict.model_copy(update={"sign_off": word.model_copy(update={"of": "2" * 64})}), "x"
    )
    two = FiledVerdict(
        "2" * 64, signed.verdict.model_copy(update={"sign_off": word.model_copy(update={"of": "1" * 64})}), "x"
    )
    assert holding((one, two), policy) == ()


def test_station_takes_a_release_by_its_sign_off_and_not_without(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    signed = sign(build, first, policy)
    both = build.candidate(release, verdicts=(signed, first), policy=policy, named=signed.digest)
    assert judge_release(both).accepted
    without = replace(both, policy=build.policy)
    assert not judge_release(without).accepted
    assert not judge_release(replace(both, verdicts=(signed,))).accepted
    assert not judge_release(replace(both, verdicts=(first,))).accepted


def test_station_follows_the_later_reject_and_not_the_later_sign_off(
    build: Any, release: Any, policy: Any, first: FiledVerdict
) -> None:
    points = tuple(build.report(release, (build.refused("golden"),), tile=n) for n in range(2))
    rejected = build.verdict(release, "reject", made_at=build.after(minutes=-30), points=points)
    verdicts = (sign(build, first, policy), rejected, first)
    assert not judge_release(build.candidate(release, verdicts=verdicts, policy=policy)).accepted


def test_verdict_is_found_by_the_first_characters_of_its_digest(build: Any, release: Any) -> None:
    one, other = build.verdict(release), build.verdict(release, made_at=build.after(hours=-2))
    assert find_verdict((one, other), one.digest[:12]) == one
    for text in ("", "zz"):
        with pytest.raises(Exception, match="exactly one signed verdict"):
            find_verdict((one, other), text)
