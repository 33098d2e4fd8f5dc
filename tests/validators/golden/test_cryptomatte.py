import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.cryptomatte import (
    check_object,
    identifier,
    named,
    objects,
    read_object,
    without_object,
)

Array = np.ndarray[Any, Any]
HAIR, COAT = identifier("hair"), identifier("coat, dark")


def as_float(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def write_crypto(
    path: Path, ranks: Array, header: Mapping[str, str], layer: str = "crypto", kind: str = "float"
) -> Path:
    """Ranks [H, W, 2 * pairs] of identifier and coverage, two pairs a channel group."""
    groups = ranks.shape[2] // 4
    names = tuple(f"{layer}{group:02d}.{end}" for group in range(groups) for end in "RGBA")
    spec = oiio.ImageSpec(ranks.shape[1], ranks.shape[0], ranks.shape[2], kind)
    spec.channelnames = names
    for name, value in {"name": layer, **header}.items():
        spec.attribute(f"cryptomatte/28322e9/{name}", value)
    file = oiio.ImageOutput.create(str(path))
    assert file is not None
    assert file.open(str(path), spec), file.geterror()
    assert file.write_image(ranks)
    assert file.close()
    return path


def two_objects() -> Array:
    """4 x 6 pixels: hair on the left three columns, coat behind it everywhere, in one pixel hair again behind that."""
    ranks = np.zeros((4, 6, 8), np.float32)
    ranks[:, :3, 0], ranks[:, :3, 1] = as_float(HAIR), 0.5
    ranks[..., 2], ranks[..., 3] = as_float(COAT), 0.25
    ranks[0, 0, 4], ranks[0, 0, 5] = as_float(HAIR), 0.125
    return ranks


MANIFEST = json.dumps({"hair": f"{HAIR:08x}", "coat, dark": f"{COAT:08x}"})


def oracle_hash(data: bytes) -> int:
    """MurmurHash3_x86_32, seed 0, in numpy's wrapping 32-bit integers, word by word as its author wrote it."""
    with np.errstate(over="ignore"):
        h, c1, c2 = np.uint32(0), np.uint32(0xCC9E2D51), np.uint32(0x1B873593)

        def rotl(x: np.uint32, r: int) -> np.uint32:
            return np.uint32((x << np.uint32(r)) | (x >> np.uint32(32 - r)))

        blocks = len(data) // 4
        for word in np.frombuffer(data[: 4 * blocks], "<u4"):
            h = rotl(h ^ (rotl(np.uint32(word) * c1, 15) * c2), 13) * np.uint32(5) + np.uint32(0xE6546B64)
        k = np.uint32(0)
        for index, byte in enumerate(data[4 * blocks :]):
            k ^= np.uint32(byte << (8 * index))
        h ^= rotl(k * c1, 15) * c2
        h ^= np.uint32(len(data))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        return int(h ^ (h >> np.uint32(16)))


@given(st.text(max_size=40))
def test_an_identifier_is_the_hash_of_the_name_as_a_normal_float(name: str) -> None:
    raw, bits = oracle_hash(name.encode()), identifier(name)
    assert np.isfinite(as_float(bits))
    assert (bits >> 23) & 255 not in {0, 255}
    assert bits in {raw, raw ^ (1 << 23)}
    assert (bits == raw) is ((raw >> 23) & 255 not in {0, 255})


def test_identifiers_of_the_specification() -> None:
    # The examples of the Cryptomatte specification's text and of its sample files.
    assert identifier("hello") == 0x248BFA47
    assert identifier("равнина") == 0x9623511E
    assert identifier("name, with, comma") == 0x62FA4DB8
    assert named("0x248bfa47") == identifier("hello")


def test_coverage_is_the_sum_over_ranks(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": MANIFEST})
    expected = np.zeros((4, 6), np.float32)
    expected[:, :3] = 0.5
    expected[0, 0] += 0.125
    assert objects(path, "crypto") == {"hair": HAIR, "coat, dark": COAT}
    image = read_object(path, "crypto", "hair")
    assert np.array_equal(image.pixels[..., 0], expected)
    assert image.pixels.dtype == np.float32
    assert (read_object(path, "crypto", "coat, dark").pixels == 0.25).all()
    assert np.array_equal(read_object(path, "crypto", f"0x{HAIR:08X}").pixels, image.pixels)


def test_an_unknown_object_is_refused_with_the_names_that_are_close(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": MANIFEST})
    with pytest.raises(InvalidInputError, match=r"an object 'hiar' in crypto, found 2 objects: 'hair', 'coat, dark'"):
        read_object(path, "crypto", "hiar")


def test_of_many_objects_twenty_are_listed_and_the_closest_come_first(tmp_path: Path) -> None:
    names = [f"/world/crowd/agent_{index:03d}/body_geometry" for index in range(50)]
    manifest = json.dumps({name: f"{identifier(name):08x}" for name in names} | {"hair": f"{HAIR:08x}"})
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": manifest})

    with pytest.raises(InvalidInputError) as refused:
        read_object(path, "crypto", "hiar")

    listed = refused.value.actual.split(", ")[1:]
    assert refused.value.actual.startswith("51 objects, such as 'hair', ")
    assert len(listed) == 20
    assert listed[-1] == repr(names[18])


def test_a_layer_without_an_object_is_asked_for_one(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": MANIFEST})
    bare = write_crypto(tmp_path / "b.exr", two_objects(), {})

    asked = without_object(path, "crypto")

    assert asked is not None
    assert "'coat, dark', 'hair'" in asked.actual
    assert asked.remedy == "this is a Cryptomatte layer: add --object NAME"
    assert "no manifest" in str(without_object(bare, "crypto"))
    assert without_object(path, "A") is None
    assert without_object(tmp_path / "nothing.exr", "crypto") is None


def test_an_unknown_layer_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": MANIFEST})
    with pytest.raises(InvalidInputError, match="expected a Cryptomatte layer asset, found crypto"):
        objects(path, "asset")
    with pytest.raises(InvalidInputError, match="expected channels asset00.R and asset00.G"):
        read_object(path, "asset", "0x12345678")


def test_a_manifest_beside_the_file_is_read(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manif_file": "a.crypto.json"})
    (tmp_path / "a.crypto.json").write_text(MANIFEST, encoding="utf-8")
    assert read_object(path, "crypto", "hair").pixels.sum() == 6.125


@pytest.mark.parametrize("name", ["../a.json", "/etc/passwd", "x/a.json", "..", "..\\a.json", "a\n.json", "."])
def test_a_manifest_elsewhere_is_refused_and_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.json").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "x" / "a.json").write_text(MANIFEST, encoding="utf-8")
    path = write_crypto(tmp_path / "in" / "a.exr", two_objects(), {"manif_file": name})
    with pytest.raises(InvalidInputError, match="expected a manifest beside the file, found manif_file") as caught:
        objects(path, "crypto")
    assert str(caught.value).isprintable()


def test_a_link_to_a_manifest_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").symlink_to(tmp_path / "secret.json")
    path = write_crypto(tmp_path / "in" / "a.exr", two_objects(), {"manif_file": "a.json"})
    with pytest.raises(InvalidInputError, match="found no file"):
        objects(path, "crypto")


@pytest.mark.parametrize("header", [{}, {"manif_file": "gone.json"}])
def test_without_a_manifest_an_object_is_asked_for_by_its_identifier(tmp_path: Path, header: dict[str, str]) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), header)
    with pytest.raises(InvalidInputError, match="identifier"):
        read_object(path, "crypto", "hair")
    assert read_object(path, "crypto", f"0x{HAIR:08x}").pixels.sum() == 6.125


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"hair": 5}', '{"hair": "zz"}', "[" * 9999, '"x"'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manif_file": "a.json"})
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match="expected a manifest that maps names to identifiers"):
        objects(path, "crypto")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match="expected a manifest in UTF-8"):
        objects(path, "crypto")


def test_a_manifest_larger_than_any_is_refused_without_being_read(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manif_file": "a.json"})
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(InvalidInputError, match="expected a manifest of at most 67108864 bytes"):
        objects(path, "crypto")


def test_identifiers_kept_as_half_are_refused(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": MANIFEST}, kind="half")
    with pytest.raises(InvalidInputError, match="expected float channels in crypto, found half"):
        read_object(path, "crypto", "hair")


def test_an_object_may_be_in_the_manifest_of_some_frames_only(tmp_path: Path) -> None:
    coat = json.dumps({"coat, dark": f"{COAT:08x}"})
    files = {
        1001: write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": coat}),
        1002: write_crypto(tmp_path / "b.exr", two_objects(), {"manifest": MANIFEST}),
    }
    check_object(files, "crypto", "hair")
    check_object(files, "crypto", "0x00000001")
    with pytest.raises(InvalidInputError, match="found 2 objects: 'hair'"):
        check_object(files, "crypto", "hare")


def test_an_object_whose_identifier_is_not_its_names_own_is_asked_for_by_it(tmp_path: Path) -> None:
    path = write_crypto(tmp_path / "a.exr", two_objects(), {"manifest": '{"shoe": "1a2b3c4d"}'})
    with pytest.raises(InvalidInputError, match="name the object as 0x1a2b3c4d"):
        check_object({1: path}, "crypto", "shoe")


# Real files.

SAMPLES = {
    "special_chars.exr": ("special_chars", 4),
    "cornellBox_CryptoWildcard.0001.exr": ("uCryptoWildcard", 7),
    "cornellBox_CryptoWildcard.0002.exr": ("uCryptoWildcard", 7),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_decode_to_the_identifiers_in_their_manifest(data: Path, name: str) -> None:
    path, (layer, count) = data / "exr" / "cryptomatte" / name, SAMPLES[name]
    known = objects(path, layer)
    assert len(known) == count
    assert {object_name: identifier(object_name) for object_name in known} == known
    coverages = [read_object(path, layer, object_name).pixels for object_name in sorted(known)[:4]]
    assert all(coverage.sum() > 0 for coverage in coverages)
    assert np.sum(coverages, axis=0).max() < 1.0001


def test_the_sample_whose_manifest_lies_beside_it_decodes_by_name(data: Path, tmp_path: Path) -> None:
    source = data / "exr" / "cryptomatte" / "sidecar_manifest.exr"
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    with pytest.raises(InvalidInputError, match=r"sidecar_manifest.crypto_asset.json beside it, found no file"):
        objects(path, "crypto_asset")
    found = {"0x42c9679f", "0x8ca57ad9", "0x8f3ccbde", "0xad58c73a", "0xce406a47"}
    by_bits = {bits: read_object(path, "crypto_asset", bits).pixels for bits in found}
    assert all(coverage.sum() > 0 for coverage in by_bits.values())
    manifest = {f"object {bits}": bits[2:] for bits in found}
    (tmp_path / "sidecar_manifest.crypto_asset.json").write_text(json.dumps(manifest), encoding="utf-8")
    for bits, coverage in by_bits.items():
        assert np.array_equal(read_object(path, "crypto_asset", f"object {bits}").pixels, coverage)
