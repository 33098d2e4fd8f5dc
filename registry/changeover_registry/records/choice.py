"""The choice of one scope: channels, pins, shares and overrides, signed as a target of the studio's own repository."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from changeover_registry.records.base import Digest, ModelName, Record, Text, Time, Value
from changeover_registry.records.findings import CheckName
from changeover_registry.records.release import ReleaseRef

__all__ = ["Choice", "Entry", "Override", "Pin", "Pointer", "VerdictKey"]

Channel = str


class Pointer(Value):
    """One channel's release of one model. `verdict` is its envelope's digest; an override may stand for it."""

    channel: str = Field(pattern=r"^(stable|beta|show/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)$")
    release: ReleaseRef
    verdict: Digest | None = None


class Pin(Value):
    """An exact release for a scope: site (all absent), show, sequence, shot."""

    release: ReleaseRef
    show: str | None = None
    sequence: str | None = None
    shot: str | None = None
    reason: Text
    verdict: Digest | None = None


class Override(Value):
    """A named, reasoned, expiring permission to pass over checks for one release; never over trust."""

    release: ReleaseRef
    checks: tuple[CheckName, ...] = Field(min_length=1)
    reason: Text
    by: Text
    until: Time

    @model_validator(mode="after")
    def _never_over_trust(self) -> Self:
        if "trust" in self.checks:
            message = "expected checks other than trust, which nothing passes over"
            raise ValueError(message)
        return self


class VerdictKey(Value):
    """A public key that may sign verdicts: TUF key id, key type, scheme and public part."""

    key_id: Digest
    key_type: Text
    scheme: Text
    public: Text
    owner: Text


class Entry(Value):
    """Who wrote this version of the choice, when, why and what it did, in one line."""

    who: Text
    when: Time
    why: Text
    what: Text


class Choice(Record):
    """``<scope>/choice-<n>.json``; `scope` is ``site`` or ``shows/<show>``; `previous` is the digest of choice n-1."""

    NAME: ClassVar[str] = "choice"

    scope: str = Field(pattern=r"^(site|shows/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)$")
    number: int = Field(ge=1)
    previous: Digest | None = None
    entry: Entry
    channels: tuple[Pointer, ...] = ()
    pins: tuple[Pin, ...] = ()
    shares: tuple[Literal["reserved"], ...] = ()
    overrides: tuple[Override, ...] = ()
    verdict_keys: tuple[VerdictKey, ...] = ()
    policy: Digest | None = None

    @model_validator(mode="after")
    def _one_release_a_channel(self) -> Self:
        keys = [(pointer.channel, pointer.release.model) for pointer in self.channels]
        if len(set(keys)) != len(keys):
            message = f"expected each channel once for a model, found {keys}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _a_show_speaks_for_itself_alone(self) -> Self:
        """Whoever may sign for a show may not move the site's channels, pin elsewhere or enrol keys."""
        show = self.scope.removeprefix("shows/")
        if show == self.scope:
            return self
        strays = {pointer.channel for pointer in self.channels} - {f"show/{show}"}
        strays |= {f"pin of {pin.show or 'the site'}" for pin in self.pins if pin.show != show}
        if strays or self.verdict_keys or self.policy:
            message = f"expected only channel show/{show} and pins of {show} in scope {self.scope}"
            message += f", found {sorted(strays) or 'verdict keys or a policy'}"
            raise ValueError(message)
        return self

    def pointer(self, channel: str, model: ModelName) -> Pointer | None:
        """The pointer of `channel` for `model`, if there is one."""
        return next((p for p in self.channels if p.channel == channel and p.release.model == model), None)
