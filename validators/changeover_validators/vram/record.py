"""Recording a trace: a TorchScript file runs in an isolated child of the interpreter that holds torch, on the CPU.

The interpreter needs torch and nothing else (`trace_child` is run as a file), so that also one too old for Changeover
can tell what its torch allocates. The child sees what every child sees: the model's folder, no network, no home; it is
watched, and whatever ends it is named. What it answers is checked line by line in `trace`.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from changeover_registry.errors import ChangeoverError, InvalidInputError, UndecidedError
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.endings import Death, cause_of_death, cause_of_error, failure
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.interpreter import inspect_interpreter
from changeover_validators.runtimes.sandbox import Isolation, Launch, available, choose, launch
from changeover_validators.runtimes.watch import Tail, Watch, end_family, oom_kills
from changeover_validators.vram.predictor import SESSIONS
from changeover_validators.vram.trace import Trace, parse_recording

__all__ = ["CALLS", "RecordRequest", "record"]

CALLS = 4
"""TorchScript watches the first call and optimises in the second; states have their shape from the second one on."""

_CHILD = Path(__file__).with_name("trace_child.py")
_LINE_BYTES = 64 * 1024 * 1024
_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What to record.

    Attributes:
        interpreter: A Python that holds torch; trusted, named by the machine's owner.
        folder: The variant's folder.
        entry: The TorchScript file, relative to `folder`.
        contract: Which tensors a call takes.
        sizes: Width and height of the tensors, in pixels, each to be recorded.
        sessions: How often the file is loaded anew.
        threads: Threads inside one operator.
        sandbox: ``required``, the only one for a format that is code.
        wall_seconds: The longest that one recording may take.
        ram_mib: The most resident memory that the child may have.
    """

    interpreter: str
    folder: Path
    entry: str
    contract: Contract
    sizes: tuple[tuple[int, int], ...]
    sessions: int = SESSIONS
    threads: int = 1
    sandbox: str = "required"
    wall_seconds: float = 120.0
    ram_mib: int = 8192


@dataclass(frozen=True, slots=True)
class _Child:
    """A running child: its pipes, and who watches it."""

    process: subprocess.Popen[bytes]
    stdin: BinaryIO
    stdout: BinaryIO
    watch: Watch
    tail: Tail
    oom_before: int


def record(request: RecordRequest, isolation: Isolation | None = None) -> tuple[tuple[Trace, ...], ...]:
    """For each session the traces at `request.sizes`, in their order.

    Raises:
        InvalidInputError: The entry is no file.
        RefusedError: ``limits-only``: a model of this format is a program.
        UndecidedError: Not run: no isolation, no interpreter, no torch in it, or one that cannot tell allocations.
        MeasurementError: The file is invalid, or running it crashed, hung or took too much memory.
    """
    run = _run_request(request)
    isolation = available() if isolation is None else isolation
    choose(run, isolation)
    interpreter = inspect_interpreter(request.interpreter, bare=True)
    seen = replace(interpreter, folders=(*interpreter.folders, str(_CHILD.parent)))
    child = _start(launch(run, isolation, seen, ("-I", str(_CHILD))), request)
    try:
        traces = tuple(_answers(child, request))
    finally:
        _stop(child)
    step = len(request.sizes)
    return tuple(traces[at : at + step] for at in range(0, len(traces), step))


def _run_request(request: RecordRequest) -> RunRequest:
    path = request.folder / request.entry
    if not path.is_file():
        raise InvalidInputError(
            "entry",
            where=str(path),
            expected="a TorchScript file",
            actual="no file",
            remedy="correct the release or the call",
        )
    return RunRequest(
        interpreter=request.interpreter,
        folder=request.folder,
        entry=request.entry,
        runtime="torchscript",
        contract=request.contract,
        tile=Tile(size=0),
        provider="cpu",
        sandbox=request.sandbox,
        wall_seconds=request.wall_seconds,
        ram_mib=request.ram_mib,
        threads=request.threads,
    )


def _start(started: Launch, request: RecordRequest) -> _Child:
    before = oom_kills()
    process = subprocess.Popen(
        started.argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(started.environment),
        cwd=Path(request.folder.anchor or os.sep),
        start_new_session=True,
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:  # pragma: no cover - all three were asked for
        raise OSError(0, "no pipe")
    watch, tail = Watch(process, request.ram_mib << 20), Tail(stderr)  # type: ignore[arg-type]
    watch.start()
    tail.start()
    child = _Child(process, stdin, stdout, watch, tail, before)  # type: ignore[arg-type]
    _tell(child, _question(request, started.folder))
    return child


def _question(request: RecordRequest, folder: str) -> dict[str, Any]:
    recordings = request.sessions * len(request.sizes)
    return {
        "path": f"{folder}/{request.entry}",
        "device": "cpu",
        "threads": request.threads,
        "sizes": request.sizes,
        "sessions": request.sessions,
        "calls": CALLS,
        "inputs": [{"channels": len(t.channels), "dtype": t.dtype} for t in request.contract.inputs],
        "states": [{"shape": s.shape, "dtype": s.dtype, "output": s.output} for s in request.contract.states],
        "cpu_seconds": int(request.wall_seconds * request.threads * recordings) + 5,
        "ram_mib": request.ram_mib,
    }


def _tell(child: _Child, question: dict[str, Any]) -> None:
    """A child that is gone already is found out when it is read."""
    try:
        child.stdin.write(json.dumps(question).encode("ascii") + b"\n")
        child.stdin.close()
    except OSError:
        return


def _answers(child: _Child, request: RecordRequest) -> Iterator[Trace]:
    for _ in range(request.sessions):
        for size in request.sizes:
            line = _line(child, request)
            trace = parse_recording(line, where=str(request.folder / request.entry))
            if (trace.width, trace.height, trace.device, len(trace.calls)) != (*size, "cpu", CALLS):
                raise _failure("crash", request, "a recording of another size than was asked for")
            yield trace


def _line(child: _Child, request: RecordRequest) -> bytes:
    """The next line of the child, which is a recording."""
    child.watch.until(request.wall_seconds)
    line = child.stdout.readline(_LINE_BYTES)
    child.watch.until(None)
    if len(line) == _LINE_BYTES:
        raise _failure("crash", request, "an answer that has no end")
    if not line.endswith(b"\n"):
        raise _death(child, request)
    if line.startswith(b'{"error":'):
        raise _refused(line, request)
    return line


def _refused(line: bytes, request: RecordRequest) -> ChangeoverError:
    try:
        error = json.loads(line)["error"]
        kind, text = str(error["class"]), str(error["text"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _failure("crash", request, "an error that is none")
    if kind in {"ModuleNotFoundError", "ImportError", "TooOldError"}:
        return UndecidedError(
            "runtime",
            where=request.interpreter,
            expected="a Python with torch 1.13 or newer, whose profiler tells each allocation",
            actual=f"{kind}: {text}"[:200],
            remedy="name another interpreter under [runtimes] in host.toml",
        )
    return _failure(cause_of_error(kind, text), request, f"{kind}: {text}")


def _death(child: _Child, request: RecordRequest) -> ChangeoverError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(_GRACE_SECONDS)
    child.tail.join(_GRACE_SECONDS)
    kills = oom_kills() - child.oom_before
    code, stderr = child.process.returncode, child.tail.text()
    cause, found = cause_of_death(Death(code, True, child.watch.killed_for, kills, stderr, started=False))
    return _failure(cause, request, found)


def _failure(cause: Any, request: RecordRequest, actual: str) -> ChangeoverError:  # noqa: ANN401 - a cause of `endings`
    where = str(request.folder / request.entry)
    expected = f"{CALLS} calls within {request.wall_seconds:g} s and {request.ram_mib} MiB of RAM"
    return failure(cause, where=where, expected=expected, actual=actual)


def _stop(child: _Child) -> None:
    child.watch.stop()
    end_family(child.process)
    child.process.wait()
    child.tail.join(_GRACE_SECONDS)
    child.stdout.close()
