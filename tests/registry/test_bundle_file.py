import hashlib
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.bundle_file import (
    MANIFEST,
    Piece,
    container_size,
    member_header,
    open_bundle,
    write_container,
)
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UndecidedError, UnreachableError
from changeover_registry.records.bundle import Bundle, BundleMember
from changeover_registry.transport.bundle import BundleTransport
from changeover_registry.transport.interface import NotThereError

DIGEST = "ab" * 32
CONTENT = {
    "vendors/acme/metadata/timestamp.json": b"{}",
    f"vendors/acme/objects/ab/{DIGEST}": bytes(range(256)) * 9,
    "policy.toml": b"",
}


def write(path: Path, content: dict[str, bytes], made_by: str = "jo@acme") -> Path:
    members = [
        BundleMember(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in content.items()
    ]
    manifest = Bundle(
        made_at="2026-11-22T12:00:00Z", made_by=made_by, vendors=("acme",), choice=True, members=tuple(members)
    )
    with path.open("wb") as file:
        pieces = [Piece(member, partial(_whole, content[member.path])) for member in members]
        write_container(file, manifest, pieces, lambda *_: None)
    assert path.stat().st_size == container_size(manifest)
    return path


def _whole(data: bytes) -> tuple[bytes, ...]:
    return (data,)


def read(path: Path) -> dict[str, bytes]:
    bundle = open_bundle(path)
    for name in bundle.members:
        bundle.check(name)
    return {name: b"".join(bundle.stream(name)) for name in bundle.members}


def test_what_is_written_is_read_and_the_same_again_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.tar", CONTENT), write(tmp_path / "b.tar", CONTENT)

    assert read(first) == CONTENT
    assert first.read_bytes() == second.read_bytes()


def test_a_stranger_unpacks_it_and_checks_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", CONTENT)

    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "--check", "--status", f"{MANIFEST}.sha256"], check=True, cwd=tmp_path)

    assert {name: (tmp_path / name).read_bytes() for name in CONTENT} == CONTENT


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(min_value=0, max_value=1, exclude_max=True), change=st.integers(min_value=1, max_value=255))
def test_no_byte_of_a_bundle_can_be_another(tmp_path: Path, place: float, change: int) -> None:
    good = write(tmp_path / "good.tar", CONTENT).read_bytes()
    bad = bytearray(good)
    bad[int(place * len(good))] ^= change
    (tmp_path / "bad.tar").write_bytes(bad)

    with pytest.raises(ChangeoverError):
        read(tmp_path / "bad.tar")


@settings(max_examples=60, deadline=None)
@given(
    name=st.from_regex(r"[a-z0-9]{1,90}(/[a-z0-9]{1,60}){0,2}", fullmatch=True),
    size=st.one_of(st.integers(0, 2**20), st.integers(8**11 - 2, 2**62 - 1)),
)
def test_a_header_says_to_other_readers_what_it_says_to_ours(name: str, size: int) -> None:
    header = member_header(name, size)

    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")

    assert (len(header), info.name, info.size, info.mode, info.type) == (512, name, size, 0o644, tarfile.REGTYPE)


def test_a_name_that_no_header_holds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="100 characters"):
        member_header("a" * 101, 1)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(__file__, arcname="readme.txt")

    for content in (other.read_bytes(), b"", b"PK\x03\x04" + bytes(600)):
        other.write_bytes(content)
        with pytest.raises(InvalidInputError, match="changeover export"):
            open_bundle(other)


def test_a_bundle_of_a_newer_version_says_what_it_needs(tmp_path: Path) -> None:
    data = write(tmp_path / "a.tar", CONTENT).read_bytes()
    manifest = data[512 : data.index(b"\0", 512)]
    newer = manifest.replace(b"changeover.bundle/1", b"changeover.bundle/2")
    line = f"{hashlib.sha256(newer).hexdigest()}  {MANIFEST}\n".encode()
    old = f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()
    (tmp_path / "a.tar").write_bytes(data.replace(manifest, newer).replace(old, line))

    with pytest.raises(UndecidedError, match="needs changeover >= 2"):
        open_bundle(tmp_path / "a.tar")


def test_bytes_that_are_not_those_of_the_member_are_not_written(tmp_path: Path) -> None:
    member = BundleMember(path="policy.toml", size=3, sha256=DIGEST)
    manifest = Bundle(made_at="2026-11-22T12:00:00Z", made_by="x", vendors=(), choice=True, members=(member,))
    with (tmp_path / "a.tar").open("wb") as file, pytest.raises(TrustError, match="no bundle was written"):
        write_container(file, manifest, [Piece(member, lambda: (b"abc",))], lambda *_: None)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"vendors": ()}, "every vendor"),
        ({"choice": False}, "choice = true"),
    ],
)
def test_a_manifest_says_whose_members_it_has(head: dict[str, object], message: str) -> None:
    member = {"size": 1, "sha256": DIGEST}
    members = [{"path": "vendors/acme/metadata/x.json", **member}, {"path": "policy.toml", **member}]
    body = {"made_at": "2026-11-22T12:00:00Z", "made_by": "x", "vendors": ["acme"], "choice": True, "members": members}

    with pytest.raises(InvalidInputError, match=message):
        Bundle.parse({**body, **head}, where="test")


@pytest.fixture
def transport(tmp_path: Path) -> BundleTransport:
    return BundleTransport(open_bundle(write(tmp_path / "a.tar", CONTENT)), "vendors/acme")


def test_a_repository_in_a_bundle_is_read_as_any_other(transport: BundleTransport) -> None:
    path, data = f"objects/ab/{DIGEST}", CONTENT[f"vendors/acme/objects/ab/{DIGEST}"]

    assert transport.read("metadata/timestamp.json", limit=2) == b"{}"
    assert b"".join(transport.stream(path, offset=1000)) == data[1000:]
    assert b"".join(transport.stream(path, offset=1000, length=10)) == data[1000:1010]
    assert b"".join(transport.stream(path, offset=99999)) == b""
    assert "a.tar: vendors/acme" in transport.location


def test_a_repository_in_a_bundle_has_what_is_in_it_and_nothing_else(transport: BundleTransport) -> None:
    with pytest.raises(NotThereError):
        transport.read("metadata/2.root.json", limit=10)
    with pytest.raises(InvalidInputError):
        transport.read("../../policy.toml", limit=10)
    with pytest.raises(TrustError, match="at most 1 bytes"):
        transport.read("metadata/timestamp.json", limit=1)


def test_a_drive_that_is_pulled_out_is_unreachable(transport: BundleTransport, tmp_path: Path) -> None:
    (tmp_path / "a.tar").unlink()

    with pytest.raises(UnreachableError, match="goes on where it stopped"):
        list(transport.stream("metadata/timestamp.json"))
    with pytest.raises(UnreachableError, match="goes on where it stopped"):
        transport.read("metadata/timestamp.json", limit=2)
