"""Bring a release's files from the vendor's repository into the store, verified block by block as they land.

What is here already is taken from here: what a killed install brought, and blocks of any release that is installed.
Before the first byte is asked for, the disk must have room for all that is missing. Left out: how a file comes
(`transfer`), and which variants are wanted (`plan`).
"""

import contextlib
import errno
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry import _fs
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import FileEntry, Release, Variant
from changeover_updater.site import VendorFolder
from changeover_updater.store import Store

if TYPE_CHECKING:
    from changeover_registry.transport import Transport

__all__ = ["Progress", "Wanted", "check_room", "install_variants", "mend_file", "missing_bytes"]

Progress = Callable[[str, int, int], None]
"""Called with a file's name, how many more bytes arrived, and how many there are in all."""
Wanted = tuple[Release, tuple[Variant, ...]]
"""A release and those of its variants that are wanted."""

_RESERVE_BYTES = 64 * 1024
"""Room for generation, events and pointer, beside a hundredth of what comes."""


def missing_bytes(store: Store, release: Release, variants: tuple[Variant, ...]) -> int:
    """How many bytes of disk these variants still need; what an earlier run brought is there already."""
    from changeover_updater.transfer.claims import held_bytes

    ref = release.ref()
    missing = [variant for variant in variants if store.missing(ref, variant)]
    return sum(max(0, sum(f.size for f in v.files) - held_bytes(store, ref, v.id)) for v in missing)


def check_room(store: Store, wanted: Iterable[Wanted]) -> None:
    """Check that the disk has room for all that is missing of these, and a reserve.

    Raises:
        OSError: It has not (ENOSPC); the message says how many bytes are needed and free.
    """
    missing = sum(missing_bytes(store, release, variants) for release, variants in wanted)
    if not missing:
        return
    needed, free = missing + missing // 100 + _RESERVE_BYTES, store.free_bytes()
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{needed} bytes are needed for what is missing here, and {free} are free", str(store.root)
        )


def install_variants(
    store: Store, vendor: VendorFolder, release: Release, variants: tuple[Variant, ...], progress: Progress
) -> tuple[Variant, ...]:
    """Install the variants that are not there, and hash those that are; returns those that were brought.

    Raises:
        TrustError: A file's bytes are not the signed ones; nothing of the variant is installed, or what is there is
            not to be used.
        UnreachableError: No mirror of the repository brings them; what came is kept for the next time.
        OSError: The disk is full or read-only.
    """
    ref = release.ref()
    wanted = tuple(variant for variant in variants if store.missing(ref, variant))
    check_room(store, [(release, wanted)])
    for variant in variants:
        if variant not in wanted:
            # Whoever put it there, nothing is used on bytes that were not hashed here.
            store.verify(ref, variant)
    return tuple(variant for variant in wanted if _bring(store, vendor, release, variant, progress))


def mend_file(
    store: Store, vendor: VendorFolder, release: Release, variant: Variant, file: FileEntry, progress: Progress
) -> None:
    """Put the signed bytes in the place of an installed file that has others, in one atomic step.

    Raises:
        TrustError: What comes has not the signed bytes either; what is there stays.
        UnreachableError: No mirror of the repository brings them; what is there stays.
        OSError: The disk is full or read-only; what is there stays.
    """
    path = store.variant_folder(release.ref(), variant.id) / file.path
    with store.staging() as staging:
        staged = staging / file.path
        _fetch(store, vendor, release, (file,), staging, progress)
        staged.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        _fs.fsync_tree(staging)
        _fs.make_dirs(path.parent)
        _fs.replace(staged, path)
        _fs.fsync_dir(path.parent)


def _bring(store: Store, vendor: VendorFolder, release: Release, variant: Variant, progress: Progress) -> bool:
    """Install one variant; False if another process did so meanwhile."""
    from changeover_updater.transfer.claims import claimed

    ref = release.ref()
    with claimed(store, ref, variant.id) as staging:
        if store.missing(ref, variant):
            staged = staging / "variant"
            _fetch(store, vendor, release, variant.files, staged, progress)
            store.place(staged, ref, variant)
            return True
    store.verify(ref, variant)
    return False


def _fetch(
    store: Store,
    vendor: VendorFolder,
    release: Release,
    files: tuple[FileEntry, ...],
    folder: Path,
    progress: Progress,
) -> None:
    """Bring files to `folder`; a place that failed one of them is asked last for the next."""
    from changeover_registry.repository.objects import object_path
    from changeover_registry.transport import open_transport
    from changeover_updater.transfer import fetch_file
    from changeover_updater.transfer.reuse import installed_near

    # What was carried in lies beside the metadata in the site, and needs no network.
    is_here = any((vendor.mirror / object_path(file.sha256)).is_file() for file in files)
    carried = [str(vendor.mirror)] if is_here else []
    mirrors: Sequence[Transport] = [open_transport(place) for place in (*carried, *vendor.entry().locations())]
    reuse = installed_near(store.root, vendor.root, release.model).blocks
    for file in files:
        target, told = folder / file.path, partial(_tell, progress, file)
        _take_up(target)
        try:
            mirrors = fetch_file(mirrors, object_path(file.sha256), file, target, progress=told, reuse=reuse)
        except ChangeoverError as error:
            error.add_note(f"while installing {file.path}")
            raise


def _tell(progress: Progress, file: FileEntry, more: int) -> None:
    progress(file.path, more, file.size)


def _take_up(target: Path) -> None:
    """Have a file that an earlier run finished be a partial again: it is hashed before it counts."""
    from changeover_updater.transfer import partial_path

    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(target.lstat().st_mode):
            target.chmod(0o644)
        _fs.replace(target, partial_path(target))
