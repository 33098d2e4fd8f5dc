"""Three ways of having shots scored: in this process, on a Dask cluster, and by somebody else who brings the results.

All of them call the same function (`tasks.score_task`); they differ in who calls it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError, MeasurementError, RefusedError, UndecidedError
from changeover_registry.records.scores import ScoreTask
from changeover_updater import farm
from changeover_updater.bench import Bench, Models
from changeover_updater.scoring import Landed
from changeover_updater.tasks import score_task

if TYPE_CHECKING:
    from changeover_validators.golden.pipeline import Progress
    from changeover_validators.golden.results import Bundle

__all__ = ["OF_THE_SHOT", "Collected", "Here", "OnDask"]

OF_THE_SHOT = (InvalidInputError, MeasurementError, RefusedError, UndecidedError)
"""What speaks of a shot and its models; every other error ends the check, for it would befall each shot."""


@dataclass(frozen=True, slots=True)
class Here:
    """In this process and thread, one shot after the other; the models are started once."""

    bench: Bench
    told: "Callable[[ScoreTask, Progress], None]"

    def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
        """Each task's result, in the order of the tasks; there is none after one that failed."""
        with Models(self.bench) as models:
            for task in tasks:
                try:
                    bundle = score_task(self.bench, task, models, lambda at, task=task: self.told(task, at))  # type: ignore[misc]
                except OF_THE_SHOT as error:
                    yield task, error
                    return
                yield task, bundle


@dataclass(frozen=True, slots=True)
class OnDask:
    """On a Dask cluster whose workers see the site; the scheduler is at `address`."""

    address: str
    notice: Callable[[str], None]

    def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
        """Each task's result, as they land.

        Raises:
            UnreachableError: The scheduler does not answer, or has no worker.
            TrustError: What a worker says of the studio's records.
        """
        from changeover_updater.dask_adapter import run

        for task, landed in run(self.address, tasks, self.notice):
            if isinstance(landed, bytes):
                yield task, _unpacked(task, landed)
            elif isinstance(landed, OF_THE_SHOT):
                yield task, landed
            else:
                raise landed


def _unpacked(task: ScoreTask, data: bytes) -> "Bundle | InvalidInputError":
    """A worker's bundle; a damaged one is what came of that shot, and takes no other along."""
    from changeover_validators.golden.results import Bundle

    try:
        return Bundle.from_bytes(data, where=f"golden shot {task.shot}, from a Dask worker")
    except InvalidInputError as error:
        return error


@dataclass(frozen=True, slots=True)
class Collected:
    """By a farm that has brought what it could: the results are filed, and what is left has failed there."""

    folder: Path

    def results(self, tasks: Sequence[ScoreTask]) -> Iterator[Landed]:
        """Why each task has no result."""
        for task in tasks:
            yield task, farm.failed(self.folder, task) or farm.tasks_are_missing(self.folder, (task,), "check")
