"""Throw-away environments: a fresh interpreter that holds one release of a runtime, and nothing of ours.

Releases are compared by running them for real, side by side; the interpreter of this installation is never touched.
Needs a package index (whatever pip is set up with).
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from packaging.version import Version

import changeover_registry
from changeover_registry.errors import UnreachableError

__all__ = ["RELEASES", "interpreter_with", "lend_packages", "runtime_requirements"]

RELEASES = (
    *("1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.25.1"),
    *("1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.1", "1.32.0"),
)
"""The last release of each minor line of onnxruntime that has wheels for this Python."""


def runtime_requirements(version: str) -> tuple[str, ...]:
    """What pip has to install for onnxruntime `version` to run models: itself, and the numpy that it was built with."""
    return f"onnxruntime=={version}", "numpy<2" if Version(version) < Version("1.19") else "numpy>=2"


def interpreter_with(folder: Path, requirements: tuple[str, ...], *, dependencies: bool = False) -> Path:
    """A fresh environment in `folder` that holds `requirements`; without their own needs, which running takes none of.

    Returns:
        Its Python.

    Raises:
        UnreachableError: No package index answers, or it has no such wheel for this Python.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", *([] if dependencies else ["--no-deps"]), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnreachableError(
            "throw-away environment",
            where=str(folder),
            expected=f"wheels of {', '.join(requirements)}",
            actual=(done.stderr.strip().splitlines() or ["nothing"])[-1],
            remedy="set pip up with a package index that has them, or leave this release out",
        )
    return python


def lend_packages(python: Path) -> None:
    """Let the environment of `python` import Changeover, and whatever it lacks itself, from this installation.

    What it holds of its own comes first, so its runtime stays its own.
    """
    ours = [Path(changeover_registry.__file__).resolve().parents[1], Path(__file__).resolve().parents[2]]
    roots = {*map(str, ours), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    (site / "lent.pth").write_text("".join(f"{root}\n" for root in sorted(roots)), "utf-8")
