import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from changeover_registry import locks
from changeover_registry.errors import LostRaceError
from changeover_registry.locks import Owner, lock

HOLDER = """\
import sys, time
from pathlib import Path
from changeover_registry.locks import lock
with lock(Path(sys.argv[1]), what='the station', wait_seconds=float(sys.argv[2])):
    print('held', flush=True)
    time.sleep(float(sys.argv[3]))
"""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace takes flock away")


def hold(path: Path, *, wait: float = 0, seconds: float = 60, without_flock: bool = False) -> subprocess.Popen[str]:
    """A process that says 'held' when it holds the lock; with strace, flock is what a file system without it says."""
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=EOPNOTSUPP"]
    python = [sys.executable, "-c", HOLDER, str(path), str(wait), str(seconds)]
    command = [*strace, *python] if without_flock else python
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill_python(process: subprocess.Popen[str], path: Path) -> None:
    """Kill the traced Python itself, whose number stands in its marker."""
    ((_, marker),) = [found for found in locks._markers(path) if found[1].read_bytes() != b"free\n"]
    owner = Owner.parse(marker.read_bytes())
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    process.wait()


def test_the_message_names_process_host_and_moment(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as holder:
        said(holder)
        with pytest.raises(LostRaceError) as caught, lock(path, what="the station"):
            pytest.fail("two holders")
        holder.kill()

    assert re.fullmatch(
        rf"process {holder.pid} holding the lock, on {platform.node()} since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        caught.value.actual,
    )
    assert caught.value.exit_code == 7


def test_a_lock_whose_holder_was_killed_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as holder:
        said(holder)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lock(path, what="the station"):
            assert Owner.parse(path.read_bytes()) == Owner.me("the station")

    assert path.read_bytes() == b""


def test_a_full_disk_does_not_keep_a_lock_from_being_taken(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False).returncode
    if mounted != 0:
        pytest.skip("this user may not mount")
    try:
        path = disk / "lock"
        path.touch()
        with pytest.raises(OSError, match="space"):
            (disk / "filler").write_bytes(bytes(1 << 20))
        with lock(path, what="the station"), pytest.raises(LostRaceError), lock(path, what="the station"):
            pytest.fail("two holders")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@needs_strace
def test_without_flock_one_holds_and_another_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, without_flock=True) as first:
        assert said(first) == "held"
        with hold(path, without_flock=True) as second:
            assert said(second) == ""
            assert second.stderr is not None
            assert "holding the lock" in second.stderr.read()
        kill_python(first, path)

    # Its process is gone from this host, so that nobody waits a minute.
    with hold(path, seconds=0, without_flock=True) as third:
        assert said(third) == "held"
    assert [marker.read_bytes() for _, marker in locks._markers(path)] == [b"free\n"]


@needs_strace
def test_without_flock_many_take_turns(tmp_path: Path) -> None:
    path, log = tmp_path / "lock", tmp_path / "log"
    body = HOLDER.replace("print('held', flush=True)", "f = open(sys.argv[4], 'a'); f.write('in '); f.flush()").replace(
        "time.sleep(float(sys.argv[3]))", "time.sleep(0.05); f.write('out '); f.flush()"
    )
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    command = [*strace, sys.executable, "-c", body, str(path), "60", "0", str(log)]
    workers = [subprocess.Popen(command) for _ in range(6)]

    assert [worker.wait(timeout=60) for worker in workers] == [0] * 6
    assert log.read_text(encoding="utf-8") == "in out " * 6


def test_a_marker_of_another_host_counts_until_nobody_touches_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    marker = tmp_path / "lock.held.7"
    marker.write_bytes(b"1 another-host 2026-11-22T12:00:00Z update\n")
    handle = os.open(path, os.O_RDWR)
    try:
        assert locks._try_marker(handle, path, Owner.me("gc")) is None
        assert "process 1 holding the lock, on another-host" in locks._holder(handle, path)
        ago = time.time() - locks.EXPIRY_SECONDS - 5
        os.utime(marker, (ago, ago))
        release = locks._try_marker(handle, path, Owner.me("gc"))
        assert release is not None
        assert locks._try_marker(handle, path, Owner.me("gc")) is None
        release()
    finally:
        os.close(handle)

    assert [found.name for _, found in locks._markers(path)] == ["lock.held.8"]


@pytest.mark.parametrize(
    "line", [b"", b"12", b"12 host", b"x host 2026 gc\n", b"12 host 2026-11-22T12:00:00Z gc", b"\xff"]
)
def test_a_line_that_is_not_whole_names_nobody(line: bytes) -> None:
    assert Owner.parse(line) is None


def test_an_owner_is_read_back_as_it_was_written() -> None:
    owner = Owner.me("station  vm1\nat night")

    assert Owner.parse(owner.line()) == owner
    assert not owner.is_gone()
