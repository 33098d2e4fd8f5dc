"""``runtimes add`` and ``runtimes list``: real environments, of packages that an index really has."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError, UnreachableError
from changeover_registry.records.release import Contract, TensorIn, TensorOut, Tile
from changeover_updater import environments
from changeover_updater.cli.main import run
from changeover_updater.environments import Wanted, parse_spec
from changeover_updater.settings import load_settings
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import available

HOST = '# This machine.\nschema = "changeover.host/1"\n\n[runtimes]\n# none yet\n'
OTHER = "1.23.2" if version("onnxruntime-gpu") != "1.23.2" else "1.24.1"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "host.toml"
    path.write_text(HOST, encoding="utf-8")
    return path


def changeover(config: Path, *arguments: str) -> int:
    return run(["--config", str(config), "runtimes", *arguments])


@pytest.mark.parametrize(
    ("spec", "name", "wanted", "numpy"),
    [
        ("torch==2.1.1", None, Wanted("torch", "2.1.1", "torch-2.1.1"), "numpy>=1.26,<2"),
        ("torch==2.7.1+cpu", None, Wanted("torch", "2.7.1+cpu", "torch-2.7.1+cpu"), "numpy>=2"),
        ("torch == 2.3", "torch_a", Wanted("torch", "2.3", "torch_a"), "numpy>=2"),
        ("onnxruntime==1.18.1", None, Wanted("onnxruntime", "1.18.1", "onnxruntime-1.18.1"), "numpy>=1.26,<2"),
        ("onnxruntime-gpu==1.23.2", "gpu", Wanted("onnxruntime-gpu", "1.23.2", "gpu"), "numpy>=2"),
    ],
)
def test_a_spec_says_library_version_name_and_the_numpy_of_its_time(
    spec: str, name: str | None, wanted: Wanted, numpy: str
) -> None:
    assert parse_spec(spec, name) == wanted
    assert wanted.numpy == numpy


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("torch", None), ("torch>=2", None), ("torch==2.*", None), ("tensorflow==2.1", None), ("--help", None),
        ("torch==2.1.1,!=2.1.2", None), ("torch[opt]==2.1.1", None), ("torch @ https://x/y.whl", None), ("", None),
        ("torch==2.1.1", "../up"), ("torch==2.1.1", "onnx-like"), ("onnxruntime==1.23.2", "torchy"),
    ],
)  # fmt: skip
def test_what_is_no_exact_version_or_no_name_is_refused(spec: str, name: str | None) -> None:
    with pytest.raises(InvalidInputError):
        parse_spec(spec, name)


def test_a_name_that_is_taken_is_said_before_anything_is_made(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(HOST + '"torch-2.1.1" = "/opt/python"\n', encoding="utf-8")
    before = config.read_bytes()

    code = changeover(config, "add", "torch==2.1.1")

    assert code == 2
    assert "a name that is not there yet, found /opt/python" in capsys.readouterr().err
    assert config.read_bytes() == before
    assert [path.name for path in config.parent.iterdir()] == ["host.toml"]


def test_a_python_that_is_none_is_one_line_and_leaves_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = changeover(config, "add", "onnxruntime==1.23.2", "--python", "/nowhere/python3")

    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert "--python PATH" in error
    assert config.read_text(encoding="utf-8") == HOST
    assert not any(path.is_dir() for path in (config.parent / "runtimes").iterdir())


@pytest.mark.parametrize(
    ("said", "kind", "line"),
    [
        (
            "ERROR: Could not find x (from versions: 2.2.0, 2.7.1)\nERROR: No matching distribution",
            InvalidInputError,
            "found none (there are: 2.2.0, 2.7.1); name a Python that it has a wheel for with --python PATH",
        ),
        ("WARNING: Failed to establish a new connection\nERROR: No matching", UnreachableError, "--index-url"),
        ("ERROR: Package 'changeover' requires a different Python: 3.9.2 not in '>=3.11'", InvalidInputError, "3.9.2"),
        ("collecting\nERROR: Could not install packages due to an OSError: [Errno 28]", UndecidedError, "[Errno 28]"),
        ("", UndecidedError, "nothing was said"),
    ],
)  # fmt: skip
def test_what_pip_says_at_length_becomes_one_line(tmp_path: Path, said: str, kind: type, line: str) -> None:
    error = environments._no_install(parse_spec("torch==1.6.0"), tmp_path / "bin" / "python", said)

    assert type(error) is kind
    assert line in str(error)


def test_an_interpreter_that_holds_another_version_proves_nothing() -> None:
    with pytest.raises(UndecidedError) as caught:
        environments._proven(parse_spec("onnxruntime==1.2.3"), sys.executable)

    assert caught.value.actual == f"onnxruntime {version('onnxruntime-gpu')}"


def test_the_changeover_that_runs_is_the_one_that_is_installed() -> None:
    """An installed checkout names itself as pip can install it; the tests run in one."""
    named = Path(environments.own_requirement())

    assert (named / "pyproject.toml").is_file()
    assert (named / "registry" / "changeover_registry" / "__init__.py").is_file()


def test_a_broken_runtime_is_listed_with_what_is_wrong(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = config.parent / "bare" / "python"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys._base_executable} -S "$@"\n', encoding="utf-8")  # type: ignore[attr-defined]
    bare.chmod(0o755)
    (config.parent / "runtimes" / "torch-left").mkdir(parents=True)
    config.write_text(HOST + f'onnx = "{sys.executable}"\nbare = "{bare}"\ngone = "/gone/python"\n', encoding="utf-8")

    code = changeover(config, "list", "--json")

    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert code == 0
    assert [*found] == ["bare", "gone", "onnx", "torch-left"]
    assert "trouble" not in found["onnx"]
    assert found["onnx"]["runtimes"][0]["version"] == version("onnxruntime-gpu")
    assert "cpu" in found["onnx"]["runtimes"][0]["providers"]
    assert "without Changeover" in found["bare"]["trouble"]
    assert "No such file" in found["gone"]["trouble"]
    assert "left by a command that was stopped" in found["torch-left"]["trouble"]


def test_a_person_sees_each_runtime_and_its_trouble(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changeover(config, "list")
    nothing = capsys.readouterr().out
    config.write_text(HOST + f'onnx = "{sys.executable}"\ngone = "/gone/python"\n', encoding="utf-8")
    changeover(config, "list")
    said = capsys.readouterr().out

    assert "make one with: changeover runtimes add" in nothing
    assert f"onnx: Python {sys.version.split()[0]}, onnxruntime {version('onnxruntime-gpu')}" in said
    assert "gone: nothing works" in said


@pytest.mark.install
def test_a_runtime_is_added_proven_used_and_listed(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    release_folders: Path,
    wheel: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another onnxruntime than the tests', installed for real; a model runs in it, isolated where that is possible."""
    # The wheel of this checkout, which other tests have built: pip would build the same once more.
    monkeypatch.setattr(environments, "own_requirement", lambda: str(wheel))

    code = changeover(config, "add", f"onnxruntime=={OTHER}")

    said = capsys.readouterr()
    assert code == 0, said.err
    runtimes = dict(load_settings({}, config=config).runtimes)
    interpreter = runtimes[f"onnxruntime-{OTHER}"]
    assert config.read_text(encoding="utf-8") == HOST.replace(
        "[runtimes]\n", f'[runtimes]\n"onnxruntime-{OTHER}" = "{interpreter}"\n'
    )
    changeover(config, "list", "--json")
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["runtimes"] == [{"name": "onnxruntime", "version": OTHER, "providers": ["cpu"]}]
    assert listed["changeover"] == version("changeover")
    with ModelProcess(request(release_folders / "1.0.0" / "onnx-fp32", interpreter)) as model:
        red = np.zeros((4, 4, 3), np.float32) + np.array([1, 0, 0], np.float32)
        matte = model.infer({"plate": red}, reset=True).matte
    assert model.started.runtime_version == OTHER
    np.testing.assert_allclose(matte, 1 / (1 + np.exp(-14 * 0.7)), atol=1e-4)


def request(folder: Path, interpreter: str) -> RunRequest:
    return RunRequest(
        interpreter=interpreter,
        folder=folder,
        entry="model.onnx",
        runtime="onnx",
        contract=Contract(
            evaluation="stateless",
            inputs=(TensorIn(name="image", port="plate", channels=("R", "G", "B")),),
            output=TensorOut(name="matte", port="matte"),
            colour="srgb",
        ),
        tile=Tile(size=0),
        provider="cpu",
        sandbox="required" if available().name else "limits-only",
        wall_seconds=60,
        ram_mib=1024,
    )


@pytest.mark.install
def test_an_index_that_does_not_answer_leaves_no_environment_and_no_line(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIP_RETRIES", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", "")):
        monkeypatch.setenv(name, value)

    code = changeover(config, "add", "onnxruntime==1.23.2", "--index-url", "http://127.0.0.1:9/simple")

    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (6, 1), error
    assert config.read_text(encoding="utf-8") == HOST
    assert not any(path.is_dir() for path in (config.parent / "runtimes").iterdir())


@pytest.mark.install
def test_a_kill_midway_leaves_host_toml_as_it_was_and_the_folder_is_told_of(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "changeover_updater", "--config", str(config), "runtimes", "add", "torch==2.7.1"]
    folder = config.parent / "runtimes" / "torch-2.7.1"
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until((folder / "pyvenv.cfg").is_file, process)

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert config.read_text(encoding="utf-8") == HOST
    changeover(config, "list", "--json")
    (left,) = json.loads(capsys.readouterr().out)
    assert left["name"] == "torch-2.7.1"
    assert "left by a command that was stopped" in left["trouble"]


def until(true: Any, process: subprocess.Popen[bytes]) -> None:
    while not true():
        assert process.poll() is None, "the command ended before it could be killed"
        time.sleep(0.01)
