import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden import images
from changeover_validators.golden.images import read_image, read_plane, read_plate

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]


def ramp(height: int, width: int, channels: int) -> Array:
    """Values that differ everywhere and are exact in half."""
    return (np.arange(height * width * channels).reshape(height, width, channels) % 1024 / 1024).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "kind", "most"),
    [
        ("a.exr", "half", 0.0),
        ("a.exr", "float", 0.0),
        ("a.png", "uint8", 0.5 / 255 + 1e-6),
        ("a.png", "uint16", 0.5 / 65535 + 1e-6),
        ("a.tif", "uint8", 0.5 / 255 + 1e-6),
        ("a.tif", "uint16", 0.5 / 65535 + 1e-6),
        ("a.tif", "float", 0.0),
        ("a.dpx", "uint8", 0.5 / 255 + 1e-6),
        ("a.dpx", "uint16", 0.5 / 65535 + 1e-6),
    ],
)
def test_every_format_reads_back_within_its_own_precision(
    tmp_path: Path, write_image: Write, name: str, kind: str, most: float
) -> None:
    pixels = ramp(9, 13, 3)
    path = write_image(tmp_path / name, pixels, ("R", "G", "B"), kind=kind)
    plate = read_plate(path)
    assert plate.dtype == np.float32
    assert np.abs(plate - pixels).max() <= most
    assert np.array_equal(read_plane(path, "G"), plate[..., 1])


def test_half_stays_half_and_channels_come_in_the_order_asked_for(tmp_path: Path, write_image: Write) -> None:
    pixels = ramp(4, 5, 4)
    path = write_image(tmp_path / "a.exr", pixels, ("R", "G", "B", "A"))
    image = read_image(path, ("A", "B", "R"))
    assert image.pixels.dtype == np.float16
    assert image.size == (5, 4)
    assert np.array_equal(image.pixels.astype(np.float32), pixels[..., [3, 2, 0]])


def test_a_layers_channel_is_named_in_full(tmp_path: Path, write_image: Write) -> None:
    pixels = ramp(4, 5, 2)
    path = write_image(tmp_path / "a.exr", pixels, ("hair.mask", "body.mask"))
    assert np.array_equal(read_plane(path, "body.mask"), pixels[..., 1])
    with pytest.raises(
        InvalidInputError, match=r"a\.exr: expected channel mask, found the channels body.mask, hair.mask"
    ):
        read_plane(path, "mask")


def test_an_alpha_is_neither_multiplied_in_nor_divided_out(tmp_path: Path, write_image: Write) -> None:
    pixels = np.full((3, 3, 4), 128 / 255, np.float32)
    path = write_image(tmp_path / "a.png", pixels, ("R", "G", "B", "A"), kind="uint8")
    assert np.allclose(read_plate(path), 128 / 255)
    assert np.allclose(read_plane(path, "A"), 128 / 255)


@pytest.mark.parametrize(
    ("origin", "size"),
    [((2, 3), (4, 5)), ((-2, -1), (6, 6)), ((8, 7), (6, 6)), ((-3, -3), (20, 20)), ((30, 0), (4, 4))],
)
def test_data_window_lands_where_it_belongs_in_the_display_window(
    tmp_path: Path, write_image: Write, origin: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels = ramp(size[1], size[0], 1) + 0.25
    path = write_image(tmp_path / "a.exr", pixels, ("A",), origin=origin, display=(0, 0, 12, 10), kind="float")
    expected = np.zeros((10, 12), np.float32)
    for y, x in np.ndindex(10, 12):
        row, column = y - origin[1], x - origin[0]
        if 0 <= row < size[1] and 0 <= column < size[0]:
            expected[y, x] = pixels[row, column, 0]
    assert np.array_equal(read_plane(path, "A"), expected)


def test_a_display_window_may_start_anywhere(tmp_path: Path, write_image: Write) -> None:
    pixels = ramp(4, 4, 1)
    path = write_image(tmp_path / "a.exr", pixels, ("A",), origin=(10, 20), display=(9, 18, 6, 7))
    plane = read_plane(path, "A")
    assert plane.shape == (7, 6)
    assert np.array_equal(plane[2:6, 1:5], pixels[..., 0])
    assert plane.sum() == pixels.sum()


def test_pixel_aspect_is_read(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.exr", ramp(4, 4, 1), ("A",), attributes={"PixelAspectRatio": 2.0})
    assert read_image(path, ("A",)).pixel_aspect == 2.0


@pytest.mark.parametrize("name", ["cut.exr", "cut.png", "cut.tif", "cut.dpx"])
def test_a_file_cut_at_sixty_percent_is_refused_by_name(tmp_path: Path, write_image: Write, name: str) -> None:
    random = np.random.default_rng(0).random((40, 60, 3)).astype(np.float32)
    kind = "half" if name.endswith("exr") else "uint16"
    path = write_image(tmp_path / name, random, ("R", "G", "B"), kind=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(InvalidInputError, match=name) as caught:
        read_plate(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("a.exr", b""), ("a.exr", b"hello" * 99), ("a.png", b"x")])
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="expected a complete OpenEXR, PNG, TIFF or DPX image"):
        read_plate(path)


def test_a_header_whose_names_are_no_text_is_refused(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.exr", ramp(4, 4, 1), ("mask",))
    path.write_bytes(path.read_bytes().replace(b"chlist", b"\xff\xfe\xfd\xfc\xfb\xfa"))
    with pytest.raises(InvalidInputError, match=r"a\.exr: .* found a header with names that are no text"):
        read_plane(path, "mask")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="found no file"):
        read_plate(tmp_path / "a.exr")


def test_jpeg_is_read_and_called_lossy_whatever_its_name(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.jpg", ramp(8, 8, 3), ("R", "G", "B"), kind="uint8")
    assert read_image(path, ("R", "G", "B")).lossy
    assert read_image(path.rename(tmp_path / "a.png"), ("R", "G", "B")).lossy


@pytest.mark.parametrize("name", ["a.bmp", "a.tga", "a.hdr"])
def test_other_formats_are_refused_by_their_name(tmp_path: Path, write_image: Write, name: str) -> None:
    path = write_image(tmp_path / name, ramp(8, 8, 3), ("R", "G", "B"), kind="uint8")
    with pytest.raises(InvalidInputError, match=r"found (bmp|targa|hdr); write it as OpenEXR"):
        read_plate(path)


def test_a_deep_image_is_refused(tmp_path: Path) -> None:
    spec = oiio.ImageSpec(4, 4, 1, "float")
    spec.channelnames = ("A",)
    spec.deep = True
    deep = oiio.DeepData()
    deep.init(16, 1, [oiio.TypeDesc("float")], ("A",))
    file = oiio.ImageOutput.create(str(tmp_path / "a.exr"))
    assert file is not None
    assert file.open(str(tmp_path / "a.exr"), spec)
    assert file.write_deep_image(deep)
    assert file.close()
    with pytest.raises(InvalidInputError, match="found a deep image; flatten it"):
        read_plane(tmp_path / "a.exr", "A")


def test_a_channel_of_identifiers_is_refused(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.exr", np.ones((4, 4, 1), np.uint32), ("id",), kind="uint")
    with pytest.raises(InvalidInputError, match="expected half or float pixels in those channels, found uint"):
        read_plane(path, "id")


def test_a_window_that_no_plate_has_is_refused_before_it_is_read(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.exr", ramp(2, 2, 1), ("A",), display=(0, 0, images.MAX_SIDE + 1, 2))
    with pytest.raises(InvalidInputError, match="found a window of 65537 x 2"):
        read_plane(path, "A")


@pytest.mark.parametrize(
    ("channel", "kind", "compression", "lossy"),
    [
        ("R", "half", "dwaa", True),
        ("hair.R", "half", "dwab", True),
        ("A", "half", "dwaa", False),
        ("A", "half", "b44a", True),
        ("A", "float", "b44", False),
        ("A", "float", "pxr24", True),
        ("A", "half", "pxr24", False),
        ("R", "half", "zip", False),
        ("R", "half", "piz", False),
    ],
)
def test_loss_is_told_from_compression_and_channel(
    tmp_path: Path, write_image: Write, channel: str, kind: str, compression: str, lossy: bool
) -> None:
    noise = np.random.default_rng(1).random((64, 64, 1)).astype(np.float32)
    path = write_image(tmp_path / "a.exr", noise, (channel,), kind=kind, attributes={"compression": compression})
    image = read_image(path, (channel,))
    assert image.lossy is lossy
    stored = noise.astype(np.float16 if kind == "half" else np.float32)
    assert np.array_equal(image.pixels, stored) is not lossy


def write_parts(path: Path, parts: dict[str, tuple[str, float]]) -> None:
    """A multipart file: for each part's name, one channel and its value everywhere."""
    specs = []
    for name, (channel, _) in parts.items():
        spec = oiio.ImageSpec(6, 4, 1, "half")
        spec.channelnames = (channel,)
        spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    file = oiio.ImageOutput.create(str(path))
    assert file is not None
    assert file.open(str(path), tuple(specs))
    for index, (_, value) in enumerate(parts.values()):
        if index:
            assert file.open(str(path), specs[index], "AppendSubimage")
        assert file.write_image(np.full((4, 6, 1), value, np.float32))
    assert file.close()


def test_a_channel_is_found_in_the_part_that_has_it(tmp_path: Path) -> None:
    write_parts(tmp_path / "a.exr", {"beauty": ("Y", 0.25), "hair": ("hair.mask", 0.5)})
    assert (read_plane(tmp_path / "a.exr", "hair.mask") == 0.5).all()


def test_a_channel_that_several_parts_have_needs_the_parts_name(tmp_path: Path) -> None:
    write_parts(tmp_path / "a.exr", {"left": ("A", 0.25), "right": ("A", 0.5)})
    with pytest.raises(InvalidInputError, match=r"expected channel A in one part, found 2 parts .*left:A, right:A"):
        read_plane(tmp_path / "a.exr", "A")
    assert (read_plane(tmp_path / "a.exr", "right:A") == 0.5).all()
    with pytest.raises(InvalidInputError, match="expected channel middle:A"):
        read_plane(tmp_path / "a.exr", "middle:A")


# Real files.


@pytest.mark.parametrize("number", range(1, 17))
def test_every_display_window_case_shows_the_same_pixels_in_its_place(data: Path, number: int) -> None:
    folder = data / "exr" / "windows"
    base = read_plate(folder / "t01.exr")
    file = oiio.ImageInput.open(str(folder / f"t{number:02d}.exr"))
    assert file is not None
    spec = file.spec()
    file.close()
    plate = read_plate(folder / f"t{number:02d}.exr")
    assert plate.shape == (spec.full_height, spec.full_width, 3)
    expected = np.zeros_like(plate)
    for y in range(spec.full_height):
        row = y + spec.full_y - spec.y
        for x in range(spec.full_width) if 0 <= row < 300 else ():
            column = x + spec.full_x - spec.x
            if 0 <= column < 400:
                expected[y, x] = base[row, column]
    assert np.array_equal(plate, expected)


def test_a_real_multipart_file_gives_each_view(data: Path) -> None:
    path = data / "exr" / "beachball" / "multipart.0001.exr"
    left, right = read_plane(path, "rgba_left:A"), read_plane(path, "rgba_right:A")
    assert left.shape == right.shape == (1556, 2048)
    assert not np.array_equal(left, right)
    assert read_plane(path, "whitebarmask_left:whitebarmask.mask").max() > 0


def test_every_half_value_is_read_bit_by_bit(data: Path) -> None:
    image = read_image(data / "exr" / "AllHalfValues.exr", ("R",))
    assert np.array_equal(np.unique(image.pixels.view(np.uint16)), np.arange(65536))


READ_EACH = """
import pathlib, sys
from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.images import read_plane
for path in map(pathlib.Path, sys.stdin.read().split("\\0")):
    for channel in ("R", "Y", "A"):
        try:
            read_plane(path, channel)
            print("read", path)
        except InvalidInputError as error:
            assert str(path) in str(error), error
            assert str(error).isprintable(), error
            print("refused", path)
"""


def test_every_damaged_file_is_refused_by_name_and_none_crashes_the_reader(data: Path, tmp_path: Path) -> None:
    damaged = [path for path in sorted((data / "exr" / "damaged").iterdir()) if path.name != "README.rst"]
    for index, path in enumerate(damaged):
        (tmp_path / f"{index}.exr").write_bytes(path.read_bytes())
    paths = [*damaged, *sorted(tmp_path.glob("*.exr"))]
    child = subprocess.run(
        [sys.executable, "-c", READ_EACH],
        input="\0".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    lines = child.stdout.splitlines()
    assert len(lines) == 3 * len(paths) > 300
    assert [line for line in lines if line.startswith("read")] == []


@pytest.mark.parametrize("names", [("red", "green", "blue"), ("rgba.red", "rgba.green", "rgba.blue")])
def test_channels_by_the_names_that_artists_use_are_those_of_the_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    pixels = np.random.default_rng(3).random((4, 6, 3), dtype=np.float32)
    path = tmp_path / "plate.exr"
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": pixels}).write(str(path))

    image = read_image(path, names)

    assert np.array_equal(image.pixels, pixels)
