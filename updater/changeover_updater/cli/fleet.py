"""The command ``fleet``: releases against host classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._asked import PlateOption, PolicyOption
from changeover_updater.cli._context import JsonFlag, invocation, read_facts
from changeover_updater.cli._output import emit, progress

if TYPE_CHECKING:
    from changeover_registry.errors import InvalidInputError
    from changeover_registry.records.facts import HostFacts
    from changeover_updater.fits import Answered

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
    """Show which releases fit which classes of hosts, and what limits each."""
    from changeover_updater.cli._asked import ask_about, builders, calibrations
    from changeover_updater.cli._show_fits import show_fleet
    from changeover_updater.fits import answer
    from changeover_updater.fleet import facts_of, fleet_object, fleet_of, host_files, named_apart
    from changeover_updater.predicting import Made, Predictors

    if not host:
        raise _no_host()
    call = invocation(context)
    asked, built, measured = ask_about(call, tuple(releases or ()), policy, plate), builders(call), calibrations(call)
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
        actual="no host",
        remedy="write facts with: changeover facts --json",
    )
