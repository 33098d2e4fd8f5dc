"""The contract, applied to the letter: from planes to tensors, through the model, and back to a matte.

The order is fixed, for another order is another result: channels are chosen; values that are not finite are treated
by the contract; tiles are cut; each is resized, then padded; then ``(value - mean) * scale``, the tensor's type (what
a half cannot hold becomes the largest half), NCHW. The output's channel is cropped, resized back, blended, and
clamped where the contract says so. A tile of fixed size is always handed over at that size: a smaller frame is padded
up to it.

Recurrent states belong to their tile. They go in as the model gave them for the frame before, and are forgotten on
`reset`, the first frame of a shot. A matte that is not finite is a failed measurement, never a matte.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_registry.records.release import Contract, Port, TensorIn, Tile
from changeover_validators.runtimes.geometry import Array, Box, blend_weights, boxes, fill, resize, round_up
from changeover_validators.runtimes.interface import port_channels, port_names

__all__ = ["ContractRunner", "Loaded", "Matte", "tensor_size"]


class Loaded(Protocol):
    """A model that was loaded: tensors in and out by name."""

    def run(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """One call. The tensors stand in the order of the contract: inputs, then states."""
        ...


@dataclass(frozen=True, slots=True)
class Matte:
    """One frame's matte, float32 [H, W], and the microseconds inside the model."""

    values: Array
    model_us: int


def tensor_size(contract: Contract, tile: Tile, height: int, width: int) -> tuple[int, int]:
    """The (height, width) of the tensors for one tile of a frame."""
    if contract.resize is not None:
        width, height = contract.resize
    elif tile.size:
        height = width = tile.size
    return round_up(height, contract.multiple), round_up(width, contract.multiple)


class ContractRunner:
    """Runs one model by its contract, frame after frame.

    Args:
        model: What runs the tensors.
        contract: How.
        tile: The tiling.
        ports: The interface's inputs, which fix the order of channels in the planes (see `interface.port_channels`).
    """

    def __init__(self, model: Loaded, contract: Contract, tile: Tile, ports: tuple[Port, ...] = ()) -> None:
        self._model, self._contract, self._tile = model, contract, tile
        self._channels = {port: port_channels(contract, port, ports) for port in port_names(contract)}
        self._states: dict[Box, dict[str, Array]] = {}
        self._warmed: dict[str, Array] = {}
        self._size: tuple[int, int] | None = None
        self._model_us = 0

    def frame(self, planes: Mapping[str, Array], *, reset: bool) -> Matte:
        """The matte of one frame.

        Args:
            planes: float32 [H, W, C] by port, in the contract's colour, channels as `port_channels` says.
            reset: This is the first frame of a shot.

        Raises:
            InvalidInputError: A plane is missing, or of another shape than its port or its fellows.
            MeasurementError: The matte is not finite or of a wrong shape, or the contract refuses the plate's values.
        """
        height, width = self._check(planes, reset=reset)
        self._model_us = 0
        clean = {port: self._finite(port, plane) for port, plane in planes.items() if port in self._channels}
        matte = self._blended(clean, boxes(height, width, self._tile.size, self._tile.overlap), (height, width))
        return Matte(np.clip(matte, 0, 1) if self._contract.output.rule == "clamp" else matte, self._model_us)

    def warm(self, height: int, width: int) -> int:
        """One run on the tensors of a tile of such a frame, all zeros, whose answer nobody sees; its microseconds.

        States go on from one such run to the next, since a second frame may have other shapes than a first one. The
        states of a shot are left alone.
        """
        padded = tensor_size(self._contract, self._tile, height, width)
        tensors: dict[str, Array] = {
            tensor.name: np.zeros((1, len(tensor.channels), *padded), tensor.dtype) for tensor in self._contract.inputs
        }
        states = self._contract.states
        before = {state.input: self._warmed.get(state.input) for state in states}
        tensors |= {
            state.input: np.zeros(state.shape, state.dtype) if (known := before[state.input]) is None else known
            for state in states
        }
        began = time.perf_counter_ns()
        outputs = self._model.run(tensors)
        took_us = (time.perf_counter_ns() - began) // 1000
        self._warmed = {state.input: outputs[state.output] for state in states if state.output in outputs}
        return took_us

    def _check(self, planes: Mapping[str, Array], *, reset: bool) -> tuple[int, int]:
        for port, channels in self._channels.items():
            if port not in planes:
                raise _bad_plane(port, "a plane", "none")
            shape = planes[port].shape
            if len(shape) != 3 or shape[2] != len(channels) or 0 in shape:
                raise _bad_plane(port, f"[H, W, {len(channels)}] for {', '.join(channels)}", str(list(shape)))
        sizes = {planes[port].shape[:2] for port in self._channels}
        if len(sizes) > 1:
            raise _bad_plane(", ".join(self._channels), "planes of one size", str(sorted(sizes)))
        size: tuple[int, int] = sizes.pop()
        if reset:
            self._states.clear()
        elif self._states and size != self._size:
            raise _bad_plane(", ".join(self._channels), f"{self._size} as in the frame before", str(size))
        self._size = size
        return size

    def _finite(self, port: str, plane: Array) -> Array:
        finite = np.isfinite(plane)
        if finite.all():
            return plane
        if self._contract.non_finite == "error":
            raise MeasurementError(
                "not finite",
                where=f"port {port}",
                expected="finite values, as the contract demands",
                actual=f"{finite.size - int(finite.sum())} of {finite.size} values that are NaN or infinite",
                remedy="repair the plate, or ask the vendor for a contract with non_finite = 'zero'",
            )
        return np.where(finite, plane, np.float32(0))

    def _blended(self, planes: Mapping[str, Array], tiles: tuple[Box, ...], size: tuple[int, int]) -> Array:
        if len(tiles) == 1:
            return self._one_tile(planes, tiles[0])
        total: Array = np.zeros(size, np.float32)
        weight: Array = np.zeros(size, np.float32)
        for box in tiles:
            share = blend_weights(box, self._tile.overlap)
            box.of(total)[...] += share * self._one_tile(planes, box)
            box.of(weight)[...] += share
        return total / weight

    def _one_tile(self, planes: Mapping[str, Array], box: Box) -> Array:
        contract = self._contract
        inner = (contract.resize[1], contract.resize[0]) if contract.resize else (box.height, box.width)
        padded = tensor_size(contract, self._tile, box.height, box.width)
        tensors = {
            tensor.name: self._tensor(tensor, box.of(planes[tensor.port]), inner, padded) for tensor in contract.inputs
        }
        output = self._call({**tensors, **self._states_of(box)}, box)
        matte = self._channel(output, padded)[: inner[0], : inner[1]]
        return resize(matte, box.height, box.width)

    def _tensor(self, tensor: TensorIn, plane: Array, inner: tuple[int, int], padded: tuple[int, int]) -> Array:
        """One tensor, NCHW: each channel is written where it belongs in one go, for a 4K plate is 106 MB."""
        order = [self._channels[tensor.port].index(name) for name in tensor.channels]
        image: Array = np.empty((1, len(order), *padded), np.float32)
        for index, place in enumerate(order):
            fill(image[0, index], resize(plane[..., place], *inner), self._contract.pad)
            if tensor.mean:
                image[0, index] -= np.float32(tensor.mean[index])
            if tensor.scale:
                image[0, index] *= np.float32(tensor.scale[index])
        if tensor.dtype == "float16":
            most = np.finfo(np.float16).max
            np.clip(image, -most, most, out=image)
        return image.astype(tensor.dtype, copy=False)

    def _states_of(self, box: Box) -> dict[str, Array]:
        known = self._states.get(box)
        if known is not None:
            return known
        return {state.input: np.zeros(state.shape, state.dtype) for state in self._contract.states}

    def _call(self, tensors: dict[str, Array], box: Box) -> Array:
        before = time.perf_counter_ns()
        outputs = self._model.run(tensors)
        self._model_us += (time.perf_counter_ns() - before) // 1000
        wanted = [self._contract.output.name, *(state.output for state in self._contract.states)]
        missing = [name for name in wanted if name not in outputs]
        if missing:
            raise _bad_output(missing[0], "an output of this name", f"outputs {', '.join(outputs)}")
        if self._contract.states:
            self._states[box] = {state.input: outputs[state.output] for state in self._contract.states}
        return outputs[self._contract.output.name]

    def _channel(self, output: Array, size: tuple[int, int]) -> Array:
        name, channel = self._contract.output.name, self._contract.output.channel
        if output.ndim != 4 or output.shape[0] != 1 or output.shape[1] <= channel or output.shape[2:] != size:
            expected = f"[1, more than {channel}, {size[0]}, {size[1]}]"
            raise _bad_output(name, expected, str(list(output.shape)))
        matte: Array = output[0, channel].astype(np.float32)
        bad = matte.size - int(np.isfinite(matte).sum())
        if bad:
            raise MeasurementError(
                "not finite",
                where=f"output {name}",
                expected="a matte of finite values",
                actual=f"{bad} of {matte.size} values that are NaN or infinite",
                remedy="do not use this release at this operating point; tell the vendor",
            )
        return matte


def _bad_plane(port: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "plane",
        where=f"port {port}",
        expected=expected,
        actual=actual,
        remedy="give the shot every input that the interface names, all of one size",
    )


def _bad_output(name: str, expected: str, actual: str) -> MeasurementError:
    return MeasurementError(
        "output",
        where=f"output {name}",
        expected=expected,
        actual=actual,
        remedy="tell the vendor: the contract does not describe the file",
    )
