"""Golden shots and sets, as records in ``site/golden``: what is scored, who may use it, and who approved it."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from changeover_registry.records.base import Decimal6, Digest, Name, Record, RelativePath, Text, Time, Value

__all__ = ["Approval", "GoldenFrame", "GoldenInput", "GoldenSet", "GoldenShot", "RetiredShot", "ShotRef"]


class GoldenInput(Value):
    """A further image that the interface names (a trimap, a first mask): its port, file and channels, for one frame."""

    port: Name
    file: RelativePath
    sha256: Digest
    channels: tuple[Text, ...] = Field(min_length=1)


class GoldenFrame(Value):
    """One frame: number, files under the shot's folder with their digests; pre-roll frames have no matte.

    `second` is another artist's matte of the same frame, from which the report knows how far two people differ.
    """

    number: int
    plate: RelativePath
    plate_sha256: Digest
    matte: RelativePath | None = None
    matte_sha256: Digest | None = None
    scored: bool = True
    second: RelativePath | None = None
    second_sha256: Digest | None = None
    inputs: tuple[GoldenInput, ...] | None = None


class GoldenShot(Record):
    """``golden/<set>/<shot>/<n>/shot.json``: never overwritten; a new truth is a new `version`.

    `colour` is ``scene-linear`` (Rec. 709 primaries), ``srgb``, ``raw``, or a colour space of `ocio_config` by name;
    that is a built-in configuration (``ocio://...``) or a file under the shot's folder with its digest.
    `matte_object` names one object of a Cryptomatte; `matte_channel` is then its layer.
    """

    NAME: ClassVar[str] = "shot"

    set: Name
    shot: Name
    version: int = Field(ge=1)
    alias: Name
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    pixel_aspect: Decimal6 = "1"
    colour: Text
    matte_channel: Text
    level: int = Field(ge=1, le=5)
    frames: tuple[GoldenFrame, ...] = Field(min_length=1)
    region: RelativePath | None = None
    region_sha256: Digest | None = None
    region_channel: Text | None = None
    added_by: Text
    added_at: Time
    ocio_config: Text | None = None
    ocio_config_sha256: Digest | None = None
    matte_object: Text | None = None
    second_channel: Text | None = None
    missing: tuple[int, ...] | None = None
    """Frames that the sequence lacks and that somebody allowed to be missing (``--allow-missing``)."""
    notes: tuple[Text, ...] | None = None
    """What looked wrong when the shot was added, one line each: whoever approves it reads them again."""


class Approval(Value):
    """Who says that a truth is right: a person's name, not an account's."""

    name: Text
    at: Time
    by: Text
    note: Text | None = None


class ShotRef(Value):
    """A shot of a set, by name, version and digest of its record; `approval` is absent where none was asked for."""

    shot: Name
    version: int = Field(ge=1)
    digest: Digest
    approval: Approval | None = None


class RetiredShot(Value):
    """A shot that is no longer scored, and why."""

    shot: Name
    version: int = Field(ge=1)
    digest: Digest
    reason: Text
    by: Text
    at: Time


class GoldenSet(Record):
    """``golden/<set>/set.json``; each change is a new `version`, kept beside as ``set-<version>.json``.

    `shots` are scored. `pending` are waiting for an approval by name; where one is a new version of a shot, the old
    version goes on being scored until then. `retired` is the whole set's end, with the reason. `changed_by` and
    `changed_at` say who made this version and when; the first releases did not write them.
    """

    NAME: ClassVar[str] = "golden-set"

    name: Name
    version: int = Field(ge=1)
    owner_show: str | None = None
    readers: tuple[str, ...] = ()
    shots: tuple[ShotRef, ...] = ()
    pending: tuple[ShotRef, ...] | None = None
    retired_shots: tuple[RetiredShot, ...] | None = None
    retired: Text | None = None
    changed_by: Text | None = None
    changed_at: Time | None = None

    @model_validator(mode="after")
    def _shots_are_distinct(self) -> Self:
        found = [shot.shot for shot in self.shots]
        if len(set(found)) != len(found):
            message = f"expected each shot once, found {found}"
            raise ValueError(message)
        return self
