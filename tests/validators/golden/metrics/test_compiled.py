"""Where compiled kernels are kept, and what happens where they cannot be: each in processes and folders of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import changeover_validators
from changeover_validators.golden import _kernels_masks

PACKAGE = Path(changeover_validators.__file__).parent

COUNT = """
import numpy as np
from changeover_validators.golden import _kernels_masks
counted = _kernels_masks.count(np.full((3, 5), 6, np.uint64))
stats = _kernels_masks.count.stats
print(counted, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), _kernels_masks.__file__)
"""

IMPORT = """
from changeover_validators.golden import _frame, metrics
from numba.core.dispatcher import Dispatcher
modules = [getattr(_frame, name) for name in dir(_frame) if name.startswith("_kernels")]
kernels = [one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)]
print(len(modules), len(kernels) > 20, [one.signatures for one in kernels if one.signatures])
"""


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    )


def answer(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A copy of the package in which no cache can be made: a file stands where the folder would be."""
    root = tmp_path / "installed"
    folder = root / "changeover_validators" / "golden"
    folder.mkdir(parents=True)
    shutil.copy(PACKAGE / "__init__.py", root / "changeover_validators")
    for name in ("__init__.py", "_compiled.py", "_kernels_masks.py"):
        shutil.copy(PACKAGE / "golden" / name, folder)
    (folder / "__pycache__").write_text("", encoding="utf-8")
    return root


def test_importing_the_metrics_compiles_nothing(tmp_path: Path) -> None:
    assert answer(start(IMPORT, NUMBA_CACHE_DIR=str(tmp_path))) == ["5", "True", "[]"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_one_process_compiled_another_finds(tmp_path: Path) -> None:
    first = answer(start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)))
    second = answer(start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)))
    assert (first[:3], second[:3]) == (["30", "0", "1"], ["30", "1", "0"])


def test_two_processes_that_compile_at_once_leave_a_cache_that_a_third_can_use(tmp_path: Path) -> None:
    both = [start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert [answer(one)[0] for one in both] == ["30", "30"]
    assert answer(start(COUNT, NUMBA_CACHE_DIR=str(tmp_path)))[:3] == ["30", "1", "0"]


def test_where_the_package_cannot_be_written_the_users_cache_is_used(locked: Path, tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(locked), "XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}
    first, second = answer(start(COUNT, **places)), answer(start(COUNT, **places))
    assert Path(first[3]).is_relative_to(locked)
    assert (first[:3], second[:3]) == (["30", "0", "1"], ["30", "1", "0"])
    assert list((tmp_path / "cache").rglob("*.nbi")) != []


def test_where_nothing_can_be_written_kernels_are_compiled_anew_and_run(locked: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    places = {"PYTHONPATH": str(locked), "XDG_CACHE_HOME": str(tmp_path / "file"), "NUMBA_CACHE_DIR": ""}
    found = answer(start(COUNT, **places))
    assert Path(found[3]).is_relative_to(locked)
    assert found[:3] == ["30", "0", "1"]
    assert list(tmp_path.rglob("*.nb?")) == []


def test_a_kernel_does_not_hold_the_lock_of_the_interpreter() -> None:
    assert _kernels_masks.count.targetoptions["nogil"] is True  # type: ignore[attr-defined]
