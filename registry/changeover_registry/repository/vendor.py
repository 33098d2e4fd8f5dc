"""A vendor's repository: releases that nobody can forge, in a folder that any web server or disk can carry.

Layout: ``metadata/`` and ``targets/`` are TUF's (consistent snapshots); ``objects/<first two>/<sha256>`` holds records
and files. Each model has its own delegated role ``<name>`` for ``<name>/*`` with one target, ``<name>/index.json``; the
top-level targets role holds ``vendor.json``. The index pins each release's record by digest, the record pins its files,
so that metadata stays small and a file is verified block by block as it lands.

Order of `publish`: objects (documents among them), index, role, snapshot, timestamp. A published release is never
changed, only withdrawn.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from changeover_registry import canonical
from changeover_registry._fs import lock
from changeover_registry.client import Client
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError, RefusedError, TrustError
from changeover_registry.names import Version, check_name
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Index, IndexEntry, VendorCard, Withdrawal
from changeover_registry.repository import metadata, objects, vendor_change, vendor_draft, vendor_keys, vendor_terms
from changeover_registry.repository.documents import describe_documents, put_documents, with_documents
from changeover_registry.repository.keys import VendorKeys, new_vendor_keys
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.reached import Reached, anchor_bytes, check_is_repository, read_reached, read_target
from changeover_registry.repository.vendor_draft import Draft
from changeover_registry.signing import load_signer
from changeover_registry.transport.interface import Transport

__all__ = [
    "VendorKeys",
    "VendorView",
    "create",
    "fetch_record",
    "new_vendor_keys",
    "object_path",
    "open_vendor",
    "publish",
    "renew",
    "versions",
    "with_release",
    "with_withdrawal",
    "withdraw",
]

_CARD = "vendor.json"
_INDEX_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class VendorView:
    """What a vendor offers, verified: its card, and the index of each model by name."""

    card: VendorCard
    indexes: Mapping[str, Index]


def create(folder: Path, vendor: str, keys: VendorKeys, now: datetime) -> bytes:
    """Make an empty signed repository and return its root metadata, which studios get by another way.

    Raises:
        InvalidInputError: `vendor` is no name, or a key is missing.
        RefusedError: The folder holds a repository, or something else.
        OSError: The folder cannot be written.
    """
    check_name(vendor, where="vendor")
    metadata.check_can_create(folder)
    root, targets, online = load_signer(keys.root), load_signer(keys.targets), load_signer(keys.online)
    first = metadata.new_root(now, root=root.public_key, targets=targets.public_key, online=online.public_key)
    role = Targets(expires=metadata.expiry("targets", now))
    card = VendorCard(vendor=vendor).to_bytes()
    role.targets[_CARD] = metadata.target_info(_CARD, card)
    change = Change({_CARD: card}, (metadata.role_file("targets", role, first, [targets]),))
    return metadata.create(folder, keys.anchor, change, metadata.sign_root(first, first, root), online, now)


def publish(
    folder: Path,
    keys: VendorKeys,
    release: bytes,
    files: Mapping[str, Path],
    now: datetime,
    documents: Mapping[str, bytes] | None = None,
) -> None:
    """Publish one release; the same content again changes nothing, and a document that it lacks is put beside it.

    Args:
        folder: The repository.
        keys: Of these, `targets` is read for a model's first release alone.
        release: The bytes of ``release.json``.
        files: Where the bytes of each file are, by sha256. Each is read and hashed again on its way.
        now: The moment of signing.
        documents: What lies beside the release, by file name, such as its bill of materials.

    Raises:
        InvalidInputError: The record is wrong, of another vendor, or a file of it is not in `files`.
        RefusedError: This version, or a document of that name beside it, was published with other content, or the
            model's list of releases has become longer than studios read.
        TrustError: A file has another digest than the record says, a key is not the repository's, or the repository
            was changed by somebody else.
        LostRaceError: Another process is writing.
        OSError: The folder cannot be written; what was published before holds.
    """
    record = Release.from_bytes(release, where="release.json")
    name = record.model.partition("/")[2]
    with _writing(folder, keys) as reached:
        card = _card(folder, reached)
        _check_owner(card, record)
        old = _index(folder, reached, name) or Index(vendor=card.vendor, name=name)
        entry = IndexEntry(
            version=record.version,
            record=canonical.digest(release),
            length=len(release),
            documents=describe_documents(documents or {}),
        )
        new = with_release(old, entry)
        what = f"publish {name} {record.version}"
        change = _signed(folder, reached, keys, _change(reached, keys, card, new, what, now)) if new != old else None
        objects.put(folder, record, release, files)
        put_documents(folder, documents or {})
        if change is not None:
            vendor_change.finish(folder, reached, change, keys.online_signers(), now)


def withdraw(folder: Path, keys: VendorKeys, name: str, version: str, why: str, now: datetime) -> None:
    """Take a published release back: it stays readable, and every reader sees why and when. Again changes nothing.

    Raises:
        InvalidInputError: No such model or version was published.
        TrustError: As `publish`.
        LostRaceError: As `publish`.
        OSError: As `publish`.
    """
    with _writing(folder, keys) as reached:
        card = _card(folder, reached)
        old = _index(folder, reached, name)
        if old is None:
            raise _unknown(f"model {name}", f"one of {', '.join(card.models) or 'no models yet'}")
        new = with_withdrawal(old, version, why, now)
        if new != old:
            change = _signed(
                folder, reached, keys, _change(reached, keys, card, new, f"withdraw {name} {version}", now)
            )
            vendor_change.finish(folder, reached, change, keys.online_signers(), now)


def renew(folder: Path, keys: VendorKeys, now: datetime) -> tuple[str, ...]:
    """Sign snapshot and timestamp again, and each role that has used half of its life and whose key is at hand.

    Where a role takes more keys than are here, its renewal waits for the others' signatures.

    Returns:
        The roles that were signed.

    Raises:
        TrustError: As `publish`.
        LostRaceError: As `publish`.
        OSError: As `publish`.
    """
    with _writing(folder, keys) as reached:
        newest, files, _ = vendor_keys.renewals(folder, keys, reached, now)
        metadata.write(folder, reached, Change({}, files, newest), load_signer(keys.online), now)
        root = ["root"] if newest else []
        return (*root, *(file.role for file in files), "snapshot", "timestamp")


def with_release(index: Index, entry: IndexEntry) -> Index:
    """`index` with one more release, in the order of versions; the same record again adds the documents that it lacks.

    Raises:
        RefusedError: The version is there with another record, or with another document of the same name.
    """
    known = index.entry(entry.version)
    if known is None:
        releases = sorted([*index.releases, entry], key=lambda item: Version.parse(item.version))
        return index.model_copy(update={"releases": tuple(releases)})
    if known.record != entry.record:
        raise RefusedError(
            "published version",
            where=f"{index.vendor}/{index.name} {entry.version}",
            expected=f"the record that was published, sha256 {known.record}",
            actual=f"sha256 {entry.record}",
            remedy="give the changed release a new version; a published one never changes",
        )
    again = with_documents(known, entry.documents, where=f"{index.vendor}/{index.name} {entry.version}")
    return index.model_copy(update={"releases": tuple(again if item == known else item for item in index.releases)})


def with_withdrawal(index: Index, version: str, why: str, now: datetime) -> Index:
    """`index` with one release marked as withdrawn; one that is withdrawn already keeps its first reason.

    Raises:
        InvalidInputError: The version is not in the index.
    """
    entry = index.entry(version)
    if entry is None:
        versions = ", ".join(item.version for item in index.releases) or "no releases yet"
        raise _unknown(f"{index.vendor}/{index.name} {version}", f"one of {versions}")
    if entry.withdrawn is not None:
        return index
    taken = entry.model_copy(update={"withdrawn": Withdrawal(why=why, when=format_time(now))})
    return index.model_copy(update={"releases": tuple(taken if item == entry else item for item in index.releases)})


def open_vendor(client: Client, vendor: str, models: Collection[str] | None = None) -> VendorView:
    """Verify the newest state of a vendor's repository.

    Args:
        client: The reader, with the root that the studio trusts for this vendor.
        vendor: The name that the studio gave the vendor; card and indexes must bear it.
        models: The models whose indexes are wanted, all if absent; nothing of the others is fetched.

    Raises:
        TrustError: Metadata does not verify, or card or index belong to somebody else.
        UnreachableError: The repository does not answer.
        InvalidInputError: Card or index are signed and wrong in form.
    """
    client.refresh()
    where = client.transport.location
    card = VendorCard.from_bytes(client.target(_CARD, limit=_INDEX_LIMIT_BYTES), where=f"{where}: {_CARD}")
    _check_bound(f"{where}: {_CARD}", vendor, card.vendor)
    wanted = [name for name in card.models if models is None or name in models]
    indexes = {name: _fetch_index(client, vendor, name) for name in wanted}
    return VendorView(card, indexes)


def versions(folder: Path, keys: VendorKeys, name: str) -> tuple[str, ...]:
    """The versions of a model that this vendor published, withdrawn ones too; none of a model that it does not have.

    Raises:
        TrustError: The repository was changed by somebody else.
    """
    check_is_repository(folder)
    index = _index(folder, read_reached(folder, anchor_bytes(keys.anchor)), name)
    return tuple(entry.version for entry in index.releases) if index else ()


def fetch_record(transport: Transport, entry: IndexEntry, model: str) -> tuple[Release, bytes]:
    """Fetch the record of one published release.

    Args:
        transport: The way to the repository, or to its mirror.
        entry: What the verified index says.
        model: ``vendor/name``: whose index it was.

    Raises:
        TrustError: Length or digest are not those of the index, or the record names another model or version.
        UnreachableError: The repository does not answer, or lacks the record.
    """
    path = object_path(entry.record)
    where = f"{model} {entry.version}: {transport.location}: {path}"
    data = transport.read(path, limit=min(entry.length, _INDEX_LIMIT_BYTES))
    if canonical.digest(data) != entry.record:
        raise _distrust("digest of the release record", where, entry.record, canonical.digest(data))
    release = Release.from_bytes(data, where=where)
    _check_bound(where, f"{model} {entry.version}", f"{release.model} {release.version}")
    return release, data


def _fetch_index(client: Client, vendor: str, name: str) -> Index:
    path = f"{name}/index.json"
    where = f"{client.transport.location}: {path}"
    index = Index.from_bytes(client.target(path, limit=_INDEX_LIMIT_BYTES), where=where)
    _check_bound(where, f"{vendor}/{name}", f"{index.vendor}/{index.name}")
    return index


@contextlib.contextmanager
def _writing(folder: Path, keys: VendorKeys) -> Iterator[Reached]:
    check_is_repository(folder)
    with lock(folder / "lock", what=f"the repository {folder}"):
        yield read_reached(folder, anchor_bytes(keys.anchor))


def _card(folder: Path, reached: Reached) -> VendorCard:
    return VendorCard.from_bytes(_target(folder, reached.targets, _CARD), where=_CARD)


def _index(folder: Path, reached: Reached, name: str) -> Index | None:
    if name not in reached.roles or name == "targets":
        return None
    path = f"{name}/index.json"
    return Index.from_bytes(_target(folder, reached.roles[name], path), where=path)


def _target(folder: Path, role: Targets, path: str) -> bytes:
    return read_target(folder, path, role.targets[path].hashes["sha256"])


def _change(reached: Reached, keys: VendorKeys, card: VendorCard, index: Index, what: str, now: datetime) -> Draft:
    """What publishing `index` takes, not signed yet: for a new model also its role and the vendor's card."""
    roles: dict[str, Targets] = {}
    data = {f"{index.name}/index.json": _readable(index)}
    if index.name not in reached.delegated():
        terms = vendor_terms.for_new_model(reached, load_signer(keys.release).public_key)
        pattern = f"{index.name}/*"
        targets = metadata.with_delegation(reached.targets, index.name, pattern, terms.keys, terms.threshold, now)
        data[_CARD] = card.model_copy(update={"models": tuple(sorted({*card.models, index.name}))}).to_bytes()
        targets.targets[_CARD] = metadata.target_info(_CARD, data[_CARD])
        roles["targets"] = targets
    info = [metadata.target_info(path, item) for path, item in data.items() if path != _CARD]
    role = Targets(reached.version(index.name) + 1, expires=metadata.expiry(index.name, now))
    role.targets = {item.path: item for item in info}
    return vendor_draft.unsigned(what, now, {**roles, index.name: role}, data)


def _readable(index: Index) -> bytes:
    """The bytes of an index that studios will read; a longer one would end every sync."""
    data = index.to_bytes()
    if len(data) > _INDEX_LIMIT_BYTES:
        raise RefusedError(
            "index",
            where=f"{index.vendor}/{index.name}",
            expected=f"a list of releases of at most {_INDEX_LIMIT_BYTES} bytes, which is what studios read",
            actual=f"{len(data)} bytes for {len(index.releases)} releases",
            remedy="put fewer documents beside a release, give a shorter reason, or begin a new model",
        )
    return data


def _signed(folder: Path, reached: Reached, keys: VendorKeys, draft: Draft) -> Draft:
    """`draft` with the signatures of the keys here; the targets key is read where the targets role changes alone."""
    places = (keys.release, keys.targets) if draft.top else (keys.release,)
    return vendor_change.prepare(folder, reached, draft, keys.signers(*places))


def _check_owner(card: VendorCard, record: Release) -> None:
    vendor = record.model.partition("/")[0]
    if vendor != card.vendor:
        raise InvalidInputError(
            "vendor",
            where=f"release.json: model = {record.model}",
            expected=f"a model of {card.vendor}, whose repository this is",
            actual=f"one of {vendor}",
            remedy="name the right repository, or correct the model's name",
        )


def _check_bound(where: str, expected: str, actual: str) -> None:
    if actual != expected:
        raise _distrust("owner of a record", where, expected, actual)


def _unknown(where: str, expected: str) -> InvalidInputError:
    return InvalidInputError(
        "published release", where=where, expected=expected, actual="nothing of that name", remedy="correct the name"
    )


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    remedy = "do not use this release; ask the vendor, the bytes are not those that were signed"
    return TrustError(rule, where=where, expected=expected, actual=actual, remedy=remedy)
