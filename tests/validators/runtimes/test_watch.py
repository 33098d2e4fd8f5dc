import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover_validators.runtimes.watch import (
    Memory,
    Tail,
    Watch,
    end_family,
    family_memory,
    family_pids,
    oom_kills,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    inner = "import time; time.sleep(60)"
    code = f"import subprocess, sys; print('up', flush=True); subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        end_family(process)


def wait_until(condition: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.01)


def test_the_watch_ends_what_takes_too_long(sleeper: subprocess.Popen[bytes]) -> None:
    watch = Watch(sleeper, 1 << 40)
    watch.start()
    watch.until(0.1)

    assert sleeper.wait(5) < 0
    watch.stop()
    assert watch.killed_for == "hang"


def test_the_watch_bounds_nothing_while_nothing_is_asked(sleeper: subprocess.Popen[bytes]) -> None:
    watch = Watch(sleeper, 1 << 40)
    watch.start()
    watch.until(0.05)
    watch.until(None)
    time.sleep(0.15)

    assert sleeper.poll() is None
    watch.stop()
    assert watch.killed_for is None
    assert watch.peak_bytes > 1 << 20


def test_the_watch_ends_what_grows_too_large(sleeper: subprocess.Popen[bytes]) -> None:
    sizes = iter([10, 90, 101])
    watch = Watch(sleeper, 100, lambda _: Memory(now := next(sizes), now))

    for _ in range(3):
        watch.look_once()

    assert sleeper.wait(5) < 0
    assert watch.killed_for == "out of host memory"
    assert watch.peak_bytes == 101


def test_memory_is_that_of_the_whole_family(sleeper: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: len(family_pids(sleeper.pid)) == 2)
    wait_until(lambda: family_memory(family_pids(sleeper.pid)[1]).now_bytes > 4 << 20)
    pids = family_pids(sleeper.pid)

    whole = family_memory(sleeper.pid)

    assert len(pids) == 2
    assert pids[0] == sleeper.pid
    assert whole.peak_bytes >= whole.now_bytes > family_memory(pids[1]).now_bytes > 1 << 20


def test_a_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()

    assert family_memory(process.pid) == Memory(0, 0)
    end_family(process)


def test_ending_a_family_ends_children_too(sleeper: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: len(family_pids(sleeper.pid)) == 2)
    child = family_pids(sleeper.pid)[1]

    end_family(sleeper)

    sleeper.wait(5)
    wait_until(lambda: family_memory(child).now_bytes == 0)
    assert family_memory(child).now_bytes == 0


def test_only_the_tail_of_a_flood_is_kept() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end')"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        tail = Tail(process.stderr)  # type: ignore[arg-type]
        tail.start()
        tail.join(10)

    assert len(tail.text()) == 64 * 1024
    assert tail.text().endswith("the end")


def test_the_kernels_kills_are_counted() -> None:
    assert oom_kills() >= 0


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("4:memory:/farm/job\n0::/\n", "memory/farm/job/memory.oom_control"),
        ("0::/farm/job\n", "farm/job/memory.events"),
        ("0::/farm/job\n", "unified/farm/job/memory.events"),
        ("9:cpu,memory:/farm/job\n", "memory/farm/job/memory.oom_control"),
    ],
)
def test_kills_of_our_own_group_are_counted_and_not_the_machines(tmp_path: Path, group: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("under_oom 0\noom_kill 41\n")

    assert oom_kills(group, tmp_path) == 41


def test_a_group_that_tells_nothing_leaves_the_machines_count(tmp_path: Path) -> None:
    whole = oom_kills("", tmp_path)

    assert oom_kills("0::/farm/job\nnonsense\n", tmp_path) == whole
    assert oom_kills(None, tmp_path) == whole
