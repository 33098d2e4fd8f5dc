"""Quarantine: a bundle is verified when it arrives, and used once the studio has cleared it.

`receive` verifies everything, freshness included, and keeps the bundle in ``received/<digest12>/``, where nothing reads
it. `release` brings it in up to `clearance.CLEARANCE_DAYS` after that: expiry is judged as of the arrival, which the
chain of imports holds; all bytes are hashed again. What this site has learned since counts: a release that any newer
index takes back is refused, also where that index lies in quarantine itself; where the site's own metadata is newer
than the bundle's, only bytes that the newer metadata names are taken.
"""

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from changeover_registry import _fs, chain
from changeover_registry.bundle_file import BundleFile, open_bundle
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, RefusedError, TrustError
from changeover_registry.records.bundle import Received
from changeover_registry.records.repository import Index
from changeover_registry.records.station import Event
from changeover_updater._bundle_choice import follows, verify_choice
from changeover_updater._bundle_parts import read_repository
from changeover_updater._bundle_vendor import verify_part
from changeover_updater.bundle_import import (
    Carried,
    Imported,
    Terms,
    bring_in,
    check_members,
    clear_away,
    describe,
    event_maker,
    imports,
    taking_in,
)
from changeover_updater.clearance import CLEARANCE_DAYS
from changeover_updater.site import Site

__all__ = ["Quarantined", "discard", "receive", "received", "release", "unreadable"]

Progress = Callable[[str, int, int], None]
_BUNDLE = "bundle.tar"
_RECORD = "received.json"
_CHUNK_BYTES = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A bundle in quarantine: its folder and its record."""

    folder: Path
    record: Received

    @property
    def id(self) -> str:
        """The name that `release` and `discard` take: the bundle's digest12."""
        return self.folder.name

    def until(self) -> datetime:
        """Until when it can be released."""
        return parse_time(self.record.arrived_at) + timedelta(days=CLEARANCE_DAYS)


def receive(site: Site, path: Path, carried: Carried, progress: Progress) -> tuple[Quarantined, bool]:
    """Verify a bundle, freshness included, and keep it in quarantine; whether it was not there before.

    Raises:
        InvalidInputError: It is no bundle, or of a vendor that is not trusted here.
        TrustError: It is cut short, altered, expired, or older than what was seen here.
        LostRaceError: Another import is under way.
        OSError: The site cannot be written, or is too full; run again, it goes on.
    """
    bundle = open_bundle(path)
    check_members(bundle)
    with taking_in(site):
        folder = site.root / "received" / bundle.digest[:12]
        if not folder.is_dir():
            staged = folder.with_name(f".new-{folder.name}")
            _fs.make_dirs(staged)
            _sweep(staged)
            _verify(site, bundle, staged / "verify", carried.now)
            _keep(bundle, staged, progress)
            record = _record(bundle, carried)
            _fs.write_atomic(staged / _RECORD, record.to_bytes(), mode=0o444)
            _fs.remove_tree(staged / "verify")
            # The entry comes first: what lies in quarantine is in the record, and what is in the record may come again.
            _note(site, bundle, carried, f"{_arrival(record)}: {describe(bundle)}")
            _fs.fsync_tree(staged)
            _fs.rename_dir(staged, folder)
            return Quarantined(folder, record), True
        return _load(folder), False


def received(site: Site) -> tuple[Quarantined, ...]:
    """The bundles in quarantine whose record can be read, the oldest arrival first."""
    found = [one for one in _looked_at(site) if isinstance(one, Quarantined)]
    return tuple(sorted(found, key=lambda one: (one.record.arrived_at, one.id)))


def unreadable(site: Site) -> tuple[ChangeoverError, ...]:
    """Why the records of the others cannot be read; each names the command that takes its bundle away."""
    return tuple(one for one in _looked_at(site) if isinstance(one, ChangeoverError))


def release(site: Site, name: str, carried: Carried, progress: Progress) -> Imported:
    """Bring a cleared bundle in, as fresh as it was when it arrived, and take it out of quarantine.

    Args:
        site: The site.
        name: The first characters of its id.
        carried: Who cleared it, and why.
        progress: Called as bytes are read.

    Raises:
        InvalidInputError: No bundle of that name, or several, are in quarantine.
        RefusedError: It arrived longer ago than `CLEARANCE_DAYS`.
        TrustError: Its bytes are not those that arrived, the record of its arrival was changed, or a release of it was
            withdrawn since; nothing was changed.
        LostRaceError: Another import is under way.
        OSError: The site cannot be written, or is too full; run again, it goes on.
    """
    with taking_in(site):
        found = _load(_named(site, name))
        arrived = _arrived(site, found)
        _check_in_time(found, arrived, carried.now)
        bundle = open_bundle(found.folder / _BUNDLE)
        _check_is(bundle, found)
        for path in bundle.members:
            bundle.check(path)
        _check_not_withdrawn(site, bundle, found)
        done = bring_in(site, bundle, carried, Terms(arrived=arrived), progress)
        _drop(found.folder)
        return done


def discard(site: Site, name: str, carried: Carried) -> str:
    """Take a bundle out of quarantine without using it, whatever became of its record; its whole id.

    Raises:
        InvalidInputError: No bundle of that name, or several, are in quarantine.
        LostRaceError: Another import is under way.
    """
    with taking_in(site):
        folder = _named(site, name)
        try:
            record = _load(folder).record
            what = f"{record.name}; bundle {record.bundle}"
        except ChangeoverError:
            what = f"bundle {folder.name}, whose record cannot be read"
        _note_of(site, folder.name, carried, f"discarded {what}")
        _drop(folder)
        return folder.name


def _sweep(staged: Path) -> None:
    """Remove what killed commands left of other bundles."""
    for path in staged.parent.glob(".*"):
        if path != staged:
            clear_away(path)


def _verify(site: Site, bundle: BundleFile, stage: Path, now: datetime) -> None:
    """Everything that an import would verify, in copies that are thrown away."""
    if stage.exists():
        _fs.remove_tree(stage)
    try:
        for name in bundle.manifest.vendors:
            verify_part(bundle, site.vendor(name), stage / name, now)
        if bundle.manifest.choice and follows(site):
            verify_choice(bundle, site, stage / ".choice", now)
    except ChangeoverError:
        _fs.remove_tree(stage.parent)
        raise


def _keep(bundle: BundleFile, staged: Path, progress: Progress) -> None:
    """Copy the bundle, going on where an earlier copy stopped, and hash what was written."""
    copy, size = staged / _BUNDLE, bundle.path.stat().st_size
    have = copy.stat().st_size if copy.is_file() else 0
    if shutil.disk_usage(staged).free < size - have:
        message = f"{size - have} bytes are needed for the bundle; nothing was changed"
        raise OSError(errno.ENOSPC, message, str(staged))
    with bundle.path.open("rb") as source, copy.open("ab") as target:
        source.seek(have)
        while piece := source.read(_CHUNK_BYTES):
            target.write(piece)
            progress(bundle.path.name, len(piece), size)
    try:
        written = replace(open_bundle(copy), path=bundle.path)
        _check_is_same(written, bundle)
        for path in written.members:
            replace(written, path=copy).check(path)
    except TrustError as error:
        _fs.remove_tree(staged)
        where = error.where.replace(str(copy), str(bundle.path))
        raise TrustError(
            error.rule, where=where, expected=error.expected, actual=error.actual, remedy=error.remedy
        ) from error


def _record(bundle: BundleFile, carried: Carried) -> Received:
    manifest = bundle.manifest
    return Received(
        bundle=bundle.digest,
        name=bundle.path.name,
        arrived_at=format_time(carried.now),
        arrived_by=carried.who,
        vendors=manifest.vendors,
        releases=manifest.releases,
        choice=manifest.choice,
        size=bundle.path.stat().st_size,
    )


def _load(folder: Path) -> Quarantined:
    path = folder / _RECORD
    try:
        return Quarantined(folder, Received.from_bytes(path.read_bytes(), where=str(path)))
    except (InvalidInputError, FileNotFoundError, IsADirectoryError) as error:
        raise InvalidInputError(
            "received bundle",
            where=str(path),
            expected="the record of its arrival",
            actual=error.actual if isinstance(error, InvalidInputError) else str(error.strerror),
            remedy=f"take it away with: changeover import --discard {folder.name}; then receive the bundle again",
        ) from error


def _folders(site: Site) -> list[Path]:
    """What lies in quarantine; file browsers leave files of their own beside it."""
    return sorted(path for path in (site.root / "received").glob("*") if _ID.fullmatch(path.name) and path.is_dir())


def _looked_at(site: Site) -> Iterator[Quarantined | ChangeoverError]:
    for folder in _folders(site):
        try:
            yield _load(folder)
        except ChangeoverError as error:
            yield error


def _named(site: Site, name: str) -> Path:
    there = _folders(site)
    found = [folder for folder in there if name and folder.name.startswith(name)]
    if len(found) != 1:
        raise InvalidInputError(
            "received bundle",
            where=name,
            expected=f"the first characters of one of {', '.join(path.name for path in there) or 'none that is there'}",
            actual=f"{len(found)} of them",
            remedy="see them with: changeover import --received",
        )
    return found[0]


def _arrived(site: Site, found: Quarantined) -> datetime:
    """When it arrived, by the chain of imports: whoever changes the record in quarantine does not change that.

    Raises:
        TrustError: The chain is broken, or says something else than the record.
    """
    events = imports(site)
    chain.verify(events, None)
    noted = [event for event in events if event.transaction == found.id and event.detail.startswith(_ARRIVED)]
    said = _arrival(found.record)
    if not noted or not noted[-1].detail.startswith(f"{said}:"):
        raise TrustError(
            "arrival",
            where=str(found.folder / _RECORD),
            expected=said,
            actual=noted[-1].detail.partition(":")[0] if noted else "no such entry in the record of imports",
            remedy="find out who changed it; then receive the bundle again",
        )
    return parse_time(found.record.arrived_at)


_ARRIVED = "received at "


def _arrival(record: Received) -> str:
    # A colon ends this part of the entry, so the time is written without any.
    return f"{_ARRIVED}{record.arrived_at.replace(':', '')} into quarantine"


def _check_in_time(found: Quarantined, arrived: datetime, now: datetime) -> None:
    if now >= found.until() or now < arrived:
        raise RefusedError(
            "clearance",
            where=f"{found.id}, received at {found.record.arrived_at}",
            expected=f"a release within {CLEARANCE_DAYS} days of its arrival, until {format_time(found.until())}",
            actual=format_time(now),
            remedy=f"receive a new bundle; this one goes with: changeover import --discard {found.id}",
        )


def _check_is(bundle: BundleFile, found: Quarantined) -> None:
    if bundle.digest != found.record.bundle:
        raise _other_bytes(str(bundle.path), found.record.bundle, bundle.digest)


def _check_is_same(written: BundleFile, bundle: BundleFile) -> None:
    if written.digest != bundle.digest:
        raise _other_bytes(str(bundle.path), bundle.digest, written.digest)


def _check_not_withdrawn(site: Site, bundle: BundleFile, found: Quarantined) -> None:
    for index, where in _known_indexes(site, bundle, found):
        for ref in bundle.manifest.releases:
            entry = index.entry(ref.version) if ref.model == f"{index.vendor}/{index.name}" else None
            if entry is not None and entry.withdrawn is not None:
                raise TrustError(
                    "withdrawal",
                    where=f"{found.id}: {ref}",
                    expected="a release that its vendor has not taken back",
                    actual=f"withdrawn at {entry.withdrawn.when}: {entry.withdrawn.why} ({where})",
                    remedy=f"do not use it; changeover import --discard {found.id}, and receive a newer bundle",
                )


def _known_indexes(site: Site, bundle: BundleFile, found: Quarantined) -> Iterator[tuple[Index, str]]:
    """All that is known here of these vendors, by signature: the site's own, and what lies in quarantine."""
    for name in bundle.manifest.vendors:
        folder = site.vendor(name)
        if (folder.mirror / "metadata/timestamp.json").is_file():
            read = read_repository(folder.mirror, folder.pinned_root())
            yield from ((index, "as this site knows") for index in read.indexes)
    for other in received(site):
        shared = set(other.record.vendors) & set(bundle.manifest.vendors)
        if shared:
            yield from _quarantined_indexes(site, other, sorted(shared), found)


def _quarantined_indexes(
    site: Site, other: Quarantined, vendors: list[str], found: Quarantined
) -> tuple[tuple[Index, str], ...]:
    where = "as it says itself" if other.id == found.id else f"as received bundle {other.id} says"
    stage, arrived = site.root / "incoming" / f"known-{other.id}", parse_time(other.record.arrived_at)
    try:
        there = open_bundle(other.folder / _BUNDLE)
        parts = [verify_part(there, site.vendor(name), stage / name, arrived) for name in vendors]
    except (ChangeoverError, FileNotFoundError):
        # A bundle that is gone or does not verify says nothing, neither against others nor for itself.
        return ()
    finally:
        _fs.remove_tree(stage) if stage.exists() else None
    return tuple((index, where) for part in parts for index in part.indexes)


def _note(site: Site, bundle: BundleFile, carried: Carried, detail: str) -> None:
    chain.append(site.root / "imports", event_maker(bundle, carried).event("done", detail))


def _note_of(site: Site, name: str, carried: Carried, detail: str) -> None:
    def make(sequence: int, previous: str | None) -> Event:
        return Event(
            sequence=sequence,
            previous=previous,
            transaction=name,
            phase="done",
            what="import",
            who=carried.who,
            when=format_time(carried.now),
            why=carried.why,
            detail=detail,
        )

    chain.append(site.root / "imports", make)


def _drop(folder: Path) -> None:
    """Out of sight in one step, then away."""
    gone = folder.with_name(f".gone-{folder.name}")
    if gone.exists():
        _fs.remove_tree(gone)
    _fs.rename_dir(folder, gone)
    _fs.remove_tree(gone)


def _other_bytes(where: str, expected: str, actual: str) -> TrustError:
    return TrustError(
        "bundle",
        where=where,
        expected=f"the bundle that arrived, {expected}",
        actual=f"another one, {actual}",
        remedy="find out who changed it, and receive the bundle again",
    )
