import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry._fs import lock
from changeover_registry.errors import InvalidInputError, LostRaceError, MeasurementError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_validators.golden.sets import load_set, shot_folder
from changeover_validators.golden.shots import NewInput, NewShot, add_shot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
Write = Callable[..., Path]
Tree = Callable[[Path], dict[str, bytes]]
Whole = Callable[[Path], tuple[GoldenSet, tuple[GoldenShot, ...]]]
Refuse = Callable[[Path, NewShot, str], InvalidInputError]
Warned = Callable[[Path, NewShot], list[str]]
AddOne = Callable[..., GoldenShot]


def test_an_added_shot_is_loaded_with_all_that_was_said(site: Path, new: NewShot, footage: Path, whole: Whole) -> None:
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


def test_the_site_keeps_its_own_copy(site: Path, new: NewShot, footage: Path, whole: Whole) -> None:
    add_shot(site, new, now=NOW)
    for path in footage.iterdir():
        path.unlink()
    whole(site)


def test_a_shot_that_is_there_gets_a_new_version_and_the_old_one_stays(site: Path, new: NewShot, tree: Tree) -> None:
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


def test_the_plates_range_holds_for_mattes_second_and_inputs(
    site: Path, new: NewShot, footage: Path, seconds: str
) -> None:
    ranged = replace(new, plate=f"{new.plate} 1002-1003", second=seconds, second_channel="R")
    hint = (NewInput("hint", new.matte, ("A",)),)
    shot = add_shot(site, replace(ranged, inputs=hint), now=NOW).shot
    assert [(frame.number, frame.scored) for frame in shot.frames] == [(1002, True), (1003, True)]
    assert all(frame.second and frame.inputs for frame in shot.frames)


def test_two_stills_are_a_pair_whatever_their_numbers(site: Path, new: NewShot, footage: Path) -> None:
    stills = replace(new, plate=str(footage / "plate.1001.exr"), matte=str(footage / "matte.1004.exr"))
    (frame,) = add_shot(site, stills, now=NOW).shot.frames
    assert (frame.number, frame.scored) == (1001, True)


def test_a_region_is_kept_with_its_digest_and_channel(
    site: Path, new: NewShot, tmp_path: Path, write_image: Write, whole: Whole
) -> None:
    garbage = write_image(tmp_path / "garbage.exr", np.eye(9, 16)[..., None], ("mask.hold",))
    shot = add_shot(site, replace(new, region=garbage, region_channel="mask.hold"), now=NOW).shot
    assert (shot.region, shot.region_channel) == ("region.exr", "mask.hold")
    (shot_folder(site, shot) / "region.exr").write_bytes(b"other")
    with pytest.raises(MeasurementError, match=r"golden files: hair: .* found ab010 version 1: .*region\.exr"):
        whole(site)


def test_plate_and_matte_of_different_sizes_are_refused_with_both(
    site: Path, new: NewShot, footage: Path, write_image: Write, refuse: Refuse
) -> None:
    write_image(footage / "matte.1002.exr", np.ones((9, 15, 1)), ("A",))
    match = r"size: .*matte\.1002\.exr, frame 1002: expected 16 x 9 as the plate, found 15 x 9"
    refuse(site, new, match)


def test_plates_that_change_size_are_refused(
    site: Path, new: NewShot, footage: Path, write_image: Write, refuse: Refuse
) -> None:
    for kind, channels in (("plate", "RGB"), ("matte", "A")):
        write_image(footage / f"{kind}.1003.exr", np.ones((8, 16, len(channels))), tuple(channels))
    refuse(site, new, r"size: .*plate\.1003\.exr, frame 1003: expected 16 x 9 as the plate, found 16 x 8")


@pytest.mark.parametrize("kind", ["plate", "matte"])
def test_a_truncated_frame_is_refused_by_file_and_number(
    site: Path, new: NewShot, footage: Path, kind: str, refuse: Refuse
) -> None:
    path = footage / f"{kind}.1002.exr"
    complete = path.read_bytes()
    path.write_bytes(complete[: len(complete) * 6 // 10])
    error = refuse(site, new, f"image: .*{kind}.1002.exr, frame 1002")
    assert error.where == f"{path}, frame 1002"
    assert "staging" not in str(error)


def test_a_matte_with_nan_is_refused(
    site: Path, new: NewShot, footage: Path, write_image: Write, refuse: Refuse
) -> None:
    bad = np.ones((9, 16, 1))
    bad[2, 3] = np.nan
    bad[4, 5] = np.inf
    write_image(footage / "matte.1001.exr", bad, ("A",))
    refuse(site, new, r"matte\.1001\.exr, frame 1001: .* found 2 pixels of NaN or infinity")


def test_a_missing_matte_and_a_matte_without_plate_are_refused(
    site: Path, new: NewShot, footage: Path, refuse: Refuse
) -> None:
    (footage / "matte.1004.exr").rename(footage / "spare.exr")
    refuse(site, new, "expected a matte for frame 1004, found none")
    (footage / "spare.exr").rename(footage / "matte.1004.exr")
    (footage / "plate.1004.exr").unlink()
    refuse(site, new, "expected a plate for the matte of frame 1004, found none")


def test_a_region_without_a_pixel_or_of_another_size_is_refused(
    site: Path, new: NewShot, tmp_path: Path, write_image: Write, refuse: Refuse
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
def test_what_cannot_be_is_refused(
    site: Path, new: NewShot, change: dict[str, Any], match: str, refuse: Refuse
) -> None:
    refuse(site, replace(new, **change), match)


def test_no_two_shots_of_a_set_share_an_alias(site: Path, new: NewShot, refuse: Refuse) -> None:
    add_shot(site, replace(new, alias="shot-2"), now=NOW)
    refuse(site, replace(new, shot="ab020", alias="shot-2"), "alias: ab020")
    assert add_shot(site, replace(new, shot="ab020"), now=NOW).shot.alias == "shot-3"


def test_a_version_left_by_a_killed_command_is_not_written_over(site: Path, new: NewShot, whole: Whole) -> None:
    left = site / "hair" / "ab010" / "1"
    left.mkdir(parents=True)
    (left / "shot.json").write_bytes(b"left")
    (site / "hair" / "set-2.json").write_bytes(b"left")
    assert add_shot(site, new, now=NOW).shot.version == 2
    assert (left / "shot.json").read_bytes() == b"left"
    assert whole(site)[0].version == 2


def test_two_at_once_both_get_in(site: Path, new: NewShot, whole: Whole) -> None:
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
    pattern = str(data / "exr" / "beachball" / "singlepart.####.exr") + " 3-4"
    shot = add_shot(site, replace(new, plate=pattern, matte=pattern), now=NOW).shot
    assert (shot.width, shot.height, len(shot.frames)) == (2048, 1556, 2)


def test_what_a_killed_command_left_is_removed_and_what_another_one_stages_is_not(site: Path, new: NewShot) -> None:
    left, held = site / "hair" / ".staging-left", site / "hair" / ".staging-held"
    for folder in (left, held):
        (folder / "shot").mkdir(parents=True)
        (folder / "lock").touch()
    with lock(held / "lock", what="adding a golden shot"):
        add_shot(site, new, now=NOW)
    assert [path.name for path in (site / "hair").glob(".staging-*")] == [".staging-held"]
