from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import MeasurementError, RefusedError, UndecidedError
from changeover_registry.records.release import Contract
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.torchscript import TorchScriptModel

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

Make = Callable[..., RunRequest]
Script = Callable[..., Path]

WEIGHTED = "return x[:, 0:1] * 0.5 + x[:, 1:2] * 0.25 + x[:, 2:3] * 0.125"
ENDLESS_MEMORY = """kept = [torch.rand([262144])]
    while bool(kept[0][0] > -1):
        kept.append(torch.rand([262144]))
    return x[:, 0:1] + kept[-1][0]"""
SEGFAULT = """there = torch.full([1, 1], 1099511627776, dtype=torch.int64)
    wild = torch.ops.aten._sparse_coo_tensor_unsafe(there, torch.ones([1]), [10])
    return x[:, 0:1] + wild.to_dense().sum()"""


@pytest.fixture
def script(variant: Path) -> Script:
    """Saves a scripted module with the given body of forward."""

    def save(body: str, arguments: str = "self, x") -> Path:
        module: Any = type("Net", (torch.jit.ScriptModule,), {})()
        module.define(f"def forward({arguments}):\n    {body}\n")
        module.save(str(variant / "net.pt"))
        return variant / "net.pt"

    return save


@pytest.fixture
def request_script(request_for: Make) -> Make:
    return lambda **changes: request_for(**({"runtime": "torchscript", "entry": "net.pt"} | changes))


def test_a_scripted_module_runs_in_the_sandbox(
    script: Script, request_script: Make, isolation: Isolation, plate: Any
) -> None:
    script("print('a model may chatter')\n    " + WEIGHTED)

    with ModelProcess(request_script(), isolation) as model:
        got = model.infer({"plate": plate}, reset=True)

    np.testing.assert_allclose(got.matte, plate @ np.array([0.5, 0.25, 0.125], np.float32), atol=1e-6)
    assert model.started.sandbox == isolation.name
    assert model.started.runtime_version == torch.__version__


def test_a_module_that_takes_all_memory_is_out_of_memory(
    script: Script, request_script: Make, some_isolation: Isolation, plate: Any
) -> None:
    script(ENDLESS_MEMORY)

    with ModelProcess(request_script(ram_mib=700), some_isolation) as model, pytest.raises(MeasurementError) as caught:
        model.infer({"plate": plate}, reset=True)

    assert caught.value.rule == "out of host memory"
    assert model.peak_rss_bytes < 1200 << 20


def test_a_module_that_crashes_is_a_crash(
    script: Script, request_script: Make, some_isolation: Isolation, plate: Any
) -> None:
    script(SEGFAULT)

    with ModelProcess(request_script(), some_isolation) as model, pytest.raises(MeasurementError) as caught:
        model.infer({"plate": plate}, reset=True)

    assert caught.value.rule == "crash"
    assert caught.value.actual == "SIGSEGV"


def test_a_module_that_writes_a_file_writes_none(
    script: Script, request_script: Make, some_isolation: Isolation, plate: Any, tmp_path: Path, variant: Path
) -> None:
    outside = tmp_path / "planted"
    path = script(f"torch.save(x, {str(outside)!r})\n    {WEIGHTED}")
    torch.jit.load(str(path))(torch.ones(1, 3, 2, 2))
    assert outside.is_file()  # Unguarded, the script does write, so that its failure inside means something.
    outside.unlink()

    attempts = "\n    ".join(f"torch.save(x, {place!r})" for place in (str(outside), "/model/planted", "/model/net.pt"))
    before = script(f"{attempts}\n    {WEIGHTED}").read_bytes()

    with ModelProcess(request_script(), some_isolation) as model:
        model.infer({"plate": plate}, reset=True)

    assert path.read_bytes() == before
    assert not outside.exists()
    assert [file.name for file in variant.iterdir()] == ["net.pt"]


def test_torchscript_without_isolation_is_never_run(script: Script, request_script: Make) -> None:
    script(WEIGHTED)

    with (
        pytest.raises(RefusedError, match="limits-only"),
        ModelProcess(request_script(sandbox="limits-only"), Isolation(None, "none")),
    ):
        pytest.fail("it ran")
    with pytest.raises(UndecidedError, match="not run"), ModelProcess(request_script(), Isolation(None, "none")):
        pytest.fail("it ran")


def test_states_go_by_position(script: Script, counting_contract: Contract) -> None:
    path = script("return x[:, 0:1] * 0.0 + s, s + 1.0", "self, x, s")
    model = TorchScriptModel(str(path), "cpu", 1, counting_contract)

    answer = model.run({"x": np.ones((1, 3, 2, 2), np.float32), "s": np.full((1, 1, 1, 1), 4, np.float32)})

    assert answer["y"].tolist() == [[[[4, 4], [4, 4]]]]
    assert answer["t"].item() == 5


def test_a_dictionary_goes_by_name(script: Script, contract: Contract) -> None:
    path = script("return {'z': x, 'y': x[:, 0:1]}")

    answer = TorchScriptModel(str(path), "cpu", 1, contract).run({"x": np.ones((1, 3, 2, 2), np.float32)})

    assert answer["y"].shape == (1, 1, 2, 2)


def test_a_script_that_runs_elsewhere_than_asked_for_is_a_failed_measurement(
    script: Script, contract: Contract
) -> None:
    path = script("return x[:, 0:1].to('meta')")
    model = TorchScriptModel(str(path), "cpu", 1, contract)

    with pytest.raises(MeasurementError, match="a matte that was made on cpu, found one from meta"):
        model.run({"x": np.ones((1, 3, 2, 2), np.float32)})


def test_cuda_without_a_gpu_is_named(script: Script, contract: Contract) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    path = script(WEIGHTED)

    with pytest.raises(MeasurementError, match="without a usable GPU"):
        TorchScriptModel(str(path), "cuda", 1, contract)
