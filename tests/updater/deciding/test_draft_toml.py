import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_registry.inspect import Inspection, TensorInfo
from changeover_registry.records.release import Requires
from changeover_updater.draft_toml import DraftVariant, Origin, draft_text, group_files, runtime_of
from changeover_updater.release_toml import ReleaseToml

ORIGIN = Origin("a" * 32, "hair tuned", "c0ffee", "studio/hair@0.1.0", (("plates", "ab12cd34"), ("mattes", "f" * 64)))
IMAGE = TensorInfo("image", "float32", (1, 3, "H", "W"))
MATTE = TensorInfo("matte", "float32", (1, 1, "H", "W"))


def onnx(*inputs: TensorInfo, outputs: tuple[TensorInfo, ...] = (MATTE,), dtypes: tuple[str, ...] = ()) -> DraftVariant:
    return DraftVariant("onnx-fp32", "onnx", "model.onnx", Inspection(Requires(dtypes=dtypes), inputs, outputs))


def test_what_files_and_run_say_is_filled_in() -> None:
    body = tomllib.loads(draft_text("studio/hair", "1.0.0", ORIGIN, [onnx(IMAGE)]))

    assert body["provenance"] == {
        "mlflow_run": "a" * 32,
        "source_revision": "c0ffee",
        "data_digest": "f" * 64,
        "parent_release": "studio/hair@0.1.0",
    }
    (variant,) = body["variants"]
    assert (variant["runtime"], variant["precision"], variant["entry"]) == ("onnx", "fp32", "model.onnx")
    assert variant["contract"]["evaluation"] == "stateless"
    assert variant["contract"]["inputs"] == [{"name": "image", "port": "plate", "channels": ["R", "G", "B"]}]
    assert variant["contract"]["output"] == {"name": "matte"}
    assert body["interface"]["outputs"] == [{"name": "matte", "channels": ["A"], "colour": "raw"}]


def test_what_only_a_person_knows_stays_empty_and_the_draft_is_no_release() -> None:
    text = draft_text("studio/hair", "1.0.0", ORIGIN, [onnx(IMAGE)])

    body = tomllib.loads(text)
    assert (body["summary"], body["licences"]["weights"], body["variants"][0]["contract"]["colour"]) == ("", "", "")
    with pytest.raises(InvalidInputError):
        ReleaseToml.from_toml(text.encode(), where="release.toml")


def test_draft_becomes_a_release_once_it_is_filled_in() -> None:
    text = draft_text("studio/hair", "1.0.0", ORIGIN, [onnx(IMAGE)])

    for field, value in (("summary", "hair"), ("code", "MIT"), ("weights", "MIT"), ("training_data", "none")):
        text = text.replace(f'{field} = ""', f'{field} = "{value}"')
    draft = ReleaseToml.from_toml(text.replace('colour = "" ', 'colour = "srgb" ').encode(), where="release.toml")

    assert draft.model == "studio/hair"
    assert draft.variants[0].contract.colour == "srgb"


def test_half_precision_fixed_sizes_and_states_are_seen() -> None:
    fixed = TensorInfo("data", "float16", (1, 3, 320, 480))
    state = TensorInfo("r1i", "float16", (1, 16))

    text = draft_text("studio/hair", "1.0.0", ORIGIN, [onnx(fixed, state, outputs=(MATTE, state), dtypes=("float16",))])

    (variant,) = tomllib.loads(text)["variants"]
    assert (variant["precision"], variant["contract"]["resize"]) == ("fp16", [480, 320])
    assert (variant["loaders"], variant["contract"]["evaluation"]) == (["python"], "")
    assert "also fed: r1i" in text
    assert "the others are r1i" in text


def test_file_that_hides_its_tensors_leaves_their_names_open() -> None:
    cat = DraftVariant("nuke-cat", "nuke-cat", "m.cat", Inspection(Requires()))

    (variant,) = tomllib.loads(draft_text("studio/hair", "1.0.0", ORIGIN, [cat]))["variants"]

    assert variant["loaders"] == ["nuke-inference"]
    assert variant["requires"] == {"torch_line": ""}
    assert variant["contract"]["inputs"][0]["name"] == ""


@given(st.text(), st.text(), st.text())
def test_draft_is_toml_whatever_people_and_files_are_called(name: str, dataset: str, tensor: str) -> None:
    origin = Origin("r", name, name, None, ((dataset, dataset),))

    text = draft_text("studio/hair", "1.0.0", origin, [onnx(TensorInfo(tensor, "float32", (1, 3, "H", "W")), MATTE)])

    assert tomllib.loads(text)["provenance"]["mlflow_run"] == "r"


@pytest.mark.parametrize(
    ("path", "runtime"),
    [("a/m.onnx", "onnx"), ("m.PT", "torchscript"), ("m.ts", "torchscript"), ("m.cat", "nuke-cat"), ("m.pkl", None)],
)
def test_runtime_is_known_by_the_ending(path: str, runtime: str | None) -> None:
    assert runtime_of(path) == runtime


def test_data_comes_with_its_model_and_what_mlflow_writes_does_not() -> None:
    paths = ["onnx/MLmodel", "onnx/conda.yaml", "onnx/m.onnx", "onnx/w/m.data", "onnx/.hidden", "plots/a.png"]

    assert group_files(paths) == {"onnx/m.onnx": ("onnx/m.onnx", "onnx/w/m.data")}


def test_two_models_in_one_folder_take_nothing_from_each_other() -> None:
    assert group_files(["m/a.onnx", "m/b.pt", "m/x.data"]) == {"m/a.onnx": ("m/a.onnx",), "m/b.pt": ("m/b.pt",)}


@pytest.mark.parametrize("data", ["a.onnx.data", "a.onnx_data", "a.onnx_data_1"])
@pytest.mark.parametrize("folder", ["", "m/"])
def test_data_of_a_model_comes_with_it_from_the_top_of_a_run_and_from_beside_others(folder: str, data: str) -> None:
    paths = [f"{folder}{name}" for name in ("a.onnx", "b.onnx", "a.onnx.png", "plot.data", data)]

    assert group_files(paths) == {paths[0]: (paths[0], paths[4]), paths[1]: (paths[1],)}
