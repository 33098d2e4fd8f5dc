"""The farm's commands: lock a script's releases at submission, and have a render host ready for them."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import ChangeoverError, InvalidInputError, RefusedError
from changeover_updater.cli._context import Invocation, JsonFlag, host_facts, invocation
from changeover_updater.cli._output import count, emit, mark, notice, progress, say

if TYPE_CHECKING:
    from changeover_registry.records.farm import Device, OsPaths
    from changeover_registry.records.station import Generation
    from changeover_updater.nuke_script import NukeScript
    from changeover_updater.station import Station

__all__ = ["add_to"]

_OUT = Annotated[Path, typer.Argument(metavar="OUT", help="Where the lock is written.")]
_STATION = Annotated[str | None, typer.Option("--station", help="Lock as this station answers; else this host's.")]
_PART = "Where the script belongs, if nothing here says so; with --show, nothing else is asked."


def add_to(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    app.command()(lock)
    app.command()(ensure)


def lock(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(metavar="SCRIPT.nk", help="The Nuke script, as it is submitted.")],
    out: _OUT,
    *,
    station: _STATION = None,
    nuke: Annotated[
        str | None, typer.Option(help="The Nuke line that renders, such as 15.1; else the script's.")
    ] = None,
    show: Annotated[str | None, typer.Option(help=_PART)] = None,
    sequence: Annotated[str | None, typer.Option(help=_PART)] = None,
    shot: Annotated[str | None, typer.Option(help=_PART)] = None,
    device: Annotated[str, typer.Option(help="gpu: no worker may render it on its CPU.")] = "any",
    as_json: JsonFlag = False,
) -> None:
    """Freeze, for a farm job, which release each node of a script has."""
    from changeover_registry import _fs
    from changeover_registry.clock import format_time
    from changeover_registry.records.farm import FarmLock
    from changeover_updater.farm_lock import NODE_CLASSES, Job, freeze, system_name
    from changeover_updater.nuke_script import read_script

    call = _of_station(invocation(context), station)
    said = _said(show, sequence, shot)
    _check_not_the_script(script, out)
    owner, generation = _in_use(call)
    read = read_script(Path(os.path.abspath(script)), NODE_CLASSES)  # noqa: PTH100 - links keep their names
    store = owner.store.root
    job = Job(
        generation=generation,
        store=store.as_posix().rstrip("/"),
        nuke_line=nuke or _line(read, generation),
        environment=os.environ,
        scope=said,
        paths=_paths(call),
        system=system_name(sys.platform),
        device=_device(device),
        there=lambda path: (store / path).is_file(),
    )
    frozen = freeze(read, job)
    made = FarmLock(
        releases=frozen.lines,
        script=read.path,
        script_sha256=read.sha256,
        station=owner.id,
        generation=generation.number,
        made_at=format_time(call.now),
        made_by=call.settings.who,
    )
    _fs.write_atomic(out, made.to_bytes())
    for node, path in frozen.foreign:
        notice(f"{node} loads {path or 'no file'}, which is none of Changeover's; the lock does not hold it")
    for text in frozen.notes:
        notice(text)

    def display() -> None:
        for line in frozen.lines:
            say(f"{line.node}: {line.ref()} by {line.source}, Nuke {line.nuke_line}, device {line.device}")
        say(f"{mark('ok')} {count(len(frozen.lines), 'node')} locked in {out}; give it to the job as CHANGEOVER_LOCK")

    emit(made.model_dump(mode="json", exclude_none=True), as_json=as_json, show=display)


def ensure(
    context: typer.Context,
    lock_file: Annotated[Path, typer.Argument(metavar="LOCK", help="What changeover lock wrote.")],
    device: Annotated[str, typer.Option(help="gpu: refuse a host without a GPU, whatever the lock says.")] = "any",
    as_json: JsonFlag = False,
) -> None:
    """Have this render host ready for a farm job: bring what is missing, hash what is there, look for the GPU."""
    from changeover_updater.ensure import Host, read_lock
    from changeover_updater.ensure import ensure as make_sure
    from changeover_updater.runtimes import Runtimes
    from changeover_updater.update import Tools

    call = invocation(context)
    station, asked = call.station(), read_lock(lock_file)
    host = Host(call.site, lambda: host_facts(call, station), call.now)
    with progress() as line:
        tools = Tools(call.settings.who, lambda policy: Runtimes(host.facts(), policy).smoke, line.bytes, line.step)
        done = make_sure(asked, station, host, tools, gpu=_device(device) == "gpu")

    def display() -> None:
        for key in done.brought:
            say(f"brought {key}")
        told = f"{count(done.files, 'file')}, {done.hashed_bytes / 1e6:.1f} MB, hashed in {done.hashed_ms / 1000:.1f} s"
        nodes = count(len(asked.releases), "node")
        all_of = "" if len(asked.releases) == 1 else "all "
        say(f"{mark('ok')} generation {done.generation.number} serves {all_of}{nodes}; {told}")

    answer = {
        "generation": done.generation.number,
        "brought": list(done.brought),
        "files": done.files,
        "hashed_bytes": done.hashed_bytes,
        "hashed_ms": done.hashed_ms,
    }
    emit(answer, as_json=as_json, show=display)


def _said(show: str | None, sequence: str | None, shot: str | None) -> tuple[str | None, str | None, str | None] | None:
    """The scope that was said by hand; None where nothing was."""
    from changeover_updater.signed import Scope

    scope = Scope(show, sequence, shot)
    return None if scope.show is None else (scope.show, scope.sequence, scope.shot)


def _check_not_the_script(script: Path, out: Path) -> None:
    if out.exists() and script.exists() and out.samefile(script):
        raise InvalidInputError(
            "usage",
            where=str(out),
            expected="another file than the script",
            actual="the script itself",
            remedy="name the lock's file",
        )


def _of_station(call: Invocation, station: str | None) -> Invocation:
    return call if station is None else replace(call, settings=replace(call.settings, station=station))


def _in_use(call: Invocation) -> "tuple[Station, Generation]":
    station = call.station()
    generation = station.in_use()
    if generation is None:
        raise RefusedError(
            "generation",
            where=str(station.folder),
            expected="a generation in use, whose answers can be frozen",
            actual="none yet",
            remedy="run there: changeover update",
        )
    return station, generation


def _line(script: "NukeScript", generation: "Generation") -> str:
    found = script.nuke_line or (generation.nuke_lines[0] if len(generation.nuke_lines) == 1 else None)
    if found is None:
        raise InvalidInputError(
            "Nuke line",
            where=script.path,
            expected="the version of the Nuke that saved it",
            actual="none in the script",
            remedy="give --nuke, such as --nuke 15.1",
        )
    return found


def _paths(call: Invocation) -> "OsPaths | None":
    """``[paths]`` of the site; a lock can be made without them where the site is away."""
    try:
        return call.site().config().paths
    except (ChangeoverError, OSError) as error:
        notice(f"the lock has the paths of this system alone: {error}")
        return None


def _device(text: str) -> "Device":
    if text == "gpu":
        return "gpu"
    if text == "any":
        return "any"
    raise InvalidInputError(
        "device", where="--device", expected="gpu or any", actual=repr(text), remedy="correct the word"
    )
