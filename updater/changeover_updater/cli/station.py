"""The station's commands: facts, plan, update, status, rollback, hold, unhold, log, plugin-path."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import Invocation, JsonFlag, Reason, host_facts, invocation, read_facts, said
from changeover_updater.cli._output import emit, escape, mark, notice, progress, say
from changeover_updater.cli._told import tell_hook, tell_returned, tell_site
from changeover_updater.cli.log import log

__all__ = ["add_to"]

_DAYS_DIGITS = 5


def add_to(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    for command in (facts, plan, update, status, rollback, hold, unhold, log):
        app.command()(command)
    app.command("plugin-path")(plugin_path)


def facts(
    context: typer.Context,
    host: Annotated[
        Path | None, typer.Option(help="Show another host instead: a file with its facts, or a shipped name.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is known of this machine: GPUs, driver, runtimes, Nuke."""
    from changeover_updater.cli._show_facts import show_facts

    found = host_facts(invocation(context), None) if host is None else read_facts(host)
    emit(_object(found.to_bytes()), as_json=as_json, show=lambda: show_facts(found))


def plan(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show what would change here and why, and each variant that is passed over with its reason."""
    from changeover_updater.cli._show_plan import plan_object, show_plan
    from changeover_updater.plan import make_plan
    from changeover_updater.update import heed_others, known_now
    from changeover_validators.probe import with_free_memory

    call = invocation(context)
    station = call.station()
    found = with_free_memory(host_facts(call, station), dict(call.settings.runtimes))
    site = call.site()
    known = heed_others(site, known_now(site, station, found, call.now))
    made = make_plan(replace(known, gated=True))
    emit(plan_object(made), as_json=as_json, show=lambda: show_plan(made))
    raise typer.Exit(made.exit_code)


def update(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Change this station over to what the studio chose, as far as it may run it."""
    from changeover_updater.cli._show_plan import plan_object, show_plan
    from changeover_updater.runtimes import Runtimes
    from changeover_updater.tick import Work, carry_out
    from changeover_updater.update import Tools
    from changeover_validators.probe import with_free_memory

    call = invocation(context)
    site, station = call.site(), call.station()
    found = with_free_memory(host_facts(call, station), dict(call.settings.runtimes))
    with progress() as line:
        tools = Tools(call.settings.who, lambda policy: Runtimes(found, policy).smoke, line.bytes, line.step)
        outcome = carry_out(Work(site, station, call.settings.host, found, call.now, tools, notice))

    def show() -> None:
        show_plan(outcome.plan, done=outcome.changed)
        number = outcome.generation.number if outcome.generation else None
        if outcome.changed:
            say(f"{mark('ok')} changed over to generation {number}")
        else:
            say(
                f"{mark('skip')} nothing changed; "
                + (f"generation {number} is in use" if number else "nothing is in use")
            )

    number = outcome.generation.number if outcome.generation else None
    answer = {"changed": outcome.changed, "generation": number, "plan": plan_object(outcome.plan)}
    emit(answer, as_json=as_json, show=show)
    raise typer.Exit(outcome.plan.exit_code)


def status(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show what this station serves, since when, and what holds it."""
    from changeover_updater.cli._show import show_expiring, show_overrides, show_status
    from changeover_updater.expiries import expiring, read_expiries
    from changeover_updater.overrides import read_standing
    from changeover_updater.status import status_now

    call = invocation(context)
    station = call.station()
    found = status_now(station, call.now)
    soon = expiring(read_expiries(station, call.settings.site), call.now)
    passes, unread = read_standing(call.settings.site, station, call.now)
    answer = found.as_object() | {
        "expiring": [one.as_object(near) for one, near in soon],
        "overrides": None if unread else [one.as_object() for one in passes],
    }

    def show() -> None:
        show_status(found)
        show_overrides(passes, unread)
        show_expiring(soon, call.now)

    emit(answer, as_json=as_json, show=show)


def rollback(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(help="The generation; with --channel, VERSION or MODEL@VERSION. Else what was there before."),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Return this channel, for every station, to a release that it held before.")
    ] = None,
    reason: Reason = "rolled back by hand",
    override: Annotated[bool, typer.Option(help="Go back even to a release that its vendor withdrew.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Go back to an earlier generation at once, and stay there until unhold; or return a channel, for everybody."""
    from changeover_updater.rollback import roll_back

    if channel is not None:
        _return(context, channel, to, reason, as_json=as_json)
        return
    call = invocation(context)
    station = call.station()
    number = None if to is None else _generation_number(to)
    target = roll_back(station, number, who=call.settings.who, why=reason, now=call.now, override=override)
    emit(
        {"generation": target.number, "hold": True},
        as_json=as_json,
        show=lambda: say(
            f"{mark('ok')} generation {target.number} is in use, and a hold keeps it: changeover unhold lifts it. "
            "Open sessions keep what they opened."
        ),
    )
    tell_site(call, station)
    tell_hook(call, "rolled_back", station=station.id, generation=target.number, why=reason)


def _generation_number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInputError(
            "generation", where="--to", expected="a number", actual=text, remedy="see them with: changeover status"
        )
    return int(text)


def _return(context: typer.Context, channel: str, to: str | None, reason: str, *, as_json: bool) -> None:
    from changeover_updater.way_back import return_channel

    call = invocation(context)
    done = return_channel(call, channel, to, reason)
    emit(
        _object(done.to_bytes()),
        as_json=as_json,
        show=lambda: say(
            f"{mark('ok')} {escape(done.entry.what)} (back {done.number} of {done.scope}, on choice {done.stands_on}); "
            "it stands until the next choice of that scope. Stations change over with: changeover update"
        ),
    )
    tell_returned(call, done)
    tell_hook(call, "rolled_back", scope=done.scope, channel=channel, why=reason)


def hold(
    context: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why this station must stay where it is.", callback=said)],
    until: Annotated[str | None, typer.Option(help="UTC time, or days such as 3d; else until unhold.")] = None,
) -> None:
    """Keep this station where it is."""
    from changeover_registry.records.station import Hold
    from changeover_updater.rollback import hold as set_hold

    call = invocation(context)
    end = None if until is None else moment(until, call)
    if end is not None and parse_time(end) <= call.now:
        raise InvalidInputError(
            "hold", where="--until", expected="a moment to come", actual=end, remedy="give a later date"
        )
    station = call.station()
    set_hold(station, Hold(by=call.settings.who, why=reason, since=format_time(call.now), until=end))
    say(f"{mark('ok')} held" + (f" until {end}" if end else " until unhold"))
    tell_site(call, station)


def unhold(context: typer.Context, reason: Reason = "lifted by hand") -> None:
    """Lift the hold; the next update changes over again."""
    from changeover_updater.rollback import unhold as lift

    call = invocation(context)
    station = call.station()
    lifted = lift(station, who=call.settings.who, why=reason, now=call.now)
    say(f"{mark('ok')} the hold is lifted" if lifted else f"{mark('skip')} there is no hold; nothing changed")
    if lifted:
        tell_site(call, station)


def plugin_path(
    host: Annotated[str, typer.Argument(help="The host application: nuke.")],
) -> None:
    """Print the folder to put on NUKE_PATH."""
    from changeover_updater.plugin import plugin_folder

    if host != "nuke":
        raise InvalidInputError(
            "host application", where=host, expected="nuke", actual=host, remedy="write: changeover plugin-path nuke"
        )
    sys.stdout.write(f"{plugin_folder()}\n")


def moment(text: str, call: Invocation) -> str:
    """A moment that a person wrote: a UTC time, a date, or a number of days from now.

    Raises:
        InvalidInputError: It is none of these.
    """
    if text.endswith("d") and text[:-1].isdecimal() and len(text) <= _DAYS_DIGITS + 1:
        return format_time(call.now + timedelta(days=int(text[:-1])))
    try:
        return format_time(parse_time(text if "T" in text else f"{text}T23:59:59Z", where="--until"))
    except InvalidInputError as error:
        raise InvalidInputError(
            "time",
            where="--until",
            expected="days such as 14d, a date such as 2026-12-24, or UTC such as 2026-12-24T18:00:00Z",
            actual=repr(text),
            remedy="write the time in one of these forms",
        ) from error


def _object(data: bytes) -> object:
    import json

    return json.loads(data)
