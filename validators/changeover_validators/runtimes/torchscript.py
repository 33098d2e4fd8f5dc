"""The TorchScript adapter: a program, loaded and run in the isolated child only.

Tensors go in by position (the contract's inputs, then its states). A dictionary comes back by name; a tensor or a tuple
by position (the contract's output, then its states).
"""

from collections.abc import Mapping
from typing import Any

from changeover_registry.errors import MeasurementError
from changeover_registry.records.release import Contract
from changeover_validators.runtimes.geometry import Array

__all__ = ["TorchScriptModel"]


class TorchScriptModel:
    """One TorchScript archive.

    Args:
        path: The archive.
        provider: ``cpu`` or ``cuda``.
        threads: Threads inside one operator.
        contract: Names the outputs.

    Raises:
        MeasurementError: ``cuda`` was asked for and torch has none.
        Exception: Whatever torch raises; `endings` knows its texts.
    """

    def __init__(self, path: str, provider: str, threads: int, contract: Contract) -> None:
        import torch

        self.runtime_version = str(torch.__version__)
        self._torch, self._device = torch, torch.device(provider)
        if provider == "cuda" and not torch.cuda.is_available():
            raise MeasurementError(
                "provider",
                where="torch",
                expected="cuda",
                actual=f"torch {torch.__version__} without a usable GPU",
                remedy="install a torch and driver that serve this GPU, or measure on the CPU",
            )
        torch.set_num_threads(threads)
        self._names = [contract.output.name, *(state.output for state in contract.states)]
        self._module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            path, map_location=self._device
        )
        self._module.eval()
        self.provider_ran = provider

    def run(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """All outputs by name.

        Raises:
            MeasurementError: The matte was made elsewhere than on the device that was asked for; a script may move.
        """
        torch = self._torch
        with torch.inference_mode():
            given = [torch.from_numpy(tensor).to(self._device) for tensor in tensors.values()]
            answer = self._module(*given)
            named = self._named(answer)
            matte = named.get(self._names[0])
            if matte is not None and matte.device.type != self._device.type:
                raise _elsewhere(self._device.type, matte.device.type)
            return {name: value.cpu().numpy() for name, value in named.items()}

    def _named(self, answer: Any) -> dict[str, Any]:  # noqa: ANN401 - a script answers what it likes
        if isinstance(answer, dict):
            return {str(name): value for name, value in answer.items()}
        values = answer if isinstance(answer, (tuple, list)) else (answer,)
        return dict(zip(self._names, values, strict=False))


def _elsewhere(wanted: str, ran: str) -> MeasurementError:
    return MeasurementError(
        "provider",
        where="torch",
        expected=f"a matte that was made on {wanted}",
        actual=f"one from {ran}",
        remedy="tell the vendor: the script moves itself to another device",
    )
