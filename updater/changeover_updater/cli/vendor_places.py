"""The vendor's places: `vendor places` says how each stands, `vendor carry` fills them."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import count, emit, escape, mark, notice, progress, say

if TYPE_CHECKING:
    from datetime import datetime

    from changeover_registry.errors import ChangeoverError
    from changeover_registry.transport.s3_probe import Capability
    from changeover_updater.places import PlaceState
    from changeover_updater.vendor_home import VendorHome

__all__ = ["add_to"]

HomeFlag = Annotated[
    Path | None, typer.Option("--home", help="The vendor's home; else CHANGEOVER_VENDOR_HOME or the current folder.")
]
Places = Annotated[list[str] | None, typer.Argument(metavar="[PLACE]...", help="As vendor.toml writes them; else all.")]
_WARN_DAYS = 7


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(carry)
    app.command("places")(places)


def carry(
    context: typer.Context,
    only: Places = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Read every file there, and put back what is missing or damaged.")
    ] = False,
    home: HomeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Carry the signed repository to the places that vendor.toml names; the timestamp moves last."""
    from changeover_updater.cli._places import answer_of, raise_failed, show_carried
    from changeover_updater.places import carry_all

    invocation(context)
    found = _home(home)
    with progress() as line:
        went = carry_all(found, only=only or (), whole=whole, step=line.step)

    def show() -> None:
        show_carried(went)
        if not went:
            say(_none(found))

    emit({"places": answer_of(went)}, as_json=as_json, show=show)
    raise_failed(went)


def places(
    context: typer.Context,
    only: Places = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file that each place serves.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Write and read under a name of its own what a store can do.")
    ] = False,
    home: HomeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how each place stands to this home, and until when studios trust what it serves."""
    from changeover_updater.cli._places import raise_errors
    from changeover_updater.places import look_all

    now, found = invocation(context).now, _home(home)
    with progress() as line:
        states = look_all(found, only=only or (), read=verify, step=line.step)
        probed = {state.location: _probe(found, state.location) for state in states if probe}

    def show() -> None:
        for state in states:
            _show(state, now, f" --home {shlex.quote(str(home))}" if home else "")
            for capability in probed.get(state.location, ()):
                say(f"    {capability.name}: {escape(capability.found)}")
        if not states:
            say(_none(found))

    answer = [_answer(state, now, probed.get(state.location)) for state in states]
    emit({"places": answer}, as_json=as_json, show=show)
    raise_errors([error for state in states if (error := _error(state)) is not None])


def _show(state: "PlaceState", now: "datetime", home: str) -> None:
    days, where = state.days_left(now), escape(state.location)
    if state.looked is None:
        say(f"{mark('no')} {where}: not known")
        return
    if days is None:
        say(f"{mark('open')} {where}: empty; fill it with: changeover vendor carry{escape(home)}")
        return
    sign = "no" if days < 0 else "open" if days < _WARN_DAYS or state.looked.standing == "behind" else "ok"
    until = f"trusted for {count(days, 'day')} more" if days >= 0 else "expired: studios refuse it"
    say(f"{mark(sign)} {where}: {state.looked.standing}, {until}")
    if state.looked.standing == "behind":
        say(f"    bring it up to date with: changeover vendor carry{escape(home)}")
    elif days < _WARN_DAYS:
        key = {"timestamp": "online", "snapshot": "online", "root": "root", "targets": "targets"}
        held = key.get(state.looked.ends or "", "release")
        say(f"    {state.looked.ends} ends then: run changeover vendor renew where the {held} key is")
    for line in state.wrong or ():
        say(f"    {mark('no')} {escape(line)}")
    if state.wrong == ():
        say("    every file that it serves was read and is right")


def _answer(state: "PlaceState", now: "datetime", probed: "tuple[Capability, ...] | None") -> dict[str, object]:
    from changeover_registry.clock import format_time

    expires = state.looked.expires if state.looked else None
    return {
        "place": state.location,
        "standing": state.looked.standing if state.looked else None,
        "expires": format_time(expires) if expires else None,
        "days_left": state.days_left(now),
        "ends": state.looked.ends if state.looked else None,
        "error": str(state.error) if state.error else None,
        "wrong": None if state.wrong is None else list(state.wrong),
        "probe": None if probed is None else {capability.name: capability.found for capability in probed},
    }


def _error(state: "PlaceState") -> "ChangeoverError | None":
    """What ends the command: a place out of reach or not ours, or one whose files are damaged."""
    from changeover_registry.errors import TrustError

    if state.error is not None or not state.wrong:
        return state.error
    return TrustError(
        "place",
        where=state.location,
        expected="every file as it was signed",
        actual=f"{count(len(state.wrong), 'file')} missing or damaged",
        remedy="put them back with: changeover vendor carry --whole",
    )


def _probe(home: "VendorHome", location: str) -> "tuple[Capability, ...]":
    from changeover_registry.errors import ChangeoverError
    from changeover_updater.places import place_at

    if not location.startswith("s3://"):
        return ()
    from changeover_registry.transport.s3_probe import probe

    try:
        return probe(place_at(home, location).location)
    except ChangeoverError as error:
        notice(str(error))
        return ()


def _none(home: "VendorHome") -> str:
    line = 'publish = ["s3://bucket/acme"]'
    return f"no place is named yet; add {escape(line)} to {escape(str(home.folder / 'vendor.toml'))}"


def _home(flag: Path | None) -> "VendorHome":
    from changeover_updater.vendor_home import find_home, open_home

    return open_home(find_home(flag, os.environ, Path.cwd()))
