"""The wheel, installed without extras into a fresh environment: all that a station needs, and nothing heavy."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "mlflow",
    "torch",
    "onnx",
    "onnxruntime",
    "boto3",
    "numpy",
    "scipy",
    "numba",
    "OpenEXR",
    "OpenImageIO",
    "pynvml",
)
STATION = (
    "changeover_updater.cli.main",
    "changeover_updater.cli.station",
    "changeover_updater.plan",
    "changeover_updater.update",
    "changeover_updater.rollback",
)

pytestmark = [pytest.mark.install, pytest.mark.timeout(900)]


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the fresh interpreter outside the checkout, without our environment variables."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "CHANGEOVER"))
    }
    return subprocess.run(
        [str(python), *arguments], cwd=python.parent, env=env, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_the_three_packages_the_plug_in_and_nothing_else(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
    tops = {name.partition("/")[0] for name in names}
    data = next(top for top in tops if top.endswith(".data"))
    plug_in = {path.name for path in (ROOT / "plugins" / "nuke").glob("*.py")}

    assert tops - {data} == {
        "changeover_registry",
        "changeover_validators",
        "changeover_updater",
        next(top for top in tops if top.endswith(".dist-info")),
    }
    assert plug_in <= {name.removeprefix(f"{data}/data/share/changeover/nuke/") for name in names}


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "registry", "validators", "updater"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()

    assert [path for path in tracked if path.partition("/")[2] not in names] == []


@pytest.mark.parametrize("module", STATION)
def test_what_a_station_runs_imports_nothing_heavy(base: Path, module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"

    done = run(base, "-c", code)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_heavy_packages_are_not_in_the_base_install(base: Path) -> None:
    code = f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)])"

    assert run(base, "-c", code).stdout.strip() == "[]"


def test_the_command_answers_in_the_base_install(base: Path) -> None:
    command = base.parent / "changeover"

    done = subprocess.run([str(command), "--help"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "rollback" in done.stdout


def test_the_plug_in_folder_is_found_in_an_install(base: Path) -> None:
    command = base.parent / "changeover"

    done = subprocess.run([str(command), "plugin-path", "nuke"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "changeover_nuke.py").is_file()
