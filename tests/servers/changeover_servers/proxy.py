"""A proxy in front of one server that counts HTTP requests and bytes, and cuts the connection at the one it is told.

It forwards bytes as they are, the Host header included, so that signed S3 requests stay valid. After a cut every
further connection is closed at once, as behind a cable that somebody pulled, until it is healed; or the one request
alone is cut.
"""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Cut", "CuttingProxy"]

When = Literal["before", "within", "after"]
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Cut:
    """Where to cut.

    Args:
        request: The number of the request, from 1, counted over all connections since this cut was set.
        path: Or the first request whose method and path, ``PUT /where``, have this in them.
        byte: Or how many bytes go through, counted likewise; the rest does not.
        when: The request never arrives; or half of it does; or all of it does, and its answer does not come back.
        direction: Whose bytes are counted: those that the client sends (up) or gets (down).
        once: Whether everything after it goes through again.
    """

    request: int | None = None
    path: str | None = None
    byte: int | None = None
    when: When = "before"
    direction: Literal["up", "down"] = "up"
    once: bool = False


@dataclass
class _State:
    cut: Cut | None = None
    down: bool = False
    happened: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)
    up_bytes: int = 0
    down_bytes: int = 0


class CuttingProxy:
    """A proxy on loopback in front of `target`, ``http://HOST:PORT``; lets everything through until told otherwise."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._state = _State()
        self._open: set[_Connection] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where to send what should go through here."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def requests(self) -> tuple[str, ...]:
        """Method and path of each request since the last `cut` or `heal`, the one that was cut included."""
        with self._lock:
            return tuple(self._state.seen)

    @property
    def bytes_up(self) -> int:
        """What clients sent since the last `cut` or `heal`, and went through."""
        return self._state.up_bytes

    @property
    def bytes_down(self) -> int:
        """What they got."""
        return self._state.down_bytes

    @property
    def was_cut(self) -> bool:
        """Whether the cut that was set has happened."""
        return self._state.down

    def await_cut(self, seconds: float = 60) -> None:
        """Return once the cut has happened."""
        assert self._state.happened.wait(seconds), "nothing was cut"

    def cut(self, cut: Cut) -> None:
        """Set the one cut, and count from here."""
        with self._lock:
            self._state = _State(cut)

    def heal(self) -> None:
        """Let everything through, and count from here."""
        with self._lock:
            self._state = _State()

    def close(self) -> None:
        """End all connections and take no more."""
        self._closed = True
        # A thread that waits in accept() is woken by shutdown alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in tuple(self._open):
            connection.abort()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses():
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            connection = _Connection(self, client, server)
            self._open.add(connection)
            connection.start()

    def _refuses(self) -> bool:
        state = self._state
        return state.down and not (state.cut and state.cut.once)

    def _counted(self, line: str) -> When | None:
        """Count a request; how it is to be cut, if it is the one."""
        with self._lock:
            state = self._state
            if self._refuses():
                return "before"
            state.seen.append(line)
            cut = state.cut
            if cut is None or not (cut.request == len(state.seen) or (cut.path and cut.path in line)):
                return None
            return cut.when

    def _allowed(self, direction: Literal["up", "down"], length: int) -> int:
        """How many of so many bytes may go through, counting them."""
        with self._lock:
            state = self._state
            before = state.up_bytes if direction == "up" else state.down_bytes
            cut = state.cut
            counted = cut is not None and cut.byte is not None and cut.direction == direction and not state.down
            allowed = max(0, min(length, cut.byte - before)) if counted and cut and cut.byte is not None else length
            if direction == "up":
                state.up_bytes += allowed
            else:
                state.down_bytes += allowed
            return allowed

    def _cut_now(self) -> None:
        """The cut has happened: all other connections end with it, unless it is for one request alone."""
        with self._lock:
            state = self._state
            once = state.cut is not None and state.cut.once
            state.down = True
            state.happened.set()
            if not once:
                state.cut = None
        if not once:
            for connection in tuple(self._open):
                connection.abort()


class _Connection:
    """One client's connection and ours to the server."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._requests = _Requests()
        self._mute = False

    def start(self) -> None:
        threading.Thread(target=self._run, args=(self._up,), daemon=True).start()
        threading.Thread(target=self._run, args=(self._down,), daemon=True).start()

    def abort(self) -> None:
        """Both ends see the connection die."""
        _reset(self._client)
        _reset(self._server)
        self._proxy._open.discard(self)

    def _run(self, way: Callable[[], None]) -> None:
        try:
            way()
        except OSError:
            self.abort()

    def _up(self) -> None:
        while data := self._client.recv(_CHUNK):
            for piece in self._requests.split(data):
                if piece.starts:
                    self._requests.when = self._proxy._counted(piece.starts)
                if not self._sent(piece):
                    self._proxy._cut_now()
                    self.abort()
                    return
        # What is on its way back still arrives.
        self._server.shutdown(socket.SHUT_WR)

    def _sent(self, piece: "_Piece") -> bool:
        when = self._requests.when
        if when == "before":
            return False
        data = piece.data
        if when == "within":
            half = data[: len(data) // 2] if piece.alone else data[: max(0, piece.body_total // 2 - piece.body_before)]
            if piece.alone or (not piece.starts and len(half) < len(data)):
                self._server.sendall(half)
                return False
        allowed = self._proxy._allowed("up", len(data))
        if when == "after" and piece.ends:
            # Before the last bytes of it go, so that the answer cannot slip through.
            self._mute = True
        self._server.sendall(data[:allowed])
        return allowed == len(data)

    def _down(self) -> None:
        while data := self._server.recv(_CHUNK):
            allowed = 0 if self._mute else self._proxy._allowed("down", len(data))
            self._client.sendall(data[:allowed])
            if allowed < len(data):
                break
        else:
            if not self._mute:
                self._finish()
                return
        self._proxy._cut_now()
        self.abort()

    def _finish(self) -> None:
        """The server has said all: the client gets it and an orderly end."""
        self._client.shutdown(socket.SHUT_WR)
        self._client.close()
        self._server.close()
        self._proxy._open.discard(self)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some bytes of one request.

    Args:
        data: The bytes.
        starts: Its method and path, where its head is in here.
        ends: Whether it is complete with this.
        alone: Whether it has no body, so that this is all of it.
        body_total: The length of its body; 2 for a chunked one, whose first piece is cut in the middle.
        body_before: How much of the body went before this.
    """

    data: bytes
    starts: str = ""
    ends: bool = False
    alone: bool = False
    body_total: int = 0
    body_before: int = 0


class _Requests:
    """Finds where the requests of a connection begin and end; HTTP/1.1 with a length or in chunks."""

    def __init__(self) -> None:
        self.when: When | None = None
        self._held = b""
        self._left: int | None = None
        self._total = 0
        self._chunked = False

    def split(self, data: bytes) -> "list[_Piece]":
        """The pieces that can be forwarded; a head that is not complete is kept back until it is."""
        pieces = []
        self._held += data
        while self._held:
            piece = self._head() if self._left is None else self._body()
            if piece is None:
                break
            pieces.append(piece)
        return pieces

    def _head(self) -> _Piece | None:
        head, found, rest = self._held.partition(b"\r\n\r\n")
        if not found:
            return None
        self._held = rest
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self._chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self._total = 2 if self._chunked else int(fields.get("content-length", "0"))
        self._left = self._total or None
        method, path = re.match(r"(\S+) (\S+)", lines[0]).groups()  # type: ignore[union-attr]
        alone = self._left is None
        return _Piece(head + found, f"{method} {path}", ends=alone, alone=alone)

    def _body(self) -> _Piece | None:
        if self._chunked:
            return self._chunk()
        assert self._left is not None
        data, self._held = self._held[: self._left], self._held[self._left :]
        before = self._total - self._left
        self._left = self._left - len(data) or None
        return _Piece(data, ends=self._left is None, body_total=self._total, body_before=before)

    def _chunk(self) -> _Piece | None:
        """One whole chunk; the last one with the empty line after it (no client of ours sends trailers)."""
        line, found, rest = self._held.partition(b"\r\n")
        if not found:
            return None
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        data = line + found + rest[: size + 2]
        self._held = rest[size + 2 :]
        if size == 0:
            self._left = None
        return _Piece(data, ends=size == 0, body_total=2)


def _reset(end: socket.socket) -> None:
    """Close it so that the other side sees a reset, not an orderly end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        # Wakes the thread that waits on it; close alone would not.
        end.shutdown(socket.SHUT_RDWR)
    end.close()
