"""The interpreters in which models run: ``runtimes add``, ``runtimes list``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, progress, say

if TYPE_CHECKING:
    from changeover_updater.environments import Environment

__all__ = ["app"]

app = typer.Typer(help="The interpreters in whose isolated child models run.", no_args_is_help=True)


@app.command("add")
def add(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(help="An exact version: torch==2.1.1, onnxruntime==1.23.2.")],
    name: Annotated[str | None, typer.Option(help="Its name in host.toml; else such as torch-2.1.1.")] = None,
    python: Annotated[Path | None, typer.Option(help="The Python to make it of; else this one.")] = None,
    index_url: Annotated[
        str | None, typer.Option(help="Where pip looks for the runtime itself, such as an index of CPU builds.")
    ] = None,
) -> None:
    """Make an environment with one runtime and this Changeover, and name it in host.toml once it is proven."""
    from changeover_updater.environments import add_runtime, parse_spec

    call = invocation(context)
    wanted = parse_spec(spec, name)
    with progress() as line:
        made = add_runtime(
            call.settings.config, wanted, python=str(python or sys.executable), index_url=index_url, step=line.step
        )
    say(f"{mark('ok')} {escape(_line(made))}")
    say(f"  {escape(str(call.settings.config))}: runtimes.{escape(made.name)} = {escape(made.interpreter)}")


@app.command("list")
def list_them(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show each runtime of host.toml as it answers now, and what is wrong with one that does not."""
    from changeover_updater.environments import list_runtimes

    settings = invocation(context).settings
    found = list_runtimes(dict(settings.runtimes), settings.config)

    def show() -> None:
        if not found:
            say("no runtimes yet; make one with: changeover runtimes add onnxruntime==VERSION")
        for one in found:
            say(f"{mark('ok' if one.trouble is None else 'no')} {escape(_line(one))}")
            say(f"  {escape(one.interpreter)}")
            if one.trouble is not None:
                say(f"  {escape(one.trouble)}")

    emit([_object(one) for one in found], as_json=as_json, show=show)


def _line(one: "Environment") -> str:
    """``torch-2.1.1: Python 3.11.2, torch 2.1.1 (cpu), changeover 0.1.0``."""
    runtimes = [f"{r.name} {r.version} ({', '.join(r.providers) or 'no provider'})" for r in one.runtimes]
    parts = [f"Python {one.python}" if one.python else "", *runtimes]
    parts += [f"changeover {one.changeover}"] if one.changeover else []
    return f"{one.name}: {', '.join(part for part in parts if part) or 'nothing works'}"


def _object(one: "Environment") -> dict[str, object]:
    body: dict[str, object] = {
        "name": one.name,
        "interpreter": one.interpreter,
        "python": one.python,
        "changeover": one.changeover,
        "runtimes": [
            {
                "name": runtime.name,
                "version": runtime.version,
                "providers": list(runtime.providers),
                **({"torch_line": runtime.version.partition("+")[0]} if runtime.name == "torch" else {}),
            }
            for runtime in one.runtimes
        ],
        "trouble": one.trouble,
    }
    return {key: value for key, value in body.items() if value is not None}
