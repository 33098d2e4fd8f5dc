"""Take a bundle in: verify all of it as if it came over a network, then put it in place, and record who carried it.

Order: the container; the bytes of all members but model files, against the manifest, so that damage has a name; each
vendor's metadata and records, and the choice, in copies of the site's state; the model files, block by block, beside
the site's mirror; and only then, everything in place. Whatever is refused before that leaves the site as it was. A run
that was killed goes on where it stopped: what landed is kept and hashed again. Stations install from the site's
mirror, which holds what a vendor's server would.

Left out: quarantine and clearance (`bundle_receive`).
"""

import contextlib
import errno
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry import _fs, chain
from changeover_registry.bundle_file import BundleFile, damaged, open_bundle
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UndecidedError
from changeover_registry.records.release import FileEntry, ReleaseRef
from changeover_registry.records.station import Event
from changeover_registry.transport.interface import NotThereError
from changeover_updater import clearance
from changeover_updater._bundle_choice import ChoicePart, follows, verify_choice
from changeover_updater._bundle_vendor import VendorPart, known_part, verify_part
from changeover_updater.events import EventMaker
from changeover_updater.site import Site

__all__ = [
    "Carried",
    "Imported",
    "Terms",
    "bring_in",
    "check_members",
    "clear_away",
    "describe",
    "event_maker",
    "import_bundle",
    "imports",
    "taking_in",
]

Progress = Callable[[str, int, int], None]
_LOCK_SECONDS = 5.0
MEMBER_LIMIT_BYTES = 64 * 1024 * 1024
"""What no member but a model's file is larger than: metadata, an index, a verdict, a choice, a policy."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Who brings a bundle in, when, and why: what the record of imports says."""

    who: str
    now: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How a bundle is judged.

    `arrived` is when it arrived, where it was cleared later: expiry is judged then, and where this site knows newer
    metadata by now, only the bytes are taken that the newer one names. `files_only` takes just those in any case.
    """

    arrived: datetime | None = None
    files_only: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in: the releases whose files are here now, those of them that were withdrawn, and what was new.

    `choice` is ``none`` where the bundle has none, ``followed``, or ``left`` where this site makes its own.
    """

    bundle: BundleFile
    changed: bool
    releases: tuple[ReleaseRef, ...]
    withdrawn: tuple[tuple[ReleaseRef, str], ...]
    choice: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """A bundle, verified and not yet in place."""

    vendors: tuple[VendorPart, ...]
    choice: ChoicePart | None
    missing: tuple[tuple[FileEntry, ...], ...]
    """The files that are to land, for each of `vendors`; found once, since it takes hashing what is there."""

    def is_news(self) -> bool:
        """Whether anything would change."""
        vendors = any(part.is_news() for part in self.vendors) or any(self.missing)
        return vendors or (self.choice is not None and self.choice.is_news())


def import_bundle(site: Site, path: Path, carried: Carried, terms: Terms, progress: Progress) -> Imported:
    """Verify a bundle and put it in place; the same bundle again changes nothing.

    Raises:
        InvalidInputError: It is no bundle, or of a vendor that is not trusted here.
        TrustError: It is cut short, altered, expired, or older than what was seen here; nothing was changed.
        LostRaceError: Another import is under way.
        UnreachableError: The drive does not give its bytes; run again, it goes on.
        OSError: The site cannot be written, or is too full; nothing that anybody reads was changed.
    """
    bundle = open_bundle(path)
    check_members(bundle)
    with taking_in(site):
        return bring_in(site, bundle, carried, terms, progress)


@contextlib.contextmanager
def taking_in(site: Site) -> Iterator[None]:
    """One at a time: hold the site's record of imports for the length of a block."""
    folder = site.root / "imports"
    _fs.make_dirs(folder)
    with _fs.lock(folder / ".lock", what="what is carried into this site", wait_seconds=_LOCK_SECONDS):
        yield


def check_members(bundle: BundleFile) -> None:
    """Hash every member but the objects, which are hashed as they land; the others are read whole, and are small.

    Raises:
        TrustError: One is damaged, or larger than any that is read; it is named.
    """
    for path, member in bundle.members.items():
        if "/objects/" in path:
            continue
        if member.size > MEMBER_LIMIT_BYTES:
            raise damaged(f"{bundle.path}: {path}", f"at most {MEMBER_LIMIT_BYTES} bytes", f"{member.size} bytes")
        bundle.check(path)


def bring_in(site: Site, bundle: BundleFile, carried: Carried, terms: Terms, progress: Progress) -> Imported:
    """As `import_bundle`, for a caller that has opened the bundle, checked its members and holds the lock."""
    stage = _stage(site, bundle)
    with _cleared_if_refused(stage):
        parts = _verify(site, bundle, stage, terms, terms.arrived or carried.now)
        changed = parts.is_news()
        if changed:
            _check_space(site, parts, stage)
            for part, files in zip(parts.vendors, parts.missing, strict=True):
                part.land(files, stage / part.folder.vendor / "objects", progress)
            with _recorded(site, bundle, carried, terms):
                _place(parts, stage, carried, terms)
        else:
            _close_open_record(site, bundle, carried)
    _fs.remove_tree(stage)
    return Imported(
        bundle=bundle,
        changed=changed,
        releases=bundle.manifest.releases,
        withdrawn=tuple(gone for part in parts.vendors for gone in part.withdrawn()),
        choice="none" if not bundle.manifest.choice or terms.files_only else "followed" if parts.choice else "left",
    )


def imports(site: Site) -> tuple[Event, ...]:
    """What was carried into this site, oldest first: the chain of ``imports/``.

    Raises:
        TrustError: An entry cannot be read.
    """
    return chain.read(site.root / "imports")


def _verify(site: Site, bundle: BundleFile, stage: Path, terms: Terms, at: datetime) -> _Parts:
    folders = [site.vendor(name) for name in bundle.manifest.vendors]
    vendors = tuple(
        known_part(bundle, folder)
        if _files_only(terms, folder.mirror, bundle, f"vendors/{folder.vendor}")
        else verify_part(bundle, folder, stage / folder.vendor, at)
        for folder in folders
    )
    wanted = bundle.manifest.choice and follows(site) and not _files_only(terms, site.choice, bundle, "choice")
    choice = verify_choice(bundle, site, stage / ".choice", at) if wanted else None
    return _Parts(vendors, choice, tuple(part.missing() for part in vendors))


def _files_only(terms: Terms, mirror: Path, bundle: BundleFile, prefix: str) -> bool:
    """Whether this site's own metadata is used; what of either is believed, the verification decides."""
    if terms.arrived is None:
        return terms.files_only
    mine, its = mirror / "metadata/timestamp.json", f"{prefix}/metadata/timestamp.json"
    theirs = b"".join(bundle.stream(its)) if its in bundle.members else b""
    return _version(mine.read_bytes() if mine.is_file() else b"") > _version(theirs)


def _version(timestamp: bytes) -> int:
    from tuf.api.metadata import Metadata, Timestamp
    from tuf.api.serialization import DeserializationError

    try:
        return Metadata[Timestamp].from_bytes(timestamp).signed.version
    except DeserializationError:
        return 0


def _stage(site: Site, bundle: BundleFile) -> Path:
    """The folder in which this bundle is verified; what an earlier run of another one left is removed."""
    top = site.root / "incoming"
    stage = top / bundle.digest[:12]
    _fs.make_dirs(stage)
    for other in top.iterdir():
        if other != stage:
            clear_away(other)
    return stage


def clear_away(path: Path) -> None:
    """Remove whatever it is: file browsers leave files of their own among our folders."""
    if path.is_dir() and not path.is_symlink():
        _fs.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _cleared_if_refused(stage: Path) -> Iterator[None]:
    """What a refused bundle brought goes; what an interrupted run brought stays for the next."""
    try:
        yield
    except (TrustError, InvalidInputError, UndecidedError, NotThereError):
        _fs.remove_tree(stage)
        raise


def _check_space(site: Site, parts: _Parts, stage: Path) -> None:
    """Whether what is still to land fits, before a byte of it is written."""
    landed = sum(_taken_bytes(path) for path in stage.glob("*/objects/**/*"))
    needed = sum(file.size for files in parts.missing for file in files) - landed
    free = shutil.disk_usage(site.root).free
    if free < needed:
        message = f"{needed} bytes are needed for the releases and {free} are free; nothing was changed"
        raise OSError(errno.ENOSPC, message, str(site.root))


def _taken_bytes(path: Path) -> int:
    """What a file that landed, or is about to, takes of the disk: a partial may have holes."""
    status = path.lstat()
    blocks: int = getattr(status, "st_blocks", -1)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size if blocks < 0 else min(size, blocks * 512)


def _place(parts: _Parts, stage: Path, carried: Carried, terms: Terms) -> None:
    at = terms.arrived or carried.now
    for part in parts.vendors:
        _clear(part.folder.root, part.timestamp(), carried, terms)
        part.place(stage / part.folder.vendor / "objects", at)
    if parts.choice is not None:
        _clear(parts.choice.site.follows, parts.choice.timestamp(), carried, terms)
        parts.choice.place(at)


def _clear(folder: Path, timestamp: bytes | None, carried: Carried, terms: Terms) -> None:
    """A clearance names the metadata that it holds for, so it may stand there before that does."""
    if timestamp is not None and terms.arrived is not None:
        clearance.clear(folder, timestamp, terms.arrived, carried.now, carried.who, carried.why)


@contextlib.contextmanager
def _recorded(site: Site, bundle: BundleFile, carried: Carried, terms: Terms) -> Iterator[None]:
    """An intent before anything is put in place, and done or failed after it."""
    what = "released" if terms.arrived else "files taken" if terms.files_only else "imported"
    note = f"{what} {describe(bundle)}"
    make = event_maker(bundle, carried)
    chain.append(site.root / "imports", make.event("intent", note))
    try:
        yield
    except (ChangeoverError, OSError) as error:
        with contextlib.suppress(OSError):
            chain.append(site.root / "imports", make.event("failed", str(error)))
        raise
    chain.append(site.root / "imports", make.event("done", note))


def _close_open_record(site: Site, bundle: BundleFile, carried: Carried) -> None:
    """Everything is in place; where a kill came between that and the record, the record is closed now."""
    mine = [event for event in imports(site) if event.transaction == bundle.digest[:12]]
    if mine and mine[-1].phase == "intent":
        chain.append(site.root / "imports", event_maker(bundle, carried).event("done", mine[-1].detail))


def event_maker(bundle: BundleFile, carried: Carried) -> EventMaker:
    """The maker of this bundle's entries; their transaction is the bundle's digest12."""
    return EventMaker(
        transaction=bundle.digest[:12],
        what="import",
        who=carried.who,
        when=format_time(carried.now),
        why=carried.why,
        before=None,
        after=None,
    )


def describe(bundle: BundleFile) -> str:
    """What a bundle holds, in one line."""
    manifest = bundle.manifest
    releases = ", ".join(map(str, manifest.releases)) or "no releases"
    choice = ", with the choice" if manifest.choice else ""
    return f"{releases}{choice}; bundle {bundle.digest} made by {manifest.made_by} at {manifest.made_at}"
