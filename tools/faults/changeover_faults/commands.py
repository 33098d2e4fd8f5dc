"""The real command line as processes: in what surroundings they run, how they are started, and how they ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_faults.studio import Studio

__all__ = ["USUAL", "Around", "Ended", "command", "environment", "faketime", "finish", "run", "start"]

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


@dataclass(frozen=True, slots=True)
class Around:
    """What is not as usual around a command: a folder that Python looks into first, and days that have passed."""

    first: Path | None = None
    days: int = 0


USUAL = Around()


def faketime() -> Path | None:
    """The library that has a process believe in another date, if it is here."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


def environment(home: Path, around: Around = USUAL) -> dict[str, str]:
    """What a command is given: nothing of this process but where its code is, and no caches that it would write."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    if around.first is not None:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(around.first), kept.get("PYTHONPATH"))))
    if around.days:
        kept |= {"LD_PRELOAD": str(faketime()), "FAKETIME": f"+{around.days}d", "FAKETIME_DISABLE_SHM": "1"}
        kept["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    fixed = {"HOME": str(home), "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **fixed, "PYTHONHASHSEED": "0"}


def finish(words: Sequence[str], home: Path, around: Around = USUAL) -> Ended:
    """Run any command to its end."""
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=_SECONDS, env=environment(home, around), cwd="/"
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def start(words: Sequence[str], home: Path, around: Around = USUAL) -> subprocess.Popen[str]:
    """Start any command in a process group of its own, its two streams kept."""
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, around),
        cwd="/",
        start_new_session=True,
    )


def run(studio: Studio, *words: str, days: int = 0) -> Ended:
    """Run one of our commands on a studio to its end, as if so many days had passed."""
    return finish(command(studio.arguments(*words)), studio.root, Around(days=days))
