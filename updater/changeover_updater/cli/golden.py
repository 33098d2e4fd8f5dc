"""Golden sets and shots: ``golden set create``, ``golden add``, ``golden list``, ``golden verify``."""

from pathlib import Path
from typing import Annotated

import typer

from changeover_registry.names import check_name
from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, progress, rows, say

__all__ = ["app"]

app = typer.Typer(help="Golden sets and shots: the studio's own plates with approved mattes.", no_args_is_help=True)
sets = typer.Typer(help="Golden sets.", no_args_is_help=True)
app.add_typer(sets, name="set")


@sets.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The set's name.")],
    show: Annotated[str | None, typer.Option(help="The show that owns the set.")] = None,
    reader: Annotated[list[str] | None, typer.Option(help="A show that may use it too; repeatable.")] = None,
) -> None:
    """Make an empty set."""
    from changeover_validators.golden.shots import create_set

    for one in (*(() if show is None else (show,)), *(reader or ())):
        check_name(one, where="show")
    create_set(invocation(context).site().golden, name, owner_show=show, readers=tuple(reader or ()))
    say(f"{mark('ok')} golden set {escape(name)}")
    say(f"  add shots with: changeover golden add {escape(name)} SHOT --plate ... --matte ...")


@app.command("add")
def add(  # noqa: PLR0917 - each is an option of the command
    context: typer.Context,
    set_name: Annotated[str, typer.Argument(metavar="SET", help="The set.")],
    shot: Annotated[str, typer.Argument(help="The shot's name; one that is there already gets a new version.")],
    plate: Annotated[str, typer.Option(help="plate.####.exr, plate.%04d.exr, a folder, or one file.")],
    matte: Annotated[str, typer.Option(help="The approved mattes, with the plates' frame numbers.")],
    channel: Annotated[str, typer.Option(help="The matte's channel: A, R, layer.name.")],
    colour: Annotated[str, typer.Option(help="What the plates hold: scene-linear, srgb or raw.")],
    level: Annotated[int, typer.Option(help="How hard it is, 1 to 5.")] = 3,
    pre_roll: Annotated[int, typer.Option(help="Frames at the start that are fed and not scored.")] = 0,
    region: Annotated[
        Path | None, typer.Option(help="An image outside which nothing is scored.", exists=True, dir_okay=False)
    ] = None,
    region_channel: Annotated[str | None, typer.Option(help="The region's channel.")] = None,
    alias: Annotated[str | None, typer.Option(help="What reports outside the show call it.")] = None,
) -> None:
    """Copy a shot into a set, after a look at every frame."""
    from changeover_validators.golden.shots import NewShot, add_shot

    call = invocation(context)
    new = NewShot(
        set=set_name,
        shot=shot,
        plate=plate,
        matte=matte,
        matte_channel=channel,
        colour=colour,  # type: ignore[arg-type]  # add_shot refuses another value with one clear line
        level=level,
        added_by=call.settings.who,
        alias=alias,
        region=region,
        region_channel=region_channel,
        pre_roll=pre_roll,
    )
    with progress() as line:
        added = add_shot(
            call.site().golden, new, now=call.now, progress=lambda done, of: line.step(f"{shot}: frame {done} of {of}")
        )
    for warning in added.warnings:
        notice(f"{shot}: {warning}")
    one = added.shot
    say(
        f"{mark('ok')} {escape(set_name)}/{escape(shot)} version {one.version}: {len(one.frames)} frames, "
        f"{one.width}x{one.height}, {one.colour}, alias {one.alias}; the set has {len(added.set.shots)} shots"
    )


@app.command("list")
def list_them(
    context: typer.Context,
    set_name: Annotated[str | None, typer.Argument(metavar="SET", help="One set's shots; else all sets.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the sets, or the shots of one."""
    from changeover_validators.golden.shots import list_sets, load_set

    golden = invocation(context).site().golden
    if set_name is None:
        sets_ = list_sets(golden)
        lines = [(s.name, str(s.version), str(len(s.shots)), s.owner_show or "-") for s in sets_]
        answer = [s.model_dump(mode="json", exclude_none=True) for s in sets_]
        emit(answer, as_json=as_json, show=lambda: rows("golden sets", ("set", "version", "shots", "show"), lines))
        return
    _, shots = load_set(golden, set_name)
    lines_of = [
        (s.shot, s.alias, str(s.version), str(len(s.frames)), f"{s.width}x{s.height}", str(s.level)) for s in shots
    ]
    emit(
        [s.model_dump(mode="json", exclude_none=True) for s in shots],
        as_json=as_json,
        show=lambda: rows(set_name, ("shot", "alias", "version", "frames", "size", "level"), lines_of),
    )


@app.command("verify")
def verify(
    context: typer.Context,
    set_name: Annotated[str, typer.Argument(metavar="SET", help="The set.")],
) -> None:
    """Hash every frame again: a truth that changed is not the truth that was approved."""
    from changeover_validators.golden.shots import load_set

    with progress() as line:
        _, shots = load_set(
            invocation(context).site().golden,
            set_name,
            verify=True,
            progress=lambda shot, frame: line.step(f"{shot}: frame {frame}"),
        )
    frames = sum(len(shot.frames) for shot in shots)
    say(f"{mark('ok')} {escape(set_name)}: {len(shots)} shots, {frames} frames as they were added")
