import json
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Targets

from changeover_registry import canonical, signing
from changeover_registry.client import Client
from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    LostRaceError,
    RefusedError,
    TrustError,
    UnreachableError,
)
from changeover_registry.records.repository import Index, IndexEntry, VendorCard
from changeover_registry.repository import metadata, vendor
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.reached import read_reached
from changeover_registry.transport import NotThereError, open_transport

Vendor = Any
Made = Any


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def signed_by(key: Path, signed: Any) -> bytes:
    """Metadata that says `signed`, signed by `key`: what a forger can make."""
    forged: Metadata[Any] = Metadata(signed)
    forged.sign(signing.load_signer(key))
    return forged.to_bytes()


def put_in_place_of(vendor_: Vendor, role: str, data: bytes) -> None:
    """Have snapshot and timestamp, which the online key signs, name `data` as the metadata of `role`."""
    folder = vendor_.folder / "metadata"
    timestamp: Any = Metadata.from_bytes((folder / "timestamp.json").read_bytes()).signed
    snapshot: Any = Metadata.from_bytes(
        (folder / f"{timestamp.snapshot_meta.version}.snapshot.json").read_bytes()
    ).signed
    version = json.loads(data)["signed"]["version"]
    (folder / f"{version}.{role}.json").write_bytes(data)
    snapshot.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
    snapshot.version += 1
    new = signed_by(vendor_.keys.online, snapshot)
    (folder / f"{snapshot.version}.snapshot.json").write_bytes(new)
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, new, ["sha256"])
    timestamp.version += 1
    (folder / "timestamp.json").write_bytes(signed_by(vendor_.keys.online, timestamp))


# What a studio sees.


def test_an_empty_repository_has_a_card_and_no_models(acme: Vendor, tmp_path: Path) -> None:
    view = acme.view(tmp_path / "state")
    assert view.card == VendorCard(vendor="acme")
    assert view.indexes == {}


def test_a_published_release_comes_back_whole_from_another_folder(acme: Vendor, tmp_path: Path) -> None:
    made = acme.make(content=b"w" * 5_000_000)
    acme.publish(made)
    copy = shutil.copytree(acme.folder, tmp_path / "carried")
    client = Client(open_transport(str(copy)), tmp_path / "state", acme.root)
    view = vendor.open_vendor(client, "acme")
    entry = view.indexes["person-roto"].entry("1.0.0")
    assert entry == IndexEntry(version="1.0.0", record=made.record.digest(), length=len(made.data))
    record, data = vendor.fetch_record(client.transport, entry, "acme/person-roto")
    assert (record, data) == (made.record, made.data)
    file = record.variants[0].files[0]
    assert (copy / object_path(file.sha256)).read_bytes() == b"w" * 5_000_000


def test_versions_of_two_models_are_listed_in_their_order(acme: Vendor, tmp_path: Path) -> None:
    for name, version in (
        ("person-roto", "1.10.0"),
        ("hair", "0.1.0"),
        ("person-roto", "1.9.0"),
        ("person-roto", "1.10.0rc1"),
    ):
        acme.publish(acme.make(name, version, f"{name} {version}".encode()))
    view = acme.view(tmp_path / "state")
    assert view.card.models == ("hair", "person-roto")
    assert [entry.version for entry in view.indexes["person-roto"].releases] == ["1.9.0", "1.10.0rc1", "1.10.0"]


def test_names_in_the_repository_are_of_the_allowed_characters(acme: Vendor) -> None:
    acme.publish(acme.make("3d-roto"))
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")
    assert all(set(name) <= allowed for name in tree(acme.folder))
    assert not any(path.is_symlink() for path in acme.folder.rglob("*"))


# What publishing refuses, and that it then changes nothing.


def test_the_same_release_again_changes_nothing(acme: Vendor) -> None:
    acme.publish(acme.make())
    before = tree(acme.folder)
    acme.publish(acme.make())
    assert tree(acme.folder) == before


def test_the_same_release_again_heals_a_damaged_object(acme: Vendor) -> None:
    made = acme.make()
    acme.publish(made)
    before = tree(acme.folder)
    for digest in (made.record.digest(), *made.files):
        (acme.folder / object_path(digest)).write_bytes(b"damaged")
    acme.publish(made)
    assert tree(acme.folder) == before


def test_the_same_version_with_other_content_is_refused_naming_both_digests(acme: Vendor) -> None:
    made, other = acme.make(), acme.make(content=b"other weights")
    acme.publish(made)
    before = tree(acme.folder)
    with pytest.raises(RefusedError) as caught:
        acme.publish(other)
    assert made.record.digest() in caught.value.expected
    assert other.record.digest() in caught.value.actual
    assert tree(acme.folder) == before


def test_a_release_of_another_vendor_is_refused(acme: Vendor, make_vendor: Callable[..., Vendor]) -> None:
    other = make_vendor("rival")
    before = tree(acme.folder)
    with pytest.raises(InvalidInputError, match="a model of acme"):
        acme.publish(other.make())
    assert tree(acme.folder) == before


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp"])
def test_a_model_may_not_have_the_name_of_a_role(acme: Vendor, name: str) -> None:
    data = acme.make().data.replace(b"acme/person-roto", f"acme/{name}".encode())
    with pytest.raises(InvalidInputError, match="model"):
        vendor.publish(acme.folder, acme.keys, data, {}, acme.now)


def test_a_file_that_is_not_given_is_refused_naming_it(acme: Vendor) -> None:
    made = acme.make()
    before = tree(acme.folder)
    with pytest.raises(InvalidInputError, match=r"model\.onnx.*none named"):
        vendor.publish(acme.folder, acme.keys, made.data, {}, acme.now)
    missing = {digest: path.with_name("gone") for digest, path in made.files.items()}
    with pytest.raises(InvalidInputError, match="no file .*gone"):
        vendor.publish(acme.folder, acme.keys, made.data, missing, acme.now)
    assert tree(acme.folder) == before


def test_a_file_with_other_bytes_than_its_record_says_is_refused_naming_both_digests(acme: Vendor) -> None:
    made = acme.make()
    (digest, path), *_ = made.files.items()
    path.write_bytes(b"Weights")
    before = tree(acme.folder)
    with pytest.raises(TrustError) as caught:
        acme.publish(made)
    assert (caught.value.where, caught.value.expected) == (str(path), f"sha256 {digest}")
    assert caught.value.actual == f"sha256 {canonical.digest(b'Weights')}"
    assert tree(acme.folder) == before


def test_a_record_whose_block_digests_are_not_those_of_the_file_is_refused(acme: Vendor) -> None:
    made = acme.make()
    body = json.loads(made.data)
    body["variants"][0]["files"][0]["blocks"] = ["0" * 64]
    with pytest.raises(TrustError, match="block digests"):
        vendor.publish(acme.folder, acme.keys, canonical.dumps(body), made.files, acme.now)


@pytest.mark.parametrize("key", ["release", "online", "targets"])
def test_a_key_that_the_repository_does_not_name_signs_nothing(acme: Vendor, tmp_path: Path, key: str) -> None:
    acme.publish(acme.make())
    signing_key = getattr(acme.keys, key)
    signing_key.unlink()
    signing.new_key(signing_key)
    before = {name: data for name, data in tree(acme.folder).items() if name == "metadata/timestamp.json"}
    new = acme.make("hair" if key == "targets" else "person-roto", "2.0.0", b"new")
    with pytest.raises(TrustError, match="signing key.*expected 1 of the keys"):
        acme.publish(new)
    assert tree(acme.folder).items() >= before.items()
    assert [entry.version for entry in acme.view(tmp_path / "state").indexes["person-roto"].releases] == ["1.0.0"]


def test_two_publishers_at_once_do_not_mix(acme: Vendor) -> None:
    from changeover_registry._fs import lock

    with lock(acme.folder / "lock", what="something else"), pytest.raises(LostRaceError):
        acme.publish(acme.make())


def test_a_folder_without_a_repository_is_named(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such folder"):
        vendor.renew(tmp_path / "nowhere", acme.keys, acme.now)
    with pytest.raises(InvalidInputError, match="found none"):
        vendor.renew(tmp_path, acme.keys, acme.now)


def test_a_repository_is_not_made_over_something_else(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="an empty folder"):
        vendor.create(acme.folder, "acme", acme.keys, acme.now)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("dear")
    with pytest.raises(RefusedError, match=r"letter\.txt"):
        vendor.create(tmp_path / "documents", "acme", acme.keys, acme.now)
    assert [path.name for path in (tmp_path / "documents").iterdir()] == ["letter.txt"]


def test_a_vendor_needs_a_name_that_can_be_a_folder(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="name"):
        vendor.create(tmp_path / "new", "Acme Inc", acme.keys, acme.now)


def test_a_read_only_repository_is_an_error_of_the_disk_and_stays_as_it_was(
    acme: Vendor, tmp_path: Path, unprivileged: Callable[[Path, str], list[str]]
) -> None:
    shutil.copytree(acme.folder, tmp_path / "locked")
    for path in (tmp_path / "acme" / "keys").rglob("*"):
        path.chmod(0o755)
    (tmp_path / "locked" / "lock").unlink(missing_ok=True)
    before = tree(tmp_path / "locked")
    code = "vendor.renew(Path('locked'), vendor.VendorKeys.in_folder(Path('acme/keys')), now)"
    assert unprivileged(tmp_path, code) == ["a plain write: PermissionError", "PermissionError locked/lock"]
    assert tree(tmp_path / "locked") == before


# Withdrawing and renewing.


def test_a_withdrawn_release_is_still_there_and_says_why_and_when(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "wrong plates", acme.now)
    (entry,) = acme.view(tmp_path / "state").indexes["person-roto"].releases
    assert entry.withdrawn is not None
    assert (entry.withdrawn.why, entry.withdrawn.when) == ("wrong plates", acme.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert vendor.fetch_record(open_transport(str(acme.folder)), entry, "acme/person-roto")[0].version == "1.0.0"


def test_withdrawing_again_and_publishing_again_change_nothing(acme: Vendor) -> None:
    acme.publish(acme.make())
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "wrong plates", acme.now)
    before = tree(acme.folder)
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "another reason", acme.now)
    acme.publish(acme.make())
    assert tree(acme.folder) == before


def test_withdrawing_what_was_never_published_is_refused_naming_what_was(acme: Vendor) -> None:
    with pytest.raises(InvalidInputError, match="no models yet"):
        vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "why", acme.now)
    acme.publish(acme.make())
    before = tree(acme.folder)
    with pytest.raises(InvalidInputError, match=r"expected one of 1\.0\.0"):
        vendor.withdraw(acme.folder, acme.keys, "person-roto", "2.0.0", "why", acme.now)
    with pytest.raises(InvalidInputError, match="one of person-roto"):
        vendor.withdraw(acme.folder, acme.keys, "targets", "1.0.0", "why", acme.now)
    assert tree(acme.folder) == before


def test_renewing_signs_snapshot_and_timestamp_for_their_full_time(acme: Vendor, tmp_path: Path, now: datetime) -> None:
    later = now + timedelta(days=1)
    assert vendor.renew(acme.folder, acme.keys, later) == ("snapshot", "timestamp")
    client = acme.client(tmp_path / "state")
    client.refresh()
    expiries = {expiry.role: expiry.expires for expiry in client.expiries()}
    assert expiries == {
        "timestamp": later + timedelta(days=30),
        "snapshot": later + timedelta(days=180),
        "targets": now + timedelta(days=365),
        "root": now + timedelta(days=365),
    }


def test_an_expired_repository_is_refused_until_it_is_renewed(
    make_vendor: Callable[..., Vendor], tmp_path: Path, now: datetime
) -> None:
    long_ago = now - timedelta(days=400)
    acme = make_vendor(at=long_ago)
    acme.publish(acme.make())
    with pytest.raises(TrustError, match="expiry"):
        acme.view(tmp_path / "state")
    assert vendor.renew(acme.folder, acme.keys, now) == ("root", "targets", "person-roto", "snapshot", "timestamp")
    view = acme.view(tmp_path / "state")
    assert list(view.indexes) == ["person-roto"]
    assert (acme.folder / "metadata" / "2.root.json").is_file()


def test_renewing_without_the_offline_keys_renews_what_the_online_keys_may(
    make_vendor: Callable[..., Vendor], now: datetime
) -> None:
    acme = make_vendor(at=now - timedelta(days=200))
    acme.publish(acme.make())
    for key in (acme.keys.root, acme.keys.targets):
        key.unlink()
    assert vendor.renew(acme.folder, acme.keys, now) == ("person-roto", "snapshot", "timestamp")
    acme.keys.release.unlink()
    assert vendor.renew(acme.folder, acme.keys, now + timedelta(days=300)) == ("snapshot", "timestamp")


def test_a_role_of_another_release_key_is_left_by_renewing(make_vendor: Callable[..., Vendor], now: datetime) -> None:
    acme = make_vendor(at=now - timedelta(days=200))
    acme.publish(acme.make())
    acme.keys.release.unlink()
    signing.new_key(acme.keys.release)
    assert vendor.renew(acme.folder, acme.keys, now) == ("root", "targets", "snapshot", "timestamp")


# Whom a studio does not believe.


def test_the_root_of_another_vendor_opens_nothing(
    acme: Vendor, make_vendor: Callable[..., Vendor], tmp_path: Path
) -> None:
    rival = make_vendor("rival")
    client = Client(open_transport(str(acme.folder)), tmp_path / "state", rival.root)
    with pytest.raises(TrustError) as caught:
        client.refresh()
    assert caught.value.where.endswith("metadata/timestamp.json")
    assert (caught.value.expected, caught.value.actual) == ("1 signature(s) by the keys that may sign it", "0 valid")


@pytest.mark.parametrize("root", [b"", b"{}", b"not json", b'{"signatures":[],"signed":{"_type":"root"}}'])
def test_bytes_that_are_no_root_open_nothing(acme: Vendor, tmp_path: Path, root: bytes) -> None:
    with pytest.raises(TrustError, match=r"root\.json"):
        Client(open_transport(str(acme.folder)), tmp_path / "state", root).refresh()


@pytest.mark.parametrize(("days", "file"), [(31, "timestamp"), (181, "timestamp"), (366, "root")])
def test_expired_metadata_is_refused_naming_file_and_date(
    make_vendor: Callable[..., Vendor], tmp_path: Path, now: datetime, days: int, file: str
) -> None:
    acme = make_vendor(at=now - timedelta(days=days))
    with pytest.raises(TrustError) as caught:
        acme.view(tmp_path / "state")
    ended = acme.now + timedelta(days=30 if file == "timestamp" else 365)
    assert caught.value.where.endswith(f"metadata/{file}.json")
    assert caught.value.actual == f"expired at {ended:%Y-%m-%dT%H:%M:%SZ}"


def test_metadata_that_expired_here_since_the_last_look_is_refused(
    make_vendor: Callable[..., Vendor], tmp_path: Path, now: datetime
) -> None:
    acme = make_vendor(at=now - timedelta(days=30) + (datetime.now(now.tzinfo) - now) + timedelta(seconds=3))
    acme.view(tmp_path / "state")
    while datetime.now(now.tzinfo) <= acme.now + timedelta(days=30):
        time.sleep(0.1)
    with pytest.raises(TrustError, match=r"timestamp\.json: expected metadata that has not expired, found expired at"):
        acme.view(tmp_path / "state")


@pytest.mark.parametrize("role", ["snapshot", "targets", "person-roto"])
def test_each_expired_role_is_named(
    make_vendor: Callable[..., Vendor], tmp_path: Path, now: datetime, role: str
) -> None:
    acme = make_vendor()
    acme.publish(acme.make())
    reached = read_reached(acme.folder, acme.root)
    old = now - timedelta(days=1)
    if role == "snapshot":
        path = acme.folder / "metadata" / "3.snapshot.json"
        reached.snapshot.expires, reached.snapshot.version = old, 3
        path.write_bytes(signed_by(acme.keys.online, reached.snapshot))
        reached.timestamp.version += 1
        reached.timestamp.snapshot_meta = MetaFile.from_data(3, path.read_bytes(), ["sha256"])
        (acme.folder / "metadata/timestamp.json").write_bytes(signed_by(acme.keys.online, reached.timestamp))
    else:
        signed = reached.roles[role]
        signed.expires, signed.version = old, signed.version + 1
        key = acme.keys.targets if role == "targets" else acme.keys.release
        put_in_place_of(acme, role, signed_by(key, signed))
    with pytest.raises(
        TrustError, match=rf"{role}\.json: expected metadata that has not expired, found expired at {old:%Y-%m-%d}"
    ):
        acme.view(tmp_path / "state")


def test_older_metadata_served_again_is_refused_naming_both_versions(acme: Vendor, tmp_path: Path) -> None:
    old = shutil.copytree(acme.folder, tmp_path / "old")
    acme.publish(acme.make())
    vendor.renew(acme.folder, acme.keys, acme.now)
    assert "person-roto" in acme.view(tmp_path / "state").indexes
    client = Client(open_transport(str(old)), tmp_path / "state", acme.root)
    with pytest.raises(TrustError) as caught:
        vendor.open_vendor(client, "acme")
    assert caught.value.rule == "rollback"
    assert caught.value.expected == "version 3 or newer, which was seen here before"
    assert caught.value.actual == "version 1"
    assert "person-roto" in acme.view(tmp_path / "state").indexes


def test_an_older_role_under_a_newer_timestamp_is_refused(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    old = (acme.folder / "metadata" / "1.person-roto.json").read_bytes()
    acme.publish(acme.make(version="2.0.0", content=b"new"))
    acme.view(tmp_path / "state")
    put_in_place_of(acme, "person-roto", old)
    with pytest.raises(
        TrustError, match=r"rollback: .*person-roto\.json: expected version 2 or newer.*found version 1"
    ):
        acme.view(tmp_path / "state")


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.person-roto.json"])
def test_one_byte_changed_in_any_metadata_is_refused_naming_the_file(acme: Vendor, tmp_path: Path, file: str) -> None:
    acme.publish(acme.make())
    path = acme.folder / "metadata" / file
    data = path.read_bytes()
    spot = data.index(b'"expires":"2') + len(b'"expires":"2')
    path.write_bytes(data[:spot] + b"1" + data[spot + 1 :])
    with pytest.raises(TrustError, match=file.split(".", 1)[0] if file == "timestamp.json" else file):
        acme.view(tmp_path / "state")


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.person-roto.json"])
def test_missing_metadata_is_out_of_reach_and_not_forged(acme: Vendor, tmp_path: Path, file: str) -> None:
    acme.publish(acme.make())
    (acme.folder / "metadata" / file).unlink()
    with pytest.raises(UnreachableError, match=file):
        acme.view(tmp_path / "state")


def test_metadata_that_never_ends_is_cut_off(acme: Vendor, tmp_path: Path) -> None:
    with (acme.folder / "metadata" / "timestamp.json").open("ab") as file:
        file.write(b" " * 1_000_000)
    with pytest.raises(TrustError, match=r"timestamp\.json: expected at most 16384 bytes, found more"):
        acme.view(tmp_path / "state")


def test_a_key_of_one_model_signs_for_no_other(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    first = acme.keys.release.read_bytes()
    acme.keys.release.unlink()
    signing.new_key(acme.keys.release)
    acme.publish(acme.make("hair", content=b"hair"))
    assert set(acme.view(tmp_path / "state").indexes) == {"hair", "person-roto"}

    (tmp_path / "stolen.pem").write_bytes(first)
    hair = read_reached(acme.folder, acme.root).roles["hair"]
    forged = metadata.renewed(hair, "hair", acme.now)
    put_in_place_of(acme, "hair", signed_by(tmp_path / "stolen.pem", forged))

    with pytest.raises(
        TrustError, match=r"hair\.json: expected 1 signature\(s\) by the keys that may sign it, found 0"
    ):
        acme.view(tmp_path / "state")


def test_a_vendor_signs_for_no_other_vendor(acme: Vendor, make_vendor: Callable[..., Vendor], tmp_path: Path) -> None:
    rival = make_vendor("rival")
    acme.publish(acme.make())
    forged = metadata.renewed(read_reached(acme.folder, acme.root).roles["person-roto"], "person-roto", acme.now)
    put_in_place_of(acme, "person-roto", signed_by(rival.keys.release, forged))
    with pytest.raises(TrustError, match=r"person-roto\.json"):
        acme.view(tmp_path / "state")


def test_a_role_names_no_target_of_another_model(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    acme.publish(acme.make("hair", content=b"hair"))
    role: Targets = metadata.renewed(read_reached(acme.folder, acme.root).roles["person-roto"], "person-roto", acme.now)
    evil = Index(vendor="acme", name="hair").to_bytes()
    role.targets["hair/index.json"] = metadata.target_info("hair/index.json", evil)
    put_in_place_of(acme, "person-roto", signed_by(acme.keys.release, role))
    assert len(acme.view(tmp_path / "state").indexes["hair"].releases) == 1


def test_a_vendor_under_another_name_than_the_studio_gave_is_refused(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"vendor\.json: expected other, found acme"):
        vendor.open_vendor(acme.client(tmp_path / "state"), "other")


def test_an_index_that_calls_itself_another_is_refused(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    role: Targets = metadata.renewed(read_reached(acme.folder, acme.root).roles["person-roto"], "person-roto", acme.now)
    data = Index(vendor="acme", name="hair").to_bytes()
    role.targets["person-roto/index.json"] = metadata.target_info("person-roto/index.json", data)
    (acme.folder / f"targets/person-roto/{canonical.digest(data)}.index.json").write_bytes(data)
    put_in_place_of(acme, "person-roto", signed_by(acme.keys.release, role))
    with pytest.raises(TrustError, match="expected acme/person-roto, found acme/hair"):
        acme.view(tmp_path / "state")


def test_one_byte_changed_in_the_index_is_refused_naming_both_digests(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    (path,) = (acme.folder / "targets" / "person-roto").iterdir()
    data = path.read_bytes().replace(b"1.0.0", b"1.0.1")
    path.write_bytes(data)
    with pytest.raises(TrustError) as caught:
        acme.view(tmp_path / "state")
    assert path.name in caught.value.where
    assert caught.value.expected == f"sha256 {path.name.partition('.')[0]}"
    assert caught.value.actual == f"sha256 {canonical.digest(data)}"


# Records.


def test_one_byte_changed_in_a_record_is_refused_naming_both_digests(acme: Vendor, tmp_path: Path) -> None:
    made = acme.make()
    acme.publish(made)
    (entry,) = acme.view(tmp_path / "state").indexes["person-roto"].releases
    path = acme.folder / object_path(entry.record)
    path.write_bytes(path.read_bytes().replace(b"A matte.", b"A Matte."))
    with pytest.raises(TrustError) as caught:
        vendor.fetch_record(open_transport(str(acme.folder)), entry, "acme/person-roto")
    assert object_path(entry.record) in caught.value.where
    assert caught.value.expected == entry.record
    assert caught.value.actual == canonical.digest(path.read_bytes())


def test_a_record_longer_than_the_index_says_is_refused_before_it_is_read(acme: Vendor) -> None:
    made = acme.make()
    acme.publish(made)
    entry = IndexEntry(version="1.0.0", record=made.record.digest(), length=len(made.data) - 1)
    with pytest.raises(TrustError, match=rf"expected at most {len(made.data) - 1} bytes"):
        vendor.fetch_record(open_transport(str(acme.folder)), entry, "acme/person-roto")


@pytest.mark.parametrize(("model", "version"), [("acme/hair", "1.0.0"), ("acme/person-roto", "1.0.1")])
def test_a_record_of_another_release_than_the_index_says_is_refused(acme: Vendor, model: str, version: str) -> None:
    made = acme.make()
    acme.publish(made)
    entry = IndexEntry(version=version, record=made.record.digest(), length=len(made.data))
    with pytest.raises(TrustError, match=rf"expected {model} {version}, found acme/person-roto 1\.0\.0"):
        vendor.fetch_record(open_transport(str(acme.folder)), entry, model)


def test_a_record_that_is_not_there_is_out_of_reach(acme: Vendor) -> None:
    entry = IndexEntry(version="1.0.0", record="0" * 64, length=10)
    with pytest.raises(NotThereError, match="objects/00/0000"):
        vendor.fetch_record(open_transport(str(acme.folder)), entry, "acme/person-roto")


# What a publisher does not build on.


def test_a_publisher_does_not_sign_on_top_of_a_changed_index(acme: Vendor) -> None:
    acme.publish(acme.make())
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "wrong plates", acme.now)
    newest = read_reached(acme.folder, acme.root).roles["person-roto"].targets["person-roto/index.json"]
    path = acme.folder / f"targets/person-roto/{newest.hashes['sha256']}.index.json"
    path.write_bytes(path.read_bytes().replace(b"wrong", b"right"))
    with pytest.raises(TrustError, match=r"index\.json: expected sha256"):
        acme.publish(acme.make(version="2.0.0", content=b"new"))
    path.unlink()
    with pytest.raises(TrustError, match="found no file"):
        acme.publish(acme.make(version="2.0.0", content=b"new"))


def test_a_publisher_does_not_sign_on_top_of_another_root(acme: Vendor, make_vendor: Callable[..., Vendor]) -> None:
    thief = make_vendor(folder="thief")
    shutil.rmtree(acme.folder)
    shutil.copytree(thief.folder, acme.folder)
    with pytest.raises(TrustError, match=r"timestamp\.json: expected 1 signature"):
        acme.publish(acme.make())


def test_a_publisher_without_the_trusted_root_signs_nothing(acme: Vendor) -> None:
    acme.keys.anchor.unlink()
    with pytest.raises(InvalidInputError, match=r"root\.json"):
        acme.publish(acme.make())


@pytest.mark.parametrize("damage", [None, b"{}", b'{"signatures":[],"signed":{"_type":"unknown"}}'])
def test_a_publisher_names_the_metadata_that_is_missing_or_damaged(acme: Vendor, damage: bytes | None) -> None:
    path = acme.folder / "metadata" / "1.snapshot.json"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(TrustError, match=r"1\.snapshot\.json"):
        acme.publish(acme.make())


def test_a_role_signed_by_the_right_key_in_place_of_the_one_that_was_reached_is_refused(
    acme: Vendor, tmp_path: Path
) -> None:
    acme.publish(acme.make())
    other = read_reached(acme.folder, acme.root).roles["person-roto"]
    other.targets["person-roto/index.json"] = metadata.target_info("person-roto/index.json", b"another")
    (acme.folder / "metadata" / "1.person-roto.json").write_bytes(signed_by(acme.keys.release, other))
    with pytest.raises(TrustError, match=r"(hash|length) of metadata: .*1\.person-roto\.json"):
        acme.publish(acme.make(version="2.0.0", content=b"new"))
    with pytest.raises(TrustError, match=r"(hash|length) of metadata: .*1\.person-roto\.json"):
        acme.view(tmp_path / "state")


def test_a_publisher_walks_renewed_roots_and_refuses_a_forged_one(acme: Vendor, now: datetime) -> None:
    later = now + timedelta(days=200)
    assert vendor.renew(acme.folder, acme.keys, later)[0] == "root"
    acme.publish(acme.make(), later)
    root = metadata.renewed(read_reached(acme.folder, acme.root).root, "root", now)
    (acme.folder / "metadata" / "3.root.json").write_bytes(signed_by(acme.keys.online, root))
    with pytest.raises(TrustError, match=r"3\.root\.json"):
        acme.publish(acme.make(version="2.0.0", content=b"new"))
    root.version = 4
    (acme.folder / "metadata" / "3.root.json").write_bytes(signed_by(acme.keys.root, root))
    with pytest.raises(TrustError, match=r"3\.root\.json: expected version 3, found version 4"):
        acme.publish(acme.make(version="2.0.0", content=b"new"))


# Kills.


def test_a_reader_sees_the_old_or_the_new_release_wherever_publishing_is_killed(
    acme: Vendor, tmp_path: Path, disk_states: Any
) -> None:
    old, new = acme.make(), acme.make("hair", "2.0.0", b"new" * 2_000_000)
    acme.publish(old)
    acme.view(tmp_path / "state")
    with disk_states.watching(acme.folder, tmp_path / "states") as states:
        acme.publish(new)

    seen = []
    for number, state in enumerate(states):
        fresh = Client(open_transport(str(state)), tmp_path / f"fresh-{number}", acme.root)
        known = shutil.copytree(tmp_path / "state", tmp_path / f"known-{number}")
        knowing = Client(open_transport(str(state)), known, acme.root)
        views = [vendor.open_vendor(client, "acme") for client in (fresh, knowing)]
        assert views[0] == views[1]
        seen.append("hair" in views[0].indexes)
        if seen[-1]:
            (entry,) = views[0].indexes["hair"].releases
            assert vendor.fetch_record(fresh.transport, entry, "acme/hair")[0] == new.record
            assert all((state / object_path(digest)).stat().st_size == 6_000_000 for digest in new.files)
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (False, True)


def test_publishing_again_after_a_kill_anywhere_succeeds(acme: Vendor, tmp_path: Path, disk_states: Any) -> None:
    acme.publish(acme.make())
    new = acme.make(version="2.0.0", content=b"new")
    with disk_states.watching(acme.folder, tmp_path / "states") as states:
        acme.publish(new)
    for number, state in enumerate(states):
        vendor.publish(state, acme.keys, new.data, new.files, acme.now)
        client = Client(open_transport(str(state)), tmp_path / f"fresh-{number}", acme.root)
        releases = vendor.open_vendor(client, "acme").indexes["person-roto"].releases
        assert [entry.version for entry in releases] == ["1.0.0", "2.0.0"]


def test_creating_again_after_a_kill_anywhere_succeeds(tmp_path: Path, now: datetime, disk_states: Any) -> None:
    base = tmp_path / "base"
    base.mkdir()
    with disk_states.watching(base, tmp_path / "states") as states:
        keys = vendor.new_vendor_keys(base / "keys")
        vendor.create(base / "repository", "acme", keys, now)
    for number, state in enumerate(states):
        again = vendor.new_vendor_keys(state / "keys")
        try:
            root = vendor.create(state / "repository", "acme", again, now)
        except RefusedError:
            root = again.anchor.read_bytes()
        client = Client(open_transport(str(state / "repository")), tmp_path / f"state-{number}", root)
        assert vendor.open_vendor(client, "acme").card.vendor == "acme"


def test_every_refusal_here_has_a_line_of_its_own_and_an_exit_code(acme: Vendor) -> None:
    with pytest.raises(ChangeoverError) as caught:
        vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "why", acme.now)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
