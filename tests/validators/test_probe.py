import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_validators import probe as probing
from changeover_validators import probe_child as child
from changeover_validators.probe import forged_host, forged_hosts, nuke_install, probe, probe_key


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
    assert facts.cores == os.cpu_count()
    assert facts.nukes[0].torch_line == "2.1.1"
    assert HostFacts.from_bytes(facts.to_bytes(), where="facts") == facts


def test_probed_limits_are_those_that_the_runtime_obeys() -> None:
    runtime = pytest.importorskip("onnxruntime")
    found = child.onnxruntime()

    child.opens(runtime, child.model(found["max_ir_version"], 13))
    child.opens(runtime, child.model(8, found["max_opset"]))
    with pytest.raises(Exception, match="IR version"):
        child.opens(runtime, child.model(found["max_ir_version"] + 1, 13))


def test_hand_written_model_is_the_one_that_the_library_reads() -> None:
    onnx = pytest.importorskip("onnx")

    model = onnx.ModelProto.FromString(child.model(8, 300))

    onnx.checker.check_model(onnx.ModelProto.FromString(child.model(8, 13)))
    assert (model.ir_version, model.opset_import[0].version) == (8, 300)


def test_child_runs_alone_in_an_isolated_interpreter_without_changeover() -> None:
    path = Path(child.__file__)

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "gpus", "cpu", "onnxruntime", "torch"], capture_output=True, check=True
    )

    answers = json.loads(done.stdout)
    assert set(answers) == {"gpus", "cpu", "onnxruntime", "torch"}
    assert "No module named" in answers["onnxruntime"]["unknown"]


def test_without_an_interpreter_what_it_would_know_is_unknown() -> None:
    facts = probe({})

    for fact in (facts.gpus, facts.runtimes, facts.cpu_level, facts.driver):
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
    answers = {"gpus": none, "cpu": "x86_64_v3", "onnxruntime": {"version": "1.31.0", "providers": ["cpu"]}}

    facts = probe({"a": "/nowhere/python", "onnx": interpreter(json.dumps(answers))})

    assert facts.gpus == ()
    assert facts.driver is None
    assert facts.cpu_level == "x86_64_v3"
    assert isinstance(facts.runtimes, tuple)
    assert [runtime.version for runtime in facts.runtimes] == ["1.31.0"]


@pytest.mark.parametrize(
    ("name", "questions"), [("torch-2.1.1", ("torch",)), ("onnx", ("onnxruntime",)), ("both", ("onnxruntime", "torch"))]
)
def test_name_of_a_runtime_says_what_is_asked(name: str, questions: tuple[str, ...]) -> None:
    assert probing._questions(name) == ("gpus", "cpu", *questions)


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


def test_shipped_hosts_are_at_least_eight_and_every_one_is_canonical() -> None:
    assert len(forged_hosts()) >= 8
    for name in forged_hosts():
        facts = forged_host(name)
        assert facts.host == name
        assert HostFacts.from_bytes(facts.to_bytes(), where=name) == facts


def test_shipped_hosts_name_what_the_tables_say_of_their_cards_and_nukes() -> None:
    from changeover_validators import tables

    for name in forged_hosts():
        facts = forged_host(name)
        for gpu in facts.gpus if isinstance(facts.gpus, tuple) else ():
            assert tables.capability_of_gpu(gpu.name) == gpu.compute_capability
        for nuke in facts.nukes:
            assert nuke.torch_line == tables.nuke_torch_line(nuke.line)


def test_documented_hosts_are_the_shipped_ones() -> None:
    from changeover_validators import hosts

    assert hosts.__doc__ is not None
    documented = [line.split("`")[1] for line in hosts.__doc__.splitlines() if line.startswith("| `")]
    assert sorted(documented) == list(forged_hosts())


def test_host_that_does_not_ship_is_an_input_error() -> None:
    with pytest.raises(InvalidInputError, match="rtx-2070-8gib"):
        forged_host("../secret")


class NVMLError(Exception):
    """What the binding raises; its subclasses are told apart by name."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - the binding's own name
    pass


def binding(**functions: Any) -> ModuleType:
    """A binding that answers as the documented one does on a machine with one card; `functions` replace its own."""
    memory = SimpleNamespace(total=8192 << 20, reserved=(100 << 20) + 1, free=7000 << 20)
    answers: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlMemory_v2": 2,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12080,
        "nvmlSystemGetDriverVersion": lambda: b"570.133.07",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda *_, **__: memory,
        "nvmlDeviceGetCudaComputeCapability": lambda _: (8, 6),
        "nvmlDeviceGetName": lambda _: "NVIDIA RTX A4000",
        "nvmlDeviceGetUUID": lambda _: "GPU-1",
        "nvmlDeviceGetDisplayActive": lambda _: 1,
        "nvmlDeviceGetMigMode": lambda _: [0, 0],
    }
    module = ModuleType("pynvml")
    for name, function in (answers | functions).items():
        setattr(module, name, function)
    return module


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_card_is_described_as_nvml_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", binding())

    assert child.gpus() == {
        "driver": "570.133.07",
        "cuda_driver": "12.8",
        "gpus": [
            {
                "name": "NVIDIA RTX A4000",
                "uuid": "GPU-1",
                "compute_capability": "8.6",
                "total_mib": 8192,
                "reserved_mib": 101,
                "free_mib": 7000,
                "display": True,
                "mig": False,
            }
        ],
    }


def test_no_gpu_is_certain_only_where_library_or_driver_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlInit=failing(NVMLError_LibraryNotFound("none"))))
    certain = child.gpus()
    monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlInit=failing(NVMLError("no permission"))))
    uncertain = child.gpus()

    assert certain == {"gpus": [], "driver": None, "cuda_driver": None}
    assert "no permission" in uncertain["gpus"]["unknown"]


def test_missing_binding_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)

    assert "ImportError" in child.gpus()["gpus"]["unknown"]


def test_each_fact_that_nvml_withholds_is_unknown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = failing(NVMLError("withheld"))
    module = binding(
        nvmlDeviceGetMemoryInfo=broken,
        nvmlDeviceGetCudaComputeCapability=broken,
        nvmlSystemGetCudaDriverVersion_v2=broken,
        nvmlDeviceGetMigMode=failing(NVMLError_NotSupported("old card")),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)

    answer = child.gpus()
    (gpu,) = answer["gpus"]

    assert answer["driver"] == "570.133.07"
    for fact in (answer["cuda_driver"], gpu["total_mib"], gpu["reserved_mib"], gpu["compute_capability"]):
        assert "withheld" in fact["unknown"]
    assert (gpu["name"], gpu["mig"]) == ("NVIDIA RTX A4000", False)


def test_list_of_cards_that_cannot_be_had_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    module = binding(nvmlDeviceGetCount=failing(NVMLError("lost")))
    monkeypatch.setitem(sys.modules, "pynvml", module)

    assert "lost" in child.gpus()["gpus"]["unknown"]


def test_unknown_mig_mode_is_unknown() -> None:
    module = binding(nvmlDeviceGetMigMode=failing(NVMLError("withheld")))

    assert "withheld" in child.mig(module, 0)["unknown"]


class Runtime:
    """A runtime that says of every model what it is told to."""

    def SessionOptions(self) -> SimpleNamespace:  # noqa: N802 - the runtime's own name
        return SimpleNamespace(add_session_config_entry=lambda *_: None)

    def __init__(self, error: str | None, ran: str = "CPUExecutionProvider") -> None:
        self.error, self.ran = error, ran

    def preload_dlls(self) -> None:
        raise OSError

    def InferenceSession(self, *_: object, **__: object) -> SimpleNamespace:  # noqa: N802 - the runtime's own name
        if self.error:
            raise RuntimeError(self.error)
        return SimpleNamespace(get_providers=lambda: [self.ran])


def test_limit_that_the_text_does_not_name_is_unknown_and_loading_all_is_too() -> None:
    pattern = r"max supported IR version: (\d+)"

    assert child.limit(Runtime("max supported IR version: 13"), b"", pattern) == 13
    assert "RuntimeError: other" in child.limit(Runtime("other"), b"", pattern)["unknown"]
    assert "loads a model of version 99" in child.limit(Runtime(None), b"", pattern)["unknown"]


def test_provider_works_only_if_the_session_really_runs_on_it() -> None:
    assert child.works(Runtime(None, "CUDAExecutionProvider"), "CUDAExecutionProvider")
    assert not child.works(Runtime(None, "CPUExecutionProvider"), "CUDAExecutionProvider")
    assert not child.works(Runtime("no CUDA"), "CUDAExecutionProvider")


def test_torch_tells_version_and_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, get_arch_list=lambda: ["sm_80"])
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.7.1+cu128", cuda=cuda))
    with_card = child.torch()
    cuda.is_available = lambda: False

    assert with_card == {"version": "2.7.1+cu128", "providers": ["cuda", "cpu"], "architectures": ["sm_80"]}
    assert child.torch()["providers"] == ["cpu"]


def test_main_answers_in_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    child.main(["cpu", "nonsense"])

    assert list(json.loads(capsys.readouterr().out)) == ["cpu"]


def test_reason_is_one_line_and_never_empty() -> None:
    assert child.unknown("a\nb") == {"unknown": "a b"}
    assert child.unknown("") == {"unknown": "no reason was given"}
