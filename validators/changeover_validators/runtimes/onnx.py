"""The onnxruntime adapter: runs in the child, loads no custom operators, never falls back to the CPU in silence."""

from collections.abc import Mapping

from changeover_registry.errors import MeasurementError
from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.geometry import Array
from changeover_validators.runtimes.interface import OWN_PLAN
from changeover_validators.runtimes.memory_plan import (
    PROVIDERS,
    providers,
    register_arena,
    run_options,
    session_options,
)
from changeover_validators.runtimes.placement import check_nodes, nodes_of

__all__ = ["OnnxModel", "check_provider"]

_ERRORS_ONLY = 3


class OnnxModel:
    """One ONNX file in one session.

    Args:
        path: The file; external data lies beside it.
        provider: ``cpu`` or ``cuda``; with ``cuda`` no node may run on the CPU.
        threads: Threads inside one operator; operators run one after another.
        plan: Session and arena settings; the default is the runtime's own.
        shapes: The dims of the contract's tensors, for a plan that freezes them.
        limit_bytes: The most that the arena may hold.

    Raises:
        InvalidInputError: The plan freezes and there are no `shapes`.
        MeasurementError: Another provider ran than the one that was asked for.
        UndecidedError: This release of onnxruntime cannot apply the plan.
        Exception: Whatever onnxruntime raises; `endings` knows its texts.
    """

    def __init__(
        self,
        path: str,
        provider: str,
        threads: int,
        plan: MemoryPlan = OWN_PLAN,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        self.runtime_version = str(onnxruntime.__version__)
        if provider == "cuda" and hasattr(onnxruntime, "preload_dlls"):  # pragma: gpu
            onnxruntime.preload_dlls()
        arena = register_arena(onnxruntime, plan, provider, limit_bytes)
        options = session_options(
            onnxruntime, plan, provider=provider, threads=threads, shapes=shapes, model=path, arena=arena
        )
        self._session = onnxruntime.InferenceSession(path, options, providers=providers(plan, provider, limit_bytes))
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.provider_ran = check_provider(provider, self._session.get_providers())
        if provider == "cuda":  # pragma: gpu
            check_nodes(PROVIDERS[provider], nodes_of(self._session))
        self._runtime, self._plan, self._runs = onnxruntime, plan, 0

    def run(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """All outputs by name."""
        self._runs += 1
        options = run_options(self._runtime, self._plan, self._runs, self.provider_ran)
        values = self._session.run(self._outputs, dict(tensors), options)
        return dict(zip(self._outputs, values, strict=True))


def check_provider(wanted: str, ran: list[str]) -> str:
    """The provider that runs the session, by our name.

    Raises:
        MeasurementError: It is not the one that was asked for; onnxruntime only warns of that.
    """
    if ran[:1] == [PROVIDERS[wanted]]:
        return wanted
    raise MeasurementError(
        "provider",
        where="onnxruntime",
        expected=PROVIDERS[wanted],
        actual=", ".join(ran) or "none",
        remedy="install a runtime and driver that serve this provider, or measure on another",
    )
