import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_updater.cli.main import run
from changeover_validators.runtimes.sandbox import available

onnx = pytest.importorskip("onnx", reason="the extra run is not installed")
pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

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

WRONG = "0" * 64
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vendor") / "acme"
    assert run(["vendor", "init", str(home), "--name", "acme"]) == 0
    return home


@pytest.fixture
def home(tmp_path: Path, first: Path) -> Path:
    shutil.copytree(first, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    helper, tensor = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)],
        "matte",
        [helper.make_tensor_value_info("x", tensor, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", tensor, [1, 1, "H", "W"])],
    )
    made = tmp_path / "release"
    (made / "onnx-fp32").mkdir(parents=True)
    (made / "release.toml").write_text(TOML, encoding="utf-8")
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        made / "onnx-fp32" / "model.onnx",
    )
    return made


@pytest.fixture
def ready(folder: Path) -> Path:
    import numpy as np

    plate, matte = np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32)
    arrays: dict[str, Any] = {"input0.plate": plate, "input1.plate": plate, "output0": matte, "output1": matte}
    np.savez(folder / "onnx-fp32" / "smoke.npz", tolerance=np.float64(1e-3), **arrays)
    return folder


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Run:
    def change(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(["vendor", *map(str, arguments)])
        out, error = capfd.readouterr()
        return code, out, error

    return change


def answer(ended: tuple[int, str, str]) -> Any:
    code, out, error = ended
    assert (code, error) == (0, "")
    return json.loads(out)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_isolation
def test_release_goes_from_its_folder_into_the_signed_repository(call: Run, home: Path, folder: Path) -> None:
    (smoked,) = answer(call("smoke", folder, "--json"))
    registered = answer(call("register", folder, "--home", home, "--json"))
    published = answer(call("publish", "person-roto@1.0.0", "--home", home, "--json"))
    withdrawn = answer(call("withdraw", "person-roto@1.0.0", "--why", "flickers", "--home", home, "--json"))
    renewed = answer(call("renew", "--home", home, "--json"))

    assert (smoked["variant"], smoked["outcome"]) == ("onnx-fp32", "written")
    assert (registered["model"], registered["version"], registered["new"]) == ("acme/person-roto", "1.0.0", True)
    assert published["release"] == registered["release"]
    assert published["new"]
    assert (withdrawn["why"], withdrawn["new"]) == ("flickers", True)
    assert {"snapshot", "timestamp"} <= set(renewed["renewed"])


def test_every_step_done_again_says_that_nothing_changed(call: Run, home: Path, ready: Path) -> None:
    steps = (
        ("init", home, "--name", "acme"),
        ("register", ready, "--home", home),
        ("publish", "acme/person-roto@1.0.0", "--home", home),
        ("withdraw", "person-roto@1.0.0", "--why", "flickers", "--home", home),
    )
    assert all(call(*step)[0] == 0 for step in steps)

    for step in steps:
        code, out, error = call(*step)
        assert (code, error) == (0, "")
        assert "already" in out


def test_init_says_what_studios_need_and_which_keys_to_move(call: Run, home: Path) -> None:
    made = answer(call("init", home, "--name", "acme", "--json"))
    _, out, _ = call("init", home, "--name", "acme")

    assert made["root_sha256"] in out
    assert made["root"] in out
    assert str(home / "keys" / "offline") in out


def test_commands_say_what_they_did_to_a_person(call: Run, home: Path, ready: Path) -> None:
    _, registered, _ = call("register", ready, "--home", home)
    _, published, _ = call("publish", "person-roto@1.0.0", "--home", home)
    _, withdrawn, _ = call("withdraw", "person-roto@1.0.0", "--why", "flickers", "--home", home)
    _, renewed, _ = call("renew", "--home", home)

    assert "vendor publish person-roto@1.0.0" in registered
    assert f"published: {home / 'repository'}" in published
    assert "acme/person-roto@1.0.0 withdrawn" in withdrawn
    assert "renewed: " in renewed


@needs_isolation
def test_smoke_says_what_became_of_each_variant(call: Run, folder: Path) -> None:
    code, out, _ = call("smoke", folder)

    assert code == 0
    assert "onnx-fp32: smoke written" in out
    assert "recorded matte: lowest 0." in out


@needs_isolation
def test_constant_matte_is_noted_beside_its_numbers(call: Run, folder: Path) -> None:
    lines = 'name = "x"\nscale = [0, 0, 0]'
    (folder / "release.toml").write_text(TOML.replace('name = "x"', lines, 1), encoding="utf-8")

    code, out, error = call("smoke", folder)
    (told,) = answer(call("smoke", folder, "--json"))

    assert code == 0
    assert "recorded matte: lowest 0, highest 0, mean 0" in out
    assert error.count("\n") == 1
    assert "the same everywhere" in error
    assert told["matte"] == {"lowest": 0.0, "highest": 0.0, "mean": 0.0, "flat": True}


def test_register_without_a_way_to_run_smoke_says_so_in_one_line(
    call: Run, home: Path, ready: Path, tmp_path: Path
) -> None:
    code, out, error = call("register", ready, "--home", home, "--python", tmp_path / "python")

    assert code == 0
    assert "registered" in out
    assert error.count("\n") == 1
    assert "was not run here" in error


def test_home_is_taken_from_the_environment(home: Path, tmp_path: Path) -> None:
    program = "import sys; from changeover_updater.cli.main import run; sys.exit(run(['vendor', 'renew']))"
    environment = {**os.environ, "CHANGEOVER_VENDOR_HOME": str(home)}

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert "renewed: " in ended.stdout


@pytest.mark.parametrize(
    ("old", "new", "field", "expected", "actual"),
    [
        ('summary = "Soft person mattes."\n', "", "summary", "this field", "nothing"),
        ('runtime = "onnx"\n', 'runtime = "onnx"\ngpu = 1\n', "onnx-fp32.gpu", "no such field", "unknown field"),
        ('loaders = ["python"]', "loaders = 7", "onnx-fp32.loaders", "array", "7"),
        ('loaders = ["python"]', 'loaders = ["python"]\nfiles = ["w.bin"]', "files.0", "this file", "no such file"),
        ('loaders = ["python"]', 'loaders = ["python"]\nfiles = ["../a"]', "onnx-fp32.files.0", "'..'", "../a"),
        ('version = "1.0.0"', 'version = "1!1.0.0"', "version", "three integers", "1!1.0.0"),
        ('version = "1.0.0"', "version = 1.0.0", "release.toml", "a TOML file", "line 4"),
        ('name = "y"\n', f'name = "y"\n[variants.sha256]\n"model.onnx" = "{WRONG}"\n', "model.onnx", WRONG, ""),
        ('name = "y"\n', 'name = "y"\n[variants.requires]\nopset = 11\n', "requires.opset", "17", "11"),
    ],
)  # fmt: skip
def test_bad_release_toml_is_one_line_and_exit_code_2_and_changes_nothing(
    call: Run, home: Path, ready: Path, old: str, new: str, field: str, expected: str, actual: str
) -> None:
    assert old in TOML
    (ready / "release.toml").write_text(TOML.replace(old, new, 1), encoding="utf-8")
    before = tree(ready), tree(home)

    code, out, error = call("register", ready, "--home", home)

    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    line = error.partition("expected ")
    assert "release.toml" in line[0]
    assert field in line[0]
    assert expected in line[2]
    assert actual in line[2].partition("found ")[2]
    assert (tree(ready), tree(home)) == before


def test_byte_changed_in_mlflow_is_exit_code_5(call: Run, home: Path, ready: Path) -> None:
    call("register", ready, "--home", home)
    (path,) = (home / "mlartifacts").rglob("model.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    code, _, error = call("publish", "person-roto@1.0.0", "--home", home)

    assert code == 5
    assert "onnx-fp32/model.onnx" in error


def test_other_content_under_a_registered_version_is_exit_code_3(call: Run, home: Path, ready: Path) -> None:
    call("register", ready, "--home", home)
    (ready / "release.toml").write_text(TOML.replace("First", "Second"), encoding="utf-8")

    code, _, error = call("register", ready, "--home", home)

    assert code == 3
    assert "never changes" in error


def test_mlflow_that_is_not_there_is_exit_code_6(call: Run, tmp_path: Path) -> None:
    code, _, error = call("init", tmp_path / "new", "--name", "acme", "--mlflow-uri", "http://127.0.0.1:9")

    assert code == 6
    assert error.count("\n") == 1
    assert "127.0.0.1:9" in error


def test_no_home_is_exit_code_2(call: Run, tmp_path: Path) -> None:
    code, _, error = call("renew", "--home", tmp_path)

    assert code == 2
    assert "vendor init" in error
