"""Sessions of one model, built in an isolated child and run never: the evidence that a prediction rests on.

Each process may order operators differently, so several are started (`predictor.SESSIONS`). What is known of a
session: the graph that it would run, and what its arena held after loading. What this leaves out: the child's side
(`sessions_child`) and what follows from it (`onnx_predictor`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.vram.optimised import OptimisedGraph, read_optimised
from changeover_validators.vram.simulate import Loaded

__all__ = ["BuiltSession", "SessionsProcess", "loaded_from"]

_MODEL_LIMIT_BYTES = 256 << 20
_ASKED = re.compile(r"rounded_bytes:\s*(\d+)")
_REGION = re.compile(r"Extended allocation by (\d+)")
_RESERVED = re.compile(r"Reserving memory in BFCArena .*size: (\d+)")


@dataclass(frozen=True, slots=True)
class BuiltSession:
    """One session: its graph, its arena after loading, and the process' resident memory before any session.

    All sessions of one process order their work alike, so a range takes a process each.
    """

    graph: OptimisedGraph
    loaded: Loaded
    resident_bytes: int


class SessionsProcess(ModelProcess):
    """A child that builds sessions, as a context manager like `ModelProcess`.

    Args:
        request: The model; its plan and tile do not matter.
        isolation: What isolates on this machine; None finds out.
    """

    _module: ClassVar[tuple[str, ...]] = ("-I", "-m", "changeover_validators.vram.sessions_child")

    def __init__(self, request: RunRequest, isolation: Isolation | None = None) -> None:
        super().__init__(request, isolation, room=False)

    def build(self, shapes: Mapping[str, tuple[int, ...]] | None, *, standard: bool) -> BuiltSession:
        """The one session of this process.

        Args:
            shapes: Sizes at which free dimensions are fixed, by input; None fixes nothing.
            standard: Whether layouts of this processor are left out.

        Raises:
            UndecidedError: No isolation, no runtime, or the graph has control flow.
            InvalidInputError: What came back is no model.
            MeasurementError: Building crashed, hung or took too much memory, or the file is invalid.
        """
        fixed = None if shapes is None else {name: list(shape) for name, shape in shapes.items()}
        frame = self._exchange({"kind": "session", "shapes": fixed, "standard": standard}, [], _MODEL_LIMIT_BYTES)
        if len(frame.blobs) != 1:
            raise self._broken("an answer without a model")
        log = frame.head.get("log")
        lines = [str(line) for line in log] if isinstance(log, list) else []
        loaded = loaded_from(lines, _figure(frame.head.get("in_use")), _figure(frame.head.get("total")))
        graph = read_optimised(bytes(frame.blobs[0]), self._where)
        return BuiltSession(graph, loaded, _figure(frame.head.get("resident")) or 0)


def loaded_from(lines: Sequence[str], in_use: int | None, total: int | None) -> Loaded:
    """The arena after loading, out of its log lines and its figures.

    Lines tell the request behind each region and each reserve; the figures tell what of it is still held. A release
    without figures (before 1.23) is taken to hold all that it asked for.
    """
    found = "\n".join(lines)
    regions = [int(text) for text in _REGION.findall(found)]
    asked = [int(text) for text in _ASKED.findall(found)][: len(regions)]
    if in_use is None or total is None:
        return Loaded(sum(int(text) for text in _RESERVED.findall(found)), tuple(asked), tuple(asked))
    reserved = max(total - sum(regions), 0)
    return Loaded(reserved, tuple(asked), _held(asked, max(in_use - reserved, 0)))


def _held(asked: Sequence[int], left: int) -> tuple[int, ...]:
    """Which requests are still held, and the rest of what is held as one piece."""
    held = []
    for size in asked:
        if size <= left:
            held.append(size)
            left -= size
    return (*held, left) if left > 0 else tuple(held)


def _figure(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
