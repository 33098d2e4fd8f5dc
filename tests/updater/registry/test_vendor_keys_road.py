"""A vendor's keys as a studio lives with them: all replaced, stolen, revoked; another vendor beside it untouched."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import signing
from changeover_registry.records.release import Release
from changeover_registry.repository import metadata, vendor, vendor_keys
from changeover_registry.repository.reached import read_reached
from changeover_registry.repository.vendor_change import WaitsError
from changeover_registry.repository.vendor_terms import ROLES
from changeover_registry.repository.vendor_waiting import waiting
from changeover_updater.release_folder import read_release

World = Any


class Beta:
    """A second vendor, with a model of the same name."""

    def __init__(self, world: World) -> None:
        self.world, self.folder = world, world.root / "beta" / "repository"
        self.keys = vendor.new_vendor_keys(world.root / "beta" / "keys")
        vendor.create(self.folder, "beta", self.keys, world.now)
        first = self.publish("1.0.0")
        world.ok("trust", "add", "beta", str(self.folder), "--root", str(self.keys.anchor))
        world.ok("sync", "beta")
        world.accept(first)
        world.ok("promote", "beta/tiny-roto@1.0.0", "--reason", "theirs is good too")
        world.ok("update")
        self.first = first

    def publish(self, version: str) -> Release:
        folder = self.world.folders / version
        release = read_release(folder).model_copy(update={"model": "beta/tiny-roto"})
        files = {f.sha256: folder / v.id / f.path for v in release.variants for f in v.files}
        vendor.publish(self.folder, self.keys, release.to_bytes(), files, self.world.now)
        return release


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world()
    world.without_mlflow()
    world.first = world.served("1.0.0")
    return world


def served(world: World) -> set[str]:
    return {channel.key for channel in world.station.in_use().channels}


def test_a_studio_follows_20_new_roots_of_a_vendor_and_new_keys_of_every_role(world: World) -> None:
    """It synced once, was away, and walks from the root that it was given by hand."""
    for _ in range(20):
        vendor_keys.rotate(world.repository, world.keys, "root", world.now)
    for role in ROLES:
        vendor_keys.rotate(world.repository, world.keys, role, world.now)

    second = world.publish("1.1.0")
    world.accept(second, current=world.first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "new keys, old trust")
    world.ok("update")

    assert served(world) == {str(second.ref())}
    roots = world.site.vendor("acme").mirror.glob("metadata/*.root.json")
    assert max(int(path.name.partition(".")[0]) for path in roots) == 24


def test_a_vendor_that_was_robbed_is_revoked_and_the_others_models_go_on(world: World) -> None:
    beta = Beta(world)
    stolen = world.publish("1.1.0")
    assert served(world) == {str(world.first.ref()), str(beta.first.ref())}

    world.ok("trust", "remove", "acme")

    code, _, err = world.run("promote", "acme/tiny-roto@1.1.0", "--reason", "the thief says so")
    assert (code, "acme/tiny-roto" in err) == (2, True), err
    assert world.run("sync", "acme")[0] != 0
    world.ok("update")
    assert served(world) == {str(world.first.ref()), str(beta.first.ref())}
    theirs = beta.publish("1.1.0")
    world.ok("sync")
    world.accept(theirs, current=beta.first)
    world.ok("promote", "beta/tiny-roto@1.1.0", "--reason", "beta is beta")
    world.ok("update")
    assert served(world) == {str(world.first.ref()), str(theirs.ref())}
    assert str(stolen.ref()) not in world.ok("status")


def test_what_a_thief_published_counts_no_more_with_new_keys_and_the_other_vendor_never_noticed(world: World) -> None:
    """The thief drove the numbers up where the studio reads; the vendor's own home is as it was."""
    beta = Beta(world)
    home = Path(shutil.copytree(world.repository, world.root / "home"))
    reached = read_reached(world.repository, world.keys.anchor.read_bytes())
    reached.snapshot.version = reached.timestamp.version = 2**31
    metadata.reach(world.repository, reached, (), signing.load_signer(world.keys.online), world.now)
    world.ok("sync")
    before = (world.site.vendor("beta").mirror / "metadata" / "timestamp.json").read_bytes()

    for role in ("release", "online"):
        vendor_keys.rotate(home, world.keys, role, world.now)
    shutil.rmtree(world.repository)
    shutil.move(home, world.repository)
    second = world.publish("1.1.0")
    world.ok("sync")

    world.accept(second, current=world.first)
    world.ok("promote", "acme/tiny-roto@1.1.0", "--reason", "back to us")
    world.ok("update")
    assert served(world) == {str(second.ref()), str(beta.first.ref())}
    assert (world.site.vendor("beta").mirror / "metadata" / "timestamp.json").read_bytes() == before


def test_a_release_that_lacks_a_signature_is_seen_by_no_studio(world: World, tmp_path: Path) -> None:
    bob = signing.new_key(tmp_path / "bob.pem")
    vendor_keys.add(world.repository, world.keys, "release", bob, world.now)
    with pytest.raises(WaitsError):
        vendor_keys.set_threshold(world.repository, world.keys, "release", 2, world.now)
    (path,) = waiting(world.repository)
    signers = replace(world.keys, more=(tmp_path / "bob.pem",))
    vendor_keys.sign(world.repository, signers, path, world.now)

    with pytest.raises(WaitsError):
        world.publish("1.1.0")
    world.ok("sync")
    assert "1.1.0" not in world.ok("status")
    assert world.run("promote", "tiny-roto@1.1.0", "--reason", "x")[0] == 2
    (path,) = waiting(world.repository)
    vendor_keys.sign(world.repository, signers, path, world.now)

    assert "1.1.0" in world.ok("sync")
