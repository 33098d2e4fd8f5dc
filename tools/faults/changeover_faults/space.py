"""Disks that are too small: refused before the first byte, or filled by another while a release is on its way."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from changeover_faults import oracle
from changeover_faults.commands import command, finish, run
from changeover_faults.pool import Pool
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.strace import why_not
from changeover_faults.studio import FILE_BYTES, MODELS, NEW, OLD, Studio, build, promote

__all__ = ["full_disks", "small_disk"]

_MIB = 1024 * 1024
_NEED = len(MODELS) * FILE_BYTES
"""The bytes that the update brings."""


def full_disks(pool: Pool, scale: Scale) -> Iterator[Report]:
    """A disk with a MiB too little, and one that fills up meanwhile."""
    del scale
    for rig, situation in (("disk too small by a MiB", _too_small), ("disk filled meanwhile", _filled)):
        if situation is _filled and (why := why_not()):
            yield Report(rig, skipped=why)
            continue
        report, started = Report(rig), time.monotonic()
        root = pool.work / rig.replace(" ", "-")
        root.mkdir()
        studio = build(root)
        studio.change_over()
        promote(studio, NEW)
        try:
            situation(studio, report)
        except PermissionError as error:
            report.skipped = f"nothing can be mounted here: {error}"
        shutil.rmtree(root)
        report.seconds = time.monotonic() - started
        yield report


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Have what `folder` holds on a disk of its own of `size` bytes for the length of a block.

    Raises:
        PermissionError: This machine lets nothing be mounted.
    """
    kept = folder.with_name(f"{folder.name}.kept")
    folder.rename(kept)
    folder.mkdir()
    words = ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        folder.rmdir()
        kept.rename(folder)
        raise PermissionError(done.stderr.strip())
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)
        folder.rmdir()
        kept.rename(folder)


def _too_small(studio: Studio, report: Report) -> None:
    with small_disk(studio.store, _used(studio.store) + _NEED - _MIB):
        before = _used(studio.store)
        ended = run(studio, "update")
        report.add(_refused(studio, ended.code, ended.err))
        if _used(studio.store) - before > _MIB // 2:
            report.violations.append(f"{_used(studio.store) - before} bytes were written before it was refused")
        _give_room(studio, _NEED + 16 * _MIB)
        report.add(_goes_on(studio))


def _filled(studio: Studio, report: Report) -> None:
    for call in ("write,pwrite64", "fsync", "mkdir"):
        with small_disk(studio.store, _used(studio.store) + _NEED + 32 * _MIB):
            stop = threading.Event()
            filler = threading.Thread(target=_fill_when_staged, args=(studio.store, stop))
            filler.start()
            # Each call takes a moment longer, so that the disk is full before the release is there.
            slow = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:delay_enter=20000"]
            ended = finish([*slow, "--", *command(studio.arguments("update"))], studio.root)
            stop.set()
            filler.join()
            report.add(_refused(studio, ended.code, ended.err))
            (studio.store / "filler").unlink(missing_ok=True)
            report.add(_goes_on(studio))


def _fill_when_staged(store: Path, stop: threading.Event) -> None:
    """Take all room as soon as an update has begun to stage."""
    while not stop.is_set() and not any((store / "staging").iterdir()):
        time.sleep(0.001)
    with contextlib.suppress(OSError), (store / "filler").open("wb", buffering=0) as file:
        while not stop.is_set():
            file.write(bytes(64 * 1024))


def _refused(studio: Studio, code: int, err: str) -> Iterator[str]:
    """Exit 9, one line, the old generation whole."""
    if code != 9 or len(err.strip().splitlines()) != 1:
        yield f"exit {code}: {err.strip()[-300:]}"
    seen = oracle.look(studio)
    yield from seen.wrong
    if seen.version != OLD:
        yield f"a reader sees {seen.version}"


def _goes_on(studio: Studio) -> Iterator[str]:
    """With room again, the same command is done."""
    ended = run(studio, "update")
    if ended.code:
        yield f"with room again: exit {ended.code}: {ended.err.strip()[-300:]}"
    seen = oracle.look(studio)
    yield from seen.wrong
    if seen.version != NEW:
        yield f"with room again a reader sees {seen.version}"
    yield from (f"litter: {name}" for name in oracle.litter(studio))


def _used(folder: Path) -> int:
    """The bytes that the files of a folder take, in whole pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return sum(-(-size // page) * page for size in sizes)


def _give_room(studio: Studio, more: int) -> None:
    size = _used(studio.store) + more
    subprocess.run(("mount", "-o", f"remount,size={size}", str(studio.store)), check=True, capture_output=True)
