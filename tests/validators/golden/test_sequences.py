from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.sequences import find_frames, missing_numbers, range_of


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.parametrize("pattern", ["plate.####.exr", "plate.%04d.exr", "plate.%d.exr", "."])
def test_every_spelling_of_a_sequence_gives_its_frames_by_number(touch: Callable[..., Path], pattern: str) -> None:
    folder = touch("plate.1002.exr", "plate.1001.exr", "plate.1000.exr", "notes.txt", ".plate.1003.exr")
    frames = find_frames(str(folder / pattern))
    assert [(frame.number, frame.path.name) for frame in frames] == [
        (1000, "plate.1000.exr"),
        (1001, "plate.1001.exr"),
        (1002, "plate.1002.exr"),
    ]


def test_numbers_grow_past_their_padding_and_below_zero(touch: Callable[..., Path]) -> None:
    folder = touch("a.98.exr", "a.99.exr", "a.100.exr")
    assert [frame.number for frame in find_frames(str(folder / "a.##.exr"))] == [98, 99, 100]
    folder = touch("b.-01.exr", "b.00.exr")
    assert [frame.number for frame in find_frames(str(folder / "b.##.exr"))] == [-1, 0]


def test_one_file_is_a_still_with_its_number(touch: Callable[..., Path]) -> None:
    folder = touch("v2_plate.1001.exr", "lemur.png")
    assert [frame.number for frame in find_frames(str(folder / "v2_plate.1001.exr"))] == [1001]
    assert [frame.number for frame in find_frames(str(folder / "lemur.png"))] == [1]


def test_a_gap_is_refused_with_the_missing_numbers(touch: Callable[..., Path]) -> None:
    folder = touch("p.1.exr", "p.2.exr", "p.5.exr", "p.20.exr")
    with pytest.raises(InvalidInputError, match=r"every frame from 1 to 20, found no frame 3, 4, 6, 7, 8 and 11 more"):
        find_frames(str(folder / "p.%d.exr"))


def test_a_number_that_occurs_twice_is_refused(touch: Callable[..., Path]) -> None:
    folder = touch("p.1.exr", "p.01.exr")
    with pytest.raises(InvalidInputError, match="each frame number once, found frame 1 twice"):
        find_frames(str(folder / "p.%d.exr"))


def test_a_folder_of_several_sequences_is_refused_with_their_names(touch: Callable[..., Path]) -> None:
    folder = touch("plate.1.exr", "matte.1.exr", "still.exr")
    with pytest.raises(InvalidInputError, match=r"3 sequences \(matte\.#\.exr, plate\.#\.exr, still\.exr\)"):
        find_frames(str(folder))


@pytest.mark.parametrize("pattern", ["nothing.####.exr", "nothing.exr", "no/such/folder/p.####.exr", "empty"])
def test_what_fits_no_file_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="found no"):
        find_frames(str(tmp_path / pattern))


def test_a_range_takes_these_frames_and_leaves_handles_behind(touch: Callable[..., Path]) -> None:
    folder = touch(*(f"p.{number}.exr" for number in range(1001, 1011)))
    for pattern in ("p.####.exr 1004-1007", "p.%04d.exr 1004-1007", "p.####.exr\t1004-1007"):
        assert [frame.number for frame in find_frames(str(folder / pattern))] == [1004, 1005, 1006, 1007]
    assert [frame.number for frame in find_frames(f"{folder} 1010-1010")] == [1010]


@pytest.mark.parametrize(
    ("text", "found"),
    [("1009-1012", "no frame 1011, 1012"), ("1020-1030", "no file"), ("5-1", "5-1"), ("0-9999999999", "0-9999999999")],
)
def test_a_range_is_whole_and_runs_forward(touch: Callable[..., Path], text: str, found: str) -> None:
    folder = touch(*(f"p.{number}.exr" for number in range(1001, 1011)))
    with pytest.raises(InvalidInputError, match=f"found {found}"):
        find_frames(f"{folder / 'p.####.exr'} {text}")


def test_negative_numbers_have_ranges_too(touch: Callable[..., Path]) -> None:
    folder = touch("p.-2.exr", "p.-1.exr", "p.0.exr", "p.1.exr")
    assert [frame.number for frame in find_frames(str(folder / "p.%d.exr -1-0"))] == [-1, 0]


def test_a_file_whose_name_ends_like_a_range_is_itself(touch: Callable[..., Path]) -> None:
    folder = touch("plate 1-2")
    assert [frame.path.name for frame in find_frames(str(folder / "plate 1-2"))] == ["plate 1-2"]


def test_gaps_that_are_allowed_are_told_and_never_closed_up(touch: Callable[..., Path]) -> None:
    folder = touch("p.1.exr", "p.2.exr", "p.5.exr")
    frames = find_frames(str(folder / "p.%d.exr"), allow_missing=True)
    assert [frame.number for frame in frames] == [1, 2, 5]
    assert missing_numbers(frames) == (3, 4)
    assert missing_numbers(frames[:2]) == ()


def test_numbers_that_lie_too_far_apart_for_a_shot_are_refused(touch: Callable[..., Path]) -> None:
    folder = touch("p.1.exr", "p.20251122.exr")
    with pytest.raises(InvalidInputError, match="found frames 1 and 20251122"):
        find_frames(str(folder / "p.%d.exr"), allow_missing=True)


def test_files_that_go_with_a_range_and_name_none_take_it_too(touch: Callable[..., Path]) -> None:
    folder = touch(*(f"m.{number}.exr" for number in range(1001, 1011)), "still.exr")
    wanted = range_of("plate.####.exr 1004-1006")
    assert wanted == range(1004, 1007)
    assert range_of("plate.####.exr") is None

    def numbers(pattern: str) -> list[int]:
        return [frame.number for frame in find_frames(str(folder / pattern), within=wanted)]

    assert numbers("m.####.exr") == [1004, 1005, 1006]
    assert numbers("m.####.exr 1005-1005") == [1005]
    assert numbers("still.exr") == [1]


def test_a_gap_inside_the_plates_range_is_refused_and_frames_at_its_ends_may_lack_a_file(
    touch: Callable[..., Path],
) -> None:
    folder = touch("m.3.exr", "m.5.exr", "m.9.exr")
    pattern = str(folder / "m.%d.exr")
    assert [frame.number for frame in find_frames(pattern, within=range(4, 9))] == [5]
    with pytest.raises(InvalidInputError, match="every frame from 3 to 5, found no frame 4"):
        find_frames(pattern, within=range(1, 9))
    with pytest.raises(InvalidInputError, match="found no frame from 6 to 8"):
        find_frames(pattern, within=range(6, 9))
