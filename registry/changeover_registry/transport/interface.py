"""The port through which a repository is read, and the choice of an adapter by address.

Bytes that come through a transport are trusted by nobody: metadata is verified by `client`, everything else by digest.
Paths are relative to the repository's root (``metadata/timestamp.json``, ``objects/ab/abcd…``). Left out: writing.
"""

import contextlib
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from changeover_registry.errors import InvalidInputError, TrustError, UnreachableError
from changeover_registry.names import check_path

__all__ = ["CHUNK_BYTES", "NotThereError", "Transport", "check_file", "open_transport", "read_limited", "too_much"]

CHUNK_BYTES = 256 * 1024
"""How many bytes an adapter reads at a time."""
_ENCODED = re.compile("%[0-9A-F]{2}")


class NotThereError(UnreachableError):
    """The repository answers, and has no such file."""


class Transport(Protocol):
    """Read access to one repository."""

    @property
    def location(self) -> str:
        """The address, as a person would write it."""
        ...

    def read(self, path: str, *, limit: int) -> bytes:
        """The whole file at `path`.

        Raises:
            NotThereError: The repository has no such file.
            UnreachableError: The repository does not answer.
            TrustError: The file is longer than `limit` bytes; no more than that was taken in.
        """
        ...

    def stream(self, path: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        """The bytes of `path` from `offset` on, in pieces; nothing where the file ends before `offset`.

        Raises:
            NotThereError: The repository has no such file.
            UnreachableError: The repository does not answer, or broke off in the middle.
        """
        ...


def open_transport(location: str) -> Transport:
    """The transport for an address: a folder's path, ``file://``, ``http://`` or ``https://``.

    Raises:
        InvalidInputError: No transport has that scheme.
    """
    from changeover_registry.transport.folder import FolderTransport

    parts = urlsplit(location)
    if parts.scheme in {"http", "https"}:
        # urllib3 costs time at import, and a folder does not need it.
        from changeover_registry.transport.http import HttpTransport

        return HttpTransport(location)
    if parts.scheme == "file":
        # The module brings the whole of http.client with it.
        from urllib.request import url2pathname

        return FolderTransport(Path(url2pathname(parts.path)))
    if "://" in location:
        raise InvalidInputError(
            "location",
            where=location,
            expected="a folder, file://, http:// or https://",
            actual=f"{parts.scheme}://",
            remedy="give the repository's folder or web address",
        )
    return FolderTransport(Path(os.path.expandvars(location)).expanduser())


def check_file(path: str, *, where: str) -> None:
    """Check a path that is asked for by URL: what `check_path` takes, and the names of roles percent-encoded.

    Others may call a role as they like, and their repositories are to be read; on our disks such names never come.

    Raises:
        InvalidInputError: It is none.
    """
    check_path(_ENCODED.sub("_", path), where=where)


def read_limited(transport: Transport, path: str, limit: int) -> bytes:
    """Collect a stream of at most `limit` bytes: what `read` is in every adapter.

    Raises:
        TrustError: The file is longer than `limit` bytes.
    """
    data = bytearray()
    with contextlib.closing(transport.stream(path)) as stream:
        for piece in stream:
            data += piece
            if len(data) > limit:
                raise too_much(f"{transport.location}: {path}", limit)
    return bytes(data)


def too_much(where: str, limit: int) -> TrustError:
    """The refusal of a file that is longer than it may be."""
    return TrustError(
        "length",
        where=where,
        expected=f"at most {limit} bytes",
        actual="more",
        remedy="ask whoever keeps the repository; it sends what nobody signed",
    )
