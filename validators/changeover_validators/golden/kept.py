"""The files that a golden shot keeps, each with the digest that its record gives it, and which of them are damaged.

A truth that changed is not the truth that was approved. All that is damaged is found in one run, so that one visit to
the archive mends it. Base installation: files are hashed and never opened as images.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from changeover_registry.errors import MeasurementError
from changeover_registry.records.golden import GoldenFrame, GoldenShot, ShotRef
from changeover_validators.golden.sets import read_shot, shot_folder

__all__ = ["Damage", "KeptFile", "Verified", "check_undamaged", "kept_files", "sha256", "verify_shots"]

Watch: TypeAlias = Callable[[str, int | None], None]
"""Called with a shot and a frame number (None for what belongs to no frame) before a file is hashed."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file under a shot's folder and its sha256; `frame` is absent for a region or a colour configuration."""

    path: str
    sha256: str
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was added: where it lies and what was found there."""

    shot: str
    version: int
    path: Path
    frame: int | None
    found: str

    def __str__(self) -> str:
        """One line: shot, version, frame, file, what is wrong."""
        frame = "" if self.frame is None else f", frame {self.frame}"
        return f"{self.shot} version {self.version}{frame}: {self.path}: {self.found}"


@dataclass(frozen=True, slots=True)
class Verified:
    """How many shots and files were looked at, and every one that is damaged."""

    shots: int
    files: int
    damage: tuple[Damage, ...]


def kept_files(shot: GoldenShot) -> tuple[KeptFile, ...]:
    """Every file of a shot but its record, frame by frame."""
    whole = ((shot.region, shot.region_sha256), (shot.ocio_config, shot.ocio_config_sha256))
    return (
        *(file for frame in shot.frames for file in _of_frame(frame)),
        *(KeptFile(path, digest) for path, digest in whole if path is not None and digest is not None),
    )


def verify_shots(
    site_golden: Path, name: str, refs: Sequence[ShotRef], watch: Watch = lambda _shot, _frame: None
) -> Verified:
    """Hash every file of these shots of the set `name`, their records among them.

    Raises:
        OSError: A file is there and cannot be read.
    """
    found = [_of_shot(site_golden, name, ref, watch) for ref in refs]
    damage = tuple(damage for _, shots_damage in found for damage in shots_damage)
    return Verified(len(refs), sum(files for files, _ in found), damage)


def check_undamaged(name: str, damage: Sequence[Damage], *, listed: bool = False) -> None:
    """See that nothing of the set `name` is damaged; `listed` says that whoever asked has seen all that is.

    Raises:
        MeasurementError: Something is; the first file is named and all are counted.
    """
    if not damage:
        return
    count = f"{len(damage)} damaged, the first " if len(damage) > 1 else ""
    listing = "" if listed else f"see them all with changeover golden verify {name}, and "
    raise MeasurementError(
        "golden files",
        where=name,
        expected="every file as it was added",
        actual=f"{count}{damage[0]}",
        remedy=f"{listing}bring {'them' if count else 'it'} back from the archive",
    )


def _of_shot(site_golden: Path, name: str, ref: ShotRef, watch: Watch) -> tuple[int, list[Damage]]:
    """How many files a shot has, and those that are damaged; a damaged record names no files."""
    record = site_golden / name / ref.shot / str(ref.version) / "shot.json"
    try:
        shot = read_shot(site_golden, name, ref)
    except MeasurementError as error:
        return 1, [Damage(ref.shot, ref.version, record, None, _found(error.actual))]
    files = kept_files(shot)
    return len(files) + 1, list(_damaged(shot_folder(site_golden, shot), shot, files, watch))


def _damaged(folder: Path, shot: GoldenShot, files: Sequence[KeptFile], watch: Watch) -> Iterator[Damage]:
    for file in files:
        watch(shot.shot, file.frame)
        found = _sha256(folder / file.path)
        if found != file.sha256:
            yield Damage(shot.shot, shot.version, folder / file.path, file.frame, _found(found))


def _of_frame(frame: GoldenFrame) -> Iterator[KeptFile]:
    yield KeptFile(frame.plate, frame.plate_sha256, frame.number)
    for path, digest in ((frame.matte, frame.matte_sha256), (frame.second, frame.second_sha256)):
        if path is not None and digest is not None:
            yield KeptFile(path, digest, frame.number)
    for given in frame.inputs or ():
        yield KeptFile(given.file, given.sha256, frame.number)


def _found(actual: str) -> str:
    return "gone" if actual in {"no file", ""} else "other bytes than were added"


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    """The digest of a file's bytes; nothing where there is no file."""
    return sha256(path) if path.is_file() else ""
