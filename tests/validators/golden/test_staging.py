"""Hostile and odd files on their way into a shot."""

import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenShot
from changeover_validators.golden._copy import copy_file
from changeover_validators.golden.cryptomatte import identifier
from changeover_validators.golden.frames import read_truth
from changeover_validators.golden.sequences import FrameFile
from changeover_validators.golden.staging import Source, Staged, pair_frames, stage

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]


def picture(channels: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((6, 8, channels)).astype(np.float16).astype(np.float32)


def staged(tmp_path: Path, source: Source) -> Staged:
    folder = tmp_path / "staging"
    folder.mkdir()
    return stage(folder, source, lambda _done, _frames: None)


@pytest.fixture
def source(tmp_path: Path, write_image: Write) -> Source:
    """Three frames of plates and mattes."""
    plates, mattes = [], {}
    for number in (1001, 1002, 1003):
        plate = write_image(tmp_path / f"plate.{number}.exr", picture(3, number), ("R", "G", "B"))
        plates.append(FrameFile(number, plate))
        mattes[number] = write_image(tmp_path / f"matte.{number}.exr", picture(1, number), ("A",))
    return Source(tuple(plates), mattes, "A")


def change(source: Source, **fields: Any) -> Source:
    values = {name: getattr(source, name) for name in Source.__dataclass_fields__}
    return Source(**{**values, **fields})


@pytest.mark.parametrize("which", ["plate", "matte"])
def test_a_pipe_planted_as_a_frame_is_refused_by_name_and_nobody_waits(
    tmp_path: Path, source: Source, which: str
) -> None:
    path = tmp_path / f"{which}.1002.exr"
    path.unlink()
    os.mkfifo(path)
    said: list[str] = []

    def add() -> None:
        try:
            staged(tmp_path, source)
        except InvalidInputError as error:
            said.append(str(error))

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    thread.join(60)
    assert (
        [line for line in said if f"{which}.1002.exr, frame 1002" in line and "a pipe, a device" in line] == said != []
    )


def test_links_are_copied_as_the_files_that_they_name(tmp_path: Path, source: Source) -> None:
    real = tmp_path / "elsewhere.exr"
    (tmp_path / "plate.1002.exr").rename(real)
    (tmp_path / "plate.1002.exr").symlink_to(real)
    kept = staged(tmp_path, source)
    copy = tmp_path / "staging" / kept.frames[1].plate
    assert not copy.is_symlink()
    assert copy.read_bytes() == real.read_bytes()


def copy_again_and_again(path: Path, target: Path) -> None:
    for _ in range(200):
        copy_file(path, target)


def test_a_file_that_somebody_is_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plate.1001.exr"
    path.write_bytes(os.urandom(2**25))
    stop = threading.Event()

    def write() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"x")
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with pytest.raises(InvalidInputError, match="found one that changed while it was copied"):
            copy_again_and_again(path, tmp_path / "copy.exr")
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "name", ["pla\nte\x1b[31m.1001.exr", "plate.1001.EXR", "plate.1001", "plate.1001.exr;x", "1.ü"]
)
def test_odd_names_become_plain_ones_in_the_shot(tmp_path: Path, source: Source, write_image: Write, name: str) -> None:
    odd = tmp_path / "odd" / name
    odd.parent.mkdir()
    source.plates[0].path.rename(odd)
    kept = staged(tmp_path, change(source, plates=(FrameFile(1001, odd), *source.plates[1:])))
    assert kept.frames[0].plate in {"plate/plate.1001.exr", "plate/plate.1001.image"}
    assert (tmp_path / "staging" / kept.frames[0].plate).read_bytes() == odd.read_bytes()
    odd.write_bytes(b"no image")
    (tmp_path / "again").mkdir()
    with pytest.raises(InvalidInputError, match="frame 1001") as caught:
        stage(tmp_path / "again", change(source, plates=(FrameFile(1001, odd),)), lambda _done, _frames: None)
    assert str(caught.value).isprintable()
    assert "staging" not in str(caught.value)


def test_the_first_bad_frame_is_named_and_the_rest_is_not_copied(tmp_path: Path, write_image: Write) -> None:
    plates = []
    for number in range(1, 60):
        plate = write_image(tmp_path / f"plate.{number}.exr", picture(3), ("R", "G", "B"))
        plates.append(FrameFile(number, plate))
    plates[2].path.write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"plate\.3\.exr, frame 3"):
        staged(tmp_path, Source(tuple(plates), {}, "A"))
    assert len(list((tmp_path / "staging" / "plate").iterdir())) < 59


@pytest.mark.parametrize("which", ["plate", "matte", "second", "input"])
def test_pixel_aspects_that_differ_are_refused_with_both(
    tmp_path: Path, source: Source, write_image: Write, which: str
) -> None:
    channels = ("R", "G", "B") if which == "plate" else ("A",)
    path = tmp_path / f"{which}.1002.exr"
    write_image(path, picture(len(channels)), channels, attributes={"PixelAspectRatio": 2.0})
    given = source
    if which == "second":
        given = change(source, seconds={1002: path})
    elif which == "input":
        given = change(source, inputs=(("trimap", {1002: path}, ("A",)),))
    # A squeezed plate differs from the plates before it, a squeezed matte from its plate.
    expected = "2 as the plate, found 1" if which == "plate" else "1 as the plate, found 2"
    with pytest.raises(InvalidInputError, match=rf"pixel aspect: .*1002\.exr, frame 1002: expected {expected}"):
        staged(tmp_path, given)


def test_a_matte_whose_format_knows_no_pixel_aspect_fits_any_plate(
    tmp_path: Path, source: Source, write_image: Write
) -> None:
    for plate in source.plates:
        write_image(plate.path, picture(3), ("R", "G", "B"), attributes={"PixelAspectRatio": 2.0})
    mattes = {
        number: write_image(tmp_path / f"m.{number}.png", picture(1), ("Y",), kind="uint8") for number in source.mattes
    }
    kept = staged(tmp_path, change(source, mattes=mattes, matte_channel="R"))
    assert [look.pixel_aspect for look in kept.looks] == [2.0] * 3


@pytest.mark.parametrize("field", ["seconds", "inputs"])
def test_a_file_for_a_frame_without_a_plate_is_refused(tmp_path: Path, source: Source, field: str) -> None:
    stray = {1009: tmp_path / "matte.1001.exr"}
    given = {field: stray if field == "seconds" else (("trimap", stray, ("A",)),)}
    with pytest.raises(InvalidInputError, match=r"a plate for the (second matte|input trimap) of frame 1009"):
        staged(tmp_path, change(source, **given))


def test_a_port_cannot_lead_out_of_the_shot(tmp_path: Path, source: Source) -> None:
    with pytest.raises(InvalidInputError, match="input"):
        staged(tmp_path, change(source, inputs=(("../../evil", {1001: tmp_path / "matte.1001.exr"}, ("A",)),)))
    assert not list(tmp_path.glob("**/*evil*"))


def test_what_was_seen_in_a_frame_is_told_in_numbers(tmp_path: Path, source: Source, write_image: Write) -> None:
    plate, matte = picture(3), np.full((6, 8, 1), 0.5, np.float32)
    plate[0, 0], plate[1, 1, 0] = (np.nan, np.inf, 3.0), -2.0
    matte[0, :3, 0] = -0.5, 1.5, 1 - 2**-11
    write_image(source.plates[0].path, plate, ("R", "G", "B"))
    write_image(source.mattes[1001], matte, ("A",))
    kept = staged(tmp_path, change(source, seconds={1001: source.mattes[1001], 1002: source.mattes[1001]}))
    look = kept.looks[0]
    assert (look.plate_not_finite, look.plate_range) == (2, (-2.0, 3.0))
    assert (look.matte_range, look.matte_outside, look.matte_snapped) == ((-0.5, 1.5), 2, 1)
    assert (look.second_same, look.second_range) == (True, (-0.5, 1.5))
    assert (kept.looks[1].second_same, kept.looks[2].second_range) == (False, None)
    assert not look.plate_lossy


def test_a_real_plate_with_nan_and_infinity_is_counted(tmp_path: Path, data: Path, write_image: Write) -> None:
    path = data / "exr" / "BrightRingsNanInf.exr"
    kept = staged(tmp_path, Source((FrameFile(1, path),), {}, "A"))
    file = oiio.ImageInput.open(str(path))
    assert file is not None
    pixels = file.read_image("float")
    file.close()
    assert pixels is not None
    assert kept.looks[0].plate_not_finite == np.count_nonzero(~np.isfinite(pixels)) > 0
    assert kept.looks[0].plate_range is not None
    assert np.isfinite(kept.looks[0].plate_range).all()


def test_a_jpeg_truth_is_kept_and_called_lossy(tmp_path: Path, data: Path) -> None:
    folder = data / "plates" / "gt05"
    kept = staged(tmp_path, Source((FrameFile(1, folder / "merged_GT05.jpg"),), {1: folder / "alpha_GT05.jpg"}, "R"))
    assert (kept.looks[0].matte_lossy, kept.looks[0].plate_lossy) == (True, True)


def crypto(path: Path, header: dict[str, str], coverage: float = 0.75) -> Path:
    spec = oiio.ImageSpec(8, 6, 4, "float")
    spec.channelnames = ("crypto00.R", "crypto00.G", "crypto00.B", "crypto00.A")
    for name, value in {"name": "crypto", **header}.items():
        spec.attribute(f"cryptomatte/28322e9/{name}", value)
    pixels = np.zeros((6, 8, 4), np.float32)
    pixels[2:4, 3:6, 0] = struct.unpack("<f", struct.pack("<I", identifier("hair, long")))[0]
    pixels[2:4, 3:6, 1] = coverage
    file = oiio.ImageOutput.create(str(path))
    assert file is not None
    assert file.open(str(path), spec)
    assert file.write_image(pixels)
    assert file.close()
    return path


@pytest.mark.parametrize("beside", [True, False])
def test_an_object_is_found_again_without_the_manifest_that_lay_beside(
    tmp_path: Path, source: Source, beside: bool
) -> None:
    manifest = json.dumps({"hair, long": f"{identifier('hair, long'):08x}"})
    (tmp_path / "m.json").write_text(manifest, encoding="utf-8")
    header = {"manif_file": "m.json"} if beside else {"manifest": manifest}
    mattes = {number: crypto(tmp_path / f"c.{number}.exr", header, number / 2048) for number in source.mattes}
    kept = staged(tmp_path, change(source, mattes=mattes, matte_channel="crypto", matte_object="hair, long"))
    shot = GoldenShot(
        set="atlas",
        shot="ab010",
        version=1,
        alias="shot-1",
        width=8,
        height=6,
        colour="srgb",
        matte_channel="crypto",
        matte_object="hair, long",
        level=1,
        frames=kept.frames,
        added_by="ann",
        added_at="2026-11-20T10:00:00Z",
    )
    for frame in kept.frames:
        expected = np.zeros((6, 8), np.float32)
        expected[2:4, 3:6] = frame.number / 2048
        assert np.array_equal(read_truth(shot, tmp_path / "staging", frame), expected)


def test_an_object_that_no_frame_has_is_refused_before_anything_is_copied(tmp_path: Path, source: Source) -> None:
    manifest = json.dumps({"hair, long": f"{identifier('hair, long'):08x}"})
    mattes = {number: crypto(tmp_path / f"c.{number}.exr", {"manifest": manifest}) for number in source.mattes}
    with pytest.raises(InvalidInputError, match=r"an object 'hair long' in crypto, found 1 objects: 'hair, long'"):
        staged(tmp_path, change(source, mattes=mattes, matte_channel="crypto", matte_object="hair long"))
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_configuration_is_kept_as_it_is_and_other_files_are_refused(tmp_path: Path, source: Source) -> None:
    (tmp_path / "show.OCIO").write_text("ocio_profile_version: 2\n", encoding="utf-8")
    kept = staged(tmp_path, change(source, ocio=tmp_path / "show.OCIO"))
    assert kept.ocio_config == "config.ocio"
    assert (tmp_path / "staging" / "config.ocio").read_text(encoding="utf-8") == "ocio_profile_version: 2\n"
    (tmp_path / "again").mkdir()
    with pytest.raises(InvalidInputError, match=r"expected a file .ocio or .ocioz, found .exr"):
        stage(tmp_path / "again", change(source, ocio=source.plates[0].path), lambda _done, _frames: None)


def files(*numbers: int) -> list[FrameFile]:
    return [FrameFile(number, Path(f"{number}.exr")) for number in numbers]


def test_a_scored_frame_may_lack_its_matte_only_where_that_is_allowed() -> None:
    plates, mattes = files(1, 2, 3, 5), files(2, 5)
    with pytest.raises(InvalidInputError, match="a matte for frame 3"):
        pair_frames(plates, mattes, 1)
    assert sorted(pair_frames(plates, mattes, 1, allow_missing=True)) == [2, 5]
    with pytest.raises(InvalidInputError, match="a matte for frame 3"):
        pair_frames(plates[2:3], mattes, 0, allow_missing=True)


def test_a_matte_may_lack_its_plate_only_where_that_is_allowed() -> None:
    plates, mattes = files(1, 2, 5), files(1, 2, 3, 5)
    with pytest.raises(InvalidInputError, match="a plate for the matte of frame 3"):
        pair_frames(plates, mattes, 0)
    assert sorted(pair_frames(plates, mattes, 0, allow_missing=True)) == [1, 2, 5]


def test_a_frame_without_a_matte_is_fed_and_not_scored(tmp_path: Path, source: Source) -> None:
    mattes = {number: path for number, path in source.mattes.items() if number != 1002}
    kept = staged(tmp_path, change(source, mattes=mattes))
    assert [(frame.number, frame.scored, frame.matte is None) for frame in kept.frames] == [
        (1001, True, False),
        (1002, False, True),
        (1003, True, False),
    ]
