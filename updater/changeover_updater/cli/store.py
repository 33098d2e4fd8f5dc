"""The store's commands: gc, show list|close (its client's are in `client`), quarantine list|lift."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli import client
from changeover_updater.cli._context import JsonFlag, invocation, said
from changeover_updater.cli._output import count, emit, escape, mark, progress, rows, say

if TYPE_CHECKING:
    from changeover_updater.gc import Plan

__all__ = ["add_to"]

shows = typer.Typer(help="The shows that this studio chose releases for.", no_args_is_help=True)
quarantines = typer.Typer(help="What failed at this station and is not tried there again.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    app.command()(gc)
    client.add_to(shows)
    app.add_typer(shows, name="show")
    app.add_typer(quarantines, name="quarantine")


def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and why the rest stays.")] = False,
    purge: Annotated[
        list[str] | None, typer.Option(help="Give up the studio's last copy of MODEL@VERSION; needs --reason.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why; it is recorded for ever.", callback=lambda text: text and said(text)),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take old generations and releases that nothing needs any more out of the store."""
    from changeover_updater.collect import Collected, Request, collect, preview

    call = invocation(context)
    if purge and reason is None:
        raise InvalidInputError(
            "purge", where="--purge", expected="--reason with it", actual="none", remedy='add --reason "..."'
        )
    request = Request(call.settings.who, reason or "collected by hand", call.now, tuple(purge or ()))
    with progress() as line:
        if dry_run:
            done = Collected(preview(call.site(), call.station(), request, line.step), 0, 0)
        else:
            done = collect(call.site(), call.station(), request, line.step)
    answer = {"dry_run": dry_run, "freed": done.freed, "waiting": done.waiting, **_object(done.plan)}
    emit(answer, as_json=as_json, show=lambda: _show(done.plan, done.freed, done.waiting, dry_run=dry_run))


@shows.command("list")
def show_list(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the shows with a choice of their own, and what they were ever given."""
    from changeover_updater.shows import read_histories, shows_of
    from changeover_updater.studio import read_choices

    call = invocation(context)
    site, station = call.site(), call.station()
    found = shows_of(site, read_histories(site, station, read_choices(site, station)))
    answer = [
        {
            "show": show.name,
            "open": show.is_open,
            "releases": [str(ref) for ref in show.releases],
            "closed": show.closed.model_dump(mode="json", include={"who", "when", "why", "archive"})
            if show.closed
            else None,
        }
        for show in found
    ]
    lines = [
        (
            s.name,
            f"closed {s.closed.when} by {escape(s.closed.who)}" if s.closed else "open",
            "\n".join(map(str, s.releases)),
        )
        for s in found
    ]
    emit(answer, as_json=as_json, show=lambda: rows("shows", ("show", "state", "was given"), lines))


@shows.command("close")
def show_close(
    context: typer.Context,
    show: Annotated[str, typer.Argument(help="The show.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded for ever.", callback=said)],
    as_json: JsonFlag = False,
) -> None:
    """Write the show's archive and take its channel and pins away; gc may then take what nothing else needs."""
    from changeover_updater.shows import close_show

    call = invocation(context)
    with progress() as line:
        closed, written = close_show(call, show, reason, line.bytes)
    archive = str(Path("shows") / show / closed.archive)
    answer = {
        "show": show,
        "archive": archive,
        "size": closed.size,
        "sha256": closed.sha256,
        "releases": [str(ref) for ref in closed.releases],
        "waits_as": written.entry,
    }

    held = f"{count(len(closed.releases), 'release')}, {size_text(closed.size)}"

    def told() -> None:
        say(f"{mark('ok')} {escape(archive)} in the site: {held}")
        if written.entry:
            say(f"{mark('open')} the show is closed once it has {escape(written.missing)}:")
            say(f"  changeover approve {escape(written.entry)}")
        elif not written.reached:
            say(f"{mark('ok')} signed; the show is closed after the next promote or sync where the site's key is")
        else:
            say(f"{mark('ok')} show {escape(show)} is closed; changeover gc may take what nothing else needs")

    emit(answer, as_json=as_json, show=told)


@quarantines.command("list")
def quarantine_list(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List what failed here, on which host class, and why."""
    from changeover_updater.quarantine import listed

    found = listed(invocation(context).station())
    answer = [entry.model_dump(mode="json", exclude={"ext"}) | {"key": str(entry.release)} for entry in found]
    lines = [(str(e.release), e.host_class[:12], e.check, e.since, escape(e.why)) for e in found]
    columns = ("release", "host class", "check", "since", "why")
    emit(answer, as_json=as_json, show=lambda: rows("quarantine", columns, lines, empty="nothing is quarantined here"))


@quarantines.command("lift")
def quarantine_lift(
    context: typer.Context,
    release: Annotated[str, typer.Argument(help="MODEL@VERSION.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded for ever.", callback=said)],
    as_json: JsonFlag = False,
) -> None:
    """Let a release be tried here again; the next update does."""
    from changeover_updater.quarantine import lift

    call = invocation(context)
    lifted = lift(call.station(), release, who=call.settings.who, why=reason, now=call.now)
    key = str(lifted[0].release)
    classes = [entry.host_class for entry in lifted]
    emit(
        {"lifted": key, "host_classes": classes},
        as_json=as_json,
        show=lambda: say(f"{mark('ok')} {escape(key)} is tried again by the next changeover update"),
    )


def size_text(size: int) -> str:
    """A number of bytes for people: three digits and a unit of thousands."""
    amount, unit = float(size), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, bigger
    return f"{size} B" if unit == "B" else f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def _object(plan: "Plan") -> dict[str, Any]:
    return {
        "stations": [
            {
                "station": part.station,
                "generations": [{"number": fact.number, "size": fact.size} for fact in part.goes],
                "not_taken_over": sorted(part.drop),
            }
            for part in plan.stations
        ],
        "releases": [{"release": fact.key, "size": fact.size} for fact in plan.releases],
        "size": plan.size,
        "kept": [{"what": kept.what, "size": kept.size, "why": list(kept.why)} for kept in plan.kept],
    }


def _show(plan: "Plan", freed: int, waiting: int, *, dry_run: bool) -> None:
    goes = [
        (f"generation {fact.number} of {part.station}", size_text(fact.size))
        for part in plan.stations
        for fact in part.goes
    ]
    goes += [(fact.key, size_text(fact.size)) for fact in plan.releases]
    rows("would go" if dry_run else "gone", ("what", "size"), goes, empty="nothing")
    for part in plan.stations:
        for key in sorted(part.drop):
            next_one = "the next generation of" if dry_run else "the new generation of"
            say(f"  {next_one} {escape(part.station)} does without {escape(key)}")
    if dry_run:
        kept = [(k.what, size_text(k.size), "\n".join(map(escape, k.why))) for k in plan.kept]
        rows("stays", ("what", "size", "why"), kept, empty="nothing")
        say(f"{mark('skip')} {size_text(plan.size)} would go; nothing was changed")
        return
    say(f"{mark('ok')} {size_text(freed)} freed")
    if waiting:
        wait = "waits" if waiting == 1 else "wait"
        say(f"{mark('open')} {count(waiting, 'folder')} {wait} in the store's trash; a later gc deletes what is there")
