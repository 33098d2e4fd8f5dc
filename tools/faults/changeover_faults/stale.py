"""A pointer that stays stale on one host for as long as NFS caches a folder, while another host goes on.

The host's view of the store has the live folders by bind mounts and beside them a `current` of long ago, as a host has
whose attribute cache has not expired. It must find the old generation whole for all that time.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from changeover_faults import oracle
from changeover_faults.commands import run
from changeover_faults.pool import Pool
from changeover_faults.readers import reading
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.studio import NEW, OLD, STATION, Studio, build, promote

__all__ = ["stale_pointer"]


def stale_pointer(pool: Pool, scale: Scale) -> Iterator[Report]:
    """Updates, rollbacks and collections for a minute (bounded: some seconds) under the eyes of a stale reader."""
    report, started = Report("a pointer stale for a minute"), time.monotonic()
    root = pool.work / "stale"
    root.mkdir()
    studio = build(root)
    studio.change_over()
    promote(studio, NEW)
    try:
        with _stale_view(studio, root / "view") as view, reading(studio, 2, store=view) as found:
            _go_on(studio, view, report, scale.many(60, 6))
        report.violations += found
        report.notes["readings"] = found.reads
    except PermissionError as error:
        report = Report(report.rig, skipped=f"nothing can be mounted here: {error}")
    shutil.rmtree(root)
    report.seconds = time.monotonic() - started
    yield report


def _go_on(studio: Studio, view: Path, report: Report, seconds: int) -> None:
    ends = time.monotonic() + seconds
    commands = (("update",), ("gc",), ("rollback", "--to", "1", "--reason", "test"), ("gc",), ("unhold",))
    while time.monotonic() < ends:
        for words in commands:
            ended = run(studio, *words)
            violations = [f"{words[0]}: exit {ended.code}: {ended.err.strip()[-300:]}"] if ended.code else []
            if (version := oracle.served(view)) != OLD:
                violations.append(f"the stale view serves {version}")
            report.add(violations)


@contextlib.contextmanager
def _stale_view(studio: Studio, view: Path) -> Iterator[Path]:
    """The store as a host sees it whose cache still has the pointer of this moment; its folders are the live ones."""
    here = view / "stations" / STATION
    here.mkdir(parents=True)
    shutil.copy(studio.store / "format", view)
    shutil.copy(studio.station().folder / "current", here)
    live = [Path("releases"), *(Path("stations", STATION, name) for name in ("generations", "leases"))]
    try:
        for name in live:
            (view / name).mkdir(exist_ok=True)
            _mount(str(studio.store / name), str(view / name))
        yield view
    finally:
        for name in live:
            subprocess.run(("umount", "-l", str(view / name)), check=False, capture_output=True)


def _mount(source: str, target: str) -> None:
    done = subprocess.run(("mount", "--bind", source, target), check=False, capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr.strip())
