import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_validators import probe_child as child

old_torchscript = pytest.mark.filterwarnings("ignore:`torch.jit")


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


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


@old_torchscript
def test_newest_torchscript_is_the_one_that_torch_obeys(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    limit = child.max_torchscript(torch)
    whole = tmp_path / "whole.pt"
    torch.jit.script(torch.nn.ReLU()).save(str(whole))

    def stamped(version: int) -> Path:
        path = tmp_path / f"{version}.pt"
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, str(version) if name.endswith("version") else old.read(name))
        return path

    torch.jit.load(str(stamped(limit)))
    with pytest.raises(RuntimeError, match=f"version {limit + 1}"):
        torch.jit.load(str(stamped(limit + 1)))


def torch_of(**fields: Any) -> SimpleNamespace:
    """A torch with CUDA on a machine where CUDA works; `fields` replace its own."""
    answers: dict[str, Any] = {
        "__version__": "2.7.1+cu128",
        "version": SimpleNamespace(cuda="12.8"),
        "cuda": SimpleNamespace(is_available=lambda: True, get_arch_list=lambda: ["sm_80"]),
        "backends": SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 90701)),
        "jit": SimpleNamespace(load=failing(RuntimeError("maximum supported version for reading is 10."))),
        "_C": SimpleNamespace(_cuda_getArchFlags=lambda: "sm_80 compute_90"),
    }
    return SimpleNamespace(**(answers | fields))


def test_torch_tells_its_limits_and_what_it_was_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_of())

    assert child.torch() == {
        "version": "2.7.1+cu128",
        "providers": ["cuda", "cpu"],
        "architectures": ["sm_80"],
        "max_torchscript": 10,
        "toolkit": "12.8",
        "cudnn": "9.7.1",
    }


def test_torch_with_cuda_on_a_machine_without_a_gpu_still_tells_its_architectures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle = SimpleNamespace(is_available=lambda: False, get_arch_list=list)
    monkeypatch.setitem(sys.modules, "torch", torch_of(cuda=idle))
    with_flags = child.torch()
    monkeypatch.setitem(sys.modules, "torch", torch_of(cuda=idle, _C=None))

    assert (with_flags["providers"], with_flags["architectures"]) == (["cpu"], ["sm_80", "compute_90"])
    assert "_cuda_getArchFlags" in child.torch()["architectures"]["unknown"]


@old_torchscript
def test_torch_for_the_cpu_was_built_for_no_cuda() -> None:
    pytest.importorskip("torch")
    import torch

    found = child.torch()
    if torch.version.cuda is not None:
        pytest.skip("the torch here is built for CUDA")

    assert (found["toolkit"], found["cudnn"], found["architectures"]) == (None, None, [])
    assert found["max_torchscript"] >= 10


@pytest.mark.parametrize(("code", "version"), [(8907, "8.9.7"), (90100, "9.1.0"), (91002, "9.10.2")])
def test_integer_of_cudnn_is_read_as_its_maker_writes_it(code: int, version: str) -> None:
    library = torch_of(backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: code)))

    assert child.torch_cudnn(library) == version


def test_torch_that_names_no_cudnn_or_reads_any_archive_is_unknown_there() -> None:
    library = torch_of(
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: None)),
        jit=SimpleNamespace(load=lambda _: None),
    )

    assert "no cuDNN" in child.torch_cudnn(library)["unknown"]
    assert "version 99" in child.max_torchscript(library)["unknown"]
    broken = torch_of(jit=SimpleNamespace(load=failing(RuntimeError("other"))))
    assert "other" in child.max_torchscript(broken)["unknown"]
