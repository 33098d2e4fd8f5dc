import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_validators.golden.sets import shot_folder
from changeover_validators.golden.shots import NewInput, NewShot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
Write = Callable[..., Path]
Tree = Callable[[Path], dict[str, bytes]]
Whole = Callable[[Path], tuple[GoldenSet, tuple[GoldenShot, ...]]]
Refuse = Callable[[Path, NewShot, str], InvalidInputError]
Warned = Callable[[Path, NewShot], list[str]]
AddOne = Callable[..., GoldenShot]


CG = "ocio://cg-config-v1.0.0_aces-v1.3_ocio-v2.1"


def test_a_second_artists_mattes_are_kept_beside_the_first(site: Path, new: NewShot, seconds: str, add: AddOne) -> None:
    shot = add(site, new, second=seconds, second_channel="R", pre_roll=1)
    assert shot.second_channel == "R"
    assert [frame.second for frame in shot.frames] == [None, *(f"second/second.{n}.exr" for n in range(1002, 1005))]


def test_a_second_artist_may_have_done_some_of_the_frames(
    site: Path, new: NewShot, seconds: str, footage: Path, add: AddOne
) -> None:
    (footage / "second.1001.exr").unlink()
    (footage / "second.1004.exr").unlink()
    shot = add(site, new, second=seconds, second_channel="R")
    assert [frame.second is not None for frame in shot.frames] == [False, True, True, False]


def test_a_second_matte_without_a_plate_or_of_another_size_is_refused(
    site: Path, new: NewShot, seconds: str, footage: Path, write_image: Write, refuse: Refuse
) -> None:
    new = replace(new, second=seconds, second_channel="R")
    write_image(footage / "second.1005.exr", np.ones((9, 16, 1)), ("R",))
    refuse(site, new, "expected a plate for the second matte of frame 1005, found none")
    (footage / "second.1005.exr").unlink()
    write_image(footage / "second.1002.exr", np.ones((9, 15, 1)), ("R",))
    refuse(site, new, r"size: .*second\.1002\.exr, frame 1002: expected 16 x 9")
    refuse(site, replace(new, second=None), "second channel: ab010: expected the second that has it")
    refuse(site, replace(new, region_channel="R"), "region channel: ab010: expected the region that has it")


def test_further_inputs_are_kept_with_port_and_channels(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned, add: AddOne
) -> None:
    for number in range(1001, 1005):
        write_image(footage / f"trimap.{number}.exr", np.full((9, 16, 2), 0.5), ("R", "G"))
    write_image(footage / "first.1001.exr", np.eye(9, 16)[..., None], ("A",))
    inputs = (
        NewInput("trimap", str(footage / "trimap.####.exr"), ("R", "G")),
        NewInput("first-mask", str(footage / "first.1001.exr"), ("A",)),
    )
    shot = add(site, new, inputs=inputs)
    found = [[(one.port, one.file, one.channels) for one in frame.inputs or ()] for frame in shot.frames]
    trimaps = [("trimap", f"input/trimap.{number}.exr", ("R", "G")) for number in range(1001, 1005)]
    assert found == [[trimaps[0], ("first-mask", "input/first-mask.1001.exr", ("A",))], *([one] for one in trimaps[1:])]
    assert warned(site, replace(new, shot="ab020", inputs=inputs))[:-1] == []


def test_inputs_that_have_gaps_or_nan_are_warned_of(
    site: Path, new: NewShot, footage: Path, write_image: Write, warned: Warned
) -> None:
    bad = np.full((9, 16, 1), 0.5)
    bad[0, :3] = np.nan
    for number in (1001, 1002):
        write_image(footage / f"trimap.{number}.exr", bad, ("A",))
    inputs = (NewInput("trimap", str(footage / "trimap.####.exr"), ("A",)),)
    assert warned(site, replace(new, inputs=inputs)) == [
        "a further input holds NaN or infinity, 6 values in all (frame 1001 and 1 more)",
        "the input trimap has no file (frame 1003 and 1 more)",
    ]


def test_inputs_that_cannot_be_are_refused(site: Path, new: NewShot, footage: Path, refuse: Refuse) -> None:
    plate = str(footage / "plate.####.exr")
    refuse(site, replace(new, inputs=(NewInput("Tri Map", plate, ("R",)),)), "name: input")
    refuse(site, replace(new, inputs=(NewInput("trimap", plate, ("A",)),)), "expected channel A, found the channels")
    twice = (NewInput("trimap", plate, ("R",)), NewInput("trimap", plate, ("G",)))
    refuse(site, replace(new, inputs=twice), "inputs: ab010: expected each input once, found trimap, trimap")
    nowhere = (NewInput("trimap", "/no/such.####.exr", ("R",)),)
    refuse(site, replace(new, inputs=nowhere), "frames: /no/such")


def test_gaps_are_refused_unless_they_are_allowed_and_then_recorded(
    site: Path, new: NewShot, footage: Path, refuse: Refuse, warned: Warned, add: AddOne
) -> None:
    (footage / "plate.1003.exr").unlink()
    refuse(site, new, r"frames: .*plate\.####\.exr")
    refuse(site, replace(new, allow_missing=True, pre_roll=3), "pre-roll")
    (footage / "matte.1002.exr").unlink()
    shot = add(site, new, allow_missing=True)
    assert shot.missing == (1003,)
    assert [(frame.number, frame.scored) for frame in shot.frames] == [(1001, True), (1002, False), (1004, True)]
    assert warned(site, replace(new, allow_missing=True)) == [
        "frames are missing from the sequence, as was allowed (frame 1003)",
        "no matte, as was allowed; the frame is fed and not scored (frame 1002)",
    ]
    (footage / "plate.1002.exr").unlink()
    (footage / "plate.1004.exr").unlink()
    assert add(site, new, shot="ab020", allow_missing=True).missing is None


def test_a_built_in_configuration_is_named_and_its_colour_space_is_known(
    site: Path, new: NewShot, refuse: Refuse, add: AddOne
) -> None:
    shot = add(site, new, colour="ACEScg", ocio=CG)
    assert (shot.colour, shot.ocio_config, shot.ocio_config_sha256) == ("ACEScg", CG, None)
    refuse(site, replace(new, colour="ACEScgg", ocio=CG), "ACEScgg")
    refuse(site, replace(new, colour="srgb", ocio=CG), f"colour: ab010: expected a colour space of {CG}, found srgb")
    refuse(site, replace(new, colour="ACEScg"), "colour: ab010: expected one of scene-linear, srgb, raw, or")
    refuse(site, replace(new, colour="", ocio=None), "colour: ab010")


def configuration(folder: Path) -> Path:
    """A studio's configuration, one of whose spaces needs a table that lies beside it."""
    config = ocio.Config.CreateFromFile(CG)
    log = ocio.ColorSpace(name="StudioLog")
    log.setTransform(ocio.FileTransform(src="table.spi1d"), ocio.COLORSPACE_DIR_TO_REFERENCE)
    config.addColorSpace(log)
    config.setSearchPath("luts")
    (folder / "luts").mkdir()
    table = "Version 1\nFrom 0.0 1.0\nLength 2\nComponents 1\n{\n0.0\n2.0\n}\n"
    (folder / "luts" / "table.spi1d").write_text(table, encoding="utf-8")
    path = folder / "studio.ocio"
    path.write_text(config.serialize(), encoding="utf-8")
    return path


def test_a_studios_configuration_is_kept_with_the_shot(site: Path, new: NewShot, tmp_path: Path, add: AddOne) -> None:
    path = configuration(tmp_path)
    shot = add(site, new, colour="ACEScg", ocio=str(path))
    assert (shot.ocio_config, shot.ocio_config_sha256) == ("config.ocio", hashlib.sha256(path.read_bytes()).hexdigest())
    assert (shot_folder(site, shot) / "config.ocio").read_bytes() == path.read_bytes()


def test_a_configuration_that_would_lose_its_tables_is_refused(
    site: Path, new: NewShot, tmp_path: Path, refuse: Refuse, add: AddOne
) -> None:
    path = configuration(tmp_path)
    refuse(site, replace(new, colour="StudioLog", ocio=str(path)), r"studio\.ocio: expected one that holds all .*ocioz")
    packed = tmp_path / "studio.ocioz"
    ocio.Config.CreateFromFile(str(path)).archive(str(packed))
    assert add(site, new, colour="StudioLog", ocio=str(packed)).ocio_config == "config.ocioz"
    refuse(site, replace(new, colour="StudioLog", ocio=str(tmp_path / "gone.ocio")), r"gone\.ocio")


def test_an_object_of_a_cryptomatte_is_a_truth(
    site: Path, data: Path, new: NewShot, refuse: Refuse, add: AddOne
) -> None:
    still = str(data / "exr" / "cryptomatte" / "cornellBox_CryptoWildcard.0001.exr")
    box = replace(new, plate=still, matte=still, matte_channel="uCryptoWildcard", matte_object="sphere_?_2")
    shot = add(site, box)
    assert (shot.matte_object, shot.matte_channel, shot.width) == ("sphere_?_2", "uCryptoWildcard", 960)
    refuse(site, replace(box, matte_object="sphere_3"), "sphere_3")
    bare = refuse(site, replace(box, matte_object=None), r"frame 1.*this is a Cryptomatte layer: add --object NAME")
    assert "sphere_?_2" in bare.actual
