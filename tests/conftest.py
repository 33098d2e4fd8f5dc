"""Fixtures that several folders of tests share: the wheel of this checkout, and a fresh environment that holds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["changeover_servers.plugin"]

settings.register_profile("long", max_examples=20_000, deadline=None)
"""For ``make fuzz``: ``--hypothesis-profile=long``."""

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flag by which golden files are written anew, on purpose, and the one for `make sweeps`."""
    parser.addoption("--update-goldens", action="store_true", help="write the golden files anew; then look at them")
    parser.addoption(
        "--whole", action="store_true", help="every point of each sweep, where else a few of them are tried"
    )


def pip(python: Path | str, *arguments: str) -> None:
    """Run pip, with its words shown where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether a sweep is to try every point: `make sweeps` does, `make test` has no time for it."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    (path,) = folder.glob("changeover-*.whl")
    return path


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel without extras."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip(python, "install", "-c", str(ROOT / "constraints.txt"), str(wheel))
    return python
