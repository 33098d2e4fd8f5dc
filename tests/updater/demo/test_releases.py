from pathlib import Path

import pytest

from changeover_updater.demo.models import read_model
from changeover_updater.demo.recipes import MODEL, RELEASES
from changeover_updater.demo.releases import CAT_MODEL, opaque_cat, write_cat_release, write_release
from changeover_updater.release_folder import read_release
from changeover_validators.checks.vram import MIB
from changeover_validators.vram import largest_size, predict

EIGHT_GIB = 8192 * MIB


@pytest.mark.parametrize("version", sorted(RELEASES))
def test_release_folder_is_read_as_a_vendor_registers_it(version: str, tmp_path: Path) -> None:
    release = read_release(write_release(version, tmp_path / version))

    variant = release.variants[0]
    assert (release.model, release.version) == (MODEL, version)
    assert (tmp_path / version / variant.id / variant.entry).read_bytes() == read_model(version)
    assert "nuke-inference" not in variant.loaders
    assert (variant.contract.colour, variant.contract.evaluation) == ("srgb", "stateless")
    assert release.interface == read_release(write_release("1.0.0", tmp_path / "first")).interface
    assert variant.requires.compute_capability == ("8.0" if version == "1.4.0" else None)


def test_model_trained_just_now_takes_the_committed_ones_place(tmp_path: Path) -> None:
    folder = write_release("1.0.0", tmp_path, read_model("1.1.0"))

    assert (folder / "onnx-fp32" / "model.onnx").read_bytes() == read_model("1.1.0")


def test_only_the_wide_release_is_too_large_for_8_gib_at_every_tile_it_offers(tmp_path: Path) -> None:
    for version in RELEASES:
        folder = write_release(version, tmp_path / version)
        variant = read_release(folder).variants[0]
        model = folder / variant.id / variant.entry
        needs = [predict(model, variant.contract, 4096, 2160, tile).total_bytes for tile in variant.contract.tiles]
        if version == "1.3.0":
            assert min(needs) > 1.5 * EIGHT_GIB
            assert (largest_size(model, variant.contract, EIGHT_GIB // 2) or 0) >= 512
        else:
            assert max(needs) < EIGHT_GIB / 4


def test_cat_release_is_opaque_labelled_and_always_the_same(tmp_path: Path) -> None:
    release = read_release(write_cat_release(tmp_path))

    variant = release.variants[0]
    assert release.model == CAT_MODEL
    assert (variant.runtime, variant.loaders, variant.requires.torch_line) == ("nuke-cat", ("nuke-inference",), "2.1.1")
    data = (tmp_path / variant.id / variant.entry).read_bytes()
    assert data == opaque_cat()
    assert len(data) == 65536
    assert b"Nuke cannot load this file" in data.splitlines()[0]
