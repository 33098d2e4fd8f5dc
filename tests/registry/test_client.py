import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import BadVersionNumberError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from changeover_registry._tuf_errors import explain
from changeover_registry.client import Client
from changeover_registry.errors import InvalidInputError, TrustError, UnreachableError
from changeover_registry.repository import metadata, vendor
from changeover_registry.repository.reached import read_reached
from changeover_registry.signing import load_signer
from changeover_registry.transport import NotThereError, open_transport
from changeover_registry.transport.memory import MemoryTransport

Vendor = Any


def in_memory(folder: Path) -> MemoryTransport:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return MemoryTransport(files)


def republish(acme: Vendor, change: Callable[[Targets], None]) -> None:
    """Let the vendor sign top-level targets that it would not make with our tools."""
    reached = read_reached(acme.folder, acme.root)
    targets = metadata.renewed(reached.targets, "targets", acme.now)
    change(targets)
    file = metadata.role_file("targets", targets, reached.root, [load_signer(acme.keys.targets)])
    metadata.write(acme.folder, reached, metadata.Change({}, (file,)), load_signer(acme.keys.online), acme.now)


def test_a_target_is_read_without_asking_for_a_refresh_first(acme: Vendor, tmp_path: Path) -> None:
    data = acme.client(tmp_path / "state").target("vendor.json", limit=1000)
    assert b'"vendor":"acme"' in data


def test_before_a_refresh_nothing_is_known(acme: Vendor, tmp_path: Path) -> None:
    client = acme.client(tmp_path / "state")
    assert (client.versions(), client.delegated(), client.expiries()) == ({}, (), ())


def test_after_a_refresh_roles_versions_and_expiries_are_known(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    client = acme.client(tmp_path / "state")
    client.refresh()
    assert client.versions() == {"targets": 2, "person-roto": 1}
    assert client.delegated() == ("person-roto",)
    first, *rest = client.expiries()
    assert (first.role, first.expires) == ("timestamp", acme.now + timedelta(days=30))
    assert {expiry.role for expiry in rest} == {"snapshot", "targets", "root"}


def test_expiries_are_read_from_the_disk_without_the_repository(acme: Vendor, tmp_path: Path) -> None:
    acme.client(tmp_path / "state").refresh()
    shutil.rmtree(acme.folder)
    assert acme.client(tmp_path / "state").expiries()[0].role == "timestamp"


def test_a_refresh_sees_what_was_published_since_the_last(acme: Vendor, tmp_path: Path) -> None:
    client = acme.client(tmp_path / "state")
    client.refresh()
    acme.publish(acme.make())
    assert client.delegated() == ()
    client.refresh()
    assert client.delegated() == ("person-roto",)
    assert b"1.0.0" in client.target("person-roto/index.json", limit=10_000)


def test_a_target_that_nobody_names_is_not_there(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(NotThereError, match=r"hair/index\.json"):
        acme.client(tmp_path / "state").target("hair/index.json", limit=1000)


def test_a_target_longer_than_the_limit_is_refused_unread(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="expected at most 10 bytes"):
        acme.client(tmp_path / "state").target("vendor.json", limit=10)


def test_a_path_out_of_the_repository_is_refused(acme: Vendor, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="path"):
        acme.client(tmp_path / "state").target("../keys/online/online.pem", limit=1000)


def test_state_holds_real_files_only(acme: Vendor, tmp_path: Path) -> None:
    acme.client(tmp_path / "state").refresh()
    assert not any(path.is_symlink() for path in (tmp_path / "state").rglob("*"))
    assert (tmp_path / "state" / "root_history" / "1.root.json").read_bytes() == acme.root


def test_readers_at_once_share_a_state(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    outcomes: list[Any] = []

    def read() -> None:
        outcomes.append(list(acme.view(tmp_path / "state").indexes))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [["person-roto"]] * 6


def test_a_damaged_state_is_made_good_from_the_repository(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    acme.view(tmp_path / "state")
    for path in (tmp_path / "state").rglob("*.json"):
        path.write_bytes(b"{}")
    assert list(acme.view(tmp_path / "state").indexes) == ["person-roto"]


def test_an_unreachable_repository_is_not_a_matter_of_trust(acme: Vendor, tmp_path: Path) -> None:
    transport = in_memory(acme.folder)
    transport.reachable = False
    with pytest.raises(UnreachableError, match="no answer"):
        Client(transport, tmp_path / "state", acme.root).refresh()
    transport.reachable = True
    Client(transport, tmp_path / "state", acme.root).refresh()


def test_a_renewed_root_is_followed_and_kept(acme: Vendor, tmp_path: Path) -> None:
    vendor.renew(acme.folder, acme.keys, acme.now + timedelta(days=200))
    client = acme.client(tmp_path / "state")
    client.refresh()
    assert (tmp_path / "state" / "root_history" / "2.root.json").is_file()
    client.refresh()
    assert client.versions() == {"targets": 2}


# The mirror.


def test_a_mirror_is_a_repository_for_another_reader(acme: Vendor, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        acme.publish(acme.make(version=version, content=version.encode()))
    acme.publish(acme.make("hair", content=b"hair"))
    vendor.renew(acme.folder, acme.keys, acme.now + timedelta(days=200))
    view = vendor.open_vendor(acme.client(tmp_path / "state", mirror=tmp_path / "mirror"), "acme")
    shutil.rmtree(acme.folder)
    client = Client(open_transport(str(tmp_path / "mirror")), tmp_path / "station", acme.root)
    assert vendor.open_vendor(client, "acme") == view
    assert len(view.indexes["person-roto"].releases) == 2


def test_a_mirror_serves_targets_that_are_there_without_the_repository(acme: Vendor, tmp_path: Path) -> None:
    client = acme.client(tmp_path / "state", mirror=tmp_path / "mirror")
    client.refresh()
    shutil.rmtree(acme.folder / "targets")
    assert b"acme" in client.target("vendor.json", limit=1000)


def test_a_damaged_mirror_is_made_good_by_the_next_refresh(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    acme.client(tmp_path / "state", mirror=tmp_path / "mirror").refresh()
    for path in (tmp_path / "mirror").rglob("*.json"):
        path.write_bytes(b"damaged")
    acme.client(tmp_path / "state", mirror=tmp_path / "mirror").refresh()
    client = Client(open_transport(str(tmp_path / "mirror")), tmp_path / "station", acme.root)
    assert list(vendor.open_vendor(client, "acme").indexes) == ["person-roto"]


def test_a_mirror_is_the_old_repository_or_the_new_one_wherever_syncing_is_killed(
    acme: Vendor, tmp_path: Path, disk_states: Any
) -> None:
    mirror = tmp_path / "mirror"
    acme.client(tmp_path / "state", mirror=mirror).refresh()
    acme.publish(acme.make())
    with disk_states.watching(mirror, tmp_path / "states") as states:
        acme.client(tmp_path / "state", mirror=mirror).refresh()
    seen = []
    for number, state in enumerate(states):
        client = Client(open_transport(str(state)), tmp_path / f"station-{number}", acme.root)
        seen.append(len(vendor.open_vendor(client, "acme").indexes))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)


def test_a_mirror_stays_as_it_was_when_a_target_is_forged(acme: Vendor, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    acme.client(tmp_path / "state", mirror=mirror).refresh()
    acme.publish(acme.make())
    (path,) = (acme.folder / "targets" / "person-roto").iterdir()
    path.write_bytes(path.read_bytes().replace(b"1.0.0", b"9.0.0"))
    before = (mirror / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(TrustError, match="digest"):
        acme.client(tmp_path / "state", mirror=mirror).refresh()
    assert (mirror / "metadata" / "timestamp.json").read_bytes() == before


def test_a_mirror_passes_over_roles_that_it_cannot_ask_for(acme: Vendor, tmp_path: Path) -> None:
    """A role that is delegated and has no metadata yet, and one that is delegated by digest."""

    def change(targets: Targets) -> None:
        key = load_signer(acme.keys.release).public_key
        new = metadata.with_delegation(targets, "later", "later/*", [key], 1, acme.now)
        targets.delegations = new.delegations
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        other = DelegatedRole("bins", [key.keyid], 1, terminating=False, path_hash_prefixes=["ab"])
        targets.delegations.roles["bins"] = other

    republish(acme, change)
    client = acme.client(tmp_path / "state", mirror=tmp_path / "mirror")
    client.refresh()
    assert client.delegated() == ("later",)


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/outside", "con/x", "with space"])
def test_a_target_with_a_path_out_of_the_mirror_is_refused(acme: Vendor, tmp_path: Path, path: str) -> None:
    def change(targets: Targets) -> None:
        targets.targets[path] = TargetFile.from_data(path, b"evil", ["sha256"])

    republish(acme, change)
    with pytest.raises(InvalidInputError, match="path"):
        acme.client(tmp_path / "state", mirror=tmp_path / "mirror").refresh()
    assert not (tmp_path / "outside").exists()


# What python-tuf says.


@pytest.mark.parametrize(
    ("error", "rule", "expected", "actual"),
    [
        (
            LengthOrHashMismatchError("Observed length 3 does not match expected length 4"),
            "length of metadata",
            "4",
            "3",
        ),
        (BadVersionNumberError("Expected root version 2 instead got version 3"), "version", "version 2", "version 3"),
        (BadVersionNumberError("Expected snapshot version 5, got 4"), "version", "version 5", "version 4"),
        (BadVersionNumberError("Expected hair v5, got v4."), "version", "version 5", "version 4"),
        (
            BadVersionNumberError("New snapshot version must be >= 5, got version 4"),
            "rollback",
            "version 5 or newer, which was seen here before",
            "version 4",
        ),
        (
            RepositoryError("Expected 'timestamp', got 'root'"),
            "kind of metadata",
            "timestamp metadata",
            "root metadata",
        ),
        (
            RepositoryError("New snapshot is missing info for 'hair.json'"),
            "rollback",
            "hair.json in it, which was there before",
            "nothing about it",
        ),
        (RepositoryError("Something new"), "metadata", "a repository that can be verified", "Something new"),
    ],
)
def test_the_facts_are_taken_out_of_the_text(error: Exception, rule: str, expected: str, actual: str) -> None:
    found = explain(error, "5.snapshot.json")
    assert (found.rule, found.expected, found.actual) == (rule, expected, actual)
