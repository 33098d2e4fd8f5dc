"""Several key holders of one vendor: what one signs waits for the others, and studios see it when it is whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from changeover_registry import canonical, signing
from changeover_registry.client import Client
from changeover_registry.errors import ChangeoverError, InvalidInputError, LostRaceError, RefusedError, TrustError
from changeover_registry.records.vendor_change import VendorChange
from changeover_registry.repository import metadata, vendor, vendor_keys, vendor_waiting
from changeover_registry.repository.keys import next_place
from changeover_registry.repository.reached import read_reached
from changeover_registry.repository.vendor_change import WaitsError
from changeover_registry.repository.vendor_terms import ROLES, KeyRole
from changeover_registry.transport import open_transport

Vendor = Any


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    """Another holder's private key, on another machine."""
    path = tmp_path / "bob" / "bob.pem"
    path.parent.mkdir()
    signing.new_key(path)
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    """What readers can fetch, with the new numbers that nothing reaches left out of account by the caller."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def two_of(acme: Vendor, role: KeyRole, bob: Path) -> None:
    """From now on two must sign `role`: the key of this home, and bob's."""
    key = signing.load_signer(bob).public_key
    try:
        vendor_keys.add(acme.folder, acme.keys, role, key, acme.now)
        vendor_keys.set_threshold(acme.folder, acme.keys, role, 2, acme.now)
    except WaitsError:
        both(acme, bob)


def with_key(acme: Vendor, *more: Path) -> Any:
    return replace(acme.keys, more=more)


def both(acme: Vendor, bob: Path) -> None:
    """Whatever waits is signed by bob and written at home."""
    (path,) = vendor_waiting.waiting(acme.folder)
    vendor_keys.sign(acme.folder, with_key(acme, bob), path, acme.now)


def versions(acme: Vendor, state: Path) -> list[str]:
    return [entry.version for entry in acme.view(state).indexes["person-roto"].releases]


def key_ids(acme: Vendor, role: str) -> set[str]:
    return {held.key_id for held in vendor_keys.held_keys(acme.folder, acme.keys) if held.role == role}


# New keys.


@pytest.mark.parametrize("role", ["root", "targets", "online"])
def test_a_client_of_the_first_root_follows_20_new_keys_of_a_role(acme: Vendor, tmp_path: Path, role: KeyRole) -> None:
    acme.publish(acme.make())
    versions(acme, tmp_path / "state")
    first, used = acme.root, set()

    for _ in range(20):
        used.add(vendor_keys.rotate(acme.folder, acme.keys, role, acme.now))
        assert not next_place(getattr(acme.keys, role)).exists()

    assert (len(used), acme.root) == (20, first)
    assert key_ids(acme, "timestamp" if role == "online" else role) == {
        signing.load_signer(getattr(acme.keys, role)).public_key.keyid
    }
    acme.publish(acme.make(version="1.1.0", content=b"more"))
    acme.publish(acme.make("hair", content=b"hair"))
    for state in ("state", "new"):
        assert versions(acme, tmp_path / state) == ["1.0.0", "1.1.0"]


def test_all_keys_replaced_in_turn_three_times_while_releases_come(acme: Vendor, tmp_path: Path) -> None:
    expected = []
    for number in range(3):
        for role in ROLES:
            vendor_keys.rotate(acme.folder, acme.keys, role, acme.now)
        expected.append(f"1.{number}.0")
        acme.publish(acme.make(version=expected[-1], content=bytes([number])))
        assert versions(acme, tmp_path / "state") == expected
    assert versions(acme, tmp_path / "new") == expected


@pytest.mark.parametrize("role", ROLES)
def test_wherever_a_new_key_is_killed_every_reader_verifies_and_run_again_it_is_done(
    acme: Vendor, tmp_path: Path, disk_states: Any, role: KeyRole
) -> None:
    """A reader who is new, and one who knows the old state; both before and after it is run again."""
    acme.publish(acme.make())
    versions(acme, tmp_path / "old")
    with disk_states.watching(acme.base, tmp_path / "states") as states:
        key = vendor_keys.rotate(acme.folder, acme.keys, role, acme.now)
    assert len(states) > 5
    for number, state in enumerate(states):
        again = type(acme)(state, "acme", acme.now)
        shutil.copytree(tmp_path / "old", tmp_path / f"old-{number}")
        for reader in (f"new-{number}", f"old-{number}"):
            assert versions(again, tmp_path / reader) == ["1.0.0"]
        done = vendor_keys.rotate(again.folder, again.keys, role, acme.now)
        named = next_place(getattr(type(acme)(state, "acme", acme.now).keys, role))
        assert not named.exists()
        assert done in key_ids(again, {"online": "timestamp", "release": "person-roto"}.get(role, role))
        again.publish(again.make(version="1.1.0", content=b"more"))
        for reader in (f"new-{number}", f"old-{number}"):
            assert versions(again, tmp_path / reader) == ["1.0.0", "1.1.0"]
    assert key in key_ids(acme, {"online": "timestamp", "release": "person-roto"}.get(role, role))


def test_a_key_that_is_elsewhere_takes_the_place_of_one_here(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    record = tmp_path / "release.key"
    key = signing.new_key_elsewhere(record, f"file:{bob}")

    assert vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now, new=record) == key.keyid

    assert acme.keys.release.read_bytes() == record.read_bytes()
    acme.publish(acme.make(version="1.1.0", content=b"more"))
    assert versions(acme, tmp_path / "state") == ["1.0.0", "1.1.0"]
    bob.unlink()
    before = bytes_of(acme.folder)
    with pytest.raises(InvalidInputError, match=r"bob\.pem"):
        acme.publish(acme.make(version="1.2.0", content=b"most"))
    assert bytes_of(acme.folder) == before


def test_a_key_that_signs_already_is_no_new_one(acme: Vendor, bob: Path) -> None:
    vendor_keys.add(acme.folder, acme.keys, "root", signing.load_signer(bob).public_key, acme.now)
    before = bytes_of(acme.folder)

    with pytest.raises(RefusedError, match="which does"):
        vendor_keys.rotate(acme.folder, acme.keys, "root", acme.now, new=bob)

    assert bytes_of(acme.folder) == before
    assert not next_place(acme.keys.root).exists()
    vendor_keys.rotate(acme.folder, acme.keys, "root", acme.now)


def test_another_new_key_than_the_one_under_way_is_refused_until_that_is_done(
    acme: Vendor, tmp_path: Path, bob: Path
) -> None:
    acme.publish(acme.make())
    # What a rotation leaves that was killed before anything was signed.
    begun = signing.new_key(next_place(acme.keys.targets)).keyid
    before = bytes_of(acme.folder)

    with pytest.raises(RefusedError, match=f"found {begun[:12]}.*run the command without --to"):
        vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now, new=bob)

    assert bytes_of(acme.folder) == before
    assert vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now) == begun
    bobs = signing.load_signer(bob).public_key.keyid
    assert vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now, new=bob) == bobs
    assert versions(acme, tmp_path / "state") == ["1.0.0"]
    assert key_ids(acme, "targets") == {bobs}


def test_a_rotation_that_was_killed_before_its_key_was_in_place_goes_on_to_another(acme: Vendor, bob: Path) -> None:
    old = acme.keys.targets.read_bytes()
    begun = vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now)
    next_place(acme.keys.targets).write_bytes(acme.keys.targets.read_bytes())
    acme.keys.targets.write_bytes(old)

    bobs = signing.load_signer(bob).public_key.keyid
    assert vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now, new=bob) == bobs
    assert key_ids(acme, "targets") == {bobs} != {begun}


def test_a_lost_online_key_is_left_out_by_the_root(acme: Vendor, tmp_path: Path) -> None:
    """The old one can sign nothing any more, so that the root comes first; then readers follow."""
    acme.publish(acme.make())
    versions(acme, tmp_path / "state")
    old = signing.load_signer(acme.keys.online).public_key.keyid
    acme.keys.online.unlink()
    new = signing.new_key(acme.keys.online)

    vendor_keys.add(acme.folder, acme.keys, "online", new, acme.now)
    vendor_keys.remove(acme.folder, acme.keys, "online", old[:10], acme.now)

    assert key_ids(acme, "timestamp") == {new.keyid}
    for state in ("state", "new"):
        assert versions(acme, tmp_path / state) == ["1.0.0"]


# Several holders.


@pytest.mark.parametrize("role", ["root", "targets", "release"])
def test_two_must_sign_and_one_alone_changes_nothing(acme: Vendor, tmp_path: Path, bob: Path, role: KeyRole) -> None:
    acme.publish(acme.make())
    two_of(acme, role, bob)
    assert versions(acme, tmp_path / "state") == ["1.0.0"]
    before = bytes_of(acme.folder / "metadata")
    work: dict[str, Callable[[], object]] = {
        "root": lambda: vendor_keys.rotate(acme.folder, acme.keys, "root", acme.now),
        "targets": lambda: acme.publish(acme.make("hair", content=b"hair")),
        "release": lambda: acme.publish(acme.make(version="1.1.0", content=b"more")),
    }

    with pytest.raises(WaitsError, match="waits for more: .*1 more by") as caught:
        work[role]()

    assert caught.value.exit_code == 4
    assert bytes_of(acme.folder / "metadata") == before
    assert versions(acme, tmp_path / "state") == ["1.0.0"]
    both(acme, bob)
    assert vendor_waiting.waiting(acme.folder) == ()
    view = acme.view(tmp_path / "state")
    assert role != "release" or [e.version for e in view.indexes["person-roto"].releases] == ["1.0.0", "1.1.0"]
    assert role != "targets" or view.card.models == ("hair", "person-roto")
    assert role != "root" or read_reached(acme.folder, acme.root).root.version == 4
    assert not next_place(acme.keys.root).exists()


def test_a_holder_without_a_home_signs_a_copy_that_is_carried_back(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.1.0", content=b"more"))
    (path,) = vendor_waiting.waiting(acme.folder)
    carried = tmp_path / "bob" / path.name
    shutil.copy(path, carried)

    signed = vendor_waiting.sign_copy(carried, [signing.load_signer(bob)])

    assert signed == ("person-roto",)
    done = vendor_keys.sign(acme.folder, acme.keys, carried, acme.now)
    assert done.what == "publish person-roto 1.1.0"
    assert versions(acme, tmp_path / "state") == ["1.0.0", "1.1.0"]


def test_what_waits_is_said_again_and_a_second_change_of_that_number_is_refused(
    acme: Vendor, tmp_path: Path, bob: Path
) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    made = acme.make(version="1.1.0", content=b"more")
    with pytest.raises(WaitsError):
        acme.publish(made)
    (path,) = vendor_waiting.waiting(acme.folder)
    before = path.read_bytes()

    with pytest.raises(WaitsError):
        acme.publish(made, acme.now + timedelta(hours=1))
    with pytest.raises(LostRaceError, match=r"publish person-roto 1\.1\.0"):
        acme.publish(acme.make(version="1.2.0", content=b"most"))

    assert path.read_bytes() == before
    assert vendor_waiting.remove(acme.folder, path.stem)
    assert not vendor_waiting.remove(acme.folder, path.stem)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.2.0", content=b"most"))


def test_a_change_that_was_overtaken_is_written_by_nobody(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.1.0", content=b"more"))
    (path,) = vendor_waiting.waiting(acme.folder)
    old = path.read_bytes()
    vendor_waiting.remove(acme.folder, path.stem)
    made = acme.make(version="1.2.0", content=b"most")
    vendor.publish(acme.folder, with_key(acme, bob), made.data, made.files, acme.now)
    path.write_bytes(old)
    before = bytes_of(acme.folder)

    with pytest.raises(LostRaceError, match="version 3"):
        vendor_keys.sign(acme.folder, with_key(acme, bob), path, acme.now)

    assert bytes_of(acme.folder) == before
    assert versions(acme, tmp_path / "state") == ["1.0.0", "1.2.0"]


def test_the_wrong_key_files_nothing(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    acme.keys.release.unlink()
    signing.new_key(acme.keys.release)
    before = bytes_of(acme.folder)

    with pytest.raises(TrustError, match="2 of the keys"):
        acme.publish(acme.make(version="1.1.0", content=b"more"))

    assert bytes_of(acme.folder) == before


def test_signatures_by_strangers_and_wrong_ones_count_for_nothing_and_are_served_to_nobody(
    acme: Vendor, tmp_path: Path, bob: Path
) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.1.0", content=b"more"))
    (path,) = vendor_waiting.waiting(acme.folder)
    signing.new_key(tmp_path / "eve.pem")
    bobs, eve = signing.load_signer(bob).public_key.keyid, signing.load_signer(tmp_path / "eve.pem")
    change = VendorChange.from_bytes(path.read_bytes(), where="x")
    body = json.loads(change.files[0].text)
    body["signatures"] += [{"keyid": bobs, "sig": "00"}, {"keyid": eve.public_key.keyid, "sig": "00"}]
    file = change.files[0].model_copy(update={"text": json.dumps(body)})
    path.write_bytes(change.model_copy(update={"files": (file,)}).to_bytes())

    with pytest.raises(WaitsError):
        vendor_keys.sign(acme.folder, acme.keys, path, acme.now)
    assert versions(acme, tmp_path / "state") == ["1.0.0"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body["targets"][0].update(text="{}"), "does not name"),
        (lambda body: body["files"][0].update(text="{"), "cannot be read"),
        (lambda body: body["files"][0].update(role="root"), "another kind"),
        (lambda body: body.update(more=1), "unknown field"),
    ],
)
def test_a_waiting_file_that_somebody_changed_is_signed_by_nobody(
    acme: Vendor, bob: Path, change: Callable[[Any], None], says: str
) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.1.0", content=b"more"))
    (path,) = vendor_waiting.waiting(acme.folder)
    body = json.loads(path.read_bytes())
    change(body)
    path.write_bytes(canonical.dumps(body))
    before = bytes_of(acme.folder)

    ways: tuple[Callable[[], object], ...] = (
        lambda: vendor_keys.sign(acme.folder, with_key(acme, bob), path, acme.now),
        lambda: vendor_waiting.sign_copy(path, [signing.load_signer(bob)]),
    )
    for work in ways:
        with pytest.raises(InvalidInputError, match=says):
            work()
    assert bytes_of(acme.folder) == before


@pytest.mark.parametrize("role", ["root", "targets", "release"])
def test_fewer_keys_than_must_sign_are_refused(acme: Vendor, bob: Path, role: KeyRole) -> None:
    acme.publish(acme.make())
    mine = signing.load_signer(getattr(acme.keys, role)).public_key.keyid
    before = bytes_of(acme.folder)

    ways: tuple[Callable[[], object], ...] = (
        lambda: vendor_keys.remove(acme.folder, acme.keys, role, mine, acme.now),
        lambda: vendor_keys.set_threshold(acme.folder, acme.keys, role, 2, acme.now),
        lambda: vendor_keys.set_threshold(acme.folder, acme.keys, role, 0, acme.now),
        lambda: vendor_keys.set_threshold(acme.folder, acme.keys, "online", 2, acme.now),
    )
    for work in ways:
        with pytest.raises(RefusedError, match="threshold"):
            work()
    with pytest.raises(InvalidInputError, match="0 of them"):
        vendor_keys.remove(acme.folder, acme.keys, role, "0" * 64, acme.now)
    assert bytes_of(acme.folder) == before


def test_a_release_key_without_a_model_is_refused_and_a_wrong_model_is_named(acme: Vendor, bob: Path) -> None:
    key = signing.load_signer(bob).public_key
    with pytest.raises(RefusedError, match="publish the first release"):
        vendor_keys.add(acme.folder, acme.keys, "release", key, acme.now)
    acme.publish(acme.make())
    with pytest.raises(InvalidInputError, match="hair"):
        vendor_keys.add(acme.folder, acme.keys, "release", key, acme.now, ["hair"])


def test_a_new_model_is_signed_as_the_others_are(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    two_of(acme, "release", bob)

    with pytest.raises(WaitsError, match="hair: 1 more"):
        acme.publish(acme.make("hair", content=b"hair"))
    both(acme, bob)

    assert acme.view(tmp_path / "state").card.models == ("hair", "person-roto")
    assert len(key_ids(acme, "hair")) == 2


def test_one_models_keys_are_changed_alone(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    acme.publish(acme.make("hair", content=b"hair"))
    key = signing.load_signer(bob).public_key

    assert vendor_keys.add(acme.folder, acme.keys, "release", key, acme.now, ["hair"])
    assert not vendor_keys.add(acme.folder, acme.keys, "release", key, acme.now, ["hair"])

    assert key.keyid in key_ids(acme, "hair")
    assert key.keyid not in key_ids(acme, "person-roto")
    assert versions(acme, tmp_path / "state") == ["1.0.0"]


def test_dates_are_renewed_while_offline_roles_wait_for_their_holders(acme: Vendor, tmp_path: Path, bob: Path) -> None:
    acme.publish(acme.make())
    two_of(acme, "root", bob)
    later = acme.now + timedelta(days=200)

    signed = vendor.renew(acme.folder, acme.keys, later)

    assert signed == ("targets", "person-roto", "snapshot", "timestamp")
    (path,) = vendor_waiting.waiting(acme.folder)
    assert path.stem == "4.root"
    assert vendor.renew(acme.folder, acme.keys, later + timedelta(days=1)) == ("snapshot", "timestamp")
    vendor_keys.sign(acme.folder, with_key(acme, bob), path, later)
    assert read_reached(acme.folder, acme.root).root.expires == later + timedelta(days=365)
    assert versions(acme, tmp_path / "state") == ["1.0.0"]


def test_without_offline_keys_the_rest_is_renewed(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    acme.keys.root.unlink()
    acme.keys.targets.unlink()

    signed = vendor.renew(acme.folder, acme.keys, acme.now + timedelta(days=200))

    assert signed == ("person-roto", "snapshot", "timestamp")


# Stolen keys.


def driven_up(acme: Vendor, folder: Path, version: int) -> None:
    """What a thief of the release key and the online key serves elsewhere: another index, and numbers far ahead."""
    shutil.copytree(acme.folder, folder)
    reached = read_reached(folder, acme.root)
    role: Targets = metadata.renewed(reached.roles["person-roto"], "person-roto", acme.now)
    role.version = version
    signed: Metadata[Any] = Metadata(role)
    signed.sign(signing.load_signer(acme.keys.release))
    data, online = signed.to_bytes(), signing.load_signer(acme.keys.online)
    (folder / "metadata" / f"{version}.person-roto.json").write_bytes(data)
    meta = {**reached.snapshot.meta, "person-roto.json": MetaFile.from_data(version, data, ["sha256"])}
    snapshot: Metadata[Any] = Metadata(Snapshot(version, expires=acme.now + timedelta(days=3000), meta=meta))
    snapshot.sign(online)
    (folder / "metadata" / f"{version}.snapshot.json").write_bytes(snapshot.to_bytes())
    timestamp = Timestamp(version, expires=acme.now + timedelta(days=3000))
    timestamp.snapshot_meta = MetaFile.from_data(version, snapshot.to_bytes(), ["sha256"])
    last: Metadata[Any] = Metadata(timestamp)
    last.sign(online)
    (folder / "metadata" / "timestamp.json").write_bytes(last.to_bytes())


def test_numbers_that_a_thief_drove_up_bind_nobody_once_the_keys_are_new(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    driven_up(acme, tmp_path / "evil", 2**31)
    elsewhere = Client(open_transport(str(tmp_path / "evil")), tmp_path / "state", acme.root)
    elsewhere.refresh()
    assert elsewhere.versions()["person-roto"] == 2**31
    with pytest.raises(TrustError, match="timestamp"):
        versions(acme, tmp_path / "state")

    for role in ("release", "online"):
        vendor_keys.rotate(acme.folder, acme.keys, role, acme.now)
    acme.publish(acme.make(version="1.1.0", content=b"more"))

    assert versions(acme, tmp_path / "state") == ["1.0.0", "1.1.0"]
    again = Client(open_transport(str(tmp_path / "evil")), tmp_path / "state", acme.root)
    with pytest.raises(ChangeoverError) as caught:
        again.refresh()
    assert caught.value.exit_code == 5
    assert versions(acme, tmp_path / "state") == ["1.0.0", "1.1.0"]


def test_what_a_thief_of_the_online_key_left_in_the_home_is_passed_over(acme: Vendor, tmp_path: Path) -> None:
    """He named an older index and drove the numbers up; a new key names the newest that the release key signed."""
    acme.publish(acme.make())
    old = read_reached(acme.folder, acme.root).snapshot.meta["person-roto.json"]
    acme.publish(acme.make(version="1.1.0", content=b"more"))
    reached = read_reached(acme.folder, acme.root)
    reached.snapshot.meta["person-roto.json"] = old
    reached.snapshot.version = reached.timestamp.version = 2**31
    metadata.reach(acme.folder, reached, (), signing.load_signer(acme.keys.online), acme.now)
    assert versions(acme, tmp_path / "state") == ["1.0.0"]

    vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)

    for state in ("state", "new"):
        assert versions(acme, tmp_path / state) == ["1.0.0", "1.1.0"]


def test_a_timestamp_that_was_broken_in_the_home_is_made_anew_by_the_root(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    versions(acme, tmp_path / "state")
    (acme.folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    with pytest.raises(TrustError):
        vendor_keys.rotate(acme.folder, acme.keys, "targets", acme.now)

    vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)

    for state in ("state", "new"):
        assert versions(acme, tmp_path / state) == ["1.0.0"]


def test_without_the_online_key_nothing_that_studios_read_changes(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    before = bytes_of(acme.folder / "metadata")
    acme.keys.online.unlink()

    ways: tuple[Callable[[], object], ...] = (
        lambda: acme.publish(acme.make(version="1.1.0", content=b"more")),
        lambda: vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "x", acme.now),
        lambda: vendor.renew(acme.folder, acme.keys, acme.now),
        lambda: vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now),
    )
    for work in ways:
        with pytest.raises(InvalidInputError, match=r"online\.pem"):
            work()

    assert bytes_of(acme.folder / "metadata") == before
    assert versions(acme, tmp_path / "state") == ["1.0.0"]


def test_a_lost_targets_key_is_left_out_by_the_root(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    versions(acme, tmp_path / "state")
    old = signing.load_signer(acme.keys.targets).public_key.keyid
    acme.keys.targets.unlink()
    new = signing.new_key(acme.keys.targets)

    vendor_keys.add(acme.folder, acme.keys, "targets", new, acme.now)
    vendor_keys.remove(acme.folder, acme.keys, "targets", old, acme.now)

    acme.publish(acme.make("hair", content=b"hair"))
    for state in ("state", "new"):
        assert acme.view(tmp_path / state).card.models == ("hair", "person-roto")
