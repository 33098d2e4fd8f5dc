"""What a golden set was and how it became what it is: its versions, told as changes, and the versions of one shot.

Read from the records alone, which are never deleted. Base installation: nothing here opens an image.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenSet, RetiredShot, ShotRef
from changeover_validators.golden.sets import read_set

__all__ = ["ShotVersion", "Step", "all_refs", "current_refs", "scored_shots", "set_history", "shot_versions", "steps"]

_Refs: TypeAlias = dict[tuple[str, int], ShotRef]


@dataclass(frozen=True, slots=True)
class Step:
    """One version of a set: who made it and when (unknown for the first releases' sets), and what it changed."""

    version: int
    at: str | None
    by: str | None
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShotVersion:
    """One version of a shot and where it stands; `retired` says why where it is no longer used."""

    ref: ShotRef
    state: Literal["scored", "waiting", "retired", "replaced"]
    retired: RetiredShot | None = None


def set_history(site_golden: Path, name: str, *, last: int) -> tuple[GoldenSet, ...]:
    """The last versions of a set, oldest first.

    Raises:
        InvalidInputError: There is no such set, or one of those versions is gone or unreadable.
    """
    newest = read_set(site_golden, name)
    earlier = range(max(1, newest.version - last + 1), newest.version)
    return (*(read_set(site_golden, name, version=number) for number in earlier), newest)


def steps(history: Sequence[GoldenSet]) -> tuple[Step, ...]:
    """What each version of a set changed, oldest first; of the first one given, only where it was the set's first."""
    first = (Step(1, history[0].changed_at, history[0].changed_by, ("created",)),) if history[0].version == 1 else ()
    later = (
        Step(after.version, after.changed_at, after.changed_by, tuple(_changes(before, after)))
        for before, after in pairwise(history)
    )
    return (*first, *later)


def scored_shots(site_golden: Path, name: str, versions: Iterable[int]) -> dict[int, int]:
    """How many shots a set scored at each of these versions; one whose file is gone is left out.

    Raises:
        InvalidInputError: There is no such set.
    """
    read_set(site_golden, name)
    found: dict[int, int] = {}
    for version in versions:
        with suppress(InvalidInputError):
            found[version] = len(read_set(site_golden, name, version=version).shots)
    return found


def current_refs(golden_set: GoldenSet) -> tuple[ShotRef, ...]:
    """What is scored and what waits."""
    return (*golden_set.shots, *(golden_set.pending or ()))


def all_refs(site_golden: Path, golden_set: GoldenSet) -> tuple[ShotRef, ...]:
    """Every version of every shot that a set ever named, each once, as it was named last.

    Only what comes out is validated, not each of the set's versions: there may be a thousand of a thousand shots.

    Raises:
        InvalidInputError: One of the set's versions is gone or is no JSON.
    """
    found: dict[tuple[str, int], dict[str, object]] = {}
    for version in range(1, golden_set.version + 1):
        path = site_golden / golden_set.name / f"set-{version}.json"
        body = canonical.loads(path.read_bytes(), where=str(path)) if path.is_file() else {}
        for ref in (*body.get("shots", ()), *body.get("pending", ())):
            found[ref["shot"], ref["version"]] = ref
    return tuple(ShotRef.model_validate_json(json.dumps(found[key])) for key in sorted(found))


def shot_versions(golden_set: GoldenSet, refs: Sequence[ShotRef], shot: str) -> tuple[ShotVersion, ...]:
    """Every version of a shot among those that a set ever named, newest first; none where it never named the shot."""
    named = sorted((ref for ref in refs if ref.shot == shot), key=lambda ref: ref.version, reverse=True)
    return tuple(_shot_version(golden_set, ref) for ref in named)


def _shot_version(last: GoldenSet, ref: ShotRef) -> ShotVersion:
    key = (ref.shot, ref.version)
    if key in _by_key(last.pending or ()):
        return ShotVersion(ref, "waiting")
    if key in _by_key(last.shots):
        return ShotVersion(ref, "scored")
    gone = [one for one in last.retired_shots or () if (one.shot, one.version) == key]
    return ShotVersion(ref, "retired", gone[-1]) if gone else ShotVersion(ref, "replaced")


def _changes(before: GoldenSet, after: GoldenSet) -> Iterator[str]:
    waited = _by_key(before.pending or ())
    yield from _approvals(_by_key(before.shots), waited, after.shots)
    fresh = [ref for key, ref in _by_key(after.pending or ()).items() if key not in waited]
    yield from (f"{ref.shot} version {ref.version} added, waits for approval" for ref in fresh)
    yield from _passed_over(waited, after)
    retired = (after.retired_shots or ())[len(before.retired_shots or ()) :]
    yield from (f"{one.shot} version {one.version} retired: {one.reason}" for one in retired)
    yield from _unaccounted(before, after)
    yield from (f"{name} may use it" for name in after.readers if name not in before.readers)
    yield from (f"{name} may no longer use it" for name in before.readers if name not in after.readers)
    if after.retired is not None and before.retired is None:
        yield f"the set retired: {after.retired}"


def _passed_over(waited: _Refs, after: GoldenSet) -> Iterator[str]:
    """What waited and was neither approved nor retired: a later version took its place."""
    left = {*_by_key(current_refs(after)), *((one.shot, one.version) for one in after.retired_shots or ())}
    gone = [ref for key, ref in waited.items() if key not in left]
    yield from (f"{ref.shot} version {ref.version} no longer waits, since a later one came" for ref in gone)


def _unaccounted(before: GoldenSet, after: GoldenSet) -> Iterator[str]:
    """What no command does: a shot that is no longer scored and was not retired, an approval that is another's now."""
    retired = {(one.shot, one.version) for one in after.retired_shots or ()}
    now = {ref.shot: ref for ref in after.shots}
    for ref in before.shots:
        later = now.get(ref.shot)
        if later is None and (ref.shot, ref.version) not in retired:
            yield f"{ref.shot} version {ref.version} is no longer scored, and nobody retired it"
        elif later and later.version == ref.version and ref.approval and later.approval != ref.approval:
            yield f"{ref.shot} version {ref.version} no longer approved by {ref.approval.name}, without a word"


def _approvals(scored: _Refs, waited: _Refs, after: Sequence[ShotRef]) -> Iterator[str]:
    for key, ref in _by_key(after).items():
        earlier = scored.get(key)
        if earlier and (earlier.approval is not None or ref.approval is None):
            continue
        added = "" if earlier or key in waited else "added"
        approved = f"approved by {ref.approval.name}" if ref.approval else ""
        yield f"{ref.shot} version {ref.version} {' and '.join(filter(None, (added, approved)))}"


def _by_key(refs: Sequence[ShotRef]) -> _Refs:
    return {(ref.shot, ref.version): ref for ref in refs}
