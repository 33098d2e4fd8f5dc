import hashlib
import http.server
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
from changeover_registry.transport import NotThereError, open_transport
from changeover_registry.transport.memory import MemoryTransport
from changeover_updater.download import fetch_file, partial_path

PATH = "objects/ab/abcd"
DATA = random.Random(7).randbytes(2 * BLOCK_BYTES + 1234)

SLOW_COPY = """
import sys, time
from pathlib import Path
from changeover_registry.records.release import FileEntry
from changeover_registry.transport.folder import FolderTransport
from changeover_updater.download import fetch_file
class Slow(FolderTransport):
    def stream(self, path, *, offset=0):
        for piece in super().stream(path, offset=offset):
            time.sleep(0.02)
            yield piece
entry = FileEntry.model_validate_json(sys.argv[2])
print("begins", flush=True)
fetch_file(Slow(Path(sys.argv[1])), "objects/ab/abcd", entry, Path(sys.argv[3]), progress=lambda n: None)
"""


def entry_of(data: bytes) -> FileEntry:
    blocks = [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)]
    return FileEntry(
        path="model.onnx",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        blocks=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
    )


class Counting(MemoryTransport):
    """Remembers from which offsets it was asked, and how many bytes it gave."""

    def __init__(self, data: bytes) -> None:
        super().__init__({PATH: data}, piece_bytes=100_000)
        self.offsets: list[int] = []
        self.given = 0

    def stream(self, path: str, *, offset: int = 0) -> Any:
        self.offsets.append(offset)
        for piece in super().stream(path, offset=offset):
            self.given += len(piece)
            yield piece


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def fetch(transport: Any, data: bytes, target: Path) -> list[int]:
    progress: list[int] = []
    fetch_file(transport, PATH, entry_of(data), target, progress=progress.append)
    return progress


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 1234])
def test_a_file_of_any_size_arrives_whole_and_reports_its_bytes(target: Path, size: int) -> None:
    progress = fetch(Counting(DATA[:size]), DATA[:size], target)
    assert target.read_bytes() == DATA[:size]
    assert sum(progress) == size
    assert not partial_path(target).exists()


def test_a_file_that_was_there_is_replaced_in_one_step(target: Path) -> None:
    target.write_bytes(b"old")
    fetch(Counting(DATA), DATA, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("cut", [1, 5, BLOCK_BYTES - 1])
def test_a_cut_before_the_first_block_is_reported_and_the_next_call_begins_again(target: Path, cut: int) -> None:
    transport = Counting(DATA)
    transport.cuts[PATH] = cut
    with pytest.raises(UnreachableError, match=f"cut at byte {cut}"):
        fetch(transport, DATA, target)
    assert not target.exists()
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("cut", [BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1000])
def test_a_cut_after_a_block_is_resumed_from_the_last_whole_block(target: Path, cut: int) -> None:
    transport = Counting(DATA)
    transport.cuts[PATH] = cut
    progress = fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert transport.offsets == [0, cut // BLOCK_BYTES * BLOCK_BYTES]
    assert transport.given - len(DATA) <= BLOCK_BYTES
    assert sum(progress) == len(DATA)


def test_what_an_earlier_run_verified_is_not_fetched_again(target: Path) -> None:
    transport = Counting(DATA)
    partial_path(target).write_bytes(DATA[: 2 * BLOCK_BYTES + 7])
    progress = fetch(transport, DATA, target)
    assert transport.offsets == [2 * BLOCK_BYTES]
    assert progress == [BLOCK_BYTES, BLOCK_BYTES, 1234]
    assert target.read_bytes() == DATA


def test_a_complete_partial_needs_no_network(target: Path) -> None:
    transport = Counting(DATA)
    transport.reachable = False
    partial_path(target).write_bytes(DATA)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("spot", [0, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])
def test_a_poisoned_partial_is_kept_up_to_the_poison_only(target: Path, spot: int) -> None:
    poisoned = bytearray(DATA)
    poisoned[spot] ^= 1
    partial_path(target).write_bytes(poisoned)
    transport = Counting(DATA)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert transport.offsets == [spot // BLOCK_BYTES * BLOCK_BYTES]


def test_a_partial_that_is_too_long_is_cut_to_size(target: Path) -> None:
    partial_path(target).write_bytes(DATA + b"poison" * 1000)
    fetch(Counting(DATA), DATA, target)
    assert target.read_bytes() == DATA


def test_a_partial_of_an_empty_file_is_emptied(target: Path) -> None:
    partial_path(target).write_bytes(b"poison")
    fetch(Counting(b""), b"", target)
    assert target.read_bytes() == b""


@pytest.mark.parametrize("spot", [0, BLOCK_BYTES + 3, len(DATA) - 1])
def test_one_byte_changed_on_the_way_is_refused_naming_file_and_both_digests(target: Path, spot: int) -> None:
    changed = bytearray(DATA)
    changed[spot] ^= 1
    transport = Counting(bytes(changed))
    with pytest.raises(TrustError) as caught:
        fetch(transport, DATA, target)
    block = slice(spot // BLOCK_BYTES * BLOCK_BYTES, (spot // BLOCK_BYTES + 1) * BLOCK_BYTES)
    assert caught.value.exit_code == 5
    assert caught.value.where.startswith("model.onnx, bytes ")
    assert PATH in caught.value.where
    assert caught.value.expected == f"sha256 {hashlib.sha256(DATA[block]).hexdigest()}"
    assert caught.value.actual == f"sha256 {hashlib.sha256(changed[block]).hexdigest()}"
    assert not target.exists()
    assert not partial_path(target).exists()


def test_the_digests_of_a_small_file_are_those_of_the_whole_file(target: Path) -> None:
    with pytest.raises(TrustError) as caught:
        fetch(Counting(b"evil"), b"good", target)
    assert caught.value.expected == f"sha256 {entry_of(b'good').sha256}"


def test_a_block_that_is_wrong_once_is_asked_for_again(target: Path) -> None:
    class Flaky(Counting):
        def stream(self, path: str, *, offset: int = 0) -> Any:
            for number, piece in enumerate(super().stream(path, offset=offset)):
                yield b"\0" * len(piece) if len(self.offsets) == 1 and number == 50 else piece

    transport = Flaky(DATA)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert transport.offsets == [0, BLOCK_BYTES]


def test_a_server_that_sends_too_much_is_not_listened_to(target: Path) -> None:
    transport = Counting(DATA + b"x" * 50_000_000)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert transport.given < len(DATA) + 200_000


def test_a_server_that_never_ends_with_wrong_bytes_costs_two_blocks(target: Path) -> None:
    class Endless(Counting):
        def stream(self, path: str, *, offset: int = 0) -> Any:
            self.offsets.append(offset)
            while path:
                self.given += 100_000
                yield b"x" * 100_000

    transport = Endless(b"")
    with pytest.raises(TrustError, match="digest"):
        fetch(transport, DATA, target)
    assert transport.given < 2 * BLOCK_BYTES + 400_000


@pytest.mark.parametrize("size", [0, 100, BLOCK_BYTES, BLOCK_BYTES + 5, len(DATA) - 1])
def test_a_file_that_is_too_short_there_is_refused_naming_both_sizes(target: Path, size: int) -> None:
    with pytest.raises(TrustError, match=rf"length: model\.onnx .*expected {len(DATA)} bytes, found {size} bytes"):
        fetch(Counting(DATA[:size]), DATA, target)
    assert not target.exists()


def test_a_file_that_is_not_there_is_out_of_reach(target: Path) -> None:
    with pytest.raises(NotThereError, match=PATH):
        fetch(MemoryTransport({}), DATA, target)
    assert not target.exists()


def test_a_missing_folder_is_an_error_of_the_disk(target: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetch(Counting(DATA), DATA, target.parent / "nowhere" / "model.onnx")


def test_a_progress_that_raises_stops_and_is_resumed(target: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    transport = Counting(DATA)
    with pytest.raises(KeyboardInterrupt):
        fetch_file(transport, PATH, entry_of(DATA), target, progress=stop)
    assert partial_path(target).read_bytes() == DATA[:BLOCK_BYTES]
    fetch(transport, DATA, target)
    assert transport.offsets == [0, BLOCK_BYTES]


def test_a_killed_download_leaves_a_verified_beginning_and_no_target(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "repository" / PATH
    source.parent.mkdir(parents=True)
    source.write_bytes(DATA)
    arguments = [str(tmp_path / "repository"), entry_of(DATA).model_dump_json(), str(target)]
    process = subprocess.Popen([sys.executable, "-c", SLOW_COPY, *arguments], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if partial_path(target).exists() and partial_path(target).stat().st_size >= BLOCK_BYTES:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert not target.exists()
    kept = partial_path(target).read_bytes()
    assert kept
    assert DATA.startswith(kept)
    fetch(open_transport(str(tmp_path / "repository")), DATA, target)
    assert target.read_bytes() == DATA


# Over a real web server that cuts the line, with and without ranges.


class Cutting(http.server.BaseHTTPRequestHandler):
    """Serves DATA and cuts each answer after `most` bytes while `cuts` last."""

    ranges = True
    most = 0
    cuts = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        kind = type(self)
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and self.ranges else 0
        body = DATA[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        if kind.cuts > 0:
            kind.cuts -= 1
            body = body[: kind.most]
        try:
            self.wfile.write(body)
        except OSError:
            return
        self.close_connection = True


@pytest.fixture
def cutting() -> Iterator[Callable[..., str]]:
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*, ranges: bool, most: int, cuts: int) -> str:
        handler = type("Handler", (Cutting,), {"ranges": ranges, "most": most, "cuts": cuts})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("most", [BLOCK_BYTES, BLOCK_BYTES + 100, 2 * BLOCK_BYTES + 100])
def test_a_web_server_that_cuts_the_line_is_resumed(
    cutting: Callable[..., str],
    target: Path,
    ranges: bool,
    most: int,
) -> None:
    address = cutting(ranges=ranges, most=most, cuts=1)
    fetch(open_transport(address), DATA, target)
    assert target.read_bytes() == DATA


def test_a_web_server_that_cuts_every_answer_in_the_same_block_is_given_up(
    cutting: Callable[..., str], target: Path
) -> None:
    address = cutting(ranges=True, most=BLOCK_BYTES + 100, cuts=2)
    fetch(open_transport(address), DATA, target)
    assert target.read_bytes() == DATA
    target.unlink()
    address = cutting(ranges=False, most=BLOCK_BYTES + 100, cuts=1000)
    with pytest.raises(UnreachableError):
        fetch(open_transport(address), DATA, target)
    assert partial_path(target).read_bytes() == DATA[:BLOCK_BYTES]
