import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from changeover_registry import canonical, clock
from changeover_registry.bom import BOM_NAME, validate_bom
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.model_card import CARD_NAME
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, sign_release
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor as repository
from changeover_registry.repository.objects import object_path
from changeover_updater import vendor
from changeover_updater.bundle import own_indexes
from changeover_updater.release_folder import read_release
from changeover_updater.vendor_documents import kept_documents
from changeover_updater.vendor_home import VendorHome, make_home, open_home

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytest.importorskip("model_signing", reason="the extra signing is not installed")
World = Any

LICENCE = b"Free for any purpose, at your own risk.\n"


def write_key(path: Path) -> Path:
    private = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(pem)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys") / "model.pem")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> VendorHome:
    return make_home(tmp_path_factory.mktemp("vendor") / "home", "acme", "", clock.now()).home


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Path:
    """A release folder with a paper of the vendor's."""
    copy = Path(shutil.copytree(release_folders / "1.0.0", tmp_path_factory.mktemp("release") / "1.0.0"))
    (copy / "documents").mkdir()
    (copy / "documents" / "LICENCE.txt").write_bytes(LICENCE)
    return copy


@pytest.fixture(scope="module")
def registered(home: VendorHome, folder: Path, key: Path) -> tuple[Release, dict[str, bytes]]:
    """A release that went through the vendor's MLflow and was published, and the documents that its home keeps."""
    release, _ = vendor.register(home, folder, clock.now(), model_signing=key)
    vendor.publish(home, release.model, release.version, clock.now())
    return release, kept_documents(home, release)


@pytest.fixture
def customer(world: World, home: VendorHome, registered: Any, key: Path) -> World:
    """A studio that trusts that vendor, and pinned its key."""
    world.ok("trust", "remove", "acme")
    world.without_mlflow()
    pinned = ("--model-signing-key", str(key.with_suffix(".pub")))
    world.ok("trust", "add", "acme", str(home.repository), "--root", str(home.keys.anchor), *pinned)
    return world


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith("lock")
    }


# The vendor's side.


def test_a_registered_release_has_its_documents_in_the_home_the_folder_and_mlflow(
    home: VendorHome, folder: Path, registered: tuple[Release, dict[str, bytes]], tmp_path: Path
) -> None:
    release, documents = registered
    assert set(documents) == {BOM_NAME, CARD_NAME, SIGNATURE, PUBLIC_KEY, "LICENCE.txt"}
    validate_bom(documents[BOM_NAME], where="bom")
    assert f"# {release.model} {release.version}".encode() in documents[CARD_NAME]
    for name in (BOM_NAME, CARD_NAME, SIGNATURE, PUBLIC_KEY):
        assert (folder / name).read_bytes() == documents[name]
    known = home.registry().find(release.model, release.version)
    assert known is not None
    for name, data in documents.items():
        assert home.registry().fetch(known, name, tmp_path).read_bytes() == data


def test_registering_and_publishing_again_changes_nothing(
    home: VendorHome, folder: Path, registered: tuple[Release, dict[str, bytes]], key: Path
) -> None:
    before = tree(home.repository)
    notices: list[str] = []
    release, made = vendor.register(home, folder, clock.now(), model_signing=key, notice=notices.append)
    assert not made.new
    assert notices == [f"{SIGNATURE} is the one that was made before"]
    assert not vendor.publish(home, release.model, release.version, clock.now()).new
    assert kept_documents(home, release) == registered[1]
    assert tree(home.repository) == before


def test_a_document_that_was_changed_since_stays_as_it_was_and_is_told(
    home: VendorHome, folder: Path, registered: tuple[Release, dict[str, bytes]]
) -> None:
    notices: list[str] = []
    (folder / "documents" / "LICENCE.txt").write_bytes(b"Other terms.\n")
    try:
        vendor.register(home, folder, clock.now(), notice=notices.append)
    finally:
        (folder / "documents" / "LICENCE.txt").write_bytes(LICENCE)
    assert notices == ["LICENCE.txt stays as it was registered; a release with another one needs a new version"]
    assert kept_documents(home, registered[0]) == registered[1]


def test_a_release_that_is_refused_leaves_no_documents_behind(
    home: VendorHome, release_folders: Path, registered: tuple[Release, dict[str, bytes]], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(release_folders / "1.1.0", tmp_path / "other"))
    text = (other / "release.toml").read_text(encoding="utf-8").replace('"1.1.0"', '"1.0.0"')
    (other / "release.toml").write_text(text, encoding="utf-8")
    before = tree(home.folder / "registered")
    with pytest.raises(RefusedError):
        vendor.register(home, other, clock.now())
    assert tree(home.folder / "registered") == before


def test_an_mlflow_that_says_otherwise_by_now_takes_no_published_document_out_of_the_home(
    home: VendorHome, folder: Path, registered: tuple[Release, dict[str, bytes]], tmp_path: Path
) -> None:
    shutil.copytree(home.folder, tmp_path / "home")
    other = open_home(tmp_path / "home")
    with contextlib.closing(sqlite3.connect(other.folder / "mlflow.db")) as connection, connection:
        changed = connection.execute(
            "UPDATE model_version_tags SET value = ? WHERE value = ?", ("ab" * 32, registered[0].digest())
        )
        assert changed.rowcount > 0

    with pytest.raises(RefusedError):
        vendor.register(other, folder, clock.now())

    assert kept_documents(other, registered[0]) == registered[1]


def test_a_card_of_the_vendors_own_is_published_with_front_matter(
    home: VendorHome, release_folders: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(release_folders / "1.2.0", tmp_path / "own"))
    (own / "README.md").write_bytes(b"# By hand\n")
    release, _ = vendor.register(home, own, clock.now())
    card = kept_documents(home, release)[CARD_NAME]
    assert card.startswith(b"---\nlicense: cc-by-4.0\n")
    assert card.endswith(b"---\n\n# By hand\n")
    assert (own / "README.md").read_bytes() == b"# By hand\n"


def test_what_a_killed_register_kept_is_published(
    home: VendorHome, release_folders: Path, key: Path, tmp_path: Path
) -> None:
    """Killed after MLflow shows the release and before the home has its record: done again, all of it is published."""
    own = Path(shutil.copytree(release_folders / "1.1.0", tmp_path / "own"))
    text = (own / "release.toml").read_text(encoding="utf-8").replace('"1.1.0"', '"1.1.1"')
    (own / "release.toml").write_text(text, encoding="utf-8")
    (own / "documents").mkdir()
    (own / "documents" / "LICENCE.txt").write_bytes(LICENCE)
    release, _ = vendor.register(home, own, clock.now(), model_signing=key)
    home.own_record(release.model, release.version).unlink()
    before = kept_documents(home, release)
    shutil.rmtree(own / "documents")

    assert not vendor.register(home, own, clock.now())[1].new
    assert vendor.publish(home, release.model, release.version, clock.now()).new

    (entry,) = [one for index in own_indexes(home.repository) for one in index.releases if one.version == "1.1.1"]
    assert {one.name: one.sha256 for one in entry.documents or ()} == {
        name: canonical.digest(data) for name, data in before.items()
    }
    assert before["LICENCE.txt"] == LICENCE


def bad_name(folder: Path) -> str:
    (folder / "documents" / "a b.txt").write_bytes(b"text")
    return "a b.txt"


def name_of_ours(folder: Path) -> str:
    (folder / "documents" / BOM_NAME).write_bytes(b"{}")
    return BOM_NAME


def link(folder: Path) -> str:
    (folder / "documents" / "link.txt").symlink_to(folder / "release.toml")
    return "link.txt"


def empty(folder: Path) -> str:
    (folder / "documents" / "empty.txt").touch()
    return "empty.txt"


def not_utf_8(folder: Path) -> str:
    (folder / "README.md").write_bytes("größer".encode("latin-1"))
    return "README.md"


@pytest.mark.parametrize("spoil", [bad_name, name_of_ours, link, empty, not_utf_8])
def test_a_document_that_cannot_be_published_is_refused_before_anything_is_registered(
    home: VendorHome, release_folders: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    own = Path(shutil.copytree(release_folders / "1.1.0", tmp_path / "own"))
    (own / "documents").mkdir()
    name = spoil(own)
    before = tree(home.folder / "registered")
    with pytest.raises(InvalidInputError, match=name):
        vendor.register(home, own, clock.now())
    assert home.registry().find("acme/tiny-roto", "1.1.0") is None
    assert tree(home.folder / "registered") == before


# The studio's side.


def test_documents_come_with_a_sync_and_are_shown(
    customer: World, registered: tuple[Release, dict[str, bytes]], tmp_path: Path
) -> None:
    release, documents = registered
    customer.ok("sync")
    answer = json.loads(customer.ok("documents", "tiny-roto@1.0.0", "--json"))
    assert answer["release"] == f"{release.model}@{release.version}"
    assert {one["name"]: one["sha256"] for one in answer["documents"]} == {
        name: canonical.digest(data) for name, data in documents.items()
    }
    assert all(one["here"] for one in answer["documents"])
    assert "OpenSSF signature" in customer.ok("documents", "tiny-roto@1.0.0")
    assert customer.ok("documents", "tiny-roto@1.0.0", "LICENCE.txt") == LICENCE.decode()
    customer.ok("documents", "tiny-roto@1.0.0", "--out", str(tmp_path / "out"))
    assert tree(tmp_path / "out") == documents


def test_the_studios_mlflow_has_a_copy_of_the_documents(
    world: World, home: VendorHome, registered: tuple[Release, dict[str, bytes]], tmp_path: Path
) -> None:
    world.ok("trust", "remove", "acme")
    world.ok("trust", "add", "acme", str(home.repository), "--root", str(home.keys.anchor))
    world.ok("sync")
    registry = Registry(world.site.mlflow_uri(), world.site.root / "mlflow" / "artifacts")
    known = registry.find("acme/tiny-roto", "1.0.0")
    assert known is not None
    for name, data in registered[1].items():
        assert registry.fetch(known, name, tmp_path).read_bytes() == data


def test_a_mirror_that_has_the_document_stands_in_for_one_that_lies(
    world: World, registered: tuple[Release, dict[str, bytes]], home: VendorHome, tmp_path: Path
) -> None:
    world.without_mlflow()
    world.ok("trust", "remove", "acme")
    liar = shutil.copytree(home.repository, tmp_path / "liar")
    (liar / object_path(canonical.digest(LICENCE))).write_bytes(LICENCE.upper())
    anchor = ("--root", str(home.keys.anchor), "--mirror", str(home.repository))
    world.ok("trust", "add", "acme", str(liar), *anchor)
    world.ok("sync")
    assert world.ok("documents", "tiny-roto@1.0.0", "LICENCE.txt") == LICENCE.decode()


def test_an_unknown_document_is_named_with_those_there_are(customer: World) -> None:
    customer.ok("sync")
    code, _, error = customer.run("documents", "tiny-roto@1.0.0", "NOTES.md")
    assert code == 2
    assert "LICENCE.txt" in error


def publish(world: World, name: str, documents: dict[str, bytes]) -> Release:
    """Publish a release folder with documents, without an MLflow in between."""
    release = read_release(world.folders / name)
    files = {f.sha256: world.folders / name / v.id / f.path for v in release.variants for f in v.files}
    repository.publish(world.repository, world.keys, release.to_bytes(), files, world.now, documents)
    return release


def signed(world: World, name: str, key: Path, scratch: Path) -> dict[str, bytes]:
    release = read_release(world.folders / name)
    files = {f"{v.id}/{f.path}": world.folders / name / v.id / f.path for v in release.variants for f in v.files}
    scratch.mkdir()
    return sign_release(release, files, key, scratch)


def test_a_document_that_somebody_altered_stops_the_sync_and_nothing_of_it_is_kept(world: World) -> None:
    world.without_mlflow()
    publish(world, "1.0.0", {"README.md": b"# tiny\n"})
    (world.repository / object_path(canonical.digest(b"# tiny\n"))).write_bytes(b"# evil\n")
    code, _, error = world.run("sync")
    assert code == 5
    assert "README.md" in error
    assert not list((world.site.root / "trust" / "acme").rglob("records/*"))
    assert b"# evil\n" not in tree(world.site.root / "trust").values()


def test_a_document_that_was_altered_in_the_site_is_not_shown(world: World) -> None:
    world.without_mlflow()
    publish(world, "1.0.0", {"README.md": b"# tiny\n"})
    world.ok("sync")
    place = world.site.vendor("acme").mirror / object_path(canonical.digest(b"# tiny\n"))
    place.unlink()
    place.write_bytes(b"# evil\n")
    code, out, error = world.run("documents", "tiny-roto@1.0.0", "README.md")
    assert (code, out) == (6, "")
    assert "changeover sync" in error
    place.unlink()
    world.ok("sync")
    assert world.ok("documents", "tiny-roto@1.0.0", "README.md") == "# tiny\n"


def test_a_document_that_is_added_later_comes_with_the_next_sync(world: World) -> None:
    world.without_mlflow()
    publish(world, "1.0.0", {})
    world.ok("sync")
    assert json.loads(world.ok("documents", "tiny-roto@1.0.0", "--json"))["documents"] == []
    publish(world, "1.0.0", {"README.md": b"# tiny\n"})
    world.ok("sync")
    assert world.ok("documents", "tiny-roto@1.0.0", "README.md") == "# tiny\n"


def test_a_document_that_is_no_text_is_written_out_instead_of_printed(world: World, tmp_path: Path) -> None:
    world.without_mlflow()
    publish(world, "1.0.0", {"still.png": b"\x89PNG\r\n\xff"})
    world.ok("sync")
    code, _, error = world.run("documents", "tiny-roto@1.0.0", "still.png")
    assert code == 2
    assert "--out" in error
    world.ok("documents", "tiny-roto@1.0.0", "still.png", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "still.png").read_bytes() == b"\x89PNG\r\n\xff"


def test_a_release_whose_signature_is_of_other_files_is_left_out_and_the_others_come(
    world: World, key: Path, tmp_path: Path
) -> None:
    world.without_mlflow()
    first = signed(world, "1.0.0", key, tmp_path / "first")
    publish(world, "1.0.0", first)
    second = publish(world, "1.1.0", first)
    code, _, error = world.run("sync")
    assert code == 5
    assert "OpenSSF signature: acme/tiny-roto@1.1.0: onnx-fp32/model.onnx" in error
    assert json.loads(world.ok("documents", "tiny-roto@1.0.0", "--json"))["signed_by"]
    assert not world.site.vendor("acme").record_path(second.digest()).exists()
    assert world.run("promote", "tiny-roto@1.1.0", "--reason", "test")[0] == 2
    assert world.run("sync")[0] == 5


def test_a_signature_that_comes_later_and_does_not_hold_is_told_at_every_sync(
    world: World, key: Path, tmp_path: Path
) -> None:
    world.without_mlflow()
    release = publish(world, "1.0.0", {})
    world.ok("sync")
    publish(world, "1.0.0", signed(world, "1.1.0", key, tmp_path / "other"))
    for _ in range(2):
        code, _, error = world.run("sync")
        assert code == 5
        assert "OpenSSF signature" in error
    assert world.site.vendor("acme").record_path(release.digest()).exists()


def test_where_a_key_is_pinned_a_release_without_its_signature_is_left_out(
    world: World, key: Path, tmp_path: Path
) -> None:
    world.without_mlflow()
    world.ok("trust", "remove", "acme")
    anchor = ("--root", str(world.keys.anchor), "--model-signing-key", str(key.with_suffix(".pub")))
    world.ok("trust", "add", "acme", str(world.repository), *anchor)
    (tmp_path / "others").mkdir()
    other = write_key(tmp_path / "others" / "other.pem")
    publish(world, "1.0.0", signed(world, "1.0.0", key, tmp_path / "first"))
    publish(world, "1.1.0", signed(world, "1.1.0", other, tmp_path / "second"))
    publish(world, "1.2.0", {})
    code, out, error = world.run("sync")
    assert code == 5
    assert "1 release, 1 new" in out
    assert "tiny-roto@1.1.0" in error
    assert "tiny-roto@1.2.0" in error


@pytest.mark.parametrize("name", ["model.pem", "gone.pub"])
def test_what_is_no_public_key_is_not_pinned(world: World, key: Path, name: str) -> None:
    world.ok("trust", "remove", "acme")
    anchor = ("--root", str(world.keys.anchor), "--model-signing-key", str(key.with_name(name)))
    code, _, error = world.run("trust", "add", "acme", str(world.repository), *anchor)
    assert code == 2
    assert "OpenSSF key" in error
    assert world.site.vendors() == ()
