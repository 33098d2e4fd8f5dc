from collections.abc import Callable

import pytest

from changeover_registry.inspect import Inspection, Problem, TensorInfo
from changeover_registry.records.findings import Finding, Passed, Refused
from changeover_registry.records.release import FileEntry, Release, Requires, State, Tile, Variant
from changeover_validators.checks.format import check_files, check_format

MakeRelease = Callable[..., Release]
MakeVariant = Callable[..., Variant]

SOUND = Inspection(
    Requires(ir_version=10, opset=21, domains=("ai.onnx",), dtypes=("float32",)),
    inputs=(TensorInfo("x", "float32", (1, 3, "h", "w")),),
    outputs=(TensorInfo("y", "float32", (1, 1, "h", "w")),),
)


def refusals(findings: tuple[Finding, ...]) -> list[Refused]:
    return [finding for finding in findings if isinstance(finding, Refused)]


def test_onnx_passes_without_any_permission(make_release: MakeRelease) -> None:
    (found,) = check_format(make_release(), allow_executable=False)

    assert isinstance(found, Passed)
    assert found.subject == "onnx-fp32"


@pytest.mark.parametrize(("runtime", "entry"), [("torchscript", "model.pt"), ("nuke-cat", "roto.cat")])
def test_executable_format_needs_the_vendors_permission(
    make_release: MakeRelease, make_variant: MakeVariant, runtime: str, entry: str
) -> None:
    loaders = ("nuke-inference",) if runtime == "nuke-cat" else ("python",)
    variant = make_variant(runtime=runtime, entry=entry, requires=Requires(), loaders=loaders)
    release = make_release(variants=(variant,))

    (refused,) = check_format(release, allow_executable=False)
    (allowed,) = check_format(release, allow_executable=True)

    assert isinstance(refused, Refused)
    assert "--allow-executable" in refused.remedy
    assert isinstance(allowed, Passed)


@pytest.mark.parametrize("path", ["weights.pkl", "lib/op.so", "hook.PY", "model.pth"])
def test_file_that_something_executes_is_refused_by_name(
    make_release: MakeRelease, make_variant: MakeVariant, path: str
) -> None:
    files = tuple(FileEntry(path=name, size=0, sha256="0" * 64, blocks=()) for name in ("model.onnx", path))

    (found,) = check_format(make_release(variants=(make_variant(files=files),)), allow_executable=True)

    assert isinstance(found, Refused)
    assert path in found.actual


def test_entry_of_another_ending_and_custom_domain_are_both_refused(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    variant = make_variant(entry="model.bin", requires=Requires(domains=("ai.onnx", "com.acme")))

    found = refusals(check_format(make_release(variants=(variant,)), allow_executable=True))

    assert [item.rule for item in found] == ["entry", "operator domain"]


def test_files_as_claimed_pass_and_uninspected_variants_are_left_out(make_release: MakeRelease) -> None:
    (found,) = check_files(make_release(), {"onnx-fp32": SOUND})

    assert isinstance(found, Passed)
    assert check_files(make_release(), {}) == ()


def test_problem_of_an_inspection_is_a_refusal_in_its_own_words(make_release: MakeRelease) -> None:
    broken = Inspection(
        Requires(), problems=(Problem("ONNX file", "model.onnx", "a model", "garbage", "export again"),)
    )

    (found,) = check_files(make_release(), {"onnx-fp32": broken})

    assert isinstance(found, Refused)
    assert (found.rule, found.expected, found.actual) == ("ONNX file", "a model", "model.onnx: garbage")


@pytest.mark.parametrize(
    ("derived", "field"),
    [
        (Requires(ir_version=11), "ir_version"),
        (Requires(opset=22), "opset"),
        (Requires(compute_capability="8.0"), "compute_capability"),
        (Requires(weight_bytes=5), "weight_bytes"),
        (Requires(dtypes=("bfloat16", "float32")), "dtypes"),
        (Requires(operators=("Conv",)), "operators"),
        (Requires(external_data=True), "external_data"),
        (Requires(dynamic_axes=True), "dynamic_axes"),
        (Requires(global_attention=True), "global_attention"),
    ],
)
def test_record_that_claims_less_than_its_files_need_is_refused(
    make_release: MakeRelease, derived: Requires, field: str
) -> None:
    (found,) = check_files(make_release(), {"onnx-fp32": Inspection(derived)})

    assert isinstance(found, Refused)
    assert found.rule == "requires"
    assert field in found.actual


def test_refusal_names_what_in_the_files_shows_the_need(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    shown = "MatMul scores: 1x1024x1024 at 512x512 and 1x4096x4096 at 1024x1024"
    attending = Inspection(Requires(global_attention=True), evidence={"global_attention": shown})
    script = make_variant(runtime="torchscript", entry="model.pt", requires=Requires(torchscript_version=3))
    written = Inspection(Requires(torchscript_version=10, operators=("aten::conv2d", "aten::gelu")))

    (attention,) = check_files(make_release(), {"onnx-fp32": attending})
    (version,) = check_files(make_release(variants=(script,)), {script.id: written})

    assert isinstance(attention, Refused)
    assert attention.expected == f"true ({shown}), as the files need"
    assert isinstance(version, Refused)
    assert version.expected == "at least 10 (by aten::gelu), as the files need"
    assert version.actual == f"{script.id}: torchscript_version: 3"


def test_record_of_a_script_from_before_its_operators_were_read_is_not_held_to_them(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    derived = Inspection(Requires(torchscript_version=3, operators=("aten::softmax",), global_attention=True))
    silent = make_variant(runtime="torchscript", entry="model.pt", requires=Requires(torchscript_version=3))
    saying = Requires(torchscript_version=3, operators=("aten::add",), global_attention=False)
    less = make_variant(runtime="torchscript", entry="model.pt", requires=saying)

    assert refusals(check_files(make_release(variants=(silent,)), {silent.id: derived})) == []
    assert [item.expected for item in refusals(check_files(make_release(variants=(less,)), {less.id: derived}))] == [
        "also aten::softmax, as the files need", "true, as the files need"
    ]  # fmt: skip


def test_record_that_claims_more_than_its_files_need_passes(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    claimed = Requires(ir_version=10, opset=21, compute_capability="10.0", dtypes=("float16", "float32"))
    release = make_release(variants=(make_variant(requires=claimed),))

    (found,) = check_files(release, {"onnx-fp32": Inspection(Requires(ir_version=8, compute_capability="8.9"))})

    assert isinstance(found, Passed)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (("plate", "float32", (1, 3, "h", "w")), "y", "plate: fed by nobody"),
        (("x", "float16", (1, 3, "h", "w")), "y", "float16 [1,3,h,w]"),
        (("x", "float32", (1, 4, "h", "w")), "y", "float32 [1,4,h,w]"),
        (("x", "float32", (1, 3, "n")), "y", "float32 [1,3,n]"),
        (("x", "float32", (1, 3, "h", "w")), "alpha", "y: not in the file"),
    ],
)
def test_contract_that_the_file_does_not_honour_is_refused(
    make_release: MakeRelease, inputs: tuple[str, str, tuple[int | str, ...]], outputs: str, words: str
) -> None:
    found = Inspection(SOUND.requires, (TensorInfo(*inputs),), (TensorInfo(outputs, "float32", ()),))

    refused = refusals(check_files(make_release(), {"onnx-fp32": found}))

    assert {item.rule for item in refused} == {"contract"}
    assert any(words in item.actual for item in refused)


@pytest.mark.parametrize(
    ("contract", "refused"),
    [
        ({}, 2),
        ({"resize": (320, 256)}, 0),
        ({"resize": (256, 320)}, 2),
        ({"tiles": (Tile(size=320),)}, 1),
        ({"resize": (320, 250), "multiple": 16}, 0),
    ],
)
def test_fixed_size_must_be_what_the_contract_feeds(
    make_release: MakeRelease, make_variant: MakeVariant, contract: dict[str, object], refused: int
) -> None:
    fixed = Inspection(SOUND.requires, (TensorInfo("x", "float32", (1, 3, 256, 320)),), SOUND.outputs)
    variant = make_variant(contract=make_variant().contract.model_copy(update=contract))

    found = refusals(check_files(make_release(variants=(variant,)), {"onnx-fp32": fixed}))

    assert [item.rule for item in found] == ["contract"] * refused
    assert all("fixed at" in item.actual for item in found)


def test_states_of_the_contract_are_looked_for_in_the_file(
    make_release: MakeRelease, make_variant: MakeVariant
) -> None:
    contract = make_variant().contract.model_copy(
        update={"evaluation": "sequence", "states": (State(input="before", output="after"),)}
    )

    refused = refusals(check_files(make_release(variants=(make_variant(contract=contract),)), {"onnx-fp32": SOUND}))

    assert sorted(item.actual for item in refused) == [
        "model.onnx: after: not in the file",
        "model.onnx: before: not in the file",
    ]
