"""The smoke file: two small inputs, what came out where the release was made, and how far off is still the same.

It finds wrong bytes, a wrong contract, a broken runtime or a wrong provider within a second of installing. It does not
measure quality; that is the golden shots' task. Keys: ``input0.<port>`` float32 [H, W, C], ``output0`` float32 [H, W],
``input1.<port>``, ``output1`` (the next frame of the same shot, so states count), ``tolerance`` float64.

The tolerance is absolute on a matte from 0 to 1. fp32: 1e-3; other machines, libraries and graph optimisers move single
pixels by up to 1e-3 and no further. fp16: 2e-2; a half has steps of 1e-3 below 2, and some twenty layers of roundings
add up.
Swapped channels moved two real portrait nets by 0.72 and 0.98, a wrong scale by 0.96 and 1.0.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.release import Contract, Port, Tile
from changeover_validators.runtimes.contract import ContractRunner, Loaded
from changeover_validators.runtimes.geometry import Array, round_up
from changeover_validators.runtimes.interface import SMOKE_FILE, SmokeResult, port_channels, port_names

__all__ = [
    "Smoke",
    "Values",
    "default_tolerance",
    "make_smoke",
    "read_smoke",
    "run_smoke",
    "smoke_tile",
    "synthetic_planes",
    "values_of",
]

_BASE_HEIGHT, _BASE_WIDTH = 64, 96
_FRAMES = 2
_MOST_VALUES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a smoke file's mattes, over all frames; `flat` where each frame is the same everywhere."""

    lowest: float
    highest: float
    mean: float
    flat: bool


@dataclass(frozen=True, slots=True)
class Smoke:
    """What a smoke file holds: for each frame its planes and its matte, and the tolerance."""

    inputs: tuple[Mapping[str, Array], ...]
    outputs: tuple[Array, ...]
    tolerance: float


def default_tolerance(contract: Contract) -> float:
    """The absolute tolerance for a model of this precision; the module's text says why."""
    types = {tensor.dtype for tensor in contract.inputs} | {state.dtype for state in contract.states}
    return 2e-2 if "float16" in types else 1e-3


def smoke_tile(contract: Contract) -> Tile:
    """The tiling for smoke: the first that the contract allows, on every machine, so that results can be compared."""
    return contract.tiles[0]


def synthetic_planes(contract: Contract, seed: int, frame: int, ports: tuple[Port, ...] = ()) -> dict[str, Array]:
    """Deterministic planes by port: smooth waves, a bright disc with a hard edge that moves, values 0 to 1.

    Their size fits the contract: its fixed size, or multiples of what it pads to.
    """
    fitting = round_up(_BASE_WIDTH, contract.multiple), round_up(_BASE_HEIGHT, contract.multiple)
    width, height = contract.resize or fitting
    rng = np.random.default_rng(seed)
    return {
        port: np.stack([_channel(rng, height, width, frame) for _ in port_channels(contract, port, ports)], axis=-1)
        for port in port_names(contract)
    }


def make_smoke(model: Loaded, contract: Contract, seed: int, ports: tuple[Port, ...] = ()) -> bytes:
    """Run the model on the synthetic planes and answer the bytes of its smoke file.

    Raises:
        MeasurementError: The model answers nothing that is a matte.
    """
    runner = ContractRunner(model, contract, smoke_tile(contract), ports)
    arrays: dict[str, Array] = {"tolerance": np.float64(default_tolerance(contract))}  # type: ignore[dict-item]
    for frame in range(_FRAMES):
        planes = synthetic_planes(contract, seed, frame, ports)
        arrays |= {f"input{frame}.{port}": plane for port, plane in planes.items()}
        arrays[f"output{frame}"] = runner.frame(planes, reset=frame == 0).values
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_smoke(folder: Path, contract: Contract) -> Smoke:
    """The smoke file of a variant's folder.

    Raises:
        UndecidedError: There is none.
        InvalidInputError: It is no such file, or lacks a key, or holds values that are not finite.
    """
    path = folder / SMOKE_FILE
    if not path.is_file():
        raise UndecidedError(
            "smoke",
            where=SMOKE_FILE,
            expected="the variant's smoke file",
            actual="none, so it was not run",
            remedy="ask the vendor for a release with smoke files (changeover vendor smoke)",
        )
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return _parse(arrays, port_names(contract))
    except KeyError as error:
        raise _bad_smoke(str(error.args[0])) from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged file
        raise _bad_smoke(f"{type(error).__name__}: {error}") from error


def run_smoke(model: Loaded, contract: Contract, smoke: Smoke, ports: tuple[Port, ...] = ()) -> SmokeResult:
    """Run the recorded inputs and compare with the recorded outputs.

    Raises:
        InvalidInputError: The recorded planes do not fit the contract.
        MeasurementError: The model answers nothing that is a matte.
    """
    runner = ContractRunner(model, contract, smoke_tile(contract), ports)
    worst = 0.0
    for frame, (planes, expected) in enumerate(zip(smoke.inputs, smoke.outputs, strict=True)):
        matte = runner.frame(planes, reset=frame == 0).values
        if matte.shape != expected.shape:
            raise _bad_smoke(f"output{frame} of shape {expected.shape} for a matte of {matte.shape}")
        worst = max(worst, float(np.abs(matte - expected).max()))
    return SmokeResult(worst, smoke.tolerance, passed=worst <= smoke.tolerance)


def values_of(smoke: Smoke) -> Values:
    """What its mattes hold; frames that vary by no more than the tolerance are flat, for that is all smoke can tell."""
    together = np.concatenate([matte.ravel() for matte in smoke.outputs])
    flat = all(float(np.ptp(matte)) <= smoke.tolerance for matte in smoke.outputs)
    return Values(float(together.min()), float(together.max()), float(together.mean(dtype=np.float64)), flat)


def _parse(arrays: Mapping[str, Array], ports: tuple[str, ...]) -> Smoke:
    frames = range(_FRAMES)
    inputs = tuple({port: _floats(arrays[f"input{frame}.{port}"]) for port in ports} for frame in frames)
    outputs = tuple(_floats(arrays[f"output{frame}"]) for frame in frames)
    tolerance = float(arrays["tolerance"])
    if not 0 < tolerance < 1:
        message = f"a tolerance of {tolerance}"
        raise ValueError(message)
    return Smoke(inputs, outputs, tolerance)


def _floats(array: Array) -> Array:
    if array.dtype != np.float32 or array.size > _MOST_VALUES or not np.isfinite(array).all():
        message = f"an array of {array.dtype} {array.shape} that is not small, finite float32"
        raise ValueError(message)
    return array


def _channel(rng: np.random.Generator, height: int, width: int, frame: int) -> Array:
    down, across = np.mgrid[0:height, 0:width] / float(max(height, width))
    phase, turns, level = rng.random(), 1 + 3 * rng.random(), rng.random()
    wave = 0.5 + 0.25 * np.sin(2 * np.pi * (turns * across + phase)) * np.cos(2 * np.pi * turns * down)
    centre = 0.35 + 0.1 * frame
    disc = (across - centre) ** 2 + (down - 0.3) ** 2 < 0.04
    return np.where(disc, 0.5 + 0.5 * level, wave).astype(np.float32)


def _bad_smoke(actual: str) -> InvalidInputError:
    return InvalidInputError(
        "smoke file",
        where=SMOKE_FILE,
        expected="input0.<port>, output0, input1.<port>, output1 (finite float32) and tolerance, from 0 to 1",
        actual=actual,
        remedy="make it again with changeover vendor smoke",
    )
