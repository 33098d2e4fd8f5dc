"""What stands at a station: the pointer, a generation with its flat resolution list, a hold, an event, its status."""

import re
from datetime import datetime
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from changeover_registry.clock import parse_time
from changeover_registry.records.base import Digest, ModelName, Record, RelativePath, Text, Time, Value, VersionText
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import CheckName
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Loader, ReleaseRef

__all__ = [
    "Answer",
    "Current",
    "Event",
    "Generation",
    "GenerationChannel",
    "GenerationPin",
    "GenerationRelease",
    "Hold",
    "InstalledFile",
    "Lease",
    "Quarantine",
    "ScopeRules",
    "StationStatus",
    "Tried",
]


EventKind: TypeAlias = Literal["update", "rollback", "hold", "unhold", "gc", "quarantine", "lift", "repair", "import"]
"""What a station records."""


class Current(Record):
    """``current``: the pointer file of a station."""

    NAME: ClassVar[str] = "current"

    generation: int = Field(ge=1)


class InstalledFile(Value):
    """One file that a loader needs, relative to the store's root."""

    path: RelativePath
    size: int
    sha256: Digest


class Answer(Value):
    """What one loader gets of a release: an entry path under the store's root, or one sentence why not.

    For the loader ``nuke-inference`` there is one answer for each Nuke line (`nuke_line` is ``15.1``). `memory_plans`
    are the session settings under which each of `tiles` was proven, in their order, for a loader that runs onnxruntime
    to apply; absent where all are the runtime's own.
    """

    loader: Loader
    nuke_line: str | None = None
    variant: str | None = None
    precision: str | None = None
    tiles: tuple[str, ...] = ()
    path: RelativePath | None = None
    files: tuple[InstalledFile, ...] = ()
    unavailable: str | None = None
    memory_plans: tuple[MemoryPlan, ...] | None = None


class GenerationRelease(Value):
    """One release in a generation. `key` is ``vendor/name@version-digest12``.

    `adopted` marks what a show had before the studio had releases: it is resolved like any other and offered to nobody.
    """

    key: Text
    model: ModelName
    version: VersionText
    digest: Digest
    withdrawn: str | None = None
    adopted: bool | None = None
    answers: tuple[Answer, ...]

    def ref(self) -> ReleaseRef:
        """The release by model, version and digest."""
        return ReleaseRef(model=self.model, version=self.version, digest=self.digest)

    def served(self) -> frozenset[str]:
        """The ids of the variants that some loader gets."""
        return frozenset(answer.variant for answer in self.answers if answer.path and answer.variant)


class GenerationChannel(Value):
    """What a channel of this station answers for a model."""

    channel: Text
    model: ModelName
    key: Text


class GenerationPin(Value):
    """What a pin answers; absent parts are wider scopes."""

    model: ModelName
    key: Text
    show: str | None = None
    sequence: str | None = None
    shot: str | None = None


class ScopeRules(Value):
    """How a script's scope is found, in this order: environment, path pattern, root knobs, Graph Scope Variables.

    `path` is a regular expression with the named groups ``show``, ``sequence``, ``shot``; the others name variables.
    """

    order: tuple[Literal["environment", "path", "knobs", "gsv"], ...] = ("environment", "path", "knobs", "gsv")
    environment: tuple[str, str, str] = ("SHOW", "SEQUENCE", "SHOT")
    path: str = ""
    knobs: tuple[str, str, str] = ("changeover_show", "changeover_sequence", "changeover_shot")
    gsv: tuple[str, str, str] = ("show", "sequence", "shot")

    @model_validator(mode="after")
    def _path_is_a_pattern(self) -> Self:
        try:
            groups = set(re.compile(self.path).groupindex)
        except re.error as error:
            message = f"expected path to be a regular expression, found {self.path!r} ({error})"
            raise ValueError(message) from error
        if not groups <= {"show", "sequence", "shot"}:
            message = f"expected only the groups show, sequence and shot in path, found {sorted(groups)}"
            raise ValueError(message)
        return self


class Generation(Record):
    """``generation.json``: immutable; all that a session resolves from."""

    NAME: ClassVar[str] = "generation"

    number: int = Field(ge=1)
    station: Text
    made_at: Time
    why: Text
    previous: int | None = None
    site: str
    channel: str = "stable"
    scope: ScopeRules = ScopeRules()
    follow: tuple[str, ...] = ()
    farm_device: Literal["any", "gpu"] = "any"
    metadata: Literal["none", "sidecar", "exr"] = "sidecar"
    nuke_lines: tuple[str, ...] = ()
    releases: tuple[GenerationRelease, ...] = ()
    channels: tuple[GenerationChannel, ...] = ()
    pins: tuple[GenerationPin, ...] = ()

    def release(self, key: str) -> GenerationRelease | None:
        """The release of that key, if this generation holds it."""
        return next((release for release in self.releases if release.key == key), None)


class Hold(Record):
    """``hold``: this station stays where it is, by whom, why, until when."""

    NAME: ClassVar[str] = "hold"

    by: Text
    why: Text
    since: Time
    until: Time | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is in force at this moment."""
        return self.until is None or now < parse_time(self.until)


class Event(Record):
    """``events/<seq>.json``: one link of the hash chain. `transaction` joins an intent with its done or failed."""

    NAME: ClassVar[str] = "event"

    sequence: int = Field(ge=1)
    previous: Digest | None = None
    transaction: Text
    phase: Literal["intent", "done", "failed"]
    what: EventKind
    who: Text
    when: Time
    why: Text
    before: int | None = None
    after: int | None = None
    detail: str = ""


class Lease(Record):
    """``leases/<host>-<pid>.json``: a session that keeps a generation; its file is touched each hour while it lives."""

    NAME: ClassVar[str] = "lease"

    host: Text
    pid: int = Field(ge=1)
    started_at: Time
    generation: int = Field(ge=1)


class Quarantine(Record):
    """``quarantine/<digest12>-<class12>.json``: a release that failed on this host class and is not tried there again.

    `check` is what failed: ``smoke`` for a model that ran and gave the wrong matte, crashed or did not end.
    """

    NAME: ClassVar[str] = "quarantine"

    release: ReleaseRef
    host_class: Digest
    check: CheckName
    why: Text
    since: Time


class Tried(Value):
    """How it went with a release that was chosen for a station and is not, or not yet long, in use there.

    ``done``: changed over to it. ``failed``: its install broke, its smoke test was refused, or it crashed. ``refused``:
    a check says no before anything of it is run, so it is no failure. ``undecided``: something could not be found out.
    ``waiting``: a hold, a full GPU, the hours of the policy, or a rollout that was stopped keep it from being changed
    over to.
    """

    key: Text
    outcome: Literal["done", "failed", "refused", "undecided", "waiting"]
    when: Time
    why: str = ""


class StationStatus(Record):
    """``site/stations/<id>/status.json``: reported by the host, trusted by nobody.

    `tried` tells of the releases that the choice names for the station, `choices` which choice of each scope it saw
    last, `next_report` by when its agent reports again (absent: no agent runs).
    """

    NAME: ClassVar[str] = "status"

    station: Text
    host: Text
    reported_at: Time
    host_class: Digest | None = None
    generation: int | None = None
    hold: str | None = None
    releases: tuple[str, ...] = ()
    events: int = 0
    events_head: Digest | None = None
    last_outcome: str = ""
    changeover: str | None = None
    serving: tuple[GenerationChannel, ...] | None = None
    facts: HostFacts | None = None
    verdicts: tuple[Digest, ...] | None = None
    tried: tuple[Tried, ...] | None = None
    quarantined: tuple[str, ...] | None = None
    choices: dict[str, int] | None = None
    next_report: Time | None = None
