"""A vendor's repository carried to places: in memory and in folders. The same over S3 stands in test_carrying_s3."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from changeover_registry.client import Client
from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.repository import vendor, vendor_keys, vendor_terms
from changeover_registry.repository.carrying import carry, look, verify
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.outlet import TIMESTAMP, Contents, Piece, missing, root_path
from changeover_registry.repository.reading import read_master
from changeover_registry.repository.vendor import fetch_record, open_vendor
from changeover_registry.signing import load_signer
from changeover_registry.transport.interface import Transport
from changeover_registry.transport.writing import FolderPlace, MemoryPlace, open_place

Acme = Any
"""`Vendor` of the conftest, which no test module may import."""


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryPlace | FolderPlace:
    return MemoryPlace({}) if request.param == "memory" else FolderPlace(tmp_path / "share")


def seen(acme: Acme, transport: Transport, state: Path) -> dict[str, tuple[str, ...]]:
    """What a studio of this vendor sees: its releases by model, each read in full and held against its digests."""
    view = open_vendor(Client(transport, state, acme.root), acme.name)
    found = {}
    for name, index in view.indexes.items():
        for entry in index.releases:
            record, _ = fetch_record(transport, entry, f"{acme.name}/{name}")
            for file in record.variants[0].files:
                data = transport.read(object_path(file.sha256), limit=file.size)
                assert hashlib.sha256(data).hexdigest() == file.sha256
        found[name] = tuple(entry.version + ("-" if entry.withdrawn else "") for entry in index.releases)
    return found


def state_of(place: MemoryPlace | FolderPlace) -> dict[str, bytes]:
    if isinstance(place, MemoryPlace):
        return dict(place.files)
    folder = Path(place.location)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(place: MemoryPlace | FolderPlace, path: str, data: bytes | None) -> None:
    if isinstance(place, MemoryPlace):
        place.files.pop(path, None)
        place.files.update({} if data is None else {path: data})
    elif data is None:
        (Path(place.location) / path).unlink()
    else:
        place.put(path, data)


def test_a_place_that_is_filled_is_what_a_studio_verifies(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    acme.publish(acme.make())

    done = carry(acme.folder, acme.root, place)

    assert done.before == "empty"
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0",)}
    assert look(acme.folder, acme.root, place).standing == "current"


def test_every_byte_at_the_place_is_the_homes_and_nothing_else_is_there(
    acme: Acme, place: MemoryPlace | FolderPlace
) -> None:
    acme.publish(acme.make())
    acme.publish(acme.make(version="1.1.0", content=b"other weights"))
    (acme.folder / object_path("0" * 64)).parent.mkdir(parents=True, exist_ok=True)
    (acme.folder / object_path("0" * 64)).write_bytes(b"what a killed publication left")

    carry(acme.folder, acme.root, place)

    there = state_of(place)
    assert there == {path: (acme.folder / path).read_bytes() for path in there}
    assert object_path("0" * 64) not in there


def test_what_is_there_is_not_put_again(acme: Acme, place: MemoryPlace | FolderPlace) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    before = state_of(place)

    again = carry(acme.folder, acme.root, place)
    acme.publish(acme.make(version="1.1.0"))
    more = carry(acme.folder, acme.root, place)

    assert (again.before, again.files) == ("current", 0)
    assert more.before == "behind"
    # The weights are those of 1.0.0: a record, an index, a role, a snapshot and the timestamp are new.
    assert more.files == 5
    assert before.items() - {(TIMESTAMP, before[TIMESTAMP])} <= state_of(place).items()


def test_a_withdrawal_is_carried(acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "flickers", acme.now)

    carry(acme.folder, acme.root, place)

    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0-",)}


def test_new_keys_are_carried_and_a_studio_of_the_first_root_follows(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0",)}
    for _ in range(3):
        vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)
    vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now)
    acme.publish(acme.make(version="1.1.0"))

    assert carry(acme.folder, acme.root, place).before == "behind"

    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0", "1.1.0")}


@pytest.mark.parametrize("change", ["publish", "withdraw", "renew", "online", "targets", "root", "release"])
def test_cut_off_after_any_file_a_studio_sees_the_old_state_or_the_new_one(
    acme: Acme, tmp_path: Path, change: str
) -> None:
    acme.publish(acme.make())
    place = MemoryPlace({})
    carry(acme.folder, acme.root, place)
    old = dict(place.files)
    changes: dict[str, Callable[[], object]] = {
        "publish": lambda: acme.publish(acme.make("hair", "2.0.0", b"x" * 100_000)),
        "withdraw": lambda: vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "flickers", acme.now),
        "renew": lambda: vendor.renew(acme.folder, acme.keys, acme.now + timedelta(days=300)),
    }
    if change in changes:
        changes[change]()
    else:
        vendor_keys.rotate(acme.folder, acme.keys, cast("vendor_terms.KeyRole", change), acme.now)
    files = carry(acme.folder, acme.root, MemoryPlace(dict(old))).files
    before = seen(acme, MemoryPlace(dict(old)), tmp_path / "before")

    for count in range(files):
        place = MemoryPlace(dict(old))
        place.puts_left = count
        state = tmp_path / f"state{count}"
        seen(acme, MemoryPlace(dict(old)), state)
        with pytest.raises(UnreachableError):
            carry(acme.folder, acme.root, place)
        for reader in (state, tmp_path / f"new{count}"):
            moved = place.files[TIMESTAMP] != old[TIMESTAMP]
            assert moved or seen(acme, MemoryPlace(dict(place.files)), reader) == before
            seen(acme, MemoryPlace(dict(place.files)), reader)
        place.reachable, place.puts_left = True, None
        carry(acme.folder, acme.root, place)
        assert place.files[TIMESTAMP] == (acme.folder / TIMESTAMP).read_bytes()
        assert root_path(len(read_master(acme.folder, acme.root).roots)) in place.files
        assert carry(acme.folder, acme.root, place).files == 0
        seen(acme, place, state)

    assert files >= 2


def test_many_new_roots_are_seen_at_once_or_not_at_all(acme: Acme, tmp_path: Path) -> None:
    acme.publish(acme.make())
    place = MemoryPlace({})
    carry(acme.folder, acme.root, place)
    for _ in range(4):
        vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)
    old = dict(place.files)
    refused = 0

    for count in range(carry(acme.folder, acme.root, MemoryPlace(dict(old))).files):
        cut = MemoryPlace(dict(old))
        cut.puts_left = count
        with pytest.raises(UnreachableError):
            carry(acme.folder, acme.root, cut)
        try:
            assert seen(acme, MemoryPlace(cut.files), tmp_path / f"{count}") == {"person-roto": ("1.0.0",)}
        except TrustError:
            refused += 1

    assert refused == 1


# What may not be filled.


def test_another_vendors_repository_is_left_as_it_is(
    acme: Acme, make_vendor: Callable[..., Acme], place: MemoryPlace | FolderPlace
) -> None:
    other = make_vendor("other")
    other.publish(other.make())
    carry(other.folder, other.root, place)
    before = state_of(place)

    with pytest.raises(TrustError, match=r"the repository of this vendor, or nothing, found another first root"):
        carry(acme.folder, acme.root, place)

    assert state_of(place) == before


def test_a_second_vendor_of_the_same_name_cannot_take_the_place(
    acme: Acme, make_vendor: Callable[..., Acme], place: MemoryPlace | FolderPlace
) -> None:
    carry(acme.folder, acme.root, place)
    forger = make_vendor("acme", folder="forger")
    before = state_of(place)

    with pytest.raises(TrustError):
        carry(forger.folder, forger.root, place)

    assert state_of(place) == before


def test_a_newer_state_of_another_copy_of_the_home_is_left_as_it_is(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    acme.publish(acme.make())
    copy = acme.copy(tmp_path / "copy")
    copy.publish(copy.make(version="1.1.0"))
    carry(copy.folder, copy.root, place)
    before = state_of(place)

    with pytest.raises(LostRaceError, match=r"at most timestamp version 2, which this home has, found version 3"):
        carry(acme.folder, acme.root, place)
    acme.publish(acme.make(version="1.2.0"))
    with pytest.raises(LostRaceError):
        carry(acme.folder, acme.root, place)

    assert state_of(place) == before


def test_a_newer_root_of_another_copy_of_the_home_is_left_as_it_is(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    copy = acme.copy(tmp_path / "copy")
    vendor_keys.rotate(copy.folder, copy.keys, "online", copy.now)
    carry(copy.folder, copy.root, place)
    before = state_of(place)

    with pytest.raises(LostRaceError, match=r"at most root version 1, which this home has, found version 2"):
        carry(acme.folder, acme.root, place)

    assert state_of(place) == before


@pytest.mark.parametrize("path", [TIMESTAMP, "metadata/1.root.json", "metadata/2.root.json"])
def test_a_place_that_was_damaged_is_named_and_left(acme: Acme, place: MemoryPlace | FolderPlace, path: str) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    damage(place, path, b'{"signed": {}}')
    acme.publish(acme.make(version="1.1.0"))
    before = state_of(place)

    with pytest.raises(TrustError, match=r"changeover vendor carry") as caught:
        carry(acme.folder, acme.root, place)

    assert path in caught.value.actual
    assert state_of(place) == before
    damage(place, path, None)
    carry(acme.folder, acme.root, place)
    assert look(acme.folder, acme.root, place).standing == "current"


def test_a_stolen_online_key_that_drove_the_number_up_is_overcome_by_a_new_one(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    forged: Metadata[Any] = Metadata.from_bytes((acme.folder / TIMESTAMP).read_bytes())
    forged.signed.version = 2**31
    key: Any = load_signer(acme.keys.online)
    assert isinstance(key, CryptoSigner)
    forged.sign(key)
    damage(place, TIMESTAMP, forged.to_bytes())
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0",)}
    acme.publish(acme.make(version="1.1.0"))
    with pytest.raises(LostRaceError, match="keys rotate online"):
        carry(acme.folder, acme.root, place)

    vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)
    carry(acme.folder, acme.root, place)

    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0", "1.1.0")}


def test_a_place_that_holds_other_things_is_left_as_it_is(acme: Acme, place: MemoryPlace | FolderPlace) -> None:
    Path(place.location).mkdir(exist_ok=True) if isinstance(place, FolderPlace) else None
    place.put("holiday.jpg", b"a picture")

    with pytest.raises(RefusedError, match=r"found other things: holiday\.jpg"):
        carry(acme.folder, acme.root, place)

    assert state_of(place) == {"holiday.jpg": b"a picture"}


def test_a_place_that_moves_while_it_is_filled_keeps_its_timestamp(acme: Acme, tmp_path: Path) -> None:
    acme.publish(acme.make())
    copy = acme.copy(tmp_path / "copy")
    copy.publish(copy.make(version="1.1.0"))
    acme.publish(acme.make(version="1.2.0"))
    place = MemoryPlace({})

    def other(text: str) -> None:
        if "the timestamp" in text:
            carry(copy.folder, copy.root, place)

    with pytest.raises(LostRaceError, match="expected the timestamp that was there before"):
        carry(acme.folder, acme.root, place, step=other)

    assert place.files[TIMESTAMP] == (copy.folder / TIMESTAMP).read_bytes()
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0", "1.1.0")}


class Forgetful(MemoryPlace):
    """A store that takes a file in and keeps other bytes of it."""

    spoils = ""

    def put(self, path: str, data: bytes) -> None:
        super().put(path, b"?" + data[1:] if path.startswith(self.spoils) else data)


@pytest.mark.parametrize("spoils", ["objects/", "targets/", "metadata/3.snapshot"])
def test_a_store_that_does_not_keep_what_it_takes_is_found_before_anything_names_it(
    acme: Acme, tmp_path: Path, spoils: str
) -> None:
    acme.publish(acme.make())
    place = Forgetful({})
    place.spoils = "nothing"
    carry(acme.folder, acme.root, place)
    before = place.files[TIMESTAMP]
    acme.publish(acme.make(version="1.1.0", content=b"more weights"))
    place.spoils = spoils

    with pytest.raises(TrustError, match="does not keep what it takes"):
        carry(acme.folder, acme.root, place)

    assert place.files[TIMESTAMP] == before
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0",)}


def test_a_store_that_shows_an_old_timestamp_is_said_to(acme: Acme) -> None:
    acme.publish(acme.make())
    place = Forgetful({})
    place.spoils = TIMESTAMP

    with pytest.raises(UnreachableError, match="the store shows an older copy"):
        carry(acme.folder, acme.root, place)


def test_a_file_that_was_damaged_at_home_is_put_nowhere(acme: Acme, place: MemoryPlace | FolderPlace) -> None:
    made = acme.make()
    acme.publish(made)
    (digest,) = made.files
    (acme.folder / object_path(digest)).write_bytes(b"damaged")

    with pytest.raises(TrustError, match="take the home's repository back from a backup"):
        carry(acme.folder, acme.root, place)

    assert object_path(digest) not in state_of(place)
    assert TIMESTAMP not in state_of(place)


# What damage there is, and how it is mended.


def test_every_damaged_file_is_named_and_carrying_whole_puts_them_back(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    made = acme.make()
    acme.publish(made)
    carry(acme.folder, acme.root, place)
    assert verify(acme.folder, acme.root, place) == ()
    (digest,) = made.files
    record = object_path(hashlib.sha256(made.data).hexdigest())
    damage(place, object_path(digest), b"worse weights")
    damage(place, record, None)

    wrong = verify(acme.folder, acme.root, place)

    assert len(wrong) == 2
    assert f"{object_path(digest)}: expected sha256 {digest}, found sha256" in " ".join(wrong)
    assert f"{record}: expected sha256 {made.record.digest()}, found no file" in " ".join(wrong)
    assert carry(acme.folder, acme.root, place).files == 0
    assert carry(acme.folder, acme.root, place, whole=True).files == 2
    assert verify(acme.folder, acme.root, place) == ()
    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0",)}


def test_a_place_says_until_when_it_is_trusted(acme: Acme, place: MemoryPlace | FolderPlace, now: datetime) -> None:
    assert look(acme.folder, acme.root, place).expires is None
    carry(acme.folder, acme.root, place)
    vendor.renew(acme.folder, acme.keys, now + timedelta(days=10))

    looked = look(acme.folder, acme.root, place)

    assert looked.standing == "behind"
    assert looked.expires == now + timedelta(days=30)


# Folders and addresses.


def test_a_folder_under_one_that_is_not_there_is_a_mount_that_is_missing(acme: Acme, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="mount the disk"):
        carry(acme.folder, acme.root, FolderPlace(tmp_path / "mnt" / "share"))
    assert not (tmp_path / "mnt").exists()


def test_a_folder_that_cannot_be_written_is_out_of_reach(acme: Acme, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "targets").symlink_to(tmp_path / "gone")

    with pytest.raises(UnreachableError, match=r"share/targets/.*found File exists; .*changeover vendor carry"):
        carry(acme.folder, acme.root, FolderPlace(tmp_path / "share"))

    assert not (tmp_path / "share" / TIMESTAMP).exists()


def test_a_web_server_is_no_place_to_put_files() -> None:
    with pytest.raises(InvalidInputError, match="the folder or the bucket that the web server serves"):
        open_place("https://models.example.com/acme")


def test_addresses_name_their_places(tmp_path: Path) -> None:
    assert open_place(str(tmp_path)).location == open_place(tmp_path.as_uri()).location == str(tmp_path)


# Order, as values.


def test_the_order_is_objects_targets_metadata_and_the_newest_root_first() -> None:
    pieces = [Piece(name, name * 64, 1) for name in "abcdef"]
    new = Contents((pieces[0],), (pieces[1],), (pieces[2], pieces[3]))

    assert missing(new, None, pieces[4:]) == (*pieces[:4], pieces[5], pieces[4])
    assert missing(new, Contents((), (pieces[1],), (pieces[2],)), ()) == (pieces[0], pieces[3])


def test_a_piece_of_another_digest_is_missing() -> None:
    old, new = Piece("metadata/2.x.json", "a" * 64, 1), Piece("metadata/2.x.json", "b" * 64, 1)

    assert missing(Contents((), (), (new,)), Contents((), (), (old,)), ()) == (new,)


def test_an_older_state_that_the_home_lost_is_looked_at_file_by_file(
    acme: Acme, place: MemoryPlace | FolderPlace, tmp_path: Path
) -> None:
    acme.publish(acme.make())
    carry(acme.folder, acme.root, place)
    lost = sorted((acme.folder / "metadata").glob("*.snapshot.json"))
    acme.publish(acme.make(version="1.1.0"))
    for path in lost:
        path.unlink()

    carry(acme.folder, acme.root, place)

    assert seen(acme, place, tmp_path / "state") == {"person-roto": ("1.0.0", "1.1.0")}
