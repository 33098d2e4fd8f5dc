"""What the pipeline is given, and what it tells while it runs: values and protocols, without any work in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.release import Contract, Port
from changeover_registry.records.scores import ScoreKey
from changeover_validators.runtimes.interface import Started

__all__ = ["Inferred", "Infers", "Plane", "Progress", "ShotJob", "Subject"]

Plane: TypeAlias = NDArray[np.float32]


class Inferred(Protocol):
    """What a model makes of one frame: the matte, float32 [H, W], and the time it took in microseconds."""

    @property
    def matte(self) -> Plane:
        """The matte in the planes' size."""
        ...

    @property
    def frame_us(self) -> int:
        """Microseconds."""
        ...


class Infers(Protocol):
    """A loaded model. `planes` are float32 [H, W, C] by port, in the contract's colour; `reset` drops its states."""

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> Inferred:
        """The matte of one frame.

        Raises:
            MeasurementError: The model crashed, hung, ran out of memory or gave what is not finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One who is scored: the loaded model, how it must be called, the images that its interface takes, what runs it."""

    model: Infers
    contract: Contract
    ports: tuple[Port, ...]
    started: Started


@dataclass(frozen=True, slots=True)
class ShotJob:
    """One shot to score.

    Attributes:
        shot: Its record.
        folder: Where its files lie.
        key: What the result is filed under; its threshold is the masks'.
        candidate: The release being judged.
        current: The one in use, if there is one.
        host: This machine's name, for the times.
    """

    shot: GoldenShot
    folder: Path
    key: ScoreKey
    candidate: Subject
    current: Subject | None
    host: str

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Candidate, and current if there is one."""
        return (self.candidate,) if self.current is None else (self.candidate, self.current)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the work on a shot stands: `done` of `frames` went through the models, `frame` was the last one.

    `seconds_left` is what the rest takes at the pace so far.
    """

    shot: str
    frame: int
    done: int
    frames: int
    seconds_left: float
