from pathlib import Path

import numpy as np

from changeover_updater.demo.shots import FRAMES, SHOTS, SIZE, draw_shot, write_shot, write_shots
from changeover_validators.golden.images import read_image, read_plane, read_plate

STORM = next(shot for shot in SHOTS if shot.name == "storm")


def test_written_shot_reads_back_as_it_was_drawn(tmp_path: Path) -> None:
    folder = write_shot(STORM, tmp_path / "storm")

    drawn = list(draw_shot(STORM))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{kind}.{number}.exr" for kind in ("plate", "matte") for number in range(1001, 1001 + FRAMES)
    )
    assert len(drawn) == FRAMES
    for number in (1001, 1012):
        picture = drawn[number - 1001]
        plate, matte = read_plate(folder / f"plate.{number}.exr"), read_plane(folder / f"matte.{number}.exr", "A")
        np.testing.assert_array_equal(plate, picture.plate.astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(matte, picture.matte)


def test_files_are_half_lossless_and_of_the_stated_size(tmp_path: Path) -> None:
    folder = write_shot(STORM, tmp_path / "storm")

    for name, channels in (("plate.1001.exr", ["R", "G", "B"]), ("matte.1001.exr", ["A"])):
        image = read_image(folder / name, channels)
        assert image.size == SIZE
        assert image.pixels.dtype == np.float16
        assert not image.lossy


def test_every_shot_gets_a_folder_of_its_name(tmp_path: Path) -> None:
    easiest = SHOTS[:2]

    folders = write_shots(tmp_path, easiest)

    assert folders == tuple(tmp_path / shot.name for shot in easiest)
    assert all(len(list(folder.iterdir())) == 2 * FRAMES for folder in folders)
