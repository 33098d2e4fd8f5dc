"""A studio of the fault rigs, for tests of what they find."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover_faults.studio import NEW, Studio, build, promote


@pytest.fixture(scope="session")
def served_studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """The old version in use, the new one chosen; for copies alone."""
    studio = build(tmp_path_factory.mktemp("faults"))
    studio.change_over()
    promote(studio, NEW)
    return studio


@pytest.fixture
def studio(served_studio: Studio, tmp_path: Path) -> Iterator[Studio]:
    """The same at its own place, its store and site back as they were."""
    kept = tmp_path / "kept"
    for name in ("store", "site"):
        shutil.copytree(served_studio.root / name, kept / name)
    yield served_studio
    for name in ("store", "site"):
        shutil.rmtree(served_studio.root / name)
        shutil.copytree(kept / name, served_studio.root / name)
