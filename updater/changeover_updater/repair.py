"""Mend what `health` says can be mended: each repair is one atomic step that may be killed and done again.

Nothing is thrown away that nobody can make again: what does not belong is set aside under ``set-aside`` in the store.
A repair that cannot be done (no network, no key, somebody else at work) changes nothing and says why; the others are
done. What moves the pointer, or changed files, is an event. Left out: what needs a repair (`health`).
"""

import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, TrustError, UndecidedError
from changeover_registry.records.release import FileEntry, Release, ReleaseRef, Variant
from changeover_updater.events import EventMaker, replay, settle
from changeover_updater.health import Repair
from changeover_updater.health_gather import derived_files
from changeover_updater.install import Progress, mend_file
from changeover_updater.leases import read_leases, sweep_leases
from changeover_updater.site import Site
from changeover_updater.station import Station

__all__ = ["ASIDE", "Hands", "Mended", "mend"]

ASIDE = "set-aside"
"""The folder of the store for what was taken out of it."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What a repair works with: the station, the site if it is there, what is known of releases, who asks, and when.

    `reach` finishes role files that no timestamp reaches, and answers with their names; it needs the site's key.
    """

    station: Station
    site: Site | None
    releases: tuple[Release, ...]
    who: str
    now: datetime
    progress: Progress
    reach: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Mended:
    """One repair: what was to be done, and why it was not; None if it was."""

    repair: Repair
    failed: str | None = None


def mend(repairs: Iterable[Repair], hands: Hands) -> tuple[Mended, ...]:
    """Do every repair, in an order in which none undoes another; files first, and the pointer when they are there."""
    order = ("settle", "mode", "file", "derived", "point", "aside", "leases", "staging", "by-host", "choice")
    done = [_done(repair, hands) for repair in sorted(set(repairs), key=lambda r: (order.index(r.kind), r.path))]
    changed = [one.repair.path for one in done if one.failed is None and one.repair.kind in {"file", "derived"}]
    if changed:
        _note(hands, f"mended {', '.join(changed[:5])}{f' and {len(changed) - 5} more' if len(changed) > 5 else ''}")
    return tuple(done)


def _done(repair: Repair, hands: Hands) -> Mended:
    work: dict[str, Callable[[], object]] = {
        "settle": lambda: _settle(hands),
        "point": lambda: _point(repair.number or 0, hands),
        "file": lambda: _file(repair.path, hands),
        "mode": lambda: (hands.station.store.root / repair.path).chmod(0o444),
        "aside": lambda: _aside(repair.path, hands),
        "derived": lambda: _derived(repair, hands),
        "leases": lambda: _leases(hands),
        "staging": lambda: _staging(hands),
        "by-host": lambda: _tell_host(repair, hands),
        "choice": hands.reach,
    }
    try:
        work[repair.kind]()
    except ChangeoverError as error:
        return Mended(repair, str(error))
    except OSError as error:
        return Mended(repair, f"{error.filename or repair.path}: {error.strerror or error}")
    return Mended(repair)


def _settle(hands: Hands) -> None:
    with hands.station.lock():
        settle(hands.station, who=hands.who, when=format_time(hands.now))


def _point(number: int, hands: Hands) -> None:
    """Point at a whole generation, with the events around it; a record that is broken does not stand in the way."""
    station = hands.station
    with station.lock():
        station.generation(number)
        event = _event(hands, f"the pointer was lost; generation {number} is whole", _told(station), number)
        _record(station, event, "intent")
        station.point(number)
        _record(station, event, "done")


def _file(path: str, hands: Hands) -> None:
    found = _named(path, hands.releases)
    if found is None or hands.site is None:
        raise UndecidedError(
            "installed file",
            where=path,
            expected="the vendor's signed record of it, to bring it again",
            actual="no such record here" if hands.site else "no site",
            remedy="run changeover sync where the site is, then changeover doctor --repair",
        )
    release, variant, file = found
    _check_no_link(hands.station.store.root, Path(path).parent)
    mend_file(hands.station.store, hands.site.vendor_of(release.model), release, variant, file, hands.progress)


def _check_no_link(root: Path, folder: Path) -> None:
    """What is written through a link lands elsewhere."""
    for part in (folder, *folder.parents):
        if part != Path() and (root / part).is_symlink():
            raise TrustError(
                "link",
                where=str(root / part),
                expected="a folder of the store",
                actual="a link",
                remedy="find out who put it there, remove it, and run changeover doctor --repair again",
            )


def _named(path: str, releases: Iterable[Release]) -> tuple[Release, Variant, FileEntry] | None:
    """The release, the variant and the file of it that lie at a path below the store."""
    for release in releases:
        ref: ReleaseRef = release.ref()
        for variant in release.variants:
            for file in variant.files:
                if path == f"{_variant_path(ref, variant.id)}/{file.path}":
                    return release, variant, file
    return None


def _variant_path(ref: ReleaseRef, variant: str) -> str:
    from changeover_registry.names import release_folder

    return f"releases/{ref.model}/{release_folder(ref.version, ref.digest)}/{variant}"


def _aside(path: str, hands: Hands) -> None:
    """Move a file or a folder out of the way, to a name that nobody has."""
    root = hands.station.store.root
    stamp = format_time(hands.now).replace(":", "").replace("-", "")
    target = root / ASIDE / f"{stamp}-{uuid.uuid4().hex[:8]}" / path
    if not os.path.lexists(root / path):
        return
    _fs.make_dirs(target.parent)
    (root / path).rename(target)
    _fs.fsync_dir(target.parent)
    _fs.fsync_dir((root / path).parent)


def _derived(repair: Repair, hands: Hands) -> None:
    data = derived_files(hands.station.generation(repair.number or 0))[repair.text]
    path = hands.station.store.root / repair.path / repair.text
    _fs.make_dirs(path.parent)
    _fs.write_atomic(path, data)


def _leases(hands: Hands) -> None:
    folder = hands.station.folder / "leases"
    sweep_leases(folder, read_leases(folder, hands.now), hands.now)


def _staging(hands: Hands) -> None:
    from changeover_updater.transfer.claims import sweep_claims

    hands.station.store.sweep_staging()
    sweep_claims(hands.station.store, now_seconds=hands.now.timestamp())


def _tell_host(repair: Repair, hands: Hands) -> None:
    path = hands.station.store.root / repair.path
    _fs.make_dirs(path.parent)
    _fs.write_atomic(path, f"{repair.text}\n".encode())


def _note(hands: Hands, detail: str) -> None:
    """One event for what was mended; the generation in use is the one before."""
    station = hands.station
    try:
        with station.lock():
            # Not what `current` says: a pointer that is lost must not become one that never was.
            number = _told(station)
            event = _event(hands, "doctor --repair", number, number)
            station.record(event.event("done", detail=detail))
    except (ChangeoverError, OSError):
        # The files are as they were signed again; that the record says nothing of it harms nobody.
        return


def _event(hands: Hands, why: str, before: int | None, after: int | None) -> EventMaker:
    return EventMaker(uuid.uuid4().hex[:12], "repair", hands.who, format_time(hands.now), why, before, after)


def _told(station: Station) -> int | None:
    """What was in use by the events."""
    try:
        return replay(station.events()).generation
    except ChangeoverError:
        return None


def _record(station: Station, event: EventMaker, phase: str) -> None:
    try:
        station.record(event.event("intent" if phase == "intent" else "done"))
    except ChangeoverError:
        # A broken record is told by doctor itself, and mends nothing by keeping the pointer broken.
        return
