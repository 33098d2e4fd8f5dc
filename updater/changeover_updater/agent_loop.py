"""The loop of an agent: sleep, look, have a child update, remember, tell. What it does when is `agent`'s to decide.

A tick runs in a process of its own: its memory goes with it, a fault or a kill of it ends no agent, and a Changeover
that was updated meanwhile is the one that runs. SIGTERM lets the tick that runs come to its end, for a while; a tick
that is then ended leaves the old generation or the new one, as every killed command does. Nothing that a tick does ends
the loop.
"""

import contextlib
import json
import os
import random
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic import Field, ValidationError

from changeover_registry import _fs
from changeover_registry.canonical import digest
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.base import Value
from changeover_updater.agent import (
    Done,
    Memory,
    Pace,
    Seen,
    after_poll,
    after_tick,
    next_report,
    start,
    wanted,
)
from changeover_updater.station import Station

__all__ = ["Agent", "Kept", "agent_lock", "keep", "kept", "look", "run_child", "stopped_by_signals"]

_LIMIT_BYTES = 64 * 1024
_ANSWER_BYTES = 4 * 1024 * 1024
_TICK_SECONDS = 12 * 3600.0
_GRACE_SECONDS = 60.0
_NOTES, _LINE = 20, 400


class Kept(Value):
    """What an agent keeps on disk between two ticks and over its own end. `ticks` counts by exit code."""

    done: Done
    at: str
    success: str | None = None
    failures: int = 0
    ticks: dict[str, int] = Field(default_factory=dict)
    serial: str | None = None
    next_tick: str | None = None


def agent_lock(station: Station) -> "contextlib.AbstractContextManager[None]":
    """Be the one agent of a station for the length of a block; `LostRaceError` if there is one already."""
    return _fs.lock(station.folder / "agent.lock", what=f"station {station.id} as its agent")


def kept(station: Station) -> Kept | None:
    """What was kept last; a file that was damaged or written by another version is as good as none."""
    try:
        return Kept.model_validate_json((station.folder / "agent.json").read_bytes())
    except (OSError, ValidationError):
        return None


def keep(station: Station, done: Done, now: datetime, serial: str | None, next_tick: datetime | None) -> Kept:
    """Keep what a tick did; a folder that cannot be written is no reason to fail."""
    before = kept(station)
    ticks, code = dict(before.ticks) if before else {}, str(done.exit_code)
    ticks[code] = ticks.get(code, 0) + 1
    if done.behind is None and before is not None:
        done = done.model_copy(update={"behind": before.done.behind, "choices": done.choices or before.done.choices})
    well = done.exit_code in {0, 3, 4}
    new = Kept(
        done=done.model_copy(update={"notes": ()}),
        at=format_time(now),
        success=format_time(now) if well else before.success if before else None,
        failures=0 if well else 1 + (before.failures if before else 0),
        ticks=ticks,
        serial=serial,
        next_tick=format_time(next_tick) if next_tick else None,
    )
    with contextlib.suppress(OSError):
        _fs.write_atomic(station.folder / "agent.json", new.model_dump_json().encode())
    return new


def look(site: Path, station: Station) -> Seen:
    """Which choice is the newest, by the metadata that the site shows, unverified; a tick verifies it.

    It is the snapshot that counts: one that is only signed again with a new timestamp is no news.
    """
    held = (station.folder / "hold").exists()
    try:
        data = _small(site / "choice" / "metadata" / "timestamp.json")
    except (OSError, ValueError):
        return Seen(None, held)
    try:
        body = json.loads(data)["signed"]["meta"]["snapshot.json"]
        return Seen(digest(json.dumps(body, sort_keys=True).encode())[:16], held)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Seen(digest(data)[:16], held)


def _small(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            message = "no file"
            raise ValueError(message)
        return file.read(_LIMIT_BYTES)


@dataclass(slots=True)
class Agent:
    """One agent: whose station, how often, how a tick is run, and whom it tells.

    `tick` is given the moment by which the station reports again. `log` is told a line for each tick, and each time
    when the site stops or begins to answer. `wrote` is told what was kept.
    """

    site: Path
    station: Station
    pace: Pace
    tick: Callable[[datetime], Done]
    log: Callable[[str, dict[str, Any]], None]
    wrote: Callable[[Kept], None]
    stop: threading.Event = field(default_factory=threading.Event)
    chance: Callable[[], float] = field(default=random.SystemRandom().random)

    def run(self) -> None:
        """Go on until `stop` is set."""
        memory = self._begin()
        while not self.stop.is_set():
            what = wanted(self.pace, memory, _now())
            if what == "poll":
                memory = self._poll(memory)
            elif what == "tick":
                memory = self._tick(memory)
            else:
                self.stop.wait(min(what.total_seconds(), self.pace.poll))

    def _begin(self) -> Memory:
        before = kept(self.station)
        seen = Seen(before.serial, held=before.done.held) if before and before.serial else None
        last = None
        with contextlib.suppress(ChangeoverError):
            last = parse_time(before.at) if before and before.failures == 0 else None
        return start(self.pace, _now(), seen=seen, last=last, done=before.done if before else None)

    def _poll(self, memory: Memory) -> Memory:
        seen, now = look(self.site, self.station), _now()
        after = after_poll(self.pace, memory, seen, now, now.astimezone().time(), self.chance())
        if bool(after.silent) != bool(memory.silent):
            self._say("the site does not answer" if after.silent else "the site answers again", after)
        return after

    def _tick(self, memory: Memory) -> Memory:
        begun = _now()
        done = self.tick(next_report(self.pace, begun))
        now = _now()
        after = after_tick(self.pace, memory, done, now, self.chance())
        new = keep(self.station, done, now, memory.seen.serial if memory.seen else None, after.tick_at)
        for note in done.notes:
            self.log(note, {"line": note})
        seconds = (now - begun).total_seconds()
        self.log(
            f"{done.line} (exit {done.exit_code}, {seconds:.1f} s, because: {memory.why})",
            {"exit_code": done.exit_code, "because": memory.why, "seconds": round(seconds, 3), "changed": done.changed}
            | {"generation": done.generation, "next": format_time(after.tick_at), "line": done.line},
        )
        self.wrote(new)
        return after

    def _say(self, line: str, memory: Memory) -> None:
        self.log(line, {"line": line, "next": format_time(memory.poll_at)})


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and an interrupt set `stop` for the length of a block."""
    names = [name for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda *_: stop.set()) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def run_child(command: Sequence[str], stop: threading.Event, *, grace: float = _GRACE_SECONDS) -> Done:
    """Run one tick in a process of its own and return what it says; after `stop` it has `grace` seconds left.

    It is in a session of its own, so that an interrupt at a terminal reaches the agent alone.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
            )
        except OSError as error:
            return Done(exit_code=9, line=f"the update could not be started: {error.strerror or error}", behind=None)
        code = _wait(process, stop, grace)
        return _answer(code, _tail(out), _tail(errors))


def _wait(process: subprocess.Popen[bytes], stop: threading.Event, grace: float) -> int:
    deadline = time.monotonic() + _TICK_SECONDS
    stopping = False
    while process.poll() is None:
        if stop.is_set() and not stopping:
            stopping, deadline = True, min(deadline, time.monotonic() + grace)
        if time.monotonic() >= deadline:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return process.wait()


def _tail(file: IO[bytes]) -> bytes:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _ANSWER_BYTES))
    return file.read(_ANSWER_BYTES)


def _answer(code: int, out: bytes, errors: bytes) -> Done:
    try:
        done = Done.model_validate_json(out)
    except ValidationError:
        lines = errors.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code} and no answer"
        return Done(exit_code=code or 1, line=f"the update {how}: {said}"[:400], behind=None)
    return done.model_copy(update={"exit_code": code, "notes": _notes(errors)})


def _notes(errors: bytes) -> tuple[str, ...]:
    """The last lines that a tick wrote on standard error."""
    lines = errors.decode(errors="replace").splitlines()
    return tuple(line[:_LINE] for line in lines if line.strip())[-_NOTES:]
