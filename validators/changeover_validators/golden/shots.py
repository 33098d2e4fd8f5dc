"""Golden sets and shots on disk: ``golden/<set>/set.json`` and ``golden/<set>/<shot>/<n>/``, never overwritten.

A shot is staged beside its place, every frame copied, decoded and hashed there, and published by one rename; then the
set gets a new version that names it. A kill leaves the set as it was, and at most a hidden folder that nothing reads.
`load_set` hashes every file again when asked: a truth that changed is not the truth that was approved.

Left out: approval, retiring, power and readers' rights; what a score is (`pipeline`).
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

from changeover_registry._fs import fsync_tree, lock, remove_tree, rename_dir, write_atomic
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_registry.names import check_name
from changeover_registry.records.golden import GoldenSet, GoldenShot, ShotRef
from changeover_validators.golden.colour import Colour
from changeover_validators.golden.frames import at_frame, check_bytes, measuring
from changeover_validators.golden.sequences import find_frames
from changeover_validators.golden.staging import Look, Source, Staged, pair_frames, stage

__all__ = [
    "AddedShot",
    "NewShot",
    "ShotWarning",
    "add_shot",
    "create_set",
    "list_sets",
    "load_set",
    "shot_folder",
]

_LOCK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NewShot:
    """What a person says of a shot that is to be added.

    Attributes:
        set: The set's name.
        shot: The shot's name; a name that the set has already gets a new version.
        plate: ``plate.####.exr``, ``plate.%04d.exr``, a folder, or one file.
        matte: The same for the approved mattes; their frame numbers are the plates'.
        matte_channel: ``A``, ``R``, ``layer.name``.
        colour: What the plates hold.
        level: How hard it is, 1 to 5.
        added_by: Who says so.
        alias: What reports outside the show call it; without one, what it was, or ``shot-<place in the set>``.
        region: An image outside which nothing is scored.
        region_channel: Its channel; without one, the mattes'.
        pre_roll: How many of the first frames are fed and not scored; they need no matte.
    """

    set: str
    shot: str
    plate: str
    matte: str
    matte_channel: str
    colour: Colour
    level: int
    added_by: str
    alias: str | None = None
    region: Path | None = None
    region_channel: str | None = None
    pre_roll: int = 0


@dataclass(frozen=True, slots=True)
class ShotWarning:
    """Something that is allowed and looks wrong, on these frames (none means the shot as a whole)."""

    what: str
    frames: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line."""
        if not self.frames:
            return self.what
        more = f" and {len(self.frames) - 1} more" if len(self.frames) > 1 else ""
        return f"{self.what} (frame {self.frames[0]}{more})"


@dataclass(frozen=True, slots=True)
class AddedShot:
    """What `add_shot` did: the shot and set as they are now, and what a person should look at."""

    shot: GoldenShot
    set: GoldenSet
    warnings: tuple[ShotWarning, ...]


def create_set(
    site_golden: Path, name: str, *, owner_show: str | None = None, readers: Sequence[str] = ()
) -> GoldenSet:
    """Make an empty set, version 1.

    Raises:
        InvalidInputError: The name is bad, or the set is there already.
    """
    check_name(name, where="golden set")
    folder = site_golden / name
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", what=f"the golden set {name}", wait_seconds=_LOCK_SECONDS):
        if (folder / "set.json").exists():
            raise InvalidInputError(
                "golden set",
                where=name,
                expected="a name that no set has",
                actual=f"a set with {len(_read_set(site_golden, name).shots)} shots",
                remedy="add shots to it, or choose another name",
            )
        golden_set = GoldenSet(name=name, version=1, owner_show=owner_show, readers=tuple(readers))
        _write_set(folder, golden_set)
    return golden_set


def list_sets(site_golden: Path) -> tuple[GoldenSet, ...]:
    """Every set of the site, by name."""
    found = sorted(site_golden.glob("*/set.json"))
    return tuple(_read_set(site_golden, path.parent.name) for path in found)


def load_set(
    site_golden: Path,
    name: str,
    *,
    verify: bool = False,
    progress: Callable[[str, int], None] = lambda _shot, _frame: None,
) -> tuple[GoldenSet, tuple[GoldenShot, ...]]:
    """A set and its shots; with `verify`, every file is hashed again.

    Args:
        site_golden: The site's folder of golden sets.
        name: The set.
        verify: Whether to read every file.
        progress: Called with shot and frame number before a frame is hashed.

    Raises:
        InvalidInputError: There is no such set.
        MeasurementError: A record or a file is gone or is not what was added; names it.
    """
    golden_set = _read_set(site_golden, name)
    shots = tuple(_read_shot(site_golden, golden_set, ref) for ref in golden_set.shots)
    if verify:
        for shot in shots:
            _verify_shot(site_golden, shot, progress)
    return golden_set, shots


def shot_folder(site_golden: Path, shot: GoldenShot) -> Path:
    """Where the files of a shot are."""
    return site_golden / shot.set / shot.shot / str(shot.version)


def add_shot(
    site_golden: Path,
    new: NewShot,
    *,
    now: datetime,
    progress: Callable[[int, int], None] = lambda _done, _frames: None,
    wait_seconds: float = _LOCK_SECONDS,
) -> AddedShot:
    """Copy a shot into its set, look at every frame, and publish both as new versions.

    Args:
        site_golden: The site's folder of golden sets.
        new: What a person says of the shot.
        now: The time of the command.
        progress: Called after each frame with how many of how many are done.
        wait_seconds: How long to wait for somebody else who is changing the set.

    Raises:
        InvalidInputError: No such set, a bad name or level, a file that cannot be read, sizes that differ, frames that
            are missing; nothing has changed.
        LostRaceError: Somebody else is changing the set.
        OSError: The disk is full or read-only; nothing has changed.
    """
    _check_names(new)
    _read_set(site_golden, new.set)
    source = _source(new)
    folder = site_golden / new.set
    with _staging_folder(folder) as staging:
        staged = stage(staging, source, progress)
        with lock(folder / ".lock", what=f"the golden set {new.set}", wait_seconds=wait_seconds):
            golden_set, others = load_set(site_golden, new.set)
            shot = _record(new, folder, _alias(new, golden_set, others), staged, now)
            _publish_shot(staging, folder, shot)
            golden_set = _with_shot(golden_set, shot)
            _write_set(folder, golden_set)
    return AddedShot(shot, golden_set, _warnings(shot, staged.looks, others))


def _source(new: NewShot) -> Source:
    plates = find_frames(new.plate)
    mattes = pair_frames(plates, find_frames(new.matte), new.pre_roll)
    return Source(plates, mattes, new.matte_channel, new.region, new.region_channel)


def _check_names(new: NewShot) -> None:
    check_name(new.set, where="golden set")
    check_name(new.shot, where="golden shot")
    if new.alias is not None:
        check_name(new.alias, where="alias")
    if not 1 <= new.level <= 5:
        raise _refused("level", new.shot, expected="1 to 5", actual=str(new.level))
    if new.colour not in get_args(Colour):
        raise _refused("colour", new.shot, expected=", ".join(get_args(Colour)), actual=repr(new.colour))


@contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the shots; what is left of it at the end is removed."""
    staged = folder / f".staging-{uuid.uuid4().hex[:12]}"
    staged.mkdir()
    try:
        yield staged
    finally:
        remove_tree(staged)


def _record(new: NewShot, folder: Path, alias: str, staged: Staged, now: datetime) -> GoldenShot:
    width, height = staged.looks[0].size
    return GoldenShot(
        set=new.set,
        shot=new.shot,
        version=_next_version(folder / new.shot),
        alias=alias,
        width=width,
        height=height,
        pixel_aspect=f"{staged.looks[0].pixel_aspect:.6f}",
        colour=new.colour,
        matte_channel=new.matte_channel,
        level=new.level,
        frames=staged.frames,
        region=staged.region,
        region_sha256=staged.region_sha256,
        region_channel=None if staged.region is None else new.region_channel or new.matte_channel,
        added_by=new.added_by,
        added_at=format_time(now),
    )


def _next_version(folder: Path) -> int:
    """One more than any version there, also one that a killed command left without its set."""
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return max(versions, default=0) + 1


def _alias(new: NewShot, golden_set: GoldenSet, others: Sequence[GoldenShot]) -> str:
    """What the person said, else what it was, else its place; no two shots of a set share one."""
    taken = {other.alias for other in others if other.shot != new.shot}
    before = next((other.alias for other in others if other.shot == new.shot), None)
    places = (f"shot-{place}" for place in range(len(golden_set.shots) + 1, 2 * len(golden_set.shots) + 2))
    alias = new.alias or before or next(place for place in places if place not in taken)
    if alias in taken:
        raise _refused("alias", new.shot, expected="an alias that no other shot of the set has", actual=alias)
    return alias


def _publish_shot(staged: Path, folder: Path, shot: GoldenShot) -> None:
    (staged / "shot.json").write_bytes(shot.to_bytes())
    fsync_tree(staged)
    (folder / shot.shot).mkdir(exist_ok=True)
    rename_dir(staged, folder / shot.shot / str(shot.version))


def _with_shot(golden_set: GoldenSet, shot: GoldenShot) -> GoldenSet:
    """The next version of a set, the shot in its old place or at the end."""
    fresh = ShotRef(shot=shot.shot, version=shot.version, digest=shot.digest())
    known = any(ref.shot == shot.shot for ref in golden_set.shots)
    replaced = tuple(fresh if ref.shot == shot.shot else ref for ref in golden_set.shots)
    shots = replaced if known else (*golden_set.shots, fresh)
    return golden_set.model_copy(update={"version": golden_set.version + 1, "shots": shots})


def _write_set(folder: Path, golden_set: GoldenSet) -> None:
    """File this version, then point at it; a version that ``set.json`` never reached is written over."""
    write_atomic(folder / f"set-{golden_set.version}.json", golden_set.to_bytes())
    write_atomic(folder / "set.json", golden_set.to_bytes())


def _read_set(site_golden: Path, name: str) -> GoldenSet:
    path = site_golden / check_name(name, where="golden set") / "set.json"
    if not path.is_file():
        known = ", ".join(sorted(found.parent.name for found in site_golden.glob("*/set.json"))) or "no set"
        raise InvalidInputError(
            "golden set", where=name, expected="a set of this site", actual=known, remedy="create it, or name another"
        )
    return GoldenSet.from_bytes(path.read_bytes(), where=str(path))


def _read_shot(site_golden: Path, golden_set: GoldenSet, ref: ShotRef) -> GoldenShot:
    path = site_golden / golden_set.name / ref.shot / str(ref.version) / "shot.json"
    if not path.is_file():
        raise _changed(path, ref.digest, "no file")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ref.digest:
        raise _changed(path, ref.digest, found)
    return GoldenShot.from_bytes(data, where=str(path))


def _verify_shot(site_golden: Path, shot: GoldenShot, progress: Callable[[str, int], None]) -> None:
    folder = shot_folder(site_golden, shot)
    with measuring(shot.shot):
        for frame in shot.frames:
            progress(shot.shot, frame.number)
            with at_frame(frame.number):
                check_bytes(folder / frame.plate, frame.plate_sha256)
                if frame.matte is not None:
                    check_bytes(folder / frame.matte, frame.matte_sha256)
        if shot.region is not None:
            check_bytes(folder / shot.region, shot.region_sha256)


def _changed(path: Path, expected: str, found: str) -> MeasurementError:
    return MeasurementError(
        "golden record",
        where=str(path),
        expected=f"the record that the set names (sha256 {expected[:12]})",
        actual=found[:12] if len(found) == 64 else found,
        remedy="bring it back from the archive, or add the shot again",
    )


def _warnings(shot: GoldenShot, looks: Sequence[Look], others: Sequence[GoldenShot]) -> tuple[ShotWarning, ...]:
    """What is allowed and looks wrong, each thing once with the frames that it concerns."""
    ranges = {look.number: look.matte_range for look in looks if look.matte_range is not None}
    on_frames = (
        ("matte values outside 0 to 1", [n for n, (low, high) in ranges.items() if low < 0 or high > 1]),
        ("the matte is the same value everywhere", [n for n, (low, high) in ranges.items() if low == high]),
        ("the plate is the same value everywhere", [look.number for look in looks if look.plate_constant]),
        ("the plate holds NaN or infinity", [look.number for look in looks if look.plate_not_finite]),
        ("the matte was stored with loss; name its channel A or use ZIP", [x.number for x in looks if x.matte_lossy]),
        ("the plate is the same file as an earlier frame's", _repeated(shot)),
    )
    found = [ShotWarning(what, tuple(frames)) for what, frames in on_frames if frames]
    same = [other.shot for other in others if other.shot != shot.shot and _plates(other) == _plates(shot)]
    return (*found, *(ShotWarning(f"the plates are those of shot {name}") for name in same))


def _plates(shot: GoldenShot) -> list[str]:
    return [frame.plate_sha256 for frame in shot.frames]


def _repeated(shot: GoldenShot) -> list[int]:
    digests = _plates(shot)
    return [frame.number for index, frame in enumerate(shot.frames) if digests[index] in digests[:index]]


def _refused(rule: str, where: str, *, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        rule, where=where, expected=expected, actual=actual, remedy="correct it and add the shot again"
    )
