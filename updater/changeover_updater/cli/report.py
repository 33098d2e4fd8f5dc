"""``changeover report``: make a verdict's report again, for the site or for somebody."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import escape, mark, say

__all__ = ["report"]


def report(
    context: typer.Context,
    verdict: Annotated[
        str, typer.Argument(help="A verdict's digest, or its first characters; or MODEL@VERSION; else the newest.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write the page to this file; else into the site.")] = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Leave all pictures out; needs --out.")] = False,
    show: Annotated[
        str | None, typer.Option(help="For people of this show, who may know its shots' names; needs --out or --json.")
    ] = None,
    bom: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a CycloneDX bill of materials with the results; aliases only."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the report of a verdict as one page, and print where it is."""
    from changeover_registry._fs import write_atomic
    from changeover_updater.cli._show_plan import SIGNS
    from changeover_updater.reports import filed_bom, gather, wanted_verdict, write_page, write_report
    from changeover_updater.studio import read_studio

    if out is None and (no_pictures or (show is not None and not as_json)):
        raise InvalidInputError(
            "usage",
            where="--no-pictures" if no_pictures else "--show",
            expected="--out FILE beside it",
            actual="none: the site's own report is for everybody",
            remedy="name a file with --out",
        )
    for flag, place in (("--out", out), ("--bom", bom)):
        if place is not None:
            _check_place(flag, place)
    call = invocation(context)
    site = call.site()
    studio = read_studio(site, call.station())
    filed = wanted_verdict(site, studio, verdict)
    if bom is not None:
        write_atomic(bom.absolute(), filed_bom(site, studio, filed))
    if as_json and out is None:
        from changeover_validators.golden.report.build import build_report
        from changeover_validators.golden.report.document import render_json

        document = render_json(build_report(gather(site, studio, filed, show=show)))
        sys.stdout.write(document.decode() + "\n")
        return
    if out is None:
        page = write_report(site, studio, filed)
    else:
        page = write_page(site, gather(site, studio, filed, show=show), out.absolute(), pictures=not no_pictures)
    decision = filed.verdict.decision
    say(f"{mark(SIGNS[decision])} {decision} {escape(str(filed.verdict.candidate))}")
    say(f"  {escape(str(page))}")
    if bom is not None:
        say(f"  {escape(str(bom.absolute()))}")


def _check_place(flag: str, out: Path) -> None:
    """A page takes the place of a file, by a rename: of a device or a pipe it would leave nothing but the page.

    Raises:
        InvalidInputError: Something else than a plain file is there.
    """
    if out.exists() and not out.is_file():
        raise InvalidInputError(
            "usage",
            where=flag,
            expected="a file, or a name that is free",
            actual=f"{out}, a folder, a pipe or a device",
            remedy="name a file",
        )
