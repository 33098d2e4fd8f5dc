import contextlib
import io
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import onnx
import pytest
from packaging.version import Version

from changeover_registry.errors import MeasurementError, UndecidedError, UnreachableError
from changeover_validators.vram import in_place, probes
from changeover_validators.vram.environments import RELEASES, interpreter_with, runtime_requirements
from changeover_validators.vram.zoo import architectures

_NO_BUFFER = {("", "Shape")}
"""What it answers is never as large as a picture."""


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What the command prints of the runtime of this interpreter, read back."""
    pytest.importorskip("onnxruntime")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the high-water mark of a process is reset through /proc, which only Linux has")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert probes.main(["--here"]) == 0
    (row,) = tomllib.loads(printed.getvalue())["release"]
    return dict(row)


def pairs(texts: list[str]) -> set[in_place.Pair]:
    split = (text.split() for text in texts)
    return {(*name.rpartition(":")[::2], int(source), int(target)) for name, source, target in split}


def test_table_is_what_the_runtime_here_does(here: dict[str, Any]) -> None:
    (version,) = here["versions"]

    assert in_place.in_place(version, "cpu") == pairs(here["in_place"])
    assert in_place.aliases(version) == pairs(here["alias"])
    asked = {*here["neither"], *(text.split()[0] for text in (*here["in_place"], *here["alias"]))}
    assert in_place.probed_operators(version) == {name.rpartition(":")[::2] for name in asked}


def test_probe_tells_all_answers_apart(here: dict[str, Any]) -> None:
    assert {"Relu 0 0", "com.microsoft.nchwc:Conv 3 0"} <= set(here["in_place"])
    assert "Reshape 0 0" in here["alias"]
    assert {"Add", "com.microsoft:Gelu", "com.microsoft:SkipLayerNormalization"} <= set(here["neither"])
    assert "Mish" in here["absent"]


def test_table_reads_back_what_was_found() -> None:
    names = tuple(f"Operator{number} 0 0" for number in range(40))
    found = [probes.Found("1.1.0", names, (), (), ()), probes.Found("1.2.0", ("A 0 0",), (), ("B",), ())]

    text = probes.table(found, date(2026, 1, 2))

    first, second = tomllib.loads(text)["release"]
    assert (first["versions"], first["in_place"]) == (["1.1.0"], list(names))
    assert (second["versions"], second["neither"], second["date"]) == (["1.2.0"], ["B"], "2026-01-02")
    assert max(map(len, text.splitlines())) <= 120


def test_releases_with_the_same_answer_share_a_row() -> None:
    same = [probes.Found(version, ("A 0 0",), (), (), ()) for version in ("1.1.0", "1.2.0")]

    (row,) = tomllib.loads(probes.table(same, date(2026, 1, 2)))["release"]
    assert row["versions"] == ["1.1.0", "1.2.0"]


def test_interpreter_without_a_runtime_is_a_measurement_error(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no module here' >&2\nexit 1\n", "utf-8")
    python.chmod(0o755)

    with pytest.raises(MeasurementError, match="no module here"):
        probes.probe(python)


@pytest.mark.parametrize("version", RELEASES)
def test_every_known_release_is_in_the_table(version: str) -> None:
    assert in_place.is_probed(version)
    assert ("", "Relu", 0, 0) in in_place.in_place(version, "cpu")
    fused = ("com.microsoft", "FusedConv", 3, 0) in in_place.in_place(version, "cpu")
    assert fused == (Version(version) >= Version("1.24"))


@pytest.mark.parametrize(("version", "provider"), [("9.9.9", "cpu"), ("1.31.1", "cuda"), ("not a version", "cpu")])
def test_runtime_that_nobody_asked_is_undecided(version: str, provider: str) -> None:
    assert not in_place.is_probed(version, provider)
    with pytest.raises(UndecidedError, match="probes"):
        in_place.in_place(version, provider)


def test_operators_of_optimised_nets_were_all_asked(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    found = set()
    for architecture in architectures():
        path = tmp_path / f"{architecture.name}.onnx"
        architecture.build(path)
        found |= operators(path, onnxruntime)

    assert found - _NO_BUFFER <= in_place.probed_operators(onnxruntime.__version__)


def operators(path: Path, runtime: Any) -> set[tuple[str, str]]:
    """What a session makes of the model."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".built"))
    runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    built = onnx.load(options.optimized_model_filepath)
    return {(node.domain, node.op_type) for node in built.graph.node}


def test_release_without_a_wheel_is_unreachable_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(UnreachableError, match=r"onnxruntime==0\.0\.1"):
        interpreter_with(tmp_path / "env", runtime_requirements("0.0.1"))


@pytest.mark.parametrize(("version", "numpy"), [("1.18.1", "numpy<2"), ("1.19.2", "numpy>=2")])
def test_older_runtimes_take_the_numpy_that_they_were_built_with(version: str, numpy: str) -> None:
    assert runtime_requirements(version) == (f"onnxruntime=={version}", numpy)
