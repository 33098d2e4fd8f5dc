"""The verdict: all findings of one candidate, a record that is signed (DSSE) and filed under its envelope's digest."""

from typing import ClassVar, Literal

from pydantic import Field

from changeover_registry.records.base import Decimal6, Digest, Name, Record, Text, Time, Value
from changeover_registry.records.findings import Finding
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan, Steady
from changeover_registry.records.release import ReleaseRef, Tile

__all__ = [
    "CurvePoint",
    "Decision",
    "GoldenSetRef",
    "MetricSummary",
    "NoiseFloor",
    "OperatingPoint",
    "PointReport",
    "ScoresRef",
    "ShotScore",
    "SignOff",
    "SpeedPoint",
    "Verdict",
]

Decision = Literal["accept", "reject", "inconclusive", "error"]


class OperatingPoint(Value):
    """What VRAM, speed and golden findings belong to: variant, precision, tile with overlap, provider."""

    variant: Text
    precision: Literal["fp32", "fp16"]
    tile: Tile
    provider: Text

    def __str__(self) -> str:
        """``onnx-fp32/none/cpu``."""
        return f"{self.variant}/{self.tile}/{self.provider}"


class CurvePoint(Value):
    """Predicted steady memory in bytes at one plate size in pixels: the high end of the range, and the low one.

    `requested_bytes` is without the allocator; only that may be interpolated.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    bytes: int = Field(ge=0)
    low_bytes: int | None = Field(default=None, ge=0)
    requested_bytes: int | None = Field(default=None, ge=0)


class GoldenSetRef(Value):
    """A golden set as it was: name, version, digest of its record."""

    name: Name
    version: int = Field(ge=1)
    digest: Digest


class ShotScore(Value):
    """One metric of one shot: mean over its scored frames, of candidate and (if any) current.

    `window_loss` is by how much the candidate's mean lies behind the current one's over the worst run of frames as long
    as the policy says (positive is worse), `window_first` that run's first frame. `band_px` is the width of the band
    around the truth's edge, where the metric looks only there.
    """

    shot: Name
    metric: Text
    frames: int = Field(ge=1)
    candidate: Decimal6
    current: Decimal6 | None = None
    window_loss: Decimal6 | None = None
    window_first: int | None = None
    band_px: int | None = Field(default=None, ge=0)


class ScoresRef(Value):
    """Where a shot's scores lie: the key under ``site/scores``, and the digest of the record there."""

    shot: Name
    key: Digest
    digest: Digest


class NoiseFloor(Value):
    """How far one model's shot means lie apart when it runs twice here: the largest difference of one metric."""

    metric: Text
    difference: Decimal6


class SpeedPoint(Value):
    """Median microseconds a frame at one plate size in pixels, measured by turns on one host."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    frames: int = Field(ge=1)
    candidate_us: int = Field(ge=0)
    current_us: int | None = Field(default=None, ge=0)


class MetricSummary(Value):
    """One gated metric over the shots: mean difference (positive is better) and its one-sided 95 % bounds."""

    metric: Text
    shots: int
    margin: Decimal6
    mean: Decimal6
    lower: Decimal6 | None = None
    upper: Decimal6 | None = None


class PointReport(Value):
    """What was found for one operating point. Times in microseconds a frame, sizes in bytes."""

    point: OperatingPoint
    golden_class: Digest | None = None
    memory: tuple[CurvePoint, ...] = ()
    memory_label: Literal["measured", "calibrated", "modelled"] = "modelled"
    frame_us: int | None = None
    current_frame_us: int | None = None
    load_us: int | None = None
    provider_ran: str | None = None
    scores: tuple[ShotScore, ...] = ()
    metrics: tuple[MetricSummary, ...] = ()
    findings: tuple[Finding, ...] = ()
    scored: tuple[ScoresRef, ...] | None = None
    noise: tuple[NoiseFloor, ...] | None = None
    speeds: tuple[SpeedPoint, ...] | None = None
    current_load_us: int | None = None
    peak_ram_bytes: int | None = None
    current_peak_ram_bytes: int | None = None
    runtime_version: Text | None = None
    evidence: Literal["direct", "twin", "nuke"] | None = None
    """What was scored: the file itself, its twin on the torch line that Nuke embeds, or the file inside Nuke."""
    warnings: tuple[Text, ...] | None = None
    memory_plan: MemoryPlan | None = None
    """The session and arena settings with which all of this was measured; absent: the runtime's own."""
    memory_answer: MemoryAnswer | None = None
    """The prediction at the policy's plate, with its parts."""
    measured_memory: Steady | None = None
    """What the arena held at the policy's plate when it was measured."""


class SignOff(Value):
    """A supervisor's word on the report of the verdict `of`, by name."""

    of: Digest
    name: Text
    note: Text
    by: Text
    at: Time


class Verdict(Record):
    """One candidate's verdict. `reason` is the one line that a supervisor reads first."""

    NAME: ClassVar[str] = "verdict"

    candidate: ReleaseRef
    current: ReleaseRef | None = None
    decision: Decision
    reason: Text
    made_at: Time
    made_by: Text
    host: Text
    host_class: Digest
    judged_host: str | None = None
    """The host whose facts checks 1 to 6 were given, where it is not the one that measured: a question of what if."""
    facts: Digest
    policy: Digest
    sandbox: Literal["bubblewrap", "namespaces", "limits-only", "none"]
    golden_set: GoldenSetRef | None = None
    findings: tuple[Finding, ...]
    points: tuple[PointReport, ...] = ()
    sign_off: SignOff | None = None
    """The sign-off that turned an inconclusive verdict on few shots into this one."""
    full: bool | None = None
    """Whether every shot was scored although an early one had decided."""
    channel: Text | None = None
    """The channel that the candidate was checked for; verdicts of before do not tell."""
