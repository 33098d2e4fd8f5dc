"""A studio's own executable, run when something happened: told as JSON, bounded, and never in the way.

The signed policy names it, so nobody but the site's promoters says what is run. It is run as whoever runs the command,
hence it must be a file that others cannot change: neither it nor a folder on the way to it may be writable by
everybody. It gets no shell, no key, no variable of Changeover's but the event's name, half a minute and a little
output; what it leaves running is ended with it. It runs after the work and outside of every lock. Whatever it does, the
outcome of the command stands: a hook that fails is a notice. Left out: what the studio does with the news.
"""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from changeover_registry.records.hook import HookEvent
from changeover_registry.records.policy import Policy

__all__ = ["LIMIT_BYTES", "SECONDS", "run_hook"]

SECONDS = 30.0
"""How long a hook may take."""
LIMIT_BYTES = 64 * 1024
"""How much it may say on its standard output and error together."""
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "COMSPEC")
_PIECE = 4096


def run_hook(policy: Policy, event: HookEvent, notice: Callable[[str], None], *, seconds: float = SECONDS) -> None:
    """Run the policy's hook for this event, if it has one; `notice` is told what went wrong with it."""
    path = policy.hooks.get(event.what)
    if path is None:
        return
    why = _doubt(Path(path)) or _run(Path(path), event, seconds)
    if why is not None:
        notice(f"the hook {event.what} ({path}) {why}; what was done stands")


def _doubt(path: Path) -> str | None:
    """Why this file is not run, if it is not."""
    if not path.is_absolute():
        return "was not run: it is no absolute path on this host"
    try:
        real = path.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            return "was not run: it is no file"
        loose = next((place for place in (real, *real.parents, *path.parents) if _everybodys(place)), None)
    except OSError as error:
        return f"was not run: {error.strerror or error}"
    return f"was not run: everybody may write {loose}, so anybody could put another in its place" if loose else None


def _everybodys(place: Path) -> bool:
    """Whether everybody may change what is at a place; a sticky folder such as /tmp lets nobody replace another's."""
    if sys.platform == "win32":  # pragma: windows
        return False
    mode = place.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)


@dataclass(slots=True)
class _Said:
    """What a hook said, as far as it is kept, and whether it said more than it may."""

    start: bytearray = field(default_factory=bytearray)
    much: bool = False

    def take(self, pipe: IO[bytes], stop: Callable[[], None]) -> None:
        """Read until the pipe ends, or call `stop` once there is too much."""
        total = 0
        with contextlib.suppress(OSError, ValueError):
            while piece := pipe.read(_PIECE):
                total += len(piece)
                self.start += piece[: max(0, 200 - len(self.start))]
                if total > LIMIT_BYTES:
                    self.much = True
                    stop()
                    return

    def line(self) -> str:
        """Its first line, as something that may be printed."""
        first = bytes(self.start).decode(errors="replace").strip().partition("\n")[0]
        return f": {''.join(c if c.isprintable() else '?' for c in first)}" if first else ""


def _run(path: Path, event: HookEvent, seconds: float) -> str | None:
    """Run it to its end; what went wrong, if something did."""
    with tempfile.TemporaryFile() as told:
        told.write(event.to_bytes() + b"\n")
        told.seek(0)
        try:
            process = subprocess.Popen(
                [str(path)],
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=path.parent,
                env=_environment(os.environ, event),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            return f"could not be started: {error.strerror or error}"
        return _watch(process, seconds)


def _watch(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    said, pipe = _Said(), process.stdout
    assert pipe is not None  # noqa: S101 - it was asked for
    reader = threading.Thread(target=said.take, args=(pipe, lambda: _end(process)), daemon=True)
    reader.start()
    late = False
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        _end(process)
        process.wait()
        reader.join(1)
        # A process that left the group may hold the other end for ever; then the pipe is left to it.
        if not reader.is_alive():
            pipe.close()
    if said.much:
        return f"was ended: it said more than {LIMIT_BYTES // 1024} KiB"
    if late:
        return f"was ended: it took longer than {seconds:g} s"
    return None if process.returncode == 0 else f"ended with {process.returncode}{said.line()}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the hook and what it left running."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":  # pragma: windows
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _environment(environment: Mapping[str, str], event: HookEvent) -> dict[str, str]:
    """The few variables that a script needs, and the event's name."""
    kept = {name: environment[name] for name in _KEPT if name in environment}
    return {**kept, "CHANGEOVER_HOOK": event.what}
