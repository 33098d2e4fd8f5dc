"""Scoring by somebody else's render queue: a folder of tasks with one command line each, and a folder of results.

``DIR/tasks/<key>.json`` is one task, ``DIR/tasks.txt`` one command line for each, which any queue can run in any order,
twice or after a kill. ``DIR/results/<key>.zip`` is a result, ``<key>.failed.json`` a measurement that broke. Names come
from keys, so writing again changes nothing and two people may share a folder. The folder decides nothing: a result is
taken only under a key that is computed here from the studio's signed records. What it says is believed, as a renderer's
picture is, so the folder belongs where only the farm and its TDs may write.
"""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from changeover_registry._fs import make_dirs, write_atomic
from changeover_registry.errors import ChangeoverError, InvalidInputError, MeasurementError, UndecidedError
from changeover_registry.records.base import Digest, Record, Text
from changeover_registry.records.scores import ScoreTask

if TYPE_CHECKING:
    from changeover_validators.golden.results import Bundle, ResultStore

__all__ = [
    "Failure",
    "TasksWrittenError",
    "collect",
    "failed",
    "read_task",
    "result_of",
    "task_lines",
    "tasks_are_missing",
    "tasks_are_written",
    "write_failure",
    "write_result",
    "write_tasks",
]

_SHORT = 16
_LIMIT_BYTES = 1 << 20
_RESULT_LIMIT_BYTES = 1 << 27
"""A result's file above this is none; what is in it is bounded by half of that, and it is not compressed."""


class Failure(Record):
    """``results/<key>.failed.json``: why a shot could not be measured there."""

    NAME: ClassVar[str] = "score-failure"

    key: Digest
    rule: Text
    where: Text
    expected: Text
    actual: Text
    remedy: Text

    def error(self) -> MeasurementError:
        """The error that the machine ended with."""
        return MeasurementError(
            self.rule, where=self.where, expected=self.expected, actual=self.actual, remedy=self.remedy
        )


class TasksWrittenError(UndecidedError):
    """The tasks are written, as was asked, and nothing is decided yet: no failure, and still exit code 4."""


def write_tasks(folder: Path, tasks: Sequence[ScoreTask], config: Path | None = None) -> None:
    """Write the tasks and their command lines; the lines come last, so that a kill leaves none that names no file.

    Args:
        folder: Where.
        tasks: What is to be scored.
        config: The host.toml that the lines name; without one, each machine finds its own.

    Raises:
        OSError: The folder cannot be written.
    """
    make_dirs(folder.absolute() / "tasks")
    make_dirs(folder.absolute() / "results")
    for task in tasks:
        write_atomic(_task_file(folder, task), task.to_bytes())
    write_atomic(folder / "tasks.txt", "".join(f"{line}\n" for line in task_lines(folder, tasks, config)).encode())


def task_lines(folder: Path, tasks: Sequence[ScoreTask], config: Path | None = None) -> tuple[str, ...]:
    """One command line for each task, quoted for a POSIX shell.

    Each path is absolute, that of the interpreter too: a queue runs lines with a search path and variables of its own.
    """
    # With -P nothing in the folder that a queue starts in is imported.
    start = [sys.executable, "-P", "-m", "changeover_updater"]
    if config is not None:
        start += ["--config", str(config.absolute())]
    out = ["--out", str(folder.absolute() / "results")]
    return tuple(shlex.join([*start, "golden", "score", str(_task_file(folder, task)), *out]) for task in tasks)


def read_task(path: Path) -> ScoreTask:
    """A task from its file.

    Raises:
        InvalidInputError: There is no such file, or it is no task.
    """
    if not path.is_file() or path.stat().st_size > _LIMIT_BYTES:
        raise InvalidInputError(
            "task",
            where=str(path),
            expected="a file that changeover check --tasks wrote",
            actual="no such file" if not path.is_file() else "a file that is far too large",
            remedy="correct the path, or mount the folder here",
        )
    return ScoreTask.from_bytes(path.read_bytes(), where=str(path))


def result_of(results: Path, task: ScoreTask) -> "Bundle | None":
    """The result of a task that lies in a folder; None where there is none, or one that is damaged or another's."""
    from changeover_validators.golden.results import Bundle

    path = results / f"{task.key[:_SHORT]}.zip"
    if not path.is_file() or path.stat().st_size > _RESULT_LIMIT_BYTES:
        return None
    try:
        bundle = Bundle.from_bytes(path.read_bytes(), where=str(path))
    except ChangeoverError:
        return None
    return bundle if bundle.scores.key.digest() == task.key else None


def write_result(results: Path, task: ScoreTask, bundle: "Bundle") -> None:
    """File a result; what an earlier try said of the task is gone.

    Raises:
        OSError: The folder cannot be written.
    """
    make_dirs(results.absolute())
    write_atomic(results / f"{task.key[:_SHORT]}.zip", bundle.to_bytes())
    _failed_file(results, task).unlink(missing_ok=True)


def write_failure(results: Path, task: ScoreTask, error: MeasurementError) -> None:
    """File why a task could not be measured, so that the verdict can say it.

    Raises:
        OSError: The folder cannot be written.
    """
    failure = Failure(
        key=task.key,
        rule=error.rule,
        where=error.where,
        expected=error.expected,
        actual=error.actual or "nothing",
        remedy=error.remedy,
    )
    make_dirs(results.absolute())
    write_atomic(_failed_file(results, task), failure.to_bytes())


def failed(folder: Path, task: ScoreTask) -> MeasurementError | None:
    """Why a task could not be measured, if a machine has said so and none has done it since."""
    path = _failed_file(folder / "results", task)
    if not path.is_file() or path.stat().st_size > _LIMIT_BYTES:
        return None
    try:
        failure = Failure.from_bytes(path.read_bytes(), where=str(path))
    except ChangeoverError:
        return None
    return failure.error() if failure.key == task.key else None


def collect(
    folder: Path, tasks: Sequence[ScoreTask], store: "ResultStore", notice: Callable[[str], None]
) -> tuple[ScoreTask, ...]:
    """File every result of the folder that one of `tasks` asks for; returns the tasks that have none.

    Raises:
        InvalidInputError: There is no such folder of tasks.
        OSError: The site cannot be written.
    """
    if not (folder / "tasks.txt").is_file():
        raise InvalidInputError(
            "tasks",
            where=str(folder),
            expected="a folder that changeover check --tasks wrote",
            actual="no tasks.txt in it",
            remedy="correct the path, or write the tasks first",
        )
    missing = []
    for task in tasks:
        bundle = result_of(folder / "results", task)
        if bundle is None:
            missing.append(task)
        else:
            store.put(bundle)
    for name in _strangers(folder, tasks):
        notice(f"{name} is the result of no shot that is missing; it is left alone")
    return tuple(missing)


def tasks_are_written(folder: Path, tasks: Sequence[ScoreTask], again: str) -> TasksWrittenError:
    """What `check --tasks` ends with: nothing is decided yet."""
    return TasksWrittenError(
        "undecided",
        where=str(folder),
        expected="a score of every golden shot",
        actual=f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}",
        remedy=f"run the lines of {folder / 'tasks.txt'}, then: {again} --collect {shlex.quote(str(folder))}",
    )


def tasks_are_missing(folder: Path, missing: Sequence[ScoreTask], again: str) -> UndecidedError:
    """What `check --collect` ends with where results are missing; what was there is kept."""
    named = ", ".join(f"{task.shot} ({task.candidate_point}, {task.key[:_SHORT]})" for task in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return UndecidedError(
        "undecided",
        where=str(folder),
        expected="a result of every task",
        actual=f"{len(missing)} missing: {named}{more}",
        remedy=f"look at the queue's logs, run these lines again, then: {again} --collect {shlex.quote(str(folder))}",
    )


def _strangers(folder: Path, tasks: Sequence[ScoreTask]) -> Iterator[str]:
    """Results that neither a task that was asked for nor one of the folder's own explains."""
    known = {f"{task.key[:_SHORT]}.zip" for task in tasks}
    known |= {f"{path.stem}.zip" for path in (folder / "tasks").glob("*.json")}
    yield from sorted(path.name for path in (folder / "results").glob("*.zip") if path.name not in known)


def _task_file(folder: Path, task: ScoreTask) -> Path:
    return folder.absolute() / "tasks" / f"{task.key[:_SHORT]}.json"


def _failed_file(results: Path, task: ScoreTask) -> Path:
    return results / f"{task.key[:_SHORT]}.failed.json"
