"""Two vendors in one studio: whatever the second signs and wherever it writes, the first one's models stay its own."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from changeover_registry.errors import TrustError
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Index, IndexEntry, VendorCard
from changeover_registry.repository import metadata, objects, vendor
from changeover_registry.repository.carrying import carry
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.reached import Reached, read_reached
from changeover_registry.signing import load_signer
from changeover_registry.transport.writing import FolderPlace
from changeover_updater import vendors
from changeover_updater.release_folder import read_release

World = Any


class Rival:
    """A vendor that the studio trusts for its own models, with a repository in which it signs what it likes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.root / "beta" / "repository"
        self.keys = vendor.new_vendor_keys(world.root / "beta" / "keys")
        vendor.create(self.folder, "beta", self.keys, world.now)
        self.publish("beta/tiny-roto")
        root = self.keys.anchor.read_bytes()
        vendors.add_trust(
            world.site, "beta", str(self.folder), root, allow_executable=False, who="td@vm1", now=world.now
        )

    def record(self, model: str) -> Release:
        """The studio's release 1.2.0, as one of `model`."""
        return read_release(self.world.folders / "1.2.0").model_copy(update={"model": model, "version": "9.0.0"})

    def files(self, release: Release) -> dict[str, Path]:
        folder = self.world.folders / "1.2.0"
        return {f.sha256: folder / variant.id / f.path for variant in release.variants for f in variant.files}

    def publish(self, model: str) -> Release:
        release = self.record(model)
        vendor.publish(self.folder, self.keys, release.to_bytes(), self.files(release), self.world.now)
        return release

    @functools.cached_property
    def reached(self) -> Reached:
        """Read once, before anything is forged."""
        return read_reached(self.folder, self.keys.anchor.read_bytes())

    def sign(self, role: str, targets: dict[str, bytes], signed: Targets, *more: metadata.RoleFile) -> None:
        """Have the repository's newest state say whatever stands in `signed` and `targets`."""
        signed.targets = {path: metadata.target_info(path, data) for path, data in targets.items()}
        key = self.keys.targets if role == "targets" else self.keys.release
        file = metadata.role_file(role, signed, self.reached.delegator(role), [load_signer(key)])
        metadata.write(
            self.folder, self.reached, Change(targets, (file, *more)), load_signer(self.keys.online), self.world.now
        )

    def next(self, role: str) -> Targets:
        return metadata.renewed(self.reached.roles[role], role, self.world.now)

    def entry(self, release: Release) -> IndexEntry:
        objects.put(self.folder, release, release.to_bytes(), self.files(release))
        return IndexEntry(version=release.version, record=release.digest(), length=len(release.to_bytes()))


def its_card_says_acme(rival: Rival) -> None:
    card = VendorCard(vendor="acme", models=("tiny-roto",)).to_bytes()
    rival.sign("targets", {"vendor.json": card}, rival.next("targets"))


def its_index_says_acme(rival: Rival) -> None:
    entry = rival.entry(rival.record("acme/tiny-roto"))
    index = Index(vendor="acme", name="tiny-roto", releases=(entry,))
    rival.sign("tiny-roto", {"tiny-roto/index.json": index.to_bytes()}, rival.next("tiny-roto"))


def its_record_says_acme(rival: Rival) -> None:
    entry = rival.entry(rival.record("acme/tiny-roto"))
    index = Index(vendor="beta", name="tiny-roto", releases=(entry,))
    rival.sign("tiny-roto", {"tiny-roto/index.json": index.to_bytes()}, rival.next("tiny-roto"))


def it_serves_what_acme_signed(rival: Rival) -> None:
    """The first vendor's own role and index, delegated to the first vendor's own key."""
    world = rival.world
    targets = rival.next("targets")
    theirs = read_reached(world.repository, world.keys.anchor.read_bytes())
    role = theirs.roles["tiny-roto"]
    path = f"metadata/{role.version}.tiny-roto.json"
    shutil.copytree(world.repository / "targets", rival.folder / "targets", dirs_exist_ok=True)
    shutil.copytree(world.repository / "objects", rival.folder / "objects", dirs_exist_ok=True)
    shutil.copyfile(world.repository / path, rival.folder / path)
    delegations: Any = theirs.targets.delegations
    key = delegations.keys[theirs.targets.get_delegated_role("tiny-roto").keyids[0]]
    metadata.delegate(targets, "tiny-roto", "tiny-roto/*", [key], 1)
    copied = metadata.RoleFile("tiny-roto", role.version, (world.repository / path).read_bytes())
    card = VendorCard(vendor="beta", models=("tiny-roto",)).to_bytes()
    rival.sign("targets", {"vendor.json": card}, targets, copied)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world()
    world.without_mlflow()
    world.served("1.0.0")
    return world


def state_of(world: World) -> dict[str, bytes]:
    """What decides which release anybody gets: the choice, what is known of acme, the store, the pointer."""
    roots = (world.site.root / "choice", world.site.root / "trust" / "acme" / "releases", world.root / "store")
    skipped = {"lock", "facts", "trust", "withdrawn.json"}
    return {
        str(path): path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file() and not skipped & set(path.relative_to(root).parts)
    }


@pytest.mark.parametrize(
    "forge", [its_card_says_acme, its_index_says_acme, its_record_says_acme, it_serves_what_acme_signed]
)
def test_what_a_second_vendor_signs_never_counts_for_the_first(world: World, forge: Callable[[Rival], None]) -> None:
    rival = Rival(world)
    world.ok("sync", "beta")
    before = state_of(world)
    forge(rival)

    code, _, err = world.run("sync")

    assert code == 5
    assert "acme" in err
    assert state_of(world) == before
    assert [r["release"] for r in found(world) if r["release"].startswith("acme/tiny-roto@9")] == []
    assert world.run("promote", "acme/tiny-roto@9.0.0", "--reason", "x")[0] == 2
    world.ok("sync", "acme")
    world.ok("update")
    assert state_of(world) == before


def found(world: World) -> list[dict[str, str]]:
    """Every release that the studio knows of acme."""
    answer = json.loads(world.ok("sync", "acme", "--json"))
    return [{"release": release} for synced in answer for release in synced["releases"]]


def test_a_second_vendor_cannot_be_trusted_under_the_firsts_name(world: World) -> None:
    keys = vendor.new_vendor_keys(world.root / "forger" / "keys")
    vendor.create(world.root / "forger" / "repository", "acme", keys, world.now)
    before = state_of(world)

    same = world.run("trust", "add", "acme", str(world.root / "forger" / "repository"), "--root", str(keys.anchor))
    other = world.run("trust", "add", "gamma", str(world.root / "forger" / "repository"), "--root", str(keys.anchor))

    assert (same[0], other[0]) == (2, 5)
    assert "one trusted since" in same[2]
    assert "expected gamma, found acme" in other[2]
    assert state_of(world) == before


def test_a_second_vendor_that_writes_where_the_first_publishes_is_refused_and_overcome(
    world: World, tmp_path: Path
) -> None:
    place = FolderPlace(tmp_path / "bucket")
    carry(world.repository, world.keys.anchor.read_bytes(), place)
    world.ok("trust", "remove", "acme")
    world.ok("trust", "add", "acme", place.location, "--root", str(world.keys.anchor))
    world.ok("sync", "acme")
    rival = Rival(world)
    rival.publish("beta/tiny-roto")
    before = state_of(world)
    shutil.copytree(rival.folder, place.location, dirs_exist_ok=True)

    code, _, err = world.run("sync", "acme")

    assert code == 5
    assert "signature" in err
    assert state_of(world) == before
    with pytest.raises(TrustError, match="remove that file there"):
        carry(world.repository, world.keys.anchor.read_bytes(), place)
    for name in ("1.root.json", "timestamp.json"):
        (tmp_path / "bucket" / "metadata" / name).unlink()
    carry(world.repository, world.keys.anchor.read_bytes(), place)
    world.ok("sync", "acme")
    assert state_of(world) == before
