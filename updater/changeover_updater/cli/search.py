"""The command ``search``: releases by words, licence, and what they fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, invocation, read_facts
from changeover_updater.cli._options import PlateOption
from changeover_updater.cli._output import count, emit, escape, notice, progress, rows

if TYPE_CHECKING:
    from changeover_registry.records.policy import Policy
    from changeover_updater.search import Result
    from changeover_updater.search_query import Asked

__all__ = ["search"]


def search(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that name, summary, changes or a channel must have.")
    ] = None,
    fits: Annotated[
        list[str] | None,
        typer.Option(help="Such as 'gpu=RTX A4000,vram<=8GiB,nuke=15.1'; also size<=, loader=, runtime=, precision=."),
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="A licence of weights to accept; may be given again.")
    ] = None,
    host: Annotated[
        Path | None, typer.Option(help="Facts of a host: a file or a shipped name; instead of gpu=.")
    ] = None,
    plate: PlateOption = None,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Also what its vendor took back.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find releases that the studio knows: what runs on a card and in a Nuke, within a memory, under a licence."""
    from changeover_updater import search as searching
    from changeover_updater.needed import Needed
    from changeover_updater.studio import read_studio

    call = invocation(context)
    site, station = call.site(), call.station()
    with progress() as line:
        line.step("reading the vendors' indexes")
        studio = read_studio(site, station, Needed.chosen(()))
        asked = _asked(studio.policy, fits or [], licence or [], host, plate)
        found = searching.search(
            site,
            studio,
            tuple(words or ()),
            asked,
            with_withdrawn=withdrawn,
            step=lambda what, done: line.step(f"adding to the index: {done} {what}"),
        )
    for vendor in studio.vendors:
        if vendor.error is not None:
            notice(f"nothing of {vendor.entry.vendor} is searched: {vendor.error}")
    emit([searching.found_object(one) for one in found], as_json=as_json, show=lambda: _show(found))


def _asked(policy: "Policy", fits: list[str], licences: list[str], host: Path | None, plate: str | None) -> "Asked":
    from changeover_updater.fits import plate_of
    from changeover_updater.search import host_of_terms, nuke_of_terms, with_nuke
    from changeover_updater.search_query import Asked
    from changeover_updater.search_terms import parse_terms

    terms = parse_terms(fits)
    if host is not None and terms.gpu is not None:
        raise InvalidInputError(
            "usage", where="search", expected="one host", actual="--host and gpu=", remedy="leave one out"
        )
    facts = host_of_terms(terms) if host is None else with_nuke(read_facts(host), terms)
    if plate is not None:
        policy = policy.model_copy(update={"vram": policy.vram.model_copy(update={"plate": plate_of(plate)})})
    return Asked(terms, policy, facts, nuke_of_terms(terms), tuple(licences))


def _show(found: "tuple[Result, ...]") -> None:
    fitting = [one for one in found if one.found.fit == "fits"]
    lines = [_line(one) for one in found]
    # Without a word on fitting nobody asked for memory.
    shown = [0, 1, 2, *([3] if any(line[3] for line in lines) else []), 4, 5]
    columns = ("release", "state", "variant", "memory", "weights", "summary")
    rows("", [columns[at] for at in shown], [[line[at] for at in shown] for line in lines], empty="no release answers")
    if len(fitting) < len(found):
        unknown = len(found) - len(fitting)
        notice(f"of {count(unknown, 'release')} nobody knows whether it fits: changeover check, or changeover fits")


def _line(one: "Result") -> tuple[str, ...]:
    found, row = one.found, one.found.row
    state = ", ".join((*one.channels, *(["adopted"] if row.adopted else []), *(["withdrawn"] if one.withdrawn else [])))
    memory = f"{-(-found.memory // (1 << 20))} MiB, {found.said_by}" if found.memory is not None else ""
    if found.fit == "unknown":
        memory = f"[yellow]?[/] {escape(found.why)}"
    point = found.variant
    if found.memory is not None and found.tile is not None:
        point += f" {found.tile[0]}+{found.tile[1]}" if found.tile[0] else " whole frame"
    release = f"{row.model}@{row.version}"
    return (escape(release), escape(state), escape(point), memory, escape(row.weights), escape(row.summary))
