from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.contract import ContractRunner, tensor_size
from changeover_validators.runtimes.in_memory import FunctionModel, InMemoryModel
from changeover_validators.runtimes.interface import port_channels, port_names

WHOLE = Tile(size=0)


def contract_of(*inputs: TensorIn, **changes: Any) -> Contract:
    fields: dict[str, Any] = {
        "evaluation": "sequence",
        "inputs": inputs or (TensorIn(name="x", port="plate", channels=("R", "G", "B")),),
        "output": TensorOut(name="y", port="matte", rule="as-is"),
        "colour": "scene-linear",
    }
    return Contract(**(fields | changes))


class Seen:
    """A pointwise model (the first channel) that keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls.append({name: tensor.copy() for name, tensor in tensors.items()})
        return {"y": tensors["x"][:, :1]}


def run(contract: Contract, planes: Any, function: Callable[..., Any], tile: Tile = WHOLE, ports: Any = ()) -> Any:
    return ContractRunner(FunctionModel(function), contract, tile, ports).frame(planes, reset=True).values


def plate(height: int = 5, width: int = 7, channels: int = 3) -> Any:
    return np.random.default_rng(1).random((height, width, channels), np.float32)


def test_channels_go_in_the_order_of_the_tensor() -> None:
    seen, image = Seen(), plate()
    contract = contract_of(TensorIn(name="x", port="plate", channels=("B", "G", "R")))

    got = run(contract, {"plate": image}, seen)

    for y in range(5):
        for x in range(7):
            assert seen.calls[0]["x"][0, :, y, x].tolist() == [image[y, x, 2], image[y, x, 1], image[y, x, 0]]
    np.testing.assert_array_equal(got, image[..., 2])


def test_the_interface_decides_the_order_of_the_plane() -> None:
    seen, image = Seen(), plate(channels=4)
    ports = (Port(name="plate", channels=("A", "B", "G", "R"), colour="scene-linear"),)

    run(contract_of(TensorIn(name="x", port="plate", channels=("R", "A"))), {"plate": image}, seen, ports=ports)

    np.testing.assert_array_equal(seen.calls[0]["x"][0, 0], image[..., 3])
    np.testing.assert_array_equal(seen.calls[0]["x"][0, 1], image[..., 0])


def test_several_tensors_may_read_one_port_and_several_ports() -> None:
    seen = Seen()
    contract = contract_of(
        TensorIn(name="x", port="plate", channels=("B", "R")),
        TensorIn(name="a", port="plate", channels=("A",)),
        TensorIn(name="t", port="trimap", channels=("A",)),
    )
    image, trimap = plate(channels=3), plate(channels=1)

    run(contract, {"plate": image, "trimap": trimap, "unused": plate(2, 2)}, seen)

    assert port_names(contract) == ("plate", "trimap")
    assert port_channels(contract, "plate") == ("R", "B", "A")
    assert list(seen.calls[0]) == ["x", "a", "t"]
    np.testing.assert_array_equal(seen.calls[0]["a"][0, 0], image[..., 2])
    np.testing.assert_array_equal(seen.calls[0]["t"][0, 0], trimap[..., 0])


@pytest.mark.parametrize(
    ("taken", "order"),
    [
        (("B", "G", "R"), ("R", "G", "B")),
        (("rgba.alpha", "rgba.blue", "rgba.red"), ("rgba.red", "rgba.blue", "rgba.alpha")),
        (("depth", "G"), ("G", "depth")),
    ],
)
def test_without_an_interface_planes_are_red_green_blue_alpha_others(
    taken: tuple[str, ...], order: tuple[str, ...]
) -> None:
    contract = contract_of(TensorIn(name="x", port="plate", channels=taken))

    assert port_channels(contract, "plate") == order


def test_mean_is_taken_away_before_scale_is_applied() -> None:
    seen, image = Seen(), plate()
    tensor = TensorIn(
        name="x", port="plate", channels=("R", "G", "B"), mean=("0.5", "0.25", "-1"), scale=("2", "4", "0.5")
    )

    run(contract_of(tensor), {"plate": image}, seen)

    for channel, (mean, scale) in enumerate([(0.5, 2), (0.25, 4), (-1, 0.5)]):
        np.testing.assert_allclose(seen.calls[0]["x"][0, channel], (image[..., channel] - mean) * scale, atol=1e-6)


def test_padding_happens_before_mean_and_scale() -> None:
    seen = Seen()
    tensor = TensorIn(name="x", port="plate", channels=("R",), mean=("0.5",), scale=("2",))
    contract = contract_of(tensor, multiple=4, pad="zero")

    got = run(contract, {"plate": plate(5, 7, 1)}, seen)

    assert seen.calls[0]["x"].shape == (1, 1, 8, 8)
    assert seen.calls[0]["x"][0, 0, 7, 7] == -1
    assert got.shape == (5, 7)


@pytest.mark.parametrize("rule", ["zero", "reflect", "replicate"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (33, 5)])
def test_every_padding_gives_back_the_plates_size(rule: str, size: tuple[int, int]) -> None:
    contract = contract_of(multiple=16, pad=rule)
    image = plate(*size)

    got = run(contract, {"plate": image}, Seen())

    np.testing.assert_array_equal(got, image[..., 0])


def test_a_fixed_size_is_reached_and_left_by_resizing() -> None:
    seen, image = Seen(), np.full((6, 10, 3), 0.25, np.float32)

    got = run(contract_of(resize=(32, 20)), {"plate": image}, seen)

    assert seen.calls[0]["x"].shape == (1, 3, 20, 32)
    assert got.shape == (6, 10)
    np.testing.assert_allclose(got, 0.25, atol=1e-6)


def test_a_half_takes_what_it_can_hold_and_never_infinity() -> None:
    seen = Seen()
    tensor = TensorIn(name="x", port="plate", channels=("R",), dtype="float16")
    image = np.array([[[1e6], [-1e6], [0.1]]], np.float32)

    got = run(contract_of(tensor), {"plate": image}, seen)

    assert seen.calls[0]["x"].dtype == np.float16
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[65504, -65504, 0.1]], rtol=1e-3)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([(0, 0), (8, 0), (8, 3), (16, 5), (32, 15)]),
    st.sampled_from([1, 4, 7]),
)
@settings(deadline=None, max_examples=80)
def test_tiles_and_whole_frame_agree_for_a_pointwise_model(
    height: int, width: int, tile: tuple[int, int], multiple: int
) -> None:
    image = plate(height, width)
    contract = contract_of(multiple=multiple)

    got = run(contract, {"plate": image}, Seen(), Tile(size=tile[0], overlap=tile[1]))

    np.testing.assert_allclose(got, image[..., 0], atol=1e-6)


def test_every_tile_has_the_operating_points_size() -> None:
    seen = Seen()

    run(contract_of(), {"plate": plate(20, 100)}, seen, Tile(size=32, overlap=4))

    assert {call["x"].shape for call in seen.calls} == {(1, 3, 32, 32)}
    assert len(seen.calls) == 4


def test_neighbouring_tiles_are_blended_linearly() -> None:
    """The left tile answers 0, the right one 1: over the overlap of 4 pixels the matte rises in equal steps."""
    calls: list[int] = []

    def step(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(1)
        return {"y": np.full((1, 1, 16, 16), len(calls) - 1, np.float32)}

    got = run(contract_of(), {"plate": plate(16, 28)}, step, Tile(size=16, overlap=4))

    assert len(calls) == 2
    np.testing.assert_allclose(got[8], [0] * 12 + [0.2, 0.4, 0.6, 0.8] + [1] * 12, atol=1e-6)


def test_tensor_size_is_what_the_model_sees() -> None:
    assert tensor_size(contract_of(multiple=32), WHOLE, 1080, 1920) == (1088, 1920)
    assert tensor_size(contract_of(multiple=32), Tile(size=500, overlap=8), 1080, 1920) == (512, 512)
    assert tensor_size(contract_of(resize=(320, 240)), WHOLE, 1080, 1920) == (240, 320)


def counter(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    count = tensors["s"] + 1
    return {"y": np.zeros_like(tensors["x"][:, :1]) + count[..., :1, :1], "t": count}


def test_states_start_at_zero_go_on_and_are_reset() -> None:
    contract = contract_of(states=(State(input="s", output="t", shape=(1, 1, 2, 2), dtype="float16"),))
    runner = ContractRunner(FunctionModel(counter), contract, WHOLE)

    counts = [runner.frame({"plate": plate()}, reset=reset).values.mean() for reset in (True, False, False, True)]

    assert counts == [1, 2, 3, 1]


def test_every_tile_has_states_of_its_own() -> None:
    contract = contract_of(states=(State(input="s", output="t"),))
    runner = ContractRunner(FunctionModel(counter), contract, Tile(size=8, overlap=2))

    first = runner.frame({"plate": plate(20, 20)}, reset=True).values
    second = runner.frame({"plate": plate(20, 20)}, reset=False).values

    np.testing.assert_allclose(first, 1, atol=1e-6)
    np.testing.assert_allclose(second, 2, atol=1e-6)


def test_a_frame_of_another_size_within_a_shot_is_refused_and_after_a_reset_it_is_not() -> None:
    contract = contract_of(states=(State(input="s", output="t"),))
    runner = ContractRunner(FunctionModel(counter), contract, WHOLE)
    runner.frame({"plate": plate(5, 7)}, reset=True)

    with pytest.raises(InvalidInputError, match="as in the frame before"):
        runner.frame({"plate": plate(6, 7)}, reset=False)

    assert runner.frame({"plate": plate(6, 7)}, reset=True).values.mean() == 1


def test_the_output_rule_clamps_or_leaves() -> None:
    def wild(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"y": np.concatenate([tensors["x"][:, :1], tensors["x"][:, :1] * 4 - 2], axis=1)}

    image = np.array([[[0.0], [0.6], [1.0]]], np.float32)
    tensor = TensorIn(name="x", port="plate", channels=("R",))

    clamped = run(contract_of(tensor, output=TensorOut(name="y", port="m", channel=1)), {"plate": image}, wild)
    left = run(
        contract_of(tensor, output=TensorOut(name="y", port="m", channel=1, rule="as-is")), {"plate": image}, wild
    )

    np.testing.assert_allclose(clamped, [[0, 0.4, 1]], atol=1e-6)
    np.testing.assert_allclose(left, [[-2, 0.4, 2]], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_matte_with_one_value_that_is_not_finite_is_no_matte(value: float) -> None:
    def spoilt(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        out = tensors["x"][:, :1].copy()
        out[0, 0, 2, 3] = value
        return {"y": out}

    with pytest.raises(MeasurementError) as caught:
        run(contract_of(), {"plate": plate()}, spoilt)

    assert caught.value.rule == "not finite"
    assert caught.value.actual == "1 of 35 values that are NaN or infinite"


def test_a_plate_that_is_not_finite_is_treated_as_the_contract_says() -> None:
    image = plate()
    image[0, 0, 0], image[1, 1, 0] = np.nan, np.inf

    got = run(contract_of(non_finite="zero"), {"plate": image}, Seen())

    assert got[0, 0] == got[1, 1] == 0
    assert got[2, 2] == image[2, 2, 0]
    with pytest.raises(MeasurementError, match=r"2 of 105 values"):
        run(contract_of(non_finite="error"), {"plate": image}, Seen())


@pytest.mark.parametrize(
    ("planes", "said"),
    [
        ({}, "port plate: expected a plane, found none"),
        ({"plate": plate(5, 7, 4)}, r"expected \[H, W, 3\] for R, G, B, found \[5, 7, 4\]"),
        ({"plate": plate()[..., 0]}, r"found \[5, 7\]"),
        ({"plate": plate()[:0]}, r"found \[0, 7, 3\]"),
    ],
)
def test_a_plane_that_does_not_fit_is_refused(planes: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        run(contract_of(), planes, Seen())


def test_planes_of_different_sizes_are_refused() -> None:
    contract = contract_of(
        TensorIn(name="x", port="plate", channels=("R",)), TensorIn(name="t", port="trimap", channels=("A",))
    )

    with pytest.raises(InvalidInputError, match="planes of one size"):
        run(contract, {"plate": plate(5, 7, 1), "trimap": plate(5, 8, 1)}, Seen())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"z": np.zeros((1, 1, 5, 7))}, "expected an output of this name, found outputs z"),
        ({"y": np.zeros((1, 1, 5, 8))}, r"found \[1, 1, 5, 8\]"),
        ({"y": np.zeros((5, 7))}, r"found \[5, 7\]"),
        ({"y": np.zeros((2, 1, 5, 7))}, r"found \[2, 1, 5, 7\]"),
        ({"y": np.zeros((1, 0, 5, 7))}, r"expected \[1, more than 0, 5, 7\]"),
    ],
)
def test_an_output_that_the_contract_does_not_describe_is_named(answer: Any, said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        run(contract_of(), {"plate": plate()}, lambda _: answer)


def test_a_missing_state_is_named() -> None:
    contract = contract_of(states=(State(input="s", output="t"),))

    with pytest.raises(MeasurementError, match="output t: expected an output of this name"):
        run(contract, {"plate": plate()}, Seen())


def test_a_model_in_memory_takes_frames_like_a_process() -> None:
    with InMemoryModel(Seen(), contract_of(), WHOLE) as model:
        got = model.infer({"plate": plate()}, reset=True)

    assert model.started.sandbox == "none"
    np.testing.assert_array_equal(got.matte, plate()[..., 0])
