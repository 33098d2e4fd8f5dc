import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry._fs import lock
from changeover_registry.client import Client
from changeover_registry.errors import (
    InvalidInputError,
    LostRaceError,
    MeasurementError,
    RefusedError,
    TrustError,
    UndecidedError,
    UnreachableError,
)
from changeover_registry.records.release import Release
from changeover_registry.repository.vendor import VendorView, fetch_record, object_path, open_vendor
from changeover_registry.transport import open_transport
from changeover_updater import vendor
from changeover_updater.release_folder import describe_file, read_release
from changeover_updater.vendor_home import Made, VendorHome, find_home, make_home, open_home, which_release
from changeover_validators.runtimes.sandbox import available

onnx = pytest.importorskip("onnx", reason="the extra run is not installed")
pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NOW = datetime.now(UTC).replace(microsecond=0)
needs_isolation = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")

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
[[variants.contract.inputs]]
name = "x"
[variants.contract.output]
name = "y"
"""

CAT = """
[[variants]]
id = "nuke-cat-torch2.1"
runtime = "nuke-cat"
precision = "fp32"
loaders = ["nuke-inference"]
[variants.contract]
evaluation = "stateless"
colour = "scene-linear"
[[variants.contract.inputs]]
name = "x"
[variants.contract.output]
name = "y"
[variants.requires]
torch_line = "2.1.1"
"""


def model_bytes(weight: float = 1 / 3, operator: str = "Sigmoid") -> bytes:
    """One pixel-wise layer: the matte is the sigmoid of the weighted sum of the plate's channels."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    import numpy as np

    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), weight, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(operator, ["c"], ["y"])],
        "matte",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, "H", "W"])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="session")
def smoke_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A smoke file as the vendor's own tools may give it, with the arrays that the contract asks for."""
    import numpy as np

    path = tmp_path_factory.mktemp("smoke") / "smoke.npz"
    plate = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
    matte = (1 / (1 + np.exp(-plate.mean(axis=2)))).astype(np.float32)
    arrays: dict[str, Any] = {"input0.plate": plate, "input1.plate": plate, "output0": matte, "output1": matte}
    np.savez(path, tolerance=np.float64(1e-3), **arrays)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "release"
    (made / "onnx-fp32").mkdir(parents=True)
    (made / "release.toml").write_text(TOML, encoding="utf-8")
    (made / "onnx-fp32" / "model.onnx").write_bytes(model_bytes())
    return made


@pytest.fixture
def ready(folder: Path, smoke_bytes: bytes) -> Path:
    (folder / "onnx-fp32" / "smoke.npz").write_bytes(smoke_bytes)
    return folder


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A home that is made once: MLflow takes two seconds to make its tables."""
    return make_home(tmp_path_factory.mktemp("home") / "acme", "acme", "", NOW)


@pytest.fixture
def home(tmp_path: Path, first: Made) -> VendorHome:
    shutil.copytree(first.home.folder, tmp_path / "home")
    return open_home(tmp_path / "home")


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "release.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "release.toml").write_text(text.replace(old, new, 1), encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def view(home: VendorHome, state: Path) -> VendorView:
    client = Client(open_transport(str(home.repository)), state, home.keys.anchor.read_bytes())
    return open_vendor(client, "acme")


def stored(home: VendorHome, name: str) -> Path:
    (path,) = (home.folder / "mlartifacts").rglob(name)
    return path


# The home.


def test_new_home_has_keys_apart_a_signed_repository_and_an_mlflow(first: Made, tmp_path: Path) -> None:
    home = first.home

    assert first.new
    assert first.root.read_bytes() == (home.repository / "metadata" / "1.root.json").read_bytes()
    assert {home.keys.root.parent, home.keys.targets.parent} == {home.folder / "keys" / "offline"}
    assert home.keys.online.parent != home.keys.root.parent
    assert view(home, tmp_path / "state").card.models == ()
    assert open_home(home.folder) == home
    assert (home.folder / "mlflow.db").is_file()


def test_home_made_again_is_the_same_home(home: VendorHome) -> None:
    before = tree(home.folder)

    again = make_home(home.folder, "acme", "", NOW)

    assert not again.new
    assert again.home == home
    assert tree(home.folder) == before


@pytest.mark.parametrize(("name", "mlflow"), [("other", ""), ("acme", "http://mlflow.example:5000")])
def test_home_of_another_vendor_is_left_alone(home: VendorHome, name: str, mlflow: str) -> None:
    before = tree(home.folder)

    with pytest.raises(RefusedError, match="as it was made"):
        make_home(home.folder, name, mlflow, NOW)

    assert tree(home.folder) == before


def test_folder_that_holds_other_things_does_not_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "plates").mkdir()

    with pytest.raises(RefusedError, match="plates"):
        make_home(tmp_path, "acme", "", NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["plates"]


def test_name_that_is_none_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--name"):
        make_home(tmp_path / "home", "Acme Inc", "", NOW)

    assert not (tmp_path / "home").exists()


def test_home_whose_making_was_killed_before_the_end_is_finished(home: VendorHome, tmp_path: Path) -> None:
    (home.folder / "vendor.toml").unlink()

    made = make_home(home.folder, "acme", "", NOW)

    assert made.new
    assert view(made.home, tmp_path / "state").card.vendor == "acme"


def test_home_half_made_for_another_vendor_is_not_taken_over(home: VendorHome) -> None:
    (home.folder / "vendor.toml").unlink()

    with pytest.raises(TrustError):
        make_home(home.folder, "other", "", NOW)

    assert not (home.folder / "vendor.toml").exists()


def test_home_with_a_server_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        make_home(tmp_path / "home", "acme", "http://127.0.0.1:9", NOW)

    assert not (tmp_path / "home" / "vendor.toml").exists()


@pytest.mark.parametrize(
    ("text", "field"), [("vendor = ", "TOML"), ('schema = "changeover.vendor-home/1"\nvendor = "acme"\n', "repository")]
)
def test_bad_vendor_toml_is_one_line(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "vendor.toml").write_text(text, encoding="utf-8")

    with pytest.raises(InvalidInputError, match=field) as caught:
        open_home(tmp_path)

    assert "vendor.toml" in caught.value.where


def test_sample_of_the_released_home_is_read(tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "samples" / "vendor-home-1.toml"
    (tmp_path / "vendor.toml").write_bytes(sample.read_bytes())

    home = open_home(tmp_path)

    assert (home.vendor, home.repository, home.mlflow) == ("acme", tmp_path / "repository", "")
    assert home.keys.root == Path("/media/safe/root.pem")
    assert home.keys.online == tmp_path / "keys" / "online" / "online.pem"


def test_home_is_found_by_flag_then_environment_then_the_current_folder(home: VendorHome, tmp_path: Path) -> None:
    environment = {"CHANGEOVER_VENDOR_HOME": "/there"}

    assert find_home(Path("/here"), environment, home.folder) == Path("/here")
    assert find_home(None, environment, home.folder) == Path("/there")
    assert find_home(None, {}, home.folder) == home.folder
    with pytest.raises(InvalidInputError, match="CHANGEOVER_VENDOR_HOME"):
        find_home(None, {}, tmp_path)
    with pytest.raises(InvalidInputError, match="no such file"):
        open_home(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["person-roto@1.0.0", "acme/person-roto@1.0.0"])
def test_release_is_named_with_or_without_the_vendor(text: str) -> None:
    assert which_release(text, "acme") == ("acme/person-roto", "1.0.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [("person-roto", "a version"), ("other/x@1.0.0", "a model of acme"), ("x@1!1.0.0", "no epoch"), ("X@1.0.0", "a-z")],
)
def test_release_named_in_another_form_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        which_release(text, "acme")


# The release folder.


def test_record_says_what_the_files_say(ready: Path) -> None:
    release = read_release(ready)

    variant = release.variants[0]
    assert [file.path for file in variant.files] == ["model.onnx", "smoke.npz"]
    assert variant.requires.opset == 17
    assert variant.requires.weight_bytes == 12
    assert variant.files[0] == describe_file(ready / "onnx-fp32" / "model.onnx", "model.onnx")


def test_files_may_be_listed_and_the_folder_may_have_another_name(ready: Path) -> None:
    edit(ready, 'loaders = ["python"]', 'loaders = ["python"]\nfolder = "files/one"\nfiles = ["model.onnx"]')
    (ready / "files").mkdir()
    (ready / "onnx-fp32").rename(ready / "files" / "one")

    assert [file.path for file in read_release(ready).variants[0].files] == ["model.onnx", "smoke.npz"]


def test_block_digests_cover_a_file_of_several_blocks(tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * (20 * 4096)
    (tmp_path / "big").write_bytes(data)
    counted: list[int] = []

    entry = describe_file(tmp_path / "big", "big", progress=counted.append)

    step = 4 * 1024 * 1024
    assert entry.blocks == tuple(hashlib.sha256(data[i : i + step]).hexdigest() for i in range(0, len(data), step))
    assert (entry.size, sum(counted)) == (len(data), len(data))


def test_listed_file_that_is_not_there_is_named(ready: Path) -> None:
    edit(ready, 'loaders = ["python"]', 'loaders = ["python"]\nfiles = ["model.onnx", "weights.bin"]')

    with pytest.raises(InvalidInputError, match=r"files\.1.*weights\.bin: expected this file, found no such file"):
        read_release(ready)


def test_variant_without_a_folder_is_named(ready: Path) -> None:
    edit(ready, 'id = "onnx-fp32"', 'id = "onnx-fp16"')

    with pytest.raises(InvalidInputError, match="onnx-fp16: expected the folder"):
        read_release(ready)


def test_folder_without_release_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"release\.toml: expected a folder that holds"):
        read_release(tmp_path)


def link_out(folder: Path) -> None:
    (folder / "secret").write_bytes(b"secret")
    (folder / "onnx-fp32" / "weights.bin").symlink_to(folder / "secret")


def link_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "onnx-fp32" / "sub").symlink_to(folder / "elsewhere")


def hidden(folder: Path) -> None:
    (folder / "onnx-fp32" / ".DS_Store").write_bytes(b"x")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "onnx-fp32" / "pipe")


def strange_name(folder: Path) -> None:
    (folder / "onnx-fp32" / "my model.bin").write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(link_out, "a link"), (link_folder, "a link"), (hidden, "hidden"), (pipe, "device"), (strange_name, "my model")],
)
def test_what_a_studio_could_not_get_as_it_is_here_is_refused(
    ready: Path, spoil: Callable[[Path], None], named: str
) -> None:
    spoil(ready)

    with pytest.raises(InvalidInputError, match=named):
        read_release(ready)


def test_pickle_under_a_harmless_name_is_refused(ready: Path) -> None:
    import pickle

    (ready / "onnx-fp32" / "table.bin").write_bytes(pickle.dumps({"weights": list(range(100))}))

    with pytest.raises(RefusedError, match=r"table\.bin"):
        read_release(ready)


def test_model_file_of_a_kind_that_is_refused_counts_all_its_problems(ready: Path) -> None:
    (ready / "onnx-fp32" / "model.onnx").write_bytes(model_bytes(operator="NoSuchOperator").replace(b"\x00", b"\x01"))

    with pytest.raises(RefusedError, match=r"model\.onnx"):
        read_release(ready)


def test_without_the_package_that_inspects_nothing_is_decided(ready: Path) -> None:
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "from changeover_registry.errors import UndecidedError\n"
        "from changeover_updater.release_folder import read_release\n"
        "try:\n    read_release(Path(sys.argv[1]))\n"
        "except UndecidedError as error:\n    print(error)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program, str(ready)], capture_output=True, text=True, check=True)

    assert "changeover[run]" in ended.stdout


# Smoke.


@needs_isolation
def test_smoke_is_recorded_in_the_sandbox_and_then_kept(folder: Path) -> None:
    (first,) = vendor.smoke(folder)
    recorded = (folder / "onnx-fp32" / "smoke.npz").read_bytes()
    (second,) = vendor.smoke(folder)

    assert (first.outcome, second.outcome) == ("written", "kept")
    assert (folder / "onnx-fp32" / "smoke.npz").read_bytes() == recorded
    assert "smoke.npz" in [file.path for file in read_release(folder).variants[0].files]


@needs_isolation
def test_values_of_the_recorded_mattes_are_told_and_a_constant_one_is_flat(folder: Path) -> None:
    import numpy as np

    (varied,) = vendor.smoke(folder)
    recorded = np.load(folder / "onnx-fp32" / "smoke.npz")
    edit(folder, 'name = "x"', 'name = "x"\nscale = [0.0001, 0.0001, 0.0001]')
    (constant,) = vendor.smoke(folder, again=True)

    mattes = np.stack([recorded["output0"], recorded["output1"]])
    assert varied.values is not None
    assert (varied.values.lowest, varied.values.highest) == (mattes.min(), mattes.max())
    assert varied.values.mean == pytest.approx(mattes.mean(), abs=1e-6)
    assert not varied.values.flat
    assert constant.values is not None
    assert constant.values.flat
    assert constant.values.mean == pytest.approx(0.5, abs=1e-3)


@needs_isolation
def test_smoke_of_a_changed_model_is_refused_until_it_is_recorded_anew(folder: Path) -> None:
    vendor.smoke(folder)
    (folder / "onnx-fp32" / "model.onnx").write_bytes(model_bytes(weight=-2.0))

    with pytest.raises(RefusedError, match="--again"):
        vendor.smoke(folder)
    (done,) = vendor.smoke(folder, again=True)

    assert done.outcome == "written"


def test_opaque_cat_is_skipped_and_said(folder: Path) -> None:
    shutil.rmtree(folder / "onnx-fp32")
    (folder / "nuke-cat-torch2.1").mkdir()
    (folder / "nuke-cat-torch2.1" / "PersonRoto.cat").write_bytes(b"opaque")
    (folder / "release.toml").write_text(TOML[: TOML.index("[[variants]]")] + CAT, encoding="utf-8")

    (done,) = vendor.smoke(folder)

    assert (done.variant, done.outcome) == ("nuke-cat-torch2.1", "skipped")
    assert "only there" in done.detail


def test_smoke_with_an_interpreter_that_is_not_there_is_not_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UndecidedError):
        vendor.smoke(folder, interpreter=str(tmp_path / "python"))

    assert not (folder / "onnx-fp32" / "smoke.npz").exists()


# Real models, from their folder to what a studio verifies.

BGR = 'channels = ["blue", "green", "red"]\n'
REAL = (
    (
        "sinet",
        "data",
        "Softmax/1",
        1,
        320,
        BGR + "mean = [0.4035, 0.4363, 0.4976]\nscale = [0.01589, 0.01592, 0.01507]",
    ),
    ("prisma", "input_3", "permute_2", 0, 256, ""),
    ("deeplab", "MobilenetV2/MobilenetV2/input:0", "transpose:0", 1, 513, "mean = [0.5, 0.5, 0.5]\nscale = [2, 2, 2]"),
)


@needs_isolation
@pytest.mark.parametrize(("name", "taken", "given", "channel", "size", "more"), REAL, ids=[row[0] for row in REAL])
def test_real_model_goes_from_its_folder_to_the_repository(
    home: VendorHome, folder: Path, name: str, taken: str, given: str, channel: int, size: int, more: str
) -> None:
    data = Path(os.environ.get("CHANGEOVER_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (data / "models").is_dir():
        pytest.skip("no real models: neither $CHANGEOVER_TEST_DATA nor ../shared/data is there")
    shutil.copyfile(data / "models" / f"{name}.onnx", folder / "onnx-fp32" / "model.onnx")
    edit(folder, 'name = "x"', f'name = "{taken}"\n{more}')
    edit(folder, 'name = "y"', f'name = "{given}"\nchannel = {channel}')
    edit(folder, 'colour = "srgb"', f'colour = "srgb"\nresize = [{size}, {size}]')

    (smoked,) = vendor.smoke(folder)
    release, _ = vendor.register(home, folder, NOW)
    vendor.publish(home, release.model, release.version, NOW)

    (model, smoke) = release.variants[0].files
    assert smoked.outcome == "written"
    assert (model.path, smoke.path) == ("model.onnx", "smoke.npz")
    published = (home.repository / object_path(model.sha256)).read_bytes()
    assert smoke.size > 0
    assert published == (data / "models" / f"{name}.onnx").read_bytes()


# Register.


def test_registered_release_leaves_its_record_and_its_bill_beside_the_files(home: VendorHome, ready: Path) -> None:
    told: list[str] = []

    release, made = vendor.register(home, ready, NOW, step=told.append)

    assert made.new
    assert Release.from_bytes((ready / "release.json").read_bytes(), where="release.json") == release
    assert json.loads((ready / "bom.cdx.json").read_bytes())["specVersion"] == "1.7"
    assert stored(home, "model.onnx").read_bytes() == (ready / "onnx-fp32" / "model.onnx").read_bytes()
    assert stored(home, "bom.cdx.json").read_bytes() == (ready / "bom.cdx.json").read_bytes()
    assert home.own_record("acme/person-roto", "1.0.0").read_bytes() == release.to_bytes()
    assert any("sending to MLflow" in line for line in told)


def test_same_content_registered_again_is_no_second_version(home: VendorHome, ready: Path) -> None:
    first = vendor.register(home, ready, NOW)

    again = vendor.register(home, ready, NOW + timedelta(days=1))

    assert again[0] == first[0]
    assert not again[1].new
    assert len(home.registry().versions("acme/person-roto")) == 1


def test_same_version_with_other_bytes_is_refused_and_changes_nothing(home: VendorHome, ready: Path) -> None:
    vendor.register(home, ready, NOW)
    (ready / "onnx-fp32" / "model.onnx").write_bytes(model_bytes(weight=0.33334))
    before = tree(ready), tree(home.folder / "registered"), tree(home.folder / "mlartifacts")

    with pytest.raises(RefusedError, match="never changes"):
        vendor.register(home, ready, NOW)

    assert (tree(ready), tree(home.folder / "registered"), tree(home.folder / "mlartifacts")) == before


@needs_isolation
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "x"', 'name = "x"\nmean = [1, 1, 1]'),
        ('name = "x"', 'name = "x"\nscale = [4, 4, 4]'),
    ],
)
def test_smoke_file_of_another_contract_is_not_registered_until_it_is_recorded_anew(
    home: VendorHome, folder: Path, old: str, new: str
) -> None:
    vendor.smoke(folder)
    edit(folder, old, new)
    before = tree(folder), tree(home.folder / "mlartifacts")

    with pytest.raises(RefusedError, match="vendor smoke .*release --again") as caught:
        vendor.register(home, folder, NOW)

    assert "a difference of 0." in caught.value.actual
    assert (tree(folder), tree(home.folder / "mlartifacts")) == before
    assert home.registry().versions("acme/person-roto") == ()
    vendor.smoke(folder, again=True)
    assert vendor.register(home, folder, NOW)[1].new


@needs_isolation
def test_smoke_file_of_another_model_is_not_registered(home: VendorHome, ready: Path) -> None:
    (ready / "onnx-fp32" / "model.onnx").write_bytes(model_bytes(weight=-2.0))

    with pytest.raises(RefusedError, match="--again"):
        vendor.register(home, ready, NOW)

    assert not (ready / "release.json").exists()


def test_smoke_file_that_cannot_be_run_here_is_told_once_and_registered(
    home: VendorHome, ready: Path, tmp_path: Path
) -> None:
    told: list[str] = []

    _, made = vendor.register(home, ready, NOW, interpreter=str(tmp_path / "python"), notice=told.append)

    assert made.new
    (line,) = told
    assert line.startswith("smoke of onnx-fp32 was not run here")


def test_model_of_a_fixed_size_without_resize_is_told_what_to_write_before_it_runs(folder: Path) -> None:
    import onnx.tools.update_model_dims as dims

    path = folder / "onnx-fp32" / "model.onnx"
    onnx.save(dims.update_inputs_outputs_dims(onnx.load(path), {"x": [1, 3, 48, 64]}, {"y": [1, 1, 48, 64]}), path)

    with pytest.raises(InvalidInputError, match=r"write resize = \[64, 48\]") as caught:
        vendor.smoke(folder)

    assert "onnx-fp32.contract.resize" in caught.value.where
    assert "vendor" not in caught.value.remedy
    edit(folder, 'colour = "srgb"', 'colour = "srgb"\nresize = [64, 48]')
    if available().name is not None:
        assert vendor.smoke(folder)[0].outcome == "written"


@needs_isolation
def test_model_that_fails_on_the_smoke_planes_is_no_reason_to_tell_the_vendor(folder: Path) -> None:
    """The graph adds planes of a size that only its inside knows, so that inspection cannot find it."""
    import numpy as np

    path = folder / "onnx-fp32" / "model.onnx"
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 1, 7, 5), np.float32), "inside"))
    model.graph.node[0].output[0] = "before"
    model.graph.node.insert(1, onnx.helper.make_node("Add", ["before", "inside"], ["c"]))
    onnx.save(model, path)

    with pytest.raises(MeasurementError) as caught:
        vendor.smoke(folder)

    assert "correct the model file or its contract" in caught.value.remedy
    assert "tell" not in str(caught.value)


@pytest.mark.parametrize(
    ("claim", "fact"),
    [
        ("ir_version = 9", "10"),
        ("opset = 16", "17"),
        ('operators = ["Conv"]', "Conv, Sigmoid"),
        ('dtypes = ["float16"]', "float32"),
        ("dynamic_axes = false", r"True \(axes H, W\)"),
        ("weight_bytes = 11", "12"),
    ],
)
def test_claim_of_less_than_the_files_need_is_not_registered_and_names_claim_and_fact(
    home: VendorHome, ready: Path, claim: str, fact: str
) -> None:
    edit(ready, 'name = "y"', f'name = "y"\n[variants.requires]\n{claim}')
    field, _, value = claim.partition(" = ")
    found = value.strip('[]"').capitalize() if value in {"true", "false"} else value.strip('[]"')
    before = tree(ready), tree(home.folder / "mlartifacts")

    with pytest.raises(
        InvalidInputError, match=rf"onnx-fp32\.requires\.{field}: expected at least what the files show, {fact}"
    ) as caught:
        vendor.register(home, ready, NOW)

    assert caught.value.actual == found
    assert (tree(ready), tree(home.folder / "mlartifacts")) == before


def test_claim_that_a_net_with_global_attention_has_none_is_not_registered(home: VendorHome, ready: Path) -> None:
    path = ready / "onnx-fp32" / "model.onnx"
    model = onnx.load(path)
    import numpy as np

    helper, shape = onnx.helper, onnx.numpy_helper.from_array(np.array([0, 0, -1]), "flat")
    model.graph.initializer.append(shape)
    model.graph.node[1].output[0] = "before"
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["before", "flat"], ["places"]),
            helper.make_node("Transpose", ["places"], ["across"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["across", "places"], ["scores"]),
            helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=0),
            helper.make_node("Add", ["before", "mean"], ["y"]),
        ]
    )
    onnx.save(model, path)
    edit(ready, 'name = "y"', 'name = "y"\n[variants.requires]\nglobal_attention = false')

    with pytest.raises(InvalidInputError, match=r"global_attention.* True \(MatMul scores: 1x262144x262144"):
        vendor.register(home, ready, NOW)


def test_script_that_claims_an_older_archive_than_its_operators_made_is_not_registered(
    home: VendorHome, ready: Path
) -> None:
    edit(ready, 'runtime = "onnx"', 'runtime = "torchscript"')
    edit(ready, 'name = "y"', 'name = "y"\n[variants.requires]\ntorchscript_version = 3')
    (ready / "onnx-fp32" / "model.onnx").unlink()
    with zipfile.ZipFile(ready / "onnx-fp32" / "model.pt", "w") as archive:
        for name, data in (
            ("net/data.pkl", b"\x80\x02N."),
            ("net/constants.pkl", b"\x80\x02)."),
            ("net/code/__torch__.py", b"  return torch.gelu(torch.conv2d(x, w))\n"),
            ("net/.data/version", b"10\n"),
        ):
            archive.writestr(name, data)

    with pytest.raises(InvalidInputError, match=r"torchscript_version.*show, 10 \(by aten::gelu\), found 3"):
        vendor.register(home, ready, NOW)


@pytest.mark.parametrize(("ir_version", "opset", "rule"), [(14, 17, "ONNX IR version"), (10, 28, "ONNX opset")])
def test_file_that_the_newest_onnx_stamps_and_no_runtime_loads_is_not_registered(
    home: VendorHome, ready: Path, ir_version: int, opset: int, rule: str
) -> None:
    path = ready / "onnx-fp32" / "model.onnx"
    model = onnx.load(path)
    model.ir_version, model.opset_import[0].version = ir_version, opset
    onnx.save(model, path)

    with pytest.raises(RefusedError, match=rf"{rule}: .*expected at most \d+, which onnxruntime"):
        vendor.register(home, ready, NOW)


def test_external_data_that_is_missing_is_not_registered(home: VendorHome, ready: Path) -> None:
    path = ready / "onnx-fp32" / "model.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    assert (ready / "onnx-fp32" / "weights.data").is_file()
    (ready / "onnx-fp32" / "weights.data").unlink()

    with pytest.raises(RefusedError, match=r"external data: .*weights\.data', which the variant does not list"):
        vendor.register(home, ready, NOW)


def test_variant_without_smoke_is_refused(home: VendorHome, folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="vendor smoke"):
        vendor.register(home, folder, NOW)

    assert home.registry().versions("acme/person-roto") == ()
    assert not (folder / "release.json").exists()


@pytest.mark.parametrize("text", ["no archive", "empty"])
def test_smoke_file_that_cannot_be_one_is_refused(home: VendorHome, folder: Path, text: str) -> None:
    import numpy as np

    path = folder / "onnx-fp32" / "smoke.npz"
    if text == "empty":
        np.savez(path, output0=np.zeros(3, np.float32))
    else:
        path.write_bytes(b"no archive at all")

    with pytest.raises(InvalidInputError, match=r"smoke\.npz: expected two recorded inputs") as caught:
        vendor.register(home, folder, NOW)

    assert ("input0.plate" if text == "empty" else "no .npz archive") in caught.value.actual


def test_cat_beside_its_files_needs_no_smoke(home: VendorHome, ready: Path) -> None:
    (ready / "nuke-cat-torch2.1").mkdir()
    (ready / "nuke-cat-torch2.1" / "PersonRoto.cat").write_bytes(b"opaque")
    (ready / "release.toml").write_text(TOML + CAT, encoding="utf-8")

    release, _ = vendor.register(home, ready, NOW)

    assert [variant.id for variant in release.variants] == ["onnx-fp32", "nuke-cat-torch2.1"]
    assert vendor.publish(home, "acme/person-roto", "1.0.0", NOW).new


def test_model_of_another_vendor_is_not_registered_here(home: VendorHome, ready: Path) -> None:
    edit(ready, 'model = "acme/person-roto"', 'model = "other/person-roto"')

    with pytest.raises(InvalidInputError, match="a model of acme"):
        vendor.register(home, ready, NOW)


def test_two_registrations_at_once_do_not_mix(home: VendorHome, ready: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from changeover_registry._fs import lock\n"
        "with lock(Path(sys.argv[1]), what='the home'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home.lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(LostRaceError, match="lock"):
            vendor.register(home, ready, NOW)
        holder.kill()

    assert vendor.register(home, ready, NOW)[1].new


def test_registration_killed_while_it_sends_leaves_no_version(home: VendorHome, ready: Path) -> None:
    program = (
        "import os, signal, sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from changeover_updater import vendor; from changeover_updater.vendor_home import open_home\n"
        "def die(text):\n"
        "    if text.startswith('sending'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "vendor.register(open_home(Path(sys.argv[1])), Path(sys.argv[2]), datetime.now(UTC), step=die)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program, str(home.folder), str(ready)], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert home.registry().versions("acme/person-roto") == ()
    assert not (ready / "release.json").exists()
    assert vendor.register(home, ready, NOW)[1].new


# Publish, withdraw, renew.


def test_published_release_is_what_a_studio_verifies(home: VendorHome, ready: Path, tmp_path: Path) -> None:
    release, _ = vendor.register(home, ready, NOW)

    done = vendor.publish(home, "acme/person-roto", "1.0.0", NOW)

    assert done.new
    (entry,) = view(home, tmp_path / "state").indexes["person-roto"].releases
    record, data = fetch_record(open_transport(str(home.repository)), entry, "acme/person-roto")
    assert record == release == done.release
    assert data == (ready / "release.json").read_bytes()
    for file in release.variants[0].files:
        published = home.repository / object_path(file.sha256)
        assert published.read_bytes() == (ready / "onnx-fp32" / file.path).read_bytes()
    assert not (home.folder / ".publishing").exists()


def test_published_again_changes_nothing(home: VendorHome, ready: Path) -> None:
    vendor.register(home, ready, NOW)
    vendor.publish(home, "acme/person-roto", "1.0.0", NOW)
    before = tree(home.repository)

    assert not vendor.publish(home, "acme/person-roto", "1.0.0", NOW + timedelta(hours=1)).new
    assert tree(home.repository) == before


def test_release_published_from_another_home_than_it_was_registered_from(home: VendorHome, ready: Path) -> None:
    """It needs the record that was registered: what MLflow says of it may be anything."""
    vendor.register(home, ready, NOW)
    shutil.rmtree(home.folder / "registered")
    before, record = tree(home.repository), (ready / "release.json").read_bytes()

    with pytest.raises(TrustError, match="MLflow's word alone") as caught:
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW)

    assert "--record release.json" in caught.value.remedy
    assert tree(home.repository) == before
    assert vendor.publish(home, "acme/person-roto", "1.0.0", NOW, record=record).new
    assert home.own_record("acme/person-roto", "1.0.0").read_bytes() == record


def test_record_that_is_brought_and_is_not_the_registered_one_signs_nothing(home: VendorHome, ready: Path) -> None:
    vendor.register(home, ready, NOW)
    own, before = home.own_record("acme/person-roto", "1.0.0"), tree(home.repository)

    with pytest.raises(TrustError, match="which was brought here"):
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW, record=b"{}")
    own.unlink()
    with pytest.raises(TrustError, match=r"release\.json"):
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW, record=b"{}")

    assert tree(home.repository) == before
    assert not own.exists()


@pytest.mark.parametrize("name", ["model.onnx", "smoke.npz", "release.json"])
def test_one_byte_changed_in_mlflow_is_named_and_nothing_is_signed(home: VendorHome, ready: Path, name: str) -> None:
    vendor.register(home, ready, NOW)
    path = stored(home, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    before = tree(home.repository)

    with pytest.raises(TrustError, match="nothing was signed") as caught:
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW)

    assert caught.value.exit_code == 5
    assert caught.value.where.endswith(name)
    assert tree(home.repository) == before


def test_file_gone_from_mlflow_is_named(home: VendorHome, ready: Path) -> None:
    vendor.register(home, ready, NOW)
    stored(home, "model.onnx").unlink()

    with pytest.raises(TrustError, match=r"onnx-fp32/model\.onnx: expected the file as it was registered"):
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW)


def test_release_that_mlflow_says_is_another_than_was_registered_here_is_not_signed(
    home: VendorHome, ready: Path
) -> None:
    vendor.register(home, ready, NOW)
    own = home.own_record("acme/person-roto", "1.0.0")
    edit(ready, "First release.", "Another release.")
    own.write_bytes(read_release(ready).to_bytes())

    with pytest.raises(TrustError, match=r"release\.json"):
        vendor.publish(home, "acme/person-roto", "1.0.0", NOW)


def test_record_of_another_version_under_this_ones_tags_is_not_signed(home: VendorHome, ready: Path) -> None:
    release, made = vendor.register(home, ready, NOW)
    shutil.rmtree(home.folder / "registered")
    with home.registry()._session() as client:
        tags = {"changeover.model": release.model, "changeover.version": "9.0.0", "changeover.digest": release.digest()}
        source = f"models:/{made.registered.holder}"
        client.create_model_version("acme.person-roto", source, tags=tags, model_id=made.registered.holder)

    with pytest.raises(TrustError, match=r"9\.0\.0"):
        vendor.publish(home, "acme/person-roto", "9.0.0", NOW, record=release.to_bytes())


def test_version_that_is_not_registered_lists_those_that_are(home: VendorHome, ready: Path) -> None:
    with pytest.raises(InvalidInputError, match="vendor register"):
        vendor.publish(home, "acme/person-roto", "2.0.0", NOW)
    vendor.register(home, ready, NOW)

    with pytest.raises(InvalidInputError, match=r"one of 1\.0\.0"):
        vendor.publish(home, "acme/person-roto", "2.0.0", NOW)


def test_what_a_killed_publication_left_is_cleared_by_the_next(home: VendorHome, ready: Path) -> None:
    vendor.register(home, ready, NOW)
    (home.folder / ".publishing" / "onnx-fp32").mkdir(parents=True)
    (home.folder / ".publishing" / "onnx-fp32" / "model.onnx").write_bytes(b"half")

    assert vendor.publish(home, "acme/person-roto", "1.0.0", NOW).new
    assert not (home.folder / ".publishing").exists()


def test_withdrawn_release_says_why_and_stays_readable(home: VendorHome, ready: Path, tmp_path: Path) -> None:
    vendor.register(home, ready, NOW)
    vendor.publish(home, "acme/person-roto", "1.0.0", NOW)

    assert vendor.withdraw(home, "acme/person-roto", "1.0.0", "flickers on hair", NOW)
    assert not vendor.withdraw(home, "acme/person-roto", "1.0.0", "another reason", NOW)

    entry = view(home, tmp_path / "state").indexes["person-roto"].entry("1.0.0")
    assert entry is not None
    assert entry.withdrawn is not None
    assert entry.withdrawn.why == "flickers on hair"
    with pytest.raises(InvalidInputError):
        vendor.withdraw(home, "acme/person-roto", "3.0.0", "no such version", NOW)


def test_renewal_lives_longer_without_the_offline_keys(home: VendorHome, tmp_path: Path) -> None:
    shutil.rmtree(home.folder / "keys" / "offline")

    roles = vendor.renew(home, NOW + timedelta(days=20))

    assert {"snapshot", "timestamp"} <= set(roles)
    client = Client(open_transport(str(home.repository)), tmp_path / "state", home.keys.anchor.read_bytes())
    client.refresh()


def test_lock_is_free_after_every_failure(home: VendorHome, ready: Path) -> None:
    with pytest.raises(InvalidInputError):
        vendor.publish(home, "acme/person-roto", "2.0.0", NOW)

    with lock(home.lock, what="the home"):
        assert home.lock.exists()
