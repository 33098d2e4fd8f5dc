"""Kills, full disks, read-only sites and races under ``golden``: a set is as it was, or as it should be."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from changeover_registry.records.golden import GoldenSet
from changeover_validators.golden.history import all_refs, current_refs
from changeover_validators.golden.kept import verify_shots
from changeover_validators.golden.sets import load_set, read_set

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")

KILLER = """\
import os, signal, sys
import changeover_validators.golden.shots  # What is slow to import is there before the first step.
from changeover_updater.cli.main import run

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"}
watched, arguments = sys.argv[1], sys.argv[2:]

def killed_at(step):
    def hook(event, values):
        nonlocal step
        if event in EVENTS and str(values[0]).startswith(watched):
            step -= 1
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.addaudithook(hook)
    os._exit(run(arguments))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        killed_at(int(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs one command line again and again, each time killed before another of its steps on the files of the sets."""


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    """A world with a set ``hero``: ``sh010`` approved and with a version that waits, ``sh020`` approved."""
    return furnish(module_world)


def furnish(world: Any) -> Any:
    for name in ("sh010", "sh020", "sh030"):
        write(world.root / name, len(name) + int(name[2:]))
    world.ok("golden", "set", "create", "hero", "--show", "atlas")
    for name in ("sh010", "sh020"):
        world.ok(*adding(world, name, "--approved-by", "Jane Doe"))
    world.ok(*adding(world, "sh010"))
    return world


def write(folder: Path, seed: int) -> None:
    """One plate and its matte, 32 x 24 pixels of noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    header = {"compression": OpenEXR.NO_COMPRESSION}
    for kind, channels, depth in (("plate", "RGB", (3,)), ("matte", "A", ())):
        pixels = rng.uniform(0, 1, (24, 32, *depth)).astype(np.float16)
        OpenEXR.File(header, {channels: pixels}).write(str(folder / f"{kind}.1001.exr"))


def adding(world: Any, shot: str, *more: str) -> tuple[str, ...]:
    plate, matte = (str(world.root / shot / f"{kind}.####.exr") for kind in ("plate", "matte"))
    chosen = ("--channel", "A", "--colour", "scene-linear", *more)
    return ("golden", "add", "hero", shot, "--plate", plate, "--matte", matte, *chosen)


def changes(world: Any) -> dict[str, tuple[str, ...]]:
    """Every command that changes a set."""
    return {
        "add": adding(world, "sh030"),
        "add a version": adding(world, "sh010", "--approved-by", "Jane Doe"),
        "approve": ("golden", "approve", "hero", "--name", "Jane Doe"),
        "retire a shot": ("golden", "retire", "hero", "sh010", "--reason", "old"),
        "readers": ("golden", "set", "readers", "hero", "--add", "site"),
        "retire": ("golden", "retire", "hero", "--reason", "wrapped"),
    }


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def command(world: Any) -> list[str]:
    return ["--config", str(world.config), *world.extra]


def check_whole(golden: Path) -> GoldenSet:
    """The set as it is: every version that it had can be read, and every file is as it was added."""
    golden_set = load_set(golden, "hero")[0]
    for number in range(1, golden_set.version):
        read_set(golden, "hero", version=number)
    numbered = golden / "hero" / f"set-{golden_set.version}.json"
    assert numbered.read_bytes() == (golden / "hero" / "set.json").read_bytes()
    assert verify_shots(golden, "hero", all_refs(golden, golden_set)).damage == ()
    return golden_set


@pytest.mark.parametrize("kind", ["add a version", "approve", "retire a shot"])
def test_a_kill_before_any_step_leaves_the_set_as_it_was_or_as_it_should_be(
    studio: Any, tmp_path: Path, kind: str
) -> None:
    golden, arguments = studio.site.golden, changes(studio)[kind]
    kept = shutil.copytree(golden, tmp_path / "kept")
    before, old = tree(golden), read_set(golden, "hero")
    words = [sys.executable, "-c", KILLER, str(golden), *command(studio), *arguments]
    met = 0
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for step in range(1, 500):
            killer.stdin.write(f"{step}\n")
            killer.stdin.flush()
            code = int(killer.stdout.readline())
            found = check_whole(golden)
            if code == 0:
                break
            assert code == -9
            assert found == old or found.version == old.version + 1
            after = tree(golden)
            assert {name for name in before if name != "hero/set.json" and after.get(name) != before[name]} == set()
            met += found == old
            if step % 5 == 0 and found == old:
                studio.ok(*arguments)
                assert not list((golden / "hero").glob(".staging-*"))
                assert check_whole(golden).version == old.version + 1
            shutil.rmtree(golden)
            shutil.copytree(kept, golden)
        killer.stdin.close()

    assert (code, found.version) == (0, old.version + 1)
    assert met >= 4, "the kills did not meet the command's steps"
    shutil.rmtree(golden)
    shutil.copytree(kept, golden)


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


def fill(folder: Path, *, but: int = 0) -> Path:
    """Take all the room that is left, but for so many bytes."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    os.truncate(filler, max(0, filler.stat().st_size - but))
    return filler


@root_only
def test_a_full_disk_is_exit_9_and_leaves_nothing_half_done(tmp_path: Path, world_at: Any) -> None:
    with disk(tmp_path / "studio", "size=24m") as folder:
        world = furnish(world_at(folder))
        before = tree(world.site.golden)
        for kind, arguments in changes(world).items():
            ended = []
            for room in range(0, 400 * 1024, 4096):
                filler = fill(folder, but=room)
                code, out, err = world.run(*arguments)
                filler.unlink()
                ended.append(code)
                if code == 0:
                    break
                assert (code, out, err.count("\n")) == (9, "", 1), f"{kind}, {room} bytes: {err}"
                assert "No space left" in err
                assert tree(world.site.golden) == before, f"{kind}, {room} bytes"
            assert ended[0] == 9
            assert ended[-1] == 0
            check_whole(world.site.golden)
            before = tree(world.site.golden)


@root_only
def test_a_read_only_site_is_exit_9_for_what_changes_a_set_and_is_read_as_ever(tmp_path: Path, world_at: Any) -> None:
    with disk(tmp_path / "studio", "size=24m") as folder:
        world = furnish(world_at(folder))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)

        for kind, arguments in changes(world).items():
            code, out, err = world.run(*arguments)
            assert (code, out, err.count("\n")) == (9, "", 1), f"{kind}: {err}"
            assert "Read-only" in err
        for arguments in (("list",), ("list", "hero"), ("show", "hero"), ("show", "hero", "sh010"), ("verify", "hero")):
            world.ok("golden", *arguments)


def test_commands_at_once_all_get_in_or_end_with_7(studio: Any, tmp_path: Path) -> None:
    kept = shutil.copytree(studio.site.golden, tmp_path / "kept")
    before = read_set(studio.site.golden, "hero")
    write(studio.root / "sh040", 40)
    at_once = (
        adding(studio, "sh030"),
        adding(studio, "sh040", "--approved-by", "John Roe"),
        ("golden", "approve", "hero", "sh010", "--name", "Jane Doe"),
        ("golden", "approve", "hero", "sh010", "--name", "John Roe"),
    )
    words = [sys.executable, "-m", "changeover_updater", *command(studio)]

    running = [subprocess.Popen([*words, *arguments], stdout=subprocess.DEVNULL) for arguments in at_once]
    ended = [process.wait() for process in running]

    # Of two who approve one version, the later has lost the race, or finds that nothing waits any more.
    assert ended[:2] == [0, 0]
    assert sorted(ended[2:]) in ([0, 2], [0, 7])
    after = check_whole(studio.site.golden)
    assert after.version == before.version + 3
    assert {ref.shot for ref in current_refs(after)} == {"sh010", "sh020", "sh030", "sh040"}
    shutil.rmtree(studio.site.golden)
    shutil.copytree(kept, studio.site.golden)


def test_a_kill_at_any_moment_of_the_command_itself(studio: Any, tmp_path: Path) -> None:
    golden = studio.site.golden
    kept = shutil.copytree(golden, tmp_path / "kept")
    old = read_set(golden, "hero")
    words = [sys.executable, "-m", "changeover_updater", *command(studio), *adding(studio, "sh030")]
    for copied in (0, 1):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((golden / "hero").glob(".staging-*/shot/*"))) < copied:
            pass
        process.kill()
        process.wait()
        assert check_whole(golden).version in {old.version, old.version + 1}
        assert json.loads(studio.ok("golden", "list", "hero", "--json"))
    studio.ok(*adding(studio, "sh030"))
    assert not list((golden / "hero").glob(".staging-*"))
    shutil.rmtree(golden)
    shutil.copytree(kept, golden)
