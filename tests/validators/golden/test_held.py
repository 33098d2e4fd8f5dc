import hashlib
import os
import threading
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.held import MAX_BYTES, held


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_what_is_held_is_the_whole_file_and_its_digest(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a.exr").write_bytes(content)
    with held(tmp_path / "a.exr") as file:
        assert Path(file.at).read_bytes() == content
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert file.path == tmp_path / "a.exr"


def test_a_file_that_changes_meanwhile_is_held_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(b"before")
    with held(path) as file:
        path.write_bytes(b"after and longer")
        assert Path(file.at).read_bytes() == b"before"
        assert file.sha256 == hashlib.sha256(b"before").hexdigest()


def test_nothing_stays_open_or_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(b"x" * 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with held(tmp_path / "a.exr"):
            pass
        with pytest.raises(InvalidInputError), held(tmp_path / "gone.exr"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.exr"]


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.exr")
    failed: list[str] = []

    def read() -> None:
        try:
            with held(tmp_path / "a.exr"):
                pass
        except InvalidInputError as error:
            failed.append(error.actual)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert failed == ["a pipe, a socket or a device"]


def test_a_folder_a_device_and_nothing_are_refused_by_name(tmp_path: Path) -> None:
    for path, found in ((tmp_path, "a folder"), (Path("/dev/zero"), "a pipe"), (tmp_path / "x\ny.exr", "no file")):
        with pytest.raises(InvalidInputError, match=f"found {found}") as caught, held(path):
            pass
        assert str(caught.value).isprintable()


def test_a_file_larger_than_any_frame_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "a.exr").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InvalidInputError, match=f"expected at most {MAX_BYTES} bytes"), held(tmp_path / "a.exr"):
        pass


def test_a_link_is_read_as_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "real.exr").write_bytes(b"pixels")
    (tmp_path / "a.exr").symlink_to(tmp_path / "real.exr")
    with held(tmp_path / "a.exr") as file:
        assert Path(file.at).read_bytes() == b"pixels"
    (tmp_path / "loop.exr").symlink_to(tmp_path / "loop.exr")
    with pytest.raises(InvalidInputError, match="found a link to itself"), held(tmp_path / "loop.exr"):
        pass
