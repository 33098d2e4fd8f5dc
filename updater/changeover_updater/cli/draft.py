"""The command vendor draft: a release folder out of a training run, for a person to finish."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, progress, say

if TYPE_CHECKING:
    from changeover_updater.draft import Drafted

__all__ = ["draft"]

_FINISHED = "FINISHED"


def draft(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RELEASE_DIR", help="A new or empty folder.")],
    run: Annotated[str, typer.Option("--run", help="The id of an MLflow run that logged an exported model.")],
    artifact: Annotated[
        list[str] | None, typer.Option(help="A model file of the run, by its path; may be given again. Else all.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="What to call the model; else by the run's name.")] = None,
    mlflow: Annotated[str, typer.Option(help="The MLflow that has the run; else the one of the home.")] = "",
    home: Annotated[
        Path | None,
        typer.Option("--home", help="The vendor's home; else CHANGEOVER_VENDOR_HOME or the current folder."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a release folder of what a training run left: its model files, and a release.toml that you finish."""
    from changeover_registry.mlflow_adapter.registry import Registry
    from changeover_updater.draft import draft as make_draft
    from changeover_updater.vendor_home import find_home, open_home

    invocation(context)
    place = open_home(find_home(home, os.environ, Path.cwd()))
    registry = Registry(mlflow) if mlflow else place.registry()
    with progress() as line:
        done = make_draft(
            registry, run, folder, vendor=place.vendor, model=model, artifacts=tuple(artifact or ()), step=line.step
        )
    if done.run_status != _FINISHED:
        notice(f"run {run} is {done.run_status}: it did not come to its end")
    answer = {
        "folder": str(done.folder),
        "model": done.model,
        "variants": list(done.variants),
        "taken": list(done.taken),
        "left": list(done.left),
        "run_status": done.run_status,
    }
    emit(answer, as_json=as_json, show=lambda: _show(done))


def _show(done: "Drafted") -> None:
    where = shlex.quote(str(done.folder))
    say(f"{mark('ok')} draft of [bold]{escape(done.model)}[/]: {escape(str(done.folder))}")
    say(f"    variants {', '.join(done.variants)}, from {escape(', '.join(done.taken))}")
    if done.left:
        say(f"    left in the run: {escape(', '.join(done.left[:5]))}{' ...' if len(done.left) > 5 else ''}")
    say(f"    next: fill in what is empty in {escape(where)}/release.toml, then:")
    say(f"    changeover vendor smoke {escape(where)}, then changeover vendor register {escape(where)}")
