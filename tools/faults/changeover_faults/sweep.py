"""A fault at every call of a command: what a reader finds afterwards, and whether the retry ends well."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from changeover_faults import commands, oracle, strace
from changeover_faults.action import ACTIONS, Action
from changeover_faults.bench import Bench
from changeover_faults.commands import Around, Ended
from changeover_faults.mutation import Chain
from changeover_faults.strace import Call, Fault
from changeover_faults.studio import Studio
from changeover_updater.cli.main import run

__all__ = ["ERRORS", "Case", "Result", "after_fsyncs", "left_over", "record", "run_case"]

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "ESTALE")
_FAILURES = range(2, 10)
"""Exit codes that a failing disk may end in; 1 would be a fault of ours, and more than 9 is none of ours."""
_LONG_AGO = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Case:
    """One command with one fault, or none; of a build in which one fsync is removed, where `mutation` names it."""

    action: str
    fault: Fault | None
    mutation: Chain | None = None

    def __str__(self) -> str:
        without = f" without {' < '.join(self.mutation)}" if self.mutation else ""
        return f"{self.action}{without}: {self.fault or 'to the end'}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: whether its fault was met, and everything that should not have been."""

    case: Case
    met: bool
    violations: tuple[str, ...]


def record(bench: Bench, action: Action, without: Path | None = None) -> tuple[Call, ...]:
    """The calls by which an action changes the disk; of the build that the folder `without` makes, if it is given."""
    with bench.at(action) as studio:
        return strace.record(action.arguments(studio), studio.root, bench.log, Around(without, action.days))


def after_fsyncs(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """Of a recorded run, the calls that follow an fsync: a power cut at any other leaves what one of these leaves."""
    return tuple(call for before, call in pairwise(calls) if before.name in {"fsync", "fdatasync"})


def run_case(bench: Bench, case: Case, without: Path | None = None) -> Result:
    """Run the command with its fault, cut the power where the bench does, look, run it again, look again."""
    action = ACTIONS[case.action]
    with bench.at(action) as studio:
        around = Around(without, action.days)
        ended = strace.run(action.arguments(studio), studio.root, bench.log, case.fault, around)
        bench.cut()
        violations = [*_judge_end(case, ended), *_judge_after(studio, action, ended), *_judge_retry(studio, action)]
    return Result(case, ended.met or case.fault is None, tuple(violations))


def _judge_end(case: Case, ended: Ended) -> Iterator[str]:
    """What is wrong with how the command ended."""
    error = case.fault.error if case.fault else None
    if case.fault is None or not ended.met:
        if ended.code != 0:
            yield f"end: exit {ended.code} though nothing failed: {ended.err.strip()[-300:]}"
    elif error is None:
        if not ended.killed:
            yield f"end: exit {ended.code} though it was killed"
    elif ended.code not in {0, *_FAILURES}:
        yield f"end: exit {ended.code}: {ended.err.strip()[-300:]}"
    elif ended.code and len(lines := ended.err.strip().splitlines()) != 1:
        yield f"end: {len(lines)} lines on stderr: {ended.err.strip()[:300]}"


def _judge_after(studio: Studio, action: Action, ended: Ended) -> Iterator[str]:
    """What is wrong with the disk after the command ended, however it did."""
    seen = oracle.look(studio)
    yield from (f"after: {wrong}" for wrong in seen.wrong)
    allowed = {action.new} if ended.code == 0 else {action.old, action.new}
    if seen.version not in allowed:
        yield f"after: a reader sees {seen.version} (exit {ended.code})"


def _judge_retry(studio: Studio, action: Action) -> Iterator[str]:
    """What is wrong when the command is simply run again, and then the collector on what is long past."""
    yield from _again(studio, action.arguments(studio), action.days)
    seen = oracle.look(studio)
    yield from (f"retry: {wrong}" for wrong in seen.wrong)
    if seen.version != action.new:
        yield f"retry: a reader sees {seen.version}"
    yield from left_over(studio)
    yield from (f"retry: {undone}" for undone in action.undone(studio))


def left_over(studio: Studio) -> Iterator[str]:
    """What of an unfinished command is still there after the collector ran a week later."""
    if found := oracle.litter(studio):
        _age(studio, found)
        yield from _again(studio, studio.arguments("gc"), 0)
        yield from (f"litter: {name}" for name in oracle.litter(studio))


def _again(studio: Studio, arguments: Sequence[str], days: int) -> Iterator[str]:
    if days:
        ended = commands.finish(commands.command(arguments), studio.root, Around(days=days))
        code, told = ended.code, ended.out + ended.err
    else:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = run(arguments)
        told = out.getvalue()
    if code != 0:
        yield f"{' '.join(arguments[4:])} again: exit {code}: {told.strip()[-300:]}"


def _age(studio: Studio, names: tuple[str, ...]) -> None:
    """Have these files and folders be a week old: what is young may belong to a command that still runs."""
    for root in (studio.store, studio.site):
        for path in (root / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                then = path.stat().st_mtime - _LONG_AGO
                os.utime(path, (then, then))
