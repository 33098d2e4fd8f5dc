"""``trust`` and ``sync`` from a folder: what is believed, and what stays when a vendor is believed no more."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.release import Release
from changeover_registry.repository import vendor
from changeover_registry.repository.keys import VendorKeys
from changeover_updater import vendors
from changeover_updater.release_folder import read_release

HOT = ("update", "status", "plan")


def fails(world: Any, code: int, *arguments: str) -> str:
    """Run a command line that must fail in one line; returns the line."""
    found, _, err = world.run(*arguments)
    assert (found, err.count("\n")) == (code, 1), f"{arguments}: {found}\n{err}"
    return str(err)


def new_vendor(world: Any, name: str, folder: str, now: Any = None) -> tuple[Path, Path, VendorKeys]:
    """A further vendor's repository, its root file and its keys."""
    keys = vendor.new_vendor_keys(world.root / folder / "keys")
    root = world.root / folder / "root.json"
    repository = world.root / folder / "repository"
    root.write_bytes(vendor.create(repository, name, keys, now or world.now))
    return repository, root, keys


def entries(world: Any) -> list[str]:
    return sorted(path.name for path in (world.site.root / "trust").iterdir() if not path.name.startswith(".lock"))


def test_root_of_another_vendor_is_refused_with_5_and_nothing_is_trusted(world: Any) -> None:
    repository, _, _ = new_vendor(world, "other", "other")
    _, wrong, _ = new_vendor(world, "other", "stranger")

    line = fails(world, 5, "trust", "add", "other", str(repository), "--root", str(wrong))

    assert "signature" in line or "root" in line
    assert entries(world) == ["acme"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("trust", "add", "other", "{repository}", "--root", "{root}.nowhere"), 2),
        (("trust", "add", "Other Co", "{repository}", "--root", "{root}"), 2),
        (("trust", "add", "timestamp", "{repository}", "--root", "{root}"), 2),
        (("trust", "add", "somebody", "{repository}", "--root", "{root}"), 5),
        (("trust", "add", "other", "{repository}-gone", "--root", "{root}"), 6),
        (("trust", "add", "other", "gopher://x/y", "--root", "{root}"), 2),
        (("trust", "add", "other", "{repository}", "--root", "{repository}/targets"), 2),
        (("trust", "remove", "other"), 2),
        (("sync", "other"), 2),
    ],
)
def test_mistake_at_trust_is_one_line_and_trusts_nobody(one_more: Any, arguments: tuple[str, ...], code: int) -> None:
    world, repository, root = one_more

    fails(world, code, *(word.format(repository=repository, root=root) for word in arguments))

    assert entries(world) == ["acme"]


@pytest.fixture(scope="module")
def one_more(module_world: Any) -> Any:
    """A world, and the repository and root file of a vendor that is not trusted."""
    repository, root, _ = new_vendor(module_world, "other", "other")
    return module_world, repository, root


def test_root_that_is_no_metadata_is_one_line(one_more: Any, tmp_path: Path) -> None:
    world, repository, _ = one_more
    root = tmp_path / "root.json"
    root.write_text("<html>404</html>", encoding="utf-8")

    code, _, err = world.run("trust", "add", "other", str(repository), "--root", str(root))

    assert code in {2, 5}
    assert err.count("\n") == 1
    assert entries(world) == ["acme"]


def test_vendor_that_is_trusted_already_is_not_replaced(one_more: Any) -> None:
    world, repository, root = one_more

    line = fails(world, 2, "trust", "add", "acme", str(repository), "--root", str(root))

    assert "changeover trust remove acme" in line


def test_sync_tells_what_is_new_once_and_the_second_time_nothing(world: Any) -> None:
    world.without_mlflow()
    world.publish("1.0.0")
    shutil.rmtree(world.site.vendor("acme").root / "records")

    first = json.loads(world.ok("sync", "--json"))
    second = json.loads(world.ok("sync", "--json"))

    assert [len(answer["new"]) for answer in (*first, *second)] == [1, 0]
    assert second[0]["releases"] == first[0]["releases"]
    assert "acme: 1 release, 0 new" in world.ok("sync", "acme")


@pytest.mark.parametrize("synced_by_newer", [False, True])
def test_record_of_a_newer_changeover_leaves_out_its_release_and_no_other(
    world: Any, monkeypatch: pytest.MonkeyPatch, *, synced_by_newer: bool
) -> None:
    release = world.served("1.0.0")
    newer = read_release(world.folders / "1.1.0")
    files = {f.sha256: world.folders / "1.1.0" / v.id / f.path for v in newer.variants for f in v.files}
    with monkeypatch.context() as later:
        later.setattr(Release, "MAJOR", 9)
        data = newer.to_bytes()
        vendor.publish(world.repository, world.keys, data, files, world.now)
        if synced_by_newer:
            vendors.sync_vendor(world.site.vendor("acme"))

    code, out, err = world.run("sync")
    served = world.run("update")[0], world.run("check", "tiny-roto@1.1.0")[0]

    assert (code, "acme: 1 release," in out) == (0, True)
    assert "left out" in err
    assert "tiny-roto@1.1.0" in err
    assert served == (0, 2)
    assert [entry.key for entry in world.station.in_use().channels] == [str(release.ref())]


def test_sync_tells_of_a_new_release_what_changed_in_one_line(world: Any) -> None:
    folder = shutil.copytree(world.folders / "1.0.0", world.root / "wordy")
    toml = folder / "release.toml"
    words = "holds thin hair\\nand " + "never flickers " * 20
    toml.write_text(
        toml.read_text(encoding="utf-8").replace('changes = "gain 14.0"', f'changes = "{words}"'), encoding="utf-8"
    )
    release = read_release(folder)
    files = {f.sha256: folder / v.id / f.path for v in release.variants for f in v.files}
    vendor.publish(world.repository, world.keys, release.to_bytes(), files, world.now)

    (line,) = [line for line in world.ok("sync").splitlines() if "new: " in line]

    assert "holds thin hair and never flickers" in line
    assert line.endswith("...")
    assert "A tiny net" not in line


def test_expired_metadata_of_a_vendor_is_5_and_what_is_installed_stays(world: Any, long_ago: Any) -> None:
    """The vendor forgot to renew: its newest timestamp is signed as of long ago."""
    world.without_mlflow()
    world.served("1.0.0")
    age(world, long_ago)

    line = fails(world, 5, "sync")

    assert "expired" in line
    assert world.station.in_use().channels[0].key.startswith("acme/tiny-roto@1.0.0")
    assert world.run("update")[0] == 0
    assert world.run("status")[0] == 0
    vendor.renew(world.repository, world.keys, world.now)
    world.ok("sync")


def age(world: Any, when: Any) -> None:
    from tuf.api.metadata import Metadata, Timestamp
    from tuf.api.serialization.json import JSONSerializer

    from changeover_registry.signing import load_signer

    path = world.repository / "metadata" / "timestamp.json"
    timestamp = Metadata[Timestamp].from_file(str(path))
    timestamp.signed.expires = when
    timestamp.signed.version += 1
    timestamp.sign(load_signer(world.keys.online))
    path.chmod(0o644)
    path.write_bytes(timestamp.to_bytes(JSONSerializer(compact=True)))


def test_vendor_whose_metadata_expired_long_ago_is_not_trusted(world: Any, long_ago: Any) -> None:
    repository, root, _ = new_vendor(world, "other", "other", long_ago)

    line = fails(world, 5, "trust", "add", "other", str(repository), "--root", str(root))

    assert "expired" in line
    assert entries(world) == ["acme"]


def test_repository_that_is_gone_is_6_and_everything_else_goes_on(world: Any) -> None:
    world.without_mlflow()
    world.served("1.0.0")
    world.repository.rename(world.repository.with_name("moved"))

    fails(world, 6, "sync")

    assert [world.run(command)[0] for command in HOT] == [0, 0, 0]


def test_record_with_one_byte_changed_in_the_site_is_5_and_names_both_digests(world: Any) -> None:
    release = world.publish("1.0.0")
    path = world.site.vendor("acme").record_path(release.digest())
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"A tiny net", b"A tidy net"))

    line = fails(world, 5, "promote", "tiny-roto@1.0.0", "--reason", "test")

    import hashlib

    assert release.digest() in line
    assert hashlib.sha256(path.read_bytes()).hexdigest() in line
    world.without_mlflow()
    world.ok("sync")
    assert path.read_bytes() == data


def test_record_with_one_byte_changed_at_the_vendor_is_5_and_names_both_digests(world: Any) -> None:
    import hashlib

    world.without_mlflow()
    release = world.publish("1.0.0")
    shutil.rmtree(world.site.vendor("acme").root / "records")
    digest = release.digest()
    path = world.repository / "objects" / digest[:2] / digest
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))

    line = fails(world, 5, "sync")

    assert digest in line
    assert hashlib.sha256(bytes(data)).hexdigest() in line


def test_two_vendors_with_a_model_of_one_name_need_the_full_name(world: Any, tmp_path: Path) -> None:
    from changeover_updater import vendors
    from changeover_updater.release_folder import read_release

    first = world.publish("1.0.0")
    repository, root, keys = new_vendor(world, "other", "other")
    shutil.copytree(world.folders / "1.0.0", tmp_path / "theirs")
    text = (tmp_path / "theirs" / "release.toml").read_text(encoding="utf-8")
    (tmp_path / "theirs" / "release.toml").write_text(text.replace("acme/", "other/"), encoding="utf-8")
    release = read_release(tmp_path / "theirs")
    files = {f.sha256: tmp_path / "theirs" / v.id / f.path for v in release.variants for f in v.files}
    vendor.publish(repository, keys, release.to_bytes(), files, world.now)
    world.ok("trust", "add", "other", str(repository), "--root", str(root))
    vendors.sync_vendor(world.site.vendor("other"))
    world.accept(first)
    world.accept(release)

    line = fails(world, 2, "promote", "tiny-roto@1.0.0", "--reason", "test")
    world.ok("promote", "other/tiny-roto@1.0.0", "--reason", "test")
    world.ok("promote", "acme/tiny-roto@1.0.0", "--reason", "test")
    world.ok("update")

    assert "acme/tiny-roto, other/tiny-roto" in line
    assert {c.key for c in world.station.in_use().channels} == {str(first.ref()), str(release.ref())}
    assert [entry["vendor"] for entry in json.loads(world.ok("trust", "list", "--json"))] == ["acme", "other"]


def test_vendor_that_is_no_longer_trusted_leaves_what_is_in_use_and_offers_nothing(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)

    world.ok("trust", "remove", "acme")

    fails(world, 2, "promote", "tiny-roto@1.1.0", "--reason", "test")
    world.ok("update")
    assert world.station.in_use().channels[0].key == str(first.ref())
    assert "nobody" in world.run("sync", "acme")[2]
    assert "no vendor is trusted yet" in world.ok("sync")


def test_vendor_may_be_trusted_by_a_file_address(make_world: Callable[..., Any]) -> None:
    world = make_world()
    repository, root, _ = new_vendor(world, "other", "other")

    world.ok("trust", "add", "other", f"file://{repository}", "--root", str(root))

    world.without_mlflow()
    assert "other: 0 releases" in world.ok("sync", "other")
