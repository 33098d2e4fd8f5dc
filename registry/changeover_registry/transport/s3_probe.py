"""What a store that speaks S3 can do beyond keeping what it takes: asked by doing it, under a name of its own.

For people who choose or run a store: nothing here is relied on. Stores differ, and some take what they do not
understand: a conditional write may be ignored, a wrong checksum stored. Each answer is what was found, not what the
store says of itself. The objects are taken away again; without the right to do so they stay, and are named.
"""

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.transport.s3 import S3Place

__all__ = ["Capability", "probe"]

_DATA = b"0123456789"
_REDIRECTED = 300
_UNKNOWN = frozenset({405, 501})
_PART_BYTES = 5 * 1024 * 1024
"""The least that S3 takes as a part."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a store can do or not: its name, and what was found."""

    name: str
    found: str


def probe(location: str) -> tuple[Capability, ...]:
    """Try a store under ``.probe-<unique>/`` below `location`.

    Raises:
        UnreachableError: The store does not answer, or takes nothing in.
        InvalidInputError: `location` is no place in S3.
    """
    tries = _Tries(S3Place(location), f".probe-{uuid.uuid4().hex[:12]}")
    tries.place.put(tries.first, _DATA)
    found = (
        Capability("part of a file", _yes(tries.part_is_read())),
        Capability("files in parts", _yes(tries.file_is_taken_in_parts())),
        Capability("write only if absent", _heeded(tries.write(tries.first, IfNoneMatch="*"))),
        Capability("write only if unchanged", _heeded(tries.write(tries.first, IfMatch='"' + "0" * 32 + '"'))),
        Capability("write with a wrong SHA-256", _heeded(tries.write(tries.other, ChecksumSHA256=_digest(b"")))),
        Capability("write with a wrong MD5", _heeded(tries.write(tries.other, ContentMD5=_md5(b"")))),
    )
    left = [path for path in tries.written if not tries.place.removed(path)]
    return (*found, Capability("taking away", f"refused; these stay: {', '.join(left)}" if left else "yes"))


class _Tries:
    """What is tried, on names of its own."""

    def __init__(self, place: S3Place, folder: str) -> None:
        self.place = place
        self.first, self.other, self.large = (f"{folder}/{name}" for name in ("first", "other", "large"))
        self.written = (self.first, self.other, self.large)

    def part_is_read(self) -> bool:
        try:
            return b"".join(self.place.stream(self.first, offset=3, length=4)) == _DATA[3:7]
        except (UnreachableError, TrustError):
            return False

    def file_is_taken_in_parts(self) -> bool:
        status = self.place.tried("create_multipart_upload", self.large, self._parts)
        return status < _REDIRECTED and b"".join(self.place.stream(self.large, offset=_PART_BYTES)) == _DATA

    def write(self, path: str, **asked: str) -> int:
        """The status of a write that a store which heeds `asked` refuses."""
        return self.place.tried("put_object", path, None, Body=b"other bytes", **asked)

    def _parts(self, client: Any, name: Mapping[str, str], started: Mapping[str, str]) -> None:  # noqa: ANN401
        sent = []
        for number, data in enumerate((b"x" * _PART_BYTES, _DATA), 1):
            part = {**name, "UploadId": started["UploadId"], "PartNumber": number}
            sent.append({"PartNumber": number, "ETag": client.upload_part(Body=data, **part)["ETag"]})
        client.complete_multipart_upload(**name, UploadId=started["UploadId"], MultipartUpload={"Parts": sent})


def _yes(there: bool) -> str:  # noqa: FBT001 - a word for it
    return "yes" if there else "no"


def _heeded(status: int) -> str:
    """What a store made of a write that it should have refused."""
    if status < _REDIRECTED:
        return "not heeded: it was written"
    if status in _UNKNOWN:
        return f"not known to it (HTTP {status})"
    return f"refused, as it should be (HTTP {status})"


def _digest(data: bytes) -> str:
    """A SHA-256 in the form of S3."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
