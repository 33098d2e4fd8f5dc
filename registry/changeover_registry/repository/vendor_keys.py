"""Who signs a vendor's repository: new keys, further ones, fewer ones, and how many must sign; studios follow by sync.

Each is a change like any other: signed by the keys that are here, written if that is enough, else waiting for other
holders. A rotation makes the new key beside the old one (or takes one that is elsewhere) and puts it in the old one's
place once the repository names it; killed at any moment it is run again and goes on with the same key.

A new online key believes nothing of the old one: the snapshot is made from the role files on the disk, the newest of
each that its own keys signed (`rotation`). Left out: whoever has lost the root gives studios another root by hand.
"""

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Snapshot, Timestamp

from changeover_registry._fs import lock, write_atomic
from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.repository import metadata, rotation, vendor_change, vendor_draft, vendor_terms, vendor_waiting
from changeover_registry.repository.keys import VendorKeys, made_beside, next_place
from changeover_registry.repository.metadata import RoleFile, RootFile
from changeover_registry.repository.reached import (
    Reached,
    anchor_bytes,
    check_is_repository,
    newest_root,
    read_reached,
)
from changeover_registry.repository.vendor_draft import Draft
from changeover_registry.repository.vendor_terms import Edit, KeyRole
from changeover_registry.signing import load_signer

__all__ = ["HeldByVendor", "add", "held_keys", "remove", "renewals", "rotate", "set_threshold", "sign"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to change: whose keys (of ``release``, perhaps of some models alone), how, and in words."""

    role: KeyRole
    edit: Edit
    what: str
    models: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class HeldByVendor:
    """One key of one role of a vendor's repository, how many must sign it, and when what they signed expires."""

    role: str
    key_id: str
    threshold: int
    expires: datetime


def held_keys(folder: Path, keys: VendorKeys) -> tuple[HeldByVendor, ...]:
    """Every key that signs something in the repository, top roles first.

    Raises:
        InvalidInputError: There is no repository, or no trusted root.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(folder, anchor_bytes(keys.anchor))
    root = reached.root
    expires = {
        "root": root.expires,
        "targets": reached.targets.expires,
        "snapshot": reached.snapshot.expires,
        "timestamp": reached.timestamp.expires,
    }
    top = [(role, root.roles[role], expires[role]) for role in expires]
    models = [
        (role, reached.targets.get_delegated_role(role), reached.roles[role].expires) for role in _models(reached)
    ]
    return tuple(
        HeldByVendor(role, key, named.threshold, when) for role, named, when in (*top, *models) for key in named.keyids
    )


def rotate(folder: Path, keys: VendorKeys, role: KeyRole, now: datetime, *, new: Path | None = None) -> str:
    """Have a new key sign in the place of the one of `role` that is here, and return its id.

    Args:
        folder: The repository.
        keys: Of these the old one of `role` is replaced; those that must sign the change have to be at hand.
        role: Which.
        now: The moment of signing.
        new: A private key, or a record of one that is elsewhere, to be taken instead of a new one made here.

    Raises:
        InvalidInputError: A key that must sign is not here.
        RefusedError: A rotation to another key than `new` is under way, or the key signs for the role already.
        WaitsError: Other holders must sign first; called again once they have, it puts the new key in place.
        TrustError: A key is not the repository's, or the repository was changed by somebody else.
        LostRaceError: Another process is writing, or another change waits.
        OSError: The folder or the key's place cannot be written.
    """
    place: Path = getattr(keys, role)
    with _writing(folder, keys, role) as (reached, disk):
        if place in _settled(reached, keys):
            settled = load_signer(place).public_key.keyid
            if new is None or load_signer(new).public_key.keyid == settled:
                return settled
        _need_signers(keys, role)
        old = load_signer(place).public_key.keyid
        _check_signs(reached, role, old)
        if new is not None:
            # Before it stands beside the old one, where the next rotation would take it up.
            _check_is_new(reached, role, load_signer(new).public_key)
        key = made_beside(place, new).public_key
        _check_is_new(reached, role, key)
        wish = _Wish(role, vendor_terms.without_key(old, key), f"{role}: key {old[:12]} gives way to {key.keyid[:12]}")
        _carry_out(folder, keys, reached, wish, now, disk)
        _settled(_read(folder, keys), keys)
        return key.keyid


def add(
    folder: Path, keys: VendorKeys, role: KeyRole, key: Key, now: datetime, models: Collection[str] | None = None
) -> bool:
    """Have one key more sign a role; whether that changed anything. Errors as `rotate`.

    Raises:
        RefusedError: There is no model yet for which a release key could count.
    """
    return _edit(
        folder,
        keys,
        _Wish(role, vendor_terms.with_key(key), f"{role}: key {key.keyid[:12]} signs as well", models),
        now,
    )


def remove(
    folder: Path, keys: VendorKeys, role: KeyRole, key_id: str, now: datetime, models: Collection[str] | None = None
) -> bool:
    """Have a key sign a role no more; whether that changed anything. Errors as `rotate`.

    Args:
        folder: The repository.
        keys: Those that must sign the change have to be at hand.
        role: Which.
        key_id: The key's id, or the beginning of it.
        now: The moment of signing.
        models: Of ``release``, for which models; None for all.

    Raises:
        InvalidInputError: No key of the role, or several, have an id that begins so.
        RefusedError: Fewer keys would be left than must sign.
    """
    reached = _read(folder, keys)
    known = {one: None for terms in vendor_terms.standing(reached, role, models) for one in terms.key_ids}
    found = [one for one in known if one.startswith(key_id)]
    if len(found) != 1:
        raise InvalidInputError(
            "key",
            where=key_id,
            expected=f"the id of one key of {role}: {', '.join(one[:12] for one in known) or 'none'}",
            actual=f"{len(found)} of them",
            remedy="see them with: changeover vendor keys list",
        )
    return _edit(
        folder,
        keys,
        _Wish(role, vendor_terms.without_key(found[0]), f"{role}: key {found[0][:12]} signs no more", models),
        now,
    )


def set_threshold(
    folder: Path, keys: VendorKeys, role: KeyRole, threshold: int, now: datetime, models: Collection[str] | None = None
) -> bool:
    """Have so many keys sign a role; whether that changed anything. Errors as `rotate`.

    Raises:
        RefusedError: The role has fewer keys, or is signed unattended.
    """
    return _edit(
        folder, keys, _Wish(role, vendor_terms.with_threshold(threshold), f"{role}: {threshold} must sign", models), now
    )


def sign(folder: Path, keys: VendorKeys, path: Path, now: datetime) -> Draft:
    """Add the signatures of the keys here to a change that waits, and write it if that completes it.

    Args:
        folder: The repository.
        keys: Every key that is at hand signs where it may.
        path: The change's file: where changes wait, or a copy that came back from another holder.
        now: The moment of signing.

    Raises:
        InvalidInputError: It is no such file.
        WaitsError: It still lacks signatures; what was added is kept.
        LostRaceError: The repository has moved since, or another process is writing.
        TrustError: No valid signature is on it, or the online key is not here.
        OSError: The folder cannot be written.
    """
    with _writing(folder, keys, "targets") as (reached, _):
        done = vendor_change.prepare(folder, reached, vendor_waiting.read_draft(path), keys.at_hand())
        vendor_change.finish(folder, reached, done, keys.online_signers(), now)
        _settled(_read(folder, keys), keys)
        return done


def renewals(
    folder: Path, keys: VendorKeys, reached: Reached, now: datetime
) -> tuple[RootFile | None, tuple[RoleFile, ...], tuple[str, ...]]:
    """Root, targets and models' roles that have used half of their life, signed again by the keys that are at hand.

    Returns:
        The root; the role files; and the names of changes that now wait for other holders' signatures.

    Raises:
        OSError: A change that waits cannot be put in place.
    """
    root: RootFile | None = None
    files: list[RoleFile] = []
    waits: list[str] = []
    for draft in _due(reached, now):
        held = next(iter(draft.files))
        signers = [one for one in keys.at_hand() if one.public_key.keyid in _may_sign(draft, reached, held)]
        if not signers:
            continue
        try:
            signed = vendor_change.prepare(folder, reached, draft, signers)
        except (InvalidInputError, UnreachableError) as error:
            if held not in {"root", "targets"}:
                raise
            # An offline key that does not answer today is asked again next week; the dates are signed all the same.
            _LOG.warning("%s was not renewed: %s", held, error)
            continue
        if vendor_draft.short_of(signed, reached):
            waits.append(_waits(folder, reached, signed))
            _LOG.warning("the renewal of %s waits for other holders: changeover vendor keys sign", held)
        elif held == "root":
            root = RootFile(signed.files[held].signed, vendor_draft.trimmed(signed, reached, held))
        else:
            data = vendor_draft.trimmed(signed, reached, held)
            files.append(RoleFile(held, signed.files[held].signed.version, data))
    return root, tuple(files), tuple(waits)


def _waits(folder: Path, reached: Reached, draft: Draft) -> str:
    with contextlib.suppress(LostRaceError):
        vendor_waiting.file(folder, reached, draft)
    # Where another change of that role waits, it renews the role as well.
    return draft.name


def _edit(folder: Path, keys: VendorKeys, wish: _Wish, now: datetime) -> bool:
    with _writing(folder, keys, wish.role) as (reached, disk):
        if wish.role == "release" and not reached.delegated():
            raise RefusedError(
                "model",
                where=str(folder),
                expected="a model, whose releases the key is to sign",
                actual="none yet",
                remedy="publish the first release with the key of this home, then add others",
            )
        changed = _carry_out(folder, keys, reached, wish, now, disk)
        _settled(_read(folder, keys), keys)
        return changed


def _carry_out(
    folder: Path, keys: VendorKeys, reached: Reached, wish: _Wish, now: datetime, disk: Sequence[RoleFile]
) -> bool:
    root, targets = vendor_terms.edited(reached, wish.role, wish.edit, now, wish.models)
    if root is None and targets is None:
        return False
    draft = vendor_draft.rekeyed(wish.what, reached, root, targets, now, folder)
    prepared = vendor_change.prepare(folder, reached, draft, keys.at_hand())
    vendor_change.finish(folder, reached, prepared, keys.online_signers(), now, also=disk)
    return True


@contextlib.contextmanager
def _writing(folder: Path, keys: VendorKeys, role: KeyRole) -> Iterator[tuple[Reached, tuple[RoleFile, ...]]]:
    """Hold the lock; what stands and, where the online key changes, the role files that the next snapshot names."""
    check_is_repository(folder)
    with lock(folder / "lock", what=f"the repository {folder}"):
        yield _from_disk(folder, keys) if role == "online" else (_read(folder, keys), ())


def _from_disk(folder: Path, keys: VendorKeys) -> tuple[Reached, tuple[RoleFile, ...]]:
    """The state that the role files on the disk show, whatever the online key says of them."""
    root = newest_root(folder, anchor_bytes(keys.anchor))
    roles, forged = rotation.newest_roles(folder, root)
    if forged:
        raise TrustError(
            "metadata",
            where=str(folder / "metadata"),
            expected="role files that their own keys signed",
            actual=", ".join(forged),
            remedy="find out who wrote them, remove them, and run this again; nothing was signed",
        )
    files = [RoleFile(role, signed.version, b"") for role, signed in roles.items()]
    files = [replace(file, data=file.path(folder).read_bytes()) for file in files]
    try:
        reached = replace(read_reached(folder, anchor_bytes(keys.anchor)), roles=roles)
    except TrustError:
        reached = Reached(root, Timestamp(), Snapshot(version=rotation.free_number(folder), meta={}), roles)
    return reached, tuple(files)


def _read(folder: Path, keys: VendorKeys) -> Reached:
    return read_reached(folder, anchor_bytes(keys.anchor))


def _settled(reached: Reached, keys: VendorKeys) -> tuple[Path, ...]:
    """Put each new key that the repository names by now in the old one's place; those places."""
    done = []
    for role in vendor_terms.ROLES:
        place: Path = getattr(keys, role)
        beside = next_place(place)
        if beside.is_file() and _named_instead(reached, role, place, load_signer(beside).public_key.keyid):
            write_atomic(place, beside.read_bytes(), mode=0o600)
            beside.unlink()
            done.append(place)
    return tuple(done)


def _named_instead(reached: Reached, role: KeyRole, place: Path, key_id: str) -> bool:
    standing = vendor_terms.standing(reached, role)
    if not standing:
        return True
    named = {one for terms in standing for one in terms.key_ids}
    here = load_signer(place).public_key.keyid if place.is_file() else ""
    return key_id in named and (here == key_id or here not in named)


def _need_signers(keys: VendorKeys, role: KeyRole) -> None:
    """Refuse before a key is made, where one that must sign is not here: root's, or for releases the targets key."""
    keys.signers(keys.targets if role == "release" else keys.root, getattr(keys, role))


def _check_is_new(reached: Reached, role: KeyRole, key: Key) -> None:
    named = {one for terms in vendor_terms.standing(reached, role) for one in terms.key_ids}
    if key.keyid in named:
        raise RefusedError(
            "new key",
            where=role,
            expected="a key that does not sign for it yet",
            actual=f"{key.keyid[:12]}, which does",
            remedy="name another key, or take the old one away: changeover vendor keys remove",
        )


def _check_signs(reached: Reached, role: KeyRole, old: str) -> None:
    standing = vendor_terms.standing(reached, role)
    named = {one: None for terms in standing for one in terms.key_ids}
    if standing and old not in named:
        raise TrustError(
            "signing key",
            where=f"role {role}",
            expected=f"one of the keys {', '.join(one[:12] for one in named)}",
            actual=old[:12],
            remedy="the key in this home does not sign for the repository; see: changeover vendor keys list",
        )


def _due(reached: Reached, now: datetime) -> list[Draft]:
    drafts = []
    if metadata.is_due("root", reached.root.expires, now):
        root: Root = metadata.renewed(reached.root, "root", now)
        drafts.append(vendor_draft.unsigned("renew root", now, {}, {}, root))
    for role, signed in reached.roles.items():
        if metadata.is_due(role, signed.expires, now):
            again = metadata.renewed(signed, role, now)
            drafts.append(vendor_draft.unsigned(f"renew {role}", now, {role: again}, {}))
    return drafts


def _may_sign(draft: Draft, reached: Reached, role: str) -> set[str]:
    return {key for keys in vendor_draft.named_for(draft, reached, role) for key in keys}


def _models(reached: Reached) -> list[str]:
    return [role for role in reached.delegated() if role in reached.roles]
