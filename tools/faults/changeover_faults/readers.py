"""Kills at random moments while sessions open, resolve and hash without a pause: old or new, whole, always."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from changeover_faults import oracle
from changeover_faults.commands import Around, command, run, start
from changeover_faults.pool import Pool
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.studio import MODELS, NEW, OLD, STATION, Studio, build, promote

__all__ = ["kills_with_readers", "reading"]

_OURS = Path(__file__).parents[1]
_READERS = 3
_FORGET = 4
"""One of so many updates has to install its release again, so that kills meet installing too."""


def kills_with_readers(pool: Pool, scale: Scale) -> Iterator[Report]:
    """Kill `update` and `rollback` in turn until so many kills have landed."""
    report, started = Report("kills with readers running"), time.monotonic()
    studio = build(_folder(pool.work / "readers"))
    studio.change_over()
    promote(studio, NEW)
    studio.ok("update")
    with reading(studio, _READERS) as found:
        _kill_until(studio, scale.many(1000, 60), report, pool)
    report.violations += found
    report.violations += _settled(studio)
    report.seconds = time.monotonic() - started
    report.notes["readings"] = found.reads
    report.notes["generations made"] = max(studio.station().numbers())
    yield report


class Found(list[str]):
    """The violations that readers saw, and how often they read."""

    reads = 0


@contextlib.contextmanager
def reading(studio: Studio, readers: int, station: str = STATION, store: Path | None = None) -> Iterator[Found]:
    """Sessions that read for the length of a block; what they saw is there at its end."""
    stop, found = studio.root / "stop", Found()
    stop.unlink(missing_ok=True)
    words = [sys.executable, "-m", "changeover_faults.reading", str(store or studio.store), station, str(stop)]
    sessions = [start(words, studio.root, Around(_OURS)) for _ in range(readers)]
    try:
        yield found
    finally:
        stop.touch()
        for session in sessions:
            _take(session, found)


def _take(session: subprocess.Popen[str], found: Found) -> None:
    out, err = session.communicate(timeout=60)
    if session.returncode != 0:
        found.append(f"a reader ended with {session.returncode}: {err.strip()[-300:]}")
        return
    answer = json.loads(out)
    found.reads += answer["reads"]
    found += [f"reader: {text}" for text in answer["wrong"]]
    if unknown := set(answer["seen"]) - {OLD, NEW}:
        found.append(f"reader: versions that were never chosen: {sorted(unknown)}")


def _kill_until(studio: Studio, kills: int, report: Report, pool: Pool) -> None:
    chance, turn = random.Random(11), 0
    longest = {"update": 3.0, "rollback": 3.0}
    while report.cases < kills:
        turn += 1
        if turn > kills * 5:
            report.violations.append(f"only {report.cases} of {kills} kills landed in {turn} turns")
            return
        _make_work(studio, turn, forget=chance.randrange(_FORGET) == 0)
        words = ("update",) if turn % 2 else ("rollback", "--to", "1", "--reason", f"turn {turn}")
        took = _kill(studio, words, chance.uniform(0.3, 1.1) * longest[words[0]])
        if took is None:
            report.cases += 1
            longest[words[0]] *= 1.05
            if report.cases % 25 == 0:
                pool.say(f"{report.cases} of {kills} kills in {turn} turns")
        else:
            # How long a command takes depends on what else the machine does: the last that ended tells, and each kill
            # that came first says that it may be longer. So kills meet a command's end as often as its start.
            longest[words[0]] = took


def _make_work(studio: Studio, turn: int, *, forget: bool) -> None:
    """Before an update: lift the hold, and perhaps take away an installed release that nobody is served."""
    if not turn % 2:
        return
    studio.ok("unhold", "--reason", f"turn {turn}")
    if forget and oracle.served(studio.store, hashed=False) == OLD:
        for model in MODELS:
            for folder in (studio.store / "releases" / model).glob(f"{NEW}-*"):
                shutil.rmtree(folder)


def _kill(studio: Studio, words: Sequence[str], seconds: float) -> float | None:
    """Start a command and kill it with all its children after some time; how long it took if it had ended by then."""
    started = time.monotonic()
    process = start(command(studio.arguments(*words)), studio.root)
    with process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return time.monotonic() - started


def _settled(studio: Studio) -> Iterator[str]:
    """After all kills the next command ends well, and the record agrees with the pointer."""
    for words in (("unhold", "--reason", "end"), ("update",), ("log", "--verify")):
        ended = run(studio, *words)
        if ended.code != 0:
            yield f"{words[0]} at the end: exit {ended.code}: {ended.err.strip()[-300:]}"
    seen = oracle.look(studio)
    yield from seen.wrong
    if seen.version != NEW:
        yield f"at the end a reader sees {seen.version}"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
