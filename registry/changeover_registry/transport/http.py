"""A repository behind HTTP or HTTPS: any web server, with or without ranges.

Rules: TLS by the operating system's certificates; proxies from the usual environment variables; four tries to get an
answer, with growing waits or those that the server asks for (15 s at most, else it counts as gone), 10 s for a
connection, 20 s without a byte; no compression, so that offsets mean bytes of the file. A server that ignores a range
is told from one that does not; where no part was asked for, it is read from its beginning. Left out: log-in, and a
floor on the throughput of a stream.
"""

import contextlib
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from changeover_registry.errors import UnreachableError
from changeover_registry.transport.interface import (
    CHUNK_BYTES,
    BusyError,
    NoRangesError,
    NotThereError,
    bounded,
    check_file,
    read_limited,
    wrong_range,
)

__all__ = ["HttpTransport"]

_HEADERS = {"User-Agent": "changeover", "Accept-Encoding": "identity"}
_TIMEOUT = urllib3.Timeout(connect=10.0, read=20.0)
_CONNECTIONS = 8
"""How many connections to one server are kept; the downloader opens fewer."""
_LONGEST_WAIT_SECONDS = 15.0
"""The longest that a server may ask to be left alone; beyond that another mirror or a later run is the better way."""


class _Patience(urllib3.Retry):
    """Retries as urllib3 does them; a server that asks for a longer wait than a person has is given up at once."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,  # noqa: ANN401 - as above
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """One try less.

        Raises:
            MaxRetryError: None is left, or the server asks to be left alone for too long.
        """
        if response is not None and _asked_wait(response) > _LONGEST_WAIT_SECONDS:
            raise MaxRetryError(_pool, url or "")
        return super().increment(method, url, response, error, _pool, _stacktrace)


_RETRIES = _Patience(
    total=3, redirect=3, backoff_factor=0.2, status_forcelist=(429, 502, 503, 504), raise_on_status=False
)
_NO_RETRIES = urllib3.Retry(0)
_NOT_THERE = frozenset({403, 404, 410})
"""Object stores answer 403 for what is not there when the reader may not list."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpTransport:
    """Reads the files under one web address.

    Args:
        location: The repository's address, with or without a slash at the end.
    """

    def __init__(self, location: str) -> None:
        self._location = location.rstrip("/")
        self._pool = _pool(self._location)

    @property
    def location(self) -> str:
        """The web address."""
        return self._location

    def read(self, path: str, *, limit: int) -> bytes:
        """See `Transport.read`."""
        return read_limited(self, path, limit)

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        check_file(path, where=self._location)
        with self._wrapping(path), contextlib.closing(self._get(path, offset, length)) as response:
            if response.status == 416:
                return
            self._check(path, response)
            if length is not None and response.status == 200:
                raise self._unreachable(NoRangesError, path, "the whole file, where a part of it was asked for")
            start = _start(response)
            if start > offset or (length is not None and start != offset):
                raise wrong_range(f"{self._location}/{path}", offset, response.headers.get("Content-Range"))
            yield from bounded(_pieces(response), offset - start, length)

    def _get(self, path: str, offset: int, length: int | None) -> urllib3.BaseHTTPResponse:
        last = "" if length is None else offset + length - 1
        headers = _HEADERS | ({"Range": f"bytes={offset}-{last}"} if offset or length is not None else {})
        url = f"{self._location}/{quote(path, safe='/%')}"
        return self._pool.request(
            "GET", url, headers=headers, timeout=_TIMEOUT, retries=_RETRIES, preload_content=False
        )

    @contextlib.contextmanager
    def _wrapping(self, path: str) -> Iterator[None]:
        try:
            yield
        except (HTTPError, OSError) as error:
            raise self._unreachable(UnreachableError, path, _short(error)) from error

    def _check(self, path: str, response: urllib3.BaseHTTPResponse) -> None:
        if response.status in {200, 206}:
            return
        status = f"HTTP status {response.status}"
        if response.status in _NOT_THERE:
            raise self._unreachable(NotThereError, path, status)
        if wait := _asked_wait(response):
            raise self._unreachable(BusyError, path, f"{status}, to be asked again in {wait:.0f} seconds")
        raise self._unreachable(UnreachableError, path, status)

    def _unreachable(self, kind: type[UnreachableError], path: str, actual: str) -> UnreachableError:
        return kind(
            "web address",
            where=f"{self._location}/{path}",
            expected="an answer with the file",
            actual=actual,
            remedy="check the address, the network and the proxy, then run the command again",
        )


def _pool(location: str) -> urllib3.PoolManager:
    """A connection pool, through the proxy that the environment names for this address."""
    parts = urlsplit(location)
    proxy = getproxies().get(parts.scheme)
    host = parts.hostname or ""
    if proxy is None or host in _LOOPBACK or proxy_bypass(host):
        return urllib3.PoolManager(maxsize=_CONNECTIONS)
    return urllib3.ProxyManager(proxy, maxsize=_CONNECTIONS)


def _start(response: urllib3.BaseHTTPResponse) -> int:
    """The offset of the first byte of the answer: 0 unless the server honoured the range."""
    if response.status != 206:
        return 0
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else 0


def _asked_wait(response: urllib3.BaseHTTPResponse) -> float:
    """The seconds for which a server asks to be left alone; 0 if it does not."""
    return _NO_RETRIES.get_retry_after(response) or 0.0


def _pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes: one that waited for whole pieces could not tell a slow server from a dead one."""
    while piece := response.read1(CHUNK_BYTES, decode_content=False):
        yield piece


def _short(error: Exception) -> str:
    """The innermost reason: urllib3 nests it, and a person wants the last link alone."""
    reason: object = getattr(error, "reason", None) or error
    text = str(reason)
    return text.rpartition(": ")[2] if ">: " in text else text or type(error).__name__
