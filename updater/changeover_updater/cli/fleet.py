"""The command ``fleet``: what stations report, and releases against the host classes of facts files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, invocation, read_facts
from changeover_updater.cli._options import PlateOption, PolicyOption
from changeover_updater.cli._output import emit, notice, progress

if TYPE_CHECKING:
    from changeover_registry.errors import InvalidInputError
    from changeover_registry.records.choice import Choice
    from changeover_registry.records.facts import HostFacts
    from changeover_updater.cli._context import Invocation
    from changeover_updater.fits import Answered
    from changeover_updater.site import Site

__all__ = ["fleet"]


def fleet(
    context: typer.Context,
    releases: Annotated[
        list[str] | None,
        typer.Argument(help="MODEL@VERSION, release folders or ONNX files; else what the channels point at."),
    ] = None,
    host: Annotated[
        list[Path] | None, typer.Option(help="Facts of hosts: files, folders of them, or shipped names. May repeat.")
    ] = None,
    plate: PlateOption = None,
    policy: PolicyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the stations run, who is behind and why; with --host, which releases fit which hosts, and what limits.

    Without --host all of it is what the stations of the site report of themselves.
    """
    if host:
        _on_hosts(context, tuple(releases or ()), host, plate, policy, as_json=as_json)
    elif plate or policy or any(Path(name).exists() for name in releases or ()):
        raise _no_host()
    else:
        _over_stations(invocation(context), tuple(releases or ()), as_json=as_json)


def _over_stations(call: "Invocation", only: tuple[str, ...], *, as_json: bool) -> None:
    from changeover_updater.cli._show_fleet_stations import show_stations
    from changeover_updater.fleet_stations import stations_object, stations_of
    from changeover_updater.stations import iter_statuses

    site = call.site()
    with progress() as line:
        line.step("read what the stations report")
        chosen, withdrawn = _chosen(call, site)
        found = stations_of(iter_statuses(site, now=call.now), chosen, call.now, only, withdrawn)
    emit(stations_object(found), as_json=as_json, show=lambda: show_stations(found))


def _chosen(call: "Invocation", site: "Site") -> "tuple[tuple[Choice, ...] | None, dict[str, str]]":
    """What the studio chose and what vendors took back, verified; None for the first where that cannot be done here."""
    from changeover_registry.errors import ChangeoverError
    from changeover_updater.needed import Needed
    from changeover_updater.studio import read_studio

    try:
        studio = read_studio(site, call.station(), Needed.chosen(()))
    except ChangeoverError as error:
        notice(f"what is chosen could not be verified: {error}")
        return None, {}
    for vendor in studio.vendors:
        if vendor.error is not None:
            notice(f"what {vendor.entry.vendor} took back is not known: {vendor.error}")
    return studio.choices, dict(studio.withdrawn())


def _on_hosts(
    context: typer.Context,
    releases: tuple[str, ...],
    host: list[Path],
    plate: "str | None",
    policy: Path | None,
    *,
    as_json: bool,
) -> None:
    from changeover_updater.cli._asked import ask_about, builders, calibrations
    from changeover_updater.cli._show_fits import show_fleet
    from changeover_updater.fits import answer
    from changeover_updater.fleet import facts_of, fleet_object, fleet_of, host_files, named_apart
    from changeover_updater.predicting import Made, Predictors

    call = invocation(context)
    asked, built, measured = ask_about(call, releases, policy, plate), builders(call), calibrations(call)
    read, unread = facts_of(host_files(host), read_facts)
    hosts = named_apart(read)
    subjects = [one for question in asked.questions for one in (question.current, question.subject) if one]
    folders = {subject.release.digest(): subject.folder for subject in subjects}
    shared = Made()
    with progress() as line:

        def ask(facts: "HostFacts") -> "list[Answered]":
            line.step(f"judge {facts.host}")
            predictors = Predictors(
                facts,
                asked.policy,
                built,
                lambda release, variant: folders[release.digest()](variant),
                measured,
                shared,
            )
            return [
                answer(
                    question.subject,
                    facts,
                    asked.policy,
                    predictors,
                    question.old(facts, asked.policy, predictors),
                    asked.usual,
                )
                for question in asked.questions
            ]

        names = tuple(question.subject.name for question in asked.questions)
        found = fleet_of(hosts, names, asked.policy.vram.plate, ask, unread)
    emit(fleet_object(found), as_json=as_json, show=lambda: show_fleet(found))
    if unread:
        raise typer.Exit(max(error.exit_code for _, error in unread))


def _no_host() -> "InvalidInputError":
    from changeover_registry.errors import InvalidInputError

    return InvalidInputError(
        "usage",
        where="fleet",
        expected="--host FILE, a folder of such files, or a shipped name",
        actual="no host, and --plate, --policy or a file to judge",
        remedy="write facts with: changeover facts --json",
    )
