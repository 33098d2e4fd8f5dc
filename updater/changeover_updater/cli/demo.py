"""``changeover demo``: the whole story on real input, in one go."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._output import console, escape

if TYPE_CHECKING:
    from changeover_updater.demo.play import Ending

__all__ = ["demo"]


def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep everything in this folder for looking around.")] = None,
) -> None:
    """Play vendor, TD and artist through the real commands; exit 0 only if every step ended as it had to."""
    from changeover_updater.cli.main import run
    from changeover_updater.demo.play import play, stage_in

    out = console()
    with stage_in(keep) as stage:
        endings = play(stage, run, out.print)
        _table(endings)
        if keep is not None:
            out.print(f"\nkept in {escape(str(stage.root))}; look around with:")
            out.print(f"  changeover --config {escape(str(stage.config))} status")
    raise typer.Exit(0 if all(ending.good for ending in endings) else 1)


def _table(endings: "tuple[Ending, ...]") -> None:
    from rich.table import Table

    table = Table(title="\nwhat happened", title_justify="left", title_style="bold", header_style="dim", box=None)
    for column in ("", "who", "step", "expected", "outcome"):
        table.add_column(column, overflow="fold")
    table.add_column("s", justify="right")
    for ending in endings:
        sign = "[green]✓[/]" if ending.good else "[red]✗[/]"
        outcome = escape(ending.outcome) if ending.good else f"[red]{escape(ending.outcome)}[/]"
        step, expected, seconds = escape(ending.title), escape(ending.expected), f"{ending.seconds:.1f}"
        table.add_row(sign, ending.actor, step, expected, outcome, seconds)
    good, total = sum(ending.good for ending in endings), sum(ending.seconds for ending in endings)
    out = console()
    out.soft_wrap = False
    out.print(table)
    out.print(f"\n{good} of {len(endings)} steps ended as they had to, in {total:.0f} s")
