import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry import _fs
from changeover_registry.errors import LostRaceError


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder of an unprivileged user, who the test is until it ends."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(os.getuid())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=64), min_size=1, max_size=4))
def test_what_was_written_last_is_read_and_nothing_is_left_beside(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("write")

    for item in data:
        _fs.write_atomic(folder / "current", item)

    assert (folder / "current").read_bytes() == data[-1]
    assert names(folder) == {"current"}


def test_a_file_is_written_with_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    _fs.write_atomic(tmp_path / "key", b"secret", mode=0o600)
    _fs.write_new(tmp_path / "record", b"{}", mode=0o444)

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("write", [_fs.write_atomic, _fs.write_new])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()

    with pytest.raises(OSError, match="there"):
        write(tmp_path / "there", b"data")

    assert names(tmp_path) == {"there"}
    assert names(tmp_path / "there") == {"file"}


def test_a_folder_that_is_not_there_is_the_disk_s_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fs.write_atomic(tmp_path / "no" / "file", b"data")


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    _fs.write_new(tmp_path / "1.site.json", b"first")

    with pytest.raises(FileExistsError):
        _fs.write_new(tmp_path / "1.site.json", b"second")

    assert (tmp_path / "1.site.json").read_bytes() == b"first"
    assert names(tmp_path) == {"1.site.json"}


def race(path: Path, put: Callable[[bytes], None]) -> tuple[list[bytes], list[bytes]]:
    """Eight threads put different bytes at `path`; returns who won and who was told that it is there."""
    start, won, lost = threading.Barrier(8), [], []

    def run(data: bytes) -> None:
        start.wait()
        try:
            put(data)
            won.append(data)
        except FileExistsError:
            lost.append(data)

    threads = [threading.Thread(target=run, args=(f"{number}".encode() * 1000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won, lost


def test_of_eight_writers_of_a_new_file_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "2.site.json"

    won, lost = race(path, lambda data: _fs.write_new(path, data))

    assert len(won) == 1
    assert len(lost) == 7
    assert path.read_bytes() == won[0]


def test_of_eight_writers_one_wins_where_the_file_system_has_no_links(tmp_path: Path) -> None:
    path = tmp_path / "2.site.json"

    def put(data: bytes) -> None:
        beside = _fs.temporary_beside(path)
        beside.write_bytes(data)
        _fs._rename_if_new(beside, path)

    won, lost = race(path, put)

    assert len(won) == 1
    assert len(lost) == 7
    assert path.read_bytes() == won[0]


def test_what_cannot_be_linked_is_renamed(tmp_path: Path) -> None:
    # Linux has no hard links of folders, which stands for a file system that has none of files.
    (tmp_path / "beside").mkdir()

    _fs._link_or_rename(tmp_path / "beside", tmp_path / "new")

    assert (tmp_path / "new").is_dir()


def test_a_link_that_fails_for_another_reason_is_not_tried_otherwise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fs._link_or_rename(tmp_path / "beside", tmp_path / "new")

    assert names(tmp_path) == set()


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    """A child with a limit on file size stands for a full disk: the write fails in the middle."""
    path = tmp_path / "current"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from changeover_registry import _fs\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "_fs.write_atomic(Path(sys.argv[1]), b'x' * 100_000)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert f"File too large: '{path}'" in done.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"current"}


def test_a_reader_sees_old_or_new_while_a_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "current"
    path.write_bytes(b"a" * 5000)
    code = (
        "import sys; from pathlib import Path; from changeover_registry import _fs\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; _fs.write_atomic(Path(sys.argv[1]), bytes([97 + n % 26]) * 5000)\n"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                data = path.read_bytes()
                assert len(data) == 5000
                assert len(set(data)) == 1
            writer.send_signal(signal.SIGKILL)


def test_a_folder_is_renamed_whole_and_never_over_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="utf-8")

    _fs.rename_dir(tmp_path / "one", tmp_path / "target")
    with pytest.raises(FileExistsError, match="target"):
        _fs.rename_dir(tmp_path / "two", tmp_path / "target")

    assert (tmp_path / "target" / "file").read_text(encoding="utf-8") == "one"
    assert (tmp_path / "two" / "file").is_file()


def test_a_folder_that_is_not_there_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fs.rename_dir(tmp_path / "no", tmp_path / "target")


def test_a_tree_is_synced_and_removed(tmp_path: Path) -> None:
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b" / "file").write_bytes(b"x")

    _fs.fsync_tree(tmp_path / "tree")
    _fs.remove_tree(tmp_path / "tree")
    _fs.remove_tree(tmp_path / "tree")

    assert names(tmp_path) == set()


def test_a_tree_of_read_only_folders_is_removed_by_its_owner(own_folder: Path) -> None:
    deep = own_folder / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (deep / "file").chmod(0o444)
    deep.chmod(0o555)
    with pytest.raises(PermissionError):
        (deep / "other").write_bytes(b"x")

    _fs.remove_tree(own_folder / "tree")

    assert names(own_folder) == set()


def test_a_read_only_folder_refuses_and_keeps_what_it_has(own_folder: Path) -> None:
    (own_folder / "current").write_bytes(b"old")
    own_folder.chmod(0o555)
    with pytest.raises(PermissionError):
        (own_folder / "other").write_bytes(b"x")

    with pytest.raises(PermissionError):
        _fs.write_atomic(own_folder / "current", b"new")

    assert (own_folder / "current").read_bytes() == b"old"
    own_folder.chmod(0o755)


def test_a_file_that_appears_a_moment_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "current"
    later = threading.Timer(0.02, path.write_bytes, [b"here"])
    later.start()

    data = _fs.read_bytes_retry(path)

    later.join()
    assert data == b"here"


def test_a_file_that_stays_away_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fs.read_bytes_retry(tmp_path / "current")


def test_a_folder_in_place_of_a_file_is_not_tried_again(tmp_path: Path) -> None:
    started = time.monotonic()

    with pytest.raises(IsADirectoryError):
        _fs.read_bytes_retry(tmp_path)

    assert time.monotonic() - started < 0.1


def test_a_held_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with _fs.lock(path, what="the station"):
        mine = f"process {os.getpid()} holding the lock"
        with pytest.raises(LostRaceError, match=mine) as caught, _fs.lock(path, what="the station"):
            pass
        assert caught.value.expected == "nobody else working on the station"
    with _fs.lock(path, what="the station"):
        pass


def test_a_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), _fs.lock(tmp_path / "lock", what="it"):
        raise ValueError
    with _fs.lock(tmp_path / "lock", what="it"):
        pass


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from changeover_registry import _fs\n"
        "with _fs.lock(Path(sys.argv[1]), what='it'):\n    print('held', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LostRaceError, match=f"process {holder.pid}"), _fs.lock(path, what="it"):
            pass
        holder.kill()
    with _fs.lock(path, what="it"):
        pass


def test_whoever_waits_long_enough_gets_the_lock(tmp_path: Path) -> None:
    path, taken, released = tmp_path / "lock", threading.Event(), threading.Event()

    def hold() -> None:
        with _fs.lock(path, what="it"):
            taken.set()
            released.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    threading.Timer(0.1, released.set).start()
    assert taken.wait(10)

    with _fs.lock(path, what="it", wait_seconds=10):
        pass
    holder.join()


def test_a_lock_in_a_folder_that_is_not_there_is_the_disk_s_own_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no") as caught, _fs.lock(tmp_path / "no" / "lock", what="it"):
        pass

    assert caught.value.errno == errno.ENOENT


def test_folders_are_made_with_those_above_and_left_where_they_are(tmp_path: Path) -> None:
    _fs.make_dirs(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c" / "file").write_bytes(b"kept")
    _fs.make_dirs(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c" / "file").read_bytes() == b"kept"


def test_a_file_in_a_folders_way_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        _fs.make_dirs(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"kept"
