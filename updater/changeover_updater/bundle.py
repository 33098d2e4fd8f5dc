"""Write a bundle: releases with all that it takes to verify them elsewhere without a network, in one file.

What is in it is what a repository serves: every root that is here, the metadata that the timestamp reaches, the
targets, the records of all releases, the files of those that are named. With the choice also the studio's own
repository, the verdicts and the policy. All of it is verified on its way, expiry aside, so that an archive can be
written at any time; the summary says until when it can be imported. The file appears whole under its name, or not at
all. Left out: what the reader makes of it (`bundle_import`).
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry import _fs, canonical
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError
from changeover_registry.names import Version, check_name
from changeover_registry.records.bundle import Bundle
from changeover_registry.records.release import FileEntry, Release, ReleaseRef
from changeover_registry.records.repository import Index
from changeover_updater._bundle_parts import Part, VendorSource, choice_parts, read_repository, vendor_parts
from changeover_updater.site import Site, VendorFolder
from changeover_updater.store import Store

__all__ = ["BundleSummary", "Progress", "chosen_releases", "find_releases", "write_bundle", "write_vendor_bundle"]

Progress = Callable[[str, int, int], None]
"""Called with a member's path, how many more bytes were written, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """A bundle that was written: where, its manifest and that one's digest, its size, and until when it is fresh."""

    path: Path
    manifest: Bundle
    digest: str
    size_bytes: int
    fresh_until: datetime


def write_bundle(
    target: Path,
    *,
    site: Site,
    store: Store | None,
    releases: Sequence[ReleaseRef],
    choice: bool,
    now: datetime,
    who: str,
    progress: Progress,
) -> BundleSummary:
    """Write releases that this studio knows, and perhaps its choice, into one file.

    Args:
        target: The file; what is there is replaced in one step.
        site: Where the vendors' metadata and records are.
        store: Where installed files are; what it lacks comes from a bundle that was imported here, or from the vendor.
        releases: Whose files are put in.
        choice: Whether the studio's choice, its verdicts and its policy are put in for a second site.
        now: The moment that the manifest names.
        who: The maker that it names.
        progress: Called as bytes are written.

    Raises:
        InvalidInputError: A release is of no trusted vendor, or is not known here.
        TrustError: Something here is not what was signed; no bundle was written.
        UnreachableError: A file is neither here nor to be had from the vendor.
        OSError: The disk of `target` is full, read-only or gone; what was there before is left.
    """
    sources = tuple(
        _source(store, vendor, releases) for vendor in _vendors(site, releases, chosen_releases(site) if choice else ())
    )
    parts = [part for source in sources for part in vendor_parts(source, now)]
    parts += choice_parts(site, frozenset(ref.digest for ref in releases)) if choice else []
    vendors = tuple(source.vendor for source in sources)
    return _write(target, parts, _head(vendors, releases, who, now, choice=choice), progress)


def write_vendor_bundle(
    target: Path, folder: Path, releases: Sequence[ReleaseRef], now: datetime, who: str, progress: Progress
) -> BundleSummary:
    """Write releases out of a vendor's own repository into one file: for a vendor, who has no site.

    Raises:
        InvalidInputError: There is no repository in the folder, or no such release in it.
        TrustError: Something there is not what was signed.
        OSError: As `write_bundle`.
    """
    source = _own_source(folder, releases)
    parts = list(vendor_parts(source, now))
    return _write(target, parts, _head((source.vendor,), releases, who, now, choice=False), progress)


def find_releases(indexes: Iterable[Index], texts: Sequence[str]) -> tuple[ReleaseRef, ...]:
    """The releases that each ``MODEL@VERSION`` names; the bare name of a model is enough if it is unique.

    Raises:
        InvalidInputError: Not of that form, or nothing or several things are named so.
    """
    known = tuple(indexes)
    return tuple(dict.fromkeys(_find(known, text) for text in texts))


def chosen_releases(site: Site) -> tuple[ReleaseRef, ...]:
    """Every release that the site's choice names in a channel, share or pin."""
    from changeover_updater._bundle_parts import named_releases

    return named_releases(site)


def site_indexes(site: Site) -> tuple[Index, ...]:
    """The index of every model of every trusted vendor that was synced or imported, by signature, expiry aside."""
    folders = (folder for folder in site.vendors() if (folder.mirror / "metadata" / "timestamp.json").is_file())
    return tuple(index for folder in folders for index in read_repository(folder.mirror, folder.pinned_root()).indexes)


def own_indexes(folder: Path) -> tuple[Index, ...]:
    """The index of every model in a vendor's own repository."""
    return read_repository(folder, None).indexes


def _vendors(site: Site, releases: Sequence[ReleaseRef], chosen: Sequence[ReleaseRef]) -> list[VendorFolder]:
    """The vendors of the releases, and of what the choice names those that are still trusted."""
    named = {ref.model.partition("/")[0] for ref in releases}
    trusted = {folder.vendor for folder in site.vendors()}
    return [site.vendor(name) for name in sorted(named | {ref.model.partition("/")[0] for ref in chosen} & trusted)]


def _source(store: Store | None, folder: VendorFolder, releases: Sequence[ReleaseRef]) -> VendorSource:
    def places(release: Release, variant: str, file: FileEntry) -> Iterator[Path]:
        from changeover_registry.repository.vendor import object_path

        yield folder.mirror / object_path(file.sha256)
        if store is not None:
            yield store.variant_folder(release.ref(), variant) / file.path

    return VendorSource(
        vendor=folder.vendor,
        repository=folder.mirror,
        anchor=folder.pinned_root(),
        records=folder.record_path,
        places=places,
        locations=folder.locations,
        releases=tuple(ref for ref in releases if ref.model.partition("/")[0] == folder.vendor),
    )


def _own_source(folder: Path, releases: Sequence[ReleaseRef]) -> VendorSource:
    from changeover_registry.repository.vendor import object_path

    vendor = read_repository(folder, None).vendor
    return VendorSource(
        vendor=check_name(vendor, where=str(folder)),
        repository=folder,
        anchor=None,
        records=lambda digest: folder / object_path(digest),
        places=lambda _release, _variant, file: iter((folder / object_path(file.sha256),)),
        locations=lambda _digest: (str(folder),),
        releases=tuple(releases),
    )


def _head(vendors: tuple[str, ...], releases: Sequence[ReleaseRef], who: str, now: datetime, *, choice: bool) -> Bundle:
    return Bundle(
        made_at=format_time(now), made_by=who, vendors=vendors, releases=tuple(releases), choice=choice, members=()
    )


def _write(target: Path, parts: Sequence[Part], head: Bundle, progress: Progress) -> BundleSummary:
    """Write beside the target, sync, rename: a reader sees a whole bundle or what was there before."""
    from changeover_registry.bundle_file import container_size, write_container

    once = {part.member.path: part for part in parts}
    members = tuple(part.member for part in once.values())
    # A copy is not checked, and what is written must be what a reader takes.
    manifest = Bundle.from_bytes(head.model_copy(update={"members": members}).to_bytes(), where=str(target))
    size = container_size(manifest)
    _check_space(target, size)
    beside = _fs.temporary_beside(target)
    try:
        with beside.open("xb") as file:
            pieces = (part.piece() for part in once.values())
            write_container(file, manifest, pieces, lambda path, more: progress(path, more, size))
            file.flush()
            os.fsync(file.fileno())
        _fs.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    fresh = min(part.expires for part in parts if part.expires is not None)
    return BundleSummary(target, manifest, canonical.digest(manifest.to_bytes()), size, fresh)


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed for the bundle and {free} are free", str(target.parent))


def _find(indexes: tuple[Index, ...], text: str) -> ReleaseRef:
    name, at, version = text.partition("@")
    if not at:
        raise InvalidInputError(
            "release", where=text, expected="MODEL@VERSION", actual=text, remedy="write the version after an @"
        )
    wanted = str(Version.parse(version, where=text))
    models = {f"{index.vendor}/{index.name}": index for index in indexes}
    named = [model for model in models if name in {model, model.partition("/")[2]}]
    if len(named) != 1:
        raise InvalidInputError(
            "model",
            where=text,
            expected=f"one of {', '.join(sorted(models)) or 'no models yet'}",
            actual=f"several: {', '.join(sorted(named))}" if named else "an unknown model",
            remedy="write vendor/name" if named else "run changeover sync, or correct the name",
        )
    entry = models[named[0]].entry(wanted)
    if entry is None:
        raise InvalidInputError(
            "release",
            where=text,
            expected=f"one of the versions {', '.join(e.version for e in models[named[0]].releases)}",
            actual=wanted,
            remedy="run changeover sync, or correct the version",
        )
    return ReleaseRef(model=named[0], version=wanted, digest=entry.record)
