"""The onnxruntime adapter: runs in the child, loads no custom operators, never falls back to the CPU in silence."""

from collections.abc import Mapping
from typing import Any

from changeover_registry.errors import MeasurementError
from changeover_validators.runtimes.geometry import Array

__all__ = ["OnnxModel", "check_provider"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3


class OnnxModel:
    """One ONNX file in one session.

    Args:
        path: The file; external data lies beside it.
        provider: ``cpu`` or ``cuda``; with ``cuda`` no node may run on the CPU.
        threads: Threads inside one operator; operators run one after another.

    Raises:
        MeasurementError: Another provider ran than the one that was asked for.
        Exception: Whatever onnxruntime raises; `endings` knows its texts.
    """

    def __init__(self, path: str, provider: str, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        self.runtime_version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if provider == "cuda":  # pragma: gpu
            _prepare_cuda(onnxruntime, options)
        self._session = onnxruntime.InferenceSession(path, options, providers=[_PROVIDERS[provider]])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.provider_ran = check_provider(provider, self._session.get_providers())

    def run(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """All outputs by name."""
        values = self._session.run(self._outputs, dict(tensors))
        return dict(zip(self._outputs, values, strict=True))


def check_provider(wanted: str, ran: list[str]) -> str:
    """The provider that runs the session, by our name.

    Raises:
        MeasurementError: It is not the one that was asked for; onnxruntime only warns of that.
    """
    if ran[:1] == [_PROVIDERS[wanted]]:
        return wanted
    raise MeasurementError(
        "provider",
        where="onnxruntime",
        expected=_PROVIDERS[wanted],
        actual=", ".join(ran) or "none",
        remedy="install a runtime and driver that serve this provider, or measure on another",
    )


def _prepare_cuda(onnxruntime: Any, options: Any) -> None:  # pragma: gpu  # noqa: ANN401 - onnxruntime has no types
    """Without this option a missing CUDA provider ends in a warning and a run on the CPU."""
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
