"""Many at once: a hundred updates of one station, twenty stations of one store, a dead holder, a second host."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from changeover_faults import oracle
from changeover_faults.commands import Ended, command, run, start
from changeover_faults.pool import Pool
from changeover_faults.readers import reading
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.strace import why_not
from changeover_faults.studio import NEW, STATION, Studio, add_station, build, promote
from changeover_faults.sweep import left_over

__all__ = ["crowds", "parallel"]

_LOST = 7
"""The exit code of a lost race."""

_OTHER_HOST = "another-host"
_Situation = Callable[[Studio, Report], None]


def crowds(pool: Pool, scale: Scale) -> Iterator[Report]:
    """All situations with more than one writer."""
    updates, stations = scale.many(100, 12), scale.many(20, 8)
    yield _timed(pool, "parallel updates of one station", lambda studio, report: parallel(studio, report, updates))
    yield _timed(pool, "stations of one store at once", lambda studio, report: _stations(studio, report, stations))
    if why := why_not():
        yield Report("the lock's holder is killed", skipped=why)
        return
    yield _timed(pool, "the lock's holder is killed", _dead_holder)
    if subprocess.run(("unshare", "-u", "true"), check=False, capture_output=True).returncode:
        yield Report("a second host", skipped="no other host name can be given to a process here")
    else:
        yield _timed(pool, "a second host", _second_host)


def _timed(pool: Pool, rig: str, situation: _Situation) -> Report:
    """Run a situation in a studio of its own that serves the old version and has chosen the new one."""
    report, started = Report(rig), time.monotonic()
    root = pool.work / rig.replace(" ", "-").replace("'", "")
    root.mkdir()
    studio = build(root)
    studio.change_over()
    promote(studio, NEW)
    situation(studio, report)
    shutil.rmtree(root)
    report.seconds = time.monotonic() - started
    return report


def parallel(studio: Studio, report: Report, count: int) -> None:
    """So many updates of one station at once: exactly one changes over, and all end well."""
    with reading(studio, 2) as found:
        ended = _at_once([command(studio.arguments("update")) for _ in range(count)], studio)
    for one in ended:
        report.add(_well(one))
    report.violations += [*found, *_whole(studio, STATION)]
    made = studio.station().numbers()
    if made != (1, 2):
        report.violations.append(f"generations {made}: more than one of the updates changed over")
    report.notes["exit codes"] = dict(sorted(Counter(one.code for one in ended).items()))


def _stations(studio: Studio, report: Report, count: int) -> None:
    names = [STATION, *(f"vm{number}" for number in range(2, count + 1))]
    for name in names[1:]:
        add_station(studio, name)
    ended = _at_once([command(studio.arguments("update", station=name)) for name in names], studio)
    for name, one in zip(names, ended, strict=True):
        report.add(f"{name}: exit {code}: {one.err.strip()[-300:]}" for code in [one.code] if code)
        report.violations += [f"{name}: {text}" for text in _whole(studio, name)]


def _dead_holder(studio: Studio, report: Report) -> None:
    with _stopped_holder(studio) as pid:
        report.add(_refused(run(studio, "update"), pid))
        report.add(_refused(run(studio, "rollback", "--reason", "test"), pid))
    report.add(_ended_well(run(studio, "update")))
    report.violations += _whole(studio, STATION)


def _second_host(studio: Studio, report: Report) -> None:
    there = _elsewhere(command(studio.arguments("update")))
    with _stopped_holder(studio) as pid:
        report.add(_refused(_at_once([there], studio)[0], pid))
    both = _at_once([there, command(studio.arguments("update"))] * 5, studio)
    for one in both:
        report.add(_well(one))
    report.violations += _whole(studio, STATION)
    made = studio.station().numbers()
    if made != (1, 2):
        report.violations.append(f"generations {made}: more than one of the updates changed over")


@contextlib.contextmanager
def _stopped_holder(studio: Studio) -> Iterator[int]:
    """A real update that stands still while it holds the station's lock, after its intent is recorded; then killed."""
    folder = studio.station().folder
    event = folder / "events" / f"{len(studio.station().events()) + 1:08d}.json"
    tracer = ["strace", "-f", "-o", "/dev/null", "-P", str(event), "-e", "trace=link", "-e", "inject=link:signal=STOP"]
    with start([*tracer, *command(studio.arguments("update"))], studio.root) as holder:
        try:
            yield _holder(studio, holder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(holder.pid, signal.SIGKILL)
            holder.communicate(timeout=60)


def _holder(studio: Studio, started: subprocess.Popen[str]) -> int:
    """The process in the lock's file once it has stopped."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and started.poll() is None:
        words = (studio.station().folder / "lock").read_text(encoding="utf-8").split()
        if words and _state(int(words[0])) in {"t", "T"}:
            return int(words[0])
        time.sleep(0.02)
    message = "the update did not stop with the lock held"
    raise AssertionError(message)


def _state(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - no file
        return file.read().rpartition(")")[2].split()[0]
    return ""


def _elsewhere(words: Sequence[str]) -> list[str]:
    """The same command as a process of a host with another name."""
    return ["unshare", "-u", "sh", "-c", f'hostname {_OTHER_HOST} && exec "$@"', "sh", *words]


def _at_once(commands: Sequence[Sequence[str]], studio: Studio) -> list[Ended]:
    running = [start(words, studio.root) for words in commands]
    ended = []
    for process in running:
        out, err = process.communicate(timeout=600)
        ended.append(Ended(process.returncode, out, err))
    return ended


def _well(ended: Ended) -> Iterator[str]:
    """A command among others ends well: done, or told in one line that another one was faster."""
    if ended.code not in {0, _LOST}:
        yield f"exit {ended.code}: {ended.err.strip()[-300:]}"
    elif ended.code == _LOST and len(ended.err.strip().splitlines()) != 1:
        yield f"exit {_LOST} with {len(ended.err.strip().splitlines())} lines: {ended.err.strip()[-300:]}"


def _ended_well(ended: Ended) -> Iterator[str]:
    if ended.code:
        yield f"exit {ended.code}: {ended.err.strip()[-300:]}"


def _refused(ended: Ended, pid: int) -> Iterator[str]:
    """A command meets a held lock: it says who holds it, in one line."""
    if ended.code != _LOST or str(pid) not in ended.err or len(ended.err.strip().splitlines()) != 1:
        yield f"exit {ended.code} while process {pid} held the lock: {ended.err.strip()[-300:]}"


def _whole(studio: Studio, station: str) -> Iterator[str]:
    seen = oracle.look(studio, station)
    yield from seen.wrong
    if seen.version != NEW:
        yield f"a reader sees {seen.version}"
    yield from left_over(studio)
