"""From any colour space of an OpenColorIO configuration to what a contract takes."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation
import pytest

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_validators.golden import colour
from changeover_validators.golden.colour import Colour, check_colour, linear_to_srgb, srgb_to_linear, transform

Array = np.ndarray[Any, Any]

CG = "ocio://cg-config-v2.2.0_aces-v1.3_ocio-v2.4"
STUDIO = "ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4"
AP1_TO_709 = np.array(
    [
        [1.70505099, -0.62179212, -0.08325887],
        [-0.13025642, 1.14080474, -0.01054832],
        [-0.02400336, -0.12896898, 1.15297233],
    ]
)
"""ACEScg (D60) to Rec. 709 (D65), Bradford adaptation, as the Academy publishes it."""

TINY = """ocio_profile_version: 2
environment: {LUT: %s}
search_path: luts
roles: {default: raw, scene_linear: lin%s}
displays:
  d:
    - !<View> {name: Raw, colorspace: raw}
colorspaces:
  - !<ColorSpace>
    name: raw
    isdata: true
  - !<ColorSpace>
    name: ap0
  - !<ColorSpace>
    name: lin
    to_scene_reference: !<BuiltinTransform> {style: ACEScg_to_ACES2065-1}
  - !<ColorSpace>
    name: film
    to_scene_reference: !<FileTransform> {src: $LUT.spi1d, interpolation: linear}
"""
HALVING = "Version 1\nFrom 0.0 1.0\nLength 2\nComponents 1\n{\n0.0\n0.5\n}\n"


def halves() -> Array:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    return every[np.isfinite(every)]


def rgb(height: int = 5, width: int = 7, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float16)


def tiny(folder: Path, roles: str = ", aces_interchange: ap0", lut: str = "half") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.ocio"
    path.write_text(TINY % (lut, roles), encoding="utf-8")
    return path


def with_lut(path: Path) -> Path:
    (path.parent / "luts").mkdir()
    (path.parent / "luts" / "half.spi1d").write_text(HALVING, encoding="utf-8")
    return path


@pytest.mark.parametrize("clamp", [None, "none", "unit"])
@pytest.mark.parametrize(
    ("source", "config", "target"),
    [
        ("scene-linear", None, "srgb"),
        ("srgb", None, "scene-linear"),
        ("srgb", None, "srgb"),
        ("raw", None, "raw"),
        ("Raw", CG, "raw"),
        ("Linear Rec.709 (sRGB)", CG, "srgb"),
        ("sRGB Encoded Rec.709 (sRGB)", CG, "scene-linear"),
        ("Gamma 2.2 Encoded Rec.709", CG, "srgb"),
    ],
)
def test_where_channels_do_not_mix_every_half_gives_what_the_slow_way_gives(
    source: str, config: str | None, target: Colour, clamp: str | None
) -> None:
    way = transform(source, config, target, clamp)
    every = halves()
    mixed = np.stack([every, every[::-1], np.roll(every, 777)], axis=1).reshape(-1, 4, 3)
    fast, slow = way.apply(mixed), way.apply(mixed.astype(np.float32))
    assert way.tables is not None
    assert np.array_equal(fast.view(np.uint32), slow.view(np.uint32))
    assert not (clamp == "unit" and (fast.min() < 0 or fast.max() > 1))


@pytest.mark.parametrize(("target", "curve"), [("srgb", linear_to_srgb), ("scene-linear", srgb_to_linear)])
def test_plain_names_go_through_the_published_curve(target: Colour, curve: Any) -> None:
    source = "scene-linear" if target == "srgb" else "srgb"
    pixels = rgb()
    assert np.array_equal(transform(source, None, target, None).apply(pixels), curve(pixels))


def test_a_change_of_primaries_is_the_published_matrix() -> None:
    pixels = rgb().astype(np.float32)
    expected = pixels.astype(np.float64) @ AP1_TO_709.T
    linear = transform("ACEScg", CG, "scene-linear", None)
    assert linear.tables is None
    assert np.allclose(linear.apply(pixels), expected, atol=2e-5)
    display = transform("ACEScg", CG, "srgb", None).apply(pixels)
    # The straight part of OpenColorIO's curve is 0.025 % steeper, so that it meets the power part without a step.
    assert np.allclose(display, linear_to_srgb(expected.astype(np.float32)), rtol=3e-4, atol=1e-5)


def test_half_and_float_pixels_give_the_same_where_channels_mix() -> None:
    way, pixels = transform("ACEScg", CG, "srgb", "unit"), rgb(70, 1000)
    assert np.array_equal(way.apply(pixels), way.apply(pixels.astype(np.float32)))
    one_by_one = np.concatenate([way.apply(pixels[y : y + 1]) for y in range(70)])
    assert np.array_equal(way.apply(pixels), one_by_one)


def test_middle_grey_of_a_log_space_is_middle_grey() -> None:
    grey = np.full((1, 1, 3), 0.4135884, np.float32)
    assert np.allclose(transform("ACEScct", CG, "scene-linear", None).apply(grey), 0.18, atol=1e-5)


def test_both_built_in_configurations_agree_on_what_both_have() -> None:
    pixels = rgb().astype(np.float32)
    one, other = (transform("ACEScg", config, "srgb", None) for config in (CG, STUDIO))
    assert np.allclose(one.apply(pixels), other.apply(pixels), atol=1e-6)
    assert one.identity != other.identity


def test_the_clamp_cuts_after_the_conversion() -> None:
    pixels = np.array([[[-0.5, 0.5, 8.0]]], np.float16)
    open_ended, cut = (transform("scene-linear", None, "srgb", clamp).apply(pixels) for clamp in ("none", "unit"))
    assert open_ended.min() < 0
    assert open_ended.max() > 1
    assert np.array_equal(cut, np.clip(open_ended, 0, 1))


def test_channels_are_told_by_their_names() -> None:
    pixels = rgb()
    alpha = np.full((5, 7, 1), 0.25, np.float16)
    way = transform("ACEScg", CG, "srgb", None)
    straight = way.apply(pixels)
    turned = way.apply(np.concatenate([alpha, pixels[..., ::-1]], axis=2), ("A", "rgba.blue", "plate.G", "left:R"))
    assert np.array_equal(turned[..., :0:-1], straight)
    assert (turned[..., 0] == 0.25).all()
    unnamed = way.apply(np.concatenate([pixels, alpha], axis=2))
    assert np.array_equal(unnamed[..., :3], straight)
    assert (unnamed[..., 3] == 0.25).all()


def test_two_channels_of_a_curve_are_each_converted() -> None:
    pixels = rgb()
    way = transform("scene-linear", None, "srgb", None)
    for given in (pixels, pixels.astype(np.float32)):
        assert np.array_equal(way.apply(given[..., :2], ("B", "R")), linear_to_srgb(given[..., :2]))
        assert np.array_equal(way.apply(given[..., :1], ("Y",)), linear_to_srgb(given[..., :1]))


@pytest.mark.parametrize("channels", [("R", "G"), ("Y",), ("R", "G", "B", "Y")])
def test_where_channels_mix_red_green_and_blue_go_together(channels: tuple[str, ...]) -> None:
    pixels = np.zeros((2, 2, len(channels)), np.float32)
    with pytest.raises(RefusedError, match="expected R, G and B together"):
        transform("ACEScg", CG, "srgb", None).apply(pixels, channels)
    passed = transform("ACEScg", CG, "srgb", None).apply(pixels[..., :1] + 0.5, ("depth.Z",))
    assert (passed == 0.5).all()


def test_a_slow_way_whose_channels_mix_after_all_gets_no_tables() -> None:
    assert colour._tables(lambda pixels: pixels[:, ::-1].copy(), unit=False) is None
    doubled = colour._tables(lambda pixels: pixels * np.array([1, 2, 3], np.float32), unit=False)
    assert doubled is not None


def test_channels_with_curves_of_their_own_have_tables_of_their_own() -> None:
    gains = np.array([1, 2, 3], np.float32)
    way = colour._made("gains", lambda pixels: pixels * gains, unit=False, crosstalk=False)
    pixels = rgb()
    assert np.array_equal(way.apply(pixels), pixels.astype(np.float32) * gains)
    assert np.array_equal(way.apply(pixels[..., ::-1], ("B", "G", "R")), (pixels.astype(np.float32) * gains)[..., ::-1])
    with pytest.raises(RefusedError, match="expected R, G and B together"):
        way.apply(pixels[..., :1], ("Y",))


@pytest.mark.parametrize(
    ("source", "config", "target"),
    [("raw", None, "srgb"), ("srgb", None, "raw"), ("Raw", CG, "srgb"), ("ACEScg", CG, "raw"), ("raw", CG, "srgb")],
)
def test_raw_and_data_meet_raw_alone(source: str, config: str | None, target: Colour) -> None:
    with pytest.raises(RefusedError, match=f"brought to '{target}'"):
        transform(source, config, target, None)


@pytest.mark.parametrize(
    ("source", "config", "words"),
    [
        ("ACEScg", CG, ("ocio", "78095df34404b25c2c4b564a228b690b", "ACEScg -> srgb", "clamp unit", "path ocio")),
        ("Linear Rec.709 (sRGB)", CG, ("ocio", "path table")),
        ("scene-linear", None, ("scene-linear -> srgb", "clamp unit", "path table")),
        ("srgb", None, ("srgb -> srgb", "path none")),
    ],
)
def test_an_identity_names_all_that_decides_the_result(source: str, config: str | None, words: tuple[str, ...]) -> None:
    identity = transform(source, config, "srgb", "unit").identity
    assert [word for word in words if word not in identity] == []


def test_a_studios_configuration_is_read_from_its_file_wherever_it_lies(tmp_path: Path) -> None:
    text = ocio.Config.CreateFromFile(STUDIO).serialize()
    identities = set()
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "show.ocio"
        path.write_text(text, encoding="utf-8")
        check_colour("ARRI LogC4", str(path), where="x")
        identities.add(transform("ARRI LogC4", path, "srgb", None).identity)
    assert identities == {transform("ARRI LogC4", STUDIO, "srgb", None).identity}


def test_another_configuration_is_another_identity(tmp_path: Path) -> None:
    one = with_lut(tiny(tmp_path / "one"))
    two = with_lut(tiny(tmp_path / "two"))
    (tmp_path / "two" / "luts" / "half.spi1d").write_text(HALVING.replace("0.5", "0.25"), encoding="utf-8")
    ways = [transform("film", path, "scene-linear", None) for path in (one, two)]
    assert ways[0].identity != ways[1].identity
    grey = np.full((1, 1, 3), 0.5, np.float32)
    # A neutral grey of AP0 is, but for the white point's rounding, a neutral grey of Rec. 709.
    assert np.allclose(ways[0].apply(grey), 0.25, atol=2e-4)
    assert np.allclose(ways[1].apply(grey), 0.125, atol=2e-4)


def test_an_archive_brings_its_tables_along(tmp_path: Path) -> None:
    path = with_lut(tiny(tmp_path / "config"))
    archive = tmp_path / "show.ocioz"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(path, "config.ocio")
        packed.write(path.parent / "luts" / "half.spi1d", "luts/half.spi1d")
    check_colour("film", str(archive), where="x")
    pixels = rgb().astype(np.float32)
    ways = [transform("film", config, "srgb", None).apply(pixels) for config in (path, archive)]
    assert np.array_equal(ways[0], ways[1])


def test_a_configuration_whose_tables_are_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"the tables of film.*one archive \(\.ocioz\)"):
        check_colour("film", str(tiny(tmp_path)), where="x")


def test_a_configuration_is_asked_as_it_is_written_and_not_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_lut(tiny(tmp_path))
    before = transform("film", path, "srgb", None).identity
    colour._transform.cache_clear()
    monkeypatch.setitem(os.environ, "LUT", "another")
    assert transform("film", path, "srgb", None).identity == before


def test_a_configuration_without_interchange_roles_is_refused_with_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="a way from lin to scene-linear.*the roles aces_interchange"):
        check_colour("lin", str(tiny(tmp_path, roles="")), where="x")


@pytest.mark.parametrize("name", ["ACEScg", "linear", "", "sRGB", "ab\ncd"])
def test_a_colour_without_a_configuration_is_one_of_three(name: str) -> None:
    with pytest.raises(InvalidInputError, match="expected one of scene-linear, srgb, raw") as caught:
        check_colour(name, None, where="ab010")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["scene-linear", "srgb", "raw"])
@pytest.mark.parametrize("config", [None, CG])
def test_the_three_plain_names_need_no_configuration(name: str, config: str | None) -> None:
    check_colour(name, config, where="ab010")


@pytest.mark.parametrize("name", ["ACEScg", "Raw", "scene_linear", "lin_rec709_srgb", "ACEScct"])
def test_spaces_roles_and_aliases_of_a_configuration_are_known(name: str) -> None:
    check_colour(name, CG, where="ab010")


def test_an_unknown_space_is_refused_with_those_that_are_close() -> None:
    with pytest.raises(InvalidInputError, match=r"expected the colour space 'ACEScgg', found such as ACEScg"):
        check_colour("ACEScgg", CG, where="ab010")


@pytest.mark.parametrize("config", ["ocio://default", "ocio://cg-config-latest", "ocio://nothing"])
def test_a_built_in_configuration_is_named_in_full(config: str) -> None:
    with pytest.raises(
        InvalidInputError, match="expected a built-in configuration by its full name.*ocio://cg-config-v"
    ):
        check_colour("ACEScg", config, where="ab010")


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a file .ocio or .ocioz, found no file"):
        check_colour("ACEScg", str(tmp_path / "gone.ocio"), where="x")
    for index, content in enumerate((b"", b"\xff\xfe\x00", b"- a\n- b\n", b"PK\x03\x04 not really")):
        path = tmp_path / f"bad{index}.ocio"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=f"bad{index}.ocio") as caught:
            check_colour("ACEScg", str(path), where="x")
        assert str(caught.value).isprintable()
