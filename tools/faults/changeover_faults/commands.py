"""The real command line as processes: in what surroundings they run, how they are started, and how they ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_faults.studio import STATION, Studio

__all__ = ["Ended", "command", "environment", "finish", "run", "start"]

_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit status (negative: a signal), its two streams, and whether a fault was met."""

    code: int
    out: str
    err: str
    met: bool = False

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code in {-signal.SIGKILL, 128 + signal.SIGKILL}


def command(arguments: Sequence[str]) -> list[str]:
    """The real command line."""
    return [sys.executable, "-m", "changeover_updater", *arguments]


def environment(home: Path, first: Path | None = None) -> dict[str, str]:
    """What a command is given: nothing of this process but where its code is, and no caches that it would write.

    `first` is a folder that Python looks into before all others.
    """
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    if first is not None:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(first), kept.get("PYTHONPATH"))))
    fixed = {"HOME": str(home), "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **fixed, "PYTHONHASHSEED": "0"}


def finish(words: Sequence[str], home: Path, first: Path | None = None) -> Ended:
    """Run any command to its end."""
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=_SECONDS, env=environment(home, first), cwd="/"
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def start(words: Sequence[str], home: Path) -> subprocess.Popen[str]:
    """Start any command in a process group of its own, its two streams kept."""
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
        cwd="/",
        start_new_session=True,
    )


def run(studio: Studio, *words: str, station: str = STATION) -> Ended:
    """Run one of our commands on a studio to its end."""
    return finish(command(studio.arguments(*words, station=station)), studio.root)
