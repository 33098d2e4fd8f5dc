"""Golden sets on disk: ``golden/<set>/set.json``, and every version that it had beside it as ``set-<version>.json``.

A change is made under the set's lock, as a whole new version: the numbered file first, then ``set.json`` in one rename.
A kill leaves the set as it was. No version is ever deleted or written over once ``set.json`` has named it, so a verdict
can always say what it was made on. Base installation: nothing here opens an image.

Left out: how a shot comes in (`shots`), who approves it (`approvals`), who may use a set (`readers`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from changeover_registry._fs import lock, make_dirs, read_bytes_retry, write_atomic
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, MeasurementError, RefusedError
from changeover_registry.names import check_name
from changeover_registry.records.golden import GoldenSet, GoldenShot, ShotRef
from changeover_validators.golden.readers import check_show, with_readers

__all__ = [
    "LOCK_SECONDS",
    "change_readers",
    "changing",
    "create_set",
    "is_current",
    "list_sets",
    "load_set",
    "next_version",
    "read_set",
    "read_shot",
    "record_bytes",
    "shot_folder",
    "write_set",
]

LOCK_SECONDS = 30.0
"""How long a command waits for somebody else who is changing the set."""


def create_set(
    site_golden: Path,
    name: str,
    *,
    owner_show: str | None = None,
    readers: Sequence[str] = (),
    by: str | None = None,
    now: datetime | None = None,
) -> GoldenSet:
    """Make an empty set, version 1.

    Raises:
        InvalidInputError: A name is bad, readers are named without a show, or the set is there already.
    """
    check_name(name, where="golden set")
    allowed = check_show(name, owner_show, readers)
    folder = site_golden / name
    make_dirs(folder)
    with lock(folder / ".lock", what=f"the golden set {name}", wait_seconds=LOCK_SECONDS):
        if (folder / "set.json").exists():
            raise InvalidInputError(
                "golden set",
                where=name,
                expected="a name that no set has",
                actual=f"a set with {len(read_set(site_golden, name).shots)} shots",
                remedy="add shots to it, or choose another name",
            )
        golden_set = GoldenSet(
            name=name,
            version=1,
            owner_show=owner_show,
            readers=allowed,
            changed_by=by,
            changed_at=None if now is None else format_time(now),
        )
        write_set(site_golden, golden_set)
    return golden_set


def change_readers(
    site_golden: Path, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = (), by: str, now: datetime
) -> GoldenSet:
    """Let others use a set, or no longer; where that changes nothing, there is no new version.

    Raises:
        InvalidInputError: A name is bad, the set has no show, or one that is to be removed is no reader.
        RefusedError: The set is retired.
        LostRaceError: Somebody else is changing the set.
    """
    with changing(site_golden, name) as golden_set:
        readers = with_readers(golden_set, add, remove)
        if readers == golden_set.readers:
            return golden_set
        changed = next_version(golden_set, by=by, at=format_time(now), readers=readers)
        write_set(site_golden, changed)
    return changed


def list_sets(site_golden: Path) -> tuple[GoldenSet, ...]:
    """Every set of the site, by name."""
    return tuple(read_set(site_golden, name) for name in _names(site_golden))


def read_set(site_golden: Path, name: str, *, version: int | None = None) -> GoldenSet:
    """A set as it is, or as it was at a version.

    Raises:
        InvalidInputError: There is no such set, it never had that version, or the file is no record of a set.
        MeasurementError: ``set.json`` is not what was filed beside it as its version: somebody edited it.
    """
    path = site_golden / check_name(name, where="golden set") / "set.json"
    if not path.is_file():
        known = ", ".join(_names(site_golden)) or "no set"
        raise InvalidInputError(
            "golden set",
            where=name,
            expected="a set of this site",
            actual=known,
            remedy=f"name another, or create it: changeover golden set create {name}",
        )
    golden_set = _as_filed(path, name)
    if version is None or version == golden_set.version:
        return golden_set
    earlier = path.with_name(f"set-{version}.json")
    if not 1 <= version < golden_set.version or not earlier.is_file():
        raise InvalidInputError(
            "golden set",
            where=f"{name} version {version}",
            expected=f"a version from 1 to {golden_set.version}",
            actual="no such file",
            remedy="name another version, or bring the file back from the archive",
        )
    return GoldenSet.from_bytes(earlier.read_bytes(), where=str(earlier))


def load_set(site_golden: Path, name: str) -> tuple[GoldenSet, tuple[GoldenShot, ...]]:
    """A set and the shots of it that are scored: the approved ones, in the set's order.

    Raises:
        InvalidInputError: There is no such set.
        MeasurementError: The record of a shot is gone or is not the one that the set names.
    """
    golden_set = read_set(site_golden, name)
    return golden_set, tuple(read_shot(site_golden, name, ref) for ref in golden_set.shots)


def read_shot(site_golden: Path, name: str, ref: ShotRef) -> GoldenShot:
    """The record of a shot that a set names.

    Raises:
        MeasurementError: It is gone, or is not the one that the set names.
    """
    path = _record(site_golden, name, ref)
    return GoldenShot.from_bytes(record_bytes(site_golden, name, ref), where=str(path))


def record_bytes(site_golden: Path, name: str, ref: ShotRef) -> bytes:
    """The bytes of a shot's record, whose digest is the one that the set names.

    Raises:
        MeasurementError: They are gone, or are others.
    """
    path = _record(site_golden, name, ref)
    if not path.is_file():
        raise _changed(path, ref.digest, "no file")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ref.digest:
        raise _changed(path, ref.digest, found[:12])
    return data


def shot_folder(site_golden: Path, shot: GoldenShot) -> Path:
    """Where the files of a shot are."""
    return site_golden / shot.set / shot.shot / str(shot.version)


@contextmanager
def changing(site_golden: Path, name: str, *, wait_seconds: float = LOCK_SECONDS) -> Iterator[GoldenSet]:
    """Hold a set's lock for the length of the block, and give the set as it is under it.

    Raises:
        InvalidInputError: There is no such set.
        RefusedError: The set is retired.
        LostRaceError: Somebody else holds the lock for longer than `wait_seconds`.
        OSError: The site cannot be written.
    """
    read_set(site_golden, name)
    with lock(site_golden / name / ".lock", what=f"the golden set {name}", wait_seconds=wait_seconds):
        golden_set = read_set(site_golden, name)
        if golden_set.retired is not None:
            raise RefusedError(
                "golden set",
                where=name,
                expected="a set in use",
                actual=f"one that was retired: {golden_set.retired}",
                remedy="create another set and add the shots to it",
            )
        yield golden_set


def next_version(golden_set: GoldenSet, *, by: str, at: str, **changes: object) -> GoldenSet:
    """The set's next version, with these fields changed by an account at a time; nothing is written."""
    said = {"version": golden_set.version + 1, "changed_by": by, "changed_at": at}
    return GoldenSet(**{**dict(golden_set), **said, **changes})


def write_set(site_golden: Path, golden_set: GoldenSet) -> None:
    """File this version, then point at it; the caller holds the lock.

    A version that ``set.json`` never reached, since a command was killed, is written over.

    Raises:
        OSError: The disk is full or read-only; the set is as it was.
    """
    folder = site_golden / golden_set.name
    numbered = folder / f"set-{golden_set.version}.json"
    write_atomic(numbered, golden_set.to_bytes())
    try:
        write_atomic(folder / "set.json", golden_set.to_bytes())
    except OSError:
        if not is_current(site_golden, golden_set):
            numbered.unlink(missing_ok=True)
        raise


def is_current(site_golden: Path, golden_set: GoldenSet) -> bool:
    """Whether ``set.json`` holds just this version."""
    path = site_golden / golden_set.name / "set.json"
    return path.is_file() and path.read_bytes() == golden_set.to_bytes()


def _as_filed(path: Path, name: str) -> GoldenSet:
    """What ``set.json`` holds, which every change files beside it first: no other way leads to a version of a set."""
    data = read_bytes_retry(path)
    golden_set = GoldenSet.from_bytes(data, where=str(path))
    filed = path.with_name(f"set-{golden_set.version}.json")
    if golden_set.name == name and filed.is_file() and filed.read_bytes() == data:
        return golden_set
    raise MeasurementError(
        "golden set",
        where=str(path),
        expected=f"version {golden_set.version} of {name}, as it was filed in {filed.name}",
        actual="something else: one of them was edited, or is gone",
        remedy="find out who did, and bring the file back from the archive",
    )


def _names(site_golden: Path) -> list[str]:
    return sorted(path.parent.name for path in site_golden.glob("*/set.json"))


def _record(site_golden: Path, name: str, ref: ShotRef) -> Path:
    return site_golden / name / ref.shot / str(ref.version) / "shot.json"


def _changed(path: Path, expected: str, found: str) -> MeasurementError:
    return MeasurementError(
        "golden record",
        where=str(path),
        expected=f"the record that the set names (sha256 {expected[:12]})",
        actual=found,
        remedy="bring it back from the archive, or retire the shot and add it again",
    )
