import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation
import pytest

from changeover_registry._fs import lock
from changeover_registry.errors import InvalidInputError, LostRaceError, MeasurementError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_validators.golden.history import current_refs
from changeover_validators.golden.kept import check_undamaged, kept_files, verify_shots
from changeover_validators.golden.sets import create_set, load_set, shot_folder
from changeover_validators.golden.shots import NewInput, NewShot, add_shot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
Write = Callable[..., Path]


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


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(site: Path) -> tuple[GoldenSet, tuple[GoldenShot, ...]]:
    """The set as it is loaded, every file of which was hashed again."""
    golden_set, found = load_set(site, "hair")
    check_undamaged("hair", verify_shots(site, "hair", current_refs(golden_set)).damage)
    return golden_set, found


def test_an_added_shot_is_loaded_with_all_that_was_said(site: Path, new: NewShot, footage: Path) -> None:
    steps: list[tuple[int, int]] = []
    added = add_shot(site, new, now=NOW, progress=lambda done, of: steps.append((done, of)))
    golden_set, (shot,) = whole(site)
    assert (golden_set, shot) == (added.set, added.shot)
    assert golden_set.version == 2
    assert (shot.width, shot.height, shot.alias, shot.version) == (16, 9, "shot-1", 1)
    assert (shot.colour, shot.matte_channel, shot.level, shot.added_by) == ("scene-linear", "A", 3, "ana")
    assert (shot.added_at, shot.pixel_aspect) == ("2026-11-22T13:45:00Z", "1.000000")
    assert [frame.number for frame in shot.frames] == [1001, 1002, 1003, 1004]
    assert all(frame.scored for frame in shot.frames)
    folder = shot_folder(site, shot)
    for frame in shot.frames:
        assert frame.matte is not None
        assert (folder / frame.plate).read_bytes() == (footage / f"plate.{frame.number}.exr").read_bytes()
        assert (folder / frame.matte).read_bytes() == (footage / f"matte.{frame.number}.exr").read_bytes()
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert added.warnings == ()
    assert not list((site / "hair").glob(".staging-*"))


def test_the_site_keeps_its_own_copy(site: Path, new: NewShot, footage: Path) -> None:
    add_shot(site, new, now=NOW)
    for path in footage.iterdir():
        path.unlink()
    whole(site)


def test_a_shot_that_is_there_gets_a_new_version_and_the_old_one_stays(site: Path, new: NewShot) -> None:
    first = add_shot(site, replace(new, alias="fox"), now=NOW)
    add_shot(site, replace(new, shot="ab020"), now=NOW)
    before = tree(shot_folder(site, first.shot))
    second = add_shot(site, replace(new, level=5), now=NOW)
    assert (second.shot.version, second.shot.level, second.shot.alias) == (2, 5, "fox")
    assert [(ref.shot, ref.version) for ref in second.set.shots] == [("ab010", 2), ("ab020", 1)]
    assert tree(shot_folder(site, first.shot)) == before
    assert json.loads((site / "hair" / "set-2.json").read_bytes())["shots"][0]["version"] == 1


def test_pre_roll_frames_need_no_matte_and_are_not_scored(site: Path, new: NewShot, footage: Path) -> None:
    (footage / "matte.1001.exr").unlink()
    shot = add_shot(site, replace(new, pre_roll=2), now=NOW).shot
    assert [(frame.scored, frame.matte is None) for frame in shot.frames] == [(False, True)] * 2 + [(True, False)] * 2


def test_two_stills_are_a_pair_whatever_their_numbers(site: Path, new: NewShot, footage: Path) -> None:
    stills = replace(new, plate=str(footage / "plate.1001.exr"), matte=str(footage / "matte.1004.exr"))
    (frame,) = add_shot(site, stills, now=NOW).shot.frames
    assert (frame.number, frame.scored) == (1001, True)


def test_a_region_is_kept_with_its_digest_and_channel(
    site: Path, new: NewShot, tmp_path: Path, write_image: Write
) -> None:
    garbage = write_image(tmp_path / "garbage.exr", np.eye(9, 16)[..., None], ("mask.hold",))
    shot = add_shot(site, replace(new, region=garbage, region_channel="mask.hold"), now=NOW).shot
    assert (shot.region, shot.region_channel) == ("region.exr", "mask.hold")
    (shot_folder(site, shot) / "region.exr").write_bytes(b"other")
    with pytest.raises(MeasurementError, match=r"golden files: hair: .* found ab010 version 1: .*region\.exr"):
        whole(site)


def refuse(site: Path, new: NewShot, match: str) -> InvalidInputError:
    """Adding `new` is refused, and changes nothing on disk."""
    before = tree(site)
    with pytest.raises(InvalidInputError, match=match) as caught:
        add_shot(site, new, now=NOW)
    assert tree(site) == {**before, **{name: data for name, data in tree(site).items() if name.endswith(".lock")}}
    assert not list((site / "hair").glob(".staging-*"))
    assert caught.value.exit_code == 2
    return caught.value


def test_plate_and_matte_of_different_sizes_are_refused_with_both(
    site: Path, new: NewShot, footage: Path, write_image: Write
) -> None:
    write_image(footage / "matte.1002.exr", np.ones((9, 15, 1)), ("A",))
    match = r"size: .*matte\.1002\.exr, frame 1002: expected 16 x 9 as the plate, found 15 x 9"
    refuse(site, new, match)


def test_plates_that_change_size_are_refused(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
    for kind, channels in (("plate", "RGB"), ("matte", "A")):
        write_image(footage / f"{kind}.1003.exr", np.ones((8, 16, len(channels))), tuple(channels))
    refuse(site, new, r"size: .*plate\.1003\.exr, frame 1003: expected 16 x 9 as the plate, found 16 x 8")


@pytest.mark.parametrize("kind", ["plate", "matte"])
def test_a_truncated_frame_is_refused_by_file_and_number(site: Path, new: NewShot, footage: Path, kind: str) -> None:
    path = footage / f"{kind}.1002.exr"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    error = refuse(site, new, f"image: .*{kind}.1002.exr, frame 1002")
    assert error.where == f"{path}, frame 1002"
    assert "staging" not in str(error)


def test_a_matte_with_nan_is_refused(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
    bad = np.ones((9, 16, 1))
    bad[2, 3] = np.nan
    bad[4, 5] = np.inf
    write_image(footage / "matte.1001.exr", bad, ("A",))
    refuse(site, new, r"matte\.1001\.exr, frame 1001: .* found 2 pixels of NaN or infinity")


def test_a_missing_matte_and_a_matte_without_plate_are_refused(site: Path, new: NewShot, footage: Path) -> None:
    (footage / "matte.1004.exr").rename(footage / "spare.exr")
    refuse(site, new, "expected a matte for frame 1004, found none")
    (footage / "spare.exr").rename(footage / "matte.1004.exr")
    (footage / "plate.1004.exr").unlink()
    refuse(site, new, "expected a plate for the matte of frame 1004, found none")


def test_a_region_without_a_pixel_or_of_another_size_is_refused(
    site: Path, new: NewShot, tmp_path: Path, write_image: Write
) -> None:
    empty = write_image(tmp_path / "empty.exr", np.zeros((9, 16, 1)), ("A",))
    refuse(site, replace(new, region=empty), r"region: .*empty\.exr: expected at least one pixel")
    small = write_image(tmp_path / "small.exr", np.ones((9, 9, 1)), ("A",))
    refuse(site, replace(new, region=small), r"size: .*small\.exr: expected 16 x 9 as the plate, found 9 x 9")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shot": "AB/010"}, "name: golden shot"),
        ({"alias": "The Fox"}, "name: alias"),
        ({"level": 6}, "level: ab010: expected 1 to 5, found 6"),
        ({"colour": "acescg"}, "colour: ab010: expected one of scene-linear, srgb, raw, or .* found 'acescg'"),
        ({"matte_channel": "R"}, "expected channel R, found the channels A"),
        ({"pre_roll": 4}, "pre-roll: .*expected 0 to 3 frames before the first scored, found 4"),
        ({"plate": "/no/such/plate.####.exr"}, "frames: /no/such"),
    ],
)
def test_what_cannot_be_is_refused(site: Path, new: NewShot, change: dict[str, Any], match: str) -> None:
    refuse(site, replace(new, **change), match)


def test_no_two_shots_of_a_set_share_an_alias(site: Path, new: NewShot) -> None:
    add_shot(site, replace(new, alias="shot-2"), now=NOW)
    refuse(site, replace(new, shot="ab020", alias="shot-2"), "alias: ab020")
    assert add_shot(site, replace(new, shot="ab020"), now=NOW).shot.alias == "shot-3"


def warned(site: Path, new: NewShot) -> list[str]:
    return [str(warning) for warning in add_shot(site, new, now=NOW).warnings]


def test_odd_values_are_allowed_and_warned_of(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
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


def test_repeated_frames_and_shots_are_warned_of(site: Path, new: NewShot, footage: Path) -> None:
    (footage / "plate.1003.exr").write_bytes((footage / "plate.1001.exr").read_bytes())
    assert warned(site, new) == ["the plate is the same file as an earlier frame's (frame 1003)"]
    assert warned(site, replace(new, shot="ab020"))[-1] == "the plates and mattes are those of shot ab010"
    assert "the plates and mattes are those of shot ab010" not in warned(site, new)


def test_a_truth_stored_with_loss_is_warned_of(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
    lossy = np.random.default_rng(0).random((9, 16, 1))
    write_image(footage / "matte.1002.exr", lossy, ("A",), attributes={"compression": "b44a"})
    what = "the matte was stored with loss (DWA, B44, PXR24 or JPEG): write it with ZIP (frame 1002)"
    assert warned(site, new) == [what]


def test_a_version_left_by_a_killed_command_is_not_written_over(site: Path, new: NewShot) -> None:
    left = site / "hair" / "ab010" / "1"
    left.mkdir(parents=True)
    (left / "shot.json").write_bytes(b"left")
    (site / "hair" / "set-2.json").write_bytes(b"left")
    assert add_shot(site, new, now=NOW).shot.version == 2
    assert (left / "shot.json").read_bytes() == b"left"
    assert whole(site)[0].version == 2


def test_two_at_once_both_get_in(site: Path, new: NewShot) -> None:
    names = [f"ab{number}" for number in range(6)]
    threads = [threading.Thread(target=lambda n=name: add_shot(site, replace(new, shot=n), now=NOW)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    golden_set, found = whole(site)
    assert golden_set.version == 7
    assert sorted(shot.shot for shot in found) == names
    assert len({shot.alias for shot in found}) == 6


def test_a_set_that_somebody_else_is_changing_is_left_alone(site: Path, new: NewShot) -> None:
    held = lock(site / "hair" / ".lock", what="the golden set hair")
    with held, pytest.raises(LostRaceError, match="golden set hair"):
        add_shot(site, new, now=NOW, wait_seconds=0.05)
    assert load_set(site, "hair")[0].version == 1
    assert not list((site / "hair").glob(".staging-*"))


def test_a_real_photograph_and_its_alpha_are_a_shot(site: Path, data: Path, new: NewShot) -> None:
    lemur = replace(
        new,
        plate=str(data / "plates" / "lemur" / "lemur.png"),
        matte=str(data / "plates" / "lemur" / "lemur_alpha.png"),
        matte_channel="Y",
        colour="srgb",
    )
    added = add_shot(site, lemur, now=NOW)
    assert (added.shot.width, added.shot.height, added.warnings) == (680, 440, ())


def test_a_real_sequence_with_a_small_data_window_is_a_shot_of_its_display_window(
    site: Path, data: Path, new: NewShot
) -> None:
    pattern = str(data / "exr" / "beachball" / "singlepart.####.exr")
    shot = add_shot(site, replace(new, plate=pattern, matte=pattern), now=NOW).shot
    assert (shot.width, shot.height, len(shot.frames)) == (2048, 1556, 8)


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


def test_a_second_artists_mattes_are_kept_beside_the_first(site: Path, new: NewShot, seconds: str) -> None:
    shot = add(site, new, second=seconds, second_channel="R", pre_roll=1)
    assert shot.second_channel == "R"
    assert [frame.second for frame in shot.frames] == [None, *(f"second/second.{n}.exr" for n in range(1002, 1005))]


def test_a_second_artist_may_have_done_some_of_the_frames(
    site: Path, new: NewShot, seconds: str, footage: Path
) -> None:
    (footage / "second.1001.exr").unlink()
    (footage / "second.1004.exr").unlink()
    shot = add(site, new, second=seconds, second_channel="R")
    assert [frame.second is not None for frame in shot.frames] == [False, True, True, False]


def test_a_second_matte_without_a_plate_or_of_another_size_is_refused(
    site: Path, new: NewShot, seconds: str, footage: Path, write_image: Write
) -> None:
    new = replace(new, second=seconds, second_channel="R")
    write_image(footage / "second.1005.exr", np.ones((9, 16, 1)), ("R",))
    refuse(site, new, "expected a plate for the second matte of frame 1005, found none")
    (footage / "second.1005.exr").unlink()
    write_image(footage / "second.1002.exr", np.ones((9, 15, 1)), ("R",))
    refuse(site, new, r"size: .*second\.1002\.exr, frame 1002: expected 16 x 9")
    refuse(site, replace(new, second=None), "second channel: ab010: expected the second that has it")
    refuse(site, replace(new, region_channel="R"), "region channel: ab010: expected the region that has it")


def test_a_second_artist_who_is_the_first_is_warned_of(
    site: Path, new: NewShot, seconds: str, footage: Path, write_image: Write
) -> None:
    for number in (1001, 1002):
        (footage / f"second.{number}.exr").write_bytes((footage / f"matte.{number}.exr").read_bytes())
    for number in (1003, 1004):
        write_image(footage / f"second.{number}.exr", np.zeros((9, 16, 1)), ("A",))
    assert warned(site, replace(new, second=seconds)) == [
        "the second artist's matte is the first artist's file (frame 1001 and 1 more)",
        "the second artist's matte is the same value everywhere, and the first artist's is not (frame 1003 and 1 more)",
    ]


def test_further_inputs_are_kept_with_port_and_channels(
    site: Path, new: NewShot, footage: Path, write_image: Write
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
    site: Path, new: NewShot, footage: Path, write_image: Write
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


def test_inputs_that_cannot_be_are_refused(site: Path, new: NewShot, footage: Path) -> None:
    plate = str(footage / "plate.####.exr")
    refuse(site, replace(new, inputs=(NewInput("Tri Map", plate, ("R",)),)), "name: input")
    refuse(site, replace(new, inputs=(NewInput("trimap", plate, ("A",)),)), "expected channel A, found the channels")
    twice = (NewInput("trimap", plate, ("R",)), NewInput("trimap", plate, ("G",)))
    refuse(site, replace(new, inputs=twice), "inputs: ab010: expected each input once, found trimap, trimap")
    nowhere = (NewInput("trimap", "/no/such.####.exr", ("R",)),)
    refuse(site, replace(new, inputs=nowhere), "frames: /no/such")


def test_gaps_are_refused_unless_they_are_allowed_and_then_recorded(site: Path, new: NewShot, footage: Path) -> None:
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


CG = "ocio://cg-config-v1.0.0_aces-v1.3_ocio-v2.1"


def test_a_built_in_configuration_is_named_and_its_colour_space_is_known(site: Path, new: NewShot) -> None:
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


def test_a_studios_configuration_is_kept_with_the_shot(site: Path, new: NewShot, tmp_path: Path) -> None:
    path = configuration(tmp_path)
    shot = add(site, new, colour="ACEScg", ocio=str(path))
    assert (shot.ocio_config, shot.ocio_config_sha256) == ("config.ocio", hashlib.sha256(path.read_bytes()).hexdigest())
    assert (shot_folder(site, shot) / "config.ocio").read_bytes() == path.read_bytes()


def test_a_configuration_that_would_lose_its_tables_is_refused(site: Path, new: NewShot, tmp_path: Path) -> None:
    path = configuration(tmp_path)
    refuse(site, replace(new, colour="StudioLog", ocio=str(path)), r"studio\.ocio: expected one that holds all .*ocioz")
    packed = tmp_path / "studio.ocioz"
    ocio.Config.CreateFromFile(str(path)).archive(str(packed))
    assert add(site, new, colour="StudioLog", ocio=str(packed)).ocio_config == "config.ocioz"
    refuse(site, replace(new, colour="StudioLog", ocio=str(tmp_path / "gone.ocio")), r"gone\.ocio")


def test_an_object_of_a_cryptomatte_is_a_truth(site: Path, data: Path, new: NewShot) -> None:
    still = str(data / "exr" / "cryptomatte" / "cornellBox_CryptoWildcard.0001.exr")
    box = replace(new, plate=still, matte=still, matte_channel="uCryptoWildcard", matte_object="sphere_?_2")
    shot = add(site, box)
    assert (shot.matte_object, shot.matte_channel, shot.width) == ("sphere_?_2", "uCryptoWildcard", 960)
    refuse(site, replace(box, matte_object="sphere_3"), "sphere_3")


def test_a_matte_that_is_the_plate_is_warned_of_and_its_alpha_is_not(
    site: Path, new: NewShot, footage: Path, write_image: Write
) -> None:
    for number in range(1001, 1005):
        pixels = np.random.default_rng(number).random((9, 16, 4))
        write_image(footage / f"plate.{number}.exr", pixels, ("R", "G", "B", "A"))
    same = replace(new, matte=new.plate)
    assert warned(site, replace(same, matte_channel="R")) == [
        "the matte is the plate itself, not a matte of it (frame 1001 and 3 more)"
    ]
    assert warned(site, same) == []


def test_a_matte_that_is_held_is_warned_of_and_a_held_frame_is_not(site: Path, new: NewShot, footage: Path) -> None:
    (footage / "matte.1002.exr").write_bytes((footage / "matte.1001.exr").read_bytes())
    assert warned(site, new) == ["the matte is the same file as an earlier frame's, and the plate is not (frame 1002)"]
    (footage / "plate.1002.exr").write_bytes((footage / "plate.1001.exr").read_bytes())
    assert warned(site, new) == ["the plate is the same file as an earlier frame's (frame 1002)"]


def test_a_region_that_hides_the_whole_edge_is_warned_of(
    site: Path, new: NewShot, footage: Path, tmp_path: Path, write_image: Write
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
    site: Path, new: NewShot, footage: Path, write_image: Write, colour: str, suffix: str, said: str
) -> None:
    path = footage / f"still.{suffix}"
    if suffix != "exr":
        kind = "uint8" if suffix == "png" else "uint10"
        write_image(path, np.random.default_rng(3).random((9, 16, 3)).astype(np.float32), ("R", "G", "B"), kind=kind)
    plate = str(path if suffix != "exr" else footage / "plate.1001.exr")
    found = warned(site, replace(new, plate=plate, matte=str(footage / "matte.1001.exr"), colour=colour))
    assert [one for one in found if one.startswith("colour")] == found
    assert (len(found), "".join(found)[: len(said)]) == (bool(said), said)


def test_srgb_values_beyond_white_are_warned_of(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
    bright = np.random.default_rng(0).random((9, 16, 3))
    bright[0, 0] = 4
    write_image(footage / "plate.1002.exr", bright, ("R", "G", "B"))
    assert "the plate holds values outside 0 to 1, which sRGB has not (frame 1002)" in warned(
        site, replace(new, colour="srgb")
    )
    assert warned(site, new) == []


def test_pixels_that_are_not_square_are_warned_of(site: Path, new: NewShot, footage: Path, write_image: Write) -> None:
    for number in range(1001, 1005):
        random = np.random.default_rng(number)
        plate, matte = random.random((9, 16, 3)), random.random((9, 16, 1))
        squeezed = {"PixelAspectRatio": 2.0}
        write_image(footage / f"plate.{number}.exr", plate, ("R", "G", "B"), attributes=squeezed)
        write_image(footage / f"matte.{number}.exr", matte, ("A",), attributes=squeezed)
    (said,) = warned(site, new)
    assert said.startswith("the pixel aspect is 2: state in the contract (pixel_aspect)")
    assert whole(site)[1][0].pixel_aspect == "2.000000"


def test_what_a_killed_command_left_is_removed_and_what_another_one_stages_is_not(site: Path, new: NewShot) -> None:
    left, held = site / "hair" / ".staging-left", site / "hair" / ".staging-held"
    for folder in (left, held):
        (folder / "shot").mkdir(parents=True)
        (folder / "lock").touch()
    with lock(held / "lock", what="adding a golden shot"):
        add_shot(site, new, now=NOW)
    assert [path.name for path in (site / "hair").glob(".staging-*")] == [".staging-held"]
