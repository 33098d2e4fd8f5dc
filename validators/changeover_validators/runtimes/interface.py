"""What a caller hands to a runtime and gets from it: frozen values, importable without numpy.

Planes are float32 arrays [H, W, C] keyed by the name of the port, already in the contract's colour. Their channels
stand in the order that `port_channels` answers: the interface's where the request names its ports, else red, green,
blue, alpha and then whatever else the contract's tensors take of that port.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract, Port, Tile

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "OWN_PLAN",
    "PROTOCOL",
    "SMOKE_FILE",
    "Inferred",
    "Model",
    "Plane",
    "Process",
    "RunRequest",
    "SandboxName",
    "SmokeResult",
    "Started",
    "port_channels",
    "port_names",
]

Plane: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"
SandboxName = Literal["bubblewrap", "namespaces", "limits-only", "none"]

PROTOCOL = 4
"""The pipe's version; parent and child must agree, for the interpreter may hold another Changeover."""

OWN_PLAN = MemoryPlan()
"""The runtime's own settings."""

SMOKE_FILE = "smoke.npz"
"""The name of the smoke file in a variant's folder."""

_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One model at one operating point.

    Attributes:
        interpreter: The Python that holds the runtime; trusted, named by the machine's owner.
        folder: The variant's folder; the child sees it read-only and nothing else of the site or store.
        entry: The model file, relative to `folder`.
        runtime: ``onnx``, ``torchscript`` or ``nuke-cat`` (which only Nuke can run).
        contract: How the model must be called.
        tile: The tiling of this operating point.
        provider: ``cpu`` or ``cuda``.
        sandbox: ``required``, or ``limits-only`` by name of the policy.
        wall_seconds: The longest that one answer may take (loading, one frame, one smoke).
        ram_mib: The most resident memory that the child may have.
        threads: Threads inside one operator.
        ports: The interface's inputs, which fix the order of channels in the planes.
        memory_plan: Session and arena settings, of onnxruntime only; the default is the runtime's own.
        arena_limit_bytes: The most that onnxruntime's arena may hold, as a smaller card would; None is no bound.
        gpu: The UUID of the GPU or instance that the child sees alone; None leaves that to the outer environment.
    """

    interpreter: str
    folder: Path
    entry: str
    runtime: str
    contract: Contract
    tile: Tile
    provider: str
    sandbox: str
    wall_seconds: float
    ram_mib: int
    threads: int = 1
    ports: tuple[Port, ...] = ()
    memory_plan: MemoryPlan = OWN_PLAN
    arena_limit_bytes: int | None = None
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A model that is loaded: what really runs it.

    Attributes:
        provider_ran: The provider that the runtime says it uses.
        load_us: Microseconds for loading the file, without imports.
        runtime_version: As the runtime names it.
        sandbox: The isolation.
        start_us: Microseconds from starting the child until it could begin to load: isolation, interpreter, imports.
    """

    provider_ran: str
    load_us: int
    runtime_version: str
    sandbox: SandboxName
    start_us: int = 0

    @property
    def first_load_us(self) -> int:
        """Microseconds from nothing to a model that takes frames: what a user waits for the first time."""
        return self.start_us + self.load_us


@dataclass(frozen=True, slots=True)
class Inferred:
    """One frame: matte float32 [H, W], and the time inside the model in microseconds (all tiles, no pre-processing)."""

    matte: Plane
    frame_us: int


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """The worst absolute difference from the recorded outputs, against the recorded tolerance."""

    worst: float
    tolerance: float
    passed: bool


class Model(Protocol):
    """A loaded model that takes frames: the isolated process, or one in memory for trying things."""

    @property
    def started(self) -> Started:
        """What runs the model."""
        ...

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> Inferred:
        """The matte of one frame; `reset` forgets the states of the shot before."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Process(Model, Protocol):
    """A model in a process of its own: in the isolated child, or in Nuke."""

    @property
    def peak_rss_bytes(self) -> int:
        """The highest resident memory so far, in bytes; 0 where it is not told."""
        ...

    @property
    def compile_us(self) -> int:
        """Microseconds that the first run of all took beyond those after it; 0 where it is not told."""
        ...

    def smoke(self) -> SmokeResult:
        """Run the variant's ``smoke.npz`` and compare."""
        ...


def port_names(contract: Contract) -> tuple[str, ...]:
    """The ports that the contract reads, each once, in the order of its tensors."""
    return tuple(dict.fromkeys(tensor.port for tensor in contract.inputs))


def port_channels(contract: Contract, port: str, ports: tuple[Port, ...] = ()) -> tuple[str, ...]:
    """The order of channels in the plane of `port`.

    It is the interface's where `ports` has the port; else the channels that the contract takes of it, in the order red,
    green, blue, alpha, others, so that a model that wants BGR is still handed an RGB plate.
    """
    for known in ports:
        if known.name == port:
            return known.channels
    taken = [name for tensor in contract.inputs if tensor.port == port for name in tensor.channels]
    return tuple(sorted(dict.fromkeys(taken), key=_colour_rank))


def _colour_rank(channel: str) -> int:
    return _COLOURS.get(channel.rpartition(".")[2].lower(), len(_COLOURS))
