"""How long ``fleet`` takes over many stations: ``python -m changeover_updater.bench_stations [--stations N]``.

Writes the reports of N stations of the hosts that ship, one in ten of which failed with a release that is on its way to
a quarter of them, then lists, reads and folds them as the command does. Printed: seconds, stations a second, the bytes
of a report, and the most memory that this process had.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from changeover_registry.records.choice import Choice, Entry, Pointer, Share
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import GenerationChannel, StationStatus, Tried
from changeover_updater.fleet_stations import stations_of
from changeover_updater.site import Site
from changeover_updater.stations import iter_statuses, station_names
from changeover_validators.classes import host_class
from changeover_validators.probe import forged_host, forged_hosts

__all__ = ["NEW", "main"]

_T = TypeVar("_T")
_NOW = datetime(2026, 11, 22, 12, 10, tzinfo=UTC)
_AT, _NEXT = "2026-11-22T12:00:00Z", "2026-11-22T12:40:00Z"
_OLD = ReleaseRef(model="acme/person-roto", version="4.1.0", digest="a" * 64)
NEW = ReleaseRef(model="acme/person-roto", version="4.2.0", digest="b" * 64)


def main(arguments: Sequence[str]) -> int:
    """Write, read, fold and print."""
    parser = argparse.ArgumentParser(prog="bench_stations")
    parser.add_argument("--stations", type=int, default=10_000)
    count = parser.parse_args(arguments).stations
    with tempfile.TemporaryDirectory() as folder:
        site = Site.create(Path(folder) / "site")
        size = _write(site, count)
        names, listed = _timed(lambda: station_names(site))
        _, read = _timed(lambda: sum(1 for _ in iter_statuses(site, now=_NOW)))
        found, folded = _timed(lambda: stations_of(iter_statuses(site, now=_NOW), (_choice(),), _NOW))
    behind = sum(bool(line.behind) for line in found.lines)
    sys.stdout.write(
        f"{len(names)} stations, {size} bytes a report: listed in {listed:.2f} s, read and verified in {read:.2f} s, "
        f"read and folded in {folded:.2f} s ({count / folded:.0f} a second), {behind} behind, "
        f"at most {_peak_mib():.0f} MiB\n"
    )
    return 0


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def _peak_mib() -> float:
    if sys.platform == "win32":  # pragma: windows
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _choice() -> Choice:
    return Choice(
        scope="site",
        number=12,
        entry=Entry(who="td", when=_AT, why="bench", what="bench"),
        channels=(Pointer(channel="stable", release=_OLD),),
        shares=(Share(channel="stable", release=NEW, percent=25),),
    )


def _write(site: Site, count: int) -> int:
    """Write the reports; answers with the bytes of the last."""
    hosts = [(facts, host_class(facts)) for facts in map(forged_host, forged_hosts())]
    size = 0
    for number in range(count):
        facts, digest = hosts[number % len(hosts)]
        name = f"render-{number:05}"
        status = StationStatus(
            station=name,
            host=name,
            reported_at=_AT,
            host_class=digest,
            generation=7,
            releases=tuple(f"acme/person-roto@4.{minor}.0-0123456789ab" for minor in range(12)),
            events=40,
            events_head="c" * 64,
            changeover="0.1.0",
            serving=tuple(
                GenerationChannel(channel=channel, model=_OLD.model, key=str(_OLD))
                for channel in ("stable", "beta", "show/atlas")
            ),
            facts=facts.model_copy(update={"host": name}),
            verdicts=("d" * 64, "e" * 64),
            tried=(Tried(key=str(NEW), outcome="done" if number % 10 else "failed", when=_AT, why="smoke"),),
            quarantined=(),
            choices={"site": 12, "shows/atlas": 4},
            next_report=_NEXT,
        )
        folder = site.root / "stations" / name
        folder.mkdir()
        data = status.to_bytes()
        (folder / "status.json").write_bytes(data)
        size = len(data)
    return size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
