"""The choice of one scope: channels, pins, shares and overrides, signed as a target of the studio's own repository.

Beside it: the way back that one signature opens (`Back`), and a choice that waits for signatures (`Pending`).
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from changeover_registry.records.base import Digest, ModelName, Record, Text, Time, Value
from changeover_registry.records.findings import CheckName
from changeover_registry.records.release import ReleaseRef

__all__ = [
    "SCOPE",
    "Approval",
    "Back",
    "Baseline",
    "Choice",
    "ClientApproval",
    "Entry",
    "Override",
    "Pending",
    "Pin",
    "Pointer",
    "Returned",
    "Share",
    "VerdictKey",
]

SCOPE = r"^(site|shows/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)$"
"""What a scope is named."""

CHANNEL = r"^(stable|beta|show/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)$"
"""What a channel is named."""


class Pointer(Value):
    """One channel's release of one model. `verdict` is its envelope's digest; an override may stand for it.

    `resumed`: what stations reported of their failures with this release up to then stops nobody any more.
    """

    channel: str = Field(pattern=CHANNEL)
    release: ReleaseRef
    verdict: Digest | None = None
    resumed: Time | None = None


class Pin(Value):
    """An exact release for a scope: site (all absent), show, sequence, shot."""

    release: ReleaseRef
    show: str | None = None
    sequence: str | None = None
    shot: str | None = None
    reason: Text
    verdict: Digest | None = None


class Share(Value):
    """A release on its way into a channel: which stations have it already.

    A station has it where its name matches one of `names` (patterns such as ``render-*``; none: any name), its host
    class begins with one of `classes` (none: any class), and its place by the stable hash of station and release is
    under `percent`. ``paused``: who has it keeps it, nobody else gets it. ``stopped``: everybody gets the channel's
    own release again. All others have the channel's own release throughout. `verdict`, `resumed`: as in `Pointer`.
    """

    channel: str = Field(pattern=CHANNEL)
    release: ReleaseRef
    percent: int = Field(ge=0, le=100)
    names: tuple[Text, ...] = ()
    classes: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")], ...] = ()
    state: Literal["running", "paused", "stopped"] = "running"
    verdict: Digest | None = None
    resumed: Time | None = None


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


class Baseline(Value):
    """What a channel's users have in the place of a model that they do not have yet: its releases are compared with it.

    Of use for an adopted release, which is of another model than the one that may replace it. It counts until the
    channel points at a release of `model` itself.
    """

    channel: str = Field(pattern=CHANNEL)
    model: ModelName
    release: ReleaseRef
    reason: Text


class ClientApproval(Value):
    """That a show's client agreed to a release: who of the client, when, and where it is written.

    `by` is the client's person, `evidence` a sentence or an address by which the studio finds the agreement again.
    """

    release: ReleaseRef
    by: Text
    when: Time
    evidence: Text


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

    scope: str = Field(pattern=SCOPE)
    number: int = Field(ge=1)
    previous: Digest | None = None
    entry: Entry
    channels: tuple[Pointer, ...] = ()
    pins: tuple[Pin, ...] = ()
    shares: tuple[Share, ...] = ()
    overrides: tuple[Override, ...] = ()
    verdict_keys: tuple[VerdictKey, ...] = ()
    policy: Digest | None = None
    baselines: tuple[Baseline, ...] | None = None
    client_approvals: tuple[ClientApproval, ...] | None = None

    @model_validator(mode="after")
    def _one_release_a_channel(self) -> Self:
        keys = [(pointer.channel, pointer.release.model) for pointer in self.channels]
        if len(set(keys)) != len(keys):
            message = f"expected each channel once for a model, found {keys}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_share_a_channel(self) -> Self:
        keys = [(share.channel, share.release.model) for share in self.shares]
        if len(set(keys)) != len(keys):
            message = f"expected each channel with at most one share of a model, found {keys}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_baseline_a_channel(self) -> Self:
        keys = [(baseline.channel, baseline.model) for baseline in self.baselines or ()]
        if len(set(keys)) != len(keys):
            message = f"expected each channel with at most one baseline of a model, found {keys}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _a_client_approves_for_its_show(self) -> Self:
        if self.client_approvals and self.scope == "site":
            message = "expected approvals of a client in the scope of its show, found some in scope site"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _a_show_speaks_for_itself_alone(self) -> Self:
        """Whoever may sign for a show may not move the site's channels, pin elsewhere or enrol keys."""
        show = self.scope.removeprefix("shows/")
        if show == self.scope:
            return self
        named = {pointer.channel for pointer in self.channels} | {share.channel for share in self.shares}
        named |= {baseline.channel for baseline in self.baselines or ()}
        strays = named - {f"show/{show}"}
        strays |= {f"pin of {pin.show or 'the site'}" for pin in self.pins if pin.show != show}
        if strays or self.verdict_keys or self.policy:
            message = f"expected only channel show/{show} and pins of {show} in scope {self.scope}"
            message += f", found {sorted(strays) or 'verdict keys or a policy'}"
            raise ValueError(message)
        return self

    def pointer(self, channel: str, model: ModelName) -> Pointer | None:
        """The pointer of `channel` for `model`, if there is one."""
        return next((p for p in self.channels if p.channel == channel and p.release.model == model), None)

    def share(self, channel: str, model: ModelName) -> Share | None:
        """The share of `channel` for `model`, if there is one."""
        return next((s for s in self.shares if s.channel == channel and s.release.model == model), None)


class Returned(Value):
    """A channel's way back for one model: to the release that choice `held_in` of the scope held there."""

    channel: str = Field(pattern=CHANNEL)
    release: ReleaseRef
    held_in: int = Field(ge=1)
    reason: Text


class Back(Record):
    """``<scope>/back/back-<n>.json``: one signature returns channels to releases that the scope chose before.

    It stands on one choice, named by number and digest, and until the next one. It names every channel that is
    returned at this moment, those of the back before it too.
    """

    NAME: ClassVar[str] = "back"

    scope: str = Field(pattern=SCOPE)
    number: int = Field(ge=1)
    previous: Digest | None = None
    entry: Entry
    stands_on: int = Field(ge=1)
    stands_on_digest: Digest
    channels: tuple[Returned, ...] = ()

    @model_validator(mode="after")
    def _one_release_a_channel(self) -> Self:
        keys = [(returned.channel, returned.release.model) for returned in self.channels]
        if len(set(keys)) != len(keys):
            message = f"expected each channel once for a model, found {keys}"
            raise ValueError(message)
        return self


class Approval(Value):
    """One signature under a choice that waits, by whom, when and, where it was said, why.

    The signature alone is proof; who, when and why are what was said with it.
    """

    key_id: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{2,4096}$")]
    who: Text
    when: Time
    why: Text | None = None


class Pending(Record):
    """``pending/<role>/<n>.json``: the next choice of a scope as it waits for signatures; no reader takes it.

    `expires` and `specification` are what the role's metadata says beside the choice, so that everybody signs the same
    bytes. `back` is the number of the way back that stood when it was written. `wants` asks for more signatures than
    the scope does now, and none of those by keys in `without` counts: both while keys are being changed. `outcome` and
    `settled` are there once nothing is waited for; then it stands below ``settled/``.
    """

    NAME: ClassVar[str] = "pending"

    choice: Choice
    expires: Time
    specification: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$")]
    signatures: tuple[Approval, ...] = Field(min_length=1)
    back: int | None = Field(default=None, ge=1)
    wants: int | None = Field(default=None, ge=1)
    without: tuple[Digest, ...] = ()
    outcome: Literal["chosen", "rejected"] | None = None
    settled: Entry | None = None

    @model_validator(mode="after")
    def _one_signature_a_key(self) -> Self:
        keys = [approval.key_id for approval in self.signatures]
        if len(set(keys)) != len(keys):
            message = "expected one signature of each key, found several of one"
            raise ValueError(message)
        return self
