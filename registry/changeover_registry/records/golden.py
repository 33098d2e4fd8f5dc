"""Golden shots and sets, as records in ``site/golden``."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from changeover_registry.records.base import Decimal6, Digest, Name, Record, RelativePath, Text, Time, Value

__all__ = ["GoldenFrame", "GoldenSet", "GoldenShot", "ShotRef"]


class GoldenFrame(Value):
    """One frame: number, files under the shot's folder with their digests; pre-roll frames have no matte."""

    number: int
    plate: RelativePath
    plate_sha256: Digest
    matte: RelativePath | None = None
    matte_sha256: Digest | None = None
    scored: bool = True


class GoldenShot(Record):
    """``golden/<set>/<shot>/<n>/shot.json``: never overwritten; a new truth is a new `version`."""

    NAME: ClassVar[str] = "shot"

    set: Name
    shot: Name
    version: int = Field(ge=1)
    alias: Name
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    pixel_aspect: Decimal6 = "1"
    colour: Literal["scene-linear", "srgb", "raw"]
    matte_channel: Text
    level: int = Field(ge=1, le=5)
    frames: tuple[GoldenFrame, ...] = Field(min_length=1)
    region: RelativePath | None = None
    region_sha256: Digest | None = None
    region_channel: Text | None = None
    added_by: Text
    added_at: Time


class ShotRef(Value):
    """A shot of a set, by name, version and digest of its record."""

    shot: Name
    version: int = Field(ge=1)
    digest: Digest


class GoldenSet(Record):
    """``golden/<set>/set.json``; each change is a new `version`, kept beside as ``set-<version>.json``."""

    NAME: ClassVar[str] = "golden-set"

    name: Name
    version: int = Field(ge=1)
    owner_show: str | None = None
    readers: tuple[str, ...] = ()
    shots: tuple[ShotRef, ...] = ()

    @model_validator(mode="after")
    def _shots_are_distinct(self) -> Self:
        found = [shot.shot for shot in self.shots]
        if len(set(found)) != len(found):
            message = f"expected each shot once, found {found}"
            raise ValueError(message)
        return self
