"""What scoring one golden shot gave: every frame's numbers, of candidate and current, filed by all they depend on.

So an unchanged pair is never scored twice. ``site/scores/<first two>/<key>/scores.json`` is byte-equal wherever and
however often it is made in one golden class; ``times.json`` beside it holds what is not.
"""

from typing import ClassVar, Literal

from pydantic import Field

from changeover_registry import canonical
from changeover_registry.records.base import Decimal6, Digest, Name, Record, RelativePath, Text, Value
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.verdict import NoiseFloor, OperatingPoint

__all__ = [
    "Curve",
    "NoiseRecord",
    "Picture",
    "ScoreKey",
    "ScoreTask",
    "ShotScores",
    "ShotTimes",
    "SubjectKey",
    "WorstFrame",
]


class SubjectKey(Value):
    """One who is scored, as far as the numbers depend on it: files in the order of the record, contract, point.

    `plan` has those settings of the memory plan that may change how a number is computed, where they are not the
    runtime's own: frozen shapes and what cuDNN may choose. How memory is held changes no number.
    """

    files: tuple[Digest, ...] = Field(min_length=1)
    contract: Digest
    point: OperatingPoint
    plan: MemoryPlan | None = None


class ScoreKey(Value):
    """All that a shot's numbers depend on. `metrics` names the version of the metrics' code and definitions."""

    shot: Digest
    candidate: SubjectKey
    current: SubjectKey | None = None
    threshold: Decimal6
    metrics: Text
    golden_class: Digest

    def digest(self) -> str:
        """The key under which the scores are filed."""
        return canonical.digest(canonical.dumps(self.model_dump(mode="json", exclude_none=True)))


class Curve(Value):
    """One metric of one subject: a value for each scored frame, None where it is not defined, and then why."""

    metric: Text
    subject: Literal["candidate", "current", "second"]
    values: tuple[Decimal6 | None, ...]
    why: Text | None = None


class WorstFrame(Value):
    """The frame on which the candidate lost most, and the pixel on it that is farthest from the truth.

    `x` counts to the right, `y` down; `difference` is candidate minus truth at that pixel.
    """

    frame: int
    x: int = Field(ge=0)
    y: int = Field(ge=0)
    difference: Decimal6


class Picture(Value):
    """A small picture of the worst frame, 8-bit PNG, beside the record."""

    kind: Literal["plate", "truth", "current", "candidate", "difference"]
    crop: bool = False
    """Whether it shows the surroundings of the worst pixel, pixel by pixel, and not the whole frame."""
    file: RelativePath
    sha256: Digest


class ShotScores(Record):
    """``scores.json``: the numbers of one shot. `frames` are the scored frames' numbers, in order."""

    NAME: ClassVar[str] = "shot-scores"

    key: ScoreKey
    set: Name
    shot: Name
    version: int = Field(ge=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    frames: tuple[int, ...] = Field(min_length=1)
    curves: tuple[Curve, ...]
    band_px: int | None = Field(default=None, ge=0)
    worst: WorstFrame
    pictures: tuple[Picture, ...] = ()
    provider_ran: Text
    runtime_version: Text
    sandbox: Literal["bubblewrap", "namespaces", "limits-only", "none"]
    replaced: int = Field(default=0, ge=0)
    """How many values of the plates were NaN or infinite and were replaced as the contract says."""


class ShotTimes(Record):
    """``times.json``: what differs from run to run. Times in microseconds, memory in bytes."""

    NAME: ClassVar[str] = "shot-times"

    host: Text
    candidate_us: tuple[int, ...]
    current_us: tuple[int, ...] = ()
    wall_us: int = Field(ge=0)
    stages_us: dict[str, int] = Field(default_factory=dict)
    """CPU time of each stage of the pipeline: decode, infer, score."""
    peak_ram_bytes: int | None = None
    scores: Digest | None = None
    """The digest of the ``scores.json`` that these times belong to: how damage to either is seen."""


class ScoreTask(Record):
    """One unit of work for any machine of the golden class: score one shot. Names things, holds no path.

    The memory plans are those under which candidate and current run; absent: the runtime's own settings.
    """

    NAME: ClassVar[str] = "score-task"

    key: Digest
    set: Name
    shot: Name
    version: int = Field(ge=1)
    shot_digest: Digest
    candidate: ReleaseRef
    candidate_point: OperatingPoint
    current: ReleaseRef | None = None
    current_point: OperatingPoint | None = None
    threshold: Decimal6
    golden_class: Digest
    golden_set: Digest
    candidate_plan: MemoryPlan | None = None
    current_plan: MemoryPlan | None = None


class NoiseRecord(Record):
    """``site/scores/noise/<golden class>.json``: the largest difference seen between two runs of one model here."""

    NAME: ClassVar[str] = "noise"

    golden_class: Digest
    runs: int = Field(ge=1)
    floors: tuple[NoiseFloor, ...]
