"""A vendor's release folder: ``release.toml`` beside one folder of files for each variant.

It lists, hashes and inspects the files, none of which is executed, and gives what they say to `release_toml`. Links,
hidden files and what is neither file nor folder are refused: what is listed here is what a studio will get.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.inspect import Inspection, inspect_variant
from changeover_registry.names import check_path
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release, Variant
from changeover_updater.release_toml import Part, ReleaseToml, VariantToml, compose, entry_of

__all__ = [
    "RELEASE_TOML",
    "SMOKE",
    "describe_file",
    "read_draft",
    "read_release",
    "require_smoke",
    "variant_folder",
]

RELEASE_TOML = "release.toml"
SMOKE = "smoke.npz"
"""The recorded inputs and outputs of a variant, beside its model file."""


def read_draft(folder: Path) -> ReleaseToml:
    """The parsed ``release.toml`` of a release folder.

    Raises:
        InvalidInputError: It is not there, or not valid.
    """
    path = folder / RELEASE_TOML
    if not path.is_file():
        raise InvalidInputError(
            "release folder",
            where=str(path),
            expected="a folder that holds release.toml",
            actual="no such file",
            remedy="give the folder of a release, or write its release.toml first",
        )
    return ReleaseToml.from_toml(path.read_bytes(), where=str(path))


def read_release(folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> Release:
    """The release record of a folder: every file listed, hashed and inspected without executing it.

    Args:
        folder: The release folder.
        progress: Called with the number of bytes that were hashed.

    Raises:
        InvalidInputError: ``release.toml`` or a file that it names is not as it must be.
        RefusedError: A model file is of a kind that is refused (custom operators, pickles, links).
        UndecidedError: The package that inspects a format is not installed here.
    """
    draft, where = read_draft(folder), str(folder / RELEASE_TOML)
    parts = {
        variant.id: _part(folder, variant, f"{where}: variants.{variant.id}", progress) for variant in draft.variants
    }
    return compose(draft, parts, where=where)


def variant_folder(folder: Path, variant_id: str, draft: ReleaseToml) -> Path:
    """Where the files of a variant lie."""
    return folder / next(variant.folder_name() for variant in draft.variants if variant.id == variant_id)


def describe_file(path: Path, name: str, *, progress: Callable[[int], None] = lambda _: None) -> FileEntry:
    """Size, digest and block digests of a file, read once; `name` is its path under the variant's folder.

    Raises:
        OSError: It cannot be read.
    """
    whole, size, blocks = hashlib.sha256(), 0, []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(hashlib.sha256(block).hexdigest())
            size += len(block)
            progress(len(block))
    return FileEntry(path=name, size=size, sha256=whole.hexdigest(), blocks=tuple(blocks))


def require_smoke(folder: Path, variant: Variant) -> None:
    """Check that a variant has a smoke file with the arrays that its contract asks for; an opaque ``.cat`` is exempt.

    Args:
        folder: The variant's folder.
        variant: The variant.

    Raises:
        InvalidInputError: It is not there, or lacks an array.
    """
    if variant.runtime == "nuke-cat":
        return
    needed = {"output0.npy", "output1.npy", "tolerance.npy"}
    needed |= {f"input{frame}.{tensor.port}.npy" for frame in (0, 1) for tensor in variant.contract.inputs}
    actual = "no such file" if variant.file(SMOKE) is None else _lacks(folder / SMOKE, needed)
    if actual:
        raise InvalidInputError(
            "smoke file",
            where=str(folder / SMOKE),
            expected="two recorded inputs, their outputs and a tolerance",
            actual=actual,
            remedy="make it with: changeover vendor smoke RELEASE_DIR",
        )


def _lacks(path: Path, needed: set[str]) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            lacking = sorted(needed - set(archive.namelist()))
    except zipfile.BadZipFile:
        return "a file that is no .npz archive"
    return f"an archive without {', '.join(name.removesuffix('.npy') for name in lacking)}" if lacking else ""


def _part(folder: Path, variant: VariantToml, where: str, progress: Callable[[int], None]) -> Part:
    place = folder / variant.folder_name()
    names = _list(place, f"{where}.folder") if variant.files is None else _listed(place, variant.files, where)
    entry = entry_of(variant, names, where=where)
    inspection = _inspect(place, variant.runtime, entry, names)
    files = tuple(describe_file(place / name, name, progress=progress) for name in names)
    return Part(files, inspection)


def _listed(place: Path, names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The files that the vendor lists; the smoke file belongs to them as soon as it is there."""
    for number, name in enumerate(names):
        if name == SMOKE:
            continue
        if not (place / name).is_file():
            raise _file_error(f"{where}.files.{number}: {place / name}", "this file", "no such file", "add the file")
        _check_kind(place, place / name)
    smoke = {SMOKE} if (place / SMOKE).is_file() else set()
    return tuple(sorted(set(names) - {SMOKE} | smoke))


def _list(place: Path, where: str) -> tuple[str, ...]:
    """Every file under a variant's folder, as sorted relative POSIX paths."""
    if not place.is_dir():
        raise _file_error(
            f"{where}: {place}", "the folder of this variant's files", "no such folder", "make it, or name it in folder"
        )
    found = []
    for parent, folders, files in os.walk(place):
        for name in sorted([*folders, *files]):
            _check_kind(place, Path(parent, name))
        found += [Path(parent, name).relative_to(place).as_posix() for name in files]
    return tuple(sorted(found))


def _check_kind(place: Path, path: Path) -> None:
    """Every step from the variant's folder to the file is a plain, visible file or folder with a portable name."""
    name = path.relative_to(place).as_posix()
    check_path(name, where=str(path))
    for step in (path, *path.parents):
        if step == place:
            return
        kind = step.lstat().st_mode
        if stat.S_ISLNK(kind) or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _file_error(str(step), "a plain file", "a link or a device", "put the file itself there")
        if step.name.startswith("."):
            raise _file_error(str(step), "no hidden files", "a hidden file", "remove it, or list the variant's files")


def _inspect(place: Path, runtime: str, entry: str, names: tuple[str, ...]) -> Inspection:
    try:
        found = inspect_variant(place, runtime, entry, names)
    except ImportError as error:
        raise UndecidedError(
            "inspection",
            where=str(place / entry),
            expected=f"the package that reads {runtime} files",
            actual=str(error),
            remedy="install it with: pip install 'changeover[run]'",
        ) from error
    if found.problems:
        first, more = found.problems[0], len(found.problems) - 1
        raise RefusedError(
            first.rule,
            where=f"{place}: {first.where}",
            expected=first.expected,
            actual=first.actual + (f" (and {more} more problems)" if more else ""),
            remedy=first.remedy,
        )
    return found


def _file_error(where: str, expected: str, actual: str, remedy: str) -> InvalidInputError:
    return InvalidInputError("file", where=where, expected=expected, actual=actual, remedy=remedy)
