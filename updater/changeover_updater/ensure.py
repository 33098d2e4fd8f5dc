"""Before a job runs: see to it that this host can render what a farm lock names, from bytes that were hashed here.

What is here already needs neither site nor network and writes nothing, so a task on a store that it may only read, and
the hundredth task of a job on one host, only hash and end. What is missing is brought by the same rules as any update:
a release is served only if this station keeps it, or if promoters signed it once for some channel or pin and it passes
the checks of this host. A release is then added to a new generation; no channel and no pin moves, so a hold does not
stand in the way. Of several at once one works and the others wait. Left out: whether a lock is right (`farm_lock`).
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    LostRaceError,
    RefusedError,
    UndecidedError,
)
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.farm import FarmLock, LockedNode
from changeover_registry.records.station import Answer, Generation, GenerationRelease, InstalledFile
from changeover_updater.added import not_known, prove, with_releases
from changeover_updater.events import settle
from changeover_updater.install import install_variants
from changeover_updater.plan import Known
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import wrong_digest
from changeover_updater.update import Tools, change_over, known_now
from changeover_validators.devices import nuke_gpus

__all__ = ["Ensured", "Host", "device_problem", "ensure", "lacking", "read_lock"]

_LIMIT_BYTES = 64 * 1024 * 1024
_WAIT_SECONDS = 3600.0
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Host:
    """What is asked for only where it is needed: the site, this host's facts, and the wall clock of the waiting."""

    open_site: Callable[[], Site]
    facts: Callable[[], HostFacts]
    now: datetime
    wait_seconds: float = _WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class Lacking:
    """A line of a lock that this station cannot serve as it is.

    ``absent``: the generation does not hold the release. ``gone``: it does, and a file is missing. ``other``: it does,
    and this host's Nuke gets something else or nothing, which bringing files would not change.
    """

    line: LockedNode
    what: Literal["absent", "gone", "other"]
    why: str


@dataclass(frozen=True, slots=True)
class Ensured:
    """What was done: the generation in use, the releases that were brought, what was hashed and how long that took."""

    generation: Generation
    brought: tuple[str, ...]
    files: int
    hashed_bytes: int
    hashed_ms: int


def read_lock(path: Path) -> FarmLock:
    """A farm lock from its file.

    Raises:
        InvalidInputError: There is no such file, or it is no lock.
    """
    if not path.is_file() or path.stat().st_size > _LIMIT_BYTES:
        raise InvalidInputError(
            "farm lock",
            where=str(path),
            expected="a file that changeover lock wrote",
            actual="no such file" if not path.is_file() else "a file that is far too large",
            remedy="correct the path, or write it with: changeover lock SCRIPT.nk OUT",
        )
    return FarmLock.from_bytes(path.read_bytes(), where=str(path))


def lacking(lock: FarmLock, generation: Generation | None, has: Callable[[InstalledFile], bool]) -> tuple[Lacking, ...]:
    """What of a lock a station does not serve, in the lock's order; `has` says whether a file is in the store."""
    found = (_lacking(line, generation, has) for line in lock.releases)
    return tuple(one for one in found if one is not None)


def device_problem(wanted: bool, facts: HostFacts) -> ChangeoverError | None:  # noqa: FBT001 - the one thing asked
    """Why this worker may not render where a GPU is `wanted`; None where nothing speaks against it."""
    gpus = nuke_gpus(facts)
    if not wanted or (not isinstance(gpus, Unknown) and gpus):
        return None
    if isinstance(gpus, Unknown):
        return UndecidedError(
            "farm device",
            where=facts.host,
            expected="a GPU that Nuke can use",
            actual=f"nobody could tell: {gpus.unknown}",
            remedy="look at: changeover facts",
        )
    return RefusedError(
        "farm device",
        where=facts.host,
        expected="a GPU that Nuke can use",
        actual="none, so this worker would render on its CPU",
        remedy="send the job to workers that have one",
    )


def ensure(lock: FarmLock, station: Station, host: Host, tools: Tools, *, gpu: bool = False) -> Ensured:
    """Have this station serve all that a lock names, and hash every byte of it.

    Raises:
        RefusedError: This worker has no GPU where one is wanted, a release was never chosen or is refused here, or
            this host's Nuke would load something else than the lock froze.
        UndecidedError: A release is not known here, or nobody can say whether this host may run it.
        TrustError: A file's bytes are not the signed ones, or the choice does not hold.
        LostRaceError: Another process kept the station for too long.
        OSError: The disk is full or read-only; the station is as it was.
    """
    gpu = gpu or any(line.device == "gpu" for line in lock.releases)
    before = station.in_use()
    _check_device(host, wanted=gpu or _farm_device(before) == "gpu")
    brought: tuple[str, ...] = ()
    if lacking(lock, before, _has(station)):
        with _one_at_a_time(station, host, tools):
            brought = _bring(lock, station, host, tools)
    generation = station.in_use()
    if generation is None:  # pragma: no cover - bringing has made one, or the lock names nothing
        raise _nothing_in_use(station)
    _check_device(host, wanted=_farm_device(generation) == "gpu")
    for one in lacking(lock, generation, _has(station)):
        raise _not_served(one, generation)
    return _hashed(lock, station, generation, brought, tools)


def _lacking(line: LockedNode, generation: Generation | None, has: Callable[[InstalledFile], bool]) -> Lacking | None:
    held = generation.release(str(line.ref())) if generation else None
    if held is None or held.digest != line.digest:
        return Lacking(line, "absent", f"{line.ref()} is not kept by this station")
    if line.nuke_line is None:
        gone = [file for answer in held.answers for file in answer.files if not has(file)]
        return Lacking(line, "gone", f"{gone[0].path} is missing") if gone else None
    answer = _answer(held, line.nuke_line)
    if answer is None or answer.path is None:
        why = answer.unavailable if answer else None
        return Lacking(line, "other", why or f"this station prepares nothing for Nuke {line.nuke_line}")
    if line.files and sorted(f.sha256 for f in line.files) != sorted(f.sha256 for f in answer.files):
        why = f"Nuke {line.nuke_line} gets the variant {answer.variant} here, and the lock froze {line.variant}"
        return Lacking(line, "other", why)
    gone = [file for file in answer.files if not has(file)]
    return Lacking(line, "gone", f"{gone[0].path} is missing") if gone else None


def _answer(held: GenerationRelease, line: str) -> Answer | None:
    return next((a for a in held.answers if a.loader == "nuke-inference" and a.nuke_line == line), None)


def _has(station: Station) -> Callable[[InstalledFile], bool]:
    def has(file: InstalledFile) -> bool:
        try:
            return (station.store.root / file.path).stat().st_size == file.size
        except OSError:
            return False

    return has


def _farm_device(generation: Generation | None) -> str:
    return generation.farm_device if generation else "any"


def _check_device(host: Host, *, wanted: bool) -> None:
    error = device_problem(wanted=True, facts=host.facts()) if wanted else None
    if error is not None:
        raise error


@contextmanager
def _one_at_a_time(station: Station, host: Host, tools: Tools) -> Iterator[None]:
    """Hold this station's lock of farm jobs, waiting for whoever holds it: what they bring, nobody brings again."""
    deadline = time.monotonic() + host.wait_seconds
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_fs.lock(station.folder / "ensure.lock", what="a farm job's releases"))
                break
            except LostRaceError:
                if time.monotonic() >= deadline:
                    raise
            tools.step("another job brings releases to this station; waiting")
            time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - so that a hundred tasks do not ask at once
        yield


def _bring(lock: FarmLock, station: Station, host: Host, tools: Tools) -> tuple[str, ...]:
    """Install what is missing and change over to a generation that holds it; others may have done so meanwhile."""
    for _ in range(_TRIES):
        todo = lacking(lock, station.in_use(), _has(station))
        if not todo:
            return ()
        station.store.sweep_staging()
        site, facts = host.open_site(), host.facts()
        known = known_now(site, station, facts, host.now, {one.line.ref() for one in todo})
        for one in todo:
            if one.what == "gone":
                _bring_back(one, site, station, known, tools)
        absent = {str(one.line.ref()): one.line.ref() for one in todo if one.what == "absent"}
        added = prove(tuple(absent.values()), site, station, known, tools)
        if not added:
            return tuple(sorted({str(one.line.ref()) for one in todo if one.what == "gone"}))
        generation = with_releases(known, added, f"farm lock of {lock.script or 'a script'}")
        with station.lock():
            settle(station, who=tools.who, when=format_time(host.now))
            if _unmoved(station, known):
                change_over(station, generation, host.now, tools.who)
                return tuple(sorted({str(one.line.ref()) for one in todo}))
    raise LostRaceError(
        "station",
        where=str(station.folder),
        expected="nobody else changing this station meanwhile",
        actual=f"{_TRIES} changes by others while this job's releases were brought",
        remedy="run changeover ensure again",
    )


def _unmoved(station: Station, known: Known) -> bool:
    number = known.current.number if known.current else None
    return (station.current(), station.next_number()) == (number, known.next_number)


def _bring_back(one: Lacking, site: Site, station: Station, known: Known, tools: Tools) -> None:
    ref = one.line.ref()
    release = known.studio.release(ref)
    if release is None:
        raise not_known(ref, known)
    served = known.held()[str(ref)].served()
    gone = tuple(v for v in release.variants if v.id in served and station.store.missing(ref, v))
    tools.step(f"bring back {ref}")
    install_variants(station.store, site.vendor_of(ref.model), release, gone, tools.progress)


def _hashed(
    lock: FarmLock, station: Station, generation: Generation, brought: tuple[str, ...], tools: Tools
) -> Ensured:
    """Hash every file that the lock's nodes load here."""
    files = {file.path: file for line in lock.releases for file in _files(line, generation)}
    tools.step(f"hash {len(files)} files")
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=4) as pool:
        tuple(pool.map(lambda file: _verify(station.store.root / file.path, file), files.values()))
    milliseconds = round((time.monotonic() - began) * 1000)
    return Ensured(generation, brought, len(files), sum(file.size for file in files.values()), milliseconds)


def _files(line: LockedNode, generation: Generation) -> tuple[InstalledFile, ...]:
    held = generation.release(str(line.ref()))
    answers = held.answers if held else ()
    return tuple(
        file
        for answer in answers
        if line.nuke_line is None or (answer.loader == "nuke-inference" and answer.nuke_line == line.nuke_line)
        for file in answer.files
    )


def _verify(path: Path, file: InstalledFile) -> None:
    if path.is_symlink():
        raise wrong_digest(path, file.sha256, "a link, which can point elsewhere tomorrow")
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != file.sha256:
        raise wrong_digest(path, file.sha256, actual)


def _not_served(one: Lacking, generation: Generation) -> ChangeoverError:
    return RefusedError(
        "farm lock",
        where=one.line.node or one.line.model,
        expected=f"{one.line.ref()} in generation {generation.number}, as the lock froze it",
        actual=one.why,
        remedy="send the job to hosts like the one that locked it, or lock the script again here",
    )


def _nothing_in_use(station: Station) -> ChangeoverError:
    return RefusedError(
        "generation",
        where=str(station.folder),
        expected="a generation in use",
        actual="none, and the lock names no release",
        remedy="run changeover update",
    )
