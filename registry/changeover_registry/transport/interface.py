"""The port through which a repository is read, and the choice of an adapter by address.

Bytes that come through a transport are trusted by nobody: metadata is verified by `client`, everything else by digest.
Paths are relative to the repository's root (``metadata/timestamp.json``, ``objects/ab/abcd…``). Left out: writing.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from changeover_registry.errors import InvalidInputError, TrustError, UnreachableError
from changeover_registry.names import check_path

__all__ = [
    "CHUNK_BYTES",
    "BusyError",
    "NoRangesError",
    "NotThereError",
    "Transport",
    "bounded",
    "check_file",
    "open_transport",
    "read_limited",
    "too_much",
    "wrong_range",
]

CHUNK_BYTES = 256 * 1024
"""How many bytes an adapter reads at a time."""
_PATIENCE_SECONDS = 60.0
"""How long a small file may take before its rate counts."""
_FLOOR_BYTES_PER_SECOND = 32 * 1024
_ENCODED = re.compile("%[0-9A-F]{2}")


class NotThereError(UnreachableError):
    """The repository answers, and has no such file."""


class NoRangesError(UnreachableError):
    """The repository gives whole files only, where a part was asked for; nothing of the file was taken in."""


class BusyError(UnreachableError):
    """The repository asks to be left alone for longer than anybody waits here; asking again now would be rude."""


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

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """The bytes of `path` from `offset` on, in pieces as they come; nothing where the file ends before `offset`.

        With a `length` a part is asked for: at most so many bytes come, fewer where the file ends before. Without one,
        a side that knows no ranges is read from its beginning, and what comes before `offset` is dropped. Several
        threads may stream from one transport at once.

        Raises:
            NotThereError: The repository has no such file.
            NoRangesError: A part was asked for, and the other side would send the whole file.
            BusyError: It asks to be left alone for a while.
            UnreachableError: The repository does not answer, or broke off in the middle.
            TrustError: Another part was sent than was asked for.
        """
        ...


def open_transport(location: str) -> Transport:
    """The transport for an address: a folder's path, ``file://``, ``http://``, ``https://`` or ``s3://``.

    Raises:
        InvalidInputError: No transport has that scheme.
    """
    from changeover_registry.transport.folder import FolderTransport

    parts = split_location(location)
    if parts.scheme in {"http", "https"}:
        # urllib3 costs time at import, and a folder does not need it.
        from changeover_registry.transport.http import HttpTransport

        return HttpTransport(location)
    if parts.scheme == "s3":
        # boto3 costs most of a second at import, and comes with the extra s3 alone.
        from changeover_registry.transport.s3 import S3Transport

        return S3Transport(location)
    if parts.scheme == "file":
        # The module brings the whole of http.client with it.
        from urllib.request import url2pathname

        return FolderTransport(Path(url2pathname(parts.path)))
    if "://" in location:
        raise InvalidInputError(
            "location",
            where=location,
            expected="a folder, file://, http://, https:// or s3://",
            actual=f"{parts.scheme}://",
            remedy="give the repository's folder or web address",
        )
    return FolderTransport(Path(os.path.expandvars(location)).expanduser())


def split_location(location: str) -> SplitResult:
    """The parts of an address.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise InvalidInputError(
            "location",
            where=location,
            expected="a folder or an address",
            actual=str(error),
            remedy="correct the address",
        ) from error
    if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
        raise InvalidInputError(
            "location",
            where=location,
            expected="a folder of this machine, such as file:///mnt/releases",
            actual=f"one on the host {parts.netloc}",
            remedy="mount it, and name the folder as this machine has it",
        )
    return parts


def check_file(path: str, *, where: str) -> None:
    """Check a path that is asked for by URL: what `check_path` takes, and the names of roles percent-encoded.

    Others may call a role as they like, and their repositories are to be read; on our disks such names never come.

    Raises:
        InvalidInputError: It is none.
    """
    check_path(_ENCODED.sub("_", path), where=where)


def read_limited(
    transport: Transport, path: str, limit: int, *, seconds: Callable[[], float] = time.monotonic
) -> bytes:
    """Collect a stream of at most `limit` bytes: what `read` is in every adapter. `seconds` is a clock.

    Raises:
        TrustError: The file is longer than `limit` bytes.
        UnreachableError: It comes so slowly that it may never end.
    """
    data, begun = bytearray(), seconds()
    with contextlib.closing(transport.stream(path)) as stream:
        for piece in stream:
            data += piece
            if len(data) > limit:
                raise too_much(f"{transport.location}: {path}", limit)
            if len(data) < (seconds() - begun - _PATIENCE_SECONDS) * _FLOOR_BYTES_PER_SECOND:
                raise _too_slow(f"{transport.location}: {path}")
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


def _too_slow(where: str) -> UnreachableError:
    return UnreachableError(
        "speed",
        where=where,
        expected=f"at least {_FLOOR_BYTES_PER_SECOND // 1024} KiB a second",
        actual=f"less, for {_PATIENCE_SECONDS:g} seconds",
        remedy="check the network, or ask whoever keeps the server; one that drips keeps everybody waiting",
    )


def wrong_range(where: str, offset: int, actual: object) -> TrustError:
    """The refusal of a part that is not the one that was asked for."""
    return TrustError(
        "range",
        where=where,
        expected=f"bytes from {offset} on",
        actual=str(actual),
        remedy="ask whoever keeps the server; it answers another range than it was asked for",
    )


def bounded(pieces: Iterable[bytes], skip: int, length: int | None) -> Generator[bytes, None, None]:
    """What comes of a stream after its first `skip` bytes, and no more than `length` bytes of that."""
    left = sys.maxsize if length is None else length
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip : skip + left]
            left -= min(left, len(piece) - skip)
        skip = max(0, skip - len(piece))
        if not left:
            return
