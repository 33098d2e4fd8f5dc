"""What is left of a show that was closed: who closed it and why, and the archive that holds its releases."""

from typing import ClassVar

from pydantic import Field

from changeover_registry.records.base import Digest, Name, Record, RelativePath, Text, Time
from changeover_registry.records.release import ReleaseRef

__all__ = ["ClosedShow"]


class ClosedShow(Record):
    """``site/shows/<show>/closed.json``: the show was closed after its choice `choice`, and `archive` was written.

    `archive` lies beside this file. What the show is given by a later choice is not closed by it.
    """

    NAME: ClassVar[str] = "closed-show"

    show: Name
    choice: int = Field(ge=1)
    who: Text
    when: Time
    why: Text
    releases: tuple[ReleaseRef, ...]
    archive: RelativePath
    size: int = Field(ge=1)
    sha256: Digest
