"""Carrying releases to a network without internet: export and import."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_updater.cli._context import Invocation, JsonFlag, invocation, said
from changeover_updater.cli._output import emit, escape, mark, notice, progress, rows, say

if TYPE_CHECKING:
    from changeover_updater.bundle import BundleSummary
    from changeover_updater.bundle_import import Carried, Imported
    from changeover_updater.bundle_receive import Quarantined
    from changeover_updater.store import Store

__all__ = ["add_to", "show_imports"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    context: typer.Context,
    what: Annotated[
        list[str],
        typer.Argument(metavar="[MODEL@VERSION]... BUNDLE", help="The releases, and last the file to write."),
    ],
    choice: Annotated[
        bool,
        typer.Option(
            "--choice",
            help="Also the studio's choice, verdicts and policy, for a second site; without releases: those it names.",
        ),
    ] = False,
    vendor_repository: Annotated[
        Path | None,
        typer.Option("--vendor-repository", "--from", help="A vendor's own repository folder; no site is needed."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write releases into one file, with all that it takes to verify them elsewhere without a network."""
    call = invocation(context)
    *releases, name = what
    target = Path(name)
    _check_target(target, releases, choice=choice)
    if vendor_repository is not None:
        done = _export_own(call, vendor_repository, releases, target, choice=choice)
    else:
        done = _export_site(call, releases, target, choice=choice)
    _show_exported(done, as_json=as_json)


def import_(  # noqa: PLR0917 - each is one of the ways in which a bundle is handled
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="The bundle's file.")] = None,
    receive: Annotated[
        bool, typer.Option("--receive", help="Verify it and keep it in quarantine, until it is released.")
    ] = False,
    release: Annotated[
        str | None, typer.Option(metavar="ID", help="Bring in a received bundle, after the studio's clearance.")
    ] = None,
    discard: Annotated[
        str | None, typer.Option(metavar="ID", help="Take a received bundle away without using it.")
    ] = None,
    received: Annotated[bool, typer.Option("--received", help="Show what is in quarantine.")] = False,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="From an older bundle or archive: only files that the newest metadata here names."
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why; it is recorded for ever.", callback=lambda text: text and said(text))
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a bundle in, verified without a network; or receive, release and discard one."""
    from changeover_updater import bundle_receive
    from changeover_updater.bundle_import import Terms, import_bundle

    call = invocation(context)
    _check_usage(bundle, release, discard, receive=receive, received=received, files=files)
    site = call.site()
    if received:
        _show_received(bundle_receive.received(site), as_json=as_json)
        for error in bundle_receive.unreadable(site):
            notice(str(error))
    elif discard is not None:
        gone = bundle_receive.discard(site, discard, _carried(call, reason or "discarded"))
        say(f"{mark('ok')} {gone} is taken away; nothing of it was used")
    elif release is not None:
        with progress() as line:
            done = bundle_receive.release(site, release, _carried(call, reason or "cleared"), line.bytes)
        _show_imported(call, done, as_json=as_json)
    elif receive and bundle is not None:
        with progress() as line:
            kept, new = bundle_receive.receive(site, bundle, _carried(call, reason or "received"), line.bytes)
        _show_kept(kept, new=new, as_json=as_json)
    elif bundle is not None:
        with progress() as line:
            terms = Terms(files_only=files)
            done = import_bundle(site, bundle, _carried(call, reason or f"carried as {bundle.name}"), terms, line.bytes)
        _show_imported(call, done, as_json=as_json)


def show_imports(call: Invocation, *, verify: bool, as_json: bool) -> None:
    """What was carried into the site, by whom: ``log --imports``.

    Raises:
        TrustError: An entry was changed, or one is missing.
    """
    import json

    from changeover_registry import chain
    from changeover_updater.bundle_import import imports

    events = imports(call.site())
    if verify:
        chain.verify(events, None)
    lines = [
        (str(event.sequence), event.when, escape(event.who), event.phase, escape(event.detail), escape(event.why))
        for event in events
    ]
    emit(
        [json.loads(event.to_bytes()) for event in events],
        as_json=as_json,
        show=lambda: rows("imports", ("seq", "when", "who", "phase", "what", "why"), lines),
    )


def _check_target(target: Path, releases: list[str], *, choice: bool) -> None:
    if "@" in target.name and not releases:
        raise InvalidInputError(
            "usage",
            where="export",
            expected="MODEL@VERSION... and last the file to write",
            actual=target.name,
            remedy="name the bundle's file after the releases",
        )
    if not releases and not choice:
        raise InvalidInputError(
            "usage", where="export", expected="MODEL@VERSION", actual="none", remedy="name a release, or give --choice"
        )
    if target.exists():
        raise InvalidInputError(
            "bundle",
            where=str(target),
            expected="the name of a new file",
            actual="one that is there",
            remedy="name another file, or remove this one",
        )


def _export_own(call: Invocation, folder: Path, releases: list[str], target: Path, *, choice: bool) -> "BundleSummary":
    from changeover_updater.bundle import find_releases, own_indexes, write_vendor_bundle

    if choice:
        raise InvalidInputError(
            "usage",
            where="--choice",
            expected="a studio's site",
            actual="a vendor's repository, which has no choice",
            remedy="leave out --choice or --vendor-repository",
        )
    refs = find_releases(own_indexes(folder), releases)
    with progress() as line:
        return write_vendor_bundle(target, folder, refs, call.now, call.settings.who, line.bytes)


def _export_site(call: Invocation, releases: list[str], target: Path, *, choice: bool) -> "BundleSummary":
    from changeover_updater.bundle import chosen_releases, find_releases, site_indexes, write_bundle

    site = call.site()
    refs = find_releases(site_indexes(site), releases) if releases else chosen_releases(site)
    with progress() as line:
        return write_bundle(
            target,
            site=site,
            store=_store(call),
            releases=refs,
            choice=choice,
            now=call.now,
            who=call.settings.who,
            progress=line.bytes,
        )


def _store(call: Invocation) -> "Store | None":
    """The store, where this machine has one."""
    return call.store() if call.settings.store is not None and call.settings.store.is_dir() else None


def _show_exported(done: "BundleSummary", *, as_json: bool) -> None:
    manifest = done.manifest
    answer = {
        "bundle": str(done.path),
        "digest": done.digest,
        "size": done.size_bytes,
        "releases": [str(ref) for ref in manifest.releases],
        "choice": manifest.choice,
        "fresh_until": format_time(done.fresh_until),
    }

    def show() -> None:
        say(f"{mark('ok')} {escape(str(done.path))}, {done.size_bytes / 1e6:.1f} MB, bundle {done.digest[:12]}")
        for ref in manifest.releases:
            say(f"  {ref}")
        if manifest.choice:
            say("  with the studio's choice, its verdicts and its policy")
        say(f"  it can be imported until {format_time(done.fresh_until)}; there: changeover import {done.path.name}")

    emit(answer, as_json=as_json, show=show)
    if done.fresh_until <= _moment(manifest.made_at):
        notice(f"it has expired already ({format_time(done.fresh_until)}): only import --files takes files out of it")


def _moment(text: str) -> datetime:
    from changeover_registry.clock import parse_time

    return parse_time(text)


def _carried(call: Invocation, why: str) -> "Carried":
    from changeover_updater.bundle_import import Carried

    return Carried(who=call.settings.who, now=call.now, why=why)


def _check_usage(bundle: Path | None, release: str | None, discard: str | None, **flags: bool) -> None:
    """Exactly one of: a bundle (perhaps with --receive or --files), --release, --discard, --received."""
    asked = [bundle is not None, release is not None, discard is not None, flags["received"]]
    apart = (flags["receive"] or flags["files"]) and bundle is None
    if sum(asked) != 1 or apart or (flags["receive"] and flags["files"]):
        raise InvalidInputError(
            "usage",
            where="import",
            expected="BUNDLE, BUNDLE --receive, BUNDLE --files, --release ID, --discard ID or --received",
            actual="something else",
            remedy="give one of these; see changeover import --help",
        )
    if bundle is not None and not bundle.is_file():
        actual = "a folder" if bundle.is_dir() else "no such file"
        raise InvalidInputError(
            "bundle", where=str(bundle), expected="a file", actual=actual, remedy="check the path and the drive"
        )


def _show_imported(call: Invocation, done: "Imported", *, as_json: bool) -> None:
    answer = {
        "bundle": done.bundle.digest,
        "changed": done.changed,
        "releases": [str(ref) for ref in done.releases],
        "withdrawn": {str(ref): why for ref, why in done.withdrawn},
        "choice": done.choice,
    }

    def show() -> None:
        if not done.changed:
            say(f"{mark('skip')} everything in it is here already; nothing changed")
            return
        for ref in done.releases:
            say(f"{mark('ok')} {ref}")
        if done.choice == "followed":
            say(f"{mark('ok')} this site follows the choice in it")
        say("  next: changeover update" if done.choice == "followed" else "  next: changeover check, then promote")

    emit(answer, as_json=as_json, show=show)
    for ref, why in done.withdrawn:
        notice(f"{ref} was withdrawn by its vendor: {why}")
    if done.choice == "left":
        notice("the choice in it was left: this site makes its own")
    _tell(call, done)


def _tell(call: Invocation, done: "Imported") -> None:
    """Have MLflow know what came, as after a sync."""
    from changeover_registry.records.release import Release
    from changeover_updater.records import know_releases

    if not done.changed or done.choice == "followed":
        return
    site = call.site()
    paths = [site.vendor_of(ref.model).record_path(ref.digest) for ref in done.releases]
    try:
        know_releases(site, tuple(Release.from_bytes(path.read_bytes(), where=str(path)) for path in paths), notice)
    except (ChangeoverError, ModuleNotFoundError) as error:
        notice(f"MLflow was not told: {error}")


def _show_kept(kept: "Quarantined", *, new: bool, as_json: bool) -> None:
    until = format_time(kept.until())

    def show() -> None:
        if not new:
            say(f"{mark('skip')} {kept.id} is in quarantine already, since {kept.record.arrived_at}")
            return
        say(f"{mark('ok')} verified and in quarantine as {kept.id}; no station uses it")
        say(f"  after your clearance, until {until}: changeover import --release {kept.id}")

    emit({"id": kept.id, "new": new, "until": until}, as_json=as_json, show=show)


def _show_received(there: "tuple[Quarantined, ...]", *, as_json: bool) -> None:
    lines = [
        (
            entry.id,
            entry.record.arrived_at,
            escape(entry.record.arrived_by),
            format_time(entry.until()),
            ", ".join(map(str, entry.record.releases)),
        )
        for entry in there
    ]
    emit(
        [
            entry.record.model_dump(mode="json") | {"id": entry.id, "until": format_time(entry.until())}
            for entry in there
        ],
        as_json=as_json,
        show=lambda: rows("received", ("id", "arrived", "by", "release until", "releases"), lines),
    )
