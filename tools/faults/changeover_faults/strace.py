"""The tracer: which calls of a command change a disk, and the same command again with one of them killed or failed.

A call is named by its system call and by how many calls of that kind its thread had made when it came: that is how
strace counts for ``inject=...:when=N``. What is killed never happens, so killing at each call in turn leaves every
state of the disk that a kill at any instruction can leave; only the end of a command is one more.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from changeover_faults.commands import USUAL, Around, Ended, command, finish

__all__ = ["CALLS", "Call", "Fault", "record", "run", "why_not"]

CALLS = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "fsync", "fdatasync"),
    *("sync_file_range", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink"),
    *("unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "truncate", "fallocate", "chmod", "fchmod", "fchmodat"),
    *("chown", "fchown", "lchown", "flock", "copy_file_range", "sendfile", "utimensat", "setxattr", "ioctl"),
)
"""Every call by which a command could change what stands on a disk, or take a lock."""

_OPENS = frozenset({"open", "openat", "creat"})
_LINE = re.compile(r"(?P<tid>\d+) +(?P<name>[a-z_0-9]+)\((?P<rest>.*)")
_FICLONE = ("FICLONE", "BTRFS_IOC_CLONE")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a recorded run: its name, its number among its thread's calls of that name, and what it touched."""

    name: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.name}#{self.number} {self.what}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a call: SIGKILL where `error` is None, else the call fails with that error and does nothing."""

    call: Call
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.error or 'SIGKILL'} at {self.call}"


@cache
def why_not() -> str:
    """Why nothing can be traced here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(("strace", "-f", "-o", "/dev/null", "true"), check=False, capture_output=True, text=True)
    return f"nothing can be traced here: {done.stderr.strip()[-200:]}" if done.returncode else ""


def record(arguments: Sequence[str], root: Path, log: Path, around: Around = USUAL) -> tuple[Call, ...]:
    """Run a command that must succeed and answer with every call that changes something below `root`, in order.

    Raises:
        AssertionError: The command failed.
    """
    ended = _strace(_Job(arguments, root, log, around), (), filtered=True)
    if ended.code != 0:
        message = f"{arguments}: exit {ended.code}\n{ended.err}"
        raise AssertionError(message)
    return tuple(_changing(log.read_text(encoding="utf-8", errors="replace"), root))


def run(arguments: Sequence[str], root: Path, log: Path, fault: Fault | None, around: Around = USUAL) -> Ended:
    """Run a command with a fault, or without one; `around` says what is not as usual."""
    if fault is None:
        return finish(command(arguments), root, around)
    what = f"error={fault.error}" if fault.error else "signal=KILL"
    inject = ("-e", f"inject={fault.call.name}:{what}:when={fault.call.number}")
    # strace loses a signal that it should give at a stop of its own filter in the kernel, so a kill goes without it.
    return _strace(_Job(arguments, root, log, around), inject, filtered=fault.error is not None)


@dataclass(frozen=True, slots=True)
class _Job:
    arguments: Sequence[str]
    root: Path
    log: Path
    around: Around


def _strace(job: _Job, extra: Sequence[str], *, filtered: bool) -> Ended:
    tracer = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(job.log), *(["--seccomp-bpf"] if filtered else [])]
    job.log.unlink(missing_ok=True)
    words = [*tracer, "-e", f"trace={','.join(_known_calls())}", *extra, *command(job.arguments)]
    ended = finish(words, job.root, job.around)
    text = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
    return replace(ended, met="(INJECTED)" in text or ended.killed)


def _known_calls() -> tuple[str, ...]:
    """Those of `CALLS` that this processor's kernel has; strace takes a name with ``?`` before it either way."""
    return tuple(f"?{name}" for name in CALLS)


def _changing(text: str, root: Path) -> Iterator[Call]:
    numbers: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, int]] = set()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["rest"].startswith("resumed"):
            continue
        name, rest = match["name"], match["rest"]
        numbers[match["tid"], name] += 1
        number = numbers[match["tid"], name]
        if _changes(name, rest, root) and (name, number) not in seen:
            seen.add((name, number))
            yield Call(name, number, _brief(rest, root))


def _changes(name: str, rest: str, root: Path) -> bool:
    if f"{root}/" not in rest:
        return False
    if name in _OPENS:
        return name == "creat" or "O_CREAT" in rest or "O_TRUNC" in rest
    return name != "ioctl" or any(word in rest for word in _FICLONE)


def _brief(rest: str, root: Path) -> str:
    """The paths of a call below `root`, with what is unique in each run left out."""
    paths = [path.removeprefix(f"{root}/") for path in re.findall(rf"{re.escape(str(root))}/[^>\",]*", rest)]
    return " ".join(re.sub(r"[0-9a-f]{12,}|~\d+~|\(deleted\)", "*", path) for path in dict.fromkeys(paths))
