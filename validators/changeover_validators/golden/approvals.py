"""Approving and retiring, by name: what is scored, what waits, and what is no longer used. Nothing is ever deleted.

A shot that was added waits in `pending` until a person approves it; where it is a new version of a shot, the old one
goes on being scored until then. Every file is hashed before an approval is written, and what waited then must be what
waits now: nobody approves what they could not have seen. Base installation: nothing here opens an image.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, LostRaceError
from changeover_registry.records.golden import Approval, GoldenSet, RetiredShot, ShotRef
from changeover_validators.golden.kept import Watch, check_undamaged, verify_shots
from changeover_validators.golden.sets import LOCK_SECONDS, changing, next_version, read_set, write_set

__all__ = [
    "Approved",
    "approval_of",
    "approve",
    "check_person",
    "retire_set",
    "retire_shot",
    "waiting",
    "with_approved",
    "with_pending",
]

_LONGEST_NAME = 200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Approved:
    """What `approve` did: the set as it is now, and the shots that were approved (none where none waited)."""

    set: GoldenSet
    refs: tuple[ShotRef, ...]


def approve(
    site_golden: Path,
    set_name: str,
    approval: Approval,
    shots: Sequence[str] = (),
    *,
    watch: Watch = lambda _shot, _frame: None,
    wait_seconds: float = LOCK_SECONDS,
) -> Approved:
    """Approve shots that wait, all of them if none is named; from now on they are scored.

    Args:
        site_golden: The site's folder of golden sets.
        set_name: The set.
        approval: Who approves, made by `approval_of`.
        shots: The shots to approve.
        watch: Called with shot and frame before a file is hashed.
        wait_seconds: How long to wait for somebody else who is changing the set.

    Raises:
        InvalidInputError: No such set, or a shot that does not wait.
        MeasurementError: A file is not what was added; nothing is approved.
        RefusedError: The set is retired.
        LostRaceError: Somebody else is changing the set, or has changed what waits.
        OSError: The disk is full or read-only; nothing is approved.
    """
    seen = _named(read_set(site_golden, set_name), shots)
    check_undamaged(set_name, verify_shots(site_golden, set_name, seen, watch).damage)
    with changing(site_golden, set_name, wait_seconds=wait_seconds) as golden_set:
        _check_same(golden_set, seen)
        if not seen:
            return Approved(golden_set, ())
        refs = tuple(ref.model_copy(update={"approval": approval}) for ref in seen)
        changed = next_version(golden_set, by=approval.by, at=approval.at, **with_approved(golden_set, refs))
        write_set(site_golden, changed)
    return Approved(changed, refs)


def retire_shot(
    site_golden: Path,
    set_name: str,
    shot: str,
    *,
    reason: str,
    by: str,
    now: datetime,
    pending_only: bool = False,
    wait_seconds: float = LOCK_SECONDS,
) -> GoldenSet:
    """Take a shot out of use, or only the version of it that waits; its files stay, and the set says why.

    Raises:
        InvalidInputError: No such set or shot, or no version of it waits.
        RefusedError: The set is retired.
        LostRaceError: Somebody else is changing the set.
    """
    with changing(site_golden, set_name, wait_seconds=wait_seconds) as golden_set:
        scored = () if pending_only else golden_set.shots
        gone = [ref for ref in (*scored, *(golden_set.pending or ())) if ref.shot == shot]
        if not gone:
            raise _no_such_shot(golden_set, shot, (*scored, *(golden_set.pending or ())), waits=pending_only)
        retired = (_retired(ref, reason, by, now) for ref in gone)
        changed = next_version(
            golden_set,
            by=by,
            at=format_time(now),
            shots=tuple(ref for ref in golden_set.shots if ref not in gone),
            pending=_some(ref for ref in golden_set.pending or () if ref not in gone),
            retired_shots=(*(golden_set.retired_shots or ()), *retired),
        )
        write_set(site_golden, changed)
    return changed


def retire_set(
    site_golden: Path, set_name: str, *, reason: str, by: str, now: datetime, wait_seconds: float = LOCK_SECONDS
) -> GoldenSet:
    """Take a whole set out of use for ever: no check runs on it, and nobody changes it any more.

    Raises:
        InvalidInputError: No such set.
        RefusedError: The set is retired already.
        LostRaceError: Somebody else is changing the set.
    """
    with changing(site_golden, set_name, wait_seconds=wait_seconds) as golden_set:
        changed = next_version(golden_set, by=by, at=format_time(now), retired=reason)
        write_set(site_golden, changed)
    return changed


def approval_of(name: str, note: str | None, *, by: str, now: datetime) -> Approval:
    """An approval by a person.

    Raises:
        InvalidInputError: `name` is empty, an account, or not one line; or `note` is empty.
    """
    person = check_person("approval", name, by=by, looked_at="the mattes")
    if note is not None and (not note.strip() or _CONTROL.search(note)):
        raise InvalidInputError(
            "approval",
            where="note",
            expected="some words, without control characters",
            actual=ascii(note),
            remedy="say something, or give no note",
        )
    return Approval(name=person, at=format_time(now), by=by, note=note)


def check_person(rule: str, name: str, *, by: str, looked_at: str) -> str:
    """The name of a person who answers for something, without the spaces around it.

    Args:
        rule: What the person does, for the message.
        name: What was given.
        by: The account that runs the command, whose name is no person's.
        looked_at: What the person must have seen, for the message.

    Raises:
        InvalidInputError: It is empty, an account, too long, or not one line.
    """
    person = name.strip()
    accounts = {by, by.partition("@")[0]} if "@" in by else set()
    if not person.isprintable() or not 0 < len(person) <= _LONGEST_NAME or "@" in person or person in accounts:
        raise InvalidInputError(
            rule,
            where="name",
            expected='the name of a person, such as "Jane Doe"',
            actual=ascii(name) if len(name) <= _LONGEST_NAME else f"{len(name)} characters",
            remedy=f"name the person who looked at {looked_at}; the account is recorded beside it",
        )
    return person


def waiting(golden_set: GoldenSet) -> tuple[ShotRef, ...]:
    """What waits for an approval: the pending shots, and those that are scored since before there were approvals."""
    pending = golden_set.pending or ()
    named = {ref.shot for ref in pending}
    return (*pending, *(ref for ref in golden_set.shots if ref.approval is None and ref.shot not in named))


def with_pending(golden_set: GoldenSet, ref: ShotRef) -> dict[str, object]:
    """The fields of a set in which `ref` waits, in the place of what waited for that shot before."""
    return {"pending": _replaced(golden_set.pending or (), ref)}


def with_approved(golden_set: GoldenSet, refs: Sequence[ShotRef]) -> dict[str, object]:
    """The fields of a set in which `refs` are scored, each in the place of its version before, or at the end."""
    shots = golden_set.shots
    for ref in refs:
        shots = _replaced(shots, ref)
    approved = {ref.shot for ref in refs}
    return {"shots": shots, "pending": _some(ref for ref in golden_set.pending or () if ref.shot not in approved)}


def _named(golden_set: GoldenSet, shots: Sequence[str]) -> tuple[ShotRef, ...]:
    """What waits of the shots that a person named, or all of it.

    Raises:
        InvalidInputError: One of them does not wait.
    """
    found = waiting(golden_set)
    names = {ref.shot for ref in found}
    for shot in shots:
        if shot not in names:
            raise _no_such_shot(golden_set, shot, found, waits=True)
    return tuple(ref for ref in found if not shots or ref.shot in shots)


def _check_same(golden_set: GoldenSet, seen: Sequence[ShotRef]) -> None:
    """See that what was hashed is what waits now, under the lock."""
    now = waiting(golden_set)
    for ref in seen:
        if ref not in now:
            raise LostRaceError(
                "approval",
                where=f"{golden_set.name}/{ref.shot}",
                expected=f"version {ref.version} to wait, as it did a moment ago",
                actual=_state(golden_set, ref.shot),
                remedy=f"look again with changeover golden show {golden_set.name} {ref.shot}, then approve",
            )


def _state(golden_set: GoldenSet, shot: str) -> str:
    """Where a shot stands in its set, for a person."""
    for ref in golden_set.pending or ():
        if ref.shot == shot:
            return f"version {ref.version} waiting"
    for ref in golden_set.shots:
        if ref.shot == shot:
            return f"version {ref.version} approved" + (f" by {ref.approval.name}" if ref.approval else " by nobody")
    retired = [one for one in golden_set.retired_shots or () if one.shot == shot]
    return f"version {retired[-1].version} retired: {retired[-1].reason}" if retired else "no such shot"


def _no_such_shot(golden_set: GoldenSet, shot: str, there: Sequence[ShotRef], *, waits: bool) -> InvalidInputError:
    names = ", ".join(ref.shot for ref in there)
    kind = "a shot that waits for approval" if waits else "a shot of the set"
    return InvalidInputError(
        "golden shot",
        where=f"{golden_set.name}/{shot}",
        expected=f"{kind} ({names or 'there is none'})",
        actual=_state(golden_set, shot),
        remedy=f"see changeover golden show {golden_set.name}",
    )


def _retired(ref: ShotRef, reason: str, by: str, now: datetime) -> RetiredShot:
    return RetiredShot(shot=ref.shot, version=ref.version, digest=ref.digest, reason=reason, by=by, at=format_time(now))


def _replaced(refs: Sequence[ShotRef], fresh: ShotRef) -> tuple[ShotRef, ...]:
    """`fresh` in the place of the same shot's reference, or at the end."""
    known = any(ref.shot == fresh.shot for ref in refs)
    replaced = tuple(fresh if ref.shot == fresh.shot else ref for ref in refs)
    return replaced if known else (*replaced, fresh)


def _some(refs: Iterable[ShotRef]) -> tuple[ShotRef, ...] | None:
    """The references, or nothing at all where there is none: an absent field keeps a record's digest."""
    return tuple(refs) or None
