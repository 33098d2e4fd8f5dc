"""Approving a choice that waits: the same rules as for whoever wrote it, then this host's signature.

Nobody signs on another's word. The entry's releases are judged again by verdicts, overrides and policy as they stand
now, a changed policy is the site's file itself, and what changes is computed from both choices, not taken from a text.
"""

from functools import cache
from typing import TYPE_CHECKING

from changeover_registry import canonical
from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, TrustError, UndecidedError
from changeover_registry.records.choice import Baseline, Choice, Override, Pending, Pin, Pointer, Share
from changeover_registry.records.release import ReleaseRef
from changeover_updater.adopted import check_place, is_adopted
from changeover_updater.differences import differences, new_baselines, new_pins, new_pointers
from changeover_updater.needed import Needed
from changeover_updater.permitted import case_of, check_adoption, check_client, earlier_of, permission_of
from changeover_updater.site import Site
from changeover_updater.studio import Studio, read_studio

if TYPE_CHECKING:
    from changeover_registry.repository.approval import Signature, Waiting
    from changeover_registry.repository.backs import Effective
    from changeover_registry.repository.pending import Written
    from changeover_updater.cli._context import Invocation

__all__ = ["approve", "find", "reject", "waiting"]


def waiting(call: "Invocation") -> "tuple[Waiting, ...]":
    """Every entry that waits, verified; one that nobody can sign says why."""
    from changeover_registry.repository import approval
    from changeover_updater.signed import studio_keys

    return approval.waiting(call.site().choice, studio_keys(call))


def find(call: "Invocation", name: str) -> "Waiting":
    """One entry, as it will be signed.

    Raises:
        ChangeoverError: There is none of that name, or nobody can sign it.
    """
    from changeover_registry.repository import pending

    found = next((one for one in waiting(call) if one.name == name), None)
    if found is None:
        pending.load(call.site().choice, name)
        raise _gone(name)
    if found.error is not None:
        raise found.error
    return found


def approve(call: "Invocation", shown: "Waiting", reason: str | None) -> "Written":
    """Sign an entry that was shown.

    Raises:
        RefusedError: A rule says no to a release in it.
        UndecidedError: No verdict holds for a release in it.
        TrustError: The key here may not sign it or has signed it, or something in it is not what it says.
        LostRaceError: The scope has moved, or the entry is another than was shown.
    """
    from changeover_registry.repository import approval
    from changeover_updater.signed import studio_keys

    call.key("promoter")
    site = call.site()

    def check(entry: Pending, holds: "Effective | None") -> None:
        if shown.entry is None or entry.choice != shown.entry.choice:
            raise _gone(shown.name)
        before, after = holds.choice if holds else None, entry.choice
        if before is not None and after.policy is not None and after.policy != before.policy:
            # Nothing else can be judged until the changed policy is signed.
            _check_policy(site, before, after)
        else:
            _check_choice(call, site, read_studio(site, call.station(), _needed(before, after)), before, after)

    return approval.approve(site.choice, studio_keys(call), shown.name, check, _signature(call, reason))


def reject(call: "Invocation", name: str, reason: str) -> Pending | None:
    """Take an entry back; None where what stood there was no entry."""
    from changeover_registry.repository import approval

    return approval.reject(call.site().choice, name, _signature(call, reason))


def _signature(call: "Invocation", reason: str | None) -> "Signature":
    from changeover_registry.repository.approval import Signature

    return Signature(who=call.settings.who, now=call.now, why=reason)


def _needed(before: Choice | None, after: Choice) -> Needed:
    """What is needed to judge the releases that a choice newly names."""
    named = (*new_pointers(before, after), *new_pins(before, after), *new_baselines(before, after))
    return Needed.of(*(f"{entry.release.model}@{entry.release.version}" for entry in named))


def _check_choice(call: "Invocation", site: Site, studio: Studio, before: Choice | None, after: Choice) -> None:
    for pointer in new_pointers(before, after):
        if not _adopts(call, site, studio, pointer, before, after.scope):
            _check_release(call, site, studio, pointer, after.scope)
    for baseline in new_baselines(before, after):
        _check_baseline(studio, baseline)
    for pin in new_pins(before, after):
        _check_release(call, site, studio, pin, after.scope)
    for override in after.overrides:
        if before is None or override not in before.overrides:
            _check_override(call, override)


def _adopts(
    call: "Invocation", site: Site, studio: Studio, entry: Pointer | Share, before: Choice | None, scope: str
) -> bool:
    """Whether an entry says that a show has an adopted release, by the rules of `adopt`.

    What was adopted and is returned to is no adoption: that goes by the rules of `promote`.
    """
    release = studio.release(entry.release)
    if release is None or not is_adopted(release) or isinstance(entry, Share) or entry.verdict is not None:
        return False
    if any(isinstance(e, Pointer) and e.channel == entry.channel for e in earlier_of(call, site, release, scope)):
        return False
    check_client(studio.choices, scope, entry.release, studio.policy)
    check_adoption(case_of(call, site, studio, release, scope, entry.channel))
    check_place(before, entry.channel, entry.release, None, lambda ref: is_adopted(studio.release(ref)))
    return True


def _check_baseline(studio: Studio, baseline: Baseline) -> None:
    """What is compared with is what the studio adopted itself; anything else would be said to be in use by a word."""
    release, vendor = studio.release(baseline.release), studio.vendor(baseline.release.model)
    if release is None:
        raise studio.unreadable(str(baseline.release)) or _unknown(baseline.release)
    if not is_adopted(release) or vendor is None or not vendor.entry.local:
        raise TrustError(
            "baseline of an entry",
            where=f"{baseline.channel}: {baseline.model}",
            expected="a release that this studio adopted",
            actual=str(baseline.release),
            remedy="reject the entry: changeover approve ENTRY --reject --reason ...",
        )


def _check_release(call: "Invocation", site: Site, studio: Studio, entry: Pointer | Share | Pin, scope: str) -> None:
    """The rules of `promote` and `pin`, and that the verdict which the entry names is one."""
    release = studio.release(entry.release)
    if release is None:
        raise studio.unreadable(str(entry.release)) or _unknown(entry.release)
    channel = None if isinstance(entry, Pin) else entry.channel
    case = case_of(call, site, studio, release, scope, channel)

    @cache
    def earlier() -> tuple[Pointer | Pin, ...]:
        held = earlier_of(call, site, release, *(("site", scope) if channel is None else (scope,)))
        return tuple(e for e in held if channel is None or (isinstance(e, Pointer) and e.channel == channel))

    known = {permission_of(case, earlier), None, *(f.digest for f in case.verdicts if f.verdict.decision == "accept")}
    if entry.verdict not in known and entry.verdict not in {one.verdict for one in earlier()}:
        raise TrustError(
            "verdict of an entry",
            where=str(entry.release),
            expected="a verdict that an enrolled key signed, and that accepts this release",
            actual=f"{entry.verdict}, which is none",
            remedy="ask whoever filed it; reject the entry: changeover approve ENTRY --reject --reason ...",
        )


def _check_override(call: "Invocation", override: Override) -> None:
    if parse_time(override.until) <= call.now:
        raise UndecidedError(
            "override",
            where=str(override.release),
            expected="an end to come",
            actual=f"until {override.until}",
            remedy="reject the entry and write it again with a later date",
        )


def _check_policy(site: Site, before: Choice, after: Choice) -> None:
    """A policy is signed by itself: under which one would a release beside it be judged?"""
    from changeover_validators.golden.gates import check_noise
    from changeover_validators.golden.noise import all_noise

    others = [str(one) for one in differences(before, after) if one.what != "policy"]
    if others:
        raise TrustError(
            "policy of an entry",
            where=f"{after.scope}/{after.number}",
            expected="a policy, and nothing else",
            actual=f"also {others[0]}",
            remedy="reject the entry; sign the policy first, and the rest after it",
        )
    data, digest = site.policy_bytes(), after.policy
    if canonical.digest(data) != digest:
        raise TrustError(
            "policy of an entry",
            where=str(site.root / "policy.toml"),
            expected=f"the policy that the entry signs, sha256 {digest}",
            actual=f"sha256 {canonical.digest(data)}",
            remedy="undo the change of the file, or reject the entry and sign the policy anew",
        )
    policy = site.read_policy(data)
    check_noise(policy.golden, all_noise(site.scores / "noise"), where=str(site.root / "policy.toml"))


def _unknown(ref: ReleaseRef) -> ChangeoverError:
    return UndecidedError(
        "release of an entry",
        where=str(ref),
        expected="a release that a trusted vendor's metadata lists",
        actual="one that is not known here",
        remedy="run changeover sync, or reject the entry",
    )


def _gone(name: str) -> ChangeoverError:
    from changeover_registry.errors import LostRaceError

    return LostRaceError(
        "entry",
        where=name,
        expected="the entry that was shown",
        actual="another one now",
        remedy="look at it again: changeover approve",
    )
