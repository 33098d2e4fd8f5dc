import os
import socket
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.release import FileEntry
from changeover_updater.store import Store, check_root, verify_file

DATA = b"abc"
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def release(build: Any) -> Any:
    files = tuple(FileEntry(path=path, size=3, sha256=DIGEST, blocks=(DIGEST,)) for path in ("model.onnx", "a/b.npz"))
    return build.release(variants=(build.variant(files=files),))


def stage(folder: Path, data: bytes = DATA) -> Path:
    staged = folder / "variant"
    (staged / "a").mkdir(parents=True)
    (staged / "model.onnx").write_bytes(data)
    (staged / "a" / "b.npz").write_bytes(DATA)
    return staged


@pytest.mark.parametrize("name", ["a b", "a#b", "a%b", "a[b", "a]b", "a{b", "a}b", "a\nb", "a\udcffb"])
@pytest.mark.parametrize("what", ["site", "store"])
def test_root_that_hosts_misread_is_refused(name: str, what: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{what} folder") as caught:
        check_root(Path("/x", name), what=what)

    assert caught.value.exit_code == 2


def test_root_of_other_letters_is_taken(tmp_path: Path) -> None:
    assert check_root(tmp_path / "st\u00fcdio-1_x", what="store") == tmp_path / "st\u00fcdio-1_x"


def test_store_is_made_once_and_opened(store: Store) -> None:
    (store.root / "releases" / "kept").mkdir()

    assert Store.create(store.root) == Store.open(store.root) == store
    assert (store.root / "releases" / "kept").is_dir()
    assert store.free_bytes() > 0


def test_folder_that_is_no_store_or_of_another_format_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InvalidInputError, match="expected 1, found nothing"):
        Store.open(tmp_path)
    (store.root / "format").write_bytes(b"2\n")
    with pytest.raises(InvalidInputError, match="expected 1, found 2"):
        Store.open(store.root)


def test_variant_is_placed_whole_and_read_only(store: Store, release: Any) -> None:
    variant = release.variants[0]
    assert store.missing(release.ref(), variant)

    with store.staging() as folder:
        target = store.place(stage(folder), release.ref(), variant)

    assert target == store.variant_folder(release.ref(), variant.id)
    assert target.relative_to(store.root).as_posix() == store.variant_path(release.ref(), variant.id)
    assert not store.missing(release.ref(), variant)
    store.verify(release.ref(), variant)
    assert stat.S_IMODE((target / "a" / "b.npz").stat().st_mode) == 0o444
    assert list((store.root / "staging").iterdir()) == []


def test_variant_that_is_there_already_is_verified_and_used(store: Store, release: Any) -> None:
    variant = release.variants[0]
    for _ in range(2):
        with store.staging() as folder:
            store.place(stage(folder), release.ref(), variant)

    store.verify(release.ref(), variant)
    assert list((store.root / "staging").iterdir()) == []


def test_variant_that_is_there_with_other_bytes_is_refused_and_left(store: Store, release: Any) -> None:
    variant = release.variants[0]
    with store.staging() as folder:
        target = store.place(stage(folder, b"abd"), release.ref(), variant)

    with store.staging() as folder, pytest.raises(TrustError, match="model.onnx") as caught:
        store.place(stage(folder), release.ref(), variant)

    assert caught.value.expected == f"sha256 {DIGEST}"
    assert caught.value.actual == sha256(b"abd").hexdigest()
    assert (target / "model.onnx").read_bytes() == b"abd"
    assert list((store.root / "staging").iterdir()) == []


def test_file_that_is_gone_or_cut_is_missing_and_does_not_verify(store: Store, release: Any) -> None:
    variant = release.variants[0]
    with store.staging() as folder:
        target = store.place(stage(folder), release.ref(), variant)
    (target / "a" / "b.npz").unlink()

    assert store.missing(release.ref(), variant)
    with pytest.raises(TrustError, match="no such file"):
        store.verify(release.ref(), variant)
    (target / "a" / "b.npz").write_bytes(b"ab")
    assert store.missing(release.ref(), variant)


def test_file_that_is_gone_is_brought_back_and_those_that_are_there_are_left(store: Store, release: Any) -> None:
    variant = release.variants[0]
    with store.staging() as folder:
        target = store.place(stage(folder), release.ref(), variant)
    there = (target / "model.onnx").stat().st_ino
    (target / "a" / "b.npz").unlink()
    (target / "a").rmdir()

    with store.staging() as folder:
        store.place(stage(folder), release.ref(), variant)

    store.verify(release.ref(), variant)
    assert (target / "model.onnx").stat().st_ino == there
    assert stat.S_IMODE((target / "a" / "b.npz").stat().st_mode) == 0o444


def test_link_in_the_place_of_a_file_does_not_verify(store: Store, release: Any, tmp_path: Path) -> None:
    variant = release.variants[0]
    with store.staging() as folder:
        target = store.place(stage(folder), release.ref(), variant)
    (tmp_path / "elsewhere").write_bytes(DATA)
    (target / "model.onnx").unlink()
    (target / "model.onnx").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(TrustError, match="a link"):
        store.verify(release.ref(), variant)


def test_file_is_verified_by_its_bytes(tmp_path: Path, release: Any) -> None:
    (tmp_path / "f").write_bytes(DATA)

    verify_file(tmp_path / "f", release.variants[0].files[0])


def test_staging_is_removed_whatever_happens(store: Store) -> None:
    with pytest.raises(FileExistsError), store.staging() as folder:
        stage(stage(folder).parent)

    assert list((store.root / "staging").iterdir()) == []


def test_what_dead_processes_of_this_host_left_is_swept_and_nothing_else(store: Store) -> None:
    host, staging = socket.gethostname(), store.root / "staging"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    swept = (f"{host}~{dead.pid}~0f", f"{host}~{10**30}~0f")
    kept = (f"{host}~{os.getpid()}~0f", f"elsewhere-{host}~{dead.pid}~0f", "by-hand", f"{host}~x~0f", f"{host}~1~0f")
    for name in (*swept, *kept):
        stage(staging / name)

    assert store.sweep_staging() == len(swept)
    assert sorted(path.name for path in staging.iterdir()) == sorted(kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_living_process_of_another_user_is_left_alone() -> None:
    code = (
        "import os; from changeover_updater.store import _alive;"
        "os.setresuid(54321, 54321, 0); print(_alive(1)); os.setresuid(0, 0, 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "True\n"
