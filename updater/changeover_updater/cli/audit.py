"""The command ``audit``: compare what lies here with the signed digests, and name what differs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_updater.cli._context import Invocation, JsonFlag, invocation
from changeover_updater.cli._output import count, emit, escape, mark, progress, say

if TYPE_CHECKING:
    from changeover_updater.audit import Difference, Part, Report

__all__ = ["audit"]


def audit(
    context: typer.Context,
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="site, store, mlflow, repositories; with --home: repository, mlflow, places."),
    ] = None,
    home: Annotated[Path | None, typer.Option("--home", help="Sweep this vendor's home instead of the site.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="A file by which a stopped sweep goes on; it is removed at the end.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Hash MLflow's files, the site's, the store's and a repository's again, against what was signed.

    Without PARTS all are swept but the vendors' repositories, whose files have to be brought here for it.
    """
    from changeover_updater.audit import Journal, exit_code, sweep

    call = invocation(context)
    wanted = _vendors(home, parts) if home is not None else _studios(call, parts)
    kept = Journal.open(journal, call.now) if journal is not None else Journal()
    with progress() as line:
        reports = tuple(
            sweep(part, kept, lambda place, done: line.step(f"{done / 1e6:.1f} MB of {place}")) for part in wanted
        )
    if not any(report.trouble for report in reports):
        kept.close()
    code = exit_code(reports)
    emit(_object(reports, code), as_json=as_json, show=lambda: _show(reports))
    raise typer.Exit(code)


def _studios(call: Invocation, parts: list[str] | None) -> "tuple[Part, ...]":
    from changeover_updater.audit_parts import STUDIO, studio_parts

    site, names = call.site(), tuple(parts or STUDIO[:-1])
    return studio_parts(names, site, _root(call), call.store)


def _root(call: Invocation) -> bytes:
    """The root of the studio's choice: as this host's station was given it; without one, as the site begins."""
    site, store = call.site(), call.settings.store
    places = [site.follows / "root.json", site.choice / "metadata" / "1.root.json"]
    if store is not None:
        places.insert(0, store / "stations" / call.settings.station / "trust" / "choice" / "root.json")
    return next((place for place in places if place.is_file()), places[-1]).read_bytes()


def _vendors(home: Path, parts: list[str] | None) -> "tuple[Part, ...]":
    from changeover_updater.audit_parts import VENDOR, vendor_parts
    from changeover_updater.vendor_home import find_home, open_home

    return vendor_parts(tuple(parts or VENDOR), open_home(find_home(home, os.environ, Path.cwd())))


def _object(reports: "tuple[Report, ...]", code: int) -> dict[str, Any]:
    return {"parts": [_part(report) for report in reports], "exit_code": code}


def _part(report: "Report") -> dict[str, Any]:
    return {
        "part": report.part,
        "compared": report.compared,
        "compared_before": report.known,
        "bytes": report.bytes,
        "differences": [
            {"kind": one.kind, "place": one.place, "expected": one.expected, "actual": one.actual}
            for one in report.differences
        ],
        "more_differences": report.more,
        "trouble": str(report.trouble) if report.trouble else None,
    }


def _show(reports: "tuple[Report, ...]") -> None:
    for report in reports:
        bad = len(report.differences) + report.more
        sign = "no" if bad else "open" if report.trouble else "ok"
        before = f", and {report.known:,} before" if report.known else ""
        differs = f"; {bad:,} not as signed" if bad else ""
        what = f"{count(report.compared, 'file')} compared, {report.bytes / 1e6:.1f} MB{before}{differs}"
        say(f"{mark(sign)} {escape(report.part)}: {what}")
        for difference in report.differences:
            _tell(difference)
        if report.more:
            say(f"    and {report.more:,} more")
        if report.trouble:
            say(f"    {mark('open')} not all of it was compared: {escape(str(report.trouble))}")


def _tell(one: "Difference") -> None:
    say(f"    {one.kind}: {escape(one.place)}")
    say(f"        expected {escape(one.expected)}")
    say(f"        found    {escape(one.actual)}")
