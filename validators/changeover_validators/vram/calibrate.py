"""Constants of one (GPU, driver, runtime, version), measured with throw-away sessions in isolated children.

An Identity tells what the context takes; one convolution and one matrix product tell what the libraries behind them
add; the target at its smallest tile tells whether a real model loads more of them. Each is what the process holds of
the device without its arena. Scratch memory is told by single operators at two sizes: what was in use at once beyond
input, weights and output. Left out: which calibration a prediction uses (`calibrations`), and keeping it.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import Calibration, MemoryMeasurement, MemoryPlan, WorkspaceRate
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.vram.measure import Place, measure_memory
from changeover_validators.vram.small_nets import (
    CHANNELS,
    OPERATORS,
    Operator,
    identity,
    libraries,
    one_operator,
    small_contract,
    torch_nets,
)

__all__ = ["SIDES", "Subject", "beside_arena", "calibrate", "constants", "fitted"]

SIDES = (64, 256)
"""The sides of the inputs at which scratch memory is measured: a line needs two."""

_SMALL = 64
_EXACT = MemoryPlan(extend="same-as-requested", pattern=False)
"""Regions of exactly what is asked for, so that what is in use holds no slack of chunks."""

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """A real model at its smallest tile: how it is run, and the size of its tensors in pixels."""

    request: RunRequest
    width: int
    height: int


def calibrate(
    subject: Subject,
    place: Place,
    compute_capability: str,
    measure: Callable[[RunRequest, int, int, Place], MemoryMeasurement] = measure_memory,
) -> Calibration:
    """Measure the constants of the GPU, driver and runtime that `subject` runs on; takes some seconds for each session.

    Args:
        subject: A real model, at its smallest tile.
        place: Where and when.
        compute_capability: Of the GPU, ``major.minor``.
        measure: Measures one model.

    Raises:
        UndecidedError: Not run, or nobody tells what the process holds of the device.
        MeasurementError: As `measure_memory`.
    """
    request = subject.request
    with tempfile.TemporaryDirectory(prefix="changeover-calibrate-") as name:
        folder = Path(name)
        small = replace(request, folder=folder, contract=small_contract(), ports=(), memory_plan=MemoryPlan())
        suffix = _write(folder, request)
        first = measure(replace(small, entry=f"identity{suffix}"), _SMALL, _SMALL, place)
        second = measure(replace(small, entry=f"libraries{suffix}"), _SMALL, _SMALL, place)
        real = measure(request, subject.width, subject.height, place)
        context, loaded = constants(first, second, real)
        rates = _rates(small, place, measure) if request.runtime == "onnx" else ()
    key = second.key
    return Calibration(
        gpu=key.gpu or place.gpu or "none",
        compute_capability=compute_capability,
        driver=key.driver or place.driver or "none",
        runtime=key.runtime,
        version=key.version,
        made_at=place.made_at,
        context_bytes=context,
        libraries_bytes=loaded,
        workspaces=rates,
        source="measured: Identity, Conv and MatMul, the target at its smallest tile; operators at two sizes",
    )


def constants(first: MemoryMeasurement, second: MemoryMeasurement, real: MemoryMeasurement) -> tuple[int, int]:
    """Bytes of the context, and of the libraries beside it, from the three sessions in their order.

    Raises:
        UndecidedError: Nobody tells what a process holds of the device.
    """
    context = beside_arena(first)
    return context, max(beside_arena(second) - context, beside_arena(real) - context, 0)


def beside_arena(measured: MemoryMeasurement) -> int:
    """What a process held of the device, without its arena.

    Raises:
        UndecidedError: Nobody tells what it held.
    """
    whole = measured.process_bytes
    if isinstance(whole, Unknown):
        raise UndecidedError(
            "calibration",
            where=measured.key.gpu or measured.key.provider,
            expected="what the process holds of the device",
            actual=whole.unknown,
            remedy="calibrate on Linux, where the driver tells it, with nvidia-ml-py installed",
        )
    return max(whole - measured.steady.arena_bytes, 0)


def fitted(operator: str, extras: Mapping[int, int]) -> WorkspaceRate:
    """Scratch memory as a constant and bytes for a thousand output elements, never below what was measured.

    Args:
        operator: Its name.
        extras: At least two: output elements to the bytes that were in use beyond the tensors.
    """
    (few, least), (many, most) = min(extras.items()), max(extras.items())
    rate = max(-(-(most - least) * 1000 // (many - few)), 0)
    constant = max(0, *(extra - rate * count // 1000 for count, extra in extras.items()))
    return WorkspaceRate(operator=operator, constant_bytes=constant, per_thousand=rate)


def _write(folder: Path, request: RunRequest) -> str:
    """The two throw-away models in `folder`; returns how their names end."""
    if request.runtime == "torchscript":
        torch_nets(request.interpreter, folder)
        return ".pt"
    (folder / "identity.onnx").write_bytes(identity())
    (folder / "libraries.onnx").write_bytes(libraries())
    return ".onnx"


def _rates(
    small: RunRequest, place: Place, measure: Callable[[RunRequest, int, int, Place], MemoryMeasurement]
) -> tuple[WorkspaceRate, ...]:
    exact = replace(small, memory_plan=_EXACT)

    def extra(operator: Operator, side: int) -> int:
        entry = f"{operator.name}-{side}.onnx"
        (small.folder / entry).write_bytes(one_operator(operator, side))
        found = measure(replace(exact, entry=entry), side, side, place)
        return _beyond_tensors(found, operator, side)

    return tuple(_rate(operator, [(side, extra(operator, side)) for side in SIDES]) for operator in OPERATORS)


def _rate(operator: Operator, extras: Sequence[tuple[int, int]]) -> WorkspaceRate:
    return fitted(operator.name, {operator.elements(side): extra for side, extra in extras})


def _beyond_tensors(found: MemoryMeasurement, operator: Operator, side: int) -> int:
    """What was in use at once in a run beyond output, what was loaded, and on a GPU the input's copy there."""
    output = _FLOAT_BYTES * operator.elements(side)
    given = _FLOAT_BYTES * CHANNELS * side * side if found.key.provider == "cuda" else 0
    return max(found.first.in_use_bytes - found.loaded.in_use_bytes - output - given, 0)
