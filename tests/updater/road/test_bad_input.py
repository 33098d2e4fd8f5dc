"""Mistakes: one line on stderr, the documented exit code, no traceback, and nothing changed."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover_updater.cli.main import run


def state(root: Path) -> str:
    """A digest of every file that a command line may change; locks, facts and clients' states are no state."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        told = path.relative_to(root).as_posix()
        if not {"trust", "mlflow", "lock", ".lock", "facts.json", "status.json"} & set(told.split("/")):
            digest.update(told.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def served(module_world: Any) -> Any:
    """A world that serves 1.0.0 and is never changed by the tests of this module."""
    module_world.served("1.0.0")
    return module_world


@pytest.fixture
def world(served: Any) -> Iterator[Any]:
    before = state(served.root)
    yield served
    assert state(served.root) == before


def fails(world: Any, code: int, *arguments: str) -> str:
    found, out, err = world.run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1), f"{arguments}: {found}\n{out}\n{err}"
    assert "Traceback" not in err
    assert "fault in Changeover" not in err
    return str(err)


@pytest.mark.parametrize("group", ["golden", "override", "runtimes", "trust", "vendor", "verdict"])
def test_group_without_a_command_shows_its_help_and_no_error(world: Any, group: str) -> None:
    code, out, err = world.run(group)

    assert (code, err) == (2, "")
    assert f"changeover {group}" in out


USAGE = [
    (("uphold",), "uphold"),
    (("status", "--jsn"), "--jsn"),
    (("check",), "release"),
    (("hold",), "--reason"),
    (("rollback", "--to"), "--to"),
    (("golden", "add", "hero"), "shot"),
    (("golden", "add", "hero", "s1", "--level", "high"), "level"),
    (("trust", "add", "acme"), "location"),
    (("vendor", "publish"), "MODEL@VERSION"),
    (("status", "extra"), "extra"),
    (("plugin-path", "flame"), "nuke"),
    (("plugin-path",), "host"),
    (("verdict", "show", "0000"), "changeover verdict list"),
    (("verdict", "list", "nobody@1.0.0"), "acme/tiny-roto"),
    (("golden", "list", "nowhere"), "nowhere"),
    (("golden", "verify", "nowhere"), "nowhere"),
    (("golden", "set", "create", "Bad Name"), "name"),
    (("golden", "set", "create", "../up"), "name"),
    (("golden", "set", "create", "new", "--show", "At las"), "name"),
    (("golden", "set", "create", "new", "--show", ""), "name"),
    (("golden", "set", "create", "new", "--reader", "x/y"), "name"),
    (("check", "tiny-roto@1.0.0", "--set", "../up"), "name"),
    (("check", "tiny-roto@1.0.0", "--channel", "nobody"), "channel"),
    (("init", "--mode", "both"), "local"),
    (("demo", "--keep"), "--keep"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_usage_mistake_is_2_in_one_line_that_names_it(world: Any, arguments: tuple[str, ...], words: str) -> None:
    assert words in fails(world, 2, *arguments)


SCHEMA = 'schema = "changeover.host/1"\n'


def alone(folder: Path, config: str, *arguments: str) -> tuple[int, str]:
    """Run a command line in a process whose host.toml is this text; returns exit code and stderr."""
    path = folder / "host.toml"
    path.write_text(config, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CHANGEOVER_")}
    done = subprocess.run(
        [sys.executable, "-m", "changeover_updater", "--config", str(path), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "changeover.host/1"),
        (f"{SCHEMA}", "--store"),
        (f"{SCHEMA}site = 3\n", "site"),
        (f'{SCHEMA}site = "/nowhere/at/all"\nstore = "/nowhere/either"\n', "no such folder"),
        (f"{SCHEMA}site = \n", "TOML"),
        (f'{SCHEMA}nonsense = "x"\n', "nonsense"),
        (f"{SCHEMA}[runtimes]\ndefault = 3\n", "runtimes"),
        (f'{SCHEMA}[keys]\npromotor = "x"\n', "promotor"),
        (f'{SCHEMA}[[nukes]]\npath = "x"\n', "version"),
        ('schema = "changeover.host/9"\n', "changeover"),
        ("\x00", "TOML"),
    ],
)
def test_bad_or_empty_host_toml_is_one_line_that_names_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, words: str
) -> None:
    path = tmp_path / "host.toml"
    path.write_text(config, encoding="utf-8")

    code = run(["--config", str(path), "status"])
    out, err = capsys.readouterr()

    assert code in {2, 4}, err
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert "fault in Changeover" not in err


def test_with_no_settings_at_all_the_process_says_what_to_give(tmp_path: Path) -> None:
    code, err = alone(tmp_path, SCHEMA, "sync")

    assert code == 2
    assert "--site" in err
    assert "CHANGEOVER_SITE" in err


def test_station_that_was_never_made_is_2_and_names_those_that_were(world: Any) -> None:
    found, _, err = _run(world, "--station", "vm9", "status")

    assert (found, err.count("\n")) == (2, 1)
    assert "vm1" in err


@pytest.mark.parametrize("station", ["../vm1", "a b", "vm1/../vm1", "/"])
def test_station_that_is_no_name_is_2(world: Any, station: str) -> None:
    found, _, err = _run(world, "--station", station, "status")

    assert (found, err.count("\n")) == (2, 1), err


def _run(world: Any, *arguments: str) -> tuple[int, str, str]:
    kept, world.extra = world.extra, []
    try:
        return world.run(*arguments)  # type: ignore[no-any-return]
    finally:
        world.extra = kept


@pytest.mark.parametrize("content", [None, "2\n", "", "<html>"])
@pytest.mark.parametrize("what", ["site", "store"])
def test_folder_that_is_not_ours_is_2_and_is_left_as_it_is(
    world: Any, tmp_path: Path, what: str, content: str | None
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / "format").write_text(content, encoding="utf-8")

    line = fails(world, 2, f"--{what}", str(folder), "plan")

    assert str(folder / "format") in line
    assert [path.name for path in folder.iterdir()] == ([] if content is None else ["format"])


@pytest.mark.parametrize("name", ["my site", "[site]", "50%", "a#b", "{x}"])
def test_root_that_nuke_misreads_is_refused_by_init_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    config = ["--config", str(tmp_path / "host.toml")]

    codes = [
        run([*config, "init", "--site", str(folder), "--store", str(tmp_path / "store"), "--nuke-json", "none"]),
        run([*config, "init", "--site", str(tmp_path / "site"), "--store", str(folder), "--nuke-json", "none"]),
        run([*config, "init"]),
    ]

    assert codes == [2, 2, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("verdict_days = 30", "verdict_day = 30", "verdict_day"),
        ("verdict_days = 30", 'verdict_days = "many"', "verdict_days"),
        ("ratio = 1.5", "ratio = -1", "ratio"),
        ("ratio = 1.5", "ratio = 1.5x", "TOML"),
        ("confidence = 0.95", "confidence = 1.95", "confidence"),
        ('sandbox = "required"', 'sandbox = "off"', "sandbox"),
        ("plate = [4096, 2160]", "plate = [4096]", "plate"),
        ('path = ""', 'path = "(?P<show"', "path"),
    ],
)
def test_policy_that_is_none_is_not_signed_and_the_line_names_the_key(
    world: Any, old: str, new: str, words: str
) -> None:
    path = world.site.root / "policy.toml"
    kept = path.read_text(encoding="utf-8")
    assert old in kept
    path.write_text(kept.replace(old, new), encoding="utf-8")
    try:
        line = fails(world, 2, "promote", "--policy", "--reason", "test")
        planned = world.run("plan")
    finally:
        path.write_text(kept, encoding="utf-8")

    assert words in line
    assert planned[0] == 2
    assert planned[2].count("\n") == 1


@pytest.mark.parametrize("content", ["", "mlflow = 3\n", "x = \n", "\x00"])
def test_bad_site_toml_never_stops_an_artist(world: Any, content: str) -> None:
    path = world.site.root / "site.toml"
    kept = path.read_text(encoding="utf-8")
    path.write_text(content, encoding="utf-8")
    try:
        codes = [world.run(command)[0] for command in ("status", "plan", "update")]
    finally:
        path.write_text(kept, encoding="utf-8")

    assert codes == [0, 0, 0]


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from changeover_updater.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def without(world: Any, absent: set[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command line in a Python that lacks these packages."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent), "--config", str(world.config), *world.extra]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


BASE = {"numpy", "scipy", "onnx", "onnxruntime", "OpenEXR", "OpenImageIO", "archspec", "pynvml", "mlflow", "cyclonedx"}


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("check", "tiny-roto@1.0.0"), "changeover[run]"),
        (
            ("golden", "add", "hero", "s1", "--plate", ".", "--matte", ".", "--channel", "A", "--colour", "raw"),
            "changeover[run]",
        ),
        (("vendor", "register", "{folder}", "--home", "{home}"), "changeover["),
    ],
    ids=["check", "golden add", "vendor register"],
)
def test_base_installation_names_the_extra_that_brings_what_is_missing(
    world: Any, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    home = tmp_path / "home"
    if "register" in arguments:
        world.ok("vendor", "init", str(home), "--name", "acme")
    words = [word.format(folder=world.folders / "1.0.0", home=home) for word in arguments]

    code, out, err = without(world, BASE, *words)

    assert (code, out, err.count("\n")) == (4 if "register" in arguments else 2, "", 1), err
    assert extra in err
    assert "pip install" in err


def test_base_installation_runs_what_a_station_needs(world: Any) -> None:
    answers = [without(world, BASE, *command) for command in (["status", "--json"], ["plan", "--json"], ["log"])]

    assert [code for code, _, _ in answers] == [0, 0, 0], answers
    assert json.loads(answers[1][1])["changes"] is False


def test_fault_of_ours_is_one_line_and_1(world: Any) -> None:
    path = world.site.root / "stations"
    code, out, err = without(world, {"tuf"}, "plan")

    assert path.is_dir()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "a fault in Changeover itself" in err


def test_help_is_0_and_version_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [run(["--help"]), run(["--version"]), run(["golden", "add", "-h"])]

    out, err = capsys.readouterr()
    assert codes == [0, 0, 0]
    assert "changeover " in out
    assert err == ""


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code = run([])

    out, err = capsys.readouterr()
    assert code in {0, 2}
    assert "promote" in out + err
