"""The child that measures: loads one model, runs it on tensors of one size, and tells what it holds after each run.

It speaks the pipe of `runtimes.child` in the same isolation and is started by `measure`. ``figures`` tells what is held
now, ``run`` runs once and tells. An ONNX file is run by `native.NativeSession`, the only one that can be asked; torch
counts what its allocator on the GPU holds, and on the CPU nothing, which is an error and no zero.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from changeover_registry.errors import MeasurementError, UndecidedError
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract
from changeover_validators.runtimes.child import Served, main
from changeover_validators.runtimes.frames import Frame
from changeover_validators.runtimes.limits import allow_cpu
from changeover_validators.vram.native import NativeSession

__all__ = ["Measured", "synthetic_tensors"]

_STATUS = Path("/proc/self/status")
_KIB = 1024


class _Subject(Protocol):
    """A loaded model that counts, with its version and provider.

    `held` answers the most in use so far, the most that its allocator held since it was asked last, and what it holds.
    """

    version: str
    provider: str

    def run(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]: ...

    def held(self) -> tuple[int, int, int]: ...


class Measured(Served):
    """One loaded model and the tensors that it is run on.

    Raises:
        Exception: As `Served`.
    """

    def _load(self, head: Any) -> None:  # noqa: ANN401 - a JSON object
        path, provider = str(self._folder / head["entry"]), str(head["provider"])
        size = int(head["width"]), int(head["height"])
        self._tensors = synthetic_tensors(self._contract, *size)
        before = time.perf_counter_ns()
        self._subject = self._loaded(head, path, provider)
        self.load_us = (time.perf_counter_ns() - before) // 1000

    def started(self) -> dict[str, Any]:
        """The answer to the first frame."""
        told = {"runtime_version": self._subject.version, "provider_ran": self._subject.provider}
        return {"kind": "started", "load_us": self.load_us, **told}

    def answer(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        """What is held, after a run where one is asked for."""
        allow_cpu(self._seconds, self._threads)
        before = time.perf_counter_ns()
        if frame.head["kind"] == "run":
            self._run()
        run_us = (time.perf_counter_ns() - before) // 1000
        in_use, arena, now = self._subject.held()
        held = {"in_use": in_use, "arena": arena, "now": now}
        return {"kind": "figures", **held, "peak_rss": _peak_rss(), "run_us": run_us}, []

    def _run(self) -> None:
        """One frame of a shot: the states that come out go in with the next."""
        outputs = self._subject.run(self._tensors)
        missing = [state.output for state in self._contract.states if state.output not in outputs]
        if missing or self._contract.output.name not in outputs:
            raise _no_output(missing[0] if missing else self._contract.output.name, outputs)
        self._tensors |= {state.input: outputs[state.output] for state in self._contract.states}

    def _loaded(self, head: Any, path: str, provider: str) -> _Subject:  # noqa: ANN401 - as above
        if head["runtime"] == "onnx":
            plan, limit = MemoryPlan.model_validate_json(head["memory_plan"]), head.get("arena_limit_bytes")
            # States are left out: they change their shape after the first frame, so no plan may freeze them.
            shapes = {tensor.name: self._tensors[tensor.name].shape for tensor in self._contract.inputs}
            return _Onnx(path, provider, self._threads, plan, shapes, limit)
        return _Torch(path, provider, self._threads, self._contract)


class _Onnx:
    """A session of onnxruntime and its arena."""

    def __init__(
        self,
        path: str,
        provider: str,
        threads: int,
        plan: MemoryPlan,
        shapes: Mapping[str, tuple[int, ...]],
        limit_bytes: int | None,
    ) -> None:
        if provider == "cuda":  # pragma: gpu
            _preload()
        self._session = NativeSession(
            path,
            plan=plan,
            provider=provider,
            threads=threads,
            shapes=shapes,
            limit_bytes=limit_bytes,
            keep_log=True,
        )
        self.version, self.provider = self._session.version, self._session.provider

    def run(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._session.run(tensors)

    def held(self) -> tuple[int, int, int]:
        figures, highest = self._session.statistics(), self._session.highest_total()
        if figures is None or highest is None:
            raise UndecidedError(
                "runtime",
                where="onnxruntime",
                expected="a release that tells what its arena holds (1.23 or later)",
                actual=f"onnxruntime {self.version}",
                remedy="measure with a newer onnxruntime; an older one tells its arena in its log alone",
            )
        return figures.max_in_use, highest, figures.total_allocated


class _Torch:
    """A TorchScript archive and torch's caching allocator."""

    def __init__(self, path: str, provider: str, threads: int, contract: Contract) -> None:
        from changeover_validators.runtimes.torchscript import TorchScriptModel

        self._model = TorchScriptModel(path, provider, threads, contract)
        self.version, self.provider = self._model.runtime_version, self._model.provider_ran
        self._in_use = 0

    def run(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._model.run(tensors)

    def held(self) -> tuple[int, int, int]:
        if self.provider != "cuda":
            raise MeasurementError(
                "memory",
                where="torch",
                expected="counters of what its allocator holds",
                actual="none, since torch takes memory of the CPU straight from the system",
                remedy="measure it on a GPU; on the CPU the peak of the process's resident memory is all there is",
            )
        return self._counted()  # pragma: gpu

    def _counted(self) -> tuple[int, int, int]:  # pragma: gpu
        """Reserved, and not allocated, is what the device loses; its peak begins anew each time."""
        import torch

        in_use, most = int(torch.cuda.max_memory_allocated()), int(torch.cuda.max_memory_reserved())
        torch.cuda.reset_peak_memory_stats()
        self._in_use = max(self._in_use, in_use)
        return self._in_use, most, int(torch.cuda.memory_reserved())


def synthetic_tensors(contract: Contract, width: int, height: int) -> dict[str, Any]:
    """What a contract feeds for a tile of `width` by `height` pixels: waves from 0 to 1 [1, C, H, W], and empty states.

    Memory does not depend on what the values are; they are no constants, so that nothing can be folded away.
    """
    import numpy as np

    across, down = np.linspace(0, 7, width, dtype=np.float32), np.linspace(0, 5, height, dtype=np.float32)
    wave = 0.5 + 0.25 * (np.sin(across)[None, :] + np.cos(down)[:, None])
    tensors: dict[str, Any] = {
        tensor.name: np.repeat(wave[None, None], len(tensor.channels), axis=1).astype(tensor.dtype)
        for tensor in contract.inputs
    }
    return tensors | {state.input: np.zeros(state.shape, state.dtype) for state in contract.states}


def _preload() -> None:  # pragma: gpu
    """Have CUDA's own libraries found in their wheels, as the Python module does it for itself."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _peak_rss(status: Path = _STATUS) -> int | str:
    """The highest resident memory of this process in bytes, or why it is not known."""
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"this system has no {status}: {error.strerror}"
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * _KIB if found else f"{status} does not tell it"


def _no_output(name: str, outputs: Mapping[str, Any]) -> MeasurementError:
    return MeasurementError(
        "output",
        where=f"output {name}",
        expected="an output of this name",
        actual=f"outputs {', '.join(outputs)}",
        remedy="tell the vendor: the contract does not describe the file",
    )


if __name__ == "__main__":
    main(Measured)
