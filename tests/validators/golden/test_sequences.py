from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.sequences import find_frames


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
