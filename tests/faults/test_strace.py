"""Which calls of a trace change the disk, and that a fault at one of them happens there and nowhere else."""

import shutil
from pathlib import Path

import pytest

from changeover_faults import strace
from changeover_faults.action import ACTIONS
from changeover_faults.bench import FolderBench
from changeover_faults.commands import Ended
from changeover_faults.strace import Call, Fault
from changeover_faults.studio import NEW, OLD, Studio
from changeover_faults.sweep import Case, after_fsyncs, run_case

TRACE = """\
10 openat(AT_FDCWD</>, "/studio/store/current", O_RDONLY|O_CLOEXEC) = 3</studio/store/current>
10 openat(AT_FDCWD</>, "/studio/store/.current.0123456789ab.tmp", O_WRONLY|O_CREAT|O_EXCL, 0644) = 4</x>
10 write(1</dev/null>, ""..., 3) = 3
10 write(4</studio/store/.current.0123456789ab.tmp>, ""..., 3) = 3
10 ioctl(4</studio/store/.current.0123456789ab.tmp>, TCGETS, 0x7ff) = -1 ENOTTY
11 write(5</studio/store/b>, ""..., 3 <unfinished ...>
10 fsync(4</studio/store/.current.0123456789ab.tmp>) = 0
11 <... write resumed>) = 3
10 rename("/studio/store/.current.0123456789ab.tmp", "/studio/store/current") = 0
10 mkdir("/elsewhere/store", 0777) = 0
"""


def test_calls_that_change_the_studio_are_numbered_as_strace_counts_them() -> None:
    found = list(strace._changing(TRACE, Path("/studio")))

    assert found == [
        Call("openat", 2, "store/.current.*.tmp"),
        Call("write", 2, "store/.current.*.tmp"),
        Call("write", 1, "store/b"),
        Call("fsync", 1, "store/.current.*.tmp"),
        Call("rename", 1, "store/.current.*.tmp store/current"),
    ]
    assert after_fsyncs(tuple(found)) == (found[-1],)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_kill_at_the_pointer_leaves_the_old_version_and_the_retry_ends_well(tmp_path: Path) -> None:
    bench = FolderBench(tmp_path / "folder")
    bench.prepare()
    action = ACTIONS["update"]
    with bench.at(action) as studio:
        calls = strace.record(studio.arguments("update"), studio.root, bench.log)
    (pointer,) = [c for c in calls if c.name == "rename" and c.what.endswith("stations/vm1/current")]

    with bench.at(action) as studio:
        killed = strace.run(studio.arguments("update"), studio.root, bench.log, Fault(pointer))
        after = _version(studio)
    failed = run_case(bench, Case("update", Fault(pointer, "EIO")))
    whole = run_case(bench, Case("update", None))

    assert (killed.killed, killed.met, after) == (True, True, OLD)
    assert failed.met
    assert (failed.violations, whole.violations) == ((), ())


def test_a_signal_is_told_from_an_exit() -> None:
    assert Ended(-9, "", "").killed
    assert Ended(137, "", "").killed
    assert not Ended(9, "", "").killed


def _version(studio: Studio) -> str | None:
    from changeover_faults import oracle

    found = oracle.look(studio)
    assert found.wrong == ()
    assert found.version in {OLD, NEW}
    return found.version
