import dataclasses
import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.inspect import Inspection, TensorInfo
from changeover_registry.records.policy import LicencePolicy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Licences,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Tile,
)
from changeover_updater.claims import raise_claims
from changeover_updater.release_toml import (
    ContractToml,
    InputToml,
    OutputToml,
    Part,
    ReleaseToml,
    VariantToml,
    compose,
    entry_of,
)

TOML = """
schema = "changeover.release-toml/1"
model = "acme/person-roto"
version = "1.0.0"
summary = "Soft person mattes."
changes = "First release."

[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "none"

[[interface.inputs]]
name = "plate"
channels = ["red", "green", "blue"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["alpha"]
colour = "raw"

[[variants]]
id = "onnx-fp32"
runtime = "onnx"
precision = "fp32"
loaders = ["python"]

[variants.contract]
evaluation = "stateless"
colour = "srgb"
multiple = 16
tiles = ["none", "256+32", "512"]
[[variants.contract.inputs]]
name = "x"
mean = [0, 0.5, "0.25"]
scale = [1, 2.0, 4]
[variants.contract.output]
name = "y"
"""

Claim: TypeAlias = "int | bool | str | tuple[str, ...]"

DATA = b"bytes of a model"
SHA = hashlib.sha256(DATA).hexdigest()
SHOWN = Inspection(
    Requires(opset=17, ir_version=10, dtypes=("float32",), compute_capability="8.0", dynamic_axes=True),
    inputs=(TensorInfo("x", "float32", (1, 3, "H", "W")),),
    outputs=(TensorInfo("y", "float32", (1, 1, "H", "W")),),
)


def entry(path: str) -> FileEntry:
    return FileEntry(path=path, size=len(DATA), sha256=SHA, blocks=(SHA,))


def build(text: str, inspection: Inspection = SHOWN, files: tuple[str, ...] = ("model.onnx", "smoke.npz")) -> Release:
    draft = ReleaseToml.from_toml(text.encode(), where="release.toml")
    parts: Mapping[str, Part] = {v.id: Part(tuple(map(entry, files)), inspection) for v in draft.variants}
    return compose(draft, parts, where="release.toml")


def test_what_can_be_derived_need_not_be_written() -> None:
    release = build(TOML)

    variant = release.variants[0]
    assert variant.entry == "model.onnx"
    assert [file.sha256 for file in variant.files] == [SHA, SHA]
    assert variant.requires == SHOWN.requires
    taken = variant.contract.inputs[0]
    assert (taken.port, taken.channels, taken.dtype) == ("plate", ("red", "green", "blue"), "float32")
    assert (taken.mean, taken.scale) == (("0", "0.5", "0.25"), ("1", "2.0", "4"))
    assert (variant.contract.output.port, variant.contract.output.channel) == ("matte", 0)
    assert variant.contract.tiles == (Tile(size=0), Tile(size=256, overlap=32), Tile(size=512))
    assert variant.contract.pad == "reflect"


def test_same_text_and_files_give_the_same_release() -> None:
    assert build(TOML).digest() == build(TOML).digest()


def test_everything_that_may_be_written_arrives_in_the_record() -> None:
    text = TOML.replace('loaders = ["python"]', 'loaders = ["python"]\nentry = "model.onnx"\nfiles = ["model.onnx"]')
    text = text.replace(
        "multiple = 16", 'multiple = 16\npad = "zero"\nresize = [64, 32]\npre_roll = 2\nnon_finite = "error"'
    )
    text = text.replace('name = "y"', 'name = "y"\nport = "matte"\nchannel = 0\nrule = "as-is"')
    text = text.replace(
        'name = "x"', 'name = "x"\nport = "plate"\nchannels = ["blue", "green", "red"]\ndtype = "float32"'
    )
    text = text.replace("[[interface.inputs]]", '[provenance]\nsource_revision = "abc"\n[[interface.inputs]]')
    text += '[variants.requires]\ntorch_line = "2.1.1"\n[variants.sha256]\n"model.onnx" = "' + SHA + '"\n'

    release = build(text)

    contract = release.variants[0].contract
    assert (contract.pad, contract.resize, contract.pre_roll, contract.non_finite) == ("zero", (64, 32), 2, "error")
    assert contract.inputs[0].channels == ("blue", "green", "red")
    assert contract.output.rule == "as-is"
    assert release.provenance.source_revision == "abc"
    assert release.variants[0].requires.torch_line == "2.1.1"


@pytest.mark.parametrize("line", ['clamp = "unit"', 'clamp = "none"', 'pixel_aspect = "desqueeze"'])
def test_clamp_and_pixel_aspect_go_into_the_record_and_come_back_out_of_its_bytes(line: str) -> None:
    field, value = line.replace('"', "").split(" = ")

    release = build(TOML.replace("multiple = 16", f"multiple = 16\n{line}"))

    again = Release.from_bytes(release.to_bytes(), where="release.json")
    assert getattr(again.variants[0].contract, field) == value
    assert again.digest() == release.digest() != build(TOML).digest()


def test_every_field_of_a_contract_may_be_written() -> None:
    """Guides tell vendors to write fields of the record, so a new one must be read here too."""
    assert set(ContractToml.model_fields) == set(Contract.model_fields)
    assert set(InputToml.model_fields) == set(TensorIn.model_fields)
    assert set(OutputToml.model_fields) == set(TensorOut.model_fields)


def test_text_is_taken_in_one_spelling() -> None:
    decomposed = unicodedata.normalize("NFD", "Größer")

    assert build(TOML.replace("Soft person mattes.", decomposed)).summary == "Größer"


def test_knobs_may_be_written_as_numbers() -> None:
    knob = '[[interface.knobs]]\nname = "soft"\nkind = "float"\ndefault = 0.5\nminimum = 0\nmaximum = 1.0\n'

    (made,) = build(TOML.replace("[[variants]]", knob + "[[variants]]", 1)).interface.knobs

    assert (made.default, made.minimum, made.maximum) == ("0.5", "0", "1.0")


@pytest.mark.parametrize(
    ("old", "new", "field", "expected", "actual"),
    [
        ('summary = "Soft person mattes."\n', "", "summary", "this field", "nothing"),
        ('version = "1.0.0"', 'version = "1!1.0.0"', "version", "three integers", "1!1.0.0"),
        ('version = "1.0.0"', 'version = "1.0"', "version", "three integers", "1.0"),
        ('version = "1.0.0"', "version = 1", "version", "string", "1"),
        ('model = "acme/person-roto"', 'model = "person-roto"', "model", "vendor/name", "person-roto"),
        ('model = "acme/person-roto"', 'model = "acme/Person"', "model", "a-z", "acme/Person"),
        ('runtime = "onnx"', 'runtime = "onnx"\nsize = 12', "onnx-fp32.size", "no such field", "12"),
        ('runtime = "onnx"', 'runtime = "tflite"', "onnx-fp32.runtime", "onnx", "tflite"),
        ('loaders = ["python"]', 'loaders = "python"', "onnx-fp32.loaders", "array", "python"),
        ('loaders = ["python"]', "loaders = []", "onnx-fp32.loaders", "1", "[]"),
        ('loaders = ["python"]', 'loaders = ["python"]\nfiles = ["../a"]', "onnx-fp32.files.0", "..", "../a"),
        ('loaders = ["python"]', 'loaders = ["python"]\nentry = "/etc/x"', "onnx-fp32.entry", "relative", "/etc/x"),
        ('loaders = ["python"]', 'loaders = ["python"]\nfolder = "a/../b"', "onnx-fp32.folder", "..", "a/../b"),
        ('loaders = ["python"]', 'loaders = ["python"]\nentry = "b.onnx"', "onnx-fp32.entry", "b.onnx", "model.onnx"),
        ('tiles = ["none", "256+32", "512"]', 'tiles = ["64x64"]', "onnx-fp32.contract.tiles.0", "1024+64", "64x64"),
        ('"512"]', '"512+300"]', "onnx-fp32.contract.tiles.2", "overlap under half", "300"),
        ('mean = [0, 0.5, "0.25"]', "mean = 127", "inputs.0.mean", "such as [127, 127, 127]", "127"),
        ('mean = [0, 0.5, "0.25"]', "mean = 0.485", "inputs.0.mean", "such as [0.485, 0.485, 0.485]", "0.485"),
        ("scale = [1, 2.0, 4]", 'scale = "1/255"', "inputs.0.scale", "such as [0.5, 0.5, 0.5]", "1/255"),
        ("multiple = 16", 'clamp = "full"', "onnx-fp32.contract.clamp", "'none' or 'unit'", "full"),
        ("multiple = 16", 'pixel_aspect = "2:1"', "contract.pixel_aspect", "'as-is' or 'desqueeze'", "2:1"),
        ('mean = [0, 0.5, "0.25"]', "mean = [0, 0.5]", "onnx-fp32.contract.inputs.0", "3 numbers", "x"),
        ('mean = [0, 0.5, "0.25"]', "mean = [true, 0, 0]", "onnx-fp32.contract.inputs.0.mean.0", "string", "True"),
        ('name = "x"', 'name = "z"', "onnx-fp32.contract.inputs", "the tensors of the model file: x", "z"),
        ('name = "y"', 'name = "z"', "onnx-fp32.contract.output", "the tensors of the model file: y", "z"),
        ('name = "y"', 'name = "y"\nchannel = 1', "onnx-fp32.contract.output.channel", "less than 1", "1"),
        ('name = "y"', 'name = "y"\nport = "mask"', "onnx-fp32.contract.output.port", "one of matte", "mask"),
        ('name = "x"', 'name = "x"\ndtype = "float16"', "onnx-fp32.contract.inputs.0.dtype", "float32, as", "float16"),
        ('name = "x"', 'name = "x"\nchannels = ["depth"]', "onnx-fp32.contract.inputs.0.channels", "red", "depth"),
        ('name = "x"', 'name = "x"\nchannels = ["red"]', "onnx-fp32.contract.inputs.0.channels", "3 channels", "red"),
        ('id = "onnx-fp32"', 'id = "onnx-fp32"\nderived_from = "twin"', "whole record", "derived_from among", "twin"),
        ('id = "onnx-fp32"', 'id = "ONNX"', "variants.0.id", "onnx-fp16", "ONNX"),
        ('weights = "CC-BY-4.0"', 'weights = "MITT"', "licences.weights", "SPDX", "MITT"),
        ('weights = "CC-BY-4.0"', 'weights = "apache-2.0"', "licences.weights", "SPDX", "Apache-2.0"),
        ('weights = "CC-BY-4.0"', 'weights = "unknown"', "licences.weights", "SPDX", "unknown"),
        ('loaders = ["python"]', 'loaders = ["nuke-inference"]', "onnx-fp32", "a .cat for nuke-inference", "onnx"),
    ],
)  # fmt: skip
def test_bad_field_is_one_line_with_file_field_expected_and_actual(
    old: str, new: str, field: str, expected: str, actual: str
) -> None:
    assert old in TOML

    with pytest.raises(InvalidInputError) as caught:
        build(TOML.replace(old, new, 1))

    assert caught.value.exit_code == 2
    assert "release.toml" in caught.value.where
    assert field in caught.value.where
    assert expected in caught.value.expected
    assert actual in caught.value.actual
    assert "\n" not in str(caught.value)


SECOND = TOML[TOML.index("[[variants]]") :].replace('id = "onnx-fp32"', 'id = "onnx-tiled"')


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('runtime = "onnx"', 'runtime = "tflite"', "variants.onnx-tiled.runtime"),
        ('"512"]', '"512+300"]', "variants.onnx-tiled.contract.tiles.2"),
        ('name = "x"', 'name = "z"', "variants.onnx-tiled.contract.inputs"),
        ('id = "onnx-tiled"', "", "variants.1.id"),
    ],
)
def test_variant_in_an_error_is_named_by_its_id_where_it_has_one(old: str, new: str, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(TOML + SECOND.replace(old, new, 1))

    assert caught.value.where == f"release.toml: {field}"


FIXED = dataclasses.replace(SHOWN, inputs=(TensorInfo("x", "float32", (1, 3, 256, 320)),))
SQUARE = dataclasses.replace(SHOWN, inputs=(TensorInfo("x", "float32", (1, 3, 512, 512)),))


@pytest.mark.parametrize(
    ("lines", "shown", "said"),
    [
        ("", FIXED, "no resize"),
        ("multiple = 16", FIXED, "no resize with multiple = 16"),
        ("resize = [256, 320]", FIXED, "resize = [256, 320]"),
        ("resize = [320, 250]", FIXED, "resize = [320, 250]"),
        ('tiles = ["none", "512"]', SQUARE, "no resize"),
    ],
)
def test_contract_that_does_not_lead_to_the_fixed_size_of_the_file_is_told_what_to_write(
    lines: str, shown: Inspection, said: str
) -> None:
    text = TOML.replace('multiple = 16\ntiles = ["none", "256+32", "512"]', lines)
    width, height = (320, 256) if shown is FIXED else (512, 512)

    with pytest.raises(InvalidInputError) as caught:
        build(text, shown)

    assert caught.value.where == "release.toml: variants.onnx-fp32.contract.resize"
    assert f"write resize = [{width}, {height}]" in caught.value.remedy
    assert caught.value.actual == said


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("resize = [320, 256]", FIXED),
        ("multiple = 64\nresize = [300, 200]", FIXED),
        ('tiles = ["512", "512+32"]', SQUARE),
        ('tiles = ["512"]\nmultiple = 16', SQUARE),
        ("", dataclasses.replace(SHOWN, inputs=(TensorInfo("x", "float32", (1, 3, 256, "W")),))),
        ("", dataclasses.replace(SHOWN, inputs=(TensorInfo("x", "float32", ()),))),
    ],
)
def test_contract_that_leads_to_the_size_of_the_file_is_taken(lines: str, shown: Inspection) -> None:
    text = TOML.replace('multiple = 16\ntiles = ["none", "256+32", "512"]', lines)

    assert build(text, shown).variants[0].contract.inputs[0].name == "x"


@pytest.mark.parametrize("page", ["write-a-contract.md", "publish-a-release.md"])
def test_head_that_a_guide_shows_is_taken_by_the_default_policy(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)

    licences = Licences.model_validate(tomllib.loads(blocks[0])["licences"])

    assert licences.training_data not in LicencePolicy().refuse_training_data


def test_enum_knob_whose_default_is_no_choice_is_refused() -> None:
    knob = '[[interface.knobs]]\nname = "mode"\nkind = "enum"\ndefault = "c"\nchoices = ["a", "b"]\n'

    with pytest.raises(InvalidInputError, match="one of a, b"):
        build(TOML.replace("[[variants]]", knob + "[[variants]]", 1))


@pytest.mark.parametrize("data", [b"model = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_text_that_is_no_toml_is_one_line(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"release\.toml: expected a TOML file"):
        ReleaseToml.from_toml(data, where="release.toml")


def test_sample_of_the_released_format_is_read() -> None:
    path = Path(__file__).parents[1] / "samples" / "release-toml-1.toml"
    digest = "b" * 64

    draft = ReleaseToml.from_toml(path.read_bytes(), where=path.name)
    parts = {
        "torchscript-fp32": Part(
            (FileEntry(path="model.pt", size=1, sha256=digest, blocks=(digest,)),), Inspection(Requires())
        ),
        "nuke-cat-torch2.1": Part((entry("PersonRoto.cat"),), Inspection(Requires())),
    }
    release = compose(draft, parts, where=path.name)

    torch, cat = release.variants
    assert (release.version, release.provenance.source_revision) == ("4.2.0rc1", "9f2c1d7")
    assert [knob.default for knob in release.interface.knobs] == ["0.5", "fine"]
    assert draft.variants[0].folder_name() == "files/torch"
    assert torch.contract.states[0].shape == (1, 16, 1, 1)
    assert (torch.contract.resize, torch.contract.pre_roll, torch.contract.pad) == ((320, 256), 2, "replicate")
    assert (cat.derived_from, cat.requires.torch_line) == ("torchscript-fp32", "2.1.1")
    assert cat.requires.compute_capability == "8.0"


def test_file_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"changeover\.policy/1"):
        build(TOML.replace("release-toml/1", "policy/1"))


def test_newer_major_says_what_it_needs() -> None:
    with pytest.raises(UndecidedError, match="needs changeover"):
        build(TOML.replace("release-toml/1", "release-toml/2"))


def test_wrong_digest_names_the_file_and_both_digests() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(TOML + f'[variants.sha256]\n"model.onnx" = "{"0" * 64}"\n')

    assert "onnx-fp32/model.onnx" in caught.value.where
    assert (caught.value.expected, caught.value.actual) == ("0" * 64, SHA)


def test_digest_of_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        build(TOML + f'[variants.sha256]\n"other.onnx" = "{SHA}"\n')


def test_two_ports_must_be_named() -> None:
    second = '[[interface.inputs]]\nname = "trimap"\nchannels = ["alpha"]\ncolour = "raw"\n[[interface.outputs]]'

    with pytest.raises(InvalidInputError, match="one of plate, trimap"):
        build(TOML.replace("[[interface.outputs]]", second, 1))


def test_cat_must_say_its_torch_line() -> None:
    text = TOML.replace('runtime = "onnx"', 'runtime = "nuke-cat"')
    text = text.replace('loaders = ["python"]', 'loaders = ["nuke-inference"]')
    opaque = Inspection(Requires())

    with pytest.raises(InvalidInputError, match="torch_line"):
        build(text, opaque, ("model.cat",))
    made = build(text + '[variants.requires]\ntorch_line = "2.1.1"\n', opaque, ("model.cat",))

    assert made.variants[0].requires.torch_line == "2.1.1"
    assert made.variants[0].contract.inputs[0].dtype == "float32"


def test_states_belong_to_the_tensors_of_the_file() -> None:
    text = TOML.replace('"stateless"', '"sequence"') + '[[variants.contract.states]]\ninput = "r0"\noutput = "r1"\n'
    shown = Inspection(
        Requires(),
        inputs=(*SHOWN.inputs, TensorInfo("r0", "float32", ("?", "?", "?", "?"))),
        outputs=(*SHOWN.outputs, TensorInfo("r1", "float32", ("?", "?", "?", "?"))),
    )

    assert build(text, shown).variants[0].contract.states[0].input == "r0"
    with pytest.raises(InvalidInputError, match="tensors of the model file: x$|tensors of the model file: x,"):
        build(text)


@pytest.mark.parametrize(
    ("files", "found"), [(("a.onnx", "b.onnx"), "a.onnx, b.onnx"), (("readme.txt",), "readme.txt"), ((), "no file")]
)
def test_entry_that_cannot_be_derived_must_be_named(files: tuple[str, ...], found: str) -> None:
    variant = ReleaseToml.from_toml(TOML.encode(), where="release.toml").variants[0]

    with pytest.raises(InvalidInputError) as caught:
        entry_of(variant, files, where="release.toml: variants.0")

    assert caught.value.actual == found


def test_torchscript_entry_is_found_by_either_suffix() -> None:
    draft: VariantToml = ReleaseToml.from_toml(TOML.encode(), where="release.toml").variants[0]
    variant = draft.model_copy(update={"runtime": "torchscript"})

    assert entry_of(variant, ("model.ts", "smoke.npz"), where="") == "model.ts"
    assert entry_of(variant, ("model.pt", "smoke.npz"), where="") == "model.pt"


@pytest.mark.parametrize(
    ("field", "less", "more"),
    [
        ("opset", 16, 18),
        ("ir_version", 9, 10),
        ("compute_capability", "7.5", "10.0"),
        ("dtypes", ("float16",), ("int64", "float32")),
        ("dynamic_axes", False, True),
        ("weight_bytes", 99, 101),
        ("torch_line", "1.13.1", "2.1.1"),
    ],
)
def test_claim_may_ask_for_more_and_never_for_less(field: str, less: Claim, more: Claim) -> None:
    shown = SHOWN.requires.model_copy(update={"weight_bytes": 100, "torch_line": "1.13.2"})

    raised = raise_claims(shown, Requires.model_validate({field: more}), where="requires")

    assert getattr(raised, field) == (tuple(sorted(more)) if isinstance(more, tuple) else more)
    with pytest.raises(InvalidInputError, match="at least what the files show") as caught:
        raise_claims(shown, Requires.model_validate({field: less}), where="requires")
    assert field in caught.value.where


@settings(deadline=None)
@given(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)), st.sets(st.sampled_from("abc")))
def test_what_is_raised_covers_both_the_files_and_the_claim(shown: int, claim: int | None, names: set[str]) -> None:
    derived = Requires(opset=shown, domains=("a",))

    try:
        raised = raise_claims(derived, Requires(opset=claim, domains=tuple(sorted(names))), where="requires")
    except InvalidInputError:
        assert (claim is not None and claim < shown) or (names and "a" not in names)
        return

    assert raised.opset is not None
    assert raised.opset >= max(shown, claim or 0)
    assert set(raised.domains) >= {"a"} | names
