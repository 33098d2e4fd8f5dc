"""The command line: run the rigs, print a table, exit 1 on any violation.

python -m changeover_faults [--bounded | --exhaustive] [--json FILE] [--workers N] [RIG ...]``
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from changeover_faults import crowd, readers, silly, space, stale, sweeps
from changeover_faults.pool import Pool, pool
from changeover_faults.report import Report, as_json, table
from changeover_faults.scale import Scale

__all__ = ["RIGS", "main"]

Rig = Callable[[Pool, Scale], Iterator[Report]]

RIGS: Mapping[str, Rig] = {
    "kills": sweeps.kills,
    "errors": sweeps.errors,
    "power": sweeps.power_cuts,
    "mutations": sweeps.mutations,
    "readers": readers.kills_with_readers,
    "crowd": crowd.crowds,
    "space": space.full_disks,
    "silly": silly.silly_names,
    "stale": stale.stale_pointer,
}


def main() -> int:
    """Run what was asked for; 1 where something is violated, or where nothing could run."""
    parser = argparse.ArgumentParser(prog="changeover_faults", description="Break a small studio.")
    parser.add_argument("rigs", nargs="*", metavar="RIG", help=f"some of: {', '.join(RIGS)}; all where none is named")
    parser.add_argument("--bounded", action="store_true", help="an even part of everything, in some minutes")
    parser.add_argument("--exhaustive", action="store_true", help="every error at every call of every command; hours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--workers", type=int, default=max(1, os.cpu_count() or 1), help="processes (default: cores)")
    asked = parser.parse_args()
    # Ended by another, it still takes its mounts with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if unknown := set(asked.rigs) - set(RIGS):
        parser.error(f"no such rig: {', '.join(sorted(unknown))}")
    started = time.monotonic()
    reports = run_rigs(asked.rigs or list(RIGS), Scale(not asked.bounded, asked.exhaustive), asked.workers)
    if asked.json is not None:
        asked.json.write_text(as_json(reports), encoding="utf-8")
    _say(table(reports))
    return verdict(reports, time.monotonic() - started)


def run_rigs(names: list[str], scale: Scale, workers: int) -> list[Report]:
    """Run rigs one after the other, each on all workers."""
    reports: list[Report] = []
    with (
        tempfile.TemporaryDirectory(prefix="changeover-faults-", dir=_fast()) as work,
        pool(Path(work), workers, lambda line: _say(f"  {line}")) as workers_of,
    ):
        for name in names:
            for report in RIGS[name](workers_of, scale):
                reports.append(report)
                _say(table([report]).splitlines()[1])
    return reports


def verdict(reports: list[Report], seconds: float) -> int:
    """The last line, and the exit status."""
    ran = [report for report in reports if not report.skipped]
    violations = sum(len(report.violations) for report in ran)
    skipped = len(reports) - len(ran)
    cases = sum(report.cases for report in ran)
    _say(f"{cases} cases, {violations} violations, {skipped} rigs skipped, {seconds:.0f} s")
    if not cases:
        _say("nothing could run here")
    return 1 if violations or not cases else 0


def _fast() -> str | None:
    """A folder in memory, where fsync takes no time, if there is one with room."""
    memory = Path("/dev/shm")  # noqa: S108 - only folders of our own are made in it
    if not os.access(memory, os.W_OK):
        return None
    room = os.statvfs(memory)
    return str(memory) if room.f_bavail * room.f_frsize > 4 * 2**30 else None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
