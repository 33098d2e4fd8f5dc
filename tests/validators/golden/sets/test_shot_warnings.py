from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_validators.golden.shots import NewShot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
Write = Callable[..., Path]
Tree = Callable[[Path], dict[str, bytes]]
Whole = Callable[[Path], tuple[GoldenSet, tuple[GoldenShot, ...]]]
Refuse = Callable[[Path, NewShot, str], InvalidInputError]
Warned = Callable[[Path, NewShot], list[str]]
AddOne = Callable[..., GoldenShot]


def test_odd_values_are_allowed_and_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned
) -> None:
    write_image(footage / "matte.1001.exr", np.linspace(-0.1, 1, 144).reshape(9, 16, 1), ("A",))
    write_image(footage / "matte.1002.exr", np.linspace(0, 1.1, 144).reshape(9, 16, 1), ("A",))
    write_image(footage / "matte.1003.exr", np.zeros((9, 16, 1)), ("A",))
    write_image(footage / "plate.1003.exr", np.ones((9, 16, 3)), ("R", "G", "B"))
    bad = np.random.default_rng(0).random((9, 16, 3))
    bad[1, 1] = np.nan
    write_image(footage / "plate.1004.exr", bad, ("R", "G", "B"))
    assert warned(site, new) == [
        "matte values outside 0 to 1, which scoring cuts (frame 1001 and 1 more)",
        "the matte is the same value everywhere (frame 1003)",
        "the plate is the same value everywhere (frame 1003)",
        "the plate holds NaN or infinity, 3 values in all; a contract says what becomes of them (frame 1004)",
    ]


def test_repeated_frames_and_shots_are_warned_of(site: Path, new: NewShot, footage: Path, warned: Warned) -> None:
    (footage / "plate.1003.exr").write_bytes((footage / "plate.1001.exr").read_bytes())
    assert warned(site, new) == ["the plate is the same file as an earlier frame's (frame 1003)"]
    assert warned(site, replace(new, shot="ab020"))[-1] == "the plates and mattes are those of shot ab010"
    assert "the plates and mattes are those of shot ab010" not in warned(site, new)


def test_a_shot_that_was_cut_by_a_frame_and_added_again_is_seen(site: Path, new: NewShot, warned: Warned) -> None:
    warned(site, new)
    cut = replace(new, shot="ab020", plate=f"{new.plate} 1001-1003", matte=f"{new.matte} 1001-1003")
    assert "the 3 of 3 plates and 3 of 3 mattes are those of shot ab010" in warned(site, cut)
    assert "the 3 of 4 plates and 3 of 4 mattes are those of shot ab020" in warned(site, new)


def test_a_truth_stored_with_loss_is_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned
) -> None:
    lossy = np.random.default_rng(0).random((9, 16, 1))
    write_image(footage / "matte.1002.exr", lossy, ("A",), attributes={"compression": "b44a"})
    what = "the matte was stored with loss (DWA, B44, PXR24 or JPEG): write it with ZIP (frame 1002)"
    assert warned(site, new) == [what]


def test_a_second_artist_who_is_the_first_is_warned_of(
    site: Path, new: NewShot, seconds: str, footage: Path, write_image: Write, warned: Warned
) -> None:
    for number in (1001, 1002):
        (footage / f"second.{number}.exr").write_bytes((footage / f"matte.{number}.exr").read_bytes())
    for number in (1003, 1004):
        write_image(footage / f"second.{number}.exr", np.zeros((9, 16, 1)), ("A",))
    assert warned(site, replace(new, second=seconds)) == [
        "the second artist's matte is the first artist's file (frame 1001 and 1 more)",
        "the second artist's matte is the same value everywhere, and the first artist's is not (frame 1003 and 1 more)",
    ]


def test_a_matte_that_is_the_plate_is_warned_of_and_its_alpha_is_not(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned
) -> None:
    for number in range(1001, 1005):
        pixels = np.random.default_rng(number).random((9, 16, 4))
        write_image(footage / f"plate.{number}.exr", pixels, ("R", "G", "B", "A"))
    same = replace(new, matte=new.plate)
    assert warned(site, replace(same, matte_channel="R")) == [
        "the matte is the plate itself, not a matte of it (frame 1001 and 3 more)"
    ]
    assert warned(site, same) == []


def test_a_matte_that_is_held_is_warned_of_and_a_held_frame_is_not(
    site: Path, new: NewShot, footage: Path, warned: Warned
) -> None:
    (footage / "matte.1002.exr").write_bytes((footage / "matte.1001.exr").read_bytes())
    assert warned(site, new) == ["the matte is the same file as an earlier frame's, and the plate is not (frame 1002)"]
    (footage / "plate.1002.exr").write_bytes((footage / "plate.1001.exr").read_bytes())
    assert warned(site, new) == ["the plate is the same file as an earlier frame's (frame 1002)"]


def test_a_region_that_hides_the_whole_edge_is_warned_of(
    site: Path, new: NewShot, footage: Path, tmp_path: Path, write_image: Write, warned: Warned
) -> None:
    box = np.zeros((9, 16, 1))
    box[2:5, 2:5] = 1
    for number in range(1001, 1005):
        write_image(footage / f"matte.{number}.exr", np.roll(box, number - 1001, axis=1), ("A",))
    corner = np.zeros((9, 16, 1))
    corner[8, :8] = 1
    away = replace(new, region=write_image(tmp_path / "away.exr", corner, ("A",)))
    assert warned(site, away) == [
        "the region hides the matte's whole edge, so F and the band metrics see nothing (frame 1001 and 3 more)"
    ]
    corner[3, 4] = 1
    touching = replace(new, region=write_image(tmp_path / "touching.exr", corner, ("A",)))
    assert [one for one in warned(site, touching) if "1001" in one] == []
    write_image(footage / "matte.1001.exr", np.zeros((9, 16, 1)), ("A",))
    assert "the matte is the same value everywhere (frame 1001)" in warned(site, away)


@pytest.mark.parametrize(
    ("colour", "suffix", "said"),
    [
        ("raw", "exr", "colour raw: no curve is applied"),
        ("srgb", "exr", "colour srgb, and the plates are OpenEXR, which is scene-linear as a rule"),
        ("scene-linear", "png", "colour scene-linear, and the plates are PNG or JPEG, which is sRGB as a rule"),
        ("srgb", "dpx", "colour srgb, and the plates are DPX, which is a camera's log as a rule"),
        ("scene-linear", "dpx", "colour scene-linear, and the plates are DPX, which is a camera's log as a rule"),
        ("scene-linear", "exr", ""),
        ("srgb", "png", ""),
    ],
)
def test_a_colour_that_a_format_seldom_has_is_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, colour: str, suffix: str, said: str, warned: Warned
) -> None:
    path = footage / f"still.{suffix}"
    if suffix != "exr":
        kind = "uint8" if suffix == "png" else "uint10"
        write_image(path, np.random.default_rng(3).random((9, 16, 3)).astype(np.float32), ("R", "G", "B"), kind=kind)
    plate = str(path if suffix != "exr" else footage / "plate.1001.exr")
    found = warned(site, replace(new, plate=plate, matte=str(footage / "matte.1001.exr"), colour=colour))
    assert [one for one in found if one.startswith("colour")] == found
    assert (len(found), "".join(found)[: len(said)]) == (bool(said), said)


def test_srgb_values_beyond_white_are_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned
) -> None:
    bright = np.random.default_rng(0).random((9, 16, 3))
    bright[0, 0] = 4
    write_image(footage / "plate.1002.exr", bright, ("R", "G", "B"))
    assert "the plate holds values outside 0 to 1, which sRGB has not (frame 1002)" in warned(
        site, replace(new, colour="srgb")
    )
    assert warned(site, new) == []


def test_pixels_that_are_not_square_are_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, whole: Whole, warned: Warned
) -> None:
    for number in range(1001, 1005):
        random = np.random.default_rng(number)
        plate, matte = random.random((9, 16, 3)), random.random((9, 16, 1))
        squeezed = {"PixelAspectRatio": 2.0}
        write_image(footage / f"plate.{number}.exr", plate, ("R", "G", "B"), attributes=squeezed)
        write_image(footage / f"matte.{number}.exr", matte, ("A",), attributes=squeezed)
    (said,) = warned(site, new)
    assert said.startswith("the pixel aspect is 2: state in the contract (pixel_aspect)")
    assert whole(site)[1][0].pixel_aspect == "2.000000"


@pytest.mark.parametrize(
    ("name", "channel", "attributes", "lossy"),
    [
        ("still.exr", "Y", {"compression": "dwaa"}, True),
        ("still.exr", "R", {"compression": "dwab"}, True),
        ("still.exr", "A", {"compression": "dwaa"}, False),
        ("still.exr", "A", {"compression": "b44"}, True),
        ("still.exr", "A", {"compression": "zip"}, False),
        ("still.exr", "R", {"compression": "piz"}, False),
        ("still.jpg", "Y", {"Compression": "jpeg:80"}, True),
        ("still.png", "Y", {}, False),
    ],
    ids=str,
)
def test_every_way_to_store_a_truth_with_loss_is_warned_of(
    site: Path,
    new: NewShot,
    footage: Path,
    write_image: Write,
    warned: Warned,
    name: str,
    channel: str,
    attributes: dict[str, str],
    lossy: bool,
) -> None:
    pixels = np.random.default_rng(3).random((9, 16, 1)).astype(np.float32)
    kind = "half" if name.endswith("exr") else "uint8"
    matte = write_image(footage / name, pixels, (channel,), kind=kind, attributes=attributes)
    plate = str(footage / "plate.1001.exr")
    found = warned(site, replace(new, plate=plate, matte=str(matte), matte_channel=channel))
    assert found == ["the matte was stored with loss (DWA, B44, PXR24 or JPEG): write it with ZIP (frame 1001)"] * lossy
