"""The watch over one child: a thread that ends it when an answer takes too long or its memory grows too large.

Memory is what the whole family of processes has resident, read from /proc, which needs no right over them. Where there
is no /proc memory is not watched and its peak is unknown (0). Each look also keeps the highest seen so far.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

__all__ = ["Memory", "Tail", "Watch", "end_family", "family_memory", "family_pids", "oom_kills"]

_LOOK_SECONDS = 0.02
_TAIL_BYTES = 64 * 1024
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a family of processes, now and at the peak of each."""

    now_bytes: int
    peak_bytes: int


class Watch(threading.Thread):
    """Looks at a child every 20 ms until it ends.

    Args:
        process: The child; its own process group.
        ram_bytes: The most that the family may have resident.
        look: How memory is read.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], ram_bytes: int, look: "Callable[[int], Memory] | None" = None
    ) -> None:
        super().__init__(name="changeover-watch", daemon=True)
        self._process, self._ram_bytes, self._look = process, ram_bytes, look or family_memory
        self._deadline: float | None = None
        self._done = threading.Event()
        self.killed_for: Literal["hang", "out of host memory"] | None = None
        self.peak_bytes = 0

    def until(self, seconds: float | None) -> None:
        """Allow `seconds` from now for the next answer; None is no bound, while nothing is asked."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def look_once(self) -> None:
        """One look: note the peak; end the child if it is over a bound."""
        memory = self._look(self._process.pid)
        self.peak_bytes = max(self.peak_bytes, memory.peak_bytes)
        deadline = self._deadline
        if memory.now_bytes > self._ram_bytes:
            self._end("out of host memory")
        elif deadline is not None and time.monotonic() > deadline:
            self._end("hang")

    def run(self) -> None:
        """Look until the child has ended or `stop` is called."""
        while self._process.poll() is None and not self._done.wait(_LOOK_SECONDS):
            self.look_once()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self.join()

    def _end(self, cause: Literal["hang", "out of host memory"]) -> None:
        self.killed_for = self.killed_for or cause
        end_family(self._process)


class Tail(threading.Thread):
    """Reads a pipe to its end and keeps the last 64 KiB, so that nobody blocks on it and nothing grows."""

    def __init__(self, pipe: BinaryIO) -> None:
        super().__init__(name="changeover-stderr", daemon=True)
        self._pipe, self._kept = pipe, bytearray()

    def run(self) -> None:
        """Read until the pipe ends, and close it."""
        with contextlib.suppress(OSError, ValueError), self._pipe:
            while data := self._pipe.read1(8192):  # type: ignore[attr-defined]
                self._kept = (self._kept + data)[-_TAIL_BYTES:]

    def text(self) -> str:
        """What was kept; call after `join`."""
        return self._kept.decode("utf-8", errors="replace")


def end_family(process: subprocess.Popen[bytes]) -> None:
    """Kill the child's process group; what a launcher isolated dies with the launcher."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()


def family_memory(pid: int) -> Memory:
    """The resident memory of `pid` and all below it; zero where there is no /proc."""
    members = [_status(member) for member in family_pids(pid)]
    return Memory(sum(now for now, _ in members), sum(peak for _, peak in members))


def oom_kills(group: str | None = None, root: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes the kernel has killed for memory: in our control group, which children share, if it is told.

    Where the group does not tell, all that this machine's kernel has killed since it started; 0 where neither does.

    Args:
        group: What ``/proc/self/cgroup`` says; None reads it.
        root: Where the control groups are mounted.
    """
    for path in (*_counters(group, root), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def family_pids(pid: int) -> list[int]:
    """`pid` and its descendants, parents first."""
    found, at = [pid], 0
    while at < len(found):
        found += [child for child in _children(found[at]) if child not in found]
        at += 1
    return found


def _counters(group: str | None, root: Path) -> list[Path]:
    """The files that may count the kills of our control group, of either version of them."""
    if group is None:
        try:
            group = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
    found = []
    for line in group.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += [place / path.strip("/") / "memory.events" for place in (root, root / "unified")]
        elif "memory" in controllers.split(","):
            found.append(root / "memory" / path.strip("/") / "memory.oom_control")
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                children += [int(text) for text in (task / "children").read_text(encoding="ascii").split()]
    return children


def _status(pid: int) -> tuple[int, int]:
    """VmRSS and VmHWM in bytes; zeros for a process that is gone."""
    values = {"VmRSS:": 0, "VmHWM:": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, rest = line.partition("\t")
            if name in values:
                values[name] = int(rest.split()[0]) * _KIB
    return values["VmRSS:"], values["VmHWM:"]
