from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, MeasurementError
from changeover_registry.records.golden import GoldenFrame, GoldenInput, GoldenShot
from changeover_validators.golden.frames import (
    SNAP,
    measuring,
    read_input,
    read_matte,
    read_plate,
    read_truth,
    settled,
    sha256,
)

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]


def ramp(height: int = 6, width: int = 8, channels: int = 1) -> Array:
    return (np.arange(height * width * channels).reshape(height, width, channels) / 1024).astype(np.float32)


@pytest.fixture
def shot(tmp_path: Path, write_image: Write) -> GoldenShot:
    """One frame of 8 x 6: plate, matte, second matte and a trimap."""
    files = {
        "plate.1001.exr": (ramp(channels=3), ("R", "G", "B")),
        "matte.1001.exr": (ramp(), ("A",)),
        "second.1001.exr": (ramp()[::-1].copy(), ("mask",)),
        "trimap.1001.exr": (ramp(channels=2), ("known", "unknown")),
    }
    digests = {name: sha256(write_image(tmp_path / name, pixels, names)) for name, (pixels, names) in files.items()}
    trimap = GoldenInput(
        port="trimap", file="trimap.1001.exr", sha256=digests["trimap.1001.exr"], channels=("unknown", "known")
    )
    frame = GoldenFrame(
        number=1001,
        plate="plate.1001.exr",
        plate_sha256=digests["plate.1001.exr"],
        matte="matte.1001.exr",
        matte_sha256=digests["matte.1001.exr"],
        second="second.1001.exr",
        second_sha256=digests["second.1001.exr"],
        inputs=(trimap,),
    )
    return GoldenShot(
        set="atlas",
        shot="ab010",
        version=1,
        alias="shot-1",
        width=8,
        height=6,
        colour="srgb",
        matte_channel="A",
        second_channel="mask",
        level=1,
        frames=(frame,),
        added_by="ann",
        added_at="2026-11-20T10:00:00Z",
    )


def again(shot: GoldenShot, folder: Path, which: str = "matte") -> GoldenShot:
    """The shot whose record names the bytes that are there now."""
    frame = shot.frames[0]
    fresh = frame.model_copy(update={f"{which}_sha256": sha256(folder / getattr(frame, which))})
    return shot.model_copy(update={"frames": (fresh,)})


def test_every_file_of_a_frame_is_read_as_it_was_added(tmp_path: Path, shot: GoldenShot) -> None:
    frame = shot.frames[0]
    assert frame.inputs is not None
    assert np.array_equal(read_truth(shot, tmp_path, frame), ramp()[..., 0])
    assert np.array_equal(read_truth(shot, tmp_path, frame, second=True), ramp()[::-1, :, 0])
    assert np.array_equal(read_plate(shot, tmp_path, frame, ("B", "R")).pixels, ramp(channels=3)[..., [2, 0]])
    assert np.array_equal(read_input(shot, tmp_path, frame, frame.inputs[0]).pixels, ramp(channels=2)[..., ::-1])


def read_each(shot: GoldenShot, folder: Path, which: str) -> None:
    frame = shot.frames[0]
    if which == "plate":
        read_plate(shot, folder, frame, ("R", "G", "B"))
    else:
        read_truth(shot, folder, frame, second=which == "second")


@pytest.mark.parametrize("which", ["plate", "matte", "second"])
def test_a_file_that_changed_is_refused_by_name_and_frame(tmp_path: Path, shot: GoldenShot, which: str) -> None:
    path = tmp_path / f"{which}.1001.exr"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InvalidInputError, match=rf"{which}\.1001\.exr, frame 1001: .*the file that was added"):
        read_each(shot, tmp_path, which)
    path.unlink()
    with pytest.raises(InvalidInputError, match=rf"{which}\.1001\.exr, frame 1001: .*found no file"):
        read_each(shot, tmp_path, which)


@pytest.mark.parametrize("which", ["plate", "matte", "second"])
def test_a_file_cut_at_sixty_percent_is_refused_by_name_and_frame(tmp_path: Path, shot: GoldenShot, which: str) -> None:
    path = tmp_path / f"{which}.1001.exr"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InvalidInputError, match=rf"{which}\.1001\.exr, frame 1001: expected a complete OpenEXR"):
        read_each(again(shot, tmp_path, which), tmp_path, which)


@pytest.mark.parametrize(("width", "height"), [(7, 6), (9, 6), (8, 5), (6, 8)])
@pytest.mark.parametrize("which", ["plate", "matte"])
def test_one_pixel_more_or_less_is_refused_with_both_sizes(
    tmp_path: Path, shot: GoldenShot, write_image: Write, which: str, width: int, height: int
) -> None:
    names = ("A",) if which == "matte" else ("R", "G", "B")
    write_image(tmp_path / f"{which}.1001.exr", ramp(height, width, len(names)), names)
    said = rf"{which}\.1001\.exr, frame 1001: expected 8 x 6 as the plate, found {width} x {height}"
    with pytest.raises(InvalidInputError, match=said):
        read_each(again(shot, tmp_path, which), tmp_path, which)


def test_a_frame_without_such_a_matte_says_so(tmp_path: Path, shot: GoldenShot) -> None:
    frame = shot.frames[0].model_copy(update={"second": None, "second_sha256": None})
    with pytest.raises(InvalidInputError, match="frame 1001: expected a matte of this frame"):
        read_truth(shot, tmp_path, frame, second=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_truth_that_is_not_finite_is_refused_and_a_plate_is_not(
    tmp_path: Path, shot: GoldenShot, write_image: Write, bad: float
) -> None:
    for which, names in (("matte", ("A",)), ("plate", ("R", "G", "B"))):
        pixels = ramp(channels=len(names))
        pixels[2, 3, 0] = bad
        write_image(tmp_path / f"{which}.1001.exr", pixels, names)
    with pytest.raises(InvalidInputError, match=r"matte\.1001\.exr, frame 1001: .*found 1 pixels of NaN or infinity"):
        read_truth(again(shot, tmp_path), tmp_path, shot.frames[0].model_copy(update=changed(shot, tmp_path)))
    plate = again(shot, tmp_path, "plate")
    assert np.count_nonzero(~np.isfinite(read_plate(plate, tmp_path, plate.frames[0], ("R", "G")).pixels)) == 1


def changed(shot: GoldenShot, folder: Path) -> dict[str, str]:
    return {"matte_sha256": sha256(folder / str(shot.frames[0].matte))}


def test_what_is_wrong_at_scoring_is_a_verdict_that_could_not_be_measured(tmp_path: Path, shot: GoldenShot) -> None:
    (tmp_path / "plate.1001.exr").unlink()
    said = r"golden shot ab010: .*plate\.1001\.exr, frame 1001"
    with pytest.raises(MeasurementError, match=said), measuring(shot.shot):
        read_plate(shot, tmp_path, shot.frames[0], ("R",))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@settings(deadline=None)
@given(values=st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=30))
def test_a_truth_is_cut_and_the_half_below_one_is_one(kind: Any, values: list[float]) -> None:
    pixels = np.array(values, kind).reshape(1, -1, 1)
    expected = [1.0 if value >= SNAP else max(value, 0.0) for value in values]
    answer = settled(pixels)
    assert answer.dtype == np.float32
    assert answer.ravel().tolist() == expected
    assert np.array_equal(settled(answer), answer)


def test_the_half_below_one_is_where_truths_snap() -> None:
    below = np.nextafter(np.float16(1), np.float16(0))
    assert float(below) == SNAP
    lower = np.nextafter(below, np.float16(0))
    assert settled(np.array([[[below], [lower]]], np.float16)).ravel().tolist() == [1.0, float(lower)]


def test_all_half_values_are_settled_as_numpy_would(data: Path) -> None:
    # The picture of every half holds NaN and infinity, which a truth may not; all others are compared.
    from changeover_validators.golden.images import read_image

    pixels = read_image(data / "exr" / "AllHalfValues.exr", ("R",)).pixels
    finite = np.isfinite(pixels)
    expected = np.clip(pixels.astype(np.float32), 0, 1)
    expected[expected >= SNAP] = 1
    assert np.array_equal(settled(pixels)[finite], expected[finite])
    with pytest.raises(InvalidInputError, match="pixels of NaN or infinity"):
        read_matte(data / "exr" / "AllHalfValues.exr", "R")
