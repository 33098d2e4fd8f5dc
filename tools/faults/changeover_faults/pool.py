"""Many cases on a few worker processes, each with benches of its own, and what came of them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from changeover_faults import mutation, sweep
from changeover_faults.action import ACTIONS
from changeover_faults.bench import Bench, open_bench
from changeover_faults.mutation import Chain
from changeover_faults.strace import Call
from changeover_faults.sweep import Case, Result

__all__ = ["Pool", "pool"]

_BENCHES: dict[str, Bench] = {}
_WORK: list[Path] = []


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers. Every answer comes in the order in which it is ready."""

    executor: ProcessPoolExecutor
    work: Path
    say: Callable[[str], None]

    def record(self, kind: str, action: str, chain: Chain | None = None) -> tuple[Call, ...]:
        """The calls by which an action changes the disk."""
        return self.executor.submit(_record, kind, action, chain).result()

    def fsyncs(self, action: str) -> tuple[Chain, ...]:
        """The places of the product where an action calls fsync."""
        return self.executor.submit(_fsyncs, action).result()

    def run(self, name: str, kind: str, cases: Sequence[Case]) -> list[Result]:
        """Run all cases on benches of a kind, and tell how far it is."""
        results = []
        for future in as_completed([self.executor.submit(_run, kind, case) for case in cases]):
            results.append(future.result())
            if len(results) % 25 == 0:
                bad = sum(bool(result.violations) for result in results)
                self.say(f"{name}: {len(results)} of {len(cases)} cases, {bad} with violations")
        return results


@contextmanager
def pool(work: Path, workers: int, say: Callable[[str], None]) -> Iterator[Pool]:
    """Worker processes that work below `work`; their folders are gone at the end."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _start, (work,)) as executor:
            yield Pool(executor, work, say)
    finally:
        _unmount_all(work)
        shutil.rmtree(work, ignore_errors=True)


def _unmount_all(work: Path) -> None:
    """Let go of what a case that broke off left mounted."""
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    for folder in (line.split()[1] for line in reversed(lines)):
        if folder.startswith(f"{work}/"):
            subprocess.run(("umount", "-l", folder), check=False, capture_output=True)


def _start(work: Path) -> None:
    _WORK.append(work)


def _bench(kind: str) -> Bench:
    if kind not in _BENCHES:
        _BENCHES[kind] = open_bench(kind, _WORK[0])
    return _BENCHES[kind]


def _without(chain: Chain | None) -> Path | None:
    if chain is None:
        return None
    return mutation.without(_WORK[0] / f"mutation-{os.getpid()}", chain)


def _record(kind: str, action: str, chain: Chain | None) -> tuple[Call, ...]:
    return sweep.record(_bench(kind), ACTIONS[action], _without(chain))


def _run(kind: str, case: Case) -> Result:
    return sweep.run_case(_bench(kind), case, _without(case.mutation))


def _fsyncs(action: str) -> tuple[Chain, ...]:
    out = _WORK[0] / f"fsyncs-{os.getpid()}"
    out.unlink(missing_ok=True)
    sweep.record(_bench("folder"), ACTIONS[action], mutation.recording(_WORK[0] / f"recording-{os.getpid()}", out))
    return mutation.fsyncs_in(out)
