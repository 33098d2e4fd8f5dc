import shutil
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError, RefusedError, TrustError, UnreachableError
from changeover_registry.repository import vendor
from changeover_registry.repository.documents import fetch_document
from changeover_registry.repository.objects import object_path
from changeover_registry.transport import open_transport

Vendor = Any

BILL = b'{"bomFormat": "CycloneDX"}\n'
CARD = b"# person-roto\n"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def publish(acme: Vendor, made: Any, documents: dict[str, bytes]) -> None:
    vendor.publish(acme.folder, acme.keys, made.data, made.files, acme.now, documents)


def published(acme: Vendor, state: Path) -> dict[str, bytes]:
    """What a studio gets: the documents beside person-roto 1.0.0, each as its signed index names it."""
    client = acme.client(state)
    entry = vendor.open_vendor(client, "acme").indexes["person-roto"].entry("1.0.0")
    assert entry is not None
    return {one.name: fetch_document(client.transport, one, "person-roto 1.0.0") for one in entry.documents or ()}


def test_documents_come_back_whole_and_in_the_order_of_their_names(acme: Vendor, tmp_path: Path) -> None:
    publish(acme, acme.make(), {"bom.cdx.json": BILL, "README.md": CARD})
    assert list(published(acme, tmp_path / "state").items()) == [("README.md", CARD), ("bom.cdx.json", BILL)]


def test_documents_are_no_part_of_a_releases_identity(acme: Vendor, tmp_path: Path) -> None:
    made = acme.make()
    publish(acme, made, {"README.md": CARD})
    entry = acme.view(tmp_path / "state").indexes["person-roto"].entry("1.0.0")
    assert (entry.record, entry.length) == (made.record.digest(), len(made.data))


def test_the_same_documents_again_change_nothing(acme: Vendor) -> None:
    publish(acme, acme.make(), {"README.md": CARD})
    before = tree(acme.folder)
    publish(acme, acme.make(), {"README.md": CARD})
    publish(acme, acme.make(), {})
    assert tree(acme.folder) == before


def test_a_document_that_a_published_release_lacks_is_put_beside_it(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    publish(acme, acme.make(), {"README.md": CARD})
    publish(acme, acme.make(), {"bom.cdx.json": BILL})
    assert published(acme, tmp_path / "state") == {"README.md": CARD, "bom.cdx.json": BILL}


def test_another_document_of_a_published_name_is_refused_naming_both_digests(acme: Vendor) -> None:
    publish(acme, acme.make(), {"README.md": CARD})
    before = tree(acme.folder)
    with pytest.raises(RefusedError) as caught:
        publish(acme, acme.make(), {"README.md": b"# other\n"})
    assert canonical.digest(CARD) in caught.value.expected
    assert canonical.digest(b"# other\n") in caught.value.actual
    assert tree(acme.folder) == before


@pytest.mark.parametrize(
    ("name", "data"), [("../README.md", CARD), (".hidden", CARD), ("a b", CARD), ("README.md", b"")]
)
def test_a_document_without_a_name_or_content_is_refused(acme: Vendor, name: str, data: bytes) -> None:
    before = tree(acme.folder)
    with pytest.raises(InvalidInputError, match="document"):
        publish(acme, acme.make(), {name: data})
    assert tree(acme.folder) == before


def test_a_withdrawn_release_keeps_its_documents(acme: Vendor, tmp_path: Path) -> None:
    publish(acme, acme.make(), {"README.md": CARD})
    vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "it flickers", acme.now)
    assert published(acme, tmp_path / "state") == {"README.md": CARD}


@pytest.mark.parametrize("data", [b"# person_roto\n", b"# person-roto", b"# person-roto\n\n"])
def test_a_document_with_other_bytes_is_refused_at_the_studio(acme: Vendor, tmp_path: Path, data: bytes) -> None:
    publish(acme, acme.make(), {"README.md": CARD})
    copy = shutil.copytree(acme.folder, tmp_path / "carried")
    (copy / object_path(canonical.digest(CARD))).write_bytes(data)
    document = acme.view(tmp_path / "state").indexes["person-roto"].releases[0].documents[0]
    with pytest.raises(TrustError):
        fetch_document(open_transport(str(copy)), document, "person-roto 1.0.0")


def test_a_document_that_is_gone_is_told_as_unreachable(acme: Vendor, tmp_path: Path) -> None:
    publish(acme, acme.make(), {"README.md": CARD})
    (acme.folder / object_path(canonical.digest(CARD))).unlink()
    with pytest.raises(UnreachableError):
        published(acme, tmp_path / "state")


def test_a_list_of_releases_longer_than_studios_read_is_refused_before_anything_is_written(
    acme: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.publish(acme.make())
    before = tree(acme.folder)
    size = next((acme.folder / "targets" / "person-roto").iterdir()).stat().st_size
    monkeypatch.setattr(vendor, "_INDEX_LIMIT_BYTES", size + 100)

    with pytest.raises(RefusedError, match=rf"at most {size + 100} bytes, which is what studios read"):
        acme.publish(acme.make(version="1.1.0", content=b"more"))

    assert tree(acme.folder) == before
    assert [entry.version for entry in acme.view(tmp_path / "state").indexes["person-roto"].releases] == ["1.0.0"]
