"""The command ``golden score``: what a farm runs for each task of ``check --tasks``."""

from pathlib import Path
from typing import Annotated

import typer

from changeover_registry.errors import MeasurementError
from changeover_updater.cli._context import invocation
from changeover_updater.cli._output import escape, mark, progress, say

__all__ = ["score"]


def score(
    context: typer.Context,
    task: Annotated[Path, typer.Argument(help="A file of DIR/tasks, as check --tasks DIR wrote it.")],
    out: Annotated[Path, typer.Option(help="The folder of results, DIR/results.")],
) -> None:
    """Score one golden shot for somebody else's check; a farm runs this, on any machine of the golden class."""
    from changeover_updater import farm
    from changeover_updater.bench import Models, Watch
    from changeover_updater.tasks import score_task
    from changeover_updater.worker import bench_of

    wanted = farm.read_task(task)
    if farm.result_of(out, wanted) is not None:
        say(f"{mark('skip')} {escape(wanted.shot)} is scored already")
        return
    with progress() as line:
        bench = bench_of(invocation(context), Watch(line.step, line.bytes))
        try:
            with Models(bench) as models:
                bundle = score_task(
                    bench,
                    wanted,
                    models,
                    lambda at: line.step(f"{wanted.shot}: frame {at.done} of {at.frames}"),
                )
        except MeasurementError as error:
            farm.write_failure(out, wanted, error)
            raise
        farm.write_result(out, wanted, bundle)
    say(f"{mark('ok')} {escape(wanted.set)}/{escape(wanted.shot)}: {len(bundle.scores.frames)} frames scored")
