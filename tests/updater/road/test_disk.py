"""Full and read-only disks: one clear line, exit 9, and the station is as it was."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system and becoming nobody need root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has room for almost nothing."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=400", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@root_only
def test_full_disk_is_exit_9_and_leaves_the_station_as_it_was(world: Any, small_disk: Path) -> None:
    import shutil

    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    shutil.copytree(world.root / "store", small_disk / "store")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2_000_000)
    before = (small_disk / "store" / "stations" / "vm1" / "current").read_bytes()

    code, _, err = world.run("--store", str(small_disk / "store"), "update")

    assert code == 9
    assert "No space left" in err or "are free" in err
    assert err.count("\n") == 1
    assert (small_disk / "store" / "stations" / "vm1" / "current").read_bytes() == before
    filler.unlink()
    assert world.run("--store", str(small_disk / "store"), "update")[0] == 0


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
