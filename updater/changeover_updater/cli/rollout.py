"""The command ``rollout``: releases on their way into a channel, how it goes with them, and steering them."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, Reason, invocation
from changeover_updater.cli._output import emit, escape, rows
from changeover_updater.cli._show import show_written

if TYPE_CHECKING:
    from changeover_updater.signed import Part

__all__ = ["app", "part_of"]

app = typer.Typer(help="Releases on their way into a channel: who has them, and steering them.", no_args_is_help=True)

_NEXT = "stations change over with: changeover update"
_PERCENT = re.compile(r"(100|[0-9]{1,2}) ?%?")
_CLASS = re.compile(r"[0-9a-f]{4,64}")
Model = Annotated[str, typer.Argument(help="The model.")]
Channel = Annotated[str | None, typer.Option(help="stable, beta or show/NAME; else the policy's channel.")]


def part_of(share: str | None, cohort: tuple[str, ...]) -> "Part | None":
    """The part of the stations that ``--share`` and ``--cohort`` name; None where neither is given.

    Raises:
        InvalidInputError: A share is no percentage, or a class no beginning of a digest.
    """
    from changeover_updater.signed import Part

    if share is None and not cohort:
        return None
    classes = tuple(text.removeprefix("class:") for text in cohort if text.startswith("class:"))
    # An empty text is a variable that nobody set, and must not mean everybody.
    percent = "100" if share is None else share
    if not _PERCENT.fullmatch(percent):
        raise _usage("--share", "a whole percentage, 0% to 100%", share, "write for example: --share 10%")
    for text in classes:
        if not _CLASS.fullmatch(text):
            expected = "class: and 4 to 64 hexadecimal digits"
            raise _usage("--cohort", expected, text, "see the classes with: changeover fleet")
    names = tuple(text for text in cohort if not text.startswith("class:"))
    return Part(int(percent.rstrip(" %")), names, classes)


def _usage(where: str, expected: str, actual: str | None, remedy: str) -> InvalidInputError:
    return InvalidInputError("usage", where=where, expected=expected, actual=repr(actual), remedy=remedy)


@app.command("list")
def rollout_list(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show every release on its way, its state, and how the stations that tried it fared (as they report)."""
    from changeover_updater.rollout import health_of
    from changeover_updater.stations import read_statuses
    from changeover_updater.studio import read_choices

    call = invocation(context)
    site = call.site()
    shares = [share for choice in read_choices(site, call.station()) for share in choice.shares]
    statuses = read_statuses(site, now=call.now) if shares else ()
    fared = [health_of(statuses, str(share.release), share.resumed) for share in shares]
    answer = [
        {**share.model_dump(mode="json", exclude_none=True), "tried": health.tried, "failed": health.failed}
        for share, health in zip(shares, fared, strict=True)
    ]
    lines = [
        (
            share.channel,
            escape(str(share.release)),
            f"{share.percent} %",
            escape(" ".join((*share.names, *(f"class:{found[:12]}" for found in share.classes))) or "all"),
            share.state,
            str(health.tried),
            str(health.failed),
        )
        for share, health in zip(shares, fared, strict=True)
    ]
    columns = ("channel", "release", "share", "of", "state", "tried", "failed")
    empty = "none; begin one with: changeover promote MODEL@VERSION --share 10%"
    emit(answer, as_json=as_json, show=lambda: rows("rollouts", columns, lines, empty=empty))


@app.command("pause")
def rollout_pause(context: typer.Context, model: Model, reason: Reason, channel: Channel = None) -> None:
    """Let no further station have the release; those that have it keep it."""
    from changeover_updater import signed

    show_written(signed.steer(invocation(context), model, channel, "paused", reason))


@app.command("resume")
def rollout_resume(context: typer.Context, model: Model, reason: Reason, channel: Channel = None) -> None:
    """Go on, whatever stations reported of their failures up to now."""
    from changeover_updater import signed

    show_written(signed.steer(invocation(context), model, channel, "running", reason), _NEXT)


@app.command("stop")
def rollout_stop(context: typer.Context, model: Model, reason: Reason, channel: Channel = None) -> None:
    """End it: every station gets the channel's own release again."""
    from changeover_updater import signed

    show_written(signed.steer(invocation(context), model, channel, "stopped", reason), _NEXT)
