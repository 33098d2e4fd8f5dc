import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.release import Contract, Port, TensorIn, TensorOut, Tile
from changeover_registry.records.scores import ScoreKey, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden.colour import linear_to_srgb
from changeover_validators.golden.frames import sha256
from changeover_validators.golden.jobs import Inferred, ShotJob, Subject
from changeover_validators.golden.pictures import CROP, WIDTH, difference, pictures_of, png, shrink
from changeover_validators.golden.worst import Worst
from changeover_validators.runtimes.interface import Started

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


def decoded(data: bytes, tmp_path: Path) -> Array:
    """What another program reads: uint8 [H, W, C]."""
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    file = oiio.ImageInput.open(str(path))
    assert file is not None, oiio.geterror()
    pixels = file.read_image("uint8")
    file.close()
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (3, 300), (1, 1, 3), (6, 4, 3), (65, 257, 3)])
def test_a_png_that_we_write_is_read_as_the_same_pixels(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    data = png(pixels)
    assert np.array_equal(decoded(data, tmp_path).reshape(shape), pixels)
    assert data == png(pixels.copy())


def test_a_png_holds_no_time_and_no_text(tmp_path: Path) -> None:
    data = io.BytesIO(png(np.zeros((2, 3), np.uint8)))
    assert data.read(8) == b"\x89PNG\r\n\x1a\n"
    kinds = []
    while head := data.read(8):
        length, kind = struct.unpack(">I4s", head)
        body = data.read(length)
        assert struct.unpack(">I", data.read(4))[0] == zlib.crc32(kind + body)
        kinds.append(kind)
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@settings(deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 60), most=st.integers(1, 30), colours=st.sampled_from([0, 3]))
def test_shrinking_gives_the_mean_of_the_area_under_each_pixel(
    height: int, width: int, most: int, colours: int
) -> None:
    image = np.random.default_rng([height, width]).random((height, width, *([colours] if colours else [])), np.float32)
    small = shrink(image, most)
    if width <= most:
        assert small is image
        return
    rows = max(round(height * most / width), 1)
    assert small.shape[:2] == (rows, most)
    # The oracle cuts every pixel into so many parts that each new pixel is made of whole ones.
    fine = image.repeat(rows, axis=0).repeat(most, axis=1).astype(np.float64)
    expected = fine.reshape(rows, height, most, width, *image.shape[2:]).mean(axis=(1, 3))
    assert np.allclose(small, expected, atol=1e-5)


def test_the_difference_is_red_where_there_is_too_much_and_blue_where_it_lacks() -> None:
    truth = np.array([[0.5, 0.5, 0.5, 0.0, 1.0]], np.float32)
    found = difference(np.array([[0.5, 0.75, 0.25, 1.0, 0.0]], np.float32), truth)
    assert found[0].tolist() == [[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.5, 1], [1, 0, 0], [0, 0, 1]]
    beyond = difference(np.array([[3.0, -2.0]], np.float32), np.zeros((1, 2), np.float32))
    assert beyond[0].tolist() == [[1, 0, 0], [0, 0, 1]]


def a_job(folder: Path, plate: Path, matte: Path, size: tuple[int, int], **more: Any) -> ShotJob:
    frame = GoldenFrame(
        number=7, plate=plate.name, plate_sha256=sha256(plate), matte=matte.name, matte_sha256=sha256(matte)
    )
    shot = GoldenShot(
        **{
            "set": "hair",
            "shot": "a",
            "version": 1,
            "alias": "shot-1",
            "width": size[0],
            "height": size[1],
            "colour": "scene-linear",
            "matte_channel": "A",
            "level": 1,
            "frames": (frame,),
            "added_by": "ana",
            "added_at": "2026-11-22T00:00:00Z",
            **more,
        }
    )
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
    of = SubjectKey(files=("a" * 64,), contract="b" * 64, point=point)
    key = ScoreKey(shot=shot.digest(), candidate=of, threshold="0.5", metrics="m", golden_class="c" * 64)
    channels = ("R", "G", "B")
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="src", port="plate", channels=channels),),
        output=TensorOut(name="pha", port="matte"),
        colour=shot.colour if shot.colour == "raw" else "scene-linear",  # type: ignore[arg-type]
    )
    port = Port(name="plate", channels=channels, colour="scene-linear")
    subject = Subject(NeverRuns(), contract, (port,), Started("cpu", 0, "1", "none"))
    return ShotJob(shot, folder, key, subject, None, "host")


class NeverRuns:
    """Pictures are made when the models are through."""

    def infer(self, planes: Mapping[str, Array], *, reset: bool) -> Inferred:
        raise AssertionError((planes, reset))


@pytest.fixture
def scene(tmp_path: Path, write_image: Write) -> tuple[ShotJob, Array, Array]:
    """A frame of 1400 x 600 with a highlight and a NaN; job, plate and truth."""
    random = np.random.default_rng(5)
    plate = random.random((600, 1400, 3)).astype(np.float16)
    plate[5, 5], plate[6, 6, 1] = 40, np.nan
    truth = (random.random((600, 1400)) * 0.9).astype(np.float16).astype(np.float32)
    paths = (
        write_image(tmp_path / "plate.exr", plate.astype(np.float32), ("R", "G", "B")),
        write_image(tmp_path / "matte.exr", truth[..., None], ("A",)),
    )
    return a_job(tmp_path, *paths, (1400, 600)), plate, truth


def eight_bits(image: Array) -> Array:
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def test_the_surroundings_of_the_worst_pixel_are_shown_pixel_by_pixel(
    scene: tuple[ShotJob, Array, Array], tmp_path: Path
) -> None:
    job, plate, truth = scene
    mattes = np.roll(truth, 1, axis=1), np.roll(truth, 1, axis=0)
    drawn = pictures_of(job, Worst(0.1, 7, mattes, x=700, y=300, difference=0.5))
    kinds = ("plate", "truth", "current", "candidate", "difference")
    assert [(one.kind, one.crop) for one, _ in drawn] == [(kind, crop) for kind in kinds for crop in (False, True)]
    assert all(canonical.digest(data) == one.sha256 for one, data in drawn)
    seen = {(one.kind, one.crop): decoded(data, tmp_path) for one, data in drawn}
    window = slice(300 - CROP // 2, 300 + CROP // 2), slice(700 - CROP // 2, 700 + CROP // 2)
    assert np.array_equal(seen["truth", True][..., 0], eight_bits(truth[window]))
    assert np.array_equal(seen["candidate", True][..., 0], eight_bits(mattes[0][window]))
    assert np.array_equal(seen["current", True][..., 0], eight_bits(mattes[1][window]))
    assert np.array_equal(seen["difference", True], eight_bits(difference(mattes[0], truth)[window]))
    assert np.array_equal(seen["plate", True], eight_bits(linear_to_srgb(plate[window])))
    assert {image.shape[:2] for (_, crop), image in seen.items() if not crop} == {(549, WIDTH)}


def test_near_a_corner_the_surroundings_are_moved_into_the_frame(
    scene: tuple[ShotJob, Array, Array], tmp_path: Path
) -> None:
    job, plate, truth = scene
    for x, y, window in ((0, 0, np.s_[:CROP, :CROP]), (1399, 599, np.s_[-CROP:, -CROP:])):
        drawn = pictures_of(job, Worst(0.1, 7, (truth,), x=x, y=y, difference=0.5))
        seen = {(one.kind, one.crop): decoded(data, tmp_path) for one, data in drawn}
        assert ("current", True) not in seen
        assert np.array_equal(seen["truth", True][..., 0], eight_bits(truth[window]))
        clean = np.where(np.isfinite(plate), plate, 0)
        assert np.array_equal(seen["plate", True], eight_bits(linear_to_srgb(clean[window])))


def test_a_small_frame_is_shown_as_it_is(tmp_path: Path, write_image: Write) -> None:
    plate = write_image(tmp_path / "plate.exr", np.full((12, 20, 3), 0.5), ("R", "G", "B"))
    matte = write_image(tmp_path / "matte.exr", np.full((12, 20, 1), 0.25), ("A",))
    truth = np.full((12, 20), 0.25, np.float32)
    job = a_job(tmp_path, plate, matte, (20, 12), colour="raw")
    drawn = pictures_of(job, Worst(0.1, 7, (truth,), x=3, y=4, difference=0.5))
    sizes = {decoded(data, tmp_path).shape[:2] for _, data in drawn}
    assert sizes == {(12, 20)}
    assert (decoded(drawn[0][1], tmp_path) == 128).all(), "raw values are shown as they are"


def test_a_plate_that_changed_meanwhile_is_an_error(scene: tuple[ShotJob, Array, Array]) -> None:
    job, _, truth = scene
    (job.folder / "plate.exr").write_bytes((job.folder / "matte.exr").read_bytes())
    with pytest.raises(InvalidInputError, match="the file that was added"):
        pictures_of(job, Worst(0.1, 7, (truth,), x=3, y=4, difference=0.5))
