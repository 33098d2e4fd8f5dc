"""A model in memory, for trying a contract, a golden set or a report without any process or file.

It applies the contract with the code that the child applies; only the isolation is missing, so it takes functions of
the caller and never a file. Needs numpy.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from changeover_registry.records.release import Contract, Port, Tile
from changeover_validators.runtimes.contract import ContractRunner
from changeover_validators.runtimes.geometry import Array
from changeover_validators.runtimes.interface import Inferred, Plane, Started

__all__ = ["FunctionModel", "InMemoryModel"]


class FunctionModel:
    """A loaded model made of a Python function: tensors in by name, tensors out by name."""

    def __init__(self, function: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
        self._function = function

    def run(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """One call."""
        return self._function(tensors)


class InMemoryModel:
    """Takes frames as `process.ModelProcess` does.

    Args:
        function: Tensors in by name, tensors out by name, NCHW.
        contract: How it is called.
        tile: The tiling.
        ports: The interface's inputs, as in `interface.RunRequest`.
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        contract: Contract,
        tile: Tile,
        ports: tuple[Port, ...] = (),
    ) -> None:
        self._runner = ContractRunner(FunctionModel(function), contract, tile, ports)

    @property
    def started(self) -> Started:
        """It runs on the CPU, in this process."""
        return Started("cpu", 0, "in-memory", "none")

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> Inferred:
        """The matte of one frame.

        Raises:
            InvalidInputError: A plane is missing or of a wrong shape.
            MeasurementError: The matte is not finite or of a wrong shape.
        """
        matte = self._runner.frame(planes, reset=reset)
        return Inferred(matte.values, matte.model_us)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
