"""The store: release folders that are installed once, verified, and never changed.

A release's variant lies at ``releases/<vendor>/<name>/<version>-<digest12>/<variant>/`` as real read-only files. It is
staged under a unique name, synced to the disk and renamed into place without a lock: there already means verify and
use. Left out: where the bytes come from (`install`), and who points at them (`station`).
"""

import contextlib
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from changeover_registry import _fs
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError
from changeover_registry.names import release_folder
from changeover_registry.records.release import FileEntry, ReleaseRef, Variant

__all__ = ["FORMAT", "SHARE", "Store", "check_root"]

FORMAT = b"1\n"
SHARE = b"share\n"
"""What the file ``mode`` of a store holds that several hosts read."""
_BAD_ROOT = re.compile(r"[\s#%\[\]{}\ud800-\udfff]")
"""What hosts and farm submitters read as something else; surrogates stand for bytes that are no text at all."""
_STAGED = re.compile(r"(?P<host>.+)~(?P<pid>\d+)~[0-9a-f]+")


def check_root(path: Path, *, what: str) -> Path:
    """Return `path` if no host reads its name as a pattern.

    Raises:
        InvalidInputError: It has spaces or one of ``#%[]{}``, which Nuke and farm submitters read as something else, or
            bytes that are no text.
    """
    if bad := _BAD_ROOT.search(str(path)):
        raise InvalidInputError(
            f"{what} folder",
            where=str(path),
            expected="a path without spaces and without # % [ ] { }",
            actual=f"{bad.group()!r} in it",
            remedy="choose another folder",
        )
    return path


def check_format(root: Path) -> None:
    """Check that this version reads what is in `root`.

    Raises:
        InvalidInputError: The folder is of another major, or was not made by ``changeover init``.
    """
    found = (root / "format").read_bytes() if (root / "format").is_file() else b"nothing"
    if found != FORMAT:
        raise InvalidInputError(
            "format",
            where=str(root / "format"),
            expected="1",
            actual=found.decode(errors="replace").strip(),
            remedy="make the folder with: changeover init, or update changeover",
        )


@dataclass(frozen=True, slots=True)
class Store:
    """The store's folder."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Store":
        """Make the folders of a store; an existing store is left as it is."""
        check_root(root, what="store")
        for name in ("releases", "staging", "stations"):
            _fs.make_dirs(root / name)
        if not (root / "format").exists():
            _fs.write_atomic(root / "format", FORMAT)
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> "Store":
        """The store at `root`.

        Raises:
            InvalidInputError: It is not a store of a format that this version reads.
        """
        check_format(root)
        return cls(root)

    def is_share(self) -> bool:
        """Whether several hosts read this store and one account writes it; else it is one host's own."""
        try:
            return (self.root / "mode").read_bytes() == SHARE
        except FileNotFoundError:
            return False

    def variant_path(self, release: ReleaseRef, variant: str) -> str:
        """The variant's folder relative to the root, with slashes."""
        return f"releases/{release.model}/{release_folder(release.version, release.digest)}/{variant}"

    def variant_folder(self, release: ReleaseRef, variant: str) -> Path:
        """The variant's folder."""
        return self.root / self.variant_path(release, variant)

    def missing(self, release: ReleaseRef, variant: Variant) -> bool:
        """Whether the variant is not installed whole (names and sizes; its bytes were hashed when it was installed)."""
        folder = self.variant_folder(release, variant.id)
        return not all(_has_size(folder / file.path, file.size) for file in variant.files)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of one's own on the store's file system, removed at the end whatever happens."""
        folder = self._own_staging()
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            # What was done in here is done: a disk that fails now is met by the next sweep, and is no failure of this.
            with contextlib.suppress(OSError):
                _fs.remove_tree(folder)

    def place(self, staged: Path, release: ReleaseRef, variant: Variant) -> Path:
        """Rename a staged, verified variant into place; there already means verify and use.

        Raises:
            TrustError: The folder that is there holds other bytes.
        """
        target = self.variant_folder(release, variant.id)
        for file in variant.files:
            (staged / file.path).chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        _fs.fsync_tree(staged)
        _fs.make_dirs(target.parent)
        try:
            _fs.rename_dir(staged, target)
        except FileExistsError:
            _complete(target, staged, variant)
            self.verify(release, variant)
        _fs.fsync_dir(target.parent.parent)
        return target

    def verify(self, release: ReleaseRef, variant: Variant) -> None:
        """Hash every file of an installed variant.

        Raises:
            TrustError: A file is missing or has other bytes; the message names it.
        """
        folder = self.variant_folder(release, variant.id)
        for file in variant.files:
            verify_file(folder / file.path, file)

    def sweep_staging(self) -> int:
        """Remove what dead processes of this host left in staging and nobody goes on with; returns how many folders."""
        from changeover_updater.transfer.claims import sweep_claims

        dead = self.dead_staging()
        for folder in dead:
            self.discard(folder)
        return len(dead) + sweep_claims(self, now_seconds=time.time())

    def discard(self, folder: Path) -> None:
        """Remove a folder of staging that nobody goes on with; nothing happens if it is not there.

        It is out of reach before anything in it goes: whoever does work in it after all, in a container with this
        host's name, finds it gone, and never puts half of it in place.
        """
        gone = self._own_staging()
        with contextlib.suppress(FileNotFoundError):
            _fs.rename_dir(folder, gone)
            _fs.remove_tree(gone)

    def _own_staging(self) -> Path:
        """A new name in staging that says whose it is."""
        return self.root / "staging" / f"{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:12]}"

    def dead_staging(self) -> tuple[Path, ...]:
        """What dead processes of this host left in staging."""
        found = ((folder, _STAGED.fullmatch(folder.name)) for folder in sorted((self.root / "staging").iterdir()))
        here = socket.gethostname()
        return tuple(folder for folder, m in found if m and m["host"] == here and not _alive(int(m["pid"])))

    def free_bytes(self) -> int:
        """The space that is left on the store's disk."""
        return shutil.disk_usage(self.root).free


def verify_file(path: Path, file: FileEntry) -> None:
    """Hash one file against its entry.

    Raises:
        TrustError: It is missing, is a link, or has other bytes.
    """
    import hashlib

    if path.is_symlink():
        raise wrong_digest(path, file.sha256, "a link, which can point elsewhere tomorrow")
    try:
        with open(path, "rb", opener=_unnoticed) as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        actual = "no such file"
    if actual != file.sha256:
        raise wrong_digest(path, file.sha256, actual)


def _unnoticed(path: str, flags: int) -> int:
    """Open a file without its access time telling of it, where that is allowed: `gc` takes that for somebody's use."""
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        return os.open(path, flags)


def wrong_digest(path: Path, expected: str, actual: str) -> ChangeoverError:
    """The error of a file that holds other bytes than its signed record says."""
    return TrustError(
        "digest",
        where=str(path),
        expected=f"sha256 {expected}",
        actual=actual,
        remedy="remove the folder and run changeover update again; find out who changed the file",
    )


def _complete(target: Path, staged: Path, variant: Variant) -> None:
    """Put the files that are gone from an installed variant back into it; those that are there are left."""
    for file in variant.files:
        path = target / file.path
        if not path.exists():
            _fs.make_dirs(path.parent)
            _fs.replace(staged / file.path, path)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
