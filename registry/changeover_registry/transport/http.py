"""A repository behind HTTP or HTTPS: any web server, with or without ranges.

Rules: TLS by the operating system's certificates; proxies from the usual environment variables; three tries to get an
answer, 10 s for a connection, 30 s without a byte; no compression, so that offsets mean bytes of the file. A server
that ignores a range is handled here, by skipping. Left out: log-in, and a floor on throughput.
"""

import contextlib
from collections.abc import Generator, Iterator
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.transport.interface import CHUNK_BYTES, NotThereError, check_file, read_limited

__all__ = ["HttpTransport"]

_HEADERS = {"User-Agent": "changeover", "Accept-Encoding": "identity"}
_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)
_RETRIES = urllib3.Retry(
    total=3, redirect=3, backoff_factor=0.2, status_forcelist=(429, 502, 503, 504), raise_on_status=False
)
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

    def stream(self, path: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        check_file(path, where=self._location)
        with self._wrapping(path), contextlib.closing(self._get(path, offset)) as response:
            if response.status == 416:
                return
            self._check(path, response.status)
            skip = offset - _start(response)
            if skip < 0:
                raise self._wrong_range(path, offset, response)
            yield from _skipping(response.stream(CHUNK_BYTES, decode_content=False), skip)

    def _get(self, path: str, offset: int) -> urllib3.BaseHTTPResponse:
        headers = _HEADERS | ({"Range": f"bytes={offset}-"} if offset else {})
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

    def _check(self, path: str, status: int) -> None:
        if status in _NOT_THERE:
            raise self._unreachable(NotThereError, path, f"HTTP status {status}")
        if status not in {200, 206}:
            raise self._unreachable(UnreachableError, path, f"HTTP status {status}")

    def _unreachable(self, kind: type[UnreachableError], path: str, actual: str) -> UnreachableError:
        return kind(
            "web address",
            where=f"{self._location}/{path}",
            expected="an answer with the file",
            actual=actual,
            remedy="check the address, the network and the proxy, then run the command again",
        )

    def _wrong_range(self, path: str, offset: int, response: urllib3.BaseHTTPResponse) -> TrustError:
        return TrustError(
            "range",
            where=f"{self._location}/{path}",
            expected=f"bytes from {offset} on",
            actual=str(response.headers.get("Content-Range")),
            remedy="ask whoever keeps the server; it answers another range than it was asked for",
        )


def _pool(location: str) -> urllib3.PoolManager:
    """A connection pool, through the proxy that the environment names for this address."""
    parts = urlsplit(location)
    proxy = getproxies().get(parts.scheme)
    host = parts.hostname or ""
    if proxy is None or host in _LOOPBACK or proxy_bypass(host):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)


def _start(response: urllib3.BaseHTTPResponse) -> int:
    """The offset of the first byte of the answer: 0 unless the server honoured the range."""
    if response.status != 206:
        return 0
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else 0


def _skipping(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))


def _short(error: Exception) -> str:
    """The innermost reason: urllib3 nests it, and a person wants the last link alone."""
    reason: object = getattr(error, "reason", None) or error
    text = str(reason)
    return text.rpartition(": ")[2] if ">: " in text else text or type(error).__name__
