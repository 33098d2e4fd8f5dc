"""Telling others of what a command did: the site of a station's state, the studio's hook of an event, MLflow's aliases.

Both come after the work, and neither changes its outcome: what goes wrong here is a notice.
"""

import contextlib
from typing import TYPE_CHECKING, Any

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_updater.cli._output import notice

if TYPE_CHECKING:
    from collections.abc import Callable

    from changeover_registry.records.choice import Back, Choice
    from changeover_registry.records.hook import HookName
    from changeover_registry.records.policy import Policy
    from changeover_registry.repository.pending import Written
    from changeover_updater.cli._context import Invocation
    from changeover_updater.station import Station

__all__ = ["tell_aliases", "tell_hook", "tell_promoted", "tell_returned", "tell_site"]


def tell_site(call: "Invocation", station: "Station") -> None:
    """Write the station's state into the site, where there is one."""
    from changeover_updater.site import Site
    from changeover_updater.status import report_status

    if call.settings.site is None:
        return
    try:
        site, facts = Site.open(call.settings.need_site()), station.facts()
        report_status(site, station, call.settings.host, call.now, facts[1] if facts else None, notice)
    except (ChangeoverError, OSError) as error:
        notice(f"the site was not told of this station's state: {error}")


def tell_hook(call: "Invocation", what: "HookName", *, policy: "Policy | None" = None, **fields: Any) -> None:  # noqa: ANN401 - fields of the record, which checks them
    """Run the policy's hook for an event, if it has one; `policy` is read and verified where it is not given."""
    from changeover_registry.records.hook import HookEvent
    from changeover_updater.hooks import run_hook

    if call.settings.site is None:
        return
    try:
        known = policy or _policy(call, what)
        if known is None:
            return
        event = HookEvent(
            what=what,
            when=format_time(call.now),
            who=call.settings.who,
            host=call.settings.host,
            site=str(call.settings.site),
            **fields,
        )
    except (ChangeoverError, OSError) as error:
        notice(f"whether there is a hook for {what} could not be read, and none was run: {error}")
        return
    run_hook(known, event, notice)


def tell_promoted(call: "Invocation", done: "Written") -> None:
    """Draw the alias in MLflow, and run the hook ``promoted`` for each release that a choice newly gives a channel.

    Both only once it is chosen.
    """
    from changeover_updater.differences import new_pointers
    from changeover_updater.records import draw_promoted, promoted_now

    if not done.chosen:
        return
    if pointers := promoted_now(done.choice):
        draw_promoted(call.site(), pointers, notice)
    if not _named(call, "promoted"):
        return
    try:
        before = _before(call, done.choice)
    except (ChangeoverError, OSError) as error:
        notice(f"what this choice changes could not be read, and no hook was run: {error}")
        return
    for one in new_pointers(before, done.choice):
        tell_hook(
            call,
            "promoted",
            why=done.choice.entry.why,
            model=one.release.model,
            release=str(one.release),
            channel=one.channel,
            scope=done.choice.scope,
            verdict=one.verdict,
        )


def tell_returned(call: "Invocation", done: "Back") -> None:
    """Draw what a way back returned as aliases in MLflow."""
    from changeover_updater.records import draw_promoted

    draw_promoted(call.site(), done.channels, notice)


def tell_aliases(call: "Invocation", tell: "Callable[[str], None]" = notice) -> None:
    """Draw the whole verified choice as aliases in MLflow; where it cannot be read here, others tell of it."""
    from changeover_updater.records import draw_aliases
    from changeover_updater.studio import read_choices

    with contextlib.suppress(ChangeoverError, OSError):
        site = call.site()
        draw_aliases(site, read_choices(site, call.station()), tell)


def _before(call: "Invocation", choice: "Choice") -> "Choice | None":
    from changeover_registry.repository.choice import history

    past = history(call.site().choice, choice.scope)
    return next((one for one in past if one.number == choice.number - 1), None)


def _named(call: "Invocation", what: str) -> bool:
    """Whether the policy's file, unverified, names such a hook: where it names none, there is nothing to verify."""
    try:
        site = call.site()
        return what in site.read_policy(site.policy_bytes()).hooks
    except (ChangeoverError, OSError):
        return False


def _policy(call: "Invocation", what: str) -> "Policy | None":
    """The verified policy; None where its file names no such hook."""
    from changeover_updater.studio import read_choices

    if not _named(call, what):
        return None
    site = call.site()
    choices = read_choices(site, call.station())
    return site.policy(next((choice.policy for choice in choices if choice.scope == "site"), None))[0]
