"""A report as a value: what a page or a document says of one verdict, with nothing left to look up.

Everything in here is safe before the reader it was made for: shots go by what `Aliases` calls them, in sentences too.
Numbers are decimals as the records hold them; a gain is positive where the candidate is better. `build` makes the
value, `html` and `document` write it down. Left out: pixels, which are handed over beside the report, by their digest.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from changeover_registry.records.findings import Finding
from changeover_registry.records.golden import Approval
from changeover_registry.records.memory import MemoryAnswer, Steady
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.scores import Picture, WorstFrame
from changeover_registry.records.verdict import CurvePoint, Decision, SpeedPoint

__all__ = [
    "ContractLine",
    "Curve",
    "Detectable",
    "Gate",
    "Limit",
    "Line",
    "Noise",
    "Note",
    "Point",
    "Release",
    "Report",
    "Score",
    "Shot",
    "SubjectName",
    "said_time",
]

SubjectName = Literal["candidate", "current", "second"]
GateState = Literal["holds", "worse", "open"]

_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):\d{2}Z")


@dataclass(frozen=True, slots=True)
class Release:
    """One of the two releases: which it is, and what its vendor says of it (empty where its record is not here)."""

    ref: ReleaseRef
    summary: str = ""
    changes: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a person added to the verdict: an override or a sign-off, in one sentence, and until when it holds."""

    kind: Literal["override", "sign-off"]
    name: str
    what: str
    why: str
    when: str


@dataclass(frozen=True, slots=True)
class Limit:
    """One threshold as it was in force, with its unit, and where it came from."""

    name: str
    value: str
    unit: str
    origin: str


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one shot: the means over its scored frames.

    Attributes:
        metric: The full name, with its variant.
        label: What people call it.
        unit: Of the values.
        higher_is_better: The metric's direction.
        candidate: The candidate's mean.
        current: The current release's mean.
        gain: How much better the candidate is; negative is worse.
        window_loss: By how much it lies behind over the worst run of frames.
        window_first: That run's first frame.
        band_px: The width of the band around the truth's edge, where the metric looks only there.
        second: The mean of another artist's matte against the truth.
        multiple: The candidate's error as a multiple of that artist's.
    """

    metric: str
    label: str
    unit: str
    higher_is_better: bool
    candidate: Decimal
    current: Decimal | None = None
    gain: Decimal | None = None
    window_loss: Decimal | None = None
    window_first: int | None = None
    band_px: int | None = None
    second: Decimal | None = None
    multiple: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One subject's value on each scored frame, None where it is not defined, and then why."""

    subject: SubjectName
    values: tuple[Decimal | None, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric over the frames of a shot."""

    metric: str
    label: str
    unit: str
    higher_is_better: bool
    lines: tuple[Line, ...]

    def defined(self) -> tuple[Decimal, ...]:
        """All values of all lines that are defined."""
        return tuple(value for line in self.lines for value in line.values if value is not None)


@dataclass(frozen=True, slots=True)
class Shot:
    """One shot at one operating point, as far as it was kept: verdicts of before have means and nothing else.

    Attributes:
        label: What the reader calls it.
        alias: What findings call it.
        badness: Its worst loss as a multiple of what is allowed; shots are sorted by it.
        broken: The refusals that name it.
        key: Under which its scores are filed.
        window_frames: How many frames a worst window has.
    """

    label: str
    alias: str
    badness: Decimal
    scores: tuple[Score, ...]
    broken: tuple[Finding, ...] = ()
    version: int | None = None
    level: int | None = None
    width: int | None = None
    height: int | None = None
    frames: tuple[int, ...] = ()
    curves: tuple[Curve, ...] = ()
    worst: WorstFrame | None = None
    pictures: tuple[Picture, ...] = ()
    replaced: int = 0
    approval: Approval | None = None
    colour: str = ""
    key: str = ""
    window_frames: int | None = None

    def score(self, metric: str) -> Score | None:
        """The score of that metric, if it is there."""
        return next((score for score in self.scores if score.metric == metric), None)

    def picture(self, kind: str, *, crop: bool = False) -> Picture | None:
        """The picture of that kind, if it was kept."""
        return next((picture for picture in self.pictures if (picture.kind, picture.crop) == (kind, crop)), None)


@dataclass(frozen=True, slots=True)
class Gate:
    """One gated metric over the shots: mean gain and its one-sided bounds, against minus the margin."""

    metric: str
    label: str
    unit: str
    shots: int
    margin: Decimal
    mean: Decimal
    lower: Decimal | None
    upper: Decimal | None
    state: GateState


@dataclass(frozen=True, slots=True)
class Noise:
    """How far one model's shot means lie apart when it runs twice here, and how many of it the margin holds."""

    metric: str
    label: str
    difference: Decimal
    multiple: Decimal | None


@dataclass(frozen=True, slots=True)
class Detectable:
    """What the set can tell of one metric.

    Attributes:
        metric: Its full name.
        label: What people call it.
        shots: How many were scored.
        spread: Standard deviation of the shots' differences.
        smallest: The loss that so many shots tell from none with a chance of 80 %.
        power: The chance that a candidate as good as the current release is accepted.
        needed: How many shots would give that chance 80 %; None where more than were tried.
    """

    metric: str
    label: str
    shots: int
    spread: Decimal
    smallest: Decimal | None
    power: Decimal
    needed: int | None


@dataclass(frozen=True, slots=True)
class ContractLine:
    """One entry of the contracts: what the candidate's says, and what the current release's says."""

    name: str
    candidate: str
    current: str | None

    @property
    def differs(self) -> bool:
        """Whether the two were called in another way, so that a difference may come from there."""
        return self.current is not None and self.candidate != self.current


@dataclass(frozen=True, slots=True)
class Point:
    """One operating point: what was measured there. Times in microseconds, memory in bytes, its plan in words."""

    name: str
    decision: Decision
    measured: bool
    findings: tuple[Finding, ...] = ()
    gates: tuple[Gate, ...] = ()
    shots: tuple[Shot, ...] = ()
    evidence: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    contract: tuple[ContractLine, ...] = ()
    speeds: tuple[SpeedPoint, ...] = ()
    frame_us: int | None = None
    current_frame_us: int | None = None
    load_us: int | None = None
    current_load_us: int | None = None
    peak_ram_bytes: int | None = None
    current_peak_ram_bytes: int | None = None
    memory: tuple[CurvePoint, ...] = ()
    memory_label: str = ""
    memory_plan: str = ""
    memory_answer: MemoryAnswer | None = None
    measured_memory: Steady | None = None
    noise: tuple[Noise, ...] = ()
    detects: tuple[Detectable, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report says.

    Attributes:
        headline: What a supervisor would say of it.
        reason: The verdict's own reason.
        short: Who, when, on what and by which evidence, for the first screen.
        facts: How it was measured: name and value.
        sign_off: The command with which a person signs it off; empty where the numbers or the policy do not ask.
    """

    digest: str
    signer: str
    decision: Decision
    headline: str
    reason: str
    candidate: Release
    current: Release | None
    short: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[Note, ...]
    findings: tuple[Finding, ...]
    points: tuple[Point, ...]
    limits: tuple[Limit, ...]
    named: bool
    sign_off: str = ""

    def pictures(self) -> tuple[tuple[str, Picture], ...]:
        """Every picture that the report would show, with the key under which its shot's scores are filed."""
        shots = (shot for point in self.points for shot in point.shots)
        return tuple((shot.key, picture) for shot in shots for picture in shot.pictures)


def said_time(text: str) -> str:
    """A sentence with each moment in it as people write it: ``2026-11-22 13:45 UTC``."""
    return _MOMENT.sub(r"\1 \2 UTC", text)
