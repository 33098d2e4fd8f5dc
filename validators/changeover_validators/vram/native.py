"""One session of onnxruntime that can be asked what it holds: the same release, defaults and plan as `runtimes.onnx`.

The Python module's sessions cannot be asked (see `runtimes.statistics`), so what a measurement runs is this one. The
arena of both grows alike, which a test holds against the module's own log.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.memory_plan import providers, register_arena, run_options, session_options
from changeover_validators.runtimes.statistics import ArenaStatistics, highest_total, logged_total, read_statistics
from changeover_validators.vram.native_runtime import NativeRuntime

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NativeSession"]

_Array: TypeAlias = "np.ndarray[Any, Any]"


class NativeSession:
    """One model under one plan, as a context manager.

    Args:
        model: The path of the file, or its bytes.
        plan: The settings; the default is the runtime's own.
        provider: ``cpu`` or ``cuda``; another one never runs in its place.
        threads: Threads inside one operator.
        shapes: The dims of the inputs by name; a plan that freezes needs them.
        limit_bytes: What the arena may hold; None is no limit.
        library: The library; None is that of this interpreter's wheel.
        keep_log: Whether the arena's own lines are kept, which `highest_total` reads.

    Attributes:
        version: The runtime's release.
        provider: The provider that runs it.

    Raises:
        UndecidedError: There is no library.
        MeasurementError: The library does not serve the provider.
        NativeError: Whatever the runtime refuses; `endings` knows its texts.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        plan: MemoryPlan | None = None,
        provider: str = "cpu",
        threads: int = 1,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        limit_bytes: int | None = None,
        library: Path | None = None,
        keep_log: bool = False,
    ) -> None:
        self._plan = MemoryPlan() if plan is None else plan
        self._runtime, self._runs = NativeRuntime(library, keep_log=keep_log), 0
        self.version, self.provider = self._runtime.api.version, provider
        source = model if isinstance(model, bytes) else str(model)
        try:
            arena = register_arena(self._runtime, self._plan, provider, limit_bytes)
            options = session_options(
                self._runtime,
                self._plan,
                provider=provider,
                threads=threads,
                shapes=shapes,
                model=source,
                arena=arena,
            )
            chosen = providers(self._plan, provider, limit_bytes)
            self._session = self._runtime.InferenceSession(source, options, providers=chosen)
        except BaseException:
            # An environment that stayed would keep its arena, and the next session would be given that.
            self._runtime.close()
            raise

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what it takes."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it answers."""
        return self._session.outputs

    def run(self, tensors: Mapping[str, _Array]) -> dict[str, _Array]:
        """All outputs by name, under the plan's settings for the run of this number.

        Raises:
            NativeError: Whatever the runtime refuses.
        """
        self._runs += 1
        options = run_options(self._runtime, self._plan, self._runs, self.provider)
        return self._session.run(tensors, options)

    def statistics(self, provider: str | None = None) -> ArenaStatistics | None:
        """The arena of `provider`, absent for the one that runs it; None where this release tells none (before 1.23).

        Raises:
            NativeError: The session has no memory on that device.
        """
        return read_statistics(self._runtime.api, self._session.pointer, provider or self.provider)

    def logged_total(self) -> int | None:
        """What the arena held after its last extension, by the log of releases that tell no statistics."""
        return logged_total("\n".join(self._runtime.log))

    def highest_total(self) -> int | None:
        """The most that the arena held since this was asked last, at the end of a run or inside of it.

        Statistics alone do not tell what a run took that ends by giving regions back. None as `statistics`.
        """
        now = self.statistics()
        lines, self._runtime.log[:] = tuple(self._runtime.log), []
        return None if now is None else max(now.total_allocated, highest_total(lines, self.provider))

    def close(self) -> None:
        """Release the session, its arena and the environment."""
        self._session.close()
        self._runtime.close()
