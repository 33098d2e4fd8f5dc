"""Quarantine: verified when it arrives, used after the studio's clearance, and what is learned meanwhile counts."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical, clock
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, RefusedError, TrustError
from changeover_registry.records.repository import TrustEntry
from changeover_registry.repository import vendor
from changeover_updater import bundle, bundle_receive, clearance, vendors
from changeover_updater.bundle_import import Carried, Terms, import_bundle, imports
from changeover_updater.release_folder import read_release

There = Any
Files = Callable[[Path], dict[str, bytes]]


class Vendor:
    """A vendor who began at some day in the past, with bundles of what it had then."""

    def __init__(self, root: Path, folders: Path, start: datetime) -> None:
        self.root, self.folders, self.start = root, folders, start
        self.keys = vendor.new_vendor_keys(root / "keys")
        self.root_json = vendor.create(self.repository, "acme", self.keys, start)

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    def publish(self, name: str, day: int) -> None:
        release = read_release(self.folders / name)
        files = {
            file.sha256: self.folders / name / variant.id / file.path
            for variant in release.variants
            for file in variant.files
        }
        vendor.publish(self.repository, self.keys, release.to_bytes(), files, self.start + timedelta(days=day))

    def withdraw(self, version: str, day: int) -> None:
        vendor.withdraw(
            self.repository, self.keys, "tiny-roto", version, "eats edges", self.start + timedelta(days=day)
        )

    def export(self, name: str, *versions: str) -> Path:
        refs = bundle.find_releases(bundle.own_indexes(self.repository), [f"tiny-roto@{v}" for v in versions])
        target = self.root / name
        bundle.write_vendor_bundle(target, self.repository, refs, self.start, "jo@acme", lambda *_: None)
        return target


@pytest.fixture
def long_since(tmp_path: Path, release_folders: Path) -> Vendor:
    """A vendor who published 1.0.0 a hundred days ago; nothing that it signed then is fresh today."""
    started = Vendor(tmp_path / "vendor", release_folders, clock.now() - timedelta(days=100))
    started.publish("1.0.0", 0)
    return started


@pytest.fixture
def gate(tmp_path: Path, make_site: Callable[..., There], long_since: Vendor) -> There:
    """A site that trusts that vendor."""
    there = make_site(tmp_path / "gate")
    folder = there.site.root / "trust" / "acme"
    long_since.export("for-trust.tar", "1.0.0")
    # Trusted on the day of arrival; today its metadata would be refused, as it must be.
    add_trust_then(there, long_since)
    assert folder.is_dir()
    return there


def add_trust_then(there: There, started: Vendor) -> None:
    """What `trust add` wrote on the vendor's first day."""
    folder = there.site.root / "trust" / "acme"
    folder.mkdir()
    entry = TrustEntry(
        vendor="acme",
        location=str(folder / "mirror"),
        root=canonical.digest(started.root_json),
        added_by="td",
        added_at=format_time(started.start),
    )
    (folder / "root.json").write_bytes(started.root_json)
    (folder / "entry.json").write_bytes(entry.to_bytes())


def at(started: Vendor, day: float) -> Carried:
    return Carried(who="gate@vm2", now=started.start + timedelta(days=day), why="ticket 7")


def receive(there: There, started: Vendor, path: Path, day: float) -> bundle_receive.Quarantined:
    return bundle_receive.receive(there.site, path, at(started, day), lambda *_: None)[0]


def release(there: There, started: Vendor, name: str, day: float) -> Any:
    return bundle_receive.release(there.site, name, at(started, day), lambda *_: None)


def refused(there: There, files_of: Files, act: Callable[[], object]) -> ChangeoverError:
    before = files_of(there.site.root)
    with pytest.raises(ChangeoverError) as caught:
        act()
    assert files_of(there.site.root) == before
    return caught.value


def releases_known(there: There) -> list[str]:
    from changeover_updater.station import Station
    from changeover_updater.store import Store
    from changeover_updater.studio import read_studio

    station = Station(Store(there.root / "store"), "vm1")
    studio = read_studio(there.site, station)
    for state in studio.vendors:
        if state.error:
            raise state.error
    return sorted(release.version for release in studio.releases())


def test_what_is_received_no_station_sees_and_after_the_clearance_it_does(gate: There, long_since: Vendor) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    assert releases_known(gate) == []

    done = release(gate, long_since, kept.id, 99)

    assert [ref.version for ref in done.releases] == ["1.0.0"]
    # Its timestamp of thirty days expired ten weeks ago; it was cleared as of its arrival.
    assert releases_known(gate) == ["1.0.0"]
    assert bundle_receive.received(gate.site) == ()
    synced = vendors.sync_vendor(gate.site.vendor("acme"))
    assert [found.version for found in synced.releases] == ["1.0.0"]
    details = [event.detail.split(" ")[0] for event in imports(gate.site)]
    assert details == ["received", "released", "released"]


def test_a_cleared_release_can_be_imported_by_nobody_who_did_not_receive_it(
    gate: There, long_since: Vendor, files_of: Files
) -> None:
    path = long_since.export("a.tar", "1.0.0")

    error = refused(gate, files_of, lambda: gate.carry(path))

    assert error.rule == "expiry"


def test_a_clearance_ends(gate: There, long_since: Vendor) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    release(gate, long_since, kept.id, 99)
    folder = gate.site.vendor("acme")
    arrived = parse_time(kept.record.arrived_at)

    days = {
        day: clearance.judged_at(folder.root, folder.mirror, arrived + timedelta(days=day)) for day in (0, 179, 180)
    }

    assert days == {0: arrived, 179: arrived, 180: None}


def test_a_clearance_holds_for_no_other_metadata(gate: There, long_since: Vendor) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    release(gate, long_since, kept.id, 99)
    folder = gate.site.vendor("acme")
    timestamp = folder.mirror / "metadata/timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes() + b" ")

    assert clearance.judged_at(folder.root, folder.mirror, clock.now()) is None


@pytest.mark.parametrize(("day", "late"), [(180.9, False), (181, True), (400, True)])
def test_after_180_days_a_new_bundle_is_asked_for(
    gate: There, long_since: Vendor, files_of: Files, day: float, late: bool
) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    if not late:
        assert release(gate, long_since, kept.id, day).changed
        return

    error = refused(gate, files_of, lambda: release(gate, long_since, kept.id, day))

    assert isinstance(error, RefusedError)
    assert "receive a new bundle" in error.remedy


def test_a_withdrawal_that_came_in_meanwhile_stops_the_release(
    gate: There, long_since: Vendor, files_of: Files
) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    long_since.publish("1.1.0", 20)
    long_since.withdraw("1.0.0", 20)
    newer = Carried(who="gate@vm2", now=long_since.start + timedelta(days=21), why="newer")
    import_bundle(gate.site, long_since.export("b.tar", "1.1.0"), newer, Terms(), lambda *_: None)

    error = refused(gate, files_of, lambda: release(gate, long_since, kept.id, 40))

    assert isinstance(error, TrustError)
    assert "eats edges" in error.actual


def test_a_withdrawal_that_waits_in_quarantine_itself_stops_the_release(
    gate: There, long_since: Vendor, files_of: Files
) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    long_since.publish("1.1.0", 20)
    long_since.withdraw("1.0.0", 20)
    newer = receive(gate, long_since, long_since.export("b.tar", "1.1.0"), 21)

    error = refused(gate, files_of, lambda: release(gate, long_since, kept.id, 40))

    assert isinstance(error, TrustError)
    assert newer.id in error.actual
    assert release(gate, long_since, newer.id, 40).changed


def test_an_older_bundle_that_nobody_took_back_is_released_by_newer_metadata(gate: There, long_since: Vendor) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    long_since.publish("1.1.0", 20)
    newer = receive(gate, long_since, long_since.export("b.tar", "1.1.0"), 21)
    release(gate, long_since, newer.id, 40)
    seen = (gate.site.vendor("acme").mirror / "metadata/timestamp.json").read_bytes()

    done = release(gate, long_since, kept.id, 50)

    assert done.changed
    assert (gate.site.vendor("acme").mirror / "metadata/timestamp.json").read_bytes() == seen
    assert releases_known(gate) == ["1.0.0", "1.1.0"]


def test_bytes_that_changed_in_quarantine_are_found(gate: There, long_since: Vendor, files_of: Files) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    path = kept.folder / "bundle.tar"
    data = bytearray(path.read_bytes())
    data[-6000] ^= 1
    path.write_bytes(data)

    assert isinstance(refused(gate, files_of, lambda: release(gate, long_since, kept.id, 40)), TrustError)


def test_an_arrival_that_was_written_anew_is_found(gate: There, long_since: Vendor, files_of: Files) -> None:
    kept = receive(gate, long_since, long_since.export("a.tar", "1.0.0"), 1)
    record = kept.folder / "received.json"
    later = kept.record.model_copy(update={"arrived_at": format_time(long_since.start + timedelta(days=90))})
    record.chmod(0o644)
    record.write_bytes(later.to_bytes())

    error = refused(gate, files_of, lambda: release(gate, long_since, kept.id, 250))

    assert isinstance(error, TrustError)
    assert error.rule == "arrival"


def test_received_again_it_is_there_already_and_discarded_it_is_gone(gate: There, long_since: Vendor) -> None:
    path = long_since.export("a.tar", "1.0.0")
    kept, new = bundle_receive.receive(gate.site, path, at(long_since, 1), lambda *_: None)
    again = bundle_receive.receive(gate.site, path, at(long_since, 2), lambda *_: None)

    assert (new, again) == (True, (kept, False))
    bundle_receive.discard(gate.site, kept.id[:4], at(long_since, 3))
    assert bundle_receive.received(gate.site) == ()
    with pytest.raises(InvalidInputError):
        bundle_receive.discard(gate.site, kept.id, at(long_since, 3))


def test_what_is_damaged_or_expired_at_arrival_is_not_received(
    gate: There, long_since: Vendor, files_of: Files, tmp_path: Path
) -> None:
    path = long_since.export("a.tar", "1.0.0")
    data = bytearray(path.read_bytes())
    data[-6000] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)

    damaged = refused(gate, files_of, lambda: receive(gate, long_since, tmp_path / "bad.tar", 1))
    expired = refused(gate, files_of, lambda: receive(gate, long_since, path, 60))

    assert str(tmp_path / "bad.tar") in damaged.where
    assert expired.rule == "expiry"


def test_the_command_line_receives_shows_releases_and_discards(there: There, bundles: Path) -> None:
    first = json.loads(there.ok("import", str(bundles / "new.tar"), "--receive", "--json"))
    second = json.loads(there.ok("import", str(bundles / "old.tar"), "--receive", "--json"))
    listed = json.loads(there.ok("import", "--received", "--json"))

    assert {entry["id"] for entry in listed} == {first["id"], second["id"]}
    there.ok("import", "--discard", second["id"], "--reason", "not needed")
    assert "tiny-roto@1.1.0" in there.ok("import", "--release", first["id"], "--reason", "cleared by security")
    assert "nothing yet" in there.ok("import", "--received")
    assert "cleared by security" in there.ok("log", "--imports")


@pytest.mark.parametrize("record", [b"{", b"[" * 100_000, None])
def test_a_damaged_record_keeps_no_other_bundle_back_and_its_bundle_can_be_taken_away(
    there: There, bundles: Path, record: bytes | None
) -> None:
    whole, broken = (
        json.loads(there.ok("import", str(bundles / name), "--receive", "--json"))["id"]
        for name in ("old.tar", "new.tar")
    )
    path = there.site.root / "received" / broken / "received.json"
    path.unlink()
    if record is not None:
        path.write_bytes(record)
    # What file browsers leave behind.
    for name in ("received/Thumbs.db", "received/.DS_Store", "incoming/Thumbs.db"):
        there.site.root.joinpath(name).parent.mkdir(exist_ok=True)
        there.site.root.joinpath(name).write_bytes(b"x")

    code, out, err = there.run("import", "--received", "--json")
    assert (code, [entry["id"] for entry in json.loads(out)]) == (0, [whole])
    for words in (("--release", broken), (str(bundles / "new.tar"), "--receive")):
        code, err = there.refused("import", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert f"changeover import --discard {broken}" in err
    assert "tiny-roto@1.0.0" in there.ok("import", "--release", whole)

    there.ok("import", "--discard", broken)
    there.ok("import", str(bundles / "new.tar"), "--receive")
    assert "whose record cannot be read" in there.ok("log", "--imports", "--verify")
