"""A new online key for a repository, where the one that signs snapshot and timestamp may have been stolen.

The root, whose key is offline, names the new key; readers walk from the root that they were given to this one and throw
away every timestamp and snapshot that they knew, so that numbers which a thief drove up bind nobody. What the old key
signed is not believed here either: the new snapshot is made from the role files on the disk, the newest of each that
its own keys signed.

Order of writes: the new key beside the old one, the root, snapshot and timestamp, the new key in the old one's place.
Killed between root and timestamp, readers refuse until this is called again; it then goes on with the same new key.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from changeover_registry._fs import write_atomic
from changeover_registry.errors import TrustError
from changeover_registry.records.choice import Entry
from changeover_registry.repository import metadata
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import RoleFile
from changeover_registry.repository.reached import Delegator, Reached, anchor_bytes, newest_root, read_role, read_target
from changeover_registry.repository.scopes import is_back, locked, scope_of
from changeover_registry.signing import ensure_key, load_signer

__all__ = ["Rotated", "free_number", "newest_roles", "rotate", "rotate_online"]


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


def rotate_online(folder: Path, keys: StudioKeys, entry: Entry, now: datetime) -> Rotated:
    """Have a new key sign snapshot and timestamp of the choice, and put it in the place of the old one.

    Args:
        folder: The choice's repository.
        keys: Of these `root` signs; the new key comes to stand at `site`.
        entry: Who does it, when and why; kept in the root.
        now: The moment of signing.

    Raises:
        InvalidInputError: There is no repository, or no root key here.
        TrustError: The root key is not the repository's, or a role file was changed.
        LostRaceError: Another process is writing.
        OSError: The folder or the key's place cannot be written.
    """
    with locked(folder, "site"):
        return rotate(folder, keys.root, keys.site, keys.anchor, entry, now)


def rotate(folder: Path, root_key: Path, place: Path, anchor: Path, entry: Entry | None, now: datetime) -> Rotated:
    """`rotate_online` for whoever holds the repository's lock; `place` is where the online key stands.

    Raises:
        InvalidInputError: There is no root key here, or no trusted root.
        TrustError: The root key is not the repository's, or a role file was changed.
        OSError: The folder or the key's place cannot be written.
    """
    signer = load_signer(root_key)
    root = newest_root(folder, anchor_bytes(anchor))
    beside = place.with_name(f"{place.stem}.next.pem")
    ensure_key(beside)
    online = load_signer(beside)
    if online.public_key.keyid not in root.roles["timestamp"].keyids:
        root = _write_root(folder, _next_root(root, online, entry, now), root, signer)
    roles, forged = newest_roles(folder, root)
    files = [RoleFile(role, signed.version, b"") for role, signed in roles.items()]
    files = [replace(file, data=file.path(folder).read_bytes()) for file in files]
    nothing = Reached(root, Timestamp(), Snapshot(version=free_number(folder), meta={}), {})
    metadata.reach(folder, nothing, files, online, now)
    write_atomic(place, beside.read_bytes(), mode=0o600)
    beside.unlink()
    heads = tuple((scope_of(r), signed.version) for r, signed in roles.items() if r != "targets" and not is_back(r))
    return Rotated(root.version, online.public_key.keyid, heads, forged)


def _next_root(root: Root, online: Signer, entry: Entry | None, now: datetime) -> Root:
    newer = metadata.renewed(root, "root", now)
    if entry is not None:
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
