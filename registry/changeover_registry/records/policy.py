"""The studio's policy: a record with safe defaults, written by people as ``policy.toml``.

Numbers that a person writes as 0.01 are read as decimals and kept as text, so no float enters a digest. The policy's
digest is the sha256 of the file's bytes.
"""

import tomllib
from decimal import Decimal
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Name, Record, Text, Unsigned6, Value
from changeover_registry.records.hook import HookName
from changeover_registry.records.station import ScopeRules

__all__ = [
    "AgentPolicy",
    "FarmPolicy",
    "GoldenPolicy",
    "Guards",
    "HardwarePolicy",
    "LicencePolicy",
    "Policy",
    "RetentionPolicy",
    "RolloutPolicy",
    "ShowPolicy",
    "SpeedPolicy",
    "VramPolicy",
]

_Side = Annotated[int, Field(ge=1, le=65536)]


class LicencePolicy(Value):
    """Which weights licences may be used, and which training-data statements are refused."""

    weights: tuple[str, ...] = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
    refuse_training_data: tuple[str, ...] = ("unknown",)


class HardwarePolicy(Value):
    """`serve_on_cpu`: hosts without a GPU may serve on the CPU. `ram_share`: of the RAM that a model may take."""

    serve_on_cpu: bool = False
    ram_share: Unsigned6 = "0.5"

    @model_validator(mode="after")
    def _part_of_ram(self) -> Self:
        if Decimal(self.ram_share) > 1:
            message = f"expected a ram_share of at most 1, found {self.ram_share}"
            raise ValueError(message)
        return self


class VramPolicy(Value):
    """The plate that must fit, and what is kept free of it, in MiB.

    `headroom_mib` holds for every card; `display_headroom_mib` and `compute_headroom_mib` replace it on cards with and
    without a display. `instances`: how many nodes of one script hold the model at once (absent: 2).
    `changeover`: whether old and new model are resident together for a moment (absent: they are).
    """

    plate: tuple[_Side, _Side] = (4096, 2160)
    nuke_baseline_mib: int = Field(default=1024, ge=0)
    display_reserve_mib: int = Field(default=1024, ge=0)
    headroom_mib: int = Field(default=512, ge=0)
    context_mib: int = Field(default=400, ge=0)
    display_headroom_mib: int | None = Field(default=None, ge=0)
    compute_headroom_mib: int | None = Field(default=None, ge=0)
    instances: int | None = Field(default=None, ge=1, le=64)
    changeover: Literal["both-resident", "unload-first"] | None = None


class SpeedPolicy(Value):
    """Candidate against current, seconds a frame, at the studio's `plates` (width, height; absent: the VRAM plate)."""

    ratio: Unsigned6 = "1.5"
    plates: tuple[tuple[_Side, _Side], ...] | None = None
    first_load_ms: int | None = Field(default=None, ge=1)
    ram_mib: int | None = Field(default=None, ge=1)


class Guards(Value):
    """Per-shot limits: the worst drop of a shot's J and F against current, the absolute floors, the MAD ceiling.

    Absent limits have the defaults of `changeover_validators.golden.thresholds`, which the report shows as such.
    """

    worst_shot: Unsigned6 = "0.03"
    floor_jaccard: Unsigned6 = "0.5"
    floor_boundary_f: Unsigned6 = "0.2"
    ceiling_mad: Unsigned6 = "0.1"
    worst_window: Unsigned6 | None = None
    window_frames: int | None = Field(default=None, ge=1, le=10000)
    flicker_ratio: Unsigned6 | None = None
    flicker_floor: Unsigned6 | None = None
    empty_frames: int | None = Field(default=None, ge=0)
    ratchet: Unsigned6 | None = None


class GoldenPolicy(Value):
    """The set that a candidate must pass, margins per metric in its unit, and the guards.

    `margins` gates further metrics by their full name (``dtssd:rvm``). `supervisor_review` lets guards and one named
    sign-off stand in where there are fewer shots than `min_shots`.
    """

    set: str = ""
    confidence: Unsigned6 = "0.95"
    min_shots: int = Field(default=5, ge=2)
    margin_jaccard: Unsigned6 = "0.01"
    margin_boundary_f: Unsigned6 = "0.01"
    margin_mad: Unsigned6 = "0.005"
    threshold: Unsigned6 = "0.5"
    guards: Guards = Guards()
    margins: dict[str, Unsigned6] | None = None
    supervisor_review: bool | None = None

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        if not Decimal("0.5") <= Decimal(self.confidence) < 1:
            message = f"expected a confidence from 0.5 to under 1, found {self.confidence}"
            raise ValueError(message)
        if not 0 < Decimal(self.threshold) < 1:
            message = f"expected a threshold between 0 and 1, found {self.threshold}"
            raise ValueError(message)
        return self


class RolloutPolicy(Value):
    """When a station stays where it is because others failed with a release.

    It does where the share of failed stations among those that tried is above `max_failed`, by more than chance would
    have it at `confidence` (the exact binomial test, one-sided): of three that all failed, of a hundred with thirty.
    One or two failures stop nobody.
    """

    max_failed: Unsigned6 = "0.2"
    confidence: Unsigned6 = "0.95"

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        if Decimal(self.max_failed) >= 1:
            message = f"expected a max_failed under 1, found {self.max_failed}"
            raise ValueError(message)
        if not Decimal("0.5") <= Decimal(self.confidence) < 1:
            message = f"expected a confidence from 0.5 to under 1, found {self.confidence}"
            raise ValueError(message)
        return self


class AgentPolicy(Value):
    """`hours`: when an agent may change over, in the host's local time (``19:00-07:00``; empty: always)."""

    hours: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$")] = ""


class RetentionPolicy(Value):
    """What `gc` leaves: releases and generations that were in use within so many days, and the newest generations.

    `share_days` holds in a store that several hosts read, where a session may be unable to leave a lease.
    """

    days: int = Field(default=30, ge=1)
    share_days: int = Field(default=90, ge=1)
    generations: int = Field(default=3, ge=2)


class FarmPolicy(Value):
    """`device`: ``gpu`` stops a worker that would run a model on its CPU."""

    device: Literal["any", "gpu"] = "any"


class ShowPolicy(Value):
    """What holds for one show alone.

    `client_approval`: a release goes to the show only once the client's agreement stands in the show's signed choice.
    `weights`: the licences of weights that the show's client allows, instead of ``[licence] weights``.
    """

    client_approval: bool = False
    weights: tuple[str, ...] | None = None


class Policy(Record):
    """``policy.toml``."""

    NAME: ClassVar[str] = "policy"

    sandbox: Literal["required", "limits-only"] = "required"
    channel: str = "stable"
    follow: tuple[str, ...] = ()
    verdict_days: int = Field(default=30, ge=1)
    operating_points: Literal["first-that-fits", "all"] = "first-that-fits"
    licence: LicencePolicy = LicencePolicy()
    hardware: HardwarePolicy = HardwarePolicy()
    vram: VramPolicy = VramPolicy()
    speed: SpeedPolicy = SpeedPolicy()
    golden: GoldenPolicy = GoldenPolicy()
    scope: ScopeRules = ScopeRules()
    rollout: RolloutPolicy | None = None
    agent: AgentPolicy | None = None
    retention: RetentionPolicy | None = None
    farm: FarmPolicy | None = None
    mlflow_pictures: bool = False
    shows: dict[Name, ShowPolicy] | None = None
    hooks: dict[HookName, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _hooks_lie_somewhere(self) -> Self:
        """What a relative path names depends on where a command is run, which anybody may choose."""
        for name, path in self.hooks.items():
            if not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()):
                message = f"expected an absolute path of an executable for {name}, found {path}"
                raise ValueError(message)
        return self

    @classmethod
    def from_toml(cls, data: bytes, *, where: str) -> Self:
        """Read ``policy.toml``.

        Raises:
            InvalidInputError: Not TOML, or a key is unknown or of the wrong type.
        """
        try:
            body = tomllib.loads(data.decode("utf-8"), parse_float=str)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                "TOML", where=where, expected="a TOML file in UTF-8", actual=str(error), remedy="correct that line"
            ) from error
        return cls.from_object(body, where=where)
