"""Signed-off verdicts among the filed ones: how old they are, whether they hold, and how one is made.

A sign-off is a second verdict beside the one that it signs off (`changeover_validators.verdict`). It holds only while
the policy has `golden.supervisor_review`, and only beside the first one, filed and signed, of which it must be exactly
what a sign-off makes. Reading is pure; `sign_off` alone writes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_registry.errors import RefusedError, TrustError
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import ReleaseRef
from changeover_updater.studio import FiledVerdict, Studio, find_verdict, read_studio, read_verdicts
from changeover_validators.verdict import sign_off_problem, signed_off

if TYPE_CHECKING:
    from changeover_updater.cli._context import Invocation

__all__ = ["SignedOff", "first_of", "holding", "in_order", "problem_of", "sign_off"]


@dataclass(frozen=True, slots=True)
class SignedOff:
    """The verdict that a sign-off made, and whether it was there already."""

    filed: FiledVerdict
    before: bool


def first_of(filed: FiledVerdict, verdicts: Iterable[FiledVerdict]) -> FiledVerdict | None:
    """The verdict that a sign-off names; None for one that signs off nothing, or nothing that is filed."""
    word = filed.verdict.sign_off
    return next((one for one in verdicts if word and one.digest == word.of), None)


def problem_of(filed: FiledVerdict, verdicts: Iterable[FiledVerdict], policy: Policy) -> str | None:
    """Why a verdict's sign-off does not hold; None where it does, or where there is none."""
    first = first_of(filed, verdicts)
    return sign_off_problem(filed.verdict, first.verdict if first else None, policy)


def in_order(verdicts: tuple[FiledVerdict, ...]) -> Iterator[FiledVerdict]:
    """The verdicts as they come, newest first, each sign-off right before what it signs off: it is as old as that."""
    there = {filed.digest for filed in verdicts}
    signed: dict[str, list[FiledVerdict]] = {}
    for filed in verdicts:
        word = filed.verdict.sign_off
        if word and word.of in there:
            signed.setdefault(word.of, []).append(filed)
    later = {filed.digest for found in signed.values() for filed in found}
    for filed in verdicts:
        if filed.digest not in later:
            yield from signed.get(filed.digest, ())
            yield filed


def holding(verdicts: tuple[FiledVerdict, ...], policy: Policy) -> tuple[FiledVerdict, ...]:
    """The verdicts in their order, without sign-offs that do not hold."""
    return tuple(filed for filed in in_order(verdicts) if problem_of(filed, verdicts, policy) is None)


def sign_off(call: "Invocation", digest: str, name: str, note: str) -> SignedOff:
    """Sign off a verdict by name, into a second verdict that is signed and filed as `check` does.

    A verdict that somebody signed off before is left as it is, and that sign-off is the answer.

    Args:
        call: The command, with the key that signs verdicts.
        digest: The verdict's digest, or its first characters.
        name: The supervisor.
        note: What the supervisor says of the report.

    Raises:
        InvalidInputError: No signed verdict begins with that digest, or several do; or the name is no person's.
        RefusedError: It is not one that can be signed off, or no longer the newest.
        TrustError: The release is withdrawn, or its vendor does not verify.
    """
    from changeover_validators.golden.approvals import check_person

    person = check_person("sign-off", name, by=call.settings.who, looked_at="the report")
    site = call.site()
    studio = read_studio(site, call.station())
    verdicts = read_verdicts(site, studio)
    filed = find_verdict(verdicts, digest)
    done = _done(filed, verdicts, studio.policy)
    if done is not None:
        return SignedOff(done, before=True)
    _check_release(studio, filed.verdict.candidate)
    _check_newest(studio, filed, verdicts)
    made = signed_off(filed.verdict, filed.digest, studio.policy, person, note, by=call.settings.who, now=call.now)
    from changeover_updater.signed import sign_verdict

    return SignedOff(FiledVerdict(sign_verdict(call, site, made), made, call.settings.who), before=False)


def _done(filed: FiledVerdict, verdicts: tuple[FiledVerdict, ...], policy: Policy) -> FiledVerdict | None:
    signed = [one for one in verdicts if one.verdict.sign_off and one.verdict.sign_off.of == filed.digest]
    return next((one for one in signed if problem_of(one, verdicts, policy) is None), None)


def _check_release(studio: Studio, ref: ReleaseRef) -> None:
    vendor = studio.vendor(ref.model)
    if vendor is None or vendor.error is not None or studio.release(ref) is None:
        raise TrustError(
            "sign-off",
            where=str(ref),
            expected="a release that a trusted vendor's valid metadata lists",
            actual=str(vendor.error) if vendor and vendor.error else "one that nobody vouches for",
            remedy="run changeover sync, and check again",
        )
    why = vendor.withdrawn(ref)
    if why is not None:
        raise TrustError(
            "sign-off",
            where=str(ref),
            expected="a release that its vendor stands by",
            actual=f"withdrawn by the vendor: {why}",
            remedy="judge another release",
        )


def _check_newest(studio: Studio, filed: FiledVerdict, verdicts: tuple[FiledVerdict, ...]) -> None:
    """A verdict that was overtaken, by another policy or a later check of the same release, is not worth a word."""
    verdict = filed.verdict
    of_release = [one for one in in_order(verdicts) if one.verdict.candidate == verdict.candidate]
    later = of_release[: of_release.index(filed)]
    newer = next((one for one in later if not one.verdict.sign_off and not one.verdict.judged_host), None)
    if verdict.policy != studio.policy_digest:
        actual = "it was made under another policy"
    elif newer is not None:
        actual = f"verdict {newer.digest[:12]} is newer: {newer.verdict.decision}"
    else:
        return
    ref = f"{verdict.candidate.model}@{verdict.candidate.version}"
    raise RefusedError(
        "sign-off",
        where=f"verdict {filed.digest[:12]}",
        expected=f"the newest verdict of {ref}, under the policy in force",
        actual=actual,
        remedy=f"see changeover verdict list {ref}, or run changeover check {ref}",
    )
