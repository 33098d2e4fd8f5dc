"""The command ``doctor``: settings, the right runtime set, what is unknown, what changed, and what stands on disk."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import ChangeoverError
from changeover_updater.cli._context import Invocation, JsonFlag, host_facts, invocation, read_facts
from changeover_updater.cli._output import emit, mark, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from changeover_registry.records.facts import HostFacts
    from changeover_updater.checkup import Checkup
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
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; may be killed and run again.")
    ] = False,
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring site and store to this version's format.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show settings, the right runtime set, what changed since the verdict, and what on disk is not as it was made."""
    from dataclasses import replace

    from changeover_registry.telemetry import switches
    from changeover_updater.cli._show_doctor import doctor_object, show_doctor

    call = invocation(context)
    if migrate:
        _migrate(call, as_json=as_json)
        return
    facts = host_facts(call, None) if host is None else read_facts(host)
    # As this process was started: whatever asks MLflow sets them again.
    telemetry = switches(os.environ)
    checkup = _checkup(call, facts, repair=repair)
    found = replace(_diagnosis(call, facts, None if after is None else read_facts(after)), telemetry=telemetry)
    emit(doctor_object(found, checkup), as_json=as_json, show=lambda: show_doctor(found, checkup))
    raise typer.Exit(max(found.exit_code, checkup.exit_code if checkup else 0))


def _migrate(call: Invocation, *, as_json: bool) -> None:
    """There is one format so far: a folder of a newer one is refused where it is opened."""
    places = [("site", call.site().root), ("store", call.store().root)]
    answer = [{"what": what, "folder": str(folder), "format": 1, "migrated": False} for what, folder in places]

    def show() -> None:
        for what, folder in places:
            say(f"{mark('ok')} {what} {folder}: format 1, which is the newest; there is nothing to migrate")

    emit(answer, as_json=as_json, show=show)


def _checkup(call: Invocation, facts: "HostFacts", *, repair: bool) -> "Checkup | None":
    """What stands on disk, where there is a station; why there is none is told with the diagnosis."""
    from changeover_updater.checkup import Asked, check_up

    try:
        station = call.station()
    except ChangeoverError:
        return None
    try:
        site = call.site()
    except ChangeoverError:
        site = None
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    with progress() as line:
        return check_up(
            Asked(
                station=station,
                site=site,
                facts=facts,
                who=call.settings.who,
                host=call.settings.host,
                cache=Path(cache),
                now=call.now,
                progress=line.bytes,
                reach=_reach(call) if site else None,
                repair=repair,
            )
        )


def _reach(call: Invocation) -> "Callable[[], object] | None":
    """What finishes role files that no timestamp reaches; None where the studio's site key is not here."""
    from changeover_registry.repository import choice
    from changeover_updater.signed import studio_keys

    key = call.settings.keys.site
    if key is None or not Path(key).is_file():
        return None
    return lambda: choice.repair(call.site().choice, studio_keys(call), call.now)


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
