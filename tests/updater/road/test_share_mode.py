"""A share as real users see it: one account writes with a tight umask, artists read, and leave nothing but a lease."""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_updater import share
from changeover_updater.settings import load_settings, short_host
from changeover_updater.site import Site
from changeover_updater.store import Store

SERVICE, ARTIST, RENDER = 0, 65534, 65533
COMMANDS = """\
import contextlib, io, json, sys
from changeover_updater.cli.main import run
ended = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    ended.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""
LEASE = """\
import os, sys
sys.path.insert(0, sys.argv[1])
import changeover_nuke_store as store
opened = store.open_generation(os.environ)
print(opened.lease)
"""


def interpreter() -> str | None:
    """A Python that another user may run with the packages of this one; None where there is none, or nobody to be."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, *(str(Path(folder, same)) for folder in ("/usr/bin", "/usr/local/bin"))):
        probe = [python, "-c", "import changeover_updater.cli.main, pydantic, tuf"]
        try:
            subprocess.run(probe, user=ARTIST, group=ARTIST, extra_groups=[], cwd="/", env=PACKAGES, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


ROOT = Path(__file__).parents[3]
PACKAGES = {
    "PYTHONPATH": os.pathsep.join([*sys.path, *(str(ROOT / name) for name in ("registry", "validators", "updater"))])
}
PYTHON = interpreter()
pytestmark = pytest.mark.skipif(PYTHON is None, reason="no other user can be, or may run this Python")


def python_of(uid: int) -> str:
    return sys.executable if uid == SERVICE else str(PYTHON)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Share:
    """A studio whose site and store belong to a service account, and commands as this or that user."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.root: Path = world.root

    def run(self, uid: int, *lines: str, config: Path | None = None, root: Path | None = None) -> list[Any]:
        """Run command lines as a user, all in one process; an exit code, stdout and stderr for each."""
        root = root or self.root
        environment = {
            "HOME": "/nonexistent",
            "PATH": os.environ["PATH"],
            "CHANGEOVER_SITE": str(root / "site"),
            "CHANGEOVER_STORE": str(root / "store"),
        }
        before = ["--config", str(config)] if config else []
        told = json.dumps([[*before, *shlex.split(line)] for line in lines])
        done = self.call(uid, [python_of(uid), "-c", COMMANDS, told], environment)
        assert done.returncode == 0, done.stderr
        return [Ended(*found) for found in json.loads(done.stdout)]

    def call(self, uid: int, command: list[str], environment: dict[str, str]) -> Any:
        return subprocess.run(
            command,
            user=uid,
            group=uid,
            extra_groups=[],
            umask=0o077,
            cwd="/",
            env=environment | PACKAGES,
            capture_output=True,
            text=True,
            check=False,
        )

    def service(self, *lines: str) -> list[str]:
        ended = self.run(SERVICE, *lines, config=self.world.config)
        assert [one.code for one in ended] == [0] * len(lines), ended
        return [one.out for one in ended]

    def lease(self, uid: int) -> Path:
        environment = {"CHANGEOVER_STORE": str(self.root / "store")}
        done = self.call(uid, [python_of(uid), "-c", LEASE, str(ROOT / "plugins" / "nuke")], environment)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def shared(release_folders: Path, module_world_at: Callable[[Path], Any]) -> Iterator[Share]:
    """A release in use on a share whose account has a tight umask."""
    root = Path(tempfile.mkdtemp(prefix="changeover-share-", dir="/tmp"))
    root.chmod(0o755)
    try:
        world = module_world_at(root)
        world.served("1.0.0")
        made = Share(world)
        made.service(
            f"--station vm1 init --mode share --host {short_host()},ws-02 --nuke-json none",
            # The account changes over once more, with its own umask, to a generation that has the same files.
            "pin tiny-roto@1.0.0 --show atlas --reason delivered",
            "update",
        )
        yield made
    finally:
        shutil.rmtree(root)


def others_may(path: Path) -> str:
    """What users that are neither owner nor group may do, as letters."""
    mode = path.lstat().st_mode
    return "".join(letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if mode & bit)


def test_everything_is_readable_and_nothing_is_writable_but_leases_and_inbox(shared: Share) -> None:
    site, store = Site(shared.root / "site"), Store(shared.root / "store")

    assert share.wrong_modes(site, store) == ()
    entries = [store.root, *store.root.rglob("*")]
    assert {others_may(path) for path in entries if path.is_dir() and path.name != "leases"} == {"rx"}
    assert {others_may(path) for path in entries if path.is_file()} == {"r"}
    assert shared.world.station.current() == 2
    for drop in (shared.world.station.folder / "leases", site.root / "inbox"):
        assert stat.S_IMODE(drop.stat().st_mode) == 0o1777


def test_private_keys_stay_private(shared: Share) -> None:
    assert {others_may(path) for path in (shared.root / "keys").rglob("*.pem")} == {""}


def everything(shared: Share) -> dict[str, int]:
    found = sorted((shared.root / "store").rglob("*")) + sorted((shared.root / "site").rglob("*"))
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_an_artist_reads_and_leaves_nothing_behind(shared: Share) -> None:
    before = everything(shared)
    commands = ["status", "plan", "log", "doctor", "gc --dry-run", "show list", "quarantine list"]

    ended = shared.run(ARTIST, *(f"{command} --json" for command in commands))

    assert [one.code for one in ended if one.code not in {0, 4}] == [], ended
    assert not [one.err for one in ended if "denied" in one.err.lower()]
    told = dict(zip(commands, (json.loads(one.out) for one in ended), strict=True))
    assert (told["status"]["station"], told["status"]["generation"]["number"]) == ("vm1", 2)
    assert told["show list"][0]["show"] == "atlas"
    assert everything(shared) == before
    assert not list(Path(tempfile.gettempdir()).glob("changeover-????????/timestamp.json"))


def test_an_artist_changes_nothing(shared: Share) -> None:
    before = everything(shared)

    ended = shared.run(
        ARTIST, "rollback --to 1", "hold --reason x", "unhold", "gc", "quarantine lift a@1.0.0 --reason x"
    )

    assert [one.code for one in ended] == [9, 9, 0, 9, 9], ended
    assert all("be a user who has it" in one.err for one in ended if one.code)
    assert everything(shared) == before


def test_an_artist_sees_no_older_choice_than_the_account_saw(shared: Share) -> None:
    choice = shared.root / "site" / "choice" / "metadata"
    saved = {path: path.read_bytes() for path in choice.iterdir()}
    shared.service("unpin tiny-roto --show atlas --reason over", "plan")
    newer = (choice / "timestamp.json").read_bytes()
    try:
        (choice / "timestamp.json").write_bytes(saved[choice / "timestamp.json"])

        assert [one.code for one in shared.run(ARTIST, "plan")] == [5]
    finally:
        (choice / "timestamp.json").write_bytes(newer)


def test_sessions_of_two_users_leave_leases_and_keep_off_each_other_s(shared: Share) -> None:
    mine, theirs = shared.lease(ARTIST), shared.lease(RENDER)
    try:
        assert [path.stat().st_uid for path in (mine, theirs)] == [ARTIST, RENDER]
        for attack in ("remove", "truncate"):
            code = "import os, sys; getattr(os, sys.argv[1])(sys.argv[2], *([0] if sys.argv[1] == 'truncate' else []))"
            done = shared.call(RENDER, [python_of(RENDER), "-c", code, attack, str(mine)], {})
            assert "PermissionError" in done.stderr
        told = json.loads(shared.service("gc --dry-run --json")[0])
        why = next(kept["why"] for kept in told["kept"] if kept["what"] == "generation 2 of vm1")
        assert sum("a session (process" in reason for reason in why) == 2
    finally:
        mine.unlink()
        theirs.unlink()


@pytest.mark.parametrize("uid", [ARTIST, 0])
def test_a_read_only_mount_serves_everybody(shared: Share, uid: int) -> None:
    mount = Path(tempfile.mkdtemp(prefix="changeover-mount-", dir="/tmp"))
    mount.chmod(0o755)
    if subprocess.run(["mount", "--bind", str(shared.root), str(mount)], check=False).returncode != 0:
        pytest.skip("this user may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mount)], check=True)
        for ended in shared.run(uid, "status --json", "plan --json", root=mount):
            assert ended.code in {0, 4}, ended
            assert json.loads(ended.out)
        environment = {"CHANGEOVER_STORE": str(mount / "store")}
        opened = shared.call(uid, [python_of(uid), "-c", LEASE, str(ROOT / "plugins" / "nuke")], environment)
        assert (opened.returncode, opened.stdout.strip()) == (0, "")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
        mount.rmdir()


def test_a_second_station_joins_and_a_host_can_move_to_it(shared: Share) -> None:
    shared.service("--station linux-a6000 init --mode share --host ws-02.studio.example --nuke-json none")

    by_host = shared.root / "store" / "stations" / "by-host"
    assert {path.name: path.read_text(encoding="utf-8") for path in by_host.iterdir()} == {
        short_host(): "vm1\n",
        "ws-02": "linux-a6000\n",
    }
    assert share.wrong_modes(Site(shared.root / "site"), Store(shared.root / "store")) == ()


def test_a_host_finds_its_station_as_the_plug_in_does(shared: Share) -> None:
    settings = load_settings({}, config=Path("/nonexistent"), store=shared.root / "store")

    assert (settings.station, dict(settings.origins)["station"]) == ("vm1", "store")


def test_a_wrong_mode_is_told(shared: Share) -> None:
    site, store = Site(shared.root / "site"), Store(shared.root / "store")
    path = store.root / "mode"
    path.chmod(0o600)
    try:
        assert [str(wrong) for wrong in share.wrong_modes(site, store)] == [f"{path}: expected mode 644, found 600"]
    finally:
        share.open_to_readers(site, store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "--mode", "share"], "the name of a host class"),
        (["--station", "a", "init", "--mode", "shared"], "expected local or share"),
        (["--station", "a", "init", "--host", "ws-01"], "expected --mode share with it"),
        (["--station", "a", "init", "--mode", "share", "--host", "ws-*"], "names of single hosts"),
    ],
)
def test_what_makes_no_share_is_refused_and_nothing_is_made(world: Any, arguments: list[str], said: str) -> None:
    world.extra = []
    new = ["--config", str(world.root / "new.toml")]
    code, _, err = world.run(
        *new, *arguments[:-1], arguments[-1], "--site", str(world.root / "s"), "--store", str(world.root / "t")
    )

    assert (code, said in err) == (2, True), err
    assert not (world.root / "s").exists()


def test_keys_in_a_folder_that_everybody_reads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="outside of"):
        share.check_keys_apart(tmp_path / "site" / "keys", tmp_path / "site", tmp_path / "store")
