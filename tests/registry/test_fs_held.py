"""Files that somebody holds: on Windows for a moment, on NFS and FUSE until they are closed; and what kills leave."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import _fs

HELD = (5, 32)
"""ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION, as os.replace has them from Windows."""


def faulting(real: Callable[..., Any], number: int | None, times: int) -> Callable[..., Any]:
    """A call of `os` that fails as Windows does the first `times`, and then does its work."""
    left = [times]

    def call(*arguments: Any, **named: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            error = PermissionError(errno.EACCES, "held")
            if number is not None:
                error.winerror = number  # type: ignore[attr-defined,unused-ignore]  # Windows alone has it in its stubs
            raise error
        return real(*arguments, **named)

    return call


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, none of which is made."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.mark.parametrize("number", HELD)
def test_a_replace_that_is_held_for_a_moment_is_done_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float], number: int
) -> None:
    path = tmp_path / "current"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", faulting(os.replace, number, 3))

    _fs.write_atomic(path, b"new")

    assert path.read_bytes() == b"new"
    assert len(no_pauses) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["current"]


@pytest.mark.parametrize("number", HELD)
def test_a_replace_that_stays_held_leaves_the_old_file_and_never_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float], number: int
) -> None:
    path = tmp_path / "current"
    path.write_bytes(b"old")
    removed: list[str] = []
    real = os.unlink

    def unlink(name: Any, **named: Any) -> None:
        removed.append(Path(name).name)
        real(name, **named)

    monkeypatch.setattr(os, "replace", faulting(os.replace, number, 1000))
    monkeypatch.setattr(os, "unlink", unlink)

    with pytest.raises(PermissionError, match="held"):
        _fs.write_atomic(path, b"new")

    assert path.read_bytes() == b"old"
    assert "current" not in removed
    assert 1 < sum(no_pauses) < 10
    assert [p.name for p in tmp_path.iterdir()] == ["current"]


def test_a_permission_that_is_denied_elsewhere_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float]
) -> None:
    monkeypatch.setattr(os, "replace", faulting(os.replace, None, 1))

    with pytest.raises(PermissionError):
        _fs.write_atomic(tmp_path / "current", b"new")

    assert no_pauses == []


def test_a_folder_with_a_file_that_is_read_is_renamed_when_the_reader_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float]
) -> None:
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "rename", faulting(os.rename, 5, 2))

    _fs.rename_dir(tmp_path / "staged", tmp_path / "there")

    assert (tmp_path / "there" / "file").read_bytes() == b"x"
    assert len(no_pauses) == 2


def test_a_removal_of_a_held_file_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: list[float]
) -> None:
    (tmp_path / "hold").write_bytes(b"x")
    monkeypatch.setattr(os, "unlink", faulting(os.unlink, 32, 2))

    _fs.unlink(tmp_path / "hold")
    _fs.unlink(tmp_path / "hold")

    assert list(tmp_path.iterdir()) == []
    assert len(no_pauses) == 2


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_why_the_write_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "unlink")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "replace")

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "replace", full)

    with pytest.raises(OSError, match="replace"):
        _fs.write_atomic(tmp_path / "current", b"new")


def silly(monkeypatch: pytest.MonkeyPatch, open_files: set[str]) -> None:
    """Have removals be those of NFS: a file that is open is renamed, and cannot be removed under that name."""
    real = os.unlink

    def unlink(name: Any, *, dir_fd: int | None = None) -> None:
        base = Path(name).name
        if base.startswith(".nfs"):
            raise OSError(errno.EBUSY, "in use", str(name))
        if base in open_files:
            os.rename(name, Path(name).with_name(".nfs000000000001"), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            return
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)


def test_a_tree_with_an_open_file_on_nfs_goes_but_for_that_file_and_later_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "open").write_bytes(b"x")
    (tree / "a" / "other").write_bytes(b"x")
    (tree / "b").write_bytes(b"x")
    with monkeypatch.context() as patched:
        silly(patched, {"open"})

        gone = _fs.remove_tree(tree)

    assert not gone
    assert [path.name for path in tree.rglob("*")] == ["a", ".nfs000000000001"]
    assert _fs.remove_tree(tree)
    assert not tree.exists()


def test_a_tree_that_cannot_be_removed_for_another_reason_is_the_disk_s_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "the disk")

    monkeypatch.setattr(os, "unlink", refuse)

    with pytest.raises(OSError, match="the disk"):
        _fs.remove_tree(tmp_path / "tree")


def test_what_kills_left_is_swept_and_what_is_young_or_named_otherwise_is_left(tmp_path: Path) -> None:
    old, young = (_fs.temporary_beside(tmp_path / "a" / name) for name in ("current", "hold"))
    kept = tmp_path / "a" / "current"
    kept.parent.mkdir()
    for path in (old, young, kept, tmp_path / "a" / ".current.tmp"):
        path.write_bytes(b"x")
        if path != young:
            os.utime(path, (time.time() - 90_000, time.time() - 90_000))

    swept = _fs.sweep_temporaries(tmp_path, older_seconds=86_400)

    assert swept == (old,)
    assert {path.name for path in kept.parent.iterdir()} == {"current", young.name, ".current.tmp"}
