"""What OpenEXR can write is read, by both roads alike: compressions, pixel types, tiles, levels, windows, damage."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import Imath  # type: ignore[import-untyped]
import numpy as np
import OpenEXR
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden import _openexr
from changeover_validators.golden.images import read_image, read_plane, read_plate
from changeover_validators.golden.metrics import score_frame

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]

COMPRESSIONS = sorted(name for name in dir(OpenEXR) if name.endswith("_COMPRESSION"))
LOSSY = {
    "DWAA_COMPRESSION": ("half", "float"),
    "DWAB_COMPRESSION": ("half", "float"),
    "B44_COMPRESSION": ("half",),
    "B44A_COMPRESSION": ("half",),
    "PXR24_COMPRESSION": ("float",),
    "LJ2K_COMPRESSION": ("half", "float"),
}
TYPES = {"half": np.float16, "float": np.float32}


def grain(height: int, width: int, channels: int, kind: str, seed: int = 1) -> Array:
    """A ramp with grain, which no compression finds easy."""
    noise = np.random.default_rng(seed).normal(0, 0.02, (height, width, channels))
    return (np.linspace(0.1, 0.9, width)[None, :, None] + noise).astype(TYPES[kind])


def write_exr(path: Path, pixels: Array, names: tuple[str, ...], **header: Any) -> Path:
    planes = {name: np.ascontiguousarray(pixels[..., index]) for index, name in enumerate(names)}
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, planes).write(str(path))
    return path


def read_by_oiio(path: Path, kind: str) -> Array:
    """The oracle: all channels in the file's order, by the library that the fast road does not use."""
    file = oiio.ImageInput.open(str(path))
    assert file is not None, oiio.geterror()
    pixels = file.read_image(kind)
    file.close()
    assert pixels is not None
    return pixels


def test_openexr_has_the_compressions_that_are_tested_here_by_name() -> None:
    known = {"NO", "RLE", "ZIP", "ZIPS", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB", "HTJ2K256", "HTJ2K32", "ZSTD"}
    assert known <= {name.removesuffix("_COMPRESSION") for name in COMPRESSIONS}


@pytest.mark.parametrize("kind", ["half", "float"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read_whole_and_loss_is_said(tmp_path: Path, compression: str, kind: str) -> None:
    pixels = grain(70, 90, 3, kind)
    path = write_exr(tmp_path / "a.exr", pixels, ("R", "G", "B"), compression=getattr(OpenEXR, compression))

    image = read_image(path, ("R", "G", "B"))

    assert image.pixels.dtype == TYPES[kind]
    assert image.lossy is (kind in LOSSY.get(compression, ()))
    assert np.array_equal(image.pixels, pixels) is not image.lossy
    assert np.abs(image.pixels.astype(np.float64) - pixels).max() < 0.05


@pytest.mark.parametrize("kind", ["half", "float"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_fast_road_reads_what_openimageio_reads(tmp_path: Path, compression: str, kind: str) -> None:
    pixels = grain(70, 90, 3, kind)
    path = write_exr(tmp_path / "a.exr", pixels, ("R", "G", "B"), compression=getattr(OpenEXR, compression))
    fast = _openexr.decode(str(path), ("R", "G", "B"))
    assert fast is not None
    assert fast.dtype == TYPES[kind]
    assert np.array_equal(fast, read_by_oiio(path, kind))


@pytest.mark.parametrize(
    "wanted", [("R", "G", "B"), ("B", "R"), ("A",), ("hair.R", "hair.G", "hair.B"), ("hair.B", "A"), ("Z", "G")]
)
def test_the_fast_road_takes_channels_in_the_order_asked_for(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    names = ("R", "G", "B", "A", "Z", "hair.R", "hair.G", "hair.B")
    pixels = grain(20, 30, len(names), "half")
    path = write_exr(tmp_path / "a.exr", pixels, names)
    fast = _openexr.decode(str(path), wanted)
    assert fast is not None
    assert np.array_equal(fast, pixels[..., [names.index(name) for name in wanted]])
    assert _openexr.decode(str(path), ("R", "missing")) is None


LARGE = (1024, 1100)


def test_a_large_plain_file_goes_the_fast_road_and_its_windows_are_composed(tmp_path: Path) -> None:
    pixels = grain(*LARGE, 4, "half")
    window = (np.array([5, -7], np.int32), np.array([5 + LARGE[1] - 1, -7 + LARGE[0] - 1], np.int32))
    display = (np.array([0, 0], np.int32), np.array([LARGE[1] - 1, LARGE[0] - 1], np.int32))
    path = write_exr(tmp_path / "a.exr", pixels, ("R", "G", "B", "A"), dataWindow=window, displayWindow=display)

    image = read_image(path, ("R", "G", "B"))

    expected = np.zeros((*LARGE, 3), np.float16)
    expected[: LARGE[0] - 7, 5:] = pixels[7:, : LARGE[1] - 5, :3]
    assert np.array_equal(image.pixels, expected)
    assert np.array_equal(read_plane(path, "A")[: LARGE[0] - 7, 5:], pixels[7:, : LARGE[1] - 5, 3])


def damage(path: Path, share: float) -> Path:
    data = bytearray(path.read_bytes())
    start = int(len(data) * share)
    data[start : start + 4000] = bytes(value ^ 0x5A for value in data[start : start + 4000])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("part", ["cut", "middle"])
def test_a_large_damaged_file_is_refused_and_nothing_is_printed_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    path = write_exr(tmp_path / "a.exr", grain(*LARGE, 3, "half"), ("R", "G", "B"))
    if part == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    else:
        damage(path, 0.5)
    with pytest.raises(InvalidInputError, match=r"a\.exr: expected a complete OpenEXR"):
        read_plate(path)
    assert capsys.readouterr().out == ""


def test_standard_output_is_deaf_to_the_decoding_thread_alone(capsys: pytest.CaptureFixture[str]) -> None:
    inside, done = threading.Event(), threading.Event()

    def decode() -> None:
        with _openexr._quiet():
            sys.stdout.write("by the decoder\n")
            inside.set()
            done.wait(10)

    before = sys.stdout
    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    sys.stdout.write("by another\n")
    sys.stdout.flush()
    done.set()
    for thread in threads:
        thread.join()
    assert sys.stdout is before
    assert capsys.readouterr().out == "by another\n"


@pytest.mark.parametrize("channels", [("R", "G", "B"), ("G",)])
def test_tiled_files_are_read(tmp_path: Path, channels: tuple[str, ...]) -> None:
    pixels = grain(100, 130, 3, "half")
    tiles = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    path = write_exr(tmp_path / "a.exr", pixels, ("R", "G", "B"), **tiles)
    assert np.array_equal(read_image(path, channels).pixels, pixels[..., ["RGB".index(name) for name in channels]])


def test_of_a_file_with_levels_the_full_size_is_read(tmp_path: Path) -> None:
    pixels = grain(96, 128, 3, "float")
    wishes = oiio.ImageSpec()
    wishes.attribute("maketx:fileformatname", "openexr")
    path = tmp_path / "a.exr"
    texture = oiio.MakeTxTexture
    assert oiio.ImageBufAlgo.make_texture(texture, oiio.ImageBuf(pixels), str(path), wishes), oiio.geterror()
    file = oiio.ImageInput.open(str(path))
    assert file is not None
    assert file.seek_subimage(0, 3)
    file.close()
    assert np.array_equal(read_plate(path), pixels)


def test_subsampled_channels_are_refused_in_one_clear_line(tmp_path: Path) -> None:
    header = OpenEXR.Header(8, 8)
    half = Imath.PixelType(Imath.PixelType.HALF)
    header["channels"] = {
        "Y": Imath.Channel(half, 1, 1),
        "RY": Imath.Channel(half, 2, 2),
        "BY": Imath.Channel(half, 2, 2),
    }
    file = OpenEXR.OutputFile(str(tmp_path / "a.exr"), header)
    file.writePixels({"Y": bytes(128), "RY": bytes(32), "BY": bytes(32)})
    file.close()
    with pytest.raises(InvalidInputError, match=r"a\.exr: .*[Ss]ubsampled channels are not supported") as caught:
        read_plane(tmp_path / "a.exr", "Y")
    assert str(caught.value).isprintable()


def test_channels_far_apart_are_read_without_what_lies_between(tmp_path: Path) -> None:
    names = tuple(f"layer{index:02d}.mask" for index in range(40))
    pixels = grain(10, 12, 40, "half")
    path = write_exr(tmp_path / "a.exr", pixels, names)
    assert np.array_equal(read_image(path, (names[39], names[0])).pixels, pixels[..., [39, 0]])


def test_grey_pictures_answer_to_each_colour_and_to_no_alpha(tmp_path: Path, write_image: Write) -> None:
    pixels = grain(6, 8, 1, "float")
    path = write_image(tmp_path / "a.png", pixels, ("Y",), kind="uint16")
    planes = [read_plane(path, name) for name in ("R", "G", "B", "red", "Y")]
    assert all(np.array_equal(plane, planes[0]) for plane in planes)
    with pytest.raises(InvalidInputError, match="expected channel A, found the channels Y"):
        read_plane(path, "A")


def test_a_luminance_exr_is_no_colour(tmp_path: Path, write_image: Write) -> None:
    path = write_image(tmp_path / "a.exr", grain(6, 8, 1, "half"), ("Y",))
    with pytest.raises(InvalidInputError, match="expected channel R, found the channels Y"):
        read_plane(path, "R")


def test_a_picture_that_is_to_be_turned_is_refused(tmp_path: Path, write_image: Write) -> None:
    attributes = {"Orientation": 6}
    path = write_image(
        tmp_path / "a.tif", grain(6, 8, 3, "float"), ("R", "G", "B"), kind="uint8", attributes=attributes
    )
    with pytest.raises(InvalidInputError, match=r"orientation 6\); export it upright"):
        read_plate(path)


@pytest.mark.parametrize(
    ("name", "channel", "attributes", "lossy"),
    [
        ("a.jpg", "R", {}, True),
        ("a.tif", "R", {"compression": "zip"}, False),
        ("a.png", "R", {}, False),
        ("a.dpx", "R", {}, False),
    ],
)
def test_loss_of_other_formats_is_told(
    tmp_path: Path, write_image: Write, name: str, channel: str, attributes: dict[str, Any], lossy: bool
) -> None:
    pixels = grain(32, 32, 3, "float")
    path = write_image(tmp_path / name, pixels, ("R", "G", "B"), kind="uint8", attributes=attributes)
    assert read_image(path, (channel,)).lossy is lossy


@pytest.mark.parametrize("channel", ["R", "A", "hair.R", "matte"])
def test_lj2k_keeps_a_channel_that_is_not_one_of_three(tmp_path: Path, channel: str) -> None:
    pixels = grain(70, 90, 1, "half")
    path = write_exr(tmp_path / "a.exr", pixels, (channel,), compression=OpenEXR.LJ2K_COMPRESSION)
    image = read_image(path, (channel,))
    assert not image.lossy
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("channel", ["r", "red", "hair.red", "A", "Z", "matte"])
def test_dwa_keeps_a_matte_that_is_not_named_as_a_colour(tmp_path: Path, channel: str) -> None:
    pixels = grain(64, 64, 1, "half")
    path = write_exr(tmp_path / "a.exr", pixels, (channel,), compression=OpenEXR.DWAA_COMPRESSION)
    image = read_image(path, (channel,))
    assert not image.lossy
    assert np.array_equal(image.pixels, pixels)


def test_a_file_says_its_pixel_aspect_or_is_taken_for_square(tmp_path: Path, write_image: Write) -> None:
    pixels = grain(4, 4, 3, "float")
    stated = write_image(tmp_path / "a.exr", pixels, ("R", "G", "B"), attributes={"PixelAspectRatio": 2.0})
    silent = write_image(tmp_path / "a.png", pixels, ("R", "G", "B"), kind="uint8")
    assert [(one.pixel_aspect, one.aspect_stated) for one in (read_image(stated, "R"), read_image(silent, "R"))] == [
        (2.0, True),
        (1.0, False),
    ]


def test_a_cropped_truth_scores_as_its_full_frame_copy_does(tmp_path: Path) -> None:
    matte = np.zeros((60, 80, 1), np.float32)
    matte[20:40, 30:60] = grain(20, 30, 1, "float")
    crop = (np.array([28, 18], np.int32), np.array([65, 45], np.int32))
    display = (np.array([0, 0], np.int32), np.array([79, 59], np.int32))
    full = write_exr(tmp_path / "full.exr", matte, ("A",))
    cropped = write_exr(tmp_path / "cropped.exr", matte[18:46, 28:66], ("A",), dataWindow=crop, displayWindow=display)
    prediction = np.roll(matte[..., 0], 2, axis=1)
    scores = [score_frame(prediction, read_plane(path, "A"), threshold=0.5) for path in (full, cropped)]
    assert scores[0] == scores[1]


READ_EACH = """
import pathlib, sys
from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.images import read_image
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        read_image(path, ("R", "G", "B"))
    except InvalidInputError as error:
        assert str(path) in str(error) and str(error).isprintable(), error
    print(path.name)
"""


def test_bytes_changed_at_random_are_read_or_refused_and_never_crash_the_reader(
    tmp_path: Path, write_image: Write
) -> None:
    pixels, names, random = grain(20, 30, 3, "half"), ("R", "G", "B"), np.random.default_rng(5)
    whole = [write_exr(tmp_path / f"{c}.exr", pixels, names, compression=getattr(OpenEXR, c)) for c in COMPRESSIONS]
    whole += [write_image(tmp_path / f"a.{end}", pixels, names, kind="uint8") for end in ("png", "tif", "dpx", "jpg")]
    (tmp_path / "changed").mkdir()
    for index in range(400):
        source = whole[index % len(whole)]
        data = np.frombuffer(source.read_bytes(), np.uint8).copy()
        places = random.integers(0, min(400, data.size) if index % 2 else data.size, 6)
        data[places] = random.integers(0, 256, 6)
        (tmp_path / "changed" / f"{index:04d}{source.suffix}").write_bytes(data.tobytes())
    child = subprocess.run(
        [sys.executable, "-c", READ_EACH, str(tmp_path / "changed")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert len(child.stdout.splitlines()) == 400


# Real files.


@pytest.mark.parametrize("number", range(1, 17))
def test_every_display_window_case_scores_as_a_full_frame_copy(data: Path, tmp_path: Path, number: int) -> None:
    plane = read_plane(data / "exr" / "windows" / f"t{number:02d}.exr", "G")
    file = oiio.ImageInput.open(str(data / "exr" / "windows" / f"t{number:02d}.exr"))
    assert file is not None
    spec = file.spec()
    file.close()
    copy = write_exr(tmp_path / "copy.exr", plane[..., None], ("G",))
    assert plane.shape == (spec.full_height, spec.full_width)
    prediction = np.clip(np.roll(plane, 3, axis=1), 0, 1)
    first, second = (
        score_frame(prediction, np.clip(truth, 0, 1), threshold=0.5) for truth in (plane, read_plane(copy, "G"))
    )
    assert first == second


def test_nan_and_infinity_of_a_real_plate_are_all_there_to_be_counted(data: Path) -> None:
    path = data / "exr" / "BrightRingsNanInf.exr"
    pixels = OpenEXR.File(str(path)).channels()["RGB"].pixels
    found = read_image(path, ("R", "G", "B")).pixels
    assert np.count_nonzero(~np.isfinite(found)) == np.count_nonzero(~np.isfinite(pixels)) > 0


def test_real_plates_and_their_alphas_agree_in_size(data: Path) -> None:
    lemur, gt05 = data / "plates" / "lemur", data / "plates" / "gt05"
    for plate, alpha, lossy in (
        (lemur / "lemur.png", lemur / "lemur_alpha.png", False),
        (gt05 / "merged_GT05.jpg", gt05 / "alpha_GT05.jpg", True),
    ):
        image, matte = read_image(plate, ("R", "G", "B")), read_image(alpha, ("R",))
        assert image.size == matte.size
        assert matte.lossy is lossy
        assert 0 <= matte.pixels.min() < matte.pixels.max() <= 1
