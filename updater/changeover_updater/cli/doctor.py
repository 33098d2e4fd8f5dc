"""The command ``doctor``: settings and where they come from, the right runtime set, what is unknown, what changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import ChangeoverError
from changeover_updater.cli._context import Invocation, JsonFlag, host_facts, invocation, read_facts
from changeover_updater.cli._output import emit

if TYPE_CHECKING:
    from changeover_registry.records.facts import HostFacts
    from changeover_updater.doctor import Diagnosis, Since
    from changeover_validators.checks.impact import Impact

__all__ = ["doctor"]


def doctor(
    context: typer.Context,
    host: Annotated[
        Path | None, typer.Option(help="Facts of another host to look at: a file or a shipped name.")
    ] = None,
    after: Annotated[
        Path | None, typer.Option(help="Facts as a planned update would make them: what it would break or re-open.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show each setting with its origin, the right runtime set, what is unknown, and what changed since the verdict."""
    from changeover_updater.cli._show_doctor import doctor_object, show_doctor

    call = invocation(context)
    facts = host_facts(call, None) if host is None else read_facts(host)
    found = _diagnosis(call, facts, None if after is None else read_facts(after))
    emit(doctor_object(found), as_json=as_json, show=lambda: show_doctor(found))
    raise typer.Exit(found.exit_code)


def _diagnosis(call: Invocation, facts: "HostFacts", after: "HostFacts | None") -> "Diagnosis":
    """What can be told with the site and the station that there are; without them the rest is told all the same."""
    from changeover_updater.doctor import diagnose

    since: Since | None = None
    planned: Impact | None = None
    troubles: tuple[ChangeoverError, ...] = ()
    try:
        since, planned = _with_site(call, facts, after)
    except ChangeoverError as error:
        troubles = (error,)
    return diagnose(call.settings, facts, since=since, planned=planned, troubles=troubles)


def _with_site(call: Invocation, facts: "HostFacts", after: "HostFacts | None") -> "tuple[Since | None, Impact | None]":
    from functools import partial

    from changeover_registry.records.policy import Policy
    from changeover_updater.doctor import since_last
    from changeover_updater.in_use import points_in_use, releases_in_use
    from changeover_updater.judged_facts import judged_facts
    from changeover_updater.studio import read_studio, read_verdicts
    from changeover_validators.checks.impact import impact

    if call.settings.site is None or call.settings.store is None:
        return None, None if after is None else impact(facts, after, (), Policy())
    site, station = call.site(), call.station()
    studio = read_studio(site, station)
    releases = releases_in_use(station, studio)
    verdicts, hosts = read_verdicts(site, studio), (facts,) if after is None else (facts, after)
    points = points_in_use(station.in_use(), releases, verdicts, hosts, studio.policy)
    since = since_last(verdicts, facts, partial(judged_facts, site), releases, studio.policy, points)
    return since, None if after is None else impact(facts, after, releases, studio.policy, points)
