"""Sessions of one model, built in an isolated child and run never: the evidence that a prediction rests on.

Each process may order operators differently, so several are started (`predictor.SESSIONS`). What is known of a
session: the graph that it would run, and what its arena held after loading. What this leaves out: the child's side
(`sessions_child`) and what follows from it (`onnx_predictor`).
"""

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
        graph = read_optimised(bytes(frame.blobs[0]), self._where)
        return BuiltSession(graph, loaded_from(frame.head), _figure(frame.head.get("resident")) or 0)


def loaded_from(told: Mapping[str, object]) -> Loaded:
    """The arena after loading, out of what the child tells: the requests behind its regions, and its figures.

    A release without figures (before 1.23) is taken to hold all that it asked for. What is no figure counts as none.
    """
    given = told.get("asked")
    asked = [size for size in map(_figure, given) if size] if isinstance(given, list) else []
    in_use, total = _figure(told.get("in_use")), _figure(told.get("total"))
    if in_use is None or total is None:
        return Loaded(_figure(told.get("reserved")) or 0, tuple(asked), tuple(asked))
    reserved = max(total - (_figure(told.get("regions")) or 0), 0)
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
