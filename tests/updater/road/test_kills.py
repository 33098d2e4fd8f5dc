"""SIGKILL at random moments of `update` while a reader resolves: old or new, whole, always. `make faults` does more."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

KILLS = int(os.environ.get("CHANGEOVER_KILLS", "25"))


class Reader(threading.Thread):
    """Follows the pointer as the plug-in does and keeps every answer that was not whole."""

    def __init__(self, store: Path, station: Path, entries: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.store, self.station, self.entries = store, station, entries
        self.broken: list[str] = []
        self.seen: set[str] = set()
        self.reads = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.read_once()
            except (OSError, ValueError, KeyError) as error:
                self.broken.append(repr(error))
            self.reads += 1

    def read_once(self) -> None:
        number = json.loads((self.station / "current").read_bytes())["generation"]
        folder = self.station / "generations" / str(number)
        generation = json.loads((folder / "generation.json").read_bytes())
        held = {release["key"]: release for release in generation["releases"]}
        for channel in generation["channels"]:
            self.seen.add(channel["key"])
            for answer in held[channel["key"]]["answers"]:
                for file in answer.get("files", []):
                    size = (self.store / file["path"]).stat().st_size
                    if size != file["size"]:
                        self.broken.append(f"{file['path']}: {size} of {file['size']} bytes")


def test_every_kill_leaves_old_or_new_whole_and_the_next_update_succeeds(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    reader = Reader(world.station.store.root, world.station.folder, {})
    reader.start()
    chance = random.Random(7)
    whole_us = _time_of_update(world)
    landed = 0

    for turn in range(KILLS):
        to, other = (second, first) if turn % 2 == 0 else (first, second)
        world.accept(to, current=other)
        world.ok("promote", f"tiny-roto@{to.version}", "--reason", f"turn {turn}")
        if turn % 10 == 0:
            # Files must be brought again, so that kills meet the installing too.
            _forget(world, to)
        landed += _kill_at(world, chance.uniform(0.05, 1.1) * whole_us)
        assert not reader.broken, reader.broken[:3]
    reader.stop.set()
    reader.join(10)

    assert world.run("update")[0] == 0
    assert reader.reads > KILLS
    assert {str(first.ref()), str(second.ref())} >= reader.seen
    assert landed > KILLS // 4, "most updates ended before the kill: the sweep did not meet them"
    current = world.station.in_use()
    assert current.channels[0].key in {str(first.ref()), str(second.ref())}
    world.ok("log", "--verify")


def _command(world: Any) -> list[str]:
    return [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra, "update"]


def _time_of_update(world: Any) -> float:
    started = time.monotonic()
    subprocess.run(_command(world), check=True, capture_output=True)
    return time.monotonic() - started


def _kill_at(world: Any, seconds: float) -> int:
    process = subprocess.Popen(
        _command(world), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return 1
    return 0


def _forget(world: Any, release: Any) -> None:
    """Take an installed release that is not in use out of the store, as if it had never been there."""
    from changeover_registry import _fs

    generation = world.station.in_use()
    if generation.channels[0].key != str(release.ref()):
        folder = world.station.store.variant_folder(release.ref(), "onnx-fp32")
        if folder.exists():
            _fs.remove_tree(folder)
