import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from changeover_registry import canonical, clock
from changeover_registry.bundle_file import open_bundle
from changeover_registry.errors import TrustError
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, SignatureError, read_public_pem, sign_release
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor
from changeover_registry.repository.objects import object_path
from changeover_updater import vendors
from changeover_updater.release_folder import read_release

pytest.importorskip("model_signing", reason="the extra signing is not installed")
World = Any
There = Any

CARD = b"# tiny\n"
Files = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "model.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(pem)
    return path


def publish(world: World, name: str, documents: dict[str, bytes]) -> Release:
    release = read_release(world.folders / name)
    files = {f.sha256: world.folders / name / v.id / f.path for v in release.variants for f in v.files}
    vendor.publish(world.repository, world.keys, release.to_bytes(), files, world.now, documents)
    return release


def signed(world: World, name: str, key: Path, scratch: Path) -> dict[str, bytes]:
    release = read_release(world.folders / name)
    files = {f"{v.id}/{f.path}": world.folders / name / v.id / f.path for v in release.variants for f in v.files}
    scratch.mkdir()
    return sign_release(release, files, key, scratch)


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, world_at: Callable[[Path], World], key: Path
) -> tuple[World, Path, dict[str, bytes]]:
    """A studio with two signed releases; a bundle that names the first, and the documents beside that one."""
    root = tmp_path_factory.mktemp("studio")
    world = world_at(root)
    world.without_mlflow()
    documents = {"README.md": CARD, **signed(world, "1.0.0", key, root / "first")}
    publish(world, "1.0.0", documents)
    publish(world, "1.1.0", {"README.md": b"# second\n", **signed(world, "1.1.0", key, root / "second")})
    world.ok("sync")
    world.ok("export", "tiny-roto@1.0.0", str(root / "one.tar"))
    return world, root / "one.tar", documents


@pytest.fixture
def there(tmp_path: Path, here: tuple[World, Path, dict[str, bytes]], key: Path, make_site: Any) -> There:
    """A site that has nothing but what is carried, and pinned the vendor's key."""
    site = make_site(tmp_path / "there")
    trust(site, here[0], here[1], read_public_pem(key.with_suffix(".pub")))
    return site


def trust(site: There, world: World, bundle: Path, pinned: str | None) -> None:
    who, now = "gate@vm2", clock.now()
    root = (world.repository / "metadata" / "1.root.json").read_bytes()
    vendors.add_trust(
        site.site, "acme", str(bundle), root, allow_executable=False, who=who, now=now, model_signing=pinned
    )


def test_a_bundle_brings_the_documents_of_the_releases_that_it_names(
    here: tuple[World, Path, dict[str, bytes]], there: There
) -> None:
    _, bundle, documents = here
    assert there.carry(bundle).changed
    assert not there.carry(bundle).changed
    answer = json.loads(there.ok("documents", "tiny-roto@1.0.0", "--json"))
    assert {one["name"] for one in answer["documents"] if one["here"]} == documents.keys()
    assert answer["signed_by"]
    assert there.ok("documents", "tiny-roto@1.0.0", "README.md") == CARD.decode()
    there.ok("sync")


def test_of_other_releases_a_bundle_brings_what_their_records_are_verified_with(
    here: tuple[World, Path, dict[str, bytes]], there: There
) -> None:
    there.carry(here[1])
    answer = json.loads(there.ok("documents", "tiny-roto@1.1.0", "--json"))
    assert {one["name"] for one in answer["documents"] if one["here"]} == {SIGNATURE, PUBLIC_KEY}
    assert answer["signed_by"]
    code, _, error = there.run("documents", "tiny-roto@1.1.0", "README.md")
    assert code == 6
    assert "import a bundle" in error


def test_an_imported_document_is_exported_again(
    here: tuple[World, Path, dict[str, bytes]], there: There, tmp_path: Path
) -> None:
    there.carry(here[1])
    there.ok("export", "tiny-roto@1.0.0", str(tmp_path / "again.tar"))
    members = set(open_bundle(tmp_path / "again.tar").members)
    assert {f"vendors/acme/{object_path(canonical.digest(data))}" for data in here[2].values()} <= members


@pytest.mark.parametrize("name", ["README.md", SIGNATURE, PUBLIC_KEY])
@pytest.mark.parametrize("change", ["strip", "alter"])
def test_a_bundle_whose_document_is_missing_or_altered_is_refused_and_the_site_stays(
    here: tuple[World, Path, dict[str, bytes]],
    there: There,
    rewritten: Any,
    files_of: Files,
    tmp_path: Path,
    name: str,
    change: str,
) -> None:
    _, bundle, documents = here
    member = f"vendors/acme/{object_path(canonical.digest(documents[name]))}"

    def forge(members: dict[str, bytes]) -> None:
        if change == "strip":
            del members[member]
        else:
            members[member] = documents[name].swapcase()

    before = files_of(there.site.root)
    with pytest.raises(TrustError):
        there.carry(rewritten(bundle, tmp_path / "forged.tar", forge))
    after = files_of(there.site.root)
    assert {path: data for path, data in after.items() if not path.startswith("incoming/")} == before


def test_a_record_that_comes_without_its_signature_stays_out(
    here: tuple[World, Path, dict[str, bytes]], there: There, rewritten: Any, tmp_path: Path
) -> None:
    """The release that the bundle does not name: its record would be there, and nothing to verify it with."""
    world, bundle, documents = here
    second = read_release(world.folders / "1.1.0")
    kept = {object_path(canonical.digest(data)) for data in documents.values()}
    record = object_path(second.digest())

    def forge(members: dict[str, bytes]) -> None:
        for path in [path for path in members if "/objects/" in path]:
            if json_of(members[path]).get("mediaType") and path.removeprefix("vendors/acme/") not in kept:
                del members[path]

    forged = rewritten(bundle, tmp_path / "forged.tar", forge)
    assert f"vendors/acme/{record}" in open_bundle(forged).members
    there.carry(forged)
    assert not there.site.vendor("acme").record_path(second.digest()).exists()
    there.carry(bundle)
    assert there.site.vendor("acme").record_path(second.digest()).exists()


def json_of(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def test_a_bundle_of_a_release_without_the_pinned_signature_is_refused(
    here: tuple[World, Path, dict[str, bytes]], tmp_path: Path, make_site: Any, files_of: Files
) -> None:
    world, bundle, _ = here
    site = make_site(tmp_path / "strict")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    trust(site, world, bundle, other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
    before = files_of(site.site.root)
    with pytest.raises(SignatureError):
        site.carry(bundle)
    after = files_of(site.site.root)
    assert {path: data for path, data in after.items() if not path.startswith("incoming/")} == before


def test_a_bundle_from_before_a_document_was_added_still_brings_its_files(
    here: tuple[World, Path, dict[str, bytes]], there: There, tmp_path: Path
) -> None:
    """The site knows newer metadata, which names a document that no bundle brought; the release is whole without it."""
    world, old, documents = here
    release = publish(world, "1.0.0", {**documents, "LICENCE.txt": b"Other terms.\n"})
    world.ok("sync")
    world.ok("export", "tiny-roto@1.1.0", str(tmp_path / "newer.tar"))
    there.carry(tmp_path / "newer.tar")
    (file, *_) = release.variants[0].files
    assert not (there.site.vendor("acme").mirror / object_path(file.sha256)).exists()

    there.carry(old, files_only=True)

    assert (there.site.vendor("acme").mirror / object_path(file.sha256)).exists()
    answer = json.loads(there.ok("documents", "tiny-roto@1.0.0", "--json"))
    assert {one["name"] for one in answer["documents"] if not one["here"]} == {"LICENCE.txt"}
    assert answer["signed_by"]
