"""The child: loads one model and answers frames over the pipe. Started by `process` as ``-m`` of its interpreter.

The first frame says what to load; then ``warm``, ``infer``, ``smoke`` and ``make-smoke`` are answered until the pipe
ends. Planes and mattes lie in the `room` that the parent lends, or come and go as blobs where it lends none. What the
model writes on its standard output goes to standard error, so it cannot speak on the pipe. Every error is answered as
data; the parent decides what it means.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract, Port, Tile
from changeover_validators.runtimes.frames import Frame, read_frame, write_frame
from changeover_validators.runtimes.interface import PROTOCOL
from changeover_validators.runtimes.limits import allow_cpu, apply_limits, plan_limits
from changeover_validators.runtimes.room import Shelf

__all__ = ["Served", "main", "serve"]

_LIMIT_BYTES = 1 << 36


class _Adapter(Protocol):
    runtime_version: str
    provider_ran: str

    def run(self, tensors: Any) -> Any: ...  # noqa: ANN401 - arrays; numpy is not imported yet


class Served:
    """One loaded model and the commands that it answers.

    Args:
        head: The first frame's head: protocol, folder, entry, runtime, contract, tile, ports, provider, threads, memory
            plan, the arena's limit or None, and the room's descriptor or None.

    Raises:
        UndecidedError: Parent and child are of different Changeovers.
        Exception: Whatever the runtime raises.
    """

    def __init__(self, head: Any) -> None:  # noqa: ANN401 - a JSON object, parsed here
        if head["protocol"] != PROTOCOL:
            raise _other_protocol(str(head["protocol"]))
        self._folder = Path(head["folder"])
        self._contract = Contract.model_validate_json(head["contract"])
        self._tile = Tile.model_validate_json(head["tile"])
        self._ports = tuple(Port.model_validate_json(port) for port in head["ports"])
        self._seconds, self._threads = float(head["wall_seconds"]), int(head["threads"])
        self._shelf = None if head["room"] is None else Shelf(int(head["room"]))
        self._load(head)

    def _load(self, head: Any) -> None:  # noqa: ANN401 - as above
        from changeover_validators.runtimes.contract import ContractRunner

        path, provider = str(self._folder / head["entry"]), str(head["provider"])
        _import_runtime(head["runtime"])
        before = time.perf_counter_ns()
        plan = MemoryPlan.model_validate_json(head["memory_plan"])
        if head["runtime"] == "onnx":
            self._model: _Adapter = self._onnx(path, provider, plan, head["arena_limit_bytes"])
        else:
            self._model = self._torchscript(path, provider)
        self.load_us = (time.perf_counter_ns() - before) // 1000
        self._runner = ContractRunner(self._model, self._contract, self._tile, self._ports)

    def _onnx(self, path: str, provider: str, plan: MemoryPlan, limit_bytes: int | None) -> _Adapter:
        from changeover_validators.runtimes.memory_plan import fixed_shapes
        from changeover_validators.runtimes.onnx import OnnxModel

        shapes = fixed_shapes(self._contract, self._tile)
        return OnnxModel(path, provider, self._threads, plan, shapes, limit_bytes)

    def _torchscript(self, path: str, provider: str) -> _Adapter:
        from changeover_validators.runtimes.torchscript import TorchScriptModel

        return TorchScriptModel(path, provider, self._threads, self._contract)

    def started(self) -> dict[str, Any]:
        """The answer to the first frame."""
        model = self._model
        version, provider = model.runtime_version, model.provider_ran
        return {"kind": "started", "load_us": self.load_us, "runtime_version": version, "provider_ran": provider}

    def answer(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        """The head and blobs that answer one request."""
        allow_cpu(self._seconds, self._threads)
        commands = {"warm": self._warm, "infer": self._infer, "smoke": self._smoke, "make-smoke": self._make_smoke}
        return commands[frame.head["kind"]](frame)

    def _warm(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        height, width = frame.head["size"]
        return {"kind": "warmed", "run_us": self._runner.warm(int(height), int(width))}, []

    def _infer(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        import numpy as np

        shapes, shelf = frame.head["planes"], self._shelf
        blobs: Sequence[bytearray | memoryview] = frame.blobs
        place: memoryview | None = None
        if shelf is not None:
            blobs, place = _laid_out(shapes, shelf.reach(frame.head["bytes"]))
        planes = {
            port: np.frombuffer(blob, "<f4").reshape(shape) for (port, shape), blob in zip(shapes, blobs, strict=True)
        }
        matte = self._runner.frame(planes, reset=bool(frame.head["reset"]))
        head = {"kind": "matte", "shape": list(matte.values.shape), "frame_us": matte.model_us}
        if place is None:
            return head, [np.ascontiguousarray(matte.values, "<f4").data]
        np.copyto(np.frombuffer(place, "<f4").reshape(matte.values.shape), matte.values)
        return head, []

    def _smoke(self, _frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        from changeover_validators.runtimes.smoke import read_smoke, run_smoke

        smoke = read_smoke(self._folder, self._contract)
        result = run_smoke(self._model, self._contract, smoke, self._ports)
        return {"kind": "smoke", "worst": result.worst, "tolerance": result.tolerance}, []

    def _make_smoke(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        from changeover_validators.runtimes.smoke import make_smoke

        data = make_smoke(self._model, self._contract, int(frame.head["seed"]), self._ports)
        return {"kind": "made-smoke"}, [data]


def serve(reader: BinaryIO, writer: BinaryIO, kind: type[Served] = Served) -> None:
    """Answer the frames of `reader` on `writer` until it ends, by what `kind` makes of the first one.

    Raises:
        BrokenFrameError: The parent sent something that is no frame.
        OSError: The parent is gone.
    """
    first = read_frame(reader, limit_bytes=0)
    if first is None:
        return
    try:
        apply_limits(plan_limits(int(first.head["ram_mib"]), str(first.head["provider"])))
        allow_cpu(float(first.head["wall_seconds"]), int(first.head["threads"]))
        served = kind(first.head)
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        write_frame(writer, describe(error))
        return
    write_frame(writer, served.started())
    while (frame := read_frame(reader, limit_bytes=_LIMIT_BYTES)) is not None:
        try:
            head, blobs = served.answer(frame)
        except Exception as error:  # noqa: BLE001 - as above
            head, blobs = describe(error), []
        write_frame(writer, head, blobs)


def _laid_out(shapes: Any, room: memoryview) -> tuple[list[memoryview], memoryview]:  # noqa: ANN401 - JSON
    """The parts of the room: each plane's, not to be written, and behind them the matte's."""
    parts, at = [], 0
    for _, shape in shapes:
        count = 4 * math.prod(shape)
        parts.append(room[at : at + count].toreadonly())
        at += count
    return parts, room[at:]


def describe(error: Exception) -> dict[str, Any]:
    """An error as data: ours with all its parts, any other with its kind and text."""
    if isinstance(error, ChangeoverError):
        parts = {name: getattr(error, name) for name in ("rule", "where", "expected", "actual", "remedy")}
        return {"kind": "refusal", "class": type(error).__name__, **parts}
    return {"kind": "error", "class": type(error).__name__, "text": str(error)[:20000]}


def main(kind: type[Served] = Served) -> None:
    """Take the pipe for ourselves, point the model's standard output at standard error, and serve."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(pipe, "wb") as writer, sys.stdin.buffer as reader:
        serve(reader, writer, kind)


def _import_runtime(runtime: str) -> None:
    """Import first, so that the time to load is the file's alone and a missing runtime has its own name."""
    name = {"onnx": "onnxruntime", "torchscript": "torch"}[runtime]
    try:
        __import__(name)
    except ImportError as error:
        raise UndecidedError(
            "runtime",
            where=sys.executable,
            expected=f"an interpreter with {name}",
            actual=f"one without ({error})",
            remedy=f"install changeover[{'run' if runtime == 'onnx' else 'torch'}] there, or name another interpreter",
        ) from error


def _other_protocol(found: str) -> UndecidedError:
    return UndecidedError(
        "runtime",
        where=sys.executable,
        expected=f"a Changeover that speaks protocol {PROTOCOL}",
        actual=f"protocol {found}",
        remedy="install the same Changeover in both interpreters",
    )


if __name__ == "__main__":
    main()
