"""Imports that are killed, that meet a full disk or each other; mirrors that are copied in any state; many roots."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, Root

from changeover_registry import clock
from changeover_registry.bundle_file import open_bundle
from changeover_registry.client import Client
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor
from changeover_registry.repository.vendor import open_vendor
from changeover_registry.signing import load_signer
from changeover_registry.transport.folder import FolderTransport
from changeover_updater import bundle, vendors
from changeover_updater.bundle_import import Carried, Terms, import_bundle
from changeover_updater.release_folder import read_release
from changeover_updater.site import Site

There = Any
MIB = 1024 * 1024
SIZE_MIB = 96
OFFLINE = ("unshare", "-n", sys.executable, "-m", "changeover_updater")

KILLED_AFTER_24_MIB = """
import os, pathlib, signal, sys
from changeover_registry import clock
from changeover_updater.bundle_import import Carried, Terms, import_bundle
from changeover_updater.site import Site

landed = []

def progress(name, more, total):
    landed.append(more)
    if sum(landed) >= 24 * 2**20:
        os.kill(os.getpid(), signal.SIGKILL)

carried = Carried(who="courier@gate", now=clock.now(), why="killed")
import_bundle(Site(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), carried, Terms(), progress)
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Path:
    """A vendor's folder with a release whose file takes a while to land, its root, and a bundle of it."""
    root = tmp_path_factory.mktemp("heavy")
    release = root / "release"
    shutil.copytree(release_folders / "cat", release)
    (model,) = release.rglob("*.cat")
    model.write_bytes(random.Random(1).randbytes(MIB) * SIZE_MIB)
    keys = vendor.new_vendor_keys(root / "keys")
    (root / "root.json").write_bytes(vendor.create(root / "repository", "acme", keys, clock.now()))
    record = read_release(release)
    vendor.publish(root / "repository", keys, record.to_bytes(), _files(release, record), clock.now())
    refs = bundle.find_releases(bundle.own_indexes(root / "repository"), ["edge-roto@1.0.0"])
    bundle.write_vendor_bundle(root / "heavy.tar", root / "repository", refs, clock.now(), "jo@acme", lambda *_: None)
    return root


@pytest.fixture
def gate(tmp_path: Path, heavy: Path, make_site: Callable[..., There]) -> There:
    """A site that trusts that vendor."""
    return trusting(make_site(tmp_path / "gate"), heavy)


def trusting(there: There, heavy: Path) -> There:
    vendors.add_trust(
        there.site,
        "acme",
        str(heavy / "heavy.tar"),
        (heavy / "root.json").read_bytes(),
        allow_executable=True,
        who="td",
        now=clock.now(),
    )
    return there


def _files(folder: Path, record: Release) -> dict[str, Path]:
    return {f.sha256: folder / variant.id / f.path for variant in record.variants for f in variant.files}


def importing(there: There, path: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "changeover_updater",
        "--config",
        str(there.root / "host.toml"),
        "import",
        str(path),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def carried() -> Carried:
    return Carried(who="courier@gate", now=clock.now(), why="carried in a test")


def readers_see(there: There) -> dict[str, bytes]:
    """Every file of the site that anybody reads."""
    kept = (path for path in sorted(there.site.root.rglob("*")) if path.is_file() and "incoming" not in path.parts)
    return {str(path): path.read_bytes() for path in kept if not path.name.endswith("lock")}


def is_in(there: There, heavy: Path) -> bool:
    """Whether all of the bundle is in place, by its signed record."""
    folder = there.site.vendor("acme")
    client = Client(FolderTransport(folder.mirror), there.root / "reader", folder.pinned_root())
    (entry,) = open_vendor(client, "acme").indexes["edge-roto"].releases
    record = Release.from_bytes(folder.record_path(entry.record).read_bytes(), where="record")
    carried = open_bundle(heavy / "heavy.tar")
    for variant in record.variants:
        for file in variant.files:
            path = f"objects/{file.sha256[:2]}/{file.sha256}"
            if (folder.mirror / path).read_bytes() != b"".join(carried.stream(f"vendors/acme/{path}")):
                return False
    return True


def test_a_killed_import_changes_nothing_and_goes_on_with_what_landed(gate: There, heavy: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive.tar"
    shutil.copy(heavy / "heavy.tar", drive)
    before = readers_see(gate)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_24_MIB, str(gate.site.root), str(drive)], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert readers_see(gate) == before
    # The drive loses the block that landed first; whoever asks for it again is refused.
    model = max(open_bundle(drive).members.values(), key=lambda member: member.size)
    with drive.open("r+b") as file:
        file.seek(open_bundle(drive).offsets[model.path] + MIB)
        file.write(b"lost")

    gate.carry(drive)

    assert is_in(gate, heavy)
    assert not list(gate.site.root.glob("incoming/*"))


@root_only
def test_a_disk_that_fills_while_files_land_leaves_the_site_as_it_was(
    tmp_path: Path, heavy: Path, make_site: Callable[..., There]
) -> None:
    with disk(tmp_path / "small", f"{SIZE_MIB + 24}m") as folder:
        there = trusting(make_site(folder / "there"), heavy)
        before = readers_see(there)
        landed: list[int] = []

        def meanwhile(_name: str, more: int, _total: int) -> None:
            landed.append(more)
            if len(landed) == 2:
                fill(folder)

        with pytest.raises(OSError, match="No space left"):
            import_bundle(there.site, heavy / "heavy.tar", carried(), Terms(), meanwhile)

        assert readers_see(there) == before
        (folder / "filler").unlink()
        there.carry(heavy / "heavy.tar")
        assert is_in(there, heavy)


@root_only
def test_a_disk_that_is_too_small_refuses_before_a_byte_lands(
    tmp_path: Path, heavy: Path, make_site: Callable[..., There]
) -> None:
    with disk(tmp_path / "small", f"{SIZE_MIB - 1}m") as folder:
        there = trusting(make_site(folder / "there"), heavy)
        before = readers_see(there)

        code, _, err = there.run("import", str(heavy / "heavy.tar"))

        assert code == 9
        assert "are needed" in err
        assert readers_see(there) == before
        assert not list(there.site.root.glob("incoming/*/acme/objects"))


def test_imports_at_once_end_well(gate: There, heavy: Path) -> None:
    processes = [importing(gate, heavy / "heavy.tar") for _ in range(4)]

    told = [(process.communicate(), process.returncode) for process in processes]

    codes = [code for _, code in told]
    assert set(codes) <= {0, 7}, told
    assert 0 in codes
    assert sum("edge-roto" in out for (out, _), _ in told) == 1
    assert is_in(gate, heavy)


def test_twenty_roots_are_walked_without_a_network(
    tmp_path: Path, release_folders: Path, make_site: Callable[..., There]
) -> None:
    repository, keys = tmp_path / "repository", vendor.new_vendor_keys(tmp_path / "keys")
    first = vendor.create(repository, "acme", keys, clock.now())
    record = read_release(release_folders / "1.0.0")
    files = _files(release_folders / "1.0.0", record)
    vendor.publish(repository, keys, record.to_bytes(), files, clock.now())
    (tmp_path / "root.json").write_bytes(first)
    rotate(repository, load_signer(keys.root), 20)
    refs = bundle.find_releases(bundle.own_indexes(repository), ["tiny-roto@1.0.0"])
    bundle.write_vendor_bundle(tmp_path / "roots.tar", repository, refs, clock.now(), "jo@acme", lambda *_: None)
    there = make_site(tmp_path / "there")

    for command in (["trust", "add", "acme", "roots.tar", "--root", "root.json"], ["import", "roots.tar"]):
        done = subprocess.run(
            [*OFFLINE, "--config", str(there.root / "host.toml"), *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr

    assert len(list((there.site.vendor("acme").mirror / "metadata").glob("*.root.json"))) == 21


def rotate(repository: Path, signer: Signer, times: int) -> None:
    """Replace the root key so many times; from the tenth on two keys must sign."""
    path = repository / "metadata" / "1.root.json"
    old: list[Signer] = [signer]
    for number in range(2, times + 2):
        metadata: Metadata[Root] = Metadata.from_bytes(path.read_bytes())
        new: list[Signer] = [CryptoSigner.generate_ed25519() for _ in range(2 if number >= 10 else 1)]
        root = metadata.signed
        for key in list(root.roles["root"].keyids):
            root.revoke_key(key, "root")
        for fresh in new:
            root.add_key(fresh.public_key, "root")
        root.roles["root"].threshold = len(new)
        root.version, root.expires = number, clock.now() + timedelta(days=365)
        metadata.signatures.clear()
        for one in (*old, *new):
            metadata.sign(one, append=True)
        path, old = repository / "metadata" / f"{number}.root.json", new
        path.write_bytes(metadata.to_bytes())


@pytest.fixture(scope="module")
def moved_on(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Path:
    """A vendor's folder as it was, in ``old``, and as it is after another release, in ``new``."""
    root = tmp_path_factory.mktemp("moved")
    keys = vendor.new_vendor_keys(root / "keys")
    (root / "root.json").write_bytes(vendor.create(root / "new", "acme", keys, clock.now()))
    for name in ("1.0.0", "1.1.0"):
        if name == "1.1.0":
            shutil.copytree(root / "new", root / "old")
        record = read_release(release_folders / name)
        files = _files(release_folders / name, record)
        vendor.publish(root / "new", keys, record.to_bytes(), files, clock.now())
    return root


@pytest.mark.parametrize("seed", range(24))
def test_a_mirror_that_is_copied_in_any_state_shows_old_or_new_or_an_error_that_passes(
    tmp_path: Path, moved_on: Path, make_site: Callable[..., There], seed: int
) -> None:
    chance = random.Random(seed)
    mirror = tmp_path / "mirror"
    shutil.copytree(moved_on / "old", mirror)
    site = Site.create(tmp_path / "site")
    root = (moved_on / "root.json").read_bytes()
    vendors.add_trust(site, "acme", str(mirror), root, allow_executable=False, who="td", now=clock.now())
    folder = site.vendor("acme")
    old, new = {"1.0.0"}, {"1.0.0", "1.1.0"}
    assert {release.version for release in vendors.sync_vendor(folder).releases} == old

    copied = copy_until(moved_on / "new", mirror, chance)
    with contextlib.suppress(ChangeoverError):
        assert {release.version for release in vendors.sync_vendor(folder).releases} in (old, new)
    reader = Client(FolderTransport(folder.mirror), tmp_path / "reader", root)
    assert {entry.version for entry in open_vendor(reader, "acme").indexes["tiny-roto"].releases} in (old, new)

    for source, target in copied:
        shutil.copyfile(source, target)
    assert {release.version for release in vendors.sync_vendor(folder).releases} == new


def copy_until(source: Path, target: Path, chance: random.Random) -> list[tuple[Path, Path]]:
    """Copy files in any order, over what is there as `cp` does, and stop in the middle of one; all that there are."""
    files = [path for path in source.rglob("*") if path.is_file() and path.name != "lock"]
    chance.shuffle(files)
    pairs = [(path, target / path.relative_to(source)) for path in files]
    for _, to in pairs:
        to.parent.mkdir(parents=True, exist_ok=True)
    stop = chance.randrange(len(pairs))
    for at, to in pairs[:stop]:
        shutil.copyfile(at, to)
    whole = pairs[stop][0].read_bytes()
    pairs[stop][1].write_bytes(whole[: chance.randrange(len(whole))])
    return pairs


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, where this machine lets root mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
        while True:
            file.write(bytes(65536))
            file.flush()
