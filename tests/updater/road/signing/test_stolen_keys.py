"""One key, or one party's keys, in a thief's hands who can also write where that party writes: no station follows."""

import json
import logging
import shutil
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from changeover_registry import signing
from changeover_registry.records.choice import Back, Choice, Entry, Pointer, Returned
from changeover_registry.records.release import ReleaseRef
from changeover_registry.repository import metadata, vendor
from changeover_registry.repository.reached import Reached, read_reached
from changeover_updater import vendors
from changeover_updater.release_folder import read_release

ENTRY = Entry(who="eve", when="2026-11-22T13:45:00Z", why="x", what="x")


def refused(signers: Any, *words: str, code: int = 5) -> None:
    """No command of the station follows, each says why in one line, and `current` is as it was."""
    before = signers.current()
    for command in ("plan", "update"):
        answer = signers.world.run(command)
        assert answer[0] == code, answer
        assert answer[2].count("\n") == 1
        assert all(word in answer[2] for word in words), answer[2]
    assert signers.current() == before
    assert signers.world.run("status")[0] == 0


def unmoved(signers: Any) -> str:
    """An update goes well and changes nothing."""
    before = signers.current()
    said: str = signers.world.ok("update")
    assert "nothing changed" in said
    assert signers.current() == before
    return said


def forged_choice(signers: Any, key: Signer, ref: ReleaseRef) -> tuple[dict[str, bytes], metadata.RoleFile]:
    """The next choice of the site as a thief writes it, signed by one key."""
    head = signers.history()[-1]
    pointer = Pointer(channel="stable", release=ref)
    link = {"number": head.number + 1, "previous": head.digest(), "entry": ENTRY, "channels": (pointer,)}
    choice = Choice.from_bytes(head.model_copy(update=link).to_bytes(), where="forged")
    role = Targets(choice.number, expires=signers.world.now + timedelta(days=365))
    path = f"site/choice-{choice.number}.json"
    role.targets[path] = metadata.target_info(path, choice.to_bytes())
    signed: Metadata[Any] = Metadata(role)
    signed.sign(key)
    return {path: choice.to_bytes()}, metadata.RoleFile("site", choice.number, signed.to_bytes())


def reached_of(signers: Any) -> Reached:
    return read_reached(signers.folder, signers.keys.anchor.read_bytes())


def site_key(signers: Any) -> Signer:
    return signing.load_signer(signers.keys.site)


def put(signers: Any, snapshot: Snapshot, timestamp_version: int) -> None:
    """Snapshot and timestamp as the thief of the online key signs them."""
    key, now = site_key(signers), signers.world.now
    made: Metadata[Any] = Metadata(snapshot)
    made.sign(key)
    data = made.to_bytes()
    (signers.folder / "metadata" / f"{snapshot.version}.snapshot.json").write_bytes(data)
    timestamp = Timestamp(timestamp_version, expires=now + timedelta(days=3000))
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
    again: Metadata[Any] = Metadata(timestamp)
    again.sign(key)
    (signers.folder / "metadata" / "timestamp.json").write_bytes(again.to_bytes())


def newer_snapshot(signers: Any, meta: dict[str, MetaFile]) -> Snapshot:
    number = reached_of(signers).snapshot.version + 50
    return Snapshot(number, expires=signers.world.now + timedelta(days=3000), meta=meta)


# The vendor's keys.


def test_a_vendors_stolen_online_keys_publish_and_choose_nothing(signers: Any) -> None:
    world = signers.world
    release = world.publish("1.2.0")

    assert str(release.ref()) not in unmoved(signers)

    code, _, err = world.run("promote", "tiny-roto@1.2.0", "--reason", "the vendor says so")
    assert (code, "no verdict at all" in err) == (4, True)
    assert str(release.ref()) not in world.ok("plan")


def test_a_vendors_stolen_root_cannot_change_what_was_chosen(signers: Any) -> None:
    """With every key of the vendor, 1.0.0 itself becomes another record: the choice names the one that was proven."""
    world = signers.world
    shutil.rmtree(world.repository)
    vendor.create(world.repository, "acme", world.keys, world.now)
    folder = world.folders / "1.2.0"
    made = read_release(folder)
    files = {f.sha256: folder / variant.id / f.path for variant in made.variants for f in variant.files}
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        forged = made.model_copy(update={"version": version})
        vendor.publish(world.repository, world.keys, forged.to_bytes(), files, world.now)
    for _ in range(12):
        # The thief's repository is new; its numbers are driven past those that the studio has seen.
        vendor.renew(world.repository, world.keys, world.now)
    world.ok("sync")

    unmoved(signers)

    assert signers.served() == str(signers.first.ref())
    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--reason", "it has that name")
    assert (code, "no verdict at all" in err) == (4, True)


# A promoter's key, where two must sign.


def test_a_stolen_promoters_key_files_what_nobody_else_signs(signers: Any) -> None:
    said = signers.bob.ok("promote", "tiny-roto@1.1.0", "--reason", "eve with bob's key")

    assert "waits for one more signature of 2, by td@vm1" in said
    unmoved(signers)


def test_a_stolen_promoters_key_with_write_access_decides_nothing(signers: Any) -> None:
    bobs = signing.load_signer(signers.world.root / "bobs" / "bob.pem")
    data, file = forged_choice(signers, bobs, signers.second.ref())
    metadata.write(signers.folder, reached_of(signers), metadata.Change(data, (file,)), None, signers.world.now)

    unmoved(signers)
    code, _, err = signers.world.run("promote", "tiny-roto@1.1.0", "--reason", "mine")
    assert code == 5
    assert "5.site.json: expected 2 signature(s) by the keys that may sign it, found 1 valid" in err


def test_a_stolen_promoters_key_and_the_stolen_online_key_are_still_one_signature_short(signers: Any) -> None:
    bobs = signing.load_signer(signers.world.root / "bobs" / "bob.pem")
    data, file = forged_choice(signers, bobs, signers.second.ref())
    change = metadata.Change(data, (file,))
    metadata.write(signers.folder, reached_of(signers), change, site_key(signers), signers.world.now)

    refused(signers, "site.json", "expected 2 signature(s)", "found 1 valid")


# The site's online key.


def test_the_stolen_online_key_forges_no_choice(signers: Any) -> None:
    data, file = forged_choice(signers, site_key(signers), signers.second.ref())
    change = metadata.Change(data, (file,))
    metadata.write(signers.folder, reached_of(signers), change, site_key(signers), signers.world.now)

    refused(signers, "site.json", "expected 2 signature(s)", "found 0 valid")


def test_the_stolen_online_key_enrols_no_key_of_its_own(signers: Any) -> None:
    reached = reached_of(signers)
    thief = site_key(signers)
    targets = metadata.renewed(reached.targets, "targets", signers.world.now)
    metadata.delegate(targets, "site", "site/*", [thief.public_key], 1)
    signed: Metadata[Any] = Metadata(targets)
    signed.sign(thief)
    data, choice = forged_choice(signers, thief, signers.second.ref())
    files = (metadata.RoleFile("targets", targets.version, signed.to_bytes()), choice)
    metadata.write(signers.folder, reached, metadata.Change(data, files), thief, signers.world.now)

    refused(signers, "targets.json", "expected 1 signature(s)", "found 0 valid")


def test_the_stolen_online_key_rolls_nothing_back(signers: Any) -> None:
    """The choice before is rightly signed; naming it again is a rollback."""
    reached = reached_of(signers)
    older = signers.folder / "metadata" / "3.site.json"
    meta = dict(reached.snapshot.meta)
    meta["site.json"] = MetaFile.from_data(3, older.read_bytes(), ["sha256"])
    put(
        signers,
        Snapshot(reached.snapshot.version + 50, expires=signers.world.now + timedelta(days=3000), meta=meta),
        50,
    )

    refused(signers, "rollback", "site.json", "version 4 or newer, which was seen here before", "found version 3")


def test_the_stolen_online_key_mixes_nothing(signers: Any) -> None:
    """The newest choice of the site with an older list of who may sign."""
    reached = reached_of(signers)
    meta = dict(reached.snapshot.meta)
    data = (signers.folder / "metadata" / "1.targets.json").read_bytes()
    meta["targets.json"] = MetaFile.from_data(1, data, ["sha256"])
    put(
        signers,
        Snapshot(reached.snapshot.version + 50, expires=signers.world.now + timedelta(days=3000), meta=meta),
        50,
    )

    refused(signers, "rollback", "targets.json", "found version 1")


def test_the_stolen_online_key_takes_no_scope_away(signers: Any) -> None:
    reached = reached_of(signers)
    meta = {name: file for name, file in reached.snapshot.meta.items() if name != "site.json"}
    put(
        signers,
        Snapshot(reached.snapshot.version + 50, expires=signers.world.now + timedelta(days=3000), meta=meta),
        50,
    )

    refused(signers, "rollback", "site.json in it, which was there before")


def test_the_stolen_online_key_freezes_a_studio_and_a_new_key_thaws_it(signers: Any) -> None:
    """It can show yesterday for ever, and drive numbers up: the one remedy is the root key's, and it is enough."""
    reached = reached_of(signers)
    frozen = Snapshot(2**40, expires=signers.world.now + timedelta(days=3000), meta=dict(reached.snapshot.meta))
    put(signers, frozen, 2**40)
    unmoved(signers)
    stolen = site_key(signers)

    said = signers.world.ok("keys", "rotate", "site", "--reason", "the server was broken into")

    assert "the choices stand at site 4" in said
    unmoved(signers)
    signers.promote("1.1.0")
    signers.world.ok("sync")
    assert reached_of(signers).timestamp.version < 20
    signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())
    timestamp: Metadata[Any] = Metadata(Timestamp(2**41, expires=signers.world.now + timedelta(days=30)))
    timestamp.sign(stolen)
    (signers.folder / "metadata" / "timestamp.json").write_bytes(timestamp.to_bytes())
    refused(signers, "timestamp.json", "found 0 valid")


# A back key, with the online key without which nothing is seen.


def test_a_stolen_back_key_names_a_release_that_was_never_chosen_and_is_left_aside(
    signers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    forge_back(signers, signers.second.ref(), held_in=4)

    with caplog.at_level(logging.WARNING):
        unmoved(signers)

    (told, *_) = [record.getMessage() for record in caplog.records if "way back" in record.getMessage()]
    assert "a stolen back key, or a mistake" in told
    assert str(signers.second.ref()) in told
    signers.promote("1.1.0")
    signers.world.ok("sync")
    signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())


def test_a_stolen_back_key_names_a_release_that_was_withdrawn_and_no_station_takes_it(signers: Any) -> None:
    signers.promote("1.1.0")
    signers.world.ok("sync")
    signers.world.ok("update")
    world = signers.world
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "holes", signers.call().now)
    vendors.sync_vendor(world.site.vendor("acme"))
    world.ok("update")
    forge_back(signers, signers.first.ref(), held_in=4)
    before = signers.current()

    code, out, _ = world.run("update")

    assert (code, "withdrawn by the vendor: holes" in out) == (3, True)
    assert signers.current() == before
    assert signers.served() == str(signers.second.ref())


def test_a_stolen_back_key_says_what_is_no_way_back_and_stops_nobody(signers: Any) -> None:
    """A choice that never was, bytes that are no record, a role that names no back: the studio goes on working."""
    for forged in (b"{}", b"\xff", None):
        forge_back(signers, signers.first.ref(), held_in=4, stands_on=99, raw=forged)
        unmoved(signers)
        signers.world.ok("plan")
    forge_back(signers, signers.first.ref(), held_in=4, path="site/back/another.json")
    unmoved(signers)
    signers.promote("1.1.0")
    signers.world.ok("sync")
    signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())
    signers.world.ok("rollback", "--channel", "stable", "--reason", "tears")
    signers.world.ok("update")
    assert signers.served() == str(signers.first.ref())


def forge_back(
    signers: Any,
    ref: ReleaseRef,
    *,
    held_in: int,
    stands_on: int | None = None,
    raw: bytes | None = None,
    path: str | None = None,
) -> None:
    """A back as the thief of a back key and of the online key writes it."""
    reached, head = reached_of(signers), signers.history()[-1]
    number = reached.version("site.back") + 1
    back = Back(
        scope="site",
        number=number,
        entry=ENTRY,
        stands_on=stands_on or head.number,
        stands_on_digest=head.digest(),
        channels=(Returned(channel="stable", release=ref, held_in=held_in, reason="x"),),
    )
    path, data = path or f"site/back/back-{number}.json", back.to_bytes() if raw is None else raw
    role = Targets(number, expires=signers.world.now + timedelta(days=365))
    role.targets[path] = metadata.target_info(path, data)
    key = signing.load_signer(signers.keys.promoter)
    file = metadata.role_file("site.back", role, reached.targets, [key])
    change = metadata.Change({path: data}, (file,))
    metadata.write(signers.folder, reached, change, site_key(signers), signers.world.now)


# A verdict key.


def test_a_stolen_verdict_key_accepts_and_chooses_nothing_and_counts_no_more_once_revoked(signers: Any) -> None:
    world = signers.world
    third = world.publish("1.2.0")
    world.accept(third, current=signers.first)

    assert str(third.ref()) not in unmoved(signers)

    held = json.loads(world.ok("keys", "list", "--json"))
    stolen = next(one["key"] for one in held if one["role"] == "verdict")
    new = world.root / "new"
    world.ok("keys", "new", "verdict", "--out", str(new))
    enrol = ("keys", "enrol", str(new / "verdict.pub"), "--scope", "site", "--role", "verdict", "--owner", "td@vm1")
    assert world.run(*enrol, "--reason", "new")[0] == 4
    signers.bob.ok("approve", signers.waiting())
    assert world.run("keys", "revoke", stolen[:12], "--scope", "site", "--reason", "stolen")[0] == 4
    signers.bob.ok("approve", signers.waiting())
    world.ok("sync")
    code, _, err = world.run("promote", "tiny-roto@1.2.0", "--reason", "it was accepted")
    assert (code, "no verdict at all" in err) == (4, True)
