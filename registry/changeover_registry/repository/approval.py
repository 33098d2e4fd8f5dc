"""Signing what waits: showing it, adding a signature, taking it back.

Whoever signs must have seen what holds now and what would: an entry that was filed before the scope moved is stale,
and nobody signs it. One person signs once, with whatever keys. Left out: whether a release may be chosen, which the
caller's `check` says.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, LostRaceError, TrustError
from changeover_registry.records.choice import Choice, Entry, Pending
from changeover_registry.repository import backs, metadata, pending
from changeover_registry.repository.backs import Effective
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.pending import Written
from changeover_registry.repository.reached import Reached, anchor_bytes, read_reached
from changeover_registry.repository.scopes import check_enrolled, locked, lost, role_of, winner, writing
from changeover_registry.signing import load_signer

__all__ = ["Signature", "Waiting", "approve", "publish", "reject", "signers_of", "tidy", "waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry that waits, as whoever may sign it must see it.

    `holds` is what holds of its scope now (None before the first choice); `error` says why nobody can sign it, `entry`
    is None where that is because it cannot be read.
    """

    name: str
    entry: Pending | None
    holds: Effective | None = None
    tally: pending.Tally | None = None
    error: ChangeoverError | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signs an entry, when and, where it is said, why."""

    who: str
    now: datetime
    why: str | None = None

    def entry(self, what: str) -> Entry:
        """The line that is kept of it."""
        return Entry(who=self.who, when=format_time(self.now), why=self.why or "approved", what=what)


def waiting(folder: Path, keys: StudioKeys) -> tuple[Waiting, ...]:
    """Every entry that waits for signatures, verified; one that is not as it should be is shown with its error.

    Raises:
        InvalidInputError: There is no repository, or no trusted root.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(folder, anchor_bytes(keys.anchor))
    return tuple(_waiting(folder, reached, name) for name in pending.names(folder))


def approve(
    folder: Path,
    keys: StudioKeys,
    name: str,
    check: Callable[[Pending, Effective | None], None],
    by: Signature,
) -> Written:
    """Add the signature of `keys.promoter` to an entry; with the last one that is missing, it is chosen.

    Without the site's key it is then decided and not yet said: readers see it once whoever has that key writes.

    Args:
        folder: The choice's repository.
        keys: Of these `promoter` signs and, where it is there, `site`.
        name: The entry: ``site/8``.
        check: Given the entry and what holds of its scope, raises where its signer may not sign it.
        by: Who signs.

    Raises:
        InvalidInputError: There is no such entry.
        TrustError: It is not what its place says, a signature in it is wrong, this key may not sign for the scope, or
            its owner has signed it.
        LostRaceError: The scope has moved since it was filed, or somebody else is writing.
        OSError: The folder cannot be written; what held before holds.
    """
    found = pending.load(folder, name)
    scope = found.choice.scope
    with writing(folder, keys, scope, by.now) as reached:
        found = pending.load(folder, name)
        check_enrolled(reached, role_of(scope))
        holds = backs.stand(folder, reached, scope)
        if holds and holds.signed.digest() == found.choice.digest():
            tidy(folder, holds.signed)
            return Written(found.choice, reached=keys.site.is_file())
        _check_fresh(folder, found, holds)
        (signer,) = signers_of(reached, role_of(scope), (keys.promoter,))
        _check_another(found, pending.tally(found, reached.targets), reached, signer)
        check(found, holds)
        signed = pending.add_signature(found, signer, by.who, by.why, by.now)
        tally = pending.tally(signed, reached.targets)
        if not tally.complete:
            pending.file(folder, signed, again=True)
            return Written(signed.choice, name, tally.missing)
        said = publish(folder, keys, reached, signed, by.now)
        pending.settle(folder, signed, "chosen", by.entry("approve"))
    return Written(signed.choice, reached=said)


def reject(folder: Path, name: str, by: Signature) -> Pending | None:
    """Take an entry back, so that nobody signs it; what was filed is kept below ``settled/``.

    What cannot be read as an entry is removed, and answered with None.

    Raises:
        InvalidInputError: There is no such entry.
        LostRaceError: Another process is writing.
        OSError: The folder cannot be written.
    """
    with locked(folder, "site"):
        try:
            found = pending.load(folder, name)
        except TrustError:
            found = None
        except ChangeoverError:
            if not pending.discard(folder, name):
                raise
            return None
        if found is None:
            pending.discard(folder, name)
            return None
        pending.settle(folder, found, "rejected", by.entry("reject"))
    return found


def publish(folder: Path, keys: StudioKeys, reached: Reached, entry: Pending, now: datetime) -> bool:
    """Create the role file and, with the site's key, have the timestamp reach it; whether readers see it."""
    data, file = pending.publishable(entry)
    change = Change(data, (file,))
    online = load_signer(keys.site) if keys.site.is_file() else None
    try:
        metadata.write(folder, reached, change, online, now, exclusively=True)
    except FileExistsError as error:
        raise lost(folder, entry.choice.scope, winner(folder, reached, file), "wrote it first") from error
    return online is not None


def tidy(folder: Path, head: Choice) -> None:
    """Settle the entry that became `head`, where whoever chose it was killed before that.

    Raises:
        OSError: The folder cannot be written.
    """
    name = pending.entry_name(head)
    if name in pending.names(folder):
        with contextlib.suppress(ChangeoverError):
            entry = pending.load(folder, name)
            if entry.choice.digest() == head.digest():
                pending.settle(folder, entry, "chosen", head.entry)


def signers_of(reached: Reached, role: str, paths: Sequence[Path]) -> list[Signer]:
    """The keys at these places, each of which may sign for the role.

    Raises:
        InvalidInputError: There is no key.
        TrustError: One may not.
    """
    signers = [load_signer(path) for path in paths]
    named = reached.targets.get_delegated_role(role)
    strays = [signer.public_key.keyid[:12] for signer in signers if signer.public_key.keyid not in named.keyids]
    if strays:
        raise TrustError(
            "signing key",
            where=f"role {role}",
            expected=f"{named.threshold} of the keys {', '.join(key[:12] for key in named.keyids)}",
            actual=", ".join(strays),
            remedy="give the key (or keys) that the repository names for this role; nothing was written",
        )
    return signers


def _waiting(folder: Path, reached: Reached, name: str) -> Waiting:
    try:
        entry = pending.load(folder, name)
    except (ChangeoverError, OSError) as error:
        return Waiting(name, None, error=_as_error(name, error))
    try:
        check_enrolled(reached, role_of(entry.choice.scope))
        holds = backs.stand(folder, reached, entry.choice.scope)
        tally = pending.tally(entry, reached.targets)
        _check_fresh(folder, entry, holds)
    except ChangeoverError as error:
        return Waiting(name, entry, error=error)
    return Waiting(name, entry, holds, tally)


def _as_error(name: str, error: ChangeoverError | OSError) -> ChangeoverError:
    if isinstance(error, ChangeoverError):
        return error
    return TrustError(
        "entry", where=name, expected="a file that can be read", actual=str(error), remedy="mend its permission"
    )


def _check_fresh(folder: Path, entry: Pending, holds: Effective | None) -> None:
    """An entry is signed for what its author saw; whatever the scope did since, somebody must look at again."""
    head = holds.signed if holds else None
    expected = (head.number + 1, head.digest()) if head else (1, None)
    stands = holds.back.number if holds and holds.back else None
    name = pending.entry_name(entry.choice)
    if (entry.choice.number, entry.choice.previous) == expected and entry.back == stands:
        return
    newest = f"choice {head.number} of {head.scope} by {head.entry.who} ({head.entry.what})" if head else "no choice"
    after = f", returned by back {stands}" if stands else ""
    raise LostRaceError(
        "entry",
        where=f"{folder}: pending/{name}",
        expected=f"an entry that builds on {newest}{after}",
        actual=f"a stale one: {entry.choice.entry.what}, by {entry.choice.entry.who} at {entry.choice.entry.when}",
        remedy=f"take it back (changeover approve {name} --reject --reason ...) and write it again; nothing was signed",
    )


def _check_another(entry: Pending, tally: pending.Tally, reached: Reached, signer: Signer) -> None:
    """One person signs once: neither with the same key again, nor with a second one."""
    mine = reached.targets.get_key(signer.public_key.keyid)
    owners = {keyid: pending.owner_of(key) for keyid, key in tally.signed.items()}
    mates = [a for a in entry.signatures if a.key_id == mine.keyid or owners.get(a.key_id) == pending.owner_of(mine)]
    if mates:
        name = pending.entry_name(entry.choice)
        raise TrustError(
            "approval",
            where=f"pending/{name}",
            expected=tally.missing or "the signature of another promoter",
            actual=f"a second one by {pending.owner_of(mine)}, who has signed it with key {mates[0].key_id[:12]}",
            remedy="nobody approves what they signed themselves; ask another promoter",
        )
