"""A show's client: show approve, unapprove, approvals."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, Reason, invocation, said_of
from changeover_updater.cli._output import emit, escape, rows
from changeover_updater.cli._show import show_written
from changeover_updater.cli.check import Release

if TYPE_CHECKING:
    from collections.abc import Iterable

    from changeover_registry.records.choice import Choice, ClientApproval

__all__ = ["add_to"]

Show = Annotated[str, typer.Argument(help="The show.")]


def add_to(shows: typer.Typer) -> None:
    """Add the commands to ``show``."""
    shows.command("approve")(approve)
    shows.command("unapprove")(unapprove)
    shows.command("approvals")(approvals)


def approve(
    context: typer.Context,
    show: Show,
    release: Release,
    by: Annotated[str, typer.Option("--by", help="Who of the client agreed.", callback=said_of)],
    evidence: Annotated[
        str, typer.Option("--evidence", help="Where it is written: a message, a note, an address.", callback=said_of)
    ],
    reason: Reason,
) -> None:
    """Sign that a show's client agreed to a release, where the policy asks for that."""
    from changeover_updater import signed

    done, agreed = signed.approve_for_client(invocation(context), show, release, signed.Agreed(by, evidence), reason)
    way = f"promote {release} --channel show/{show}"
    if agreed.adopted is not None:
        # What was adopted is no upgrade: promote would refuse it where the show never had it.
        way = f"adopt {shlex.quote(agreed.adopted.source)} --show {show}"
    show_written(done, f"it may go to the show with: changeover {escape(way)} --reason ...")


def unapprove(context: typer.Context, show: Show, release: Release, reason: Reason) -> None:
    """Take a client's agreement back; what the show has in use stays until another release is promoted."""
    from changeover_updater import signed

    done = signed.unapprove_for_client(invocation(context), show, release, reason)
    show_written(done, f"a station that has it keeps it; go back with: changeover rollback --channel show/{show}")


def approvals(
    context: typer.Context,
    show: Annotated[str | None, typer.Argument(help="One show; else all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show to what the clients of shows agreed: who, when, and where it is written."""
    from changeover_updater.studio import read_choices

    call = invocation(context)
    found = list(_standing(read_choices(call.site(), call.station()), show))
    lines = [(name, escape(str(one.release)), escape(one.by), one.when, escape(one.evidence)) for name, one in found]
    answer = [{"show": name, **one.model_dump(mode="json")} for name, one in found]
    columns = ("show", "release", "by", "when", "evidence")
    emit(answer, as_json=as_json, show=lambda: rows("client approvals", columns, lines))


def _standing(choices: "Iterable[Choice]", show: str | None) -> "Iterable[tuple[str, ClientApproval]]":
    for choice in choices:
        name = choice.scope.removeprefix("shows/")
        if show in {None, name}:
            yield from ((name, approval) for approval in choice.client_approvals or ())
