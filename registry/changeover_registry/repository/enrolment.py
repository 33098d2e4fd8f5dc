"""Whose keys sign for a scope: enrolling, revoking, and how many of them it takes.

The top-level targets role, whose key is offline, names each scope's keys and threshold. A role file that was signed
before must also hold after: `rekey` therefore has the scope's newest choice signed again, by keys that count before and
after, and writes that first. A kill between any two writes leaves a repository that verifies whole.

Where the keys that are here do not suffice for that, the choice is filed to be signed by others, and the keys stay as
they are until it is. Left out: the key of snapshot and timestamp (`rotation`), and verdict keys, which a choice names.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Targets

from changeover_registry.errors import InvalidInputError, RefusedError, TrustError
from changeover_registry.records.choice import Choice, Entry, Pending
from changeover_registry.repository import backs, metadata, pending
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import Change, RoleFile
from changeover_registry.repository.pending import OWNER, Written, owner_of
from changeover_registry.repository.reached import Reached, anchor_bytes, read_reached, read_role
from changeover_registry.repository.scopes import (
    back_role,
    check_enrolled,
    is_back,
    numbered,
    role_of,
    scope_of,
    writing,
)
from changeover_registry.signing import load_signer

__all__ = [
    "Anew",
    "Held",
    "Rekeying",
    "delegated",
    "enrol_scope",
    "held_keys",
    "key_entries",
    "owned",
    "rekey",
    "too_few",
]


@dataclass(frozen=True, slots=True)
class Rekeying:
    """What is to change in a scope's keys.

    `promoters` and `backs` are enrolled, `revoked` are ids of keys that lose both; `threshold` is how many promoters
    must sign from then on (None: as many as before). `entry` is kept with it: who, when, why.
    """

    promoters: tuple[Key, ...] = ()
    backs: tuple[Key, ...] = ()
    revoked: frozenset[str] = field(default_factory=frozenset)
    threshold: int | None = None
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Anew:
    """How a scope's choice is signed again, where its signatures would not hold any more.

    `choice` answers with what holds once more, with who does this and why; `co_signers` are private keys of further
    promoters.
    """

    choice: Callable[[Choice], Choice]
    co_signers: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """One key of one role: `expires` is when the metadata that it signed does; None where it has signed none."""

    scope: str
    role: str
    owner: str
    key_id: str
    threshold: int
    expires: datetime | None


def owned(key: Key, owner: str) -> Key:
    """`key` as it is enrolled: with the name of its owner."""
    return SSlibKey(key.keyid, key.keytype, key.scheme, dict(key.keyval), {OWNER: owner})


def delegated(targets: Targets, scope: str, promoters: Sequence[Key], threshold: int, now: datetime) -> Targets:
    """The next version of `targets` (the first, where nothing is delegated), with a scope and its way back."""
    again = metadata.renewed(targets, "targets", now) if targets.delegations else targets
    metadata.delegate(again, role_of(scope), f"{scope}/*", promoters, threshold)
    metadata.delegate(again, back_role(scope), f"{scope}/back/*", promoters, 1)
    return again


def enrol_scope(
    folder: Path, keys: StudioKeys, scope: str, now: datetime, *, promoters: Sequence[Key] = (), threshold: int = 1
) -> None:
    """Let a scope choose: delegate its role. It has no choice until its first `write`; enrolled again, nothing happens.

    Args:
        folder: The choice's repository.
        keys: Of these `targets` and `site` sign.
        scope: ``shows/<show>``.
        now: The moment of signing.
        promoters: The public keys that may sign for the scope; `keys.promoter` alone if there are none.
        threshold: How many of them must sign.

    Raises:
        InvalidInputError: `scope` is no scope, or a key is missing.
        TrustError: The repository was changed by somebody else, or a key is not the one that it names.
        LostRaceError: Another process is writing.
        OSError: The folder cannot be written.
    """
    role = role_of(scope)
    with writing(folder, keys, scope, now) as reached:
        if role in reached.delegated():
            return
        keyring = promoters or (_as_known(reached, load_signer(keys.promoter).public_key),)
        targets = delegated(reached.targets, scope, keyring, threshold, now)
        file = metadata.role_file("targets", targets, reached.root, [load_signer(keys.targets)])
        metadata.write(folder, reached, Change({}, (file,)), load_signer(keys.site), now, exclusively=True)


def rekey(folder: Path, keys: StudioKeys, scope: str, what: Rekeying, anew: Anew, now: datetime) -> Written | None:
    """Change who signs for a scope.

    Args:
        folder: The choice's repository.
        keys: Of these `targets` and `site` sign; `promoter`, where the scope's newest choice must be signed again.
        scope: ``site`` or ``shows/<show>``.
        what: The change.
        anew: How the scope's choice is signed again, if it must be.
        now: The moment of signing.

    Returns:
        The choice that was signed again, or that waits for signatures: then the keys are as they were, and this is to
        be called again once it has them. None where every signature still holds.

    Raises:
        InvalidInputError: The scope is not enrolled, a key is missing, or a key to revoke is not enrolled.
        RefusedError: There would be fewer keys than the threshold.
        TrustError: A key is not the one that the repository names, or the repository was changed by somebody else.
        LostRaceError: Another process is writing, or another choice waits for signatures.
        OSError: The folder cannot be written.
    """
    role = role_of(scope)
    with writing(folder, keys, scope, now) as reached:
        check_enrolled(reached, role)
        targets = _rekeyed(reached, scope, what, now)
        top = metadata.role_file("targets", targets, reached.root, [load_signer(keys.targets)])
        online, files, written = load_signer(keys.site), [top], None
        data: dict[str, bytes] = {}
        if not _still_signed(folder, reached, role, targets):
            holds = backs.stand(folder, reached, scope)
            proposed = _proposed(holds, keys, targets, what, anew, now)
            if not all(_enough(proposed, named) for named in (reached.targets, targets)):
                return _filed(folder, proposed, reached.targets)
            data, file = pending.publishable(proposed)
            files.insert(0, file)
            written = Written(proposed.choice)
        if not _still_signed(folder, reached, back_role(scope), targets):
            target, file = _back_again(folder, keys, scope, reached, targets, now)
            files.insert(0, file)
            data |= target
        # The top role last: what was signed again holds under the old keys and the new ones, what it was signed in
        # place of under the old keys alone.
        metadata.write(folder, reached, Change(data, tuple(files)), online, now, exclusively=True)
    return written


def held_keys(folder: Path, keys: StudioKeys) -> tuple[Held, ...]:
    """Every key that signs something in the choice, top roles first.

    Raises:
        InvalidInputError: There is no repository, or no trusted root.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(folder, anchor_bytes(keys.anchor))
    top = [held for role in ("root", "targets", "snapshot", "timestamp") for held in _held_at_the_top(reached, role)]
    return (*top, *(held for role in reached.delegated() for held in _held(reached, role)))


def key_entries(folder: Path, root: bytes) -> tuple[tuple[int, Entry], ...]:
    """Who changed the scopes' keys, when and why, by the version of the targets role that says so, oldest first.

    Raises:
        InvalidInputError: There is no repository.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(folder, root)
    found: list[tuple[int, Entry]] = []
    for version in range(1, reached.version("targets") + 1):
        with contextlib.suppress(TrustError, ValidationError):
            signed = read_role(folder, "targets", version, reached.root)
            if entry := signed.unrecognized_fields.get(metadata.ENTRY):
                found.append((version, Entry.model_validate(entry)))
    return tuple(found)


def _held_at_the_top(reached: Reached, role: str) -> list[Held]:
    root = reached.root
    signed = {"root": root, "targets": reached.targets, "snapshot": reached.snapshot, "timestamp": reached.timestamp}
    named, expires = root.roles[role], signed[role].expires
    return [Held("all", role, owner_of(root.get_key(keyid)), keyid, named.threshold, expires) for keyid in named.keyids]


def _held(reached: Reached, role: str) -> list[Held]:
    named, signed = reached.targets.get_delegated_role(role), reached.roles.get(role)
    kind = "back" if is_back(role) else "promoter"
    expires = signed.expires if signed else None
    return [
        Held(scope_of(role), kind, owner_of(reached.targets.get_key(keyid)), keyid, named.threshold, expires)
        for keyid in named.keyids
    ]


def _as_known(reached: Reached, key: Key) -> Key:
    """`key` with the owner under whom it is enrolled elsewhere."""
    known = reached.targets.delegations.keys if reached.targets.delegations else {}
    return known.get(key.keyid, key)


def _rekeyed(reached: Reached, scope: str, what: Rekeying, now: datetime) -> Targets:
    """The next targets role, in which the scope's keys are as they shall be."""
    targets = metadata.renewed(reached.targets, "targets", now)
    if what.entry is not None:
        targets.unrecognized_fields[metadata.ENTRY] = what.entry.model_dump(mode="json")
    role, back = role_of(scope), back_role(scope)
    old = targets.get_delegated_role(role)
    promoters = _changed(targets, old.keyids, what.promoters, what.revoked)
    before = targets.get_delegated_role(back).keyids if back in reached.delegated() else old.keyids
    for_back = _changed(targets, before, (*what.promoters, *what.backs), what.revoked)
    strays = what.revoked - {*old.keyids, *before}
    if strays:
        raise _not_enrolled(scope, strays, [*old.keyids, *before])
    threshold = old.threshold if what.threshold is None else what.threshold
    if not 1 <= threshold <= len(promoters):
        raise too_few(scope, threshold, len(promoters))
    metadata.delegate(targets, role, f"{scope}/*", promoters, threshold)
    metadata.delegate(targets, back, f"{scope}/back/*", for_back, 1)
    return targets


def _changed(targets: Targets, keyids: Sequence[str], new: Sequence[Key], revoked: frozenset[str]) -> list[Key]:
    added = {key.keyid: key for key in new}
    kept = {keyid: targets.get_key(keyid) for keyid in keyids}
    return [key for keyid, key in {**kept, **added}.items() if keyid not in revoked]


def _still_signed(folder: Path, reached: Reached, role: str, targets: Targets) -> bool:
    """Whether the newest file of a role, if there is one, has the signatures that `targets` asks for."""
    if role not in reached.roles:
        return True
    path = RoleFile(role, reached.version(role), b"").path(folder)
    signed = Metadata[Targets].from_bytes(path.read_bytes())
    return targets.get_verification_result(role, signed.signed_bytes, signed.signatures).verified


def _proposed(
    holds: "backs.Effective | None", keys: StudioKeys, targets: Targets, what: Rekeying, anew: Anew, now: datetime
) -> Pending:
    """The scope's choice once more, with the signatures of every key here that counts afterwards."""
    if holds is None:
        message = "a role without a choice has no signature that could stop holding"
        raise RuntimeError(message)
    scope = holds.signed.scope
    new = numbered(anew.choice(holds.choice), scope, holds.signed)
    named = targets.get_delegated_role(role_of(scope))
    here = [load_signer(path) for path in (keys.promoter, *anew.co_signers)]
    signers = [signer for signer in here if signer.public_key.keyid in named.keyids]
    if not signers:
        raise TrustError(
            "signing key",
            where=f"role {role_of(scope)}",
            expected=f"one of the keys that remain: {', '.join(key[:12] for key in named.keyids)}",
            actual=", ".join(signer.public_key.keyid[:12] for signer in here),
            remedy="run this where a promoter's key is that stays, or name it with --with; nothing was written",
        )
    stands = holds.back.number if holds.back else None
    return pending.propose(new, signers, now, back=stands, wants=named.threshold, without=sorted(what.revoked))


def _enough(proposed: Pending, targets: Targets) -> bool:
    named = targets.get_delegated_role(role_of(proposed.choice.scope))
    return len({approval.key_id for approval in proposed.signatures} & set(named.keyids)) >= named.threshold


def _filed(folder: Path, proposed: Pending, targets: Targets) -> Written:
    """File a choice without signatures by keys that are not enrolled yet, which nobody could verify."""
    named = targets.get_delegated_role(role_of(proposed.choice.scope)).keyids
    known = tuple(approval for approval in proposed.signatures if approval.key_id in named)
    waits = proposed.model_copy(update={"signatures": known})
    pending.file(folder, waits)
    return Written(waits.choice, pending.entry_name(waits.choice), pending.tally(waits, targets).missing)


def _back_again(
    folder: Path, keys: StudioKeys, scope: str, reached: Reached, targets: Targets, now: datetime
) -> tuple[dict[str, bytes], RoleFile]:
    """The scope's way back once more, which holds under the old keys and the new ones."""
    old = backs.newest(folder, reached, scope)
    if old is None:
        message = "a role without a back has no signature that could stop holding"
        raise RuntimeError(message)
    link = {"number": old.number + 1, "previous": old.digest()}
    data, file = backs.signed_back(old.model_copy(update=link), targets, keys, now)
    return data, metadata.check_signed(file, reached.targets)


def _not_enrolled(scope: str, strays: frozenset[str], known: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        "key",
        where=scope,
        expected=f"a key that signs for it: {', '.join(sorted({key[:12] for key in known})) or 'none'}",
        actual=", ".join(sorted(key[:12] for key in strays)) or "none",
        remedy="see them with: changeover keys list",
    )


def too_few(scope: str, threshold: int, promoters: int) -> RefusedError:
    """What is said of a threshold that so many promoters cannot reach."""
    return RefusedError(
        "threshold",
        where=scope,
        expected=f"at least {max(threshold, 1)} promoters' keys, as many as must sign",
        actual=f"{promoters}" if threshold > 0 else f"a threshold of {threshold}",
        remedy="enrol another promoter's key first (changeover keys enrol), or name a lower --threshold",
    )
