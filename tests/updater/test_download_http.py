"""Files over real web servers that cut, crawl, lie, ignore ranges, and ask to be left alone."""

import gzip
import hashlib
import http.server
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry
from changeover_registry.transport import open_transport
from changeover_updater.transfer import Limits, fetch_file, partial_path

PATH = "objects/ab/abcd"
DATA = random.Random(3).randbytes(8 * BLOCK_BYTES + 1234)
QUICK = Limits(first_wait_seconds=0.01, longest_wait_seconds=0.01)
FETCH = """
import sys
from pathlib import Path
from changeover_registry.records.release import FileEntry
from changeover_registry.transport import open_transport
from changeover_updater.transfer import fetch_file
entry = FileEntry.model_validate_json(sys.argv[2])
fetch_file([open_transport(sys.argv[1])], "objects/ab/abcd", entry, Path(sys.argv[3]), progress=lambda n: None)
"""


def entry_of(data: bytes) -> FileEntry:
    blocks = [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)]
    digests = tuple(hashlib.sha256(block).hexdigest() for block in blocks)
    return FileEntry(path="model.onnx", size=len(data), sha256=hashlib.sha256(data).hexdigest(), blocks=digests)


ENTRY = entry_of(DATA)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file with ranges, as a web server does, and misbehaves as it is told.

    `cuts` are offsets of the file at which a connection ends, once each; `pause` seconds pass before each of `piece`
    bytes; `ranges` False gives the whole file always; `busy` answers come before the first good one.
    """

    daemon_threads = True

    def __init__(self, data: bytes = DATA) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.ranges = True
        self.cuts: list[int] = []
        self.cut_every: int | None = None
        self.piece = 1 << 16
        self.pause = 0.0
        self.busy: list[tuple[int, str]] = []
        self.encoding = ""
        self.sent = 0
        self.asked: list[str] = []
        self.guard = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        with self.server.guard:
            self.server.asked.append(asked)
            busy = self.server.busy.pop(0) if self.server.busy else None
        if busy:
            self.send_response(busy[0])
            self.send_header("Retry-After", busy[1])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(asked)

    def _send(self, asked: str) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if self.server.ranges else None
        size = len(self.server.data)
        start = int(match[1]) if match else 0
        end = min(int(match[2]) + 1 if match and match[2] else size, size)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        stop = self._cut(start, end)
        for at in range(start, stop, self.server.piece):
            time.sleep(self.server.pause)
            piece = self.server.data[at : min(at + self.server.piece, stop)]
            self.wfile.write(piece)
            with self.server.guard:
                self.server.sent += len(piece)
        if stop < end:
            self.close_connection = True

    def _cut(self, start: int, end: int) -> int:
        """Where this answer ends: at the first cut in it, which is then used up."""
        with self.server.guard:
            cuts = [cut for cut in self.server.cuts if start <= cut < end]
            if cuts:
                self.server.cuts.remove(min(cuts))
                return min(cuts)
        return min(end, start + self.server.cut_every) if self.server.cut_every else end


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(data: bytes = DATA) -> Server:
        servers.append(Server(data))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def fetch(target: Path, *servers: Server, entry: FileEntry = ENTRY, limits: Limits = QUICK) -> int:
    """Fetch a file from these servers; returns how many bytes were reported."""
    counted: list[int] = []
    mirrors = [open_transport(server.address) for server in servers]
    fetch_file(mirrors, PATH, entry, target, progress=counted.append, limits=limits)
    return sum(counted)


def test_a_file_comes_in_parts_over_two_connections_and_nothing_comes_twice(serve: Any, target: Path) -> None:
    server = serve()
    assert fetch(target, server) == len(DATA)
    assert target.read_bytes() == DATA
    assert server.sent == len(DATA)
    assert len(server.asked) > 2
    assert all(asked.startswith("bytes=") for asked in server.asked)


def test_a_cut_at_any_of_20_random_offsets_costs_at_most_two_blocks(serve: Any, target: Path) -> None:
    chance = random.Random(11)
    for cut in [0, BLOCK_BYTES, *(chance.randrange(len(DATA)) for _ in range(18))]:
        server = serve()
        server.cuts = [cut]
        fetch(target, server)
        assert server.cuts == []
        assert target.read_bytes() == DATA
        assert server.sent - len(DATA) <= BLOCK_BYTES, f"cut at {cut}"
        target.unlink()


def test_20_cuts_in_one_download_cost_at_most_two_blocks_each(serve: Any, target: Path) -> None:
    server, chance = serve(), random.Random(5)
    server.cuts = sorted(chance.randrange(len(DATA)) for _ in range(20))
    fetch(target, server, limits=Limits(tries=20, first_wait_seconds=0.01, longest_wait_seconds=0.01))
    assert target.read_bytes() == DATA
    assert server.sent - len(DATA) <= 20 * 2 * BLOCK_BYTES


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_download_goes_on_where_it_was_and_loses_at_most_two_blocks(
    serve: Any, target: Path, share: float
) -> None:
    server = serve()
    server.pause = 0.002
    process = subprocess.Popen([sys.executable, "-c", FETCH, server.address, ENTRY.model_dump_json(), str(target)])
    try:
        deadline = time.monotonic() + 60
        while server.sent < share * len(DATA) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not target.exists()
    before, server.pause = server.sent, 0.0
    fetch(target, server)
    assert target.read_bytes() == DATA
    # What stood in the sockets when the process died was sent, and never came: both connections' buffers.
    assert server.sent - len(DATA) <= 2 * BLOCK_BYTES + 2 * _socket_bytes(), f"killed after {before} bytes"
    assert server.sent - before < len(DATA) - (share * len(DATA) - 3 * BLOCK_BYTES)


def _socket_bytes() -> int:
    """The most that a socket's receive buffer may hold here."""
    return int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text(encoding="ascii").split()[2])


def test_a_server_without_ranges_is_read_by_one_stream(serve: Any, target: Path) -> None:
    server = serve()
    server.ranges = False
    fetch(target, server)
    assert target.read_bytes() == DATA
    assert server.asked == [f"bytes=0-{2 * BLOCK_BYTES - 1}", ""]


def test_a_server_without_ranges_is_resumed_by_skipping_and_not_for_ever(serve: Any, target: Path) -> None:
    server = serve()
    server.ranges, server.cut_every = False, 3 * BLOCK_BYTES + 100
    with pytest.raises(UnreachableError):
        fetch(target, server)
    assert len(server.asked) <= 1 + QUICK.tries
    assert partial_path(target).stat().st_size == 3 * BLOCK_BYTES
    server.cut_every, server.asked = None, []
    fetch(target, server)
    assert target.read_bytes() == DATA
    assert len(server.asked) == 2


def test_a_server_that_forgets_ranges_on_the_way_is_no_endless_loop(serve: Any, target: Path) -> None:
    server = serve()
    with partial_path(target).open("wb") as file:
        file.write(DATA[: 3 * BLOCK_BYTES])
    server.ranges = False
    assert fetch(target, server) == len(DATA)
    assert target.read_bytes() == DATA


def test_one_byte_every_so_often_is_left_for_the_next_mirror(serve: Any, target: Path) -> None:
    slow, good = serve(), serve()
    slow.piece, slow.pause = 1, 0.1
    started = time.monotonic()
    fetch(target, slow, good, limits=Limits(floor_seconds=1.0))
    assert target.read_bytes() == DATA
    assert slow.sent < 1000
    assert good.sent == len(DATA)
    assert time.monotonic() - started < 20


def test_a_silent_server_is_out_of_reach_and_what_came_is_kept(serve: Any, target: Path) -> None:
    server = serve()
    partial_path(target).write_bytes(DATA[:BLOCK_BYTES])
    server.pause = 30.0
    with pytest.raises(UnreachableError, match="expected at least 32 KiB a second, found less, for 1 seconds"):
        fetch(target, server, limits=Limits(floor_seconds=1.0))
    assert partial_path(target).read_bytes()[:BLOCK_BYTES] == DATA[:BLOCK_BYTES]


def test_a_mirror_that_lies_is_named_and_the_next_one_serves(
    serve: Any, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lie = bytearray(DATA)
    lie[5 * BLOCK_BYTES + 7] ^= 1
    liar, good = serve(bytes(lie)), serve()
    with caplog.at_level(logging.WARNING):
        fetch(target, liar, good)
    assert target.read_bytes() == DATA
    assert good.sent < 4 * BLOCK_BYTES
    (told,) = [record.getMessage() for record in caplog.records if "mirror" in record.getMessage()]
    assert liar.address in told
    assert "digest" in told


def test_mirrors_that_are_all_wrong_are_all_named(serve: Any, target: Path) -> None:
    lie = b"\0" * len(DATA)
    first, second, gone = serve(lie), serve(DATA[:-1]), serve()
    gone.shutdown()
    gone.server_close()
    with pytest.raises(TrustError) as caught:
        fetch(target, gone, first, second)
    assert all(server.address.removeprefix("http://") in str(caught.value) for server in (first, second, gone))
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not partial_path(target).exists()


def test_a_server_that_is_busy_for_a_moment_is_asked_again_when_it_said(serve: Any, target: Path) -> None:
    server = serve(DATA[:1000])
    server.busy = [(503, "1")]
    started = time.monotonic()
    fetch(target, server, entry=entry_of(DATA[:1000]))
    assert target.read_bytes() == DATA[:1000]
    assert time.monotonic() - started >= 1.0


def test_a_server_that_asks_for_an_hour_is_passed_over_at_once(serve: Any, target: Path) -> None:
    busy, good = serve(), serve()
    busy.busy = [(429, "3600")] * 10
    started = time.monotonic()
    fetch(target, busy, good)
    assert target.read_bytes() == DATA
    assert time.monotonic() - started < 10
    with pytest.raises(UnreachableError, match="HTTP status 429, to be asked again in 3600 seconds"):
        open_transport(busy.address).read(PATH, limit=10)


def test_a_bomb_is_never_unpacked(serve: Any, target: Path) -> None:
    bomb = gzip.compress(bytes(256 * 2**20))
    server = serve(bomb)
    server.encoding = "gzip"
    with pytest.raises(TrustError, match="digest|length"):
        fetch(target, server, entry=entry_of(bytes(1000)))
    assert not target.exists()
    fetch(target, server, entry=entry_of(bomb))
    assert target.read_bytes() == bomb


def test_a_range_that_is_longer_than_it_was_asked_for_is_cut(serve: Any, target: Path) -> None:
    server = serve(DATA[:1000])
    assert b"".join(open_transport(server.address).stream(PATH, offset=10, length=5)) == DATA[10:15]
    assert server.asked == ["bytes=10-14"]
