"""Where else than in this store a release can be shown to be just now: at the site, at its vendor's, in an archive.

A copy is shown where every file that is installed here is there with its length. Bytes are hashed only of an archive,
which is one file of ours; whoever takes from the other two verifies what comes. Other hosts' stores do not count: that
they have something is only what they report.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.release import FileEntry, Release
from changeover_registry.records.show import ClosedShow
from changeover_updater.shows import archives, sha256_of
from changeover_updater.site import Site, VendorFolder
from changeover_updater.store import Store
from changeover_updater.studio import Studio

if TYPE_CHECKING:
    from changeover_registry.transport import Transport

__all__ = ["shown_copy"]


def shown_copy(site: Site, studio: Studio, store: Store, key: str) -> str:
    """Where another copy of a release of this store is, in a few words.

    Raises:
        ChangeoverError: None could be shown; the message says why not at the vendor's.
    """
    if archive := next((path for path, closed in archives(site) if _holds(path, closed, key)), None):
        return f"the archive {archive}"
    release = next((one for one in studio.releases() if str(one.ref()) == key), None)
    if release is None:
        raise _not_shown(key, "its vendor's verified metadata does not list it")
    files, folder = _installed(store, release), site.vendor_of(release.model)
    if _in_mirror(folder, files):
        return f"the site's copy of {folder.vendor}'s repository"
    _at_vendor(folder, files)
    return f"{folder.vendor}'s repository at {folder.entry().location}"


def _holds(path: Path, closed: ClosedShow, key: str) -> bool:
    return key in map(str, closed.releases) and sha256_of(path) == closed.sha256


def _installed(store: Store, release: Release) -> tuple[FileEntry, ...]:
    """The files of the variants that are in the store."""
    ref = release.ref()
    there = [variant for variant in release.variants if store.variant_folder(ref, variant.id).is_dir()]
    return tuple(file for variant in there for file in variant.files)


def _in_mirror(folder: VendorFolder, files: Sequence[FileEntry]) -> bool:
    from changeover_registry.repository.vendor import object_path

    paths = [(folder.mirror / object_path(file.sha256), file.size) for file in files]
    return bool(paths) and all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _at_vendor(folder: VendorFolder, files: Sequence[FileEntry]) -> None:
    from changeover_registry.repository.vendor import object_path
    from changeover_registry.transport import open_transport

    transport = open_transport(folder.entry().location)
    for file in files:
        if not _serves(transport, object_path(file.sha256), file.size):
            raise _not_shown(file.path, f"{transport.location} has it with another length")


def _serves(transport: "Transport", path: str, size: int) -> bool:
    """Whether a file is there, with that length where the other side gives parts of files."""
    from changeover_registry.transport.interface import NoRangesError

    try:
        # The last byte is there and nothing after it, and hardly anything was transferred.
        with contextlib.closing(transport.stream(path, offset=max(size - 1, 0), length=2)) as stream:
            return sum(map(len, stream)) == min(size, 1)
    except NoRangesError:
        with contextlib.closing(transport.stream(path)) as stream:
            return bool(next(stream, b"")) or size == 0


def _not_shown(where: str, why: str) -> ChangeoverError:
    return UndecidedError(
        "copy", where=where, expected="a copy elsewhere", actual=why, remedy="export it first: changeover export"
    )
