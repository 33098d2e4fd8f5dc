"""Files of a release from one repository into one store: what is here is not fetched, what is killed goes on."""

import contextlib
import fcntl
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import _fs
from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release
from changeover_registry.records.repository import TrustEntry
from changeover_updater.install import check_room, install_variants, missing_bytes
from changeover_updater.site import VendorFolder
from changeover_updater.store import Store
from changeover_updater.transfer.claims import claimed, staging_folder, sweep_claims

SAMPLE = Path(__file__).parents[1] / "samples" / "release-1.json"
INSTALL = """
import sys
from pathlib import Path
from changeover_registry.records.release import Release
from changeover_updater.install import install_variants
from changeover_updater.site import VendorFolder
from changeover_updater.store import Store
release = Release.from_bytes(Path(sys.argv[3]).read_bytes(), where="release")
install_variants(Store(Path(sys.argv[1])), VendorFolder(Path(sys.argv[2])), release, release.variants, lambda *_: None)
"""
A, B, C = (random.Random(n).randbytes(BLOCK_BYTES + 100_000 * n) for n in (1, 2, 3))


def entry_of(path: str, data: bytes) -> FileEntry:
    blocks = tuple(sha256(data[at : at + BLOCK_BYTES]).hexdigest() for at in range(0, len(data), BLOCK_BYTES))
    return FileEntry(path=path, size=len(data), sha256=sha256(data).hexdigest(), blocks=blocks)


class Studio:
    """A vendor's folder in a site, its repository in a folder, and a store."""

    def __init__(self, root: Path, *mirrors: str, store: Path | None = None) -> None:
        self.repository = root / "repository"
        self.store = Store.create(store or root / "store")
        self.vendor = VendorFolder(root / "site" / "trust" / "acme")
        (self.vendor.root / "records").mkdir(parents=True)
        self.trust(str(self.repository), *mirrors)
        self.progress: list[tuple[str, int]] = []

    def trust(self, location: str, *mirrors: str) -> None:
        """Have the vendor's repository be at these places."""
        entry = TrustEntry(
            vendor="acme",
            location=location,
            root="0" * 64,
            added_by="td",
            added_at="2026-01-01T00:00:00Z",
            mirrors=mirrors or None,
        )
        (self.vendor.root / "entry.json").write_bytes(entry.to_bytes())

    def publish(self, version: str, **files: bytes) -> Release:
        """A release of one variant with these files."""
        sample = Release.from_bytes(SAMPLE.read_bytes(), where="sample")
        entries = tuple(entry_of(f"{name}.bin", data) for name, data in files.items())
        variant = sample.variants[0].model_copy(update={"files": entries, "entry": entries[0].path})
        release = sample.model_copy(
            update={"model": "acme/person-roto", "version": version, "variants": (variant,)},
        )
        for data in files.values():
            digest = sha256(data).hexdigest()
            path = self.repository / "objects" / digest[:2] / digest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.vendor.record_path(release.digest()).write_bytes(release.to_bytes())
        return release

    def install(self, release: Release) -> None:
        """Install it, and remember what was reported."""
        self.progress = []
        install_variants(
            self.store, self.vendor, release, release.variants, lambda name, n, _: self.progress.append((name, n))
        )

    def forget(self, *datas: bytes) -> None:
        """Take files out of the repository: whatever is fetched fails."""
        for data in datas:
            digest = sha256(data).hexdigest()
            (self.repository / "objects" / digest[:2] / digest).unlink()

    def folder(self, release: Release) -> Path:
        return self.store.variant_folder(release.ref(), release.variants[0].id)

    def staged(self) -> list[str]:
        return sorted(path.name for path in (self.store.root / "staging").iterdir())


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_one_changed_file_of_three_is_the_one_that_is_fetched(studio: Studio) -> None:
    first = studio.publish("1.0.0", a=A, b=B, c=C)
    studio.install(first)
    changed = random.Random(9).randbytes(len(B))
    second = studio.publish("1.1.0", a=A, b=changed, c=C)
    studio.forget(A, B, C)

    studio.install(second)

    assert [(studio.folder(second) / f"{n}.bin").read_bytes() for n in "abc"] == [A, changed, C]
    assert all(path.stat().st_nlink == 1 and not path.is_symlink() for path in studio.folder(second).iterdir())
    assert studio.staged() == []


def test_blocks_that_are_the_same_are_taken_from_wherever_they_stand(studio: Studio) -> None:
    long = A[:BLOCK_BYTES] + B[:BLOCK_BYTES] + C[:BLOCK_BYTES]
    studio.install(studio.publish("1.0.0", a=long))
    moved = C[:BLOCK_BYTES] + A[:BLOCK_BYTES] + A[:BLOCK_BYTES]
    second = studio.publish("1.1.0", a=moved)
    studio.forget(moved)

    studio.install(second)

    assert (studio.folder(second) / "a.bin").read_bytes() == moved


def test_installed_bytes_that_changed_are_not_taken(studio: Studio) -> None:
    first = studio.publish("1.0.0", a=A + B)
    studio.install(first)
    path = studio.folder(first) / "a.bin"
    path.chmod(0o644)
    path.write_bytes(bytes([A[0] ^ 1]) + (A + B)[1:])
    second = studio.publish("1.1.0", b=A + B)

    studio.install(second)

    assert (studio.folder(second) / "b.bin").read_bytes() == A + B


def test_a_link_or_a_pipe_in_an_installed_files_place_is_passed_over(studio: Studio, tmp_path: Path) -> None:
    first = studio.publish("1.0.0", a=A, b=B)
    studio.install(first)
    (tmp_path / "elsewhere").write_bytes(A)
    for name in ("a.bin", "b.bin"):
        (studio.folder(first) / name).unlink()
    (studio.folder(first) / "a.bin").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(studio.folder(first) / "b.bin")
    second = studio.publish("1.1.0", a=A, b=B)

    studio.install(second)

    assert (studio.folder(second) / "a.bin").read_bytes() == A
    assert (studio.folder(second) / "b.bin").read_bytes() == B


def test_what_is_installed_is_looked_up_once_for_all_files(studio: Studio) -> None:
    """Ten thousand files would have every record read and parsed ten thousand times; gone after the first, it shows."""
    first = studio.publish("1.0.0", a=A, b=B, c=C)
    studio.install(first)
    second = studio.publish("1.1.0", a=A, b=B, c=C)
    studio.forget(A, B, C)

    def told(*_: object) -> None:
        studio.vendor.record_path(first.digest()).unlink(missing_ok=True)

    install_variants(studio.store, studio.vendor, second, second.variants, told)

    studio.store.verify(second.ref(), second.variants[0])


def test_records_that_nobody_can_read_keep_nothing_from_being_installed(studio: Studio) -> None:
    first = studio.publish("1.0.0", a=A)
    studio.install(first)
    path = studio.vendor.record_path(first.digest())
    path.write_bytes(path.read_bytes()[:-20])

    second = studio.publish("1.1.0", a=A)
    studio.install(second)

    assert (studio.folder(second) / "a.bin").read_bytes() == A


def test_a_file_that_is_gone_from_a_kept_release_is_brought_back(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A, b=B)
    studio.install(release)
    (studio.folder(release) / "b.bin").unlink()
    studio.forget(A)

    studio.install(release)

    assert (studio.folder(release) / "b.bin").read_bytes() == B


def test_what_was_carried_into_the_site_needs_no_network(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A)
    (studio.repository / "objects").rename(studio.repository / "gone")
    digest = sha256(A).hexdigest()
    (studio.vendor.mirror / "objects" / digest[:2]).mkdir(parents=True)
    (studio.vendor.mirror / "objects" / digest[:2] / digest).write_bytes(A)

    studio.install(release)

    assert (studio.folder(release) / "a.bin").read_bytes() == A


def test_a_file_that_one_mirror_lacks_comes_from_the_next(tmp_path: Path) -> None:
    studio = Studio(tmp_path, str(tmp_path / "second"))
    release = studio.publish("1.0.0", a=A)
    studio.repository.rename(tmp_path / "second")

    studio.install(release)

    assert (studio.folder(release) / "a.bin").read_bytes() == A


def test_a_place_that_fails_one_file_is_asked_last_for_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studio = Studio(tmp_path)
    studio.trust(str(tmp_path / "nowhere"), str(studio.repository))
    release = studio.publish("1.0.0", a=A, b=B, c=C)

    studio.install(release)

    assert caplog.text.count("another mirror was taken") == 1


# A disk that can share blocks.


@contextlib.contextmanager
def xfs(root: Path) -> Iterator[Path]:
    """A small XFS on a loop device, where this machine lets root have one."""
    image, folder = root / "xfs.img", root / "xfs"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(320 * 1024 * 1024)
    made = subprocess.run(["mkfs.xfs", "-q", str(image)], check=False, capture_output=True)
    if (
        made.returncode
        or subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True).returncode
    ):
        pytest.skip("no XFS can be made and mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_that_is_here_is_cloned_where_the_disk_can_and_still_hashed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with xfs(tmp_path) as disk:
        studio = Studio(tmp_path / "studio", store=disk / "store")
        big = A + B + C
        first = studio.publish("1.0.0", a=big)
        studio.install(first)
        os.sync()
        free = studio.store.free_bytes()
        studio.forget(big)
        second = studio.publish("1.1.0", other=big)
        studio.forget(big)

        studio.install(second)

        assert (studio.folder(second) / "other.bin").read_bytes() == big
        assert (studio.folder(second) / "other.bin").stat().st_nlink == 1
        os.sync()
        assert free - studio.store.free_bytes() < len(big) // 4

        # The clone of a file that was changed is mended block by block, and what it was cloned from stays as it is.
        path = studio.folder(second) / "other.bin"
        path.chmod(0o644)
        wrong = bytes([big[0] ^ 1]) + big[1:]
        path.write_bytes(wrong)
        _fs.remove_tree(studio.folder(first))
        third = studio.publish("1.2.0", third=big)
        studio.install(third)
        assert (studio.folder(third) / "third.bin").read_bytes() == big
        assert path.read_bytes() == wrong


# Kills, other processes.


def command(studio: Studio, release: Release) -> list[str]:
    record = studio.vendor.record_path(release.digest())
    return [sys.executable, "-c", INSTALL, str(studio.store.root), str(studio.vendor.root), str(record)]


class Standing(http.server.SimpleHTTPRequestHandler):
    """A web server that never answers for one file."""

    never: str

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith(self.never):
            time.sleep(30)
        else:
            super().do_GET()


def test_an_install_that_was_killed_goes_on_with_what_it_had(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A, b=B, c=C)
    handler = type("Handler", (Standing,), {"never": sha256(C).hexdigest()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(studio.repository)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    studio.trust(f"http://127.0.0.1:{server.server_port}")
    folder = staging_folder(studio.store, release.ref(), release.variants[0].id) / "variant"
    process = subprocess.Popen(command(studio, release), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "b.bin").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
    assert studio.store.missing(release.ref(), release.variants[0])
    studio.trust(str(studio.repository))
    studio.forget(A, B)

    studio.store.sweep_staging()
    studio.install(release)

    assert (studio.folder(release) / "c.bin").read_bytes() == C
    assert studio.staged() == []


def test_a_cut_leaves_what_came_and_wrong_bytes_leave_nothing(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A, b=B)
    studio.forget(B)
    with pytest.raises(UnreachableError):
        studio.install(release)
    assert studio.staged() == [f"{release.digest()}~{release.variants[0].id}"]
    digest = sha256(B).hexdigest()
    (studio.repository / "objects" / digest[:2] / digest).write_bytes(b"\0" * len(B))

    with pytest.raises(TrustError):
        studio.install(release)

    assert studio.staged() == []
    assert studio.store.missing(release.ref(), release.variants[0])


def test_poison_in_what_a_killed_install_left_is_found(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A, b=B)
    folder = staging_folder(studio.store, release.ref(), release.variants[0].id) / "variant"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes([A[0] ^ 1]) + A[1:])
    (folder / "b.bin~partial").write_bytes(b"\0" * 3 * len(B))

    studio.install(release)

    assert (studio.folder(release) / "a.bin").read_bytes() == A
    assert (studio.folder(release) / "b.bin").read_bytes() == B


def test_a_release_may_have_files_that_are_named_like_partials(studio: Studio) -> None:
    """Also after a cut: what a file is kept in until it is whole is never the place of another one."""
    release = studio.publish("1.0.0", **{"a.bin.partial/b": B, "a": A})
    studio.forget(A)
    with pytest.raises(UnreachableError):
        studio.install(release)
    digest = sha256(A).hexdigest()
    (studio.repository / "objects" / digest[:2] / digest).write_bytes(A)

    studio.install(release)

    studio.store.verify(release.ref(), release.variants[0])
    assert studio.staged() == []


def test_several_installs_at_once_bring_the_bytes_once(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A, b=B, c=C)
    processes = [subprocess.Popen(command(studio, release)) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]
    studio.store.verify(release.ref(), release.variants[0])
    assert studio.staged() == []


def test_whoever_waits_for_another_takes_what_it_brought(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A)
    ref, variant = release.ref(), release.variants[0]
    with claimed(studio.store, ref, variant.id) as folder:
        waiting = threading.Thread(target=studio.install, args=(release,))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        (folder / "variant").mkdir()
        (folder / "variant" / "a.bin").write_bytes(A)
        studio.store.place(folder / "variant", ref, variant)
        studio.forget(A)
    waiting.join(30)
    assert not waiting.is_alive()
    assert studio.progress == []
    assert not studio.store.missing(ref, variant)


def test_a_holder_that_stands_still_keeps_nobody_waiting_for_ever(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A)
    ref, variant = release.ref(), release.variants[0]
    with (
        claimed(studio.store, ref, variant.id) as held,
        claimed(studio.store, ref, variant.id, patience_seconds=0.5) as own,
    ):
        assert own != held
        assert own.parent == held.parent
    assert studio.staged() == []


def test_what_nobody_went_on_with_is_swept_after_a_week_or_when_it_is_there(studio: Studio) -> None:
    first, second = studio.publish("1.0.0", a=A), studio.publish("1.1.0", a=B)
    studio.install(first)
    done, open_, held = (
        staging_folder(studio.store, release.ref(), variant)
        for release, variant in ((first, first.variants[0].id), (second, second.variants[0].id), (second, "other"))
    )
    for folder in (done, open_, held):
        (folder / "variant").mkdir(parents=True)
    now = time.time()

    with claimed(studio.store, second.ref(), "other"):
        assert sweep_claims(studio.store, now_seconds=now) == 1
        assert not done.exists()
        assert sweep_claims(studio.store, now_seconds=now + 6 * 24 * 3600) == 0
        assert sweep_claims(studio.store, now_seconds=now + 8 * 24 * 3600) == 1
        assert not open_.exists()
        assert held.exists()


# Room on the disk.


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many bytes, where this machine lets root do so."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
        )
        if done.returncode != 0:
            pytest.skip("nothing can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@root_only
def test_a_disk_that_is_a_mebibyte_too_small_is_refused_before_a_byte_is_asked_for(
    tmp_path: Path, tiny: Callable[[int], Path]
) -> None:
    studio = Studio(tmp_path, store=tiny(len(A) + len(B) - 2**20) / "store")
    release = studio.publish("1.0.0", a=A, b=B)
    studio.repository.rename(tmp_path / "nowhere")

    with pytest.raises(OSError, match=r"\d+ bytes are needed for what is missing here, and \d+ are free") as caught:
        studio.install(release)

    assert not isinstance(caught.value, UnreachableError)
    assert missing_bytes(studio.store, release, release.variants) == len(A) + len(B)
    assert studio.staged() == []


@root_only
def test_what_a_killed_install_brought_counts_as_there(tmp_path: Path, tiny: Callable[[int], Path]) -> None:
    studio = Studio(tmp_path, store=tiny(len(A) + len(B) + 2**20) / "store")
    release = studio.publish("1.0.0", a=A, b=B)
    studio.forget(B)
    with pytest.raises(UnreachableError):
        studio.install(release)
    assert missing_bytes(studio.store, release, release.variants) <= len(B) + 4096
    studio.publish("1.0.0", b=B)

    studio.install(release)

    assert (studio.folder(release) / "b.bin").read_bytes() == B


@root_only
def test_room_is_asked_for_all_that_is_wanted_together(tmp_path: Path, tiny: Callable[[int], Path]) -> None:
    studio = Studio(tmp_path, store=tiny(len(A) + 2**20) / "store")
    first, second = studio.publish("1.0.0", a=A), studio.publish("1.1.0", a=B)
    check_room(studio.store, [(first, first.variants)])
    check_room(studio.store, [])
    with pytest.raises(OSError, match="are needed"):
        check_room(studio.store, [(first, first.variants), (second, second.variants)])


@root_only
def test_a_disk_that_others_fill_meanwhile_is_left_as_it_was(tmp_path: Path, tiny: Callable[[int], Path]) -> None:
    disk = tiny(len(A) + len(B) + 2**20)
    studio = Studio(tmp_path, store=disk / "store")
    release = studio.publish("1.0.0", a=A, b=B)

    def fill(_name: str, _more: int, _total: int) -> None:
        with contextlib.suppress(OSError), (disk / "somebody's").open("ab", buffering=0) as file:
            while file.write(b"x" * 65536):
                pass

    with pytest.raises(OSError, match="No space left"):
        install_variants(studio.store, studio.vendor, release, release.variants, fill)

    assert studio.staged() == []
    assert studio.store.missing(release.ref(), release.variants[0])
    (disk / "somebody's").unlink()
    studio.install(release)


def test_the_lock_of_a_download_is_the_kernels(studio: Studio) -> None:
    release = studio.publish("1.0.0", a=A)
    with claimed(studio.store, release.ref(), "v"):
        (path,) = (studio.store.root / "locks").iterdir()
        with path.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
