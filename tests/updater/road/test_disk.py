"""Full and read-only disks: one clear line, exit 9, and the station is as it was."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system and becoming nobody need root")


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, where this machine lets root mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has room for almost nothing."""
    with disk(tmp_path / "small", "size=1m,nr_inodes=400") as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    with pytest.raises(OSError, match="No space left"):
        (folder / "probe").write_bytes(b"x" * 4096)
    (folder / "probe").unlink()
    return filler


def everything(world: Any) -> dict[str, bytes]:
    """What readers of site and station see: choice, verdicts, golden sets, pointer and generations."""
    roots = (world.site.root, world.station.folder)
    skipped = {"trust", "state", "lock", ".lock", "facts.json"}
    files = [path for root in roots for path in root.rglob("*") if path.is_file() and not skipped & set(path.parts)]
    return {str(path): path.read_bytes() for path in files}


@root_only
def test_full_disk_is_exit_9_and_leaves_the_station_as_it_was(world: Any, small_disk: Path) -> None:
    import shutil

    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    shutil.copytree(world.root / "store", small_disk / "store")
    filler = fill(small_disk)
    before = (small_disk / "store" / "stations" / "vm1" / "current").read_bytes()

    code, _, err = world.run("--store", str(small_disk / "store"), "update")

    assert code == 9
    assert "No space left" in err or "are free" in err
    assert err.count("\n") == 1
    assert (small_disk / "store" / "stations" / "vm1" / "current").read_bytes() == before
    filler.unlink()
    assert world.run("--store", str(small_disk / "store"), "update")[0] == 0


@root_only
def test_full_disk_is_exit_9_for_every_command_that_writes_and_all_goes_on_when_there_is_room(
    tmp_path: Path, world_at: Callable[[Path], Any]
) -> None:
    with disk(tmp_path / "studio", "size=24m") as folder:
        world = world_at(folder)
        first = world.served("1.0.0")
        second = world.publish("1.1.0")
        world.accept(second, current=first)
        world.ok("golden", "set", "create", "hero")
        commands = (
            ("promote", "tiny-roto@1.1.0", "--reason", "test"),
            ("pin", "tiny-roto@1.0.0", "--show", "atlas", "--reason", "test"),
            ("override", "add", "tiny-roto@1.1.0", "--check", "speed", "--reason", "test", "--until", "1d"),
            ("golden", "set", "create", "other"),
            ("hold", "--reason", "test"),
            ("rollback", "--to", "1", "--reason", "test"),
        )
        filler, before = fill(folder), everything(world)

        ended = {command: world.run(*command) for command in commands}

        for command, (code, _, err) in ended.items():
            assert (code, err.count("\n")) == (9, 1), f"{command}: {code} {err}"
            assert "No space left" in err
        filler.unlink()
        assert everything(world) == before
        for command in commands:
            world.ok(*command)


@root_only
def test_read_only_store_is_exit_9_for_an_unprivileged_user_and_status_still_answers(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    _open_to_all(world.root)
    probe = _as_nobody(["-c", f"open({str(world.station.folder / 'x')!r}, 'w')"])
    assert "Permission denied" in probe.stderr

    update = _as_nobody(["-m", "changeover_updater", "--config", str(world.config), *world.extra, "update"])
    status = _as_nobody(["-m", "changeover_updater", "--config", str(world.config), *world.extra, "status"])

    assert update.returncode == 9, update.stderr
    assert "Permission denied" in update.stderr
    assert "Traceback" not in update.stderr
    assert status.returncode == 0, status.stderr
    assert world.station.current() == 1


def _open_to_all(root: Path) -> None:
    """Let everybody read the world and the folders above it."""
    for folder in (root, *root.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    for path in root.rglob("*"):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def _as_nobody(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run as a user who may read everything (a checkout may lie in a closed folder) and write nothing of root's."""
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups")
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return subprocess.run(
        ["setpriv", *nobody, *reads, sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
