"""A farm job from the script's lock at submission to the render host that is made ready for it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall
from changeover_registry.records.farm import FarmLock
from changeover_registry.records.release import Release
from changeover_updater import initialise
from changeover_updater.station import Station
from changeover_updater.store import Store

CHECKS = ("hardware", "vram", "speed", "golden", "smoke")
NUKE = NukeInstall(version="15.1v3", torch_line="2.1.1")


@dataclass
class Farm:
    """A studio whose artist locked a script on 1.0.0 while the channel has moved on to 1.1.0."""

    world: Any
    old: Release
    new: Release
    script: Path
    lock: Path

    def host(self, root: Path, *, nuke: bool = True, gpus: tuple[Gpu, ...] = ()) -> "RenderHost":
        """A render host of this studio with a store of its own and nothing in it."""
        config = root / "host.toml"
        initialise.initialise(
            initialise.Request(
                site=self.world.site.root,
                store=root / "store",
                station="render1",
                keys=root / "keys",
                config=config,
                nuke_json=None,
                who="render@render1",
                now=self.world.now,
            ),
            notice=lambda _: None,
        )
        text = config.read_text(encoding="utf-8").partition("# One entry")[0]
        nukes = f'[[nukes]]\nversion = "{NUKE.version}"\n' if nuke else ""
        config.write_text(f"{text}\n{nukes}", encoding="utf-8")
        facts = self.world.facts.model_copy(
            update={"host": "render1", "gpus": gpus, "nukes": (NUKE,) if nuke else (), "runtimes": ()}
        )
        host = RenderHost(self.world, root, config, facts)
        host.remember()
        return host


@dataclass
class RenderHost:
    """A host that has the site, and a store and a station of its own."""

    world: Any
    root: Path
    config: Path
    facts: HostFacts

    @property
    def station(self) -> Station:
        return Station(Store(self.root / "store"), "render1")

    def remember(self) -> None:
        """Spare the commands the probing."""
        from changeover_updater.settings import load_settings
        from changeover_validators.probe import probe_key

        settings = load_settings({}, config=self.config)
        self.station.remember_facts(probe_key(dict(settings.runtimes), settings.nukes), self.facts)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command line of this host."""
        return run(self.config, "--station", "render1", *words)

    def file(self, release: Release) -> Path:
        variant = release.variants[0]
        return self.station.store.variant_folder(release.ref(), variant.id) / variant.files[0].path


def run(config: Path, *words: str) -> tuple[int, str, str]:
    import contextlib
    import io

    from changeover_updater.cli.main import run as command

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(["--config", str(config), *words])
    return code, out.getvalue(), err.getvalue()


def _cat(folders: Path, into: Path, version: str) -> None:
    shutil.copytree(folders / "cat", into)
    text = (into / "release.toml").read_text(encoding="utf-8").replace('"1.0.0"', f'"{version}"')
    (into / "release.toml").write_text(text, encoding="utf-8")
    (into / "nuke-cat-torch2.1" / "EdgeRoto.cat").write_bytes(f"opaque {version} ".encode() * 4096)


def _node(name: str, release: Release | None) -> str:
    stamp = {} if release is None else {"version": release.version, "digest": release.digest()}
    knobs = {"model": "acme/edge-roto", **stamp}
    lines = "".join(f" addUserKnob {{1 changeover_{k} l {k}}}\n changeover_{k} {v}\n" for k, v in knobs.items())
    return f"Inference {{\n name {name}\n{lines}}}\n"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, release_folders: Path, module_world_at: Callable[..., Any]) -> Farm:
    root = tmp_path_factory.mktemp("farm")
    world = module_world_at(root, executable=True, nuke=NUKE.version)
    world.without_mlflow()
    world.folders = root / "folders"
    releases = []
    for version in ("1.0.0", "1.1.0"):
        _cat(release_folders, world.folders / version, version)
        releases.append(world.publish(version))
        named = [word for check in CHECKS for word in ("--check", check)]
        world.ok("override", "add", f"edge-roto@{version}", *named, "--reason", "seen by hand", "--until", "14d")
        world.ok("promote", f"edge-roto@{version}", "--reason", "test")
        world.ok("update")
        if version == "1.0.0":
            script = root / "comp.nk"
            group = f"Group {{\n name Group1\n}}\n{_node('Inference1', releases[0])}end_group\n"
            text = f"version 15.1 v3\nRoot {{\n name {script}\n}}\n{group}{_node('Inference2', None)}"
            script.write_text(text, encoding="utf-8")
            world.ok("lock", str(script), str(root / "job.lock"))
    return Farm(world, releases[0], releases[1], script, root / "job.lock")


def test_lock_says_of_each_node_what_this_station_would_load(farm: Farm, tmp_path: Path) -> None:
    lock = FarmLock.from_bytes(farm.lock.read_bytes(), where="lock")

    assert [(line.node, line.ref(), line.source) for line in lock.releases] == [
        ("Group1.Inference1", farm.old.ref(), "stamp"),
        ("Inference2", farm.old.ref(), "channel stable"),
    ]
    assert (lock.station, lock.generation, lock.script) == ("vm1", 1, str(farm.script))
    out = farm.world.ok("lock", str(farm.script), str(tmp_path / "later.lock"), "--json")
    told = json.loads(out)["releases"]
    assert [line["version"] for line in told] == ["1.0.0", "1.1.0"], "an unstamped node goes by the channel of now"
    store = farm.world.station.store.root
    assert told[0]["paths"] == {"linux": f"{store}/{told[0]['path']}"}


def test_lock_has_the_path_of_each_system_that_the_site_names(farm: Farm, tmp_path: Path) -> None:
    site_toml = farm.world.site.root / "site.toml"
    before = site_toml.read_bytes()
    try:
        site_toml.write_bytes(before + b'[paths]\nwindows = "//srv/store"\nlinux = "/net/store"\n')
        told = json.loads(farm.world.ok("lock", str(farm.script), str(tmp_path / "l"), "--json"))["releases"][0]
        site_toml.write_bytes(before + b'[paths]\nwindows = "my store"\n')
        code, _, err = farm.world.run("lock", str(farm.script), str(tmp_path / "m"))
    finally:
        site_toml.write_bytes(before)

    assert told["paths"] == {"windows": f"//srv/store/{told['path']}", "linux": f"/net/store/{told['path']}"}
    assert code == 0
    assert "the lock has the paths of this system alone" in err


REFUSED = {
    "a script that is not there": (None, 2, "found no such file"),
    "a script that is cut": ("Root {\n name x\n", 2, "what closes a {"),
    "a release that is not here": (
        (
            "Root {\n name x\n}\nInference {\n name I\n changeover_model acme/edge-roto\n changeover_version 9.0.0\n"
            f" changeover_digest {'ab' * 32}\n}}\n"
        ),
        3,
        "is not on this machine, and nothing is loaded in its place",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_lock_that_cannot_be_made_leaves_no_file_and_an_old_one_as_it_was(
    farm: Farm, tmp_path: Path, name: str
) -> None:
    text, expected, sentence = REFUSED[name]
    script, out = tmp_path / "x.nk", tmp_path / "job.lock"
    if text is not None:
        script.write_text(text, encoding="utf-8")

    code, _, err = farm.world.run("lock", str(script), str(out), "--nuke", "15.1")
    left = out.exists()
    out.write_bytes(b"the one before")
    again = farm.world.run("lock", str(script), str(out), "--nuke", "15.1")

    assert (code, again[0], left) == (expected, expected, False)
    assert sentence in err
    assert err.count("\n") == 1
    assert out.read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--shot", "sh010"), "a narrower part without its wider one"),
        (("--show", "atlas", "--shot", "sh010"), "a narrower part without its wider one"),
        (("--show", ""), "is the variable set that it came from?"),
    ],
)
def test_lock_leaves_out_nothing_that_was_said_of_the_scope(
    farm: Farm, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = farm.world.run("lock", str(farm.script), str(tmp_path / "job.lock"), *words)

    assert (code, err.count("\n"), (tmp_path / "job.lock").exists()) == (2, 1, False)
    assert sentence in err


def test_lock_does_not_write_over_its_script(farm: Farm, tmp_path: Path) -> None:
    script, link = tmp_path / "comp.nk", tmp_path / "same.nk"
    script.write_bytes(farm.script.read_bytes())
    link.symlink_to(script)

    for out in (script, link):
        code, _, err = farm.world.run("lock", str(script), str(out))
        assert (code, err.count("\n")) == (2, 1)
        assert "the script itself" in err
    assert script.read_bytes() == farm.script.read_bytes()


def test_lock_of_a_script_with_none_of_our_nodes_is_empty_and_says_what_it_left_out(farm: Farm, tmp_path: Path) -> None:
    script = tmp_path / "x.nk"
    script.write_text("version 15.1 v3\nRoot {\n name x\n}\nInference {\n name I\n modelFile /my.cat\n}\n")

    code, out, err = farm.world.run("lock", str(script), str(tmp_path / "job.lock"))

    assert code == 0
    assert "0 nodes locked" in out
    assert "I loads /my.cat, which is none of Changeover's" in err


def test_ensure_brings_a_release_that_the_channel_has_left_to_a_host_that_never_had_it(
    farm: Farm, tmp_path: Path
) -> None:
    host = farm.host(tmp_path)

    code, out, err = host.run("ensure", str(farm.lock), "--json")

    assert code == 0, err
    answer = json.loads(out)
    assert answer["brought"] == [str(farm.old.ref())]
    assert (answer["files"], answer["hashed_bytes"]) == (1, host.file(farm.old).stat().st_size)
    made = host.station.in_use()
    assert made is not None
    assert [entry.key for entry in made.releases] == [str(farm.old.ref())]
    assert (made.channels, made.pins) == ((), ()), "what a lock names answers stamps and locks, and no channel"
    assert [event.phase for event in host.station.events()] == ["intent", "done"]
    assert "farm lock of" in host.station.events()[0].why


def test_ensure_again_changes_nothing_and_needs_no_site(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("ensure", str(farm.lock))[0] == 0
    before = _tree(host.root / "store")
    host.config.write_text(host.config.read_text(encoding="utf-8").replace(str(farm.world.site.root), "/nowhere"))

    code, out, _ = host.run("ensure", str(farm.lock))

    assert code == 0
    assert "1 file," in out
    assert _tree(host.root / "store") == before


def test_ensure_before_and_after_an_update_keeps_both(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("ensure", str(farm.lock))[0] == 0

    updated = host.run("update")
    ensured = host.run("ensure", str(farm.lock), "--json")

    assert updated[0] == 0
    assert json.loads(ensured[1])["brought"] == []
    made = host.station.in_use()
    assert made is not None
    assert {entry.version for entry in made.releases} == {"1.0.0", "1.1.0"}
    assert [entry.key for entry in made.channels] == [str(farm.new.ref())]


def test_ensure_adds_to_a_station_that_has_another_release_and_moves_no_channel(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("update")[0] == 0
    host.run("hold", "--reason", "the demo")

    code, _, err = host.run("ensure", str(farm.lock))

    assert code == 0, err
    made = host.station.in_use()
    assert made is not None
    assert {entry.version for entry in made.releases} == {"1.0.0", "1.1.0"}
    assert [entry.key for entry in made.channels] == [str(farm.new.ref())]
    assert made.previous == 1


def test_ensure_brings_back_a_file_that_is_gone(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("ensure", str(farm.lock))[0] == 0
    host.file(farm.old).unlink()

    code, out, _ = host.run("ensure", str(farm.lock), "--json")

    assert code == 0
    assert json.loads(out)["brought"] == [str(farm.old.ref())]
    assert host.station.current() == 1


def test_ensure_refuses_bytes_that_are_not_the_signed_ones(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("ensure", str(farm.lock))[0] == 0
    file = host.file(farm.old)
    size = file.stat().st_size
    file.chmod(0o644)
    file.write_bytes(b"x" * size)

    code, _, err = host.run("ensure", str(farm.lock))

    assert code == 5
    assert str(file) in err.replace("\n", "")
    assert host.station.current() == 1


def test_ensure_refuses_a_release_that_no_promoter_ever_chose(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    lock = FarmLock.from_bytes(farm.lock.read_bytes(), where="lock")
    forged = lock.releases[0].model_copy(update={"digest": "ab" * 32, "version": "1.2.0"})
    path = tmp_path / "forged.lock"
    path.write_bytes(lock.model_copy(update={"releases": (forged,)}).to_bytes())

    code, _, err = host.run("ensure", str(path))

    assert code == 3
    assert "found one that no signed choice names" in err
    assert host.station.current() is None
    assert not list((host.root / "store" / "releases").iterdir())


def test_ensure_of_a_host_whose_nuke_the_lock_is_not_for_is_refused(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path, nuke=False)

    code, _, err = host.run("ensure", str(farm.lock))

    assert code in {3, 4}
    assert err.count("\n") == 1
    assert host.station.current() is None


@pytest.mark.parametrize("wanted", ["lock", "flag"])
def test_ensure_stops_a_worker_without_a_gpu_with_exit_3_and_one_sentence(
    farm: Farm, tmp_path: Path, wanted: str
) -> None:
    host = farm.host(tmp_path)
    path = tmp_path / "gpu.lock"
    if wanted == "lock":
        farm.world.ok("lock", str(farm.script), str(path), "--device", "gpu")
    else:
        path.write_bytes(farm.lock.read_bytes())

    code, out, err = host.run("ensure", str(path), *(["--device", "gpu"] if wanted == "flag" else []))

    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "render1: expected a GPU that Nuke can use, found none" in err
    assert host.station.current() is None, "nothing is brought to a worker that may not render"


def test_ensure_of_a_worker_with_a_gpu_goes_on_and_one_that_cannot_be_told_is_undecided(
    farm: Farm, tmp_path: Path
) -> None:
    from changeover_registry.records.base import Unknown

    gpu = Gpu(
        name="RTX",
        uuid="GPU-1",
        compute_capability="8.9",
        display=False,
        total_mib=24576,
        reserved_mib=300,
        free_mib=24000,
    )
    host = farm.host(tmp_path, gpus=(gpu,))
    assert host.run("ensure", str(farm.lock), "--device", "gpu")[0] == 0

    host.facts = host.facts.model_copy(update={"gpus": Unknown(unknown="the driver did not answer")})
    host.remember()
    code, _, err = host.run("ensure", str(farm.lock), "--device", "gpu")

    assert code == 4
    assert "the driver did not answer" in err


def test_a_policy_that_wants_a_gpu_reaches_the_generation_and_the_lock(
    make_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = make_world()
    policy = world.site.root / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8") + '\n[farm]\ndevice = "gpu"\n', encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "the farm has GPUs")

    world.served("1.0.0")

    made = world.station.in_use()
    assert made.farm_device == "gpu"


def test_six_tasks_of_one_job_at_once_bring_it_once_and_all_end_well(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    command = [sys.executable, "-m", "changeover_updater", "--config", str(host.config), "--station", "render1"]
    command += ["ensure", str(farm.lock), "--json"]

    def task(_: int) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "CHANGEOVER_CONFIG": ""}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)

    with ThreadPoolExecutor(max_workers=6) as pool:
        done = list(pool.map(task, range(6)))

    assert [one.returncode for one in done] == [0] * 6, [one.stderr for one in done if one.returncode]
    brought = [json.loads(one.stdout)["brought"] for one in done]
    assert max(brought) == [str(farm.old.ref())]
    assert sum(bool(one) for one in brought) == 1
    assert host.station.numbers() == (1,)
    assert not list((host.root / "store" / "staging").iterdir())


def _tree(root: Path) -> list[tuple[str, int, int]]:
    found = [path for path in root.rglob("*") if path.name != "facts.json"]
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in found)


def _why_not_two_users() -> str:
    """Why this machine cannot play a read-only mount and another user; an empty text where it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may mount and become another user"
    if missing := [tool for tool in ("unshare", "mount", "setpriv") if shutil.which(tool) is None]:
        return f"this machine has no {missing[0]}"
    probe = ["unshare", "--mount", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*probe, sys.executable, "-c", "import changeover_updater"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return f"another user may not enter this checkout: {done.stderr.strip()[-200:]}" if done.returncode else ""


WHY_NOT = _why_not_two_users()


@pytest.mark.skipif(bool(WHY_NOT), reason=f"a read-only mount as another user: {WHY_NOT}")
def test_ensure_serves_a_user_who_may_only_read_the_store_where_all_is_there(farm: Farm, tmp_path: Path) -> None:
    host = farm.host(tmp_path)
    assert host.run("ensure", str(farm.lock))[0] == 0
    shutil.copy(farm.lock, host.root / "job.lock")
    # Only the mount leads there for the other user: the folder of the tests is closed to it.
    public = Path(tempfile.mkdtemp(prefix="changeover-farm-"))
    public.chmod(0o755)
    for path in (host.root, *host.root.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    script = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "changeover_updater"]
    words = ["--config", str(public / "host.toml"), "--site", str(public / "none"), "--store", str(public / "store")]

    def ensure() -> "subprocess.CompletedProcess[str]":
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(host.root), str(public), *user, *words]
        command += ["--station", "render1", "ensure", str(public / "job.lock")]
        # The other user writes nowhere, so neither a measurement of which lines ran.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env=clean)

    try:
        ready = ensure()
        host.file(farm.old).unlink()
        gone = ensure()
    finally:
        public.rmdir()

    assert ready.returncode == 0, ready.stderr
    assert "serves all 2 nodes" in ready.stdout
    assert gone.returncode == 9, "what is missing cannot be brought to a disk that may only be read"
    assert gone.stderr.count("\n") == 1
