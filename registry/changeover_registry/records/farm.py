"""The farm lock: which release each node of a script has, frozen when the job is submitted.

The plug-in reads it with the standard library alone, by ``model``, ``version``, ``digest`` and ``node`` of each line,
and ``device``, ``nuke_line`` and ``files`` where they are there. It is not signed: a lock can only name releases that
the studio chose.
"""

import re
from collections import Counter
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from changeover_registry.records.base import Digest, ModelName, Record, RelativePath, Text, Time, Value, VersionText
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import InstalledFile

__all__ = ["OS_NAMES", "Device", "FarmLock", "LockedNode", "OsName", "OsPaths", "OsRoot"]

OsName: TypeAlias = Literal["linux", "windows", "macos"]
OS_NAMES: tuple[OsName, ...] = ("linux", "windows", "macos")
Device: TypeAlias = Literal["any", "gpu", "cpu"]
"""What a node must run on; ``cpu`` is a node whose Use GPU if available is off."""

_ROOT = re.compile(r"([A-Za-z]:)?(/[A-Za-z0-9._/-]*)")


def _os_root(text: str) -> str:
    root = text.replace("\\", "/").rstrip("/")
    if not text or _ROOT.fullmatch(root + "/") is None or ".." in root.split("/"):
        message = "expected an absolute path of A-Z a-z 0-9 . _ - and slashes, such as /mnt/store or Z:/store"
        raise ValueError(message)
    return root


OsRoot = Annotated[str, AfterValidator(_os_root)]
"""A folder as one operating system names it, with slashes."""


class OsPaths(Value):
    """``[paths]`` of ``site.toml``: the store's root as each operating system sees it; absent where none has it."""

    linux: OsRoot | None = None
    windows: OsRoot | None = None
    macos: OsRoot | None = None

    def root(self, name: OsName) -> str | None:
        """The store's root on that system."""
        found: str | None = getattr(self, name)
        return found


class LockedNode(Value):
    """One node of ours: the release that it has, and all that its rendering depends on.

    `node` is the full name (``Group1.Inference1``); absent, the line is for every node of the model. `source` says what
    named the release. `path` and `files` are below the store's root, `paths` is the same on each system. `tile` is the
    node's tile size and overlap, `half` its Optimize for Speed and Memory.
    """

    model: ModelName
    version: VersionText
    digest: Digest
    node: Text | None = None
    source: Text | None = None
    nuke_line: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")] | None = None
    variant: Text | None = None
    precision: Text | None = None
    half: bool | None = None
    tile: Text | None = None
    device: Device = "any"
    path: RelativePath | None = None
    paths: dict[OsName, str] | None = None
    files: tuple[InstalledFile, ...] = ()

    def ref(self) -> ReleaseRef:
        """The release by model, version and digest."""
        return ReleaseRef(model=self.model, version=self.version, digest=self.digest)


class FarmLock(Record):
    """``changeover.lock/1``: what `changeover lock` writes and `CHANGEOVER_LOCK` names."""

    NAME: ClassVar[str] = "lock"

    releases: tuple[LockedNode, ...]
    script: Text | None = None
    script_sha256: Digest | None = None
    station: Text | None = None
    generation: Annotated[int, Field(ge=1)] | None = None
    made_at: Time | None = None
    made_by: Text | None = None

    @model_validator(mode="after")
    def _each_node_once(self) -> Self:
        lines = [(line.node, None if line.node else line.model) for line in self.releases]
        twice = sorted(str(node or model) for (node, model), count in Counter(lines).items() if count > 1)
        if twice:
            message = f"expected each node once, found {', '.join(twice)} twice"
            raise ValueError(message)
        return self
