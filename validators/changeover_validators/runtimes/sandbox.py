"""The sandbox: which isolation this machine has, and the command line that starts a child in it.

Two ways, tried in this order by really starting one: bubblewrap, else Linux namespaces by ``unshare`` and `jail`.
Both give no network, no other processes, a read-only model, an empty home and /tmp, no capability, and end with their
parent's thread. ``limits-only`` is no isolation: a policy may name it, and it is refused for formats that are code.
Where neither way works the answer is not run. What the child may see stands in `view`; its limits stand in `limits`.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.telemetry import NO_TELEMETRY
from changeover_validators.runtimes.interface import RunRequest, SandboxName
from changeover_validators.runtimes.interpreter import Interpreter
from changeover_validators.runtimes.view import MODEL, SCRATCH_BYTES, View, make_view, nvidia_devices

__all__ = ["EXECUTABLE", "Isolation", "Launch", "available", "child_environment", "choose", "launch", "wrap"]

EXECUTABLE = frozenset({"torchscript", "nuke-cat"})
"""Formats that are programs: never run without isolation."""

_TRY_SECONDS = 20.0
_SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - these are empty places of the child's own
_JAIL = Path(__file__).with_name("jail.py")
_PYTHONS = ("/usr/bin/python3", "/bin/python3")


@dataclass(frozen=True, slots=True)
class Isolation:
    """What isolates on this machine, or None with the reason; `tool` and `sized` are how to call it."""

    name: Literal["bubblewrap", "namespaces"] | None
    reason: str
    tool: str = ""
    sized: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line with its environment, and where the child finds the model's folder."""

    sandbox: SandboxName
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str


def available(search: str | None = None) -> Isolation:
    """Which isolation works here, found by starting a child in it that does nothing.

    Args:
        search: The folders to look for the tools in, as PATH writes them; None is PATH and the usual ones.
    """
    return _available(search or os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/bin", "/usr/bin", "/bin"]))


def choose(request: RunRequest, isolation: Isolation) -> SandboxName:
    """The sandbox that `request` gets.

    Raises:
        InvalidInputError: The request names no sandbox that there is.
        RefusedError: ``limits-only`` for a format that is code.
        UndecidedError: No isolation on this machine, so nothing is run.
    """
    if request.sandbox == "limits-only":
        return _limits_only(request)
    if request.sandbox != "required":
        raise InvalidInputError(
            "sandbox",
            where="policy: sandbox",
            expected="required or limits-only",
            actual=repr(request.sandbox),
            remedy="correct the policy",
        )
    if isolation.name is None:
        raise UndecidedError(
            "isolation",
            where=str(request.folder / request.entry),
            expected="bubblewrap or Linux namespaces, so that a model cannot harm this machine",
            actual=f"neither, so it was not run ({isolation.reason})",
            remedy="install bubblewrap, or run the check on a machine that has it",
        )
    return isolation.name


def launch(request: RunRequest, isolation: Isolation, interpreter: Interpreter, module: Sequence[str]) -> Launch:
    """The command line that runs ``interpreter module...`` for `request`.

    Raises:
        InvalidInputError: The request names no sandbox that there is.
        RefusedError: ``limits-only`` for a format that is code.
        UndecidedError: No isolation on this machine.
    """
    sandbox = choose(request, isolation)
    environment = child_environment(os.environ, request)
    command = (interpreter.path, *module)
    if sandbox == "limits-only":
        return Launch(sandbox, command, environment, str(request.folder.resolve()))
    devices = nvidia_devices() if request.provider == "cuda" else ()
    view = make_view(request.folder, interpreter.folders, devices)
    return Launch(sandbox, wrap(isolation, view, command), environment, MODEL)


def wrap(isolation: Isolation, view: View, command: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs `command` isolated and seeing only `view`."""
    if isolation.name == "bubblewrap":
        return (*_bubblewrap(isolation, view), "--", *command)
    return (*_namespaces(isolation, view, command[0]), "--", *command)


def child_environment(outer: Mapping[str, str], request: RunRequest) -> dict[str, str]:
    """The child's whole environment: nothing of ours but which GPU to use; telemetry off; threads fixed."""
    kept = {name: outer[name] for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SYSTEMROOT") if name in outer}
    # What is said of a host that binds Nuke to one card has to be run on that card, whichever comes first in the slots.
    chosen = {"CUDA_VISIBLE_DEVICES": request.gpu} if request.gpu else {}
    threads = str(request.threads)
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - an empty place of the child's own
        "TMPDIR": "/tmp",  # noqa: S108 - as above
        "LANG": "C.UTF-8",
        **NO_TELEMETRY,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        **kept,
        **chosen,
    }


def _limits_only(request: RunRequest) -> SandboxName:
    if request.runtime in EXECUTABLE:
        raise RefusedError(
            "isolation",
            where=str(request.folder / request.entry),
            expected="an isolated child, because a model of this format is a program",
            actual=f"sandbox = 'limits-only' for {request.runtime}",
            remedy="set sandbox = 'required' in the policy",
        )
    return "limits-only"


@functools.lru_cache(maxsize=16)
def _available(search: str) -> Isolation:
    reasons = []
    ways: tuple[tuple[Literal["bubblewrap", "namespaces"], str], ...] = (
        ("bubblewrap", "bwrap"),
        ("namespaces", "unshare"),
    )
    for name, program in ways:
        tool = shutil.which(program, path=search)
        if tool is None:
            reasons.append(f"{program} is not installed")
            continue
        complaint = _try(found := Isolation(name, f"{tool} works", tool))
        if complaint is None:
            return replace(found, sized=_has_size(tool))
        reasons.append(f"{program} fails: {complaint}")
    return Isolation(None, "; ".join(reasons))


def _has_size(tool: str) -> bool:
    """Whether this bubblewrap can bound a tmpfs; before 0.7 it cannot."""
    done = subprocess.run([tool, "--help"], capture_output=True, timeout=_TRY_SECONDS, check=False)
    return b"--size" in done.stdout + done.stderr


def _try(isolation: Isolation) -> str | None:
    """None if a child really starts, else what was said instead."""
    view = make_view(Path("/usr"), (), ())
    try:
        done = subprocess.run(
            wrap(isolation, view, ("/usr/bin/env",)), capture_output=True, timeout=_TRY_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip()[-200:] or "no reason given"


def _bubblewrap(isolation: Isolation, view: View) -> list[str]:
    size = ["--size", str(SCRATCH_BYTES)] if isolation.sized else []
    argv = [isolation.tool, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for device in view.devices:
        argv += ["--dev-bind", device, device]
    # Scratch first: an interpreter or a checkout may lie below /tmp, and a later mount would hide it.
    for place in _SCRATCH:
        argv += [*size, "--tmpfs", place]
    for outside, inside in view.read_only:
        argv += ["--ro-bind", outside, inside]
    # The root and /dev are memory as well; shut, so that nothing grows in them.
    return [*argv, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _SCRATCH[0]]


def _namespaces(isolation: Isolation, view: View, interpreter: str) -> list[str]:
    plan = {
        "read_only": view.read_only,
        "devices": view.devices,
        "scratch": _SCRATCH,
        "scratch_bytes": SCRATCH_BYTES,
    }
    argv = [isolation.tool, "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
    return [*argv, "--kill-child", _python(interpreter), "-I", "-S", str(_JAIL), json.dumps(plan)]


def _python(interpreter: str) -> str:
    """The Python that builds the jail: the child's own, or any where a program that is no Python is run."""
    candidates = [interpreter] if "python" in Path(interpreter).name else []
    found = [path for path in (*candidates, *_PYTHONS) if Path(path).exists()]
    return found[0] if found else interpreter
