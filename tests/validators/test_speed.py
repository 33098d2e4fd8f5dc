from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import MeasurementError
from changeover_registry.records.release import Contract, Port, TensorIn, TensorOut, Tile
from changeover_registry.records.verdict import SpeedPoint
from changeover_validators.runtimes.in_memory import InMemoryModel
from changeover_validators.runtimes.interface import Inferred
from changeover_validators.speed import Bounds, measure, steadier, synthetic_plane

RGB = ("R", "G", "B")
PORTS = (Port(name="plate", channels=RGB, colour="scene-linear"),)
CONTRACT = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="x", port="plate", channels=RGB),),
    output=TensorOut(name="y", port="matte"),
    colour="srgb",
)


@dataclass
class Clock:
    """A clock that only the models move."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Scripted:
    """A model that takes as long as it is told to, frame by frame, and notes when it was asked."""

    name: str
    clock: Clock
    said: list[str]
    times_us: Iterator[int]
    resets: list[bool] = field(default_factory=list)

    def infer(self, planes: Mapping[str, Any], *, reset: bool) -> Inferred:
        height, width, _ = planes["plate"].shape
        self.said.append(f"{self.name} {width}x{height}")
        self.resets.append(reset)
        frame_us = next(self.times_us)
        self.clock.seconds += frame_us / 1e6
        return Inferred(np.zeros((height, width), np.float32), frame_us)


@dataclass(frozen=True)
class Subject:
    model: Any
    contract: Contract = CONTRACT
    ports: tuple[Port, ...] = PORTS


@dataclass
class Race:
    """Two scripted models on one clock."""

    clock: Clock = field(default_factory=Clock)
    said: list[str] = field(default_factory=list)

    def runner(self, name: str, times_us: Sequence[int]) -> Scripted:
        return Scripted(name, self.clock, self.said, iter(times_us))


@pytest.fixture
def race() -> Race:
    return Race()


def test_first_frame_warms_up_and_the_median_of_the_others_counts(race: Race) -> None:
    candidate = race.runner("candidate", [900, 30, 10, 20, 5000, 40])

    (point,) = measure(Subject(candidate), None, [(64, 32)], Bounds(frames=5), race.clock)

    assert (point.width, point.height, point.frames) == (64, 32, 5)
    assert (point.candidate_us, point.current_us) == (30, None)
    assert candidate.resets == [True, False, False, False, False, False]


def test_candidate_and_current_take_turns_also_in_who_goes_first(race: Race) -> None:
    candidate, current = race.runner("a", [7] * 4), race.runner("b", [9] * 4)

    (point,) = measure(Subject(candidate), Subject(current), [(8, 8)], Bounds(frames=3), race.clock)

    assert [said[0] for said in race.said] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert (point.candidate_us, point.current_us) == (7, 9)


def test_each_plate_size_is_measured_with_its_own_share_of_the_time(race: Race) -> None:
    candidate = race.runner("a", [1_000_000] * 100)

    points = measure(Subject(candidate), None, [(8, 4), (16, 8)], Bounds(frames=50, seconds=10), race.clock)

    assert [(p.width, p.height, p.frames) for p in points] == [(8, 4, 4), (16, 8, 4)]
    assert race.clock.seconds == pytest.approx(10)


def test_frame_that_alone_takes_longer_than_all_the_time_is_its_own_measurement(race: Race) -> None:
    candidate, current = race.runner("a", [60_000_000]), race.runner("b", [70_000_000])

    (point,) = measure(Subject(candidate), Subject(current), [(8, 4)], Bounds(frames=5, seconds=6), race.clock)

    assert (point.frames, point.candidate_us, point.current_us) == (1, 60_000_000, 70_000_000)


def test_model_that_fails_names_the_plate_size() -> None:
    def fails(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": np.full((1, 1, *tensors["x"].shape[2:]), np.nan, np.float32)}

    subject = Subject(InMemoryModel(fails, CONTRACT, Tile(size=0), PORTS))

    with pytest.raises(MeasurementError, match="speed at 32 x 16"):
        measure(subject, None, [(32, 16)])


def test_real_contract_gets_planes_of_its_own_channels() -> None:
    seen = []

    def red(tensors: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(tensors["x"].shape)
        return {"y": tensors["x"][:, :1]}

    (point,) = measure(Subject(InMemoryModel(red, CONTRACT, Tile(size=0), PORTS)), None, [(48, 20)], Bounds(frames=2))

    assert seen == [(1, 3, 20, 48)] * 3
    assert point.candidate_us >= 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 257), (512, 256)])
def test_synthetic_plate_is_the_same_each_time_and_within_range(width: int, height: int) -> None:
    plane = synthetic_plane(width, height, 3)

    assert plane.shape == (height, width, 3)
    assert plane.dtype == np.float32
    assert 0 <= plane.min() <= plane.max() <= 1
    assert np.array_equal(plane, synthetic_plane(width, height, 3))


def test_clock_that_stands_still_still_ends_after_the_frames(race: Race) -> None:
    candidate = race.runner("a", [0] * 10)

    (point,) = measure(Subject(candidate), None, [(8, 8)], Bounds(frames=2), lambda: 0.0)

    assert point.frames == 2


def test_of_two_measurements_each_size_counts_in_which_the_candidate_is_less_behind() -> None:
    def at(width: int, candidate: int, current: int | None) -> SpeedPoint:
        return SpeedPoint(width=width, height=8, frames=1, candidate_us=candidate, current_us=current)

    first, second = (at(8, 30, 10), at(16, 20, 20)), (at(8, 50, 40), at(16, 90, 10))

    assert steadier(first, second) == (second[0], first[1])
    assert steadier((at(8, 30, None),), (at(8, 20, None),)) == (at(8, 20, None),)
