"""The child that builds a session and runs none: it tells the graph that it would run, and what its arena then holds.

It speaks the pipe of `runtimes.child` in the same isolation and is started by `sessions`. Building folds constants,
which executes operators of the model, so it is done here and nowhere else. A session is asked for by ``session``; the
answer is the optimised model without its weights, and what the log of its arena tells of loading.
"""

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.child import Served, main
from changeover_validators.runtimes.frames import Frame
from changeover_validators.runtimes.limits import allow_cpu
from changeover_validators.runtimes.memory_plan import providers, register_arena, session_options
from changeover_validators.runtimes.statistics import read_statistics
from changeover_validators.vram.native_runtime import NativeInference, NativeRuntime

__all__ = ["Built"]

_WEIGHTS = "weights.bin"
_SMALL_BYTES = 1024
_KIB = 1024
_ASKED = re.compile(r"rounded_bytes:\s*(\d+)")
_REGION = re.compile(r"Extended allocation by (\d+)")
_RESERVED = re.compile(r"Reserving memory in BFCArena .*size: (\d+)")


class Built(Served):
    """One model file, of which a session is built on request.

    Raises:
        Exception: As `Served`.
    """

    def _load(self, head: Any) -> None:  # noqa: ANN401 - a JSON object
        before = time.perf_counter_ns()
        self._path = str(self._folder / head["entry"])
        self._provider = str(head["provider"])
        self._runtime = NativeRuntime(keep_log=True)
        self._resting_bytes = _resident()
        self.load_us = (time.perf_counter_ns() - before) // 1000

    def started(self) -> dict[str, Any]:
        """The answer to the first frame."""
        told = {"runtime_version": self._runtime.api.version, "provider_ran": self._provider}
        return {"kind": "started", "load_us": self.load_us, **told}

    def answer(self, frame: Frame) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        """One session, built as asked and closed again."""
        allow_cpu(self._seconds, self._threads)
        shapes = frame.head.get("shapes")
        fixed = None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()}
        told, data = self._session(fixed, standard=bool(frame.head["standard"]))
        return {"kind": "session", **told, "resident": self._resting_bytes}, [data]

    def _session(self, shapes: dict[str, tuple[int, ...]] | None, *, standard: bool) -> tuple[dict[str, Any], bytes]:
        """The figures and log lines of one session after it was built, and its optimised model.

        Its arena grows by just what is asked for, so that its log tells each request of loading.
        """
        runtime, plan = self._runtime, MemoryPlan(freeze=shapes is not None, extend="same-as-requested")
        arena = register_arena(runtime, plan, self._provider)
        options = session_options(
            runtime,
            plan,
            provider=self._provider,
            threads=self._threads,
            shapes=shapes,
            model=self._path,
            arena=arena,
        )
        if standard:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        with tempfile.TemporaryDirectory() as folder:
            target = _written_to(Path(folder), options)
            first = len(runtime.log)
            session = runtime.InferenceSession(self._path, options, providers=providers(plan, self._provider))
            try:
                return _figures(runtime, session, self._provider, first), target.read_bytes()
            finally:
                session.close()


def _written_to(folder: Path, options: Any) -> Path:  # noqa: ANN401 - the library's options
    """Have the session write its model into `folder`, without its weights."""
    target = folder / "optimised.onnx"
    with contextlib.suppress(OSError):
        # Where links cannot be made the weights are written and thrown away.
        (folder / _WEIGHTS).symlink_to(os.devnull)
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(_SMALL_BYTES)
    )
    return target


def _figures(runtime: NativeRuntime, session: NativeInference, provider: str, first: int) -> dict[str, Any]:
    """What the arena holds, None where this release tells no figures, and what the log tells of loading."""
    found, told = read_statistics(runtime.api, session.pointer, provider), "\n".join(runtime.log[first:])
    regions = [int(text) for text in _REGION.findall(told)]
    return {
        "in_use": None if found is None else found.in_use,
        "total": None if found is None else found.total_allocated,
        "asked": [int(text) for text in _ASKED.findall(told)][: len(regions)],
        "regions": sum(regions),
        "reserved": sum(int(text) for text in _RESERVED.findall(told)),
    }


def _resident() -> int:
    """The resident memory of this process before any session, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith("VmRSS:")), 0)


if __name__ == "__main__":
    main(Built)
