"""What a repository folder's timestamp reaches, verified link by link, from the writer's side.

A writer believes what it builds on no more than a reader does, or it would sign what somebody slipped into its folder:
everything is verified from the root that was kept beside the keys (the anchor). Expiry is left aside, since an expired
repository must be renewable. Left out: readers elsewhere (`client`), and writing (`metadata`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from changeover_registry import canonical
from changeover_registry._fs import read_bytes_retry
from changeover_registry._tuf_errors import explain
from changeover_registry.errors import InvalidInputError, TrustError

__all__ = [
    "Delegator",
    "Reached",
    "anchor_bytes",
    "check_is_repository",
    "newest_root",
    "read_reached",
    "read_role",
    "read_target",
    "target_path",
    "walked_roots",
]

Delegator: TypeAlias = Root | Targets
"""What says which keys sign a role."""

_S = TypeVar("_S", bound=Signed)


@dataclass(frozen=True, slots=True)
class Reached:
    """What a repository's timestamp reaches, verified link by link: the newest root, and every targets role."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    roles: Mapping[str, Targets]

    @property
    def targets(self) -> Targets:
        """The top-level targets role."""
        return self.roles["targets"]

    def delegator(self, role: str) -> Delegator:
        """Who says which keys sign `role`."""
        return self.root if role == "targets" else self.targets

    def version(self, role: str) -> int:
        """The version of a targets role that is reached; 0 where there is none yet."""
        return self.roles[role].version if role in self.roles else 0

    def delegated(self) -> tuple[str, ...]:
        """The delegated roles, also those that have no metadata yet."""
        roles = self.targets.delegations.roles if self.targets.delegations else None
        return tuple(roles or ())


def check_is_repository(folder: Path) -> None:
    """Check that `create` has run in `folder`.

    Raises:
        InvalidInputError: It has not.
    """
    if not (folder / "metadata" / "timestamp.json").is_file():
        raise InvalidInputError(
            "repository",
            where=str(folder),
            expected="a repository (metadata/timestamp.json)",
            actual="none" if folder.is_dir() else "no such folder",
            remedy="name the repository's folder, or make one there first",
        )


def read_reached(folder: Path, anchor: bytes, *, in_part: bool = False) -> Reached:
    """Read and verify all metadata that the timestamp reaches, expiry aside.

    Of a mirror that was filled `in_part`, such as with some of a vendor's models, the roles are read that are there.

    Raises:
        InvalidInputError: There is no repository.
        TrustError: A file is missing, or is not what the level above signed.
    """
    check_is_repository(folder)
    root = newest_root(folder, anchor)
    timestamp = _read(folder, "timestamp.json", Timestamp, root, None)
    meta = timestamp.snapshot_meta
    snapshot = _read(folder, f"{meta.version}.snapshot.json", Snapshot, root, meta)
    targets = _reached_role(folder, snapshot, "targets", root)
    names = [name.removesuffix(".json") for name in snapshot.meta if name != "targets.json"]
    if in_part:
        files = {name: f"{snapshot.meta[f'{name}.json'].version}.{name}.json" for name in names}
        names = [name for name in names if (folder / "metadata" / files[name]).is_file()]
    roles = {name: _reached_role(folder, snapshot, name, targets) for name in names}
    return Reached(root, timestamp, snapshot, {"targets": targets, **roles})


def read_role(folder: Path, role: str, version: int, delegator: Delegator) -> Targets:
    """Read and verify one version of a targets role, whether it is reached or not.

    Raises:
        TrustError: It is not there, not signed by the keys that `delegator` names, or has another version.
    """
    name = f"{version}.{role}.json"
    signed = _read(folder, name, Targets, delegator, None, role)
    if signed.version != version:
        raise _distrust("version", f"metadata/{name}", f"version {version}", f"version {signed.version}")
    return signed


def read_target(folder: Path, path: str, digest: str) -> bytes:
    """The bytes of a target.

    Raises:
        TrustError: It is not there, or has another digest.
    """
    file = target_path(folder, path, digest)
    try:
        data = read_bytes_retry(file)
    except FileNotFoundError as error:
        raise _distrust("target", str(file), f"sha256 {digest}", "no file") from error
    if canonical.digest(data) != digest:
        raise _distrust("digest", str(file), f"sha256 {digest}", f"sha256 {canonical.digest(data)}")
    return data


def newest_root(folder: Path, anchor: bytes) -> Root:
    """The newest root in the folder, walked from the one that is kept beside the keys.

    Raises:
        TrustError: One on the way was not signed by the one before it and by itself.
    """
    return walked_roots(folder, anchor)[-1]


def walked_roots(folder: Path, anchor: bytes) -> tuple[Root, ...]:
    """Every root from the one that is kept beside the keys to the newest in the folder, each signed by the one before.

    Raises:
        TrustError: One on the way was not signed by the one before it and by itself.
    """
    roots = [_verified(anchor, "root.json", Root, None, "root")]
    while (folder / "metadata" / f"{roots[-1].version + 1}.root.json").exists():
        expected = roots[-1].version + 1
        name = f"{expected}.root.json"
        newer = _read(folder, name, Root, roots[-1], None)
        if newer.version != expected:
            raise _distrust("version", f"metadata/{name}", f"version {expected}", f"version {newer.version}")
        roots.append(newer)
    return tuple(roots)


def anchor_bytes(anchor: Path) -> bytes:
    """The root that is kept beside the keys.

    Raises:
        InvalidInputError: It is not there.
    """
    try:
        return anchor.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInputError(
            "trusted root",
            where=str(anchor),
            expected="the repository's first root metadata beside the online key",
            actual="no file",
            remedy="copy 1.root.json there from a place that you trust",
        ) from error


def _reached_role(folder: Path, snapshot: Snapshot, role: str, delegator: Delegator) -> Targets:
    meta = snapshot.meta[f"{role}.json"]
    return _read(folder, f"{meta.version}.{role}.json", Targets, delegator, meta, role)


def _read(
    folder: Path, name: str, kind: type[_S], delegator: Delegator, meta: MetaFile | None, role: str | None = None
) -> _S:
    path = folder / "metadata" / name
    try:
        data = read_bytes_retry(path)
        if meta is not None:
            meta.verify_length_and_hashes(data)
    except FileNotFoundError as error:
        raise _distrust("metadata", str(path), "a file that is there", "no file") from error
    except RepositoryError as error:
        raise _explained(error, path) from error
    return _verified(data, str(path), kind, delegator, role or kind.type)


def _verified(data: bytes, where: str, kind: type[_S], delegator: Delegator | None, role: str) -> _S:
    """Parse and check the signatures; a root also vouches for itself, the anchor for nobody else."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        if not isinstance(metadata.signed, kind):
            raise _distrust("kind of metadata", where, kind.type, metadata.signed.type)
        for voucher in (delegator, metadata.signed if isinstance(metadata.signed, Root) else None):
            if voucher is not None:
                voucher.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise _explained(error, Path(where)) from error
    signed: _S = metadata.signed
    return signed


def _explained(error: Exception, path: Path) -> TrustError:
    facts = explain(error, path.name)
    return _distrust(facts.rule, str(path), facts.expected, facts.actual)


def target_path(folder: Path, path: str, digest: str) -> Path:
    """Where a target stands in the repository `folder`: its digest before the file's name."""
    parent, slash, name = path.rpartition("/")
    return folder / "targets" / f"{parent}{slash}{digest}.{name}"


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    remedy = "find out who changed the repository's folder and take it back from a backup; nothing was signed"
    return TrustError(rule, where=where, expected=expected, actual=actual, remedy=remedy)
