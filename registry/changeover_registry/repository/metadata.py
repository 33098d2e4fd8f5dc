"""The signed metadata of one repository folder, made, signed and written in order.

Order of writes, for a vendor's repository and the studio's choice alike: target files, role files, snapshot, and
``timestamp.json`` last. Every name but the last is new, so that a reader sees the old repository or the new one
wherever the writer stops. All is signed, and checked against the keys that the repository names, before the first byte
is written. Left out: reading (`reached`, `client`), and what the roles mean (`vendor`, `choice`).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from changeover_registry import canonical
from changeover_registry._fs import make_dirs, write_atomic, write_new
from changeover_registry.errors import RefusedError, TrustError
from changeover_registry.repository.reached import Delegator, Reached, target_path
from changeover_registry.signing import at_hand, load_signer

__all__ = [
    "ENTRY",
    "Change",
    "RoleFile",
    "RootFile",
    "check_can_create",
    "check_signed",
    "create",
    "delegate",
    "expiry",
    "is_due",
    "new_root",
    "reach",
    "renew_top",
    "renewed",
    "role_file",
    "sign",
    "sign_root",
    "target_info",
    "with_delegation",
    "write",
    "write_root",
]

ENTRY = "x-changeover-entry"
"""Under what a version of root or targets says who made it, when and why; signed with all else."""
_S = TypeVar("_S", Root, Targets)
_LIFETIMES = {"timestamp": timedelta(days=30), "snapshot": timedelta(days=180)}
_LIFETIME = timedelta(days=365)
_OWN = frozenset({"lock", "metadata", "targets", "objects", "pending"})


@dataclass(frozen=True, slots=True)
class RoleFile:
    """One signed version of a targets role: ``metadata/<version>.<role>.json``."""

    role: str
    version: int
    data: bytes

    def path(self, folder: Path) -> Path:
        """Where it stands in the repository `folder`."""
        return folder / "metadata" / f"{self.version}.{self.role}.json"


@dataclass(frozen=True, slots=True)
class RootFile:
    """One signed version of the root."""

    signed: Root
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written, all of it signed: targets by path, role files, perhaps a root."""

    targets: Mapping[str, bytes]
    files: tuple[RoleFile, ...]
    root: RootFile | None = None


def expiry(role: str, now: datetime) -> datetime:
    """Until when metadata of `role` holds that is signed now: timestamp 30 days, snapshot 180, all others 365."""
    return now + _LIFETIMES.get(role, _LIFETIME)


def is_due(role: str, expires: datetime, now: datetime) -> bool:
    """Whether less than half of the lifetime is left."""
    return expires - now < _LIFETIMES.get(role, _LIFETIME) / 2


def new_root(now: datetime, *, root: Key, targets: Key, online: Key) -> Root:
    """The first root: one key and threshold 1 for each role; `online` signs snapshot and timestamp."""
    signed = Root(version=1, expires=expiry("root", now), consistent_snapshot=True)
    for role, key in {"root": root, "targets": targets, "snapshot": online, "timestamp": online}.items():
        signed.add_key(key, role)
    return signed


def renewed(signed: _S, role: str, now: datetime) -> _S:
    """A copy of `signed` with the next version and a new expiry, to be changed by the caller before it is signed."""
    again = type(signed).from_dict(copy.deepcopy(signed.to_dict()))
    again.version += 1
    again.expires = expiry(role, now)
    again.unrecognized_fields.pop(ENTRY, None)
    return again


def with_delegation(
    targets: Targets, role: str, pattern: str, keys: Sequence[Key], threshold: int, now: datetime
) -> Targets:
    """The next version of `targets`, which delegates `pattern` to `role`, terminating."""
    again = renewed(targets, "targets", now)
    delegate(again, role, pattern, keys, threshold)
    return again


def delegate(targets: Targets, role: str, pattern: str, keys: Sequence[Key], threshold: int) -> None:
    """Have `targets` delegate `pattern` to `role`, terminating; keys that no role has any more are left out."""
    delegations = targets.delegations or Delegations({}, {})
    roles = {
        **(delegations.roles or {}),
        role: DelegatedRole(role, [key.keyid for key in keys], threshold, terminating=True, paths=[pattern]),
    }
    known = {**delegations.keys, **{key.keyid: key for key in keys}}
    used = {keyid for delegated in roles.values() for keyid in delegated.keyids}
    targets.delegations = Delegations({keyid: key for keyid, key in known.items() if keyid in used}, roles)


def role_file(role: str, signed: Targets, delegator: Delegator, signers: Sequence[Signer]) -> RoleFile:
    """Sign a targets role.

    Raises:
        TrustError: `delegator` names other keys for this role, or more of them.
    """
    return RoleFile(role, signed.version, _sign(role, signed, delegator, signers))


def target_info(path: str, data: bytes) -> TargetFile:
    """What a role says of a target."""
    return TargetFile.from_data(path, data, ["sha256"])


def create(folder: Path, anchor: Path, change: Change, root: RootFile, online: Signer, now: datetime) -> bytes:
    """Write the first metadata of a repository and return its root.

    Args:
        folder: The repository; made if it is not there. What a killed `create` left is written over.
        anchor: Where the root is kept beside the keys.
        change: Targets and roles.
        root: The first root.
        online: The key of snapshot and timestamp.
        now: The moment of signing.

    Raises:
        RefusedError: The folder holds a repository, or something else.
        OSError: The folder cannot be written.
    """
    check_can_create(folder)
    write_atomic(anchor, root.data)
    nothing = Reached(root.signed, Timestamp(), Snapshot(meta={}), {})
    write(folder, nothing, replace(change, root=root), online, now)
    return root.data


def check_can_create(folder: Path) -> None:
    """Check that a repository may be made in `folder`.

    Raises:
        RefusedError: The folder holds a repository, or something else.
    """
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if (folder / "metadata" / "timestamp.json").exists() or not set(found) <= _OWN:
        raise RefusedError(
            "new repository",
            where=str(folder),
            expected="an empty folder, or none",
            actual=f"a folder that holds {', '.join(found[:5])}",
            remedy="name another folder; nothing was changed",
        )


def write(
    folder: Path,
    reached: Reached,
    change: Change,
    online: Signer | None,
    now: datetime,
    *,
    exclusively: bool = False,
) -> None:
    """Write a change: targets, root, role files, a snapshot that names them, and the timestamp last.

    Args:
        folder: The repository.
        reached: What the change builds on.
        change: What to write.
        online: The key of snapshot and timestamp; without it, what is written is decided and nobody sees it yet.
        now: The moment of signing.
        exclusively: A role file must not be there yet: whoever creates it first has that number.

    Raises:
        FileExistsError: `exclusively`, and somebody else was first.
        TrustError: The root names another key for snapshot or timestamp.
        OSError: The folder cannot be written; the old repository holds.
    """
    make_dirs(folder / "metadata")
    for path, data in change.targets.items():
        file = target_path(folder, path, canonical.digest(data))
        make_dirs(file.parent)
        write_atomic(file, data)
    if change.root is not None:
        reached = replace(reached, root=change.root.signed)
        write_root(folder, change.root)
    for role in change.files:
        put = write_new if exclusively else write_atomic
        put(role.path(folder), role.data)
    if online is not None:
        reach(folder, reached, change.files, online, now)


def reach(
    folder: Path,
    reached: Reached,
    files: Iterable[RoleFile],
    online: Signer | Sequence[Signer],
    now: datetime,
    *,
    until: Root | None = None,
) -> None:
    """Write a snapshot that names `files`, which must be there, then move the timestamp to it.

    Args:
        folder: The repository.
        reached: What the new state builds on.
        files: The role files that it names anew.
        online: The key of snapshot and timestamp, or several of which each signs that is asked for.
        now: The moment of signing.
        until: A root that is about to be written: both files are to hold before and after it.

    Raises:
        TrustError: The root names another key for snapshot or timestamp.
        OSError: The folder cannot be written; the old repository holds.
    """
    meta = {f"{file.role}.json": MetaFile.from_data(file.version, file.data, ["sha256"]) for file in files}
    snapshot = Snapshot(
        reached.snapshot.version + bool(reached.roles),
        expires=expiry("snapshot", now),
        meta={**reached.snapshot.meta, **meta},
    )
    signers, roots = _asked_for(online, (reached.root, until)), (reached.root, *([until] if until else []))
    data = _write_snapshot(folder, snapshot, roots, signers)
    timestamp = Timestamp(
        reached.timestamp.version + bool(reached.roles),
        expires=expiry("timestamp", now),
        snapshot_meta=MetaFile.from_data(snapshot.version, data, ["sha256"]),
    )
    signed = _signed_for("timestamp", timestamp, roots, signers)
    write_atomic(folder / "metadata" / "timestamp.json", signed)


def write_root(folder: Path, root: RootFile) -> None:
    """Write a root under its number: from then on its keys count.

    Raises:
        OSError: The folder cannot be written.
    """
    write_atomic(folder / "metadata" / f"{root.signed.version}.root.json", root.data)


def renew_top(
    reached: Reached, root_key: Path, targets_key: Path, now: datetime
) -> tuple[RootFile | None, list[RoleFile]]:
    """Sign root and top-level targets again where less than half of their life is left and the key's file is there.

    Raises:
        TrustError: A key is not the one that the repository names.
    """
    root, files = None, []
    if is_due("root", reached.root.expires, now) and at_hand(root_key):
        root = sign_root(renewed(reached.root, "root", now), reached.root, load_signer(root_key))
    if is_due("targets", reached.targets.expires, now) and at_hand(targets_key):
        targets = renewed(reached.targets, "targets", now)
        files.append(role_file("targets", targets, reached.root, [load_signer(targets_key)]))
    return root, files


def sign_root(root: Root, previous: Root, signer: Signer) -> RootFile:
    """Sign a root.

    Raises:
        TrustError: `previous` names another key.
    """
    return RootFile(root, _sign("root", root, previous, [signer]))


def _asked_for(online: Signer | Sequence[Signer], roots: Iterable[Root | None]) -> Sequence[Signer]:
    """Those of the keys here that a root names for the dates; all, where it names none of them."""
    if isinstance(online, Signer):
        return [online]
    named = {key for root in roots if root is not None for key in root.roles["timestamp"].keyids}
    return [signer for signer in online if signer.public_key.keyid in named] or online


def _signed_for(role: str, signed: Signed, roots: Sequence[Root], signers: Sequence[Signer]) -> bytes:
    data = _sign(role, signed, roots[0], signers)
    for root in roots[1:]:
        _check(role, Metadata.from_bytes(data), root)
    return data


def _write_snapshot(folder: Path, snapshot: Snapshot, roots: Sequence[Root], signers: Sequence[Signer]) -> bytes:
    """Write under the next free number: a number that a killed writer used is never used for other bytes."""
    while True:
        data = _signed_for("snapshot", snapshot, roots, signers)
        try:
            write_new(folder / "metadata" / f"{snapshot.version}.snapshot.json", data)
        except FileExistsError:
            snapshot.version += 1
        else:
            return data


def check_signed(file: RoleFile, delegator: Delegator) -> RoleFile:
    """Check that a role file has the signatures that `delegator` asks for, and answer with it.

    Raises:
        TrustError: It has not.
    """
    _check(file.role, Metadata.from_bytes(file.data), delegator)
    return file


def _sign(role: str, signed: Signed, delegator: Delegator, signers: Sequence[Signer]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        sign(metadata, signer)
    _check(role, metadata, delegator)
    return metadata.to_bytes()


def sign(metadata: Metadata[Any], signer: Signer) -> None:
    """Add one signature.

    Raises:
        ChangeoverError: The key is elsewhere and does not sign, as `key_uris` says.
    """
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise (error.__cause__ or error) from None


def _check(role: str, metadata: Metadata[Any], delegator: Delegator) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError as error:
        named = delegator.get_delegated_role(role)
        raise TrustError(
            "signing key",
            where=f"role {role}",
            expected=f"{named.threshold} of the keys {', '.join(key[:12] for key in named.keyids)}",
            actual=", ".join(key[:12] for key in metadata.signatures) or "no key",
            remedy="give the key (or keys) that the repository names for this role; nothing was written",
        ) from error
