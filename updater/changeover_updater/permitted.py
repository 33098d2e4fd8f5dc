"""What is known of a release that somebody wants to choose: the case for it, and by what it was chosen before.

`permission` decides; here the facts of site and station are brought together for it, for whoever promotes and again for
whoever approves.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.records.choice import Pin, Pointer
from changeover_registry.records.release import Release
from changeover_updater.eligible import release_findings
from changeover_updater.permission import Case, permitting_verdict
from changeover_updater.site import Site
from changeover_updater.studio import Studio, read_verdicts

if TYPE_CHECKING:
    from changeover_updater.cli._context import Invocation

__all__ = ["baseline_of", "case_of", "earlier_of", "permission_of"]

_CHANNEL = re.compile(r"stable|beta|show/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def case_of(call: "Invocation", site: Site, studio: Studio, release: Release, scope: str, channel: str | None) -> Case:
    """All that a promotion, or a pin (`channel` is None), is decided from."""
    baseline = None if channel is None else baseline_of(studio, release, channel)
    return Case(
        release=release,
        findings=release_findings(release, studio.vendor_of(release), baseline, studio.policy),
        verdicts=read_verdicts(site, studio, release.digest()),
        overrides=studio.overrides(release.ref(), scope),
        policy=studio.policy,
        policy_digest=studio.policy_digest,
        baseline=baseline.ref() if baseline else None,
        now=call.now,
    )


def permission_of(case: Case, earlier: "Callable[[], tuple[Pointer | Pin, ...]]") -> str | None:
    """The digest of the verdict that a pointer or pin names: the one that permits it, or that of its earlier time.

    What a scope held before may be chosen again without a new verdict: the way back is always open. `earlier` reads by
    what it was held before, and is asked only where no verdict permits: the past may be long.

    Raises:
        TrustError: The release is withdrawn or does not verify.
        RefusedError: A rule says no, or the newest verdict rejects.
        UndecidedError: No verdict holds; the message says what is missing.
    """
    try:
        if verdict := permitting_verdict(case):
            return verdict
    except (RefusedError, UndecidedError):
        if not (before := earlier()):
            raise
        verdict = permitting_verdict(replace(case, held_before=True))
    else:
        before = earlier()
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

    A show that has no channel of its own is served by the site's.

    Raises:
        InvalidInputError: There can be no channel of that name.
        UndecidedError: This build cannot read the record of what they have, so nothing can be compared with it.
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
    return None
