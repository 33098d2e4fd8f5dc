"""Bundles that are damaged, cut, forged or too large: refused by name, and the site is as it was."""

import errno
import hashlib
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import bundle_file, clock
from changeover_registry.bundle_file import open_bundle
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError
from changeover_registry.records.bundle import Bundle, BundleMember

There = Any
Rewrite = Callable[..., Path]
Files = Callable[[Path], dict[str, bytes]]


def refused(there: There, files_of: Files, bundle: Path) -> ChangeoverError:
    """The refusal of a bundle, after which every file of the site is as it was."""
    before = files_of(there.site.root)
    with pytest.raises(ChangeoverError) as caught:
        there.carry(bundle)
    assert files_of(there.site.root) == before
    return caught.value


def forget(there: There) -> None:
    """Have the site know nothing of the vendor but its root: what it verified before it would not read again."""
    shutil.rmtree(there.site.vendor("acme").root / "state")


def places(bundle: Path) -> dict[str, tuple[int, int]]:
    """Where each member's bytes are, as any tar reader says."""
    with tarfile.open(bundle) as tar:
        return {member.name: (member.offset_data, member.size) for member in tar}


def test_every_member_that_is_damaged_is_named(there: There, bundles: Path, tmp_path: Path, files_of: Files) -> None:
    good = (bundles / "choice.tar").read_bytes()
    told = {}
    for name, (start, size) in places(bundles / "choice.tar").items():
        bad = bytearray(good)
        bad[start + size // 2] ^= 1
        (tmp_path / "bad.tar").write_bytes(bad)
        told[name] = refused(there, files_of, tmp_path / "bad.tar")

    assert [name for name, error in told.items() if not isinstance(error, TrustError)] == []
    # An object has its digest for a name; the file that it is, in its variant, stands there too where it is one.
    unnamed = [name for name, error in told.items() if name not in str(error) and name.split("/")[-1] not in str(error)]
    assert unnamed == []
    there.carry(bundles / "choice.tar")


def test_every_frame_that_is_damaged_is_named(bundles: Path, tmp_path: Path) -> None:
    good = (bundles / "old.tar").read_bytes()
    for name, (start, size) in places(bundles / "old.tar").items():
        for at in (start - 512, start - 356, start - 1, *((start + size,) if size % 512 else ())):
            bad = bytearray(good)
            bad[at] ^= 0x20
            (tmp_path / "bad.tar").write_bytes(bad)
            with pytest.raises(ChangeoverError) as caught:
                open_bundle(tmp_path / "bad.tar")
            assert name in str(caught.value)


def test_a_bundle_that_is_cut_at_any_block_says_where(bundles: Path, tmp_path: Path) -> None:
    good = (bundles / "old.tar").read_bytes()
    ends = {name: start + size for name, (start, size) in places(bundles / "old.tar").items()}
    for length in [*range(512, len(good), 512), *(end - 1 for end in ends.values())]:
        (tmp_path / "cut.tar").write_bytes(good[:length])
        inside = next((name for name, end in ends.items() if length < end), None)

        with pytest.raises(TrustError, match="bundle cut short") as caught:
            open_bundle(tmp_path / "cut.tar")

        assert inside is None or inside in str(caught.value)


@pytest.mark.parametrize("size", [0, 100, 511])
def test_a_stump_is_no_bundle(there: There, bundles: Path, tmp_path: Path, files_of: Files, size: int) -> None:
    (tmp_path / "stump.tar").write_bytes((bundles / "old.tar").read_bytes()[:size])

    assert isinstance(refused(there, files_of, tmp_path / "stump.tar"), InvalidInputError | TrustError)


def test_bytes_behind_the_end_are_refused(there: There, bundles: Path, tmp_path: Path, files_of: Files) -> None:
    (tmp_path / "long.tar").write_bytes((bundles / "old.tar").read_bytes() + bytes(512))

    assert "something follows the end" in str(refused(there, files_of, tmp_path / "long.tar"))


def test_what_a_liar_changes_and_says_so_is_refused_by_signature(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    """The manifest is right about every forged member here; only the signed metadata can tell."""
    signed = [path for path in open_bundle(bundles / "new.tar").members if "/boms/" not in path]
    unused = "vendors/acme/metadata/1.root.json"
    forget(there)
    for path in signed:

        def forge(there: dict[str, bytes], path: str = path) -> None:
            there[path] = there[path][:-2] + bytes([there[path][-2] ^ 1]) + there[path][-1:]

        forged = rewritten(bundles / "new.tar", tmp_path / "forged.tar", forge)
        if path != unused:
            assert isinstance(refused(there, files_of, forged), TrustError), path
    # The root that was given by hand is read from the site, never from a bundle.
    there.carry(rewritten(bundles / "new.tar", tmp_path / "forged.tar", lambda there: there.update({unused: b"{}"})))
    assert (there.site.vendor("acme").mirror / "metadata/1.root.json").read_bytes() == (
        there.site.vendor("acme").pinned_root()
    )


def test_a_choice_that_a_liar_changes_is_refused(
    second: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    parts = [path for path in open_bundle(bundles / "choice-new.tar").members if not path.startswith("vendors/")]
    assert sum(path.startswith("verdicts/") for path in parts) == 1
    for path in parts:

        def forge(there: dict[str, bytes], path: str = path) -> None:
            there[path] = there[path][:-2] + bytes([there[path][-2] ^ 1]) + there[path][-1:]

        forged = rewritten(bundles / "choice-new.tar", tmp_path / "forged.tar", forge)
        if path != "choice/metadata/1.root.json":
            assert isinstance(refused(second, files_of, forged), TrustError), path


def test_a_choice_without_its_past_or_its_policy_is_refused(
    second: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    parts = [path for path in open_bundle(bundles / "choice-new.tar").members if not path.startswith("vendors/")]
    for path in parts:
        if path != "choice/metadata/1.root.json" and not path.startswith("verdicts/"):
            short = rewritten(
                bundles / "choice-new.tar", tmp_path / "short.tar", lambda there, path=path: there.pop(path)
            )

            assert refused(second, files_of, short).exit_code in {5, 6}, path


def test_a_bundle_without_one_of_its_members_is_refused(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    needed = [p for p in open_bundle(bundles / "old.tar").members if "/boms/" not in p and "1.root" not in p]
    forget(there)
    for path in needed:
        short = rewritten(bundles / "old.tar", tmp_path / "short.tar", lambda there, path=path: there.pop(path))

        assert refused(there, files_of, short).exit_code in {5, 6}, path


def test_members_that_are_swapped_are_refused(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    names = [path for path in open_bundle(bundles / "new.tar").members if "/objects/" in path]

    def swap(there: dict[str, bytes]) -> None:
        there[names[0]], there[names[-1]] = there[names[-1]], there[names[0]]

    error = refused(there, files_of, rewritten(bundles / "new.tar", tmp_path / "swapped.tar", swap))

    assert isinstance(error, TrustError)


def test_an_object_that_nobody_signed_is_not_carried_in(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite
) -> None:
    data = b"#!/bin/sh\n"
    digest = hashlib.sha256(data).hexdigest()
    path = f"vendors/acme/objects/{digest[:2]}/{digest}"

    stowaway = rewritten(bundles / "old.tar", tmp_path / "stowaway.tar", lambda there: there.update({path: data}))

    assert path in str(refused(there, files_of, stowaway))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/cron.d/x",
        "../../etc/passwd",
        "vendors/acme/../../policy.toml",
        "vendors/acme/metadata/../entry.json",
        "vendors/acme/entry.json",
        "vendors/acme/objects/ab/short",
        "vendors\\acme\\metadata\\x.json",
        "format",
        "imports/00000001.json",
        "follows/root.json",
        "vendors/acme/metadata/con.json",
        "vendors/acme/metadata/-x.json",
    ],
)
def test_a_member_has_its_place_or_there_is_no_bundle(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite, path: str
) -> None:
    bad = rewritten(bundles / "old.tar", tmp_path / "bad.tar", lambda there: there.update({path: b"x"}))

    assert isinstance(refused(there, files_of, bad), TrustError)
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    "other", ["vendors/acme/metadata/TIMESTAMP.json", "vendors/acme/metadata/timestamp.json/x.json"]
)
def test_two_members_that_are_one_file_somewhere_are_refused(
    there: There, bundles: Path, tmp_path: Path, files_of: Files, rewritten: Rewrite, other: str
) -> None:
    bad = rewritten(bundles / "old.tar", tmp_path / "bad.tar", lambda there: there.update({other: b"{}"}))

    assert "metadata" in str(refused(there, files_of, bad))


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"6", b"x", b"L", b"S"])
def test_a_member_that_is_no_plain_file_is_refused(bundles: Path, tmp_path: Path, kind: bytes) -> None:
    name = "vendors/acme/metadata/timestamp.json"
    start, _ = places(bundles / "old.tar")[name]
    bad = bytearray((bundles / "old.tar").read_bytes())
    bad[start - 512 + 156 : start - 512 + 157] = kind
    header = bytearray(bad[start - 512 : start])
    header[148:156] = b" " * 8
    bad[start - 512 + 148 : start - 512 + 156] = b"%06o\0 " % sum(header)
    (tmp_path / "bad.tar").write_bytes(bad)

    with pytest.raises(TrustError) as caught:
        open_bundle(tmp_path / "bad.tar")

    assert name in str(caught.value)


def test_a_size_that_is_only_claimed_takes_neither_memory_nor_disk(tmp_path: Path) -> None:
    huge = BundleMember(path="vendors/acme/metadata/timestamp.json", size=2**61, sha256="0" * 64)
    manifest = Bundle(made_at="2026-01-01T00:00:00Z", made_by="liar", vendors=("acme",), members=(huge,))
    with (tmp_path / "bomb.tar").open("wb") as file:
        bundle_file.write_container(file, manifest, (), lambda *_: None)

    with pytest.raises(TrustError, match="bundle cut short"):
        open_bundle(tmp_path / "bomb.tar")


def test_a_policy_of_8_gib_is_refused_before_a_byte_of_it_is_read(there: There, tmp_path: Path) -> None:
    huge = BundleMember(path="policy.toml", size=8 * 1024**3, sha256="0" * 64)
    manifest = Bundle(made_at="2026-01-01T00:00:00Z", made_by="liar", vendors=(), choice=True, members=(huge,))
    path = tmp_path / "bomb.tar"
    with path.open("wb") as file:
        bundle_file.write_container(file, manifest, (), lambda *_: None)
        file.seek(-1024, 2)
        file.write(bundle_file.member_header(huge.path, huge.size))
        file.truncate(bundle_file.container_size(manifest))

    code, error = there.refused("import", str(path))

    assert (code, error.count("\n")) == (5, 1)
    assert "policy.toml: expected at most 67108864 bytes" in error


def test_a_manifest_of_any_length_is_not_read(tmp_path: Path) -> None:
    head = bytearray(512)
    head[:11], head[124:136] = b"bundle.json", b"77777777777\0"
    (tmp_path / "bomb.tar").write_bytes(bytes(head))

    with pytest.raises(TrustError, match="at most"):
        open_bundle(tmp_path / "bomb.tar")


def test_a_file_of_more_than_8_gib_has_its_place_without_being_read(tmp_path: Path) -> None:
    """A sparse file: its headers are checked, by GNU tar too, and none of its bytes takes room."""
    size = 9 * 1024**3 + 1
    big = BundleMember(path=f"vendors/acme/objects/ab/{'ab' * 32}", size=size, sha256="ab" * 32)
    last = BundleMember(path="vendors/acme/metadata/timestamp.json", size=1, sha256=hashlib.sha256(b"x").hexdigest())
    manifest = Bundle(made_at="2026-01-01T00:00:00Z", made_by="x", vendors=("acme",), members=(big, last))
    with (tmp_path / "big.tar").open("wb") as file:
        bundle_file.write_container(file, manifest, (), lambda *_: None)
        begin = file.tell() - 1024
        file.truncate(begin)
        file.seek(begin)
        file.write(bundle_file.member_header(big.path, size))
        file.seek(begin + 512 + size + (-size % 512))
        file.write(bundle_file.member_header(last.path, 1) + b"x" + bytes(511) + bytes(1024))

    bundle = open_bundle(tmp_path / "big.tar")

    bundle.check(last.path)
    assert places(tmp_path / "big.tar")[last.path][0] == bundle.offsets[last.path]
    assert list(bundle.stream(big.path, offset=size - 1)) == [b"\0"]


def test_an_expired_bundle_is_refused_by_role_and_day(there: There, bundles: Path, files_of: Files) -> None:
    before = files_of(there.site.root)

    with pytest.raises(TrustError) as caught:
        there.carry(bundles / "old.tar", now=clock.now() + timedelta(days=31))

    assert caught.value.rule == "expiry"
    assert "timestamp.json" in caught.value.where
    assert "expired at 20" in caught.value.actual
    assert files_of(there.site.root) == before


def test_a_bundle_without_room_is_refused_before_a_byte_lands(
    there: There, bundles: Path, files_of: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(there.site.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))

    with pytest.raises(OSError, match="are needed") as caught:
        there.carry(bundles / "old.tar")

    assert caught.value.errno == errno.ENOSPC
    after = {path: data for path, data in files_of(there.site.root).items() if not path.startswith("incoming/")}
    assert after == before
