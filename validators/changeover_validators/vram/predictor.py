"""What answers how much memory a model takes: one interface for sessions of onnxruntime and for traces of torch.

A predictor belongs to one model file, one contract and one target. What this leaves out: budgets (`checks/vram.py`),
the search for tiles (`solve`) and for plans (`plans`).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from changeover_registry.records.memory import Calibration, MemoryAnswer, MemoryPlan

__all__ = ["SESSIONS", "Predictor", "Target"]

SESSIONS = 5
"""How many identical sessions an answer is a range over: the order of work may differ from one to the next."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model would run.

    Attributes:
        runtime: ``onnxruntime`` or ``torch``.
        version: The runtime's version there, such as ``1.31.1`` or ``2.1.1``.
        provider: ``cpu`` or ``cuda``.
        gpu: The GPU's product name; None on the CPU.
        driver: The GPU driver's version.
        threads: Threads inside one operator.
        interpreter: A Python here that holds the runtime (best of the same version), which builds the sessions in
            isolation; None where there is none, and then only the file is read.
        calibration: Constants measured on such a GPU with that driver and runtime; None where there are none.
        context_bytes: What the policy holds for the context where no calibration tells.
    """

    runtime: Literal["onnxruntime", "torch"]
    version: str
    provider: Literal["cpu", "cuda"]
    gpu: str | None = None
    driver: str | None = None
    threads: int = 1
    interpreter: str | None = None
    calibration: Calibration | None = None
    context_bytes: int = 0


class Predictor(Protocol):
    """Answers for one model at one target; keeps what it built, so asking again costs only arithmetic."""

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        """The memory of one call with tensors of `width` by `height` pixels (already padded or resized) under `plan`.

        Raises:
            InvalidInputError: Not a model, or the contract feeds what the graph does not take.
            UndecidedError: The sizes do not follow from the inputs, or there is no evidence (a trace, a session).
        """
        ...

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        """Whether every session runs with an arena (torch: a process' share) that may not grow over `limit_bytes`."""
        ...
