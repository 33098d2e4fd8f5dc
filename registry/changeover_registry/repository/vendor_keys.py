"""A vendor's keys that sign every day, and new ones in their place; studios follow by themselves.

A new release key is named by the targets role, whose key is offline: every model's role is signed by the old key and
the new one, which holds under either list, and the list comes last. Afterwards only the new one counts. A new online
key is `rotation`'s. Killed at any moment, either is run again and goes on with the key that it made. Left out: new
offline keys; whoever has lost the root gives studios another root by hand.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from changeover_registry._fs import lock, write_atomic
from changeover_registry.repository import metadata, rotation
from changeover_registry.repository.keys import VendorKeys
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.reached import Reached, anchor_bytes, check_is_repository, read_reached
from changeover_registry.signing import ensure_key, load_signer

__all__ = ["HeldByVendor", "held_keys", "rotate_online", "rotate_release"]


@dataclass(frozen=True, slots=True)
class HeldByVendor:
    """One key of one role of a vendor's repository, and when what it signed expires."""

    role: str
    key_id: str
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
    top = [HeldByVendor(role, key, expires[role]) for role in expires for key in root.roles[role].keyids]
    models = [(role, reached.targets.get_delegated_role(role).keyids) for role in reached.delegated()]
    return (*top, *(HeldByVendor(role, key, reached.roles[role].expires) for role, ids in models for key in ids))


def rotate_release(folder: Path, keys: VendorKeys, now: datetime) -> str:
    """Have a new key sign all releases from now on, put it in the old one's place, and return its id.

    Raises:
        InvalidInputError: The targets key or the old release key is not here.
        TrustError: A key is not the repository's, or the repository was changed by somebody else.
        LostRaceError: Another process is writing.
        OSError: The folder or the key's place cannot be written.
    """
    beside = keys.release.with_name(f"{keys.release.stem}.next.pem")
    check_is_repository(folder)
    with lock(folder / "lock", what=f"the repository {folder}"):
        reached = read_reached(folder, anchor_bytes(keys.anchor))
        new = ensure_key(beside)
        models = [role for role in reached.delegated() if role in reached.roles]
        named = {key for role in models for key in reached.targets.get_delegated_role(role).keyids}
        if named - {new.keyid}:
            change = _change(reached, keys, beside, models, now)
            metadata.write(folder, reached, change, load_signer(keys.online), now)
        write_atomic(keys.release, beside.read_bytes(), mode=0o600)
        beside.unlink()
    return new.keyid


def rotate_online(folder: Path, keys: VendorKeys, now: datetime) -> str:
    """Have a new key sign snapshot and timestamp, put it in the old one's place, and return its id.

    Raises:
        InvalidInputError: The root key is not here.
        TrustError: It is not the repository's, or the repository was changed by somebody else.
        LostRaceError: Another process is writing.
        OSError: The folder or the key's place cannot be written.
    """
    check_is_repository(folder)
    with lock(folder / "lock", what=f"the repository {folder}"):
        return rotation.rotate(folder, keys.root, keys.online, keys.anchor, None, now).key_id


def _change(reached: Reached, keys: VendorKeys, beside: Path, models: list[str], now: datetime) -> Change:
    old, new = load_signer(keys.release), load_signer(beside)
    targets: Targets = metadata.renewed(reached.targets, "targets", now)
    files = []
    for role in models:
        again = metadata.renewed(reached.roles[role], role, now)
        file = metadata.role_file(role, again, reached.targets, [old, new])
        metadata.delegate(targets, role, f"{role}/*", [new.public_key], 1)
        files.append(metadata.check_signed(file, targets))
    return Change({}, (*files, metadata.role_file("targets", targets, reached.root, [load_signer(keys.targets)])))
