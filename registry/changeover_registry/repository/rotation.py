"""New top keys for a studio's choice; the online one above all, where that may have been stolen.

A new root or targets key is a change as vendors make them (`vendor_change`): what is written holds before and after,
and the root comes last. With a new online key that is not wanted: the root, whose key is offline, names the new key;
readers walk from the root that they were given to this one and throw away every timestamp and snapshot that they knew,
so that numbers which a thief drove up bind nobody. What the old key signed is not believed here either: the new
snapshot is made from the role files on the disk, the newest of each that its own keys signed.

Its order of writes: the new key beside the old one, the root, snapshot and timestamp, the new key in its place. Killed
between root and timestamp, readers refuse until this is called again; it then goes on with the same new key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from changeover_registry._fs import write_atomic
from changeover_registry.errors import TrustError
from changeover_registry.records.choice import Entry
from changeover_registry.repository import metadata, vendor_change, vendor_draft, vendor_terms
from changeover_registry.repository.keys import StudioKeys, made_beside, next_place
from changeover_registry.repository.metadata import RoleFile
from changeover_registry.repository.reached import Delegator, Reached, anchor_bytes, newest_root, read_role, read_target
from changeover_registry.repository.scopes import is_back, locked, scope_of, writing
from changeover_registry.signing import load_signer

__all__ = ["Rotated", "free_number", "newest_roles", "rotate_offline", "rotate_online"]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What stands after a rotation: the root's version, the new key's id, and the newest choice of each scope.

    Compare the numbers with what you know: whoever could write the folder may have taken the newest files away.
    `forged` names newer files that no key of their role signed; they stop the next writer until they are removed.
    """

    root: int
    key_id: str
    heads: tuple[tuple[str, int], ...]
    forged: tuple[str, ...] = ()


def rotate_online(folder: Path, keys: StudioKeys, entry: Entry, now: datetime, *, new: Path | None = None) -> Rotated:
    """Have a new key sign snapshot and timestamp of the choice, and put it in the place of the old one.

    Args:
        folder: The choice's repository.
        keys: Of these `root` signs; the new key comes to stand at `site`.
        entry: Who does it, when and why; kept in the root.
        now: The moment of signing.
        new: A private key, or a record of one that is elsewhere, to be taken instead of one made here.

    Raises:
        InvalidInputError: There is no repository, or no root key here.
        TrustError: The root key is not the repository's, or a role file was changed.
        LostRaceError: Another process is writing.
        OSError: The folder or the key's place cannot be written.
    """
    with locked(folder, "site"):
        signer, root = load_signer(keys.root), newest_root(folder, anchor_bytes(keys.anchor))
        online = made_beside(keys.site, new)
        if online.public_key.keyid not in root.roles["timestamp"].keyids:
            root = _write_root(folder, _next_root(root, online, entry, now), root, signer)
        roles, forged = newest_roles(folder, root)
        files = [RoleFile(role, signed.version, b"") for role, signed in roles.items()]
        files = [replace(file, data=file.path(folder).read_bytes()) for file in files]
        nothing = Reached(root, Timestamp(), Snapshot(version=free_number(folder), meta={}), {})
        metadata.reach(folder, nothing, files, online, now)
        _put_in_place(keys.site)
    heads = tuple((scope_of(r), signed.version) for r, signed in roles.items() if r != "targets" and not is_back(r))
    return Rotated(root.version, online.public_key.keyid, heads, forged)


def rotate_offline(
    folder: Path,
    keys: StudioKeys,
    role: Literal["root", "targets"],
    entry: Entry,
    now: datetime,
    *,
    new: Path | None = None,
) -> Rotated:
    """Have a new key sign as root, or as targets, and put it in the place of the old one.

    Args:
        folder: The choice's repository.
        keys: Of these `root` signs, the old key of `role` once more, and `site`.
        role: Which.
        entry: As `rotate_online`.
        now: The moment of signing.
        new: As `rotate_online`.

    Raises:
        InvalidInputError: A key that must sign is not here.
        TrustError: A key is not the repository's, or the repository was changed by somebody else.
        LostRaceError: Another process is writing.
        OSError: The folder or the key's place cannot be written.
    """
    place: Path = getattr(keys, role)
    with writing(folder, keys, "site", now) as reached:
        signers, key = [load_signer(keys.root), load_signer(place)], made_beside(place, new)
        root = reached.root
        if key.public_key.keyid not in root.roles[role].keyids:
            old = signers[1].public_key.keyid
            edit = vendor_terms.without_key(old, key.public_key)
            newer, _ = vendor_terms.edited(reached, role, edit, now)
            if newer is None:
                raise _not_its_key(role, old, root.roles[role].keyids)
            newer.unrecognized_fields[metadata.ENTRY] = entry.model_dump(mode="json")
            draft = vendor_draft.rekeyed(f"a new {role} key", reached, newer, None, now, folder)
            signed = vendor_change.prepare(folder, reached, draft, [*signers, key])
            vendor_change.write(folder, reached, signed, [load_signer(keys.site)], now)
            root = newer
        _put_in_place(place)
    heads = tuple((scope_of(r), one.version) for r, one in reached.roles.items() if r != "targets" and not is_back(r))
    return Rotated(root.version, key.public_key.keyid, heads)


def _put_in_place(place: Path) -> None:
    beside = next_place(place)
    write_atomic(place, beside.read_bytes(), mode=0o600)
    beside.unlink()


def _not_its_key(role: str, old: str, named: Sequence[str]) -> TrustError:
    return TrustError(
        "signing key",
        where=f"role {role}",
        expected=f"1 of the keys {', '.join(key[:12] for key in named)}",
        actual=old[:12],
        remedy="give the key that the repository names for this role; nothing was written",
    )


def _next_root(root: Root, online: Signer, entry: Entry, now: datetime) -> Root:
    newer = metadata.renewed(root, "root", now)
    newer.unrecognized_fields[metadata.ENTRY] = entry.model_dump(mode="json")
    for role in ("snapshot", "timestamp"):
        for keyid in tuple(newer.roles[role].keyids):
            newer.revoke_key(keyid, role)
        newer.add_key(online.public_key, role)
    return newer


def _write_root(folder: Path, newer: Root, root: Root, signer: Signer) -> Root:
    file = metadata.sign_root(newer, root, signer)
    write_atomic(folder / "metadata" / f"{newer.version}.root.json", file.data)
    return newer


def newest_roles(folder: Path, root: Root) -> tuple[dict[str, Targets], tuple[str, ...]]:
    """The newest file of each role that its keys signed, and the names of newer ones that they did not."""
    targets, forged = _newest(folder, "targets", root)
    if targets is None:
        raise TrustError(
            "metadata",
            where=str(folder / "metadata"),
            expected="a targets role that the root's keys signed",
            actual="none",
            remedy="take the folder back from a backup; nothing was signed",
        )
    roles = {"targets": targets}
    for role in (targets.delegations.roles or {}) if targets.delegations else {}:
        signed, strays = _newest(folder, role, targets)
        forged += strays
        if signed is not None:
            roles[role] = signed
    return roles, tuple(forged)


def _newest(folder: Path, role: str, delegator: Delegator) -> tuple[Targets | None, list[str]]:
    names = (path.name.split(".", 1) for path in (folder / "metadata").glob(f"*.{role}.json"))
    numbers = sorted((int(n) for n, rest in names if rest == f"{role}.json" and n.isdecimal()), reverse=True)
    forged: list[str] = []
    for number in numbers:
        try:
            signed = read_role(folder, role, number, delegator)
            for name, info in signed.targets.items():
                read_target(folder, name, info.hashes["sha256"])
        except TrustError:
            forged.append(f"{number}.{role}.json")
        else:
            return signed, forged
    return None, forged


def free_number(folder: Path) -> int:
    """The first number from which no snapshot stands on the disk, however high a thief drove them."""
    names = {path.name.partition(".")[0] for path in (folder / "metadata").glob("*.snapshot.json")}
    number = 1
    while str(number) in names:
        number += 1
    return number
