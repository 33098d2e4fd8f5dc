"""How long a changeover and the way back take: ``python -m changeover_updater.bench_switch [--models N]``.

A store with N installed models (1,000) and their generation is made, then these are timed, warm, as often as `ROUNDS`:
building the next generation with its events and moving the pointer (what `update` does under the lock once files are
there), and `roll_back`. Then ``changeover rollback`` runs as a process of its own, cold: with an empty page cache where
this user may empty it, and without a network, in a namespace of its own, where the machine has those. Figures are
printed with what was left out; people judge them (100 ms and 1 s are asked for).
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from changeover_registry import clock
from changeover_registry.clock import format_time
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import (
    Answer,
    Generation,
    GenerationChannel,
    GenerationRelease,
    InstalledFile,
)
from changeover_updater.rollback import roll_back, unhold
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.update import change_over

__all__ = ["filled_station", "next_generation"]

ROUNDS = 20
CONTENT = b"a file of this model"


def filled_station(root: Path, models: int, now: datetime) -> Station:
    """A station of a store with that many models, one release and one real file each, and two generations of them."""
    store = Store.create(root)
    station = Station(store, "bench")
    station.create()
    releases = tuple(_installed(store, number) for number in range(models))
    channels = tuple(GenerationChannel(channel="stable", model=r.model, key=r.key) for r in releases)
    for number in (1, 2):
        first = Generation(
            number=number,
            station=station.id,
            made_at=format_time(now),
            why="a bench",
            previous=number - 1 or None,
            site=str(root),
            nuke_lines=("15.1",),
            releases=releases,
            channels=channels,
        )
        with station.lock():
            change_over(station, first, now, "bench")
    return station


def next_generation(station: Station, now: datetime) -> Generation:
    """What an update would build next: all of the generation in use under the next number."""
    used = station.in_use()
    if used is None:
        message = "a station without a generation"
        raise RuntimeError(message)
    changed = {"number": station.next_number(), "previous": used.number, "made_at": format_time(now)}
    return used.model_copy(update=changed)


def _installed(store: Store, number: int) -> GenerationRelease:
    name = f"model-{number:04d}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    ref = ReleaseRef(model=f"acme/{name}", version="1.0.0", digest=digest)
    path = f"{store.variant_path(ref, 'nuke-cat')}/model.cat"
    file = store.root / path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    answer = Answer(
        loader="nuke-inference",
        nuke_line="15.1",
        variant="nuke-cat",
        precision="fp32",
        path=path,
        files=(InstalledFile(path=path, size=len(CONTENT), sha256=sha256),),
    )
    return GenerationRelease(key=str(ref), model=ref.model, version=ref.version, digest=digest, answers=(answer,))


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="How long a changeover and the way back take.")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="Where to make the store; else the temporary folder.")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for name, figure in _measured(Path(folder), asked.models):
            sys.stdout.write(f"{name:<62} {figure}\n")
            sys.stdout.flush()
    return 0


def _measured(folder: Path, models: int) -> Iterator[tuple[str, str]]:
    now = clock.now()
    station = filled_station(folder / "store", models, now)
    first = next_generation(station, now)
    steps = [{"number": first.number + n, "previous": first.number + n - 1} for n in range(ROUNDS)]
    following = iter([first.model_copy(update=step) for step in steps])

    def switch() -> None:
        with station.lock():
            change_over(station, next(following), now, "bench")

    def back() -> None:
        roll_back(station, None, who="bench", why="bench", now=now + timedelta(seconds=1))

    yield f"generation.json of {models} models", f"{len(first.to_bytes()) / 1e6:.2f} MB"
    yield f"switch, warm: generation, events, pointer ({ROUNDS} times)", _times(switch)
    yield f"rollback in this process, warm ({ROUNDS // 2} times)", _times(back, ROUNDS // 2)
    unhold(station, who="bench", why="bench", now=now)
    with station.lock():
        change_over(station, next_generation(station, now), now, "bench")
    yield from _cold(station, folder)


def _cold(station: Station, folder: Path) -> Iterator[tuple[str, str]]:
    """The command as a person runs it; each time it goes back one generation further."""
    config = folder / "host.toml"
    config.write_text(f'schema = "changeover.host/1"\nstore = "{station.store.root}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "changeover_updater", "--config", str(config), "--station", station.id]
    alone = ["unshare", "--net", "--map-root-user"] if _can(["unshare", "--net", "--map-root-user", "true"]) else []
    for name, before in (("warm", []), ("cold", ["cold"])):
        if before and not _empty_cache():
            yield "rollback as a command, cold", "not run: this user may not empty the page cache"
            continue
        start = time.monotonic()
        done = subprocess.run([*alone, *command, "rollback"], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        network = "without a network" if alone else "network left on: no namespaces here"
        said = f"{seconds * 1000:7.0f} ms" if done.returncode == 0 else f"failed: {done.stderr.strip()}"
        yield f"rollback as a command, {name}, {network}", said


def _times(action: Callable[[], None], rounds: int = ROUNDS) -> str:
    taken, worked = [], []
    for _ in range(rounds):
        start, work = time.monotonic(), time.process_time()
        action()
        worked.append((time.process_time() - work) * 1000)
        taken.append((time.monotonic() - start) * 1000)
    middle, busy = statistics.median(taken), statistics.median(worked)
    return f"{middle:7.1f} ms at the middle ({busy:.1f} of CPU), {max(taken):.1f} ms at most"


def _can(command: list[str]) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0


def _empty_cache() -> bool:
    """Have the next read come from the disk; only root may."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
