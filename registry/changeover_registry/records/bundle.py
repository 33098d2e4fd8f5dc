"""What stands beside a bundle: its manifest, what a site received and has not released, and what it cleared.

Nothing in a manifest is believed: it says where to look and what the carrier's disk may have damaged. What may be used
is decided by the signed metadata inside, as if it had come over a network.
"""

import re
from typing import ClassVar, Self

from pydantic import Field, model_validator

from changeover_registry import names
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.base import Digest, Name, Record, RelativePath, Text, Time, Value
from changeover_registry.records.release import ReleaseRef

__all__ = ["Bundle", "BundleMember", "Clearance", "Received"]

_NAME = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
_PLACE = re.compile(
    rf"vendors/{_NAME}/(metadata/[^/]+\.json|targets/.+|objects/[0-9a-f]{{2}}/[0-9a-f]{{64}}|boms/[0-9a-f]{{64}}\.json)"
    r"|choice/(metadata/[^/]+\.json|targets/.+)|verdicts/[0-9a-f]{64}\.json|policy\.toml"
)


class BundleMember(Value):
    """One file in a bundle: its path there, its size in bytes and its digest."""

    path: RelativePath
    size: int = Field(ge=0, lt=2**62)
    sha256: Digest


class Bundle(Record):
    """``bundle.json``, the first member: what is in the bundle in this order, who made it, and when.

    `releases` are those whose files are in it. `choice`: the maker's choice, policy and verdicts are in it too.
    """

    NAME: ClassVar[str] = "bundle"

    made_at: Time
    made_by: Text
    vendors: tuple[Name, ...]
    releases: tuple[ReleaseRef, ...] = ()
    choice: bool = False
    members: tuple[BundleMember, ...]

    @model_validator(mode="after")
    def _members_have_their_places(self) -> Self:
        paths = [member.path for member in self.members]
        strays = [path for path in paths if _PLACE.fullmatch(path) is None]
        if strays:
            message = f"expected members in the places of a bundle, found {strays[0]!r}"
            raise ValueError(message)
        try:
            names.check_paths(paths, where="members")
        except ChangeoverError as error:
            message = f"expected {error.expected}, found {error.actual}"
            raise ValueError(message) from error
        return self

    @model_validator(mode="after")
    def _says_whose_members_it_has(self) -> Self:
        owners = {member.path.split("/")[1] for member in self.members if member.path.startswith("vendors/")}
        owners |= {release.model.partition("/")[0] for release in self.releases}
        if not owners <= set(self.vendors):
            message = f"expected every vendor in vendors, found also {sorted(owners - set(self.vendors))}"
            raise ValueError(message)
        if not self.choice and any(not member.path.startswith("vendors/") for member in self.members):
            message = "expected choice = true where there are members of a choice, found false"
            raise ValueError(message)
        return self


class Received(Record):
    """``received/<digest12>/received.json``: a bundle that was verified when it arrived and waits for its clearance."""

    NAME: ClassVar[str] = "received"

    bundle: Digest
    name: Text
    arrived_at: Time
    arrived_by: Text
    vendors: tuple[Name, ...]
    releases: tuple[ReleaseRef, ...] = ()
    choice: bool = False
    size: int = Field(ge=0)


class Clearance(Record):
    """``clearance.json``: signed metadata whose expiry is judged as of its arrival, since the studio cleared it later.

    It holds for the metadata whose timestamp has the digest `timestamp`, and before `until`; then it is as if it were
    not there.
    """

    NAME: ClassVar[str] = "clearance"

    timestamp: Digest
    arrived_at: Time
    until: Time
    cleared_at: Time
    cleared_by: Text
    why: Text
