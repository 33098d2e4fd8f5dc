"""Files under the name of their digest: ``objects/<first two>/<sha256>`` in a vendor's repository.

A file appears there whole or not at all, hashed after it was copied. Left out: who says which digests matter.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from changeover_registry import canonical
from changeover_registry._fs import fsync_dir, fsync_file, make_dirs, temporary_beside, write_atomic
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release

__all__ = ["object_path", "put"]


def object_path(sha256: str) -> str:
    """Where a record or a file stands in a repository: ``objects/ab/abcd…``."""
    return f"objects/{sha256[:2]}/{sha256}"


def put(folder: Path, record: Release, release: bytes, files: Mapping[str, Path]) -> None:
    """Write every file of a release and then its record under their digests; what is there and right is left.

    Args:
        folder: The repository.
        record: The release.
        release: The bytes of its record.
        files: Where the bytes of each file are, by sha256.

    Raises:
        InvalidInputError: A file of the release is not in `files`, or not where they say.
        TrustError: A file has other digests than the record says; it was not put there.
        OSError: The folder cannot be written.
    """
    entries = {entry.sha256: entry for variant in record.variants for entry in variant.files}
    for digest, entry in entries.items():
        if digest not in files or not files[digest].is_file():
            raise InvalidInputError(
                "release file",
                where=f"{record.model} {record.version}: {entry.path}",
                expected=f"a file with its bytes (sha256 {digest})",
                actual=f"no file {files[digest]}" if digest in files else "none named",
                remedy="give every file of the release",
            )
    for digest, entry in entries.items():
        _put_object(folder / object_path(digest), files[digest], entry)
    path = folder / object_path(canonical.digest(release))
    if not path.is_file() or path.read_bytes() != release:
        make_dirs(path.parent)
        write_atomic(path, release)


def _put_object(target: Path, source: Path, entry: FileEntry) -> None:
    if target.is_file() and _digests(target)[0] == entry.sha256:
        return
    make_dirs(target.parent)
    beside = temporary_beside(target)
    try:
        shutil.copyfile(source, beside)
        _check_copy(source, beside, entry)
        fsync_file(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    fsync_dir(target.parent)


def _check_copy(source: Path, copy: Path, entry: FileEntry) -> None:
    """Hash what was written, not what was read: the copy is what will be served."""
    digest, blocks = _digests(copy)
    if digest != entry.sha256:
        raise _distrust("digest", str(source), f"sha256 {entry.sha256}", f"sha256 {digest}")
    if blocks != entry.blocks or copy.stat().st_size != entry.size:
        raise _distrust("block digests", str(source), "those in the release record", "others")


def _digests(path: Path) -> tuple[str, tuple[str, ...]]:
    """The sha256 of a whole file and of each of its blocks."""
    whole, blocks = hashlib.sha256(), []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(canonical.digest(block))
    return whole.hexdigest(), tuple(blocks)


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    remedy = "register the release again from its own files; these are not those that it names"
    return TrustError(rule, where=where, expected=expected, actual=actual, remedy=remedy)
