"""What is known of a release that somebody wants to choose: the case for it, and by what it was chosen before.

`permission` decides; here the facts of site and station are brought together for it, for whoever promotes and again for
whoever approves.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.records.choice import Baseline, Choice, Pin, Pointer
from changeover_registry.records.findings import Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_updater.adopted import check_only_adopted, is_adopted
from changeover_updater.eligible import release_findings
from changeover_updater.permission import Case, permitting_verdict
from changeover_updater.show_terms import check_client_approval, terms_of
from changeover_updater.site import Site
from changeover_updater.studio import Studio, read_verdicts

if TYPE_CHECKING:
    from changeover_updater.cli._context import Invocation

__all__ = ["baseline_of", "case_of", "check_adoption", "check_client", "earlier_of", "permission_of"]

_CHANNEL = re.compile(r"stable|beta|show/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def case_of(call: "Invocation", site: Site, studio: Studio, release: Release, scope: str, channel: str | None) -> Case:
    """All that a promotion, or a pin (`channel` is None), is decided from."""
    baseline = None if channel is None else baseline_of(studio, release, channel)
    terms = terms_of(studio.choices, scope)
    show, vendor = terms.show if terms else None, studio.vendor_of(release)
    return Case(
        release=release,
        findings=(
            *release_findings(release, vendor, baseline, studio.policy, show),
            *check_client_approval(release.ref(), terms, studio.policy),
        ),
        verdicts=read_verdicts(site, studio, release.digest()),
        overrides=studio.overrides(release.ref(), scope),
        policy=studio.policy,
        policy_digest=studio.policy_digest,
        baseline=baseline.ref() if baseline else None,
        now=call.now,
        pinned=channel is None,
        show=show,
    )


def permission_of(case: Case, earlier: "Callable[[], tuple[Pointer | Pin, ...]]") -> str | None:
    """The digest of the verdict that a pointer or pin names: the one that permits it, or that of its earlier time.

    What a scope held before may be chosen again without a new verdict: the way back is always open. `earlier` reads by
    what it was held before, and is asked only where no verdict permits: the past may be long.

    Raises:
        TrustError: The release is withdrawn or does not verify.
        RefusedError: A rule says no, the newest verdict rejects, or it was adopted and the scope never had it.
        UndecidedError: No verdict holds; the message says what is missing.
    """
    try:
        verdict = permitting_verdict(case)
        if verdict and not is_adopted(case.release):
            return verdict
    except (RefusedError, UndecidedError):
        if not (before := earlier()):
            check_only_adopted(case.release)
            raise
        verdict = permitting_verdict(replace(case, held_before=True))
    else:
        before = earlier()
    if not before:
        check_only_adopted(case.release)
    return verdict or next((entry.verdict for entry in reversed(before) if entry.verdict), None)


def earlier_of(call: "Invocation", site: Site, release: Release, *scopes: str) -> "tuple[Pointer | Pin, ...]":
    """Every pointer and pin by which these scopes held the release before, by their signed history, oldest first."""
    from changeover_registry.repository import choice

    root, ref = (call.station().folder / "trust" / "choice" / "root.json").read_bytes(), release.ref()
    entries: list[Pointer | Pin] = []
    for scope in dict.fromkeys(scopes):
        for chosen in choice.history(site.choice, scope, root=root, naming=ref.digest):
            entries += [*chosen.channels, *chosen.pins]
    return tuple(entry for entry in entries if entry.release == ref)


def baseline_of(studio: Studio, candidate: Release, channel: str) -> Release | None:
    """What the users of a channel have of the candidate's model now, if it is another release.

    A show that has no channel of its own is served by the site's. Where a channel has nothing of the model, it is what
    the choice says that its users have in its place: a release of another model, which the studio adopted.

    Raises:
        InvalidInputError: There can be no channel of that name.
        UndecidedError: The record of what they have cannot be read here, so nothing can be compared with it.
    """
    if not _CHANNEL.fullmatch(channel):
        raise InvalidInputError(
            "channel",
            where="--channel",
            expected="stable, beta or show/NAME",
            actual=repr(channel),
            remedy="correct the name; is the variable set that it came from?",
        )
    for name in (channel, studio.policy.channel):
        for choice in studio.choices:
            pointer = choice.pointer(name, candidate.model)
            if pointer is not None:
                if error := studio.unreadable(str(pointer.release)):
                    raise error
                return None if pointer.release == candidate.ref() else studio.release(pointer.release)
        named = (b for choice in studio.choices for b in choice.baselines or () if b.channel == name)
        instead = next((entry for entry in named if entry.model == candidate.model), None)
        if instead is not None:
            return _instead(studio, instead)
    return None


def _instead(studio: Studio, baseline: Baseline) -> Release:
    """What a channel's users have in the place of a model; without its record nobody may say that it is nothing."""
    found = studio.release(baseline.release)
    if found is None:
        raise studio.unreadable(str(baseline.release)) or UndecidedError(
            "baseline",
            where=f"{baseline.channel}: {baseline.model}",
            expected=f"the record of {baseline.release}, which is in use there, to compare with",
            actual="none here",
            remedy="run changeover sync",
        )
    return found


def check_client(choices: Iterable[Choice], scope: str, release: ReleaseRef, policy: Policy) -> None:
    """Check that a show's client agreed to a release, where the policy asks for that.

    Raises:
        RefusedError: It did not; the message says how it is written down once it has.
    """
    for finding in check_client_approval(release, terms_of(choices, scope), policy):
        if isinstance(finding, Refused):
            raise RefusedError(
                finding.rule,
                where=str(release),
                expected=finding.expected,
                actual=finding.actual,
                remedy=f"adopt it without --show first; {finding.remedy}",
            )


def check_adoption(case: Case) -> None:
    """Check what no decision passes over, not even that a show has a release already.

    Raises:
        TrustError: The release is withdrawn, does not verify, or is not this studio's own.
    """
    permitting_verdict(replace(case, held_before=True))
