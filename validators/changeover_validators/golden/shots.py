"""Adding a golden shot: ``golden/<set>/<shot>/<n>/``, copied, looked at, hashed, and never overwritten.

A shot is staged beside its place and published by one rename; then the set gets a new version that names it, waiting
for approval or approved at once. A kill leaves the set as it was, and at most a hidden folder, which the next addition
removes, or a version that no set names, which is left.

Left out: what a set is (`sets`), who approves (`approvals`), what is seen in a file (`staging`).
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

from changeover_registry._fs import fsync_tree, lock, make_dirs, remove_tree, rename_dir, write_atomic
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, LostRaceError
from changeover_registry.names import check_name
from changeover_registry.records.golden import Approval, GoldenSet, GoldenShot, ShotRef
from changeover_validators.golden.approvals import approval_of, with_approved, with_pending
from changeover_validators.golden.colour import Colour, check_colour
from changeover_validators.golden.outlines import Outline, outlines
from changeover_validators.golden.sequences import FrameFile, find_frames, missing_numbers, range_of
from changeover_validators.golden.sets import (
    LOCK_SECONDS,
    changing,
    is_current,
    next_version,
    shot_folder,
    write_set,
)
from changeover_validators.golden.shot_warnings import ShotWarning, warnings_of
from changeover_validators.golden.staging import Source, Staged, pair_frames, stage

__all__ = [
    "AddedShot",
    "NewInput",
    "NewShot",
    "ShotWarning",
    "add_shot",
]


@dataclass(frozen=True, slots=True)
class NewInput:
    """A further image that a model's interface names: its port, its files as plates are named, and its channels."""

    port: str
    pattern: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewShot:
    """What a person says of a shot that is to be added.

    Attributes:
        set: The set's name.
        shot: The shot's name; a name that the set has already gets a new version.
        plate: ``plate.####.exr``, ``plate.%04d.exr``, a folder, or one file; a range after it holds for all that goes
            with the plates and names none.
        matte: The same for the approved mattes; their frame numbers are the plates'.
        matte_channel: ``A``, ``R``, ``layer.name``.
        colour: What the plates hold; there is no default.
        level: How hard it is, 1 to 5.
        added_by: Who says so.
        alias: What reports outside the show call it; without one, what it was, or ``shot-<place in the set>``.
        region: An image outside which nothing is scored.
        region_channel: Its channel; without one, the mattes'.
        pre_roll: How many of the first frames are fed and not scored; they need no matte.
        ocio: ``ocio://...`` or a file, whose colour space `colour` then is.
        matte_object: The object of a Cryptomatte whose layer `matte_channel` names.
        second: Another artist's mattes of the same frames, or of some of them.
        second_channel: Their channel; without one, they are read as the mattes are.
        inputs: Further images that a model's interface names.
        allow_missing: Whether frames may lack their plate, or scored ones their matte.
        approved_by: The person who approves it here and now; without one, the shot waits for `approvals.approve`.
        note: What that person says of it.
    """

    set: str
    shot: str
    plate: str
    matte: str
    matte_channel: str
    colour: str
    level: int
    added_by: str
    alias: str | None = None
    region: Path | None = None
    region_channel: str | None = None
    pre_roll: int = 0
    ocio: str | None = None
    matte_object: str | None = None
    second: str | None = None
    second_channel: str | None = None
    inputs: tuple[NewInput, ...] = ()
    allow_missing: bool = False
    approved_by: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class AddedShot:
    """What `add_shot` did: the shot and set as they are now, and what a person should look at."""

    shot: GoldenShot
    set: GoldenSet
    warnings: tuple[ShotWarning, ...]


def add_shot(
    site_golden: Path,
    new: NewShot,
    *,
    now: datetime,
    progress: Callable[[int, int], None] = lambda _done, _frames: None,
    wait_seconds: float = LOCK_SECONDS,
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
        RefusedError: The set is retired.
        LostRaceError: Somebody else is changing the set.
        OSError: The disk is full or read-only; nothing has changed.
    """
    _check_said(new)
    approval = _approval(new, now)
    source = _source(new)
    with _staging_folder(site_golden, new.set, wait_seconds) as staging:
        staged = stage(staging, source, progress)
        _check_config(new, staging, staged)
        fsync_tree(staging)
        with changing(site_golden, new.set, wait_seconds=wait_seconds) as before:
            others = outlines(site_golden, before)
            version, alias = _next_version(site_golden / new.set / new.shot), _alias(new, before, others)
            seen = _record(new, source, staged, version=version, alias=alias, now=now)
            warnings = warnings_of(seen, staged.looks, others)
            shot = seen.model_copy(update={"notes": tuple(map(str, warnings)) or None})
            golden_set = _with_shot(before, shot, approval)
            _publish(site_golden, staging, shot, golden_set)
    return AddedShot(shot, golden_set, warnings)


def _check_said(new: NewShot) -> None:
    check_name(new.set, where="golden set")
    check_name(new.shot, where="golden shot")
    if new.alias is not None:
        check_name(new.alias, where="alias")
    if not 1 <= new.level <= 5:
        raise _refused("level", new.shot, expected="1 to 5", actual=str(new.level))
    if new.ocio is not None and new.colour in get_args(Colour):
        expected = f"a colour space of {new.ocio}"
        raise _refused("colour", new.shot, expected=expected, actual=f"{new.colour}, which needs no configuration")
    check_colour(new.colour, new.ocio, where=new.shot)
    channels = (("second", new.second_channel, new.second), ("region", new.region_channel, new.region))
    for what, channel, images in channels:
        if channel is not None and images is None:
            raise _refused(f"{what} channel", new.shot, expected=f"the {what} that has it", actual="none")
    ports = [given.port for given in new.inputs]
    if len(set(ports)) != len(ports):
        raise _refused("inputs", new.shot, expected="each input once", actual=", ".join(ports))


def _check_config(new: NewShot, folder: Path, staged: Staged) -> None:
    """See that a kept colour configuration does by itself what it did where it came from.

    Raises:
        InvalidInputError: It needs files that lay beside it, such as look-up tables.
    """
    if staged.ocio_config is None:
        return
    try:
        check_colour(new.colour, str(folder / staged.ocio_config), where=new.shot)
    except InvalidInputError as error:
        raise InvalidInputError(
            "colour configuration",
            where=str(new.ocio),
            expected="one that holds all that it needs",
            actual="one that needs files beside it",
            remedy="pack it with them: ocioarchive makes a file .ocioz",
        ) from error


def _approval(new: NewShot, now: datetime) -> Approval | None:
    if new.approved_by is not None:
        return approval_of(new.approved_by, new.note, by=new.added_by, now=now)
    if new.note is not None:
        raise _refused("note", new.shot, expected="who approves, beside the note", actual="a note alone")
    return None


def _source(new: NewShot) -> Source:
    plates = find_frames(new.plate, allow_missing=new.allow_missing)
    found = find_frames(new.matte, allow_missing=new.allow_missing, within=range_of(new.plate))
    mattes = pair_frames(plates, found, new.pre_roll, allow_missing=new.allow_missing)
    return Source(
        plates,
        mattes,
        new.matte_channel,
        new.region,
        new.region_channel,
        matte_object=new.matte_object,
        seconds={} if new.second is None else _seconds(new, plates, mattes),
        second_channel=new.second_channel,
        inputs=tuple((given.port, _by_number(new, given.pattern, plates), given.channels) for given in new.inputs),
        ocio=None if new.ocio is None or new.ocio.startswith("ocio://") else Path(new.ocio),
        missing=missing_numbers(plates),
    )


def _seconds(new: NewShot, plates: Sequence[FrameFile], mattes: Mapping[int, Path]) -> Mapping[int, Path]:
    """The second artist's mattes; those of frames that are fed and not scored are of no use and stay outside."""
    fed = {plate.number for plate in plates} - set(mattes)
    return {number: path for number, path in _by_number(new, str(new.second), plates).items() if number not in fed}


def _by_number(new: NewShot, pattern: str, plates: Sequence[FrameFile]) -> Mapping[int, Path]:
    """Files beside the plates, by the plates' numbers; two stills are a pair."""
    found = find_frames(pattern, allow_missing=new.allow_missing, within=range_of(new.plate))
    if len(plates) == len(found) == 1:
        return {plates[0].number: found[0].path}
    return {frame.number: frame.path for frame in found}


@contextmanager
def _staging_folder(site_golden: Path, name: str, wait_seconds: float) -> Iterator[Path]:
    """A hidden folder beside the shots, held by a lock of its own; what is left of it at the end is removed."""
    held = site_golden / name / f".staging-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        stack.callback(remove_tree, held)
        with changing(site_golden, name, wait_seconds=wait_seconds):
            _remove_left(held.parent)
            (held / "shot").mkdir(parents=True)
            stack.enter_context(lock(held / "lock", what=f"adding to the golden set {name}"))
        yield held / "shot"


def _remove_left(folder: Path) -> None:
    """Remove what killed commands left; a folder whose lock is held belongs to one that runs."""
    for left in folder.glob(".staging-*"):
        with suppress(LostRaceError, FileNotFoundError):
            with lock(left / "lock", what="adding a golden shot"):
                pass
            remove_tree(left)


def _record(new: NewShot, source: Source, staged: Staged, *, version: int, alias: str, now: datetime) -> GoldenShot:
    width, height = staged.looks[0].size
    return GoldenShot(
        set=new.set,
        shot=new.shot,
        version=version,
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
        ocio_config=new.ocio if staged.ocio_config is None else staged.ocio_config,
        ocio_config_sha256=staged.ocio_config_sha256,
        matte_object=new.matte_object,
        second_channel=new.second_channel,
        missing=source.missing or None,
    )


def _next_version(folder: Path) -> int:
    """One more than any version there, also one that a killed command left without its set."""
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return max(versions, default=0) + 1


def _alias(new: NewShot, golden_set: GoldenSet, others: Sequence[Outline]) -> str:
    """What the person said, else what it was, else its place; no two shots of a set share one."""
    taken = {other.alias for other in others if other.shot != new.shot}
    before = next((other.alias for other in reversed(others) if other.shot == new.shot), None)
    # A retired shot's place stays its own: outside the show its alias is all that an old report calls it.
    first = len({other.shot for other in others}) + len(golden_set.retired_shots or ()) + 1
    places = (f"shot-{place}" for place in range(first, first + len(taken) + 1))
    alias = new.alias or before or next(place for place in places if place not in taken)
    if alias in taken:
        raise _refused("alias", new.shot, expected="an alias that no other shot of the set has", actual=alias)
    return alias


def _with_shot(golden_set: GoldenSet, shot: GoldenShot, approval: Approval | None) -> GoldenSet:
    """The next version of a set, in which the shot waits, or is scored if it was approved."""
    ref = ShotRef(shot=shot.shot, version=shot.version, digest=shot.digest(), approval=approval)
    changes = with_pending(golden_set, ref) if approval is None else with_approved(golden_set, (ref,))
    return next_version(golden_set, by=shot.added_by, at=shot.added_at, **changes)


def _publish(site_golden: Path, staged: Path, shot: GoldenShot, golden_set: GoldenSet) -> None:
    """Put the shot in its place and have the set name it; where that fails, the shot is not left behind."""
    write_atomic(staged / "shot.json", shot.to_bytes())
    place = shot_folder(site_golden, shot)
    make_dirs(place.parent)
    rename_dir(staged, place)
    try:
        write_set(site_golden, golden_set)
    except BaseException:
        if not is_current(site_golden, golden_set):
            remove_tree(place)
        raise


def _refused(rule: str, where: str, *, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        rule, where=where, expected=expected, actual=actual, remedy="correct it and add the shot again"
    )
