"""What a run takes of memory, predicted and measured, with all that the number belongs to; the settings that bound it.

A number of bytes never stands alone: it belongs to a `MemoryKey` (model, runtime and its version, provider, GPU and
driver, tensor size, plan), is a range over several sessions, and is split into parts that each say how they are known.
"""

from typing import ClassVar, Literal

from pydantic import Field

from changeover_registry.records.base import Decimal6, Digest, Record, Text, Time, Unknown, Value

__all__ = [
    "Calibration",
    "MemoryAnswer",
    "MemoryKey",
    "MemoryLabel",
    "MemoryMeasurement",
    "MemoryPart",
    "MemoryPlan",
    "MemoryRange",
    "PartName",
    "Steady",
    "WorkspaceRate",
]

MemoryLabel = Literal["measured", "calibrated", "modelled"]
PartName = Literal["context", "weights", "activations", "workspace", "fragmentation", "bound-io", "resting"]
_Bytes = Field(ge=0)


class MemoryPlan(Value):
    """Session and arena settings of one operating point at one tensor size; the defaults are the runtime's own.

    Attributes:
        extend: How the arena grows: by powers of two, or by exactly what is asked for.
        initial_chunk_bytes: The arena's first region, absent for the runtime's own (1 MiB).
        pattern: Whether the second run takes one block, laid out by what the first one asked for.
        shrink: When regions that hold nothing are given back: never, once after the two warm-up runs, after each run.
        freeze: Whether free dimensions are fixed at the tensor's size when the session is built.
        cudnn_search: How cuDNN chooses its algorithms; absent on the CPU.
        cudnn_max_workspace: Whether cuDNN may take all the workspace that it likes; absent on the CPU.
    """

    extend: Literal["next-power-of-two", "same-as-requested"] = "next-power-of-two"
    initial_chunk_bytes: int | None = Field(default=None, ge=256, le=2**31 - 1)
    pattern: bool = True
    shrink: Literal["never", "after-warm-up", "each-run"] = "never"
    freeze: bool = False
    cudnn_search: Literal["exhaustive", "heuristic", "default"] | None = None
    cudnn_max_workspace: bool | None = None


class MemoryKey(Value):
    """What a number of bytes belongs to. `model` is the sha256 of the entry file; the tensor is W by H pixels."""

    model: Digest
    runtime: Literal["onnxruntime", "torch"]
    version: Text
    provider: Literal["cpu", "cuda"]
    gpu: Text | None = None
    driver: Text | None = None
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    threads: int = Field(default=1, ge=1)
    plan: MemoryPlan = MemoryPlan()


class MemoryPart(Value):
    """One part of the whole, and how it is known."""

    name: PartName
    bytes: int = _Bytes
    label: MemoryLabel


class MemoryRange(Value):
    """The least and the most over `sessions` identical sessions, which may order their work differently.

    On a GPU whose workspaces nobody measured, the least is with what the runtime's own bound leaves them.
    """

    low_bytes: int = _Bytes
    high_bytes: int = _Bytes
    sessions: int = Field(ge=1)


class Steady(Value):
    """From the second run on: the most in use at once, and what the arena (torch: reserved) holds of the device."""

    in_use_bytes: int = _Bytes
    arena_bytes: int = _Bytes


class MemoryAnswer(Record):
    """A prediction. `steady` is the middle session's, `range` the arena's total; a budget compares the high end.

    `parts` without ``resting`` add up to `total_bytes`: what the process takes of the device at its most, at the
    range's high end. ``resting`` is what it keeps between frames, a share of the same bytes. `requested_bytes` is
    the most that tensors ask for at once, without the allocator; only this may be interpolated over sizes.
    """

    NAME: ClassVar[str] = "memory"

    key: MemoryKey
    steady: Steady
    range: MemoryRange
    parts: tuple[MemoryPart, ...]
    total_bytes: int = _Bytes
    requested_bytes: int = _Bytes
    label: MemoryLabel

    def part(self, name: PartName) -> int:
        """The bytes of one part; 0 where the answer has none."""
        return sum(part.bytes for part in self.parts if part.name == name)


class MemoryMeasurement(Record):
    """What a run in an isolated child really took, beside the prediction. Figures that cannot be had say why.

    `error` is (predicted - measured) / measured of the arena as a decimal.
    """

    NAME: ClassVar[str] = "memory-measurement"

    key: MemoryKey
    host: Text
    made_at: Time
    runs: int = Field(ge=1)
    loaded: Steady
    first: Steady
    steady: Steady
    resting_bytes: int = _Bytes
    process_bytes: int | Unknown
    """The child's share of the device by NVML (on the CPU its peak resident memory) over the warm-up and the runs."""
    accounted_bytes: int | Unknown
    """The driver's own record of the most that the process ever held."""
    predicted: MemoryAnswer | None = None
    error: Decimal6 | None = None
    frame_us: int | None = Field(default=None, ge=0)
    """Microseconds of the last run; one that is many times slower than another of the same key may have spilled."""
    shared_bytes: int | Unknown | None = None
    """What the process holds of the host's memory in the GPU's stead, where the system tells it (Windows)."""


class WorkspaceRate(Value):
    """Scratch memory of one operator: constant bytes, and bytes for a thousand output elements."""

    operator: Text
    constant_bytes: int = _Bytes
    per_thousand: int = _Bytes


class Calibration(Record):
    """Three constants of one (GPU, driver, runtime), from throw-away sessions in a child."""

    NAME: ClassVar[str] = "memory-calibration"

    gpu: Text
    compute_capability: Text
    driver: Text
    runtime: Literal["onnxruntime", "torch"]
    version: Text
    made_at: Time
    context_bytes: int = _Bytes
    libraries_bytes: int = _Bytes
    """What the first convolution and the first matrix product load beside the context."""
    workspaces: tuple[WorkspaceRate, ...] = ()
    source: Text
