"""A machine that scores one shot for somebody else: a Dask worker, or a command line on a farm.

It has settings, a store and a station of its own, reads the studio's signed records itself, and returns numbers; it
signs and decides nothing.
"""

import os
from typing import TYPE_CHECKING

from changeover_registry import clock
from changeover_registry.records.scores import ScoreTask
from changeover_updater.bench import Bench, Models, Watch
from changeover_updater.tasks import score_task

if TYPE_CHECKING:
    from changeover_updater.cli._context import Invocation

__all__ = ["bench_of", "score_bytes"]


def bench_of(call: "Invocation", watch: Watch) -> Bench:
    """This machine's workbench, with what the studio knows read and verified here.

    Raises:
        InvalidInputError: Site, store or station are not named or not there.
        TrustError: The choice or the policy does not hold.
    """
    from changeover_updater.cli._context import host_facts
    from changeover_updater.studio import read_studio

    site, station = call.site(), call.station()
    return Bench(site, station, read_studio(site, station), host_facts(call, station), watch)


def score_bytes(task: bytes) -> bytes:
    """Do a task with the settings of this process's environment, and return the bundle's bytes.

    Raises:
        ChangeoverError: As `score_task`; it reaches the one who asked as it is.
    """
    from changeover_updater.cli._context import Invocation
    from changeover_updater.settings import load_settings

    call = Invocation(settings=load_settings(os.environ), now=clock.now())
    bench = bench_of(call, Watch.silent())
    with Models(bench) as models:
        return score_task(bench, ScoreTask.from_bytes(task, where="the task"), models).to_bytes()
