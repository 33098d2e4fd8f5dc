"""Golden sets and shots: ``golden set create|readers``, ``golden add|list|show|approve|verify|retire|power``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, Reason, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, progress, say

if TYPE_CHECKING:
    from changeover_validators.golden.shots import AddedShot, NewInput

__all__ = ["app"]

app = typer.Typer(help="Golden sets and shots: the studio's own plates with approved mattes.", no_args_is_help=True)
sets = typer.Typer(help="Golden sets.", no_args_is_help=True)
app.add_typer(sets, name="set")

SetName = Annotated[str, typer.Argument(metavar="SET", help="The set.")]


def _one_image(path: Path | None) -> Path | None:
    """What ``--region`` names.

    Raises:
        InvalidInputError: It is no file; a sequence would need a region for each frame.
    """
    if path is None or path.is_file():
        return path
    raise InvalidInputError(
        "region",
        where="--region",
        expected="one image, no pattern: it holds for all frames",
        actual=f"{path}, which is no file",
        remedy="name one file",
    )


Region = Annotated[
    Path | None,
    typer.Option(help="One image, no pattern, outside which nothing is scored on any frame.", callback=_one_image),
]
Ocio = Annotated[str | None, typer.Option(help="The colour configuration that has the colour: ocio://NAME or a file.")]
MatteObject = Annotated[
    str | None, typer.Option("--object", help="The object of a Cryptomatte, by name or as 0x1a2b3c4d.")
]
Given = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="PORT=PATTERN:CH[,CH]", help="A further image of the interface; repeatable."),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Take a sequence with gaps; the shot says which frames it lacks.")
]
ApprovedBy = Annotated[
    str | None, typer.Option(help="The person who approves it here and now; else it waits for golden approve.")
]


@sets.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The set's name.")],
    show: Annotated[str | None, typer.Option(help="The show that owns the set; without one, everybody's.")] = None,
    reader: Annotated[
        list[str] | None, typer.Option(help="Another show that may use it, or site for stable and beta; repeatable.")
    ] = None,
) -> None:
    """Make an empty set."""
    from changeover_updater.cli._show_golden import users
    from changeover_validators.golden.sets import create_set

    call = invocation(context)
    made = create_set(
        call.site().golden, name, owner_show=show, readers=tuple(reader or ()), by=call.settings.who, now=call.now
    )
    say(f"{mark('ok')} golden set {escape(name)}: {users(made)}")
    say(f"  add shots with: changeover golden add {escape(name)} SHOT --plate ... --matte ...")


@sets.command("readers")
def readers(
    context: typer.Context,
    set_name: SetName,
    add: Annotated[list[str] | None, typer.Option(help="A show, or site for stable and beta; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="One that may use it no longer; repeatable.")] = None,
) -> None:
    """Say who may use a set beside the show that owns it."""
    from changeover_updater.cli._show_golden import users
    from changeover_validators.golden.sets import change_readers, read_set

    call = invocation(context)
    golden, who = call.site().golden, call.settings.who
    if add or remove:
        found = change_readers(golden, set_name, add=add or (), remove=remove or (), by=who, now=call.now)
    else:
        found = read_set(golden, set_name)
    say(f"{mark('ok')} golden set {escape(set_name)}: {users(found)}")


@app.command("add")
def add(  # noqa: PLR0917 - each is an option of the command
    context: typer.Context,
    set_name: SetName,
    shot: Annotated[str, typer.Argument(help="The shot's name; one that is there already gets a new version.")],
    plate: Annotated[str, typer.Option(help="plate.####.exr, plate.%04d.exr, a folder, or one file.")],
    matte: Annotated[str, typer.Option(help="The mattes, with the plates' frame numbers.")],
    channel: Annotated[str, typer.Option(help="The matte's channel: A, R, layer.name; with --object, its layer.")],
    colour: Annotated[str, typer.Option(help="What the plates hold: scene-linear, srgb, raw, or a space of --ocio.")],
    level: Annotated[int, typer.Option(help="How hard it is, 1 to 5.")] = 3,
    pre_roll: Annotated[int, typer.Option(help="Frames at the start that are fed and not scored.")] = 0,
    region: Region = None,
    region_channel: Annotated[str | None, typer.Option(help="The region's channel; else the mattes'.")] = None,
    alias: Annotated[str | None, typer.Option(help="What reports outside the show call it.")] = None,
    ocio: Ocio = None,
    matte_object: MatteObject = None,
    second: Annotated[str | None, typer.Option(help="Another artist's mattes of these frames, or of some.")] = None,
    second_channel: Annotated[str | None, typer.Option(help="Their channel; else the mattes'.")] = None,
    given: Given = None,
    allow_missing: AllowMissing = False,
    approved_by: ApprovedBy = None,
    note: Annotated[str | None, typer.Option(help="What that person says of it.")] = None,
) -> None:
    """Copy a shot into a set, after a look at every frame; it is scored once a person has approved it."""
    from changeover_validators.golden.shots import NewShot, add_shot

    call = invocation(context)
    new = NewShot(
        set=set_name,
        shot=shot,
        plate=plate,
        matte=matte,
        matte_channel=channel,
        colour=colour,
        level=level,
        added_by=call.settings.who,
        alias=alias,
        region=region,
        region_channel=region_channel,
        pre_roll=pre_roll,
        ocio=ocio,
        matte_object=matte_object,
        second=second,
        second_channel=second_channel,
        inputs=tuple(_input(text) for text in given or ()),
        allow_missing=allow_missing,
        approved_by=approved_by,
        note=note,
    )
    with progress() as line:
        added = add_shot(
            call.site().golden, new, now=call.now, progress=lambda done, of: line.step(f"{shot}: frame {done} of {of}")
        )
    for warning in added.warnings:
        notice(f"{shot}: {warning}")
    _say_added(added)


def _input(text: str) -> "NewInput":
    """What ``--input`` says: ``trimap=trimap.####.exr:A``.

    Raises:
        InvalidInputError: It is not of that form.
    """
    from changeover_validators.golden.shots import NewInput

    port, equals, rest = text.partition("=")
    pattern, colon, channels = rest.rpartition(":")
    if not (port and equals and pattern and colon) or not all(channels.split(",")):
        raise InvalidInputError(
            "input",
            where="--input",
            expected="PORT=PATTERN:CHANNEL, such as trimap=trimap.####.exr:A",
            actual=ascii(text),
            remedy="write the port, the files and their channels so",
        )
    return NewInput(port, pattern, tuple(channels.split(",")))


def _say_added(added: "AddedShot") -> None:
    one, its_set = added.shot, escape(added.shot.set)
    say(
        f"{mark('ok')} {its_set}/{one.shot} version {one.version}: {len(one.frames)} frames, "
        f"{one.width}x{one.height}, {escape(one.colour)}, alias {one.alias}"
    )
    approval = next((r.approval for r in added.set.shots if (r.shot, r.version) == (one.shot, one.version)), None)
    if approval is not None:
        say(f"  approved by {escape(approval.name)}; {len(added.set.shots)} shots of the set are scored")
        return
    before = next((ref.version for ref in added.set.shots if ref.shot == one.shot), None)
    until = f"; until then version {before} is scored" if before else ""
    say(f"  {mark('open')} it waits for approval{until}")
    say(f'  look at the mattes, then: changeover golden approve {its_set} {one.shot} --name "Jane Doe"')


@app.command("approve")
def approve(
    context: typer.Context,
    set_name: SetName,
    name: Annotated[str, typer.Option(help='The person who approves, such as "Jane Doe".')],
    shots: Annotated[list[str] | None, typer.Argument(metavar="SHOT...", help="The shots; else all that wait.")] = None,
    note: Annotated[str | None, typer.Option(help="What that person says of them.")] = None,
) -> None:
    """Approve shots that wait: every file is hashed once more, and from now on they are scored."""
    from changeover_validators.golden.approvals import approval_of
    from changeover_validators.golden.approvals import approve as approve_shots
    from changeover_validators.golden.sets import read_shot

    call = invocation(context)
    approval = approval_of(name, note, by=call.settings.who, now=call.now)
    with progress() as line:
        done = approve_shots(
            call.site().golden,
            set_name,
            approval,
            tuple(shots or ()),
            watch=lambda shot, frame: line.step(f"{shot}: {_file_of(frame)}"),
        )
    if not done.refs:
        say(f"{mark('ok')} nothing of {escape(set_name)} waits for approval")
        return
    for ref in done.refs:
        say(f"{mark('ok')} {escape(set_name)}/{ref.shot} version {ref.version} approved by {escape(approval.name)}")
        for kept in read_shot(call.site().golden, set_name, ref).notes or ():
            notice(f"{ref.shot}: {kept}")
    say(f"  {len(done.set.shots)} shots of the set are scored, {len(done.set.pending or ())} wait")


@app.command("retire")
def retire(
    context: typer.Context,
    set_name: SetName,
    reason: Reason,
    shot: Annotated[str | None, typer.Argument(metavar="SHOT", help="A shot; else the whole set, for ever.")] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only the version that waits for approval: it was turned down.")
    ] = False,
) -> None:
    """Take a shot or a set out of use; its files stay, and old verdicts still name them."""
    from changeover_validators.golden.approvals import retire_set, retire_shot

    call = invocation(context)
    golden, who = call.site().golden, call.settings.who
    if shot is None:
        if waiting:
            raise InvalidInputError(
                "usage", where="--waiting", expected="a shot beside it", actual="none", remedy="name the shot"
            )
        retire_set(golden, set_name, reason=reason, by=who, now=call.now)
        say(f"{mark('ok')} golden set {escape(set_name)} is retired; no check runs on it any more")
        return
    left = retire_shot(golden, set_name, shot, reason=reason, by=who, now=call.now, pending_only=waiting)
    what = "the waiting version of " if waiting else ""
    say(f"{mark('ok')} {what}{escape(set_name)}/{escape(shot)} is retired; {len(left.shots)} shots are scored")


@app.command("list")
def list_them(
    context: typer.Context,
    set_name: Annotated[str | None, typer.Argument(metavar="SET", help="One set's shots; else all sets.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the sets, or the shots of one."""
    from changeover_updater.cli import _show_golden

    golden = invocation(context).site().golden
    answer, show = _show_golden.sets(golden) if set_name is None else _show_golden.shots(golden, set_name)
    emit(answer, as_json=as_json, show=show)


@app.command("show")
def show_one(
    context: typer.Context,
    set_name: SetName,
    shot: Annotated[str | None, typer.Argument(metavar="SHOT", help="One shot; else the set and its history.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a set with who approved what and what it was before, or all that is known of one shot."""
    from changeover_updater.cli import _show_golden

    golden = invocation(context).site().golden
    answer, show = (
        _show_golden.one_set(golden, set_name) if shot is None else _show_golden.one_shot(golden, set_name, shot)
    )
    emit(answer, as_json=as_json, show=show)


@app.command("verify")
def verify(
    context: typer.Context,
    set_name: SetName,
    everything: Annotated[
        bool, typer.Option("--all", help="Also retired shots and earlier versions, which old verdicts name.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Hash every file again and name each that is damaged: a truth that changed is not the one that was approved."""
    from changeover_updater.cli import _show_golden
    from changeover_validators.golden.history import all_refs, current_refs
    from changeover_validators.golden.kept import check_undamaged, verify_shots
    from changeover_validators.golden.sets import read_set

    golden = invocation(context).site().golden
    golden_set = read_set(golden, set_name)
    refs = all_refs(golden, golden_set) if everything else current_refs(golden_set)
    with progress() as line:
        verified = verify_shots(golden, set_name, refs, lambda shot, frame: line.step(f"{shot}: {_file_of(frame)}"))
    answer, show = _show_golden.damage(set_name, verified)
    emit(answer, as_json=as_json, show=show)
    check_undamaged(set_name, verified.damage, listed=True)


def _file_of(frame: int | None) -> str:
    return "region and colour" if frame is None else f"frame {frame}"


@app.command("power")
def power(context: typer.Context, set_name: SetName, as_json: JsonFlag = False) -> None:
    """Say what the set can tell: the chance that an equal release is accepted, and how many shots would do."""
    from changeover_updater.cli import _show_golden
    from changeover_updater.studio import read_studio, read_verdicts
    from changeover_validators.golden.history import scored_shots
    from changeover_validators.golden.sets import read_set
    from changeover_validators.golden.spread import forecasts

    call = invocation(context)
    site = call.site()
    golden_set = read_set(site.golden, set_name)
    studio = read_studio(site, call.station())
    verdicts = tuple(filed.verdict for filed in read_verdicts(site, studio))
    policy = studio.policy.golden
    used = {one.golden_set.version for one in verdicts if one.golden_set and one.golden_set.name == set_name}
    sizes = scored_shots(site.golden, set_name, used)
    found = forecasts(len(golden_set.shots), policy, set_name, verdicts, sizes)
    answer, show = _show_golden.power(golden_set, policy, found)
    emit(answer, as_json=as_json, show=show)
