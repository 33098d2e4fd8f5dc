"""Seconds a frame at the studio's plate sizes: candidate and current by turns, on one machine, on plates made here.

It is measured apart from scoring: golden shots are small, come from another machine's cache, and leave out the sizes
that a show works in. Each size begins with a frame that is not counted (caches, memory, a GPU's choice of kernels).
What counts is the time inside the model, so that our pipe and the isolation do not; the median, so that one hiccup does
not. It is bounded in frames and seconds, and says how many frames there were. Left out: what is slow (`checks.speed`).
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from changeover_registry.errors import MeasurementError
from changeover_registry.records.release import Contract, Port
from changeover_registry.records.verdict import SpeedPoint
from changeover_validators.runtimes.interface import Plane, port_channels, port_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bounds", "Timed", "TimedFrame", "TimedModel", "measure", "steadier", "synthetic_plane"]


class TimedFrame(Protocol):
    """What a model says of one frame."""

    @property
    def frame_us(self) -> int:
        """Microseconds inside the model."""
        ...


class TimedModel(Protocol):
    """A loaded model: an isolated process, or one in memory."""

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> TimedFrame:
        """One frame."""
        ...


class Timed(Protocol):
    """One who is timed: the loaded model, how it must be called, and the images that its interface takes."""

    @property
    def model(self) -> TimedModel:
        """The loaded model."""
        ...

    @property
    def contract(self) -> Contract:
        """How it is called."""
        ...

    @property
    def ports(self) -> tuple[Port, ...]:
        """The interface's inputs."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long measuring may take: `frames` of each model at one size, and `seconds` for all sizes together."""

    frames: int = 5
    seconds: float = 6.0


def measure(
    candidate: Timed,
    current: Timed | None,
    plates: Sequence[tuple[int, int]],
    bounds: Bounds = Bounds(),
    clock: Callable[[], float] = time.monotonic,
) -> tuple[SpeedPoint, ...]:
    """Time both models at each plate size.

    Args:
        candidate: The release being judged.
        current: The one in use, if there is one.
        plates: Sizes as (width, height) in pixels.
        bounds: At least one frame of each model is timed at each size, however long that takes.
        clock: Seconds that only rise; it decides when to stop and is no part of the result.

    Raises:
        MeasurementError: A model failed; names the plate size.
    """
    timed = (candidate,) if current is None else (candidate, current)
    share = bounds.seconds / max(1, len(plates))
    return tuple(_at(timed, width, height, Bounds(bounds.frames, share), clock) for width, height in plates)


def steadier(one: Sequence[SpeedPoint], other: Sequence[SpeedPoint]) -> tuple[SpeedPoint, ...]:
    """Of two measurements at the same sizes the one, at each size, in which the candidate is less behind.

    What else a machine does can make either model look slow, and a slow model is slow in both measurements.
    """
    return tuple(min(pair, key=_ratio) for pair in zip(one, other, strict=True))


def _ratio(point: SpeedPoint) -> float:
    return point.candidate_us / max(1, point.current_us or 1)


def synthetic_plane(width: int, height: int, channels: int) -> "NDArray[np.float32]":
    """A plate of slopes and grain, float32 [H, W, C] in 0..1, the same whenever it is asked for."""
    import numpy as np

    grain = np.random.default_rng(1).random((256, 256, channels), np.float32)
    rows, columns = -(-height // 256), -(-width // 256)
    plane = np.tile(grain, (rows, columns, 1))[:height, :width] * np.float32(0.25)
    plane += np.linspace(0, 0.5, width, dtype=np.float32)[None, :, None]
    plane += np.linspace(0, 0.25, height, dtype=np.float32)[:, None, None]
    return plane


def _at(timed: Sequence[Timed], width: int, height: int, bounds: Bounds, clock: Callable[[], float]) -> SpeedPoint:
    planes = [_planes(one, width, height) for one in timed]
    until = clock() + bounds.seconds
    first = _pair(timed, planes, range(len(timed)), width, height, reset=True)
    times: list[list[int]] = [[] for _ in timed]
    while len(times[0]) < bounds.frames and clock() < until:
        # By turns also in who goes first: the second finds the caches as the first left them.
        order = range(len(timed))[:: 1 if len(times[0]) % 2 else -1]
        for index, frame_us in _pair(timed, planes, order, width, height, reset=False).items():
            times[index].append(frame_us)
    # A model whose first frame alone takes all the time has nothing to warm up that would show beside it.
    medians = [int(statistics.median(found or [first[index]])) for index, found in enumerate(times)]
    return SpeedPoint(
        width=width,
        height=height,
        frames=max(1, len(times[0])),
        candidate_us=medians[0],
        current_us=medians[1] if len(medians) > 1 else None,
    )


def _pair(
    timed: Sequence[Timed],
    planes: Sequence[Mapping[str, Plane]],
    order: Sequence[int],
    width: int,
    height: int,
    *,
    reset: bool,
) -> dict[int, int]:
    """One frame of each, in that order; microseconds by place."""
    try:
        return {index: timed[index].model.infer(planes[index], reset=reset).frame_us for index in order}
    except MeasurementError as error:
        raise MeasurementError(
            error.rule,
            where=f"speed at {width} x {height}: {error.where}",
            expected=error.expected,
            actual=error.actual,
            remedy=error.remedy,
        ) from error


def _planes(one: Timed, width: int, height: int) -> dict[str, Plane]:
    return {
        port: synthetic_plane(width, height, len(port_channels(one.contract, port, one.ports)))
        for port in port_names(one.contract)
    }
