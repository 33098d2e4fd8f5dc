"""A model in an isolated child: the parent's side. Importable in the base install; numpy is imported only to infer.

One process a model and variant, so that a crash, a hang or a broken GPU context ends with it and never takes us
along. The child is watched (`watch`) and whatever ends it is named (`endings`). Planes and mattes go through a `room`
in memory where the system has such, else through the pipe. Nothing that the child says is believed without a check of
its length and shape. Use it in the thread that made it: the isolated child ends when that thread does.
"""

import contextlib
import math
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

from changeover_registry.errors import ChangeoverError, InvalidInputError, UndecidedError
from changeover_validators.runtimes.endings import (
    Cause,
    Death,
    cause_of_death,
    cause_of_error,
    failure,
    is_sticky,
    one_line,
    refusal,
    text_of,
    xid_of,
)
from changeover_validators.runtimes.frames import BrokenFrameError, CutFrameError, Frame, read_frame, write_frame
from changeover_validators.runtimes.interface import (
    OWN_PLAN,
    PROTOCOL,
    Inferred,
    Plane,
    RunRequest,
    SmokeResult,
    Started,
)
from changeover_validators.runtimes.interpreter import inspect_interpreter
from changeover_validators.runtimes.kernel_log import kernel_lines
from changeover_validators.runtimes.memory_plan import WARM_UP_RUNS
from changeover_validators.runtimes.room import Room, has_rooms
from changeover_validators.runtimes.sandbox import Isolation, Launch, available, choose, launch
from changeover_validators.runtimes.watch import Tail, Watch, end_family, family_pids, oom_kills

__all__ = ["ModelProcess"]

_MODULE = ("-I", "-m", "changeover_validators.runtimes.child")
_GRACE_SECONDS = 3.0
_MOST_US = 10**12
"""What no answer takes: eleven days, in microseconds."""
_SMOKE_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Running:
    """A child with its pipes, its room and its watchers, and when it was started (monotonic nanoseconds)."""

    process: subprocess.Popen[bytes]
    stdin: BinaryIO
    stdout: BinaryIO
    room: Room | None
    watch: Watch
    tail: Tail
    oom_before: int
    started_ns: int


class ModelProcess:
    """One loaded model in an isolated child, as a context manager.

    Args:
        request: What to run and how.
        isolation: What isolates on this machine; None finds out.
        room: Whether frames go through shared memory; None is wherever the system has it.
    """

    _module: ClassVar[tuple[str, ...]] = _MODULE

    def __init__(self, request: RunRequest, isolation: Isolation | None = None, *, room: bool | None = None) -> None:
        self._request = request
        self._with_room = has_rooms() if room is None else room
        self._isolation = isolation if isolation is not None else available()
        self._where = str(request.folder / request.entry)
        self._running: _Running | None = None
        self._started: Started | None = None
        self._ended: ChangeoverError | None = None
        self._pids: frozenset[int] = frozenset()
        self._warmed: dict[tuple[int, int], tuple[int, ...]] = {}
        self._peak_bytes = 0

    def __enter__(self) -> Self:
        """Start the child and load the model.

        Raises:
            InvalidInputError: The request names no file, runtime or sandbox that there is.
            RefusedError: ``limits-only`` for a format that is code.
            UndecidedError: Not run: no isolation, no interpreter, no runtime in it, or one too old; or a ``.cat``.
            MeasurementError: Loading crashed, hung or took too much memory, the file is invalid, or another
                provider ran.
        """
        _check_request(self._request)
        choose(self._request, self._isolation)
        interpreter = inspect_interpreter(self._request.interpreter)
        started = launch(self._request, self._isolation, interpreter, self._module)
        self._running = _start(started, self._request, Room() if self._with_room else None)
        try:
            self._started = self._load(self._running, started)
            self._pids = frozenset(family_pids(self._running.process.pid))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child: it is told by the end of the pipe, and killed if it does not follow."""
        self._stop()

    @property
    def started(self) -> Started:
        """What runs the model.

        Raises:
            RuntimeError: Outside of the `with` block.
        """
        if self._started is None:
            message = "the model is not loaded; use it as a context manager"
            raise RuntimeError(message)
        return self._started

    @property
    def peak_rss_bytes(self) -> int:
        """The highest resident memory of the child so far, in bytes, isolation included; 0 where it is not told."""
        if self._running is not None:
            self._running.watch.look_once()
            self._peak_bytes = max(self._peak_bytes, self._running.watch.peak_bytes)
        return self._peak_bytes

    @property
    def compile_us(self) -> int:
        """Microseconds that the very first run took beyond the last of its warm-up: compiling, searching, first touch.

        A GPU that the runtime was not built for compiles for minutes here, once for each cache; 0 before any run.
        """
        runs = next(iter(self._warmed.values()), ())
        return max(0, runs[0] - runs[-1]) if runs else 0

    def warm(self, width: int, height: int) -> tuple[int, ...]:
        """Have the model ready for frames of that size: the runs that nobody sees, once for each size of its tensors.

        `infer` does it before the first frame of a size, so that no frame that is answered is a first one; whoever
        tells somebody that a model is ready calls it before. The runtime lays out its memory in the second run;
        where states change their shape after the first frame it takes one more.

        Returns:
            The microseconds of each run.

        Raises:
            MeasurementError: As `infer`.
        """
        from changeover_validators.runtimes.contract import tensor_size

        contract = self._request.contract
        size = tensor_size(contract, self._request.tile, height, width)
        if size not in self._warmed:
            runs = WARM_UP_RUNS + bool(contract.states)
            head = {"kind": "warm", "size": [height, width]}
            self._warmed[size] = tuple(self._integer(self._exchange(head, [], 0), "run_us") for _ in range(runs))
        return self._warmed[size]

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> Inferred:
        """The matte of one frame; before the first one of a size the model is warmed up (`warm`).

        Args:
            planes: float32 [H, W, C] by port name, in the contract's colour; the order of channels is that of
                `interface.port_channels`.
            reset: This is the first frame of a shot; states of the shot before are forgotten.

        Raises:
            InvalidInputError: A plane is missing or of a wrong shape.
            MeasurementError: A crash, a hang, too much memory, or a matte that is not finite or of a wrong shape.
        """
        import numpy as np

        arrays = {port: np.ascontiguousarray(plane, "<f4") for port, plane in planes.items()}
        size = next((array.shape[:2] for array in arrays.values()), (0, 0))
        if len(size) == 2 and all(size):
            self.warm(size[1], size[0])
        head = {"kind": "infer", "reset": reset, "planes": [[port, list(a.shape)] for port, a in arrays.items()]}
        matte = np.empty(math.prod(size), "<f4")
        blobs = [array.data for array in arrays.values()]
        frame = self._ask_for_matte(head, [blob for blob in blobs if blob.nbytes], matte.data, list(size))
        if not np.isfinite(matte).all():
            raise self._broken("a matte that is not finite")
        return Inferred(matte.reshape(size), self._integer(frame, "frame_us"))

    def _ask_for_matte(
        self, head: Mapping[str, Any], blobs: Sequence[memoryview], matte: memoryview, shape: list[int]
    ) -> Frame:
        """Send the planes, and have the answer's values in `matte`; through the room if there is one."""
        room = self._running.room if self._running is not None else None
        if room is None:
            frame = self._exchange(head, blobs, matte.nbytes)
            there = len(frame.blobs) == 1 and len(frame.blobs[0]) == matte.nbytes
            if there:
                matte.cast("B")[:] = frame.blobs[0]
        else:
            total = room.put(blobs, matte.nbytes)
            frame = self._exchange({**head, "bytes": total}, [], 0)
            there = room.take(matte, total - matte.nbytes)
        if not there or frame.head.get("shape") != shape:
            raise self._broken("an answer that is no matte of the plate's size")
        return frame

    def smoke(self) -> SmokeResult:
        """Run the variant's ``smoke.npz`` in the child and compare.

        Raises:
            UndecidedError: The variant has none.
            InvalidInputError: It is damaged or does not fit the contract.
            MeasurementError: As `infer`.
        """
        frame = self._exchange({"kind": "smoke"}, [], 0)
        try:
            worst, tolerance = float(frame.head["worst"]), float(frame.head["tolerance"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise self._broken("an answer without numbers") from error
        return SmokeResult(worst, tolerance, passed=worst <= tolerance)

    def make_smoke(self, seed: int) -> bytes:
        """The bytes of a ``smoke.npz`` for this model, computed in the child from synthetic inputs.

        Raises:
            MeasurementError: As `infer`.
        """
        frame = self._exchange({"kind": "make-smoke", "seed": seed}, [], _SMOKE_LIMIT_BYTES)
        if len(frame.blobs) != 1:
            raise self._broken("an answer without a smoke file")
        return bytes(frame.blobs[0])

    def _load(self, running: _Running, started: Launch) -> Started:
        request = self._request
        head = {
            "protocol": PROTOCOL,
            "folder": started.folder,
            "entry": request.entry,
            "runtime": request.runtime,
            "contract": request.contract.model_dump_json(),
            "tile": request.tile.model_dump_json(),
            "ports": [port.model_dump_json() for port in request.ports],
            "provider": request.provider,
            "threads": request.threads,
            "memory_plan": request.memory_plan.model_dump_json(),
            "arena_limit_bytes": request.arena_limit_bytes,
            "ram_mib": request.ram_mib,
            "wall_seconds": request.wall_seconds,
            "room": None if running.room is None else running.room.descriptor,
            **self._more(),
        }
        frame = self._exchange(head, [], 0)
        ran, version = (one_line(str(frame.head.get(name))) for name in ("provider_ran", "runtime_version"))
        if ran != request.provider:
            raise failure("provider", where=self._where, expected=request.provider, actual=ran)
        whole_us = (time.monotonic_ns() - running.started_ns) // 1000
        load_us = self._integer(frame, "load_us")
        return Started(ran, load_us, version or "not said", started.sandbox, start_us=max(whole_us - load_us, 0))

    def _more(self) -> Mapping[str, object]:
        """What the first frame says besides, of another kind of child."""
        return {}

    def _exchange(self, head: Mapping[str, Any], blobs: Sequence[memoryview], limit_bytes: int) -> Frame:
        """Ask, and take the answer, within the request's time."""
        if self._ended is not None:
            raise self._ended
        if self._running is None:
            message = "the model is not loaded; use it as a context manager"
            raise RuntimeError(message)
        running = self._running
        running.watch.until(self._request.wall_seconds)
        try:
            write_frame(running.stdin, head, blobs)
            frame = read_frame(running.stdout, limit_bytes=limit_bytes)
        except (OSError, CutFrameError) as error:
            raise self._death(str(error)) from error
        except BrokenFrameError as error:
            raise self._broken(str(error)) from error
        finally:
            running.watch.until(None)
        if frame is None:
            raise self._death("the end of the pipe")
        return self._unless_error(frame)

    def _unless_error(self, frame: Frame) -> Frame:
        kind = frame.head.get("kind")
        if kind == "refusal":
            raise refusal(frame.head, where=self._where)
        if kind == "error":
            name, text = str(frame.head.get("class")), str(frame.head.get("text"))
            cause = cause_of_error(name, text, self._request.provider)
            said = text_of(name, text)
            error = failure(cause, where=self._where, expected=self._expected(cause), actual=said)
            if is_sticky(cause):
                self._end_for(error)
            raise error
        return frame

    def _death(self, said: str) -> ChangeoverError:
        """The error for a child that ended, or that is ended now because it does not speak the protocol."""
        running = self._running
        if running is None:  # pragma: no cover - _exchange has looked
            raise RuntimeError(said)
        try:
            running.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return self._broken(said)
        running.tail.join(_GRACE_SECONDS)
        watch, launched = running.watch, self._request.sandbox != "limits-only"
        kills = oom_kills() - running.oom_before
        code, stderr = running.process.returncode, running.tail.text()
        xid = self._xid(running) if self._request.provider == "cuda" else None
        death = Death(code, launched, watch.killed_for, kills, stderr, started=self._started is not None, xid=xid)
        cause, found = cause_of_death(death)
        self._ended = failure(cause, where=self._where, expected=self._expected(cause), actual=found)
        return self._ended

    def _xid(self, running: _Running) -> str | None:  # pragma: gpu
        """What the driver wrote of a fault of this child, where its log may be read."""
        return xid_of(kernel_lines(running.started_ns // 1000), self._pids)

    def _expected(self, cause: Cause) -> str:
        if cause == "hang":
            return f"an answer within {self._request.wall_seconds:g} s"
        if cause == "out of host memory":
            return f"at most {self._request.ram_mib} MiB of RAM"
        return "a model that loads and runs"

    def _broken(self, actual: str) -> ChangeoverError:
        """End a child whose answers make no sense."""
        return self._end_for(failure("crash", where=self._where, expected="an answer by the protocol", actual=actual))

    def _end_for(self, error: ChangeoverError) -> ChangeoverError:
        """End the child; whatever is asked from now on has the same answer."""
        self._ended = error
        if self._running is not None:
            end_family(self._running.process)
        return error

    def _integer(self, frame: Frame, name: str) -> int:
        value = frame.head.get(name)
        if type(value) is not int or not 0 <= value < _MOST_US:
            raise self._broken(f"an answer without {name}")
        return value

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.watch.look_once()
        with contextlib.suppress(OSError):
            running.stdin.close()
        try:
            running.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            end_family(running.process)
            running.process.wait()
        running.watch.stop()
        running.tail.join(_GRACE_SECONDS)
        self._peak_bytes = max(self._peak_bytes, running.watch.peak_bytes)
        running.stdout.close()
        if running.room is not None:
            running.room.close()


def _check_request(request: RunRequest) -> None:
    if request.runtime == "nuke-cat":
        raise UndecidedError(
            "runtime",
            where=str(request.folder / request.entry),
            expected="a format that a runtime outside Nuke can load",
            actual="a .cat, so it was not run",
            remedy="give the variant a twin (derived_from), or run it inside Nuke",
        )
    for name, value, allowed in (
        ("runtime", request.runtime, ("onnx", "torchscript")),
        ("provider", request.provider, ("cpu", "cuda")),
    ):
        if value not in allowed:
            raise _bad_request(name, " or ".join(allowed), repr(value))
    if request.runtime != "onnx" and request.memory_plan != OWN_PLAN:
        raise _bad_request("memory plan", "the runtime's own outside of onnxruntime", "settings of its arena")
    if not (request.folder / request.entry).is_file():
        raise _bad_request("entry", "a file in the variant's folder", str(request.folder / request.entry))


def _bad_request(field: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "run request", where=field, expected=expected, actual=actual, remedy="correct the release or the call"
    )


def _start(started: Launch, request: RunRequest, room: Room | None) -> _Running:
    before, now = oom_kills(), time.monotonic_ns()
    try:
        process = subprocess.Popen(
            started.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(started.environment),
            cwd=Path(request.folder.anchor or os.sep),
            start_new_session=True,
            pass_fds=() if room is None else (room.descriptor,),
        )
    except BaseException:
        if room is not None:
            room.close()
        raise
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:  # pragma: no cover - all three were asked for
        raise OSError(0, "no pipe")
    watch, tail = Watch(process, request.ram_mib * 1024 * 1024), Tail(stderr)  # type: ignore[arg-type]
    watch.start()
    tail.start()
    return _Running(process, stdin, stdout, room, watch, tail, before, now)  # type: ignore[arg-type]
