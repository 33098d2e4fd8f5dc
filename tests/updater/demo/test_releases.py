from pathlib import Path

import pytest

from changeover_registry.records.policy import Policy
from changeover_updater.demo.models import read_model
from changeover_updater.demo.recipes import MODEL, RELEASES
from changeover_updater.demo.releases import CAT_MODEL, opaque_cat, write_cat_release, write_release
from changeover_updater.release_folder import read_release
from changeover_validators.checks.budget import MIB, Budget, budget
from changeover_validators.probe import forged_host
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.footprint import Room
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.plans import choose_plan
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.solve import largest_size


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
    allowed = budget(forged_host("quadro-p4000-8gib"), Policy(), "cuda")
    assert isinstance(allowed, Budget)
    room = Room(allowed.allowed_bytes, Policy())
    target = Target("onnxruntime", "1.26.0", "cuda", interpreter=None, context_bytes=400 * MIB)
    for version in RELEASES:
        folder = write_release(version, tmp_path / version)
        variant = read_release(folder).variants[0]
        predictor = OnnxPredictor(folder / variant.id, variant.entry, variant.contract, target)
        sizes = [tensor_size(variant.contract, 4096, 2160, tile) for tile in variant.contract.tiles]
        fits = [room.fits(choose_plan(predictor, *size).answer) for size in sizes]
        if version == "1.3.0":
            assert not any(fits)
            best = largest_size(predictor, variant.contract, room).best
            assert best is not None
            assert best.tile.size >= 512
        else:
            assert any(fits)


def test_cat_release_is_opaque_labelled_and_always_the_same(tmp_path: Path) -> None:
    release = read_release(write_cat_release(tmp_path))

    variant = release.variants[0]
    assert release.model == CAT_MODEL
    assert (variant.runtime, variant.loaders, variant.requires.torch_line) == ("nuke-cat", ("nuke-inference",), "2.1.1")
    data = (tmp_path / variant.id / variant.entry).read_bytes()
    assert data == opaque_cat()
    assert len(data) == 65536
    assert b"Nuke cannot load this file" in data.splitlines()[0]
