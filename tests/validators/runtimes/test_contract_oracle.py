"""The whole contract against its definition, written down once more and slowly, one pixel at a time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.contract import ContractRunner
from changeover_validators.runtimes.geometry import pad_to
from changeover_validators.runtimes.in_memory import FunctionModel

PORTS = (Port(name="plate", channels=("R", "G", "B"), colour="scene-linear"),)
MEAN, SCALE = (0.5, -0.25), (2.0, 0.125)
NUMPYS_NAME = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}


def contract_of(**changes: Any) -> Contract:
    fields: dict[str, Any] = {
        "evaluation": "sequence",
        "inputs": (
            TensorIn(
                name="x", port="plate", channels=("B", "R"), mean=tuple(map(str, MEAN)), scale=tuple(map(str, SCALE))
            ),
        ),
        "output": TensorOut(name="y", port="matte", channel=1, rule="as-is"),
        "colour": "scene-linear",
    }
    return Contract(**(fields | changes))


def model(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """No pointwise model: each pixel hears of its place in the tensor, and of its neighbours."""
    x = tensors["x"]
    down, across = np.mgrid[0 : x.shape[2], 0 : x.shape[3]].astype(np.float32)
    y = x[:, :1] * 0.5 + np.roll(x[:, 1:], 1, axis=3) * 0.25 + down * 0.01 + across * 0.001
    return {"y": np.concatenate([x[:, :1], y], axis=1)}


def at(image: Any, y: float, x: float) -> Any:
    """The bilinear value at a place between pixels, borders held."""
    rows, columns = image.shape[:2]
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
    lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def resized(image: Any, height: int, width: int) -> Any:
    rows, columns = image.shape[:2]
    return np.array([
        [at(image, (y + 0.5) * rows / height - 0.5, (x + 0.5) * columns / width - 0.5) for x in range(width)]
        for y in range(height)
    ])  # fmt: skip


def padded(image: Any, height: int, width: int, rule: str) -> Any:
    """By numpy's own padding, which knows no reflection of a single pixel and repeats that one."""
    name = NUMPYS_NAME[rule]
    for axis, wanted in ((0, height), (1, width)):
        lone = name == "reflect" and image.shape[axis] == 1
        widths = [(0, 0)] * image.ndim
        widths[axis] = (0, wanted - image.shape[axis])
        image = np.pad(image, widths, mode="edge" if lone else name)  # type: ignore[call-overload]
    return image


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin: every size - overlap, and the last flush with the end."""
    found, here = [], 0
    while here + size < length:
        found.append(here)
        here += size - overlap
    return [*found, max(length - size, 0)]


def by_definition(image: Any, contract: Contract, tile: Tile) -> Any:
    """The matte of an RGB plate, one tile and one pixel after another."""
    height, width = image.shape[:2]
    side_y, side_x = (tile.size or height), (tile.size or width)
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    for top in starts(height, side_y, tile.overlap):
        for left in starts(width, side_x, tile.overlap):
            part = image[top : top + side_y, left : left + side_x]
            answer = tile_answer(part, contract, tile)
            for y in range(part.shape[0]):
                for x in range(part.shape[1]):
                    edge_y, edge_x = min(y, part.shape[0] - 1 - y) + 1, min(x, part.shape[1] - 1 - x) + 1
                    share = min(edge_y, tile.overlap + 1) * min(edge_x, tile.overlap + 1)
                    total[top + y, left + x] += share * answer[y, x]
                    weight[top + y, left + x] += share
    return total / weight


def tile_answer(part: Any, contract: Contract, tile: Tile) -> Any:
    inner = part.shape[:2] if contract.resize is None else (contract.resize[1], contract.resize[0])
    outer = inner if contract.resize is not None or not tile.size else (tile.size, tile.size)
    height, width = (-(-side // contract.multiple) * contract.multiple for side in outer)
    tensor = padded(resized(part[..., [2, 0]].astype(np.float64), *inner), height, width, contract.pad)
    tensor = (tensor - MEAN) * SCALE
    answer = model({"x": tensor.transpose(2, 0, 1)[None]})["y"][0, 1]
    return resized(answer[: inner[0], : inner[1]], *part.shape[:2])


@given(
    size=st.tuples(st.integers(1, 26), st.integers(1, 26)),
    tile=st.sampled_from([(0, 0), (8, 0), (8, 3), (16, 7)]),
    multiple=st.sampled_from([1, 4, 7]),
    pad=st.sampled_from(["zero", "reflect", "replicate"]),
    resize=st.sampled_from([None, (9, 14), (20, 6)]),
)
@settings(deadline=None, max_examples=60)
def test_a_matte_is_what_the_contract_defines_pixel_by_pixel(
    size: tuple[int, int], tile: tuple[int, int], multiple: int, pad: str, resize: tuple[int, int] | None
) -> None:
    image = np.random.default_rng(7).random((*size, 3), np.float32)
    contract = contract_of(multiple=multiple, pad=pad, resize=resize)
    tiling = Tile(size=tile[0], overlap=tile[1])

    got = ContractRunner(FunctionModel(model), contract, tiling, PORTS).frame({"plate": image}, reset=True).values

    np.testing.assert_allclose(got, by_definition(image, contract, tiling), atol=2e-5)
    assert got.dtype == np.float32


@pytest.mark.parametrize("rule", ["zero", "reflect", "replicate"])
@given(rows=st.integers(2, 9), columns=st.integers(2, 9), down=st.integers(0, 30), right=st.integers(0, 30))
@settings(deadline=None, max_examples=25)
def test_each_padding_is_numpys_of_that_name(rule: str, rows: int, columns: int, down: int, right: int) -> None:
    image = np.random.default_rng(3).random((rows, columns, 2), np.float32)

    got = pad_to(image, rows + down, columns + right, rule)

    np.testing.assert_array_equal(got, padded(image, rows + down, columns + right, rule))


@given(
    shots=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    tile=st.sampled_from([(0, 0), (8, 3)]),
    gain=st.integers(1, 3),
)
@settings(deadline=None, max_examples=25)
def test_states_go_in_as_they_came_out_frame_by_frame_and_shot_by_shot(
    shots: list[int], tile: tuple[int, int], gain: int
) -> None:
    """The state is a number in base 4 that takes in each frame's own digit, so a lost or repeated one would show."""

    def remembering(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        digit = tensors["x"][0, 0, 0, 0]
        after = tensors["s"] * 4 + digit
        return {"y": np.zeros_like(tensors["x"][:, :1]) + after, "t": after}

    contract = contract_of(
        inputs=(TensorIn(name="x", port="plate", channels=("R",)),),
        output=TensorOut(name="y", port="matte", rule="as-is"),
        states=(State(input="s", output="t"),),
    )
    runner = ContractRunner(FunctionModel(remembering), contract, Tile(size=tile[0], overlap=tile[1]))

    for frames in shots:
        expected = 0
        for frame in range(frames):
            digit = 1 + (frame * gain) % 3
            expected = expected * 4 + digit
            plate = np.full((12, 12, 1), digit, np.float32)

            got = runner.frame({"plate": plate}, reset=frame == 0).values

            np.testing.assert_allclose(got, expected, rtol=1e-6)
