import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_validators import probe as probing
from changeover_validators import probe_child as child
from changeover_validators.probe import forged_host, nuke_install, probe, probe_key, with_free_memory


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], str]:
    """An executable that says `text` on its standard output, whatever it is asked."""

    def write(text: str) -> str:
        path = tmp_path / f"python-{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return write


def test_this_machine_is_probed_through_this_interpreter() -> None:
    pytest.importorskip("onnxruntime")
    import onnxruntime

    facts = probe({"onnx": sys.executable}, ("15.1v3",))

    assert isinstance(facts.runtimes, tuple)
    (runtime,) = facts.runtimes
    assert (runtime.name, runtime.version) == ("onnxruntime", onnxruntime.__version__)
    assert "cpu" in runtime.providers
    assert isinstance(runtime.max_ir_version, int)
    assert isinstance(runtime.max_opset, int)
    assert isinstance(facts.cpu_level, str)
    assert isinstance(facts.cpu, str)
    assert facts.cores == os.cpu_count()
    assert facts.nukes[0].torch_line == "2.1.1"
    assert HostFacts.from_bytes(facts.to_bytes(), where="facts") == facts


def test_child_runs_alone_in_an_isolated_interpreter_without_changeover() -> None:
    path = Path(child.__file__)

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "gpus", "cpu", "cpu_name", "onnxruntime", "torch"],
        capture_output=True,
        check=True,
    )

    answers = json.loads(done.stdout)
    assert set(answers) == {"gpus", "cpu", "cpu_name", "onnxruntime", "torch"}
    assert "No module named" in answers["onnxruntime"]["unknown"]


def test_without_an_interpreter_what_it_would_know_is_unknown() -> None:
    facts = probe({})

    for fact in (facts.gpus, facts.runtimes, facts.cpu_level, facts.cpu, facts.driver):
        assert isinstance(fact, Unknown)
        assert "[runtimes]" in fact.unknown
    assert isinstance(facts.ram_mib, int)


def test_interpreter_that_is_not_there_or_says_nonsense_is_unknown_with_its_reason(
    interpreter: Callable[[str], str],
) -> None:
    absent = probe({"onnx": "/nowhere/python"})
    nonsense = probe({"onnx": interpreter("hello")})

    assert isinstance(absent.gpus, Unknown)
    assert "cannot be started" in absent.gpus.unknown
    assert isinstance(nonsense.runtimes, Unknown)
    assert "no answer" in nonsense.runtimes.unknown


def test_interpreter_that_hangs_is_unknown_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(probing, "_SECONDS", 0.2)

    facts = probe({"onnx": str(path)})

    assert isinstance(facts.gpus, Unknown)
    assert "did not answer" in facts.gpus.unknown


def test_one_broken_interpreter_hides_no_good_one(interpreter: Callable[[str], str]) -> None:
    none: dict[str, Any] = {"gpus": [], "driver": None, "cuda_driver": None}
    answers = {
        "gpus": none,
        "cpu": "x86_64_v3",
        "cpu_name": "A CPU",
        "onnxruntime": {"version": "1.31.0", "providers": ["cpu"]},
    }

    facts = probe({"a": "/nowhere/python", "onnx": interpreter(json.dumps(answers))})

    assert facts.gpus == ()
    assert facts.driver is None
    assert (facts.cpu_level, facts.cpu) == ("x86_64_v3", "A CPU")
    assert isinstance(facts.runtimes, tuple)
    assert [runtime.version for runtime in facts.runtimes] == ["1.31.0"]


@pytest.mark.parametrize(
    ("name", "questions"), [("torch-2.1.1", ("torch",)), ("onnx", ("onnxruntime",)), ("both", ("onnxruntime", "torch"))]
)
def test_name_of_a_runtime_says_what_is_asked(name: str, questions: tuple[str, ...]) -> None:
    assert probing._questions(name) == ("gpus", "cpu", "cpu_name", *questions)


def test_unreadable_nuke_version_is_an_input_error() -> None:
    with pytest.raises(InvalidInputError, match=r"15\.1v3"):
        nuke_install("fifteen")


def test_ram_that_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", refuse)

    assert "does not say" in probing._ram_mib()["unknown"]


def test_key_changes_with_interpreters_and_nukes_and_holds_otherwise(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("1", encoding="utf-8")
    before = probe_key({"onnx": str(python)}, ("15.1",))

    assert probe_key({"onnx": str(python)}, ("15.1",)) == before
    assert probe_key({"onnx": str(python)}, ("16.0",)) != before
    python.write_text("other", encoding="utf-8")
    assert probe_key({"onnx": str(python)}, ("15.1",)) != before
    python.unlink()
    assert probe_key({"onnx": str(python)}, ("15.1",)) != before


def test_key_changes_when_packages_are_installed(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    before = probe_key({"onnx": str(tmp_path / "bin" / "python")})
    (packages / "new").mkdir()
    os.utime(packages, ns=(1, 1))

    assert probe_key({"onnx": str(tmp_path / "bin" / "python")}) != before


def test_gpus_of_this_moment_replace_the_remembered_ones(interpreter: Callable[[str], str]) -> None:
    facts = forged_host("a100-mig-80gib")
    assert isinstance(facts.gpus, tuple)
    card = facts.gpus[0].model_dump(mode="json") | {"free_mib": 5, "display": True}
    card["instances"] = [card["instances"][1] | {"free_mib": 7}]
    told = {"gpus": {"gpus": [card], "driver": "571.1", "cuda_driver": "12.8"}}

    found = with_free_memory(facts, {"broken": "/nowhere/python", "onnx": interpreter(json.dumps(told))})

    assert isinstance(found.gpus, tuple)
    (gpu,) = found.gpus
    assert (gpu.free_mib, gpu.display, found.driver) == (5, True, "571.1")
    assert isinstance(gpu.instances, tuple)
    assert [item.free_mib for item in gpu.instances] == [7]
    assert found.model_copy(update={"gpus": facts.gpus, "driver": facts.driver}) == facts


@pytest.mark.parametrize("answer", ["nonsense", '{"gpus": {"gpus": [], "driver": null, "cuda_driver": null}}'])
@pytest.mark.parametrize("name", ["rtx-a4000-16gib", "a100-mig-80gib"])
def test_free_memory_that_nvml_does_not_tell_now_is_unknown(
    interpreter: Callable[[str], str], name: str, answer: str
) -> None:
    facts = forged_host(name)

    found = with_free_memory(facts, {"onnx": interpreter(answer)}).gpus

    assert isinstance(found, tuple)
    assert isinstance(facts.gpus, tuple)
    for kept, gpu in zip(facts.gpus, found, strict=True):
        parts = (gpu, *(gpu.instances if isinstance(gpu.instances, tuple) else ()))
        assert all(isinstance(part.free_mib, Unknown) for part in parts)
        assert gpu.total_mib == kept.total_mib


def test_host_without_a_gpu_or_with_unknown_ones_is_asked_nothing() -> None:
    for facts in (forged_host("no-gpu"), forged_host("unknown-gpus")):
        assert with_free_memory(facts, {"onnx": "/nowhere/python"}) is facts


def test_child_is_written_in_the_syntax_of_the_oldest_interpreter_that_may_run_it() -> None:
    ast.parse(Path(child.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_cpu_that_has_no_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = pytest.importorskip("archspec.cpu")
    monkeypatch.setattr(cpu, "brand_string", lambda: None)

    assert child.cpu_name() == {"unknown": "the CPU does not say"}


def test_main_answers_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    child.main(["cpu", "nonsense"])

    assert list(json.loads(capsys.readouterr().out)) == ["cpu"]


def test_reason_is_one_line_and_never_empty() -> None:
    assert child.unknown("a\nb") == {"unknown": "a b"}
    assert child.unknown("") == {"unknown": "no reason was given"}
