from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.release import BLOCK_BYTES, FileEntry, Release, Tile

Changed = Callable[..., dict[str, Any]]


@pytest.fixture
def release(samples: Path) -> Release:
    return Release.from_bytes((samples / "release-1.json").read_bytes(), where="sample")


def test_a_release_is_named_by_model_version_and_digest(release: Release) -> None:
    assert str(release.ref()) == f"acme/person-roto@4.2.0rc1-{release.digest()[:12]}"


def test_a_variant_and_its_files_are_found_by_name(release: Release) -> None:
    variant = release.variant("onnx-fp16")

    assert variant is not None
    smoke = variant.file("smoke.npz")
    assert smoke is not None
    assert smoke.size == 0
    assert variant.file("other") is None
    assert release.variant("other") is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", "person-roto", "model: expected vendor/name"),
        ("version", "1!4.2.0", "version: expected three integers"),
        ("version", "4.2", "version: expected three integers"),
        ("kind", "shape", "kind: expected 'matte', found 'shape'"),
        ("summary", ..., "summary: expected this field, found nothing"),
        ("licences.weights", "", "licences.weights: expected"),
        ("variants", [], "variants: expected"),
        ("variants.0.id", "../up", "variants.0.id: expected"),
        ("variants.0.id", "nul", "variants.0.id: expected a relative path"),
        ("variants.0.id", "torchscript-fp32", "expected distinct variant ids"),
        ("variants.0.runtime", "pickle", "variants.0.runtime: expected 'onnx', 'torchscript' or 'nuke-cat'"),
        ("variants.0.entry", "other.onnx", "expected entry 'other.onnx' among the files"),
        ("variants.0.entry", "../model.onnx", "variants.0.entry: expected a relative path"),
        ("variants.0.files.1.path", "MODEL.onnx", "found 'model.onnx' and 'MODEL.onnx'"),
        ("variants.0.files.1.path", "a/../../b", "variants.0.files.1.path: expected a relative path"),
        ("variants.0.files.1.size", -1, "variants.0.files.1.size: expected"),
        ("variants.0.files.1.size", 12.5, "variants.0.files.1.size: expected"),
        ("variants.0.files.1.blocks", [], "expected 1 block digests for 12 bytes"),
        ("variants.0.files.1.sha256", "abc", "variants.0.files.1.sha256: expected 64 characters"),
        ("variants.2.derived_from", "nobody", "derived_from among the variants beside nuke-cat-torch2.1, found nobody"),
        ("variants.2.derived_from", "nuke-cat-torch2.1", "found nuke-cat-torch2.1"),
        ("variants.1.contract.states", [{"input": "a", "output": "b"}], "no states with evaluation = 'stateless'"),
        ("variants.0.contract.tiles", [], "expected at least one tile"),
        ("variants.0.contract.tiles", [{"size": 0}, {"size": 0}], "expected at least one tile, each once"),
        ("variants.0.contract.resize", [0, 5], "resize.0: expected"),
        ("variants.0.contract.inputs.0.mean", ["1"], "expected 3 numbers, one a channel, or none"),
        ("variants.0.contract.inputs.0.port", "depth", "found depth"),
        ("variants.0.contract.inputs.0.channels", ["red", "z", "blue"], "to take channels of"),
        ("variants.0.contract.output.port", "depth", "among ['matte'], found depth"),
        ("variants.0.requires.torch_line", "2.1", "torch_line: expected text of the form"),
        ("variants.0.requires.compute_capability", "٨.٠", "compute_capability: expected text of the form"),
        ("interface.knobs.0.name", "detail", "expected distinct names"),
        ("interface.inputs.1.name", "plate", "expected distinct names"),
    ],
)
def test_a_release_that_breaks_a_rule_is_refused_and_the_field_named(
    changed: Changed, path: str, value: object, message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Release.from_object(changed("release-1", path, value), where="release.json")

    assert message in str(caught.value)
    assert caught.value.where.startswith("release.json: ")


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 10 * BLOCK_BYTES])
def test_a_file_has_one_digest_for_each_begun_block(size: int) -> None:
    count = size // BLOCK_BYTES + (1 if size % BLOCK_BYTES else 0)

    entry = FileEntry(path="a", size=size, sha256="0" * 64, blocks=("1" * 64,) * count)

    assert len(entry.blocks) == count
    with pytest.raises(ValueError, match=f"expected {count} block digests"):
        FileEntry(path="a", size=size, sha256="0" * 64, blocks=("1" * 64,) * (count + 1))


@pytest.mark.parametrize(("size", "overlap", "text"), [(0, 0, "none"), (1024, 64, "1024+64"), (3, 1, "3+1")])
def test_a_tile_reads_as_size_and_overlap(size: int, overlap: int, text: str) -> None:
    assert str(Tile(size=size, overlap=overlap)) == text


@pytest.mark.parametrize(("size", "overlap"), [(0, 1), (2, 1), (1024, 512)])
def test_an_overlap_of_half_the_tile_or_of_no_tile_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="expected an overlap under half the tile"):
        Tile(size=size, overlap=overlap)
