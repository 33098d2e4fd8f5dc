"""The kernel's log, as far as this process may read it: where the GPU's driver writes its faults (Xid).

Reading it needs a right that most users of a workstation do not have; then it is empty, and a fault is known only by
what the runtime says. Linux only.
"""

import contextlib
import os
from pathlib import Path

__all__ = ["kernel_lines"]

_LINE_BYTES = 8192
_MOST_LINES = 100_000
_SLACK_US = 1_000_000


def kernel_lines(since_us: int, path: Path = Path("/dev/kmsg")) -> str:
    """What was written since, in microseconds of the monotonic clock; empty where it may not be read.

    Each read of the device gives one record, ``priority,number,microseconds,flags;text``; the kernel's clock and ours
    differ by a little, which is allowed for.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            for _ in range(_MOST_LINES):
                lines += _since(_record(descriptor), since_us - _SLACK_US)
        except (BlockingIOError, EOFError):
            pass  # That was the last one.
        finally:
            os.close(descriptor)
    return "\n".join(lines)


def _record(descriptor: int) -> str:
    try:
        data = os.read(descriptor, _LINE_BYTES)
    except BrokenPipeError:
        return ""  # Overwritten before it was read; the next read goes on behind it.
    if not data:
        raise EOFError
    return data.decode("utf-8", errors="replace")


def _since(record: str, least_us: int) -> list[str]:
    """The record's text, if it is one and young enough; a plain file gives several at once."""
    found = []
    for line in record.splitlines():
        head, _, text = line.partition(";")
        fields = head.split(",")
        if len(fields) >= 4 and fields[2].isdecimal() and int(fields[2]) >= least_us:
            found.append(text)
    return found
