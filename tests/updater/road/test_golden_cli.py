"""``golden``: what goes into a set, what is refused at the door, and what is seen when a truth changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

SIZE = (48, 64)


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    """A world with a set ``hero`` of one shot, and good plates and mattes to add."""
    world = module_world
    write(world.root / "good", plate=SIZE, matte=SIZE)
    world.ok("golden", "set", "create", "hero", "--show", "atlas", "--reader", "boreas")
    world.ok(*adding(world.root / "good", "sh010", "--alias", "alley"))
    return world


@pytest.fixture
def world(studio: Any) -> Iterator[Any]:
    before = tree(studio.site.golden)
    yield studio
    assert tree(studio.site.golden) == before


def tree(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]


def write(folder: Path, *, plate: tuple[int, int], matte: tuple[int, int], channel: str = "A", frames: int = 2) -> Path:
    """Plates and mattes of these sizes (height, width) in a folder."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True)
    for number in range(1001, 1001 + frames):
        rgb = rng.uniform(0, 1, (*plate, 3)).astype(np.float16)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"RGB": rgb}).write(str(folder / f"plate.{number}.exr"))
        alpha = rng.uniform(0, 1, matte).astype(np.float16)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {channel: alpha}).write(
            str(folder / f"matte.{number}.exr")
        )
    return folder


def adding(folder: Path, shot: str, *more: str, channel: str = "A", colour: str = "scene-linear") -> tuple[str, ...]:
    plate, matte = str(folder / "plate.####.exr"), str(folder / "matte.####.exr")
    chosen = ("--channel", channel, "--colour", colour, "--approved-by", "Jane Doe")
    return ("golden", "add", "hero", shot, "--plate", plate, "--matte", matte, *chosen, *more)


def fails(world: Any, code: int, *arguments: str) -> str:
    found, out, err = world.run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1), f"{arguments}: {found}\n{out}\n{err}"
    return str(err)


def test_shot_is_copied_hashed_and_listed(world: Any) -> None:
    sets = json.loads(world.ok("golden", "list", "--json"))
    (shot,) = json.loads(world.ok("golden", "list", "hero", "--json"))

    assert [(s["name"], s["version"], s["owner_show"], s["readers"]) for s in sets] == [
        ("hero", 2, "atlas", ["boreas"])
    ]
    assert (shot["shot"], shot["alias"], shot["width"], shot["height"]) == ("sh010", "alley", 64, 48)
    assert len(shot["frames"]) == 2
    assert "alley" in world.ok("golden", "list", "hero")
    assert "1 shots, 5 files as they were added" in world.ok("golden", "verify", "hero")


def test_same_shot_again_is_a_new_version_and_the_old_one_stays(studio: Any) -> None:
    studio.ok("golden", "set", "create", "twice")
    arguments = [word if word != "hero" else "twice" for word in adding(studio.root / "good", "sh010")]
    studio.ok(*arguments)

    out = studio.ok(*arguments)

    assert "version 2" in out
    assert (studio.site.golden / "twice" / "sh010" / "1" / "shot.json").is_file()


def test_plate_and_matte_of_different_sizes_are_2_and_name_both(world: Any, tmp_path: Path) -> None:
    line = fails(world, 2, *adding(write(tmp_path / "x", plate=SIZE, matte=(48, 60)), "sh020"))

    assert "64 x 48" in line
    assert "60 x 48" in line


@pytest.mark.parametrize("part", ["plate", "matte"])
def test_truncated_exr_is_2_and_is_named(world: Any, tmp_path: Path, part: str) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    path = folder / f"{part}.1002.exr"
    path.write_bytes(path.read_bytes()[:-900])

    assert f"{part}.1002.exr" in fails(world, 2, *adding(folder, "sh020"))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x76\x2f\x31\x01" + b"\0" * 40])
def test_file_that_is_no_image_is_2_and_is_named(world: Any, tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    (folder / "plate.1001.exr").write_bytes(content)

    assert "plate.1001.exr" in fails(world, 2, *adding(folder, "sh020"))


def test_channel_that_the_matte_lacks_is_2_and_names_those_that_it_has(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)

    line = fails(world, 2, *adding(folder, "sh020", channel="layer.hair"))

    assert "layer.hair" in line
    assert "A" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--level", "9"), "1 to 5"),
        (("--pre-roll", "2"), "pre-roll"),
        (("--pre-roll", "-1"), "pre-roll"),
        (("--alias", "Bad Alias"), "name"),
        (("--alias", "alley"), "alias"),
        (("--region", "/nowhere.exr"), "/nowhere.exr"),
    ],
)
def test_bad_option_is_2_and_names_what_is_expected(world: Any, more: tuple[str, ...], words: str) -> None:
    assert words in fails(world, 2, *adding(world.root / "good", "sh020", *more))


def test_unknown_colour_is_2_and_names_those_that_are_known(world: Any) -> None:
    line = fails(world, 2, *adding(world.root / "good", "sh020", colour="ACEScg"))

    assert "scene-linear" in line
    assert "ACEScg" in line


def test_gap_in_the_frames_is_2(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE, frames=3)
    (folder / "plate.1002.exr").unlink()

    assert "1002" in fails(world, 2, *adding(folder, "sh020"))


def test_matte_that_is_missing_is_2(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    (folder / "matte.1002.exr").unlink()

    assert "1002" in fails(world, 2, *adding(folder, "sh020"))


def test_set_that_is_not_there_is_2_and_names_those_that_are(world: Any) -> None:
    arguments = [word if word != "hero" else "nowhere" for word in adding(world.root / "good", "sh020")]

    assert "hero" in fails(world, 2, *arguments)


def test_set_that_is_there_already_is_2(world: Any) -> None:
    assert "1 shots" in fails(world, 2, "golden", "set", "create", "hero")


def test_plate_that_cannot_be_read_is_one_line(world: Any, tmp_path: Path) -> None:
    line = fails(world, 2, *adding(tmp_path / "nowhere", "sh020"))

    assert "nowhere" in line


@pytest.mark.parametrize("damage", ["changed", "gone", "record"])
def test_verify_of_a_truth_that_changed_is_8_and_names_the_file(studio: Any, damage: str) -> None:
    shot = studio.site.golden / "hero" / "sh010" / "1"
    path = shot / "shot.json" if damage == "record" else shot / "matte" / "matte.1002.exr"
    kept = path.read_bytes()
    path.chmod(0o644)
    path.unlink() if damage == "gone" else path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))

    code, out, err = studio.run("golden", "verify", "hero")
    path.unlink(missing_ok=True)
    path.write_bytes(kept)

    assert (code, out.count("\n"), err.count("\n")) == (8, 1, 1)
    assert path.name in out
    assert path.name in err
    studio.ok("golden", "verify", "hero")


def test_warning_goes_to_stderr_and_the_shot_is_added(studio: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    flat = np.ones(SIZE, np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"A": flat}).write(str(folder / "matte.1001.exr"))
    studio.ok("golden", "set", "create", "warned")
    arguments = [word if word != "hero" else "warned" for word in adding(folder, "sh030")]

    code, out, err = studio.run(*arguments)

    assert code == 0
    assert "warned/sh030 version 1" in out
    assert "note: sh030: the matte is the same value everywhere (frame 1001)" in err
