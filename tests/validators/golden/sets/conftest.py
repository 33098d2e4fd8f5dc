"""What the tests of sets and shots share: a site, footage, and what adding a shot did or refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_validators.golden.history import current_refs
from changeover_validators.golden.kept import check_undamaged, kept_files, verify_shots
from changeover_validators.golden.sets import create_set, load_set, shot_folder
from changeover_validators.golden.shots import NewShot, add_shot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
Write = Callable[..., Path]
Tree = Callable[[Path], dict[str, bytes]]
Whole = Callable[[Path], tuple[GoldenSet, tuple[GoldenShot, ...]]]
Refuse = Callable[[Path, NewShot, str], InvalidInputError]
Warned = Callable[[Path, NewShot], list[str]]
AddOne = Callable[..., GoldenShot]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    golden = tmp_path / "site" / "golden"
    create_set(golden, "hair")
    return golden


@pytest.fixture
def footage(tmp_path: Path, write_image: Write) -> Path:
    """Plates 1001 to 1004 and mattes of the same frames, 16 x 9 pixels, each frame different."""
    folder = tmp_path / "footage"
    for number in range(1001, 1005):
        random = np.random.default_rng(number)
        write_image(folder / f"plate.{number}.exr", random.random((9, 16, 3)), ("R", "G", "B"))
        write_image(folder / f"matte.{number}.exr", random.random((9, 16, 1)), ("A",))
    return folder


@pytest.fixture
def new(footage: Path) -> NewShot:
    return NewShot(
        set="hair",
        shot="ab010",
        plate=str(footage / "plate.####.exr"),
        matte=str(footage / "matte.####.exr"),
        matte_channel="A",
        colour="scene-linear",
        level=3,
        added_by="ana",
        approved_by="Jane Doe",
    )


@pytest.fixture(name="tree")
def give_tree() -> Tree:
    return tree


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="whole")
def give_whole() -> Whole:
    return whole


def whole(site: Path) -> tuple[GoldenSet, tuple[GoldenShot, ...]]:
    """The set as it is loaded, every file of which was hashed again."""
    golden_set, found = load_set(site, "hair")
    check_undamaged("hair", verify_shots(site, "hair", current_refs(golden_set)).damage)
    return golden_set, found


@pytest.fixture(name="refuse")
def give_refuse() -> Refuse:
    return refuse


def refuse(site: Path, new: NewShot, match: str) -> InvalidInputError:
    """Adding `new` is refused, and changes nothing on disk."""
    before = tree(site)
    with pytest.raises(InvalidInputError, match=match) as caught:
        add_shot(site, new, now=NOW)
    assert tree(site) == {**before, **{name: data for name, data in tree(site).items() if name.endswith(".lock")}}
    assert not list((site / "hair").glob(".staging-*"))
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture(name="warned")
def give_warned() -> Warned:
    return warned


def warned(site: Path, new: NewShot) -> list[str]:
    return [str(warning) for warning in add_shot(site, new, now=NOW).warnings]


@pytest.fixture(name="add")
def give_add() -> AddOne:
    return add


def add(site: Path, new: NewShot, **more: Any) -> GoldenShot:
    """Add a shot; what the set then holds is whole, and is all that lies in the shot's folder."""
    shot = add_shot(site, replace(new, **more), now=NOW).shot
    folder = shot_folder(site, shot)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {file.path for file in kept_files(shot)} | {"shot.json"} == there
    assert whole(site)[1][-1] == shot
    return shot


@pytest.fixture
def seconds(footage: Path, write_image: Write) -> str:
    """Another artist's mattes of all four frames, in channel R."""
    for number in range(1001, 1005):
        random = np.random.default_rng(2 * number)
        write_image(footage / f"second.{number}.exr", random.random((9, 16, 1)), ("R",))
    return str(footage / "second.####.exr")
