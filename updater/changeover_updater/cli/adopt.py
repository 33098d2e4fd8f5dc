"""The command adopt: what a studio already runs becomes releases of its own, and what the shows named have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli._context import JsonFlag, Reason, invocation
from changeover_updater.cli._output import count, emit, escape, mark, notice, progress, say
from changeover_updater.cli._show import show_written

if TYPE_CHECKING:
    from changeover_updater.adopt import Done

__all__ = ["adopt"]


def adopt(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A .cat file, the folder of a Cattery package, or a whole Cattery.")],
    reason: Reason,
    show: Annotated[
        list[str] | None, typer.Option(help="A show that uses it already, and has it from now on; may be given again.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="What to call its model: VENDOR/NAME or NAME; else by the file's name.")
    ] = None,
    baseline_of: Annotated[
        str | None, typer.Option(help="A model whose releases are compared with it, in the shows named.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take what the studio already runs, .cat files without a source, as releases of its own; nobody judged them."""
    from changeover_updater.adopt import Asked, adopt_files
    from changeover_updater.own_vendor import home_of

    call = invocation(context)
    asked = Asked(path=path, shows=tuple(show or ()), name=name, baseline_of=baseline_of, reason=reason)
    with progress() as line:
        done = adopt_files(call, asked, step=line.step, notice=notice)
    for file in done.left:
        notice(f"left as it is, since no release holds it: {file}")
    homes = {home_of(call.settings.config, one.release.model.partition("/")[0]) for one in done.taken}
    emit(_answer(done), as_json=as_json, show=lambda: _show(done, sorted(homes), baseline_of))


def _answer(done: "Done") -> dict[str, object]:
    return {
        "releases": [
            {
                "release": str(one.release.ref()),
                "new": one.new,
                "source": one.release.adopted.source if one.release.adopted else None,
                "modified_at": one.release.adopted.modified_at if one.release.adopted else None,
                "unknown": list(one.release.adopted.unknown) if one.release.adopted else [],
            }
            for one in done.taken
        ],
        "shows": [
            {
                "show": one.show,
                "release": str(one.release),
                "new": one.written is not None,
                "waits": one.written.entry if one.written else None,
            }
            for one in done.chosen
        ],
        "left": [str(path) for path in done.left],
    }


def _show(done: "Done", homes: list[Path], baseline_of: str | None) -> None:
    for one in done.taken:
        verb = "adopted" if one.new else "adopted before, nothing changed"
        say(f"{mark('ok' if one.new else 'skip')} [bold]{escape(str(one.release.ref()))}[/] {verb}")
        if one.new and one.release.adopted is not None:
            say(f"    from {escape(one.release.adopted.source)}; unknown: {', '.join(one.release.adopted.unknown)}")
    for chosen in done.chosen:
        if chosen.written is None:
            say(f"{mark('skip')} show {escape(chosen.show)} has {escape(str(chosen.release))} already")
        else:
            show_written(chosen.written, "stations have it with: changeover update")
    if not done.chosen:
        say(f"  {count(len(done.taken), 'release')} known here and chosen for nobody; for a show: --show SHOW")
    if baseline_of and done.chosen:
        say(f"  releases of {escape(baseline_of)} are compared with it there: changeover check {baseline_of}@VERSION")
    if any(one.new for one in done.taken):
        say(f"  signed by the studio's own keys; keep them safe: {escape(', '.join(map(str, homes)))}")
