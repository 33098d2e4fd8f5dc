"""The command log: a station's events, the studio's choices, a model's history, and what was live at a moment."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import Invocation, JsonFlag, invocation
from changeover_updater.cli._output import count, emit, escape, mark, notice, rows, say

if TYPE_CHECKING:
    from changeover_registry.repository.reached import Reached
    from changeover_updater.live import Live
    from changeover_updater.site import Site

__all__ = ["log"]


def log(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Only what was chosen of this model.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="What was live then: a UTC time, or a date (its end; today: now).")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="With --at: on this channel alone.")] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the chain link by link: events; with --choice, --at or MODEL choices."),
    ] = False,
    choice: Annotated[
        bool, typer.Option("--choice", help="The studio's choices instead of this station's events.")
    ] = False,
    imports: Annotated[bool, typer.Option("--imports", help="What was carried into the site, and by whom.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show who changed what, when and why: at this station, in the studio's choices, of a model; or what was live."""
    call = invocation(context)
    if (channel is not None and at is None) or (imports and (model or at or choice)):
        raise InvalidInputError(
            "usage",
            where="log",
            expected="--channel with --at, and --imports without another",
            actual="another combination",
            remedy="write: changeover log --at 2026-11-20T12:00:00Z --channel stable",
        )
    if imports:
        from changeover_updater.cli.bundle import show_imports

        show_imports(call, verify=verify, as_json=as_json)
    elif at is not None or model is not None:
        proved = _verified(call, call.site()) if verify else 0
        if at is not None:
            _show_live(call, at, channel, model, as_json=as_json)
        elif model is not None:
            _show_model(call, model, as_json=as_json)
        if verify and not as_json:
            _say_proved(call.site(), proved)
    elif choice:
        _show_choices(call, verify=verify, as_json=as_json)
    else:
        _show_events(call, verify=verify, as_json=as_json)


def _show_events(call: Invocation, *, verify: bool, as_json: bool) -> None:
    from changeover_registry import chain
    from changeover_updater.cli._show import event_rows
    from changeover_updater.status import reported_head

    station = call.station()
    events = station.events()
    if verify:
        site = call.settings.site
        chain.verify(events, reported_head(site, station.id) if site else None)
    emit(
        [_object(event.to_bytes()) for event in events],
        as_json=as_json,
        show=lambda: rows("events", ("seq", "when", "who", "what", "from", "to", "why"), event_rows(events)),
    )
    if verify and not as_json:
        say(f"{mark('ok')} {len(events)} events, each follows from the one before")


def _show_choices(call: Invocation, *, verify: bool, as_json: bool) -> None:
    from changeover_updater.cli._show import choice_rows, entry_row
    from changeover_updater.studio import choice_log, key_changes

    site = call.site()
    proved = _verified(call, site) if verify else 0
    history, keys = choice_log(site), key_changes(site)
    lines = sorted([*choice_rows(history), *(entry_row("keys", *change) for change in keys)], key=lambda line: line[2])
    answer = [_object(one.to_bytes()) for one in history]
    answer += [{"keys": number, "entry": entry.model_dump(mode="json")} for number, entry in keys]
    columns = ("scope", "n", "when", "who", "what", "why")
    emit(answer, as_json=as_json, show=lambda: rows("choices", columns, lines))
    if verify and not as_json:
        _say_proved(site, proved)


def _say_proved(site: "Site", proved: int) -> None:
    signed = "who signed them stands at the site that chose" if _follows(site) else "and its scope's keys signed it"
    say(f"{mark('ok')} {count(proved, 'choice')}: each follows from the one before, {signed}")


def _verified(call: Invocation, site: "Site") -> int:
    """Verify what holds as a station does, then every choice of every scope; how many there are."""
    from changeover_registry.repository.past import check_past
    from changeover_updater.studio import read_choices

    scopes = [choice.scope for choice in read_choices(site, call.station())]
    reached, root = _reached(call, site), None if _follows(site) else _root(call)
    return sum(check_past(site.choice, reached, scope, root) for scope in scopes)


def _follows(site: "Site") -> bool:
    """Whether the site has another one's choice, of whose past a bundle brings the choices alone."""
    return (site.follows / "root.json").is_file()


def _show_model(call: Invocation, name: str, *, as_json: bool) -> None:
    from changeover_registry.repository import backs
    from changeover_registry.repository.past import changes_of
    from changeover_updater.cli._show import entry_row
    from changeover_updater.live import changes_in
    from changeover_updater.studio import scopes

    site = call.site()
    model, reached = _model(site, name), _reached(call, site)
    steps = [step for scope in scopes(site) for step in changes_of(site.choice, reached, scope, model)]
    returned = [
        back for scope in scopes(site) for back in reversed(list(backs.newest_first(site.choice, reached, scope)))
    ]
    found = changes_in(steps, returned, model)
    lines = [entry_row(one.scope, one.number, one.entry) for one in found]
    columns = ("scope", "n", "when", "who", "what", "why")
    emit([one.as_object() for one in found], as_json=as_json, show=lambda: rows(model, columns, lines))


def _show_live(call: Invocation, at: str, channel: str | None, name: str | None, *, as_json: bool) -> None:
    from changeover_registry.repository.past import held_at
    from changeover_updater.choose import channel_scope
    from changeover_updater.live import live_at
    from changeover_updater.studio import scopes

    site = call.site()
    moment = _moment(at, call.now)
    if moment > call.now:
        raise InvalidInputError(
            "time", where="--at", expected="a moment that has been", actual=at, remedy="give an earlier one"
        )
    model, reached = _model(site, name) if name else None, _reached(call, site)
    asked = scopes(site) if channel is None else tuple(dict.fromkeys(("site", channel_scope(_channel(channel)))))
    held = [one for scope in asked if (one := held_at(site.choice, reached, scope, moment)) is not None]
    found = live_at(held, moment, channel=channel, model=model)
    emit(
        {"at": format_time(moment), "channel": channel, "live": [line.as_object() for line in found]},
        as_json=as_json,
        show=lambda: _live_rows(found, format_time(moment), channel, chosen=bool(held)),
    )


def _moment(at: str, now: datetime) -> datetime:
    """The moment that a person named; a date is its end, and today's is now."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", at):
        end = parse_time(f"{at}T23:59:59Z", where="--at")
        return now if end.date() == now.date() else end
    try:
        return parse_time(at, where="--at")
    except InvalidInputError as error:
        raise InvalidInputError(
            "time",
            where="--at",
            expected="a date such as 2026-11-20, or UTC such as 2026-11-20T18:00:00Z",
            actual=repr(at),
            remedy="write the time in one of these forms",
        ) from error


def _live_rows(found: "tuple[Live, ...]", moment: str, channel: str | None, *, chosen: bool) -> None:
    if not chosen:
        say(f"nothing had been chosen yet at {moment}")
        return
    lines = [
        (
            line.where,
            escape(line.release),
            f"{line.scope} {line.number}" + (", returned" if line.returned else ""),
            line.since,
            line.verdict[:12] if line.verdict else "-",
            escape(line.detail),
        )
        for line in found
    ]
    rows(f"live at {moment}", ("where", "release", "choice", "which held since", "verdict", "what more"), lines)
    if channel is not None and channel.startswith("show/"):
        notice("of models that this channel had no release of, the show had what its stations' channel had")


def _channel(text: str) -> str:
    import re

    from changeover_registry.records.choice import CHANNEL

    if re.fullmatch(CHANNEL, text) is None:
        raise InvalidInputError(
            "channel",
            where="--channel",
            expected="stable, beta or show/NAME",
            actual=repr(text),
            remedy="correct the name of the channel",
        )
    return text


def _reached(call: Invocation, site: "Site") -> "Reached":
    """The choice's metadata, verified against the root that this station was given."""
    from changeover_registry.repository.past import read_past

    return read_past(site.choice, _root(call))


def _root(call: Invocation) -> bytes:
    """The root of the choice that this station was given."""
    return (call.station().folder / "trust" / "choice" / "root.json").read_bytes()


def _model(site: "Site", name: str) -> str:
    """The model of that name, by what was ever chosen here: its vendor may be trusted no more.

    Raises:
        InvalidInputError: Nothing of such a model was chosen, or several are of that name.
    """
    from changeover_updater.live import models_of
    from changeover_updater.studio import choice_history, newest_choices

    if "/" in name:
        return name
    found, known = _alike(name, models_of(newest_choices(site)))
    if len(found) != 1:
        # What no choice names any more stands in older ones, all of which only this reads.
        found, known = _alike(name, models_of(choice_history(site)))
    if len(found) != 1:
        raise InvalidInputError(
            "model",
            where=name,
            expected=f"a model that something was chosen of: {', '.join(known) or 'none yet'}",
            actual=f"several: {', '.join(found)}" if found else "an unknown model",
            remedy="write vendor/name",
        )
    return found[0]


def _alike(name: str, known: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(model for model in known if model.partition("/")[2] == name), known


def _object(data: bytes) -> Any:  # noqa: ANN401 - a record as the JSON that it is
    import json

    return json.loads(data)
