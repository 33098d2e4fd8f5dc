"""Bring a release's files from the vendor's repository into the store, verified block by block as they land."""

from collections.abc import Callable
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import FileEntry, Release, Variant
from changeover_updater.site import VendorFolder
from changeover_updater.store import Store

__all__ = ["Progress", "install_variants", "missing_bytes"]

Progress = Callable[[str, int, int], None]
"""Called with a file's name, how many more bytes arrived, and how many there are in all."""


def missing_bytes(store: Store, release: Release, variants: tuple[Variant, ...]) -> int:
    """How many bytes must be brought for these variants."""
    ref = release.ref()
    return sum(f.size for v in variants if store.missing(ref, v) for f in v.files)


def install_variants(
    store: Store, vendor: VendorFolder, release: Release, variants: tuple[Variant, ...], progress: Progress
) -> tuple[Variant, ...]:
    """Install the variants that are not there, and hash those that are; returns those that were brought.

    Raises:
        TrustError: A file's bytes are not the signed ones; nothing of the variant is installed, or what is there is
            not to be used.
        UnreachableError: The repository does not answer.
        OSError: The disk is full or read-only.
    """
    ref = release.ref()
    wanted = tuple(variant for variant in variants if store.missing(ref, variant))
    if wanted:
        _check_space(store, sum(f.size for v in wanted for f in v.files))
    for variant in variants:
        if variant not in wanted:
            # Whoever put it there, nothing is used on bytes that were not hashed here.
            store.verify(ref, variant)
    for variant in wanted:
        with store.staging() as staging:
            staged = staging / "variant"
            for file in variant.files:
                _fetch(vendor, file, staged / file.path, progress)
            store.place(staged, ref, variant)
    return wanted


def _fetch(vendor: VendorFolder, file: FileEntry, target: Path, progress: Progress) -> None:
    from changeover_registry.repository.vendor import object_path
    from changeover_registry.transport import open_transport
    from changeover_updater.download import fetch_file

    target.parent.mkdir(parents=True, exist_ok=True)
    transport = open_transport(vendor.entry().location)
    try:
        fetch_file(
            transport, object_path(file.sha256), file, target, progress=lambda n: progress(file.path, n, file.size)
        )
    except ChangeoverError as error:
        error.add_note(f"while installing {file.path}")
        raise


def _check_space(store: Store, needed: int) -> None:
    free = store.free_bytes()
    if free < needed:
        message = f"{store.root}: {needed} bytes are needed for the release and {free} are free"
        raise OSError(28, message)
