"""Runs one command, and ends it and all that it started once our own standard input is closed. Standard library only.

The tests hold the other end of that pipe. Whatever ends them, a kill included, closes it; so no server outlives them,
not even one whose children have made sessions of their own. A command that ends by itself ends the keeper, which then
has its status.

    python keeper.py USER SIGNAL COMMAND...     USER may be empty; SIGNAL is the polite one, such as TERM
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_POLITE_SECONDS = 15


def main(arguments: list[str]) -> int:
    """Run until told to stop; returns the command's status."""
    user, polite, *command = arguments
    if sys.platform == "linux":
        # Whoever loses its parent becomes our child, so that it can be found and ended.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    other: dict[str, Any] = {"user": user, "group": _group(user), "extra_groups": []} if user else {}
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **other)
    over = threading.Event()
    threading.Thread(target=_wait_for_eof, args=(over,), daemon=True).start()
    threading.Thread(target=_wait_for, args=(child, over), daemon=True).start()
    over.wait()
    if child.poll() is None:
        child.send_signal(getattr(signal, f"SIG{polite}"))
        _wait_a_while(child)
    _end_all()
    return child.returncode or 0


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _wait_for_eof(over: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    over.set()


def _wait_for(child: "subprocess.Popen[bytes]", over: threading.Event) -> None:
    child.wait()
    over.set()


def _wait_a_while(child: "subprocess.Popen[bytes]") -> None:
    try:
        child.wait(_POLITE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _end_all() -> None:
    """Kill whatever has become our child until nothing is left; at most for ten seconds."""
    for _ in range(100):
        children = _children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                continue
        time.sleep(0.1)


def _children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
