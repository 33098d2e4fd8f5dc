import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry
from changeover_registry.transport import NotThereError, open_transport
from changeover_registry.transport.memory import MemoryTransport
from changeover_updater.transfer import Limits, fetch_file, partial_path

PATH = "objects/ab/abcd"
DATA = random.Random(7).randbytes(2 * BLOCK_BYTES + 1234)
QUICK = Limits(first_wait_seconds=0.01, longest_wait_seconds=0.01)

SLOW_COPY = """
import sys, time
from pathlib import Path
from changeover_registry.records.release import FileEntry
from changeover_registry.transport.folder import FolderTransport
from changeover_updater.transfer import fetch_file
class Slow(FolderTransport):
    def stream(self, path, *, offset=0, length=None):
        for piece in super().stream(path, offset=offset, length=length):
            time.sleep(0.02)
            yield piece
entry = FileEntry.model_validate_json(sys.argv[2])
print("begins", flush=True)
fetch_file([Slow(Path(sys.argv[1]))], "objects/ab/abcd", entry, Path(sys.argv[3]), progress=lambda n: None)
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
    """Remembers which parts it was asked for, and how many bytes it gave."""

    def __init__(self, data: bytes) -> None:
        super().__init__({PATH: data}, piece_bytes=100_000)
        self.offsets: list[int] = []
        self.given = 0

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Any:
        self.offsets.append(offset)
        for piece in super().stream(path, offset=offset, length=length):
            self.given += len(piece)
            yield piece


class Cut(Counting):
    """Breaks off every stream before one byte of the file, as long as `times` lasts."""

    def __init__(self, data: bytes, cut: int, times: int) -> None:
        super().__init__(data)
        self.cut, self.times = cut, times

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Any:
        end = len(DATA) if length is None else offset + length
        if self.times and offset <= self.cut < end:
            self.times -= 1
            self.cuts[path] = self.cut
        yield from super().stream(path, offset=offset, length=length)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def fetch(transport: Any, data: bytes, target: Path) -> list[int]:
    progress: list[int] = []
    fetch_file([transport], PATH, entry_of(data), target, progress=progress.append, limits=QUICK)
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
def test_a_mirror_that_never_brings_a_whole_block_is_reported_and_the_next_call_goes_on(target: Path, cut: int) -> None:
    transport = Cut(DATA, cut, times=1000)
    with pytest.raises(UnreachableError, match=f"cut at byte {cut}"):
        fetch(transport, DATA, target)
    assert not target.exists()
    assert QUICK.tries <= 1000 - transport.times <= QUICK.tries + 3
    transport.times, transport.offsets = 0, []
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("cut", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1000])
def test_a_cut_costs_the_block_that_it_met(target: Path, cut: int) -> None:
    transport = Cut(DATA, cut, times=1)
    progress = fetch(transport, DATA, target)
    assert transport.times == 0
    assert target.read_bytes() == DATA
    assert sorted(transport.offsets) == sorted([0, BLOCK_BYTES, 2 * BLOCK_BYTES, cut // BLOCK_BYTES * BLOCK_BYTES])
    assert transport.given - len(DATA) <= BLOCK_BYTES
    assert sum(progress) == len(DATA)


def test_what_an_earlier_run_verified_is_not_fetched_again(target: Path) -> None:
    transport = Counting(DATA)
    partial_path(target).write_bytes(DATA[: 2 * BLOCK_BYTES + 7])
    progress = fetch(transport, DATA, target)
    assert transport.offsets == [2 * BLOCK_BYTES]
    assert progress == [BLOCK_BYTES, BLOCK_BYTES, 1234]
    assert target.read_bytes() == DATA


def test_blocks_that_an_earlier_run_brought_out_of_order_are_kept(target: Path) -> None:
    transport = Counting(DATA)
    with partial_path(target).open("wb") as file:
        file.seek(BLOCK_BYTES)
        file.write(DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    fetch(transport, DATA, target)
    assert sorted(transport.offsets) == [0, 2 * BLOCK_BYTES]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["link", "pipe", "second name"])
def test_what_is_no_file_of_its_own_in_a_partials_place_is_replaced(tmp_path: Path, target: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    if kind == "link":
        partial_path(target).symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(partial_path(target))
    else:
        partial_path(target).hardlink_to(victim)
    fetch(Counting(DATA), DATA, target)
    assert target.read_bytes() == DATA
    assert victim.read_bytes() == b"of somebody else"
    assert target.stat().st_nlink == 1


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
        def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Any:
            first = offset == BLOCK_BYTES and BLOCK_BYTES not in self.offsets
            for number, piece in enumerate(super().stream(path, offset=offset, length=length)):
                yield b"\0" * len(piece) if first and number == 3 else piece

    transport = Flaky(DATA)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert sorted(transport.offsets) == [0, BLOCK_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES]


def test_a_server_that_sends_too_much_is_not_listened_to(target: Path) -> None:
    transport = Counting(DATA + b"x" * 50_000_000)
    fetch(transport, DATA, target)
    assert target.read_bytes() == DATA
    assert transport.given < len(DATA) + 200_000


def test_a_server_that_never_ends_with_wrong_bytes_costs_a_few_blocks(target: Path) -> None:
    class Endless(Counting):
        def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Any:
            self.offsets.append(offset)
            while path or length:
                self.given += 100_000
                yield b"x" * 100_000

    transport = Endless(b"")
    with pytest.raises(TrustError, match="digest"):
        fetch(transport, DATA, target)
    assert transport.given < (QUICK.tries + QUICK.connections) * (BLOCK_BYTES + 200_000)


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


def block_at(path: Path, start: int) -> bool:
    """Whether a file holds the right block at `start`."""
    return path.read_bytes()[start : start + BLOCK_BYTES] == DATA[start : start + BLOCK_BYTES]


def test_a_progress_that_raises_stops_and_is_resumed(target: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    transport = Counting(DATA)
    with pytest.raises(KeyboardInterrupt):
        fetch_file([transport], PATH, entry_of(DATA), target, progress=stop)
    assert not target.exists()
    kept = [start for start in range(0, len(DATA), BLOCK_BYTES) if block_at(partial_path(target), start)]
    assert kept
    transport.offsets = []
    fetch(transport, DATA, target)
    assert sorted([*transport.offsets, *kept]) == [0, BLOCK_BYTES, 2 * BLOCK_BYTES]


def test_a_killed_download_leaves_verified_blocks_and_no_target(tmp_path: Path, target: Path) -> None:
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
    assert any(block_at(partial_path(target), start) for start in range(0, len(DATA), BLOCK_BYTES))
    fetch(open_transport(str(tmp_path / "repository")), DATA, target)
    assert target.read_bytes() == DATA
