"""Every row of the table of endings that can be produced here, by a real child in the real sandbox."""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from changeover_registry.errors import ChangeoverError, MeasurementError, UndecidedError
from changeover_registry.records.release import Contract
from changeover_validators.runtimes.endings import row_of_text, signal_rows, text_rows
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation

Make = Callable[..., RunRequest]
HALVED = "return x[:, 0:1] * 0.5"


@dataclass(frozen=True)
class Case:
    """How an ending is made: what is done to the variant's folder, and what the request says besides."""

    prepare: Callable[["Workshop"], object]
    changes: dict[str, Any] = field(default_factory=dict)


class Workshop:
    """Makes broken and greedy models in the variant's folder."""

    def __init__(self, nets: Any, contract: Contract) -> None:
        self.nets, self.contract, self.folder = nets, contract, Path(nets.folder)

    def stamped(self, ir_version: int = 9, opset: int = 17) -> None:
        model = onnx.load(self.nets.weighted())
        model.ir_version, model.opset_import[0].version = ir_version, opset
        onnx.save(model, self.folder / "net.onnx")

    def external(self) -> None:
        """A constant of 12 MB that lies in another file, which onnxruntime maps and does not copy."""
        model = onnx.load(self.nets.weighted())
        model.graph.node[0].input[0] = "sum"
        model.graph.node.insert(0, helper.make_node("Add", ["x", "big"], ["sum"]))
        tensor = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[1, 3, 1024, 1024])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "big.data"), ("offset", "0"), ("length", str(3 << 22))):
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)
        (self.folder / "net.onnx").write_bytes(model.SerializeToString())

    def dangling(self) -> None:
        model = onnx.load(self.nets.weighted())
        model.graph.node[0].input[0] = "nobody made this"
        onnx.save(model, self.folder / "net.onnx")

    def script(self, body: str = HALVED) -> Path:
        torch = pytest.importorskip("torch")
        module: Any = type("Net", (torch.jit.ScriptModule,), {})()
        module.define(f"def forward(self, x):\n    {body}\n")
        module.save(str(self.folder / "net.pt"))
        return self.folder / "net.pt"

    def rewritten(self, change: Callable[[str, bytes], bytes]) -> None:
        path = self.script()
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, change(name, data))

    def other_name(self) -> dict[str, Any]:
        self.nets.weighted()
        inputs = (self.contract.inputs[0].model_copy(update={"name": "image"}),)
        return {"contract": self.contract.model_copy(update={"inputs": inputs})}

    def enlarged(self) -> dict[str, Any]:
        self.nets.weighted()
        return {"contract": self.contract.model_copy(update={"resize": (16384, 16384)})}


SCRIPT = {"runtime": "torchscript", "entry": "net.pt"}
CASES: dict[str, Case] = {
    "arena-limit": Case(lambda shop: shop.nets.expanding(1, 1, 5_000, 5_000), {"arena_limit_bytes": 64 << 20}),
    "torch-host-memory": Case(lambda shop: shop.script("return x[:, 0:1] + torch.zeros([1 << 36])[0]"), SCRIPT),
    "arena-memory": Case(lambda shop: shop.nets.expanding(1, 1, 1_600_000, 1_600_000)),
    "size-overflow": Case(lambda shop: shop.nets.expanding(1, 1, 1 << 40, 1 << 40)),
    "host-memory": Case(Workshop.enlarged),
    "ir-too-new": Case(lambda shop: shop.stamped(ir_version=14)),
    "opset-too-new": Case(lambda shop: shop.stamped(opset=28)),
    "archive-too-new": Case(lambda shop: shop.rewritten(lambda n, d: b"99\n" if n.endswith("version") else d), SCRIPT),
    "operator-missing": Case(lambda shop: shop.rewritten(lambda _, d: d.replace(b"torch.mul", b"torch.mol")), SCRIPT),
    "external-data": Case(Workshop.external),
    "no-protobuf": Case(lambda shop: shop.nets.garbage()),
    "no-archive": Case(lambda shop: (shop.folder / "net.pt").write_bytes(b"\x80\x02no archive" * 50), SCRIPT),
    "not-as-called": Case(Workshop.other_name),
    "invalid-model": Case(Workshop.dangling),
}


@pytest.fixture
def shop(nets: Any, contract: Contract) -> Workshop:
    return Workshop(nets, contract)


def ending(request: RunRequest, isolation: Isolation | None, plate: Any) -> ChangeoverError:
    """The error that a model ends in, when it is loaded or at its first frame."""
    with pytest.raises(ChangeoverError) as caught, ModelProcess(request, isolation) as model:
        model.infer({"plate": plate}, reset=True)
    return caught.value


def test_every_row_that_is_called_produced_has_its_child() -> None:
    assert set(CASES) | {"provider-missing"} == {row.id for row in text_rows() if row.produced}
    assert set(DEEDS) | {"SIGBUS"} == set(signal_rows())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_real_child_ends_in_the_row(
    shop: Workshop, request_for: Make, some_isolation: Isolation, plate: Any, name: str
) -> None:
    row = next(row for row in text_rows() if row.id == name)
    more = CASES[name].prepare(shop)

    error = ending(
        request_for(**CASES[name].changes, **(more if isinstance(more, dict) else {})), some_isolation, plate
    )

    found = row_of_text("", error.actual)
    assert found is not None, error
    assert (found.id, error.rule) == (name, row.cause), error
    assert isinstance(error, UndecidedError if row.cause == "runtime too old" else MeasurementError)


def test_ten_terabytes_are_bounded_by_the_arenas_limit_and_not_by_the_ram(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.expanding(1, 1, 1_600_000, 1_600_000)

    bounded = ending(request_for(arena_limit_bytes=64 << 20), some_isolation, plate)
    free = ending(request_for(), some_isolation, plate)

    assert (bounded.rule, free.rule) == ("over budget", "out of host memory")
    assert "requested bytes of 10240000000000" in bounded.actual


def test_a_model_under_its_arenas_limit_runs(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()

    with ModelProcess(request_for(arena_limit_bytes=64 << 20), some_isolation) as model:
        assert model.infer({"plate": plate}, reset=True).matte.shape == (30, 40)


DEEDS = {
    "SIGSEGV": "import ctypes; ctypes.string_at(8)",
    "SIGABRT": "os.abort()",
    "SIGILL": (
        "import ctypes, mmap, platform\n"
        "    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "    page.write({'x86_64': b'\\x0f\\x0b', 'aarch64': bytes(4)}[platform.machine()])\n"
        "    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()"
    ),
    "SIGXCPU": (
        "import resource\n"
        "    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1, resource.RLIM_INFINITY))\n"
        "    while True: pass"
    ),
}


@pytest.fixture
def doing(tmp_path: Path, nets: Any, request_for: Make) -> Callable[..., RunRequest]:
    """An interpreter whose child is the real one, except that the runtime does `deed` where it would run the model."""
    nets.weighted()

    def make(deed: str, at: str = "OnnxModel.run", **changes: Any) -> RunRequest:
        place = tmp_path / "interpreter"
        place.mkdir()
        (place / "child.py").write_text(
            "import os, time\n"
            "from changeover_validators.runtimes import onnx as adapter\n"
            f"def deed(*arguments, **named):\n    {deed}\n"
            f"adapter.{at} = deed\n"
            "from changeover_validators.runtimes.child import main\nmain()\n"
        )
        (place / "python").write_text(
            f'#!/bin/sh\nif [ "$2" = -c ]; then exec {sys.executable} "$@"; fi\n'
            f"exec {sys.executable} {place / 'child.py'}\n"
        )
        (place / "python").chmod(0o755)
        return request_for(interpreter=str(place / "python"), **changes)

    return make


@pytest.mark.parametrize("name", sorted(DEEDS))
def test_a_real_signal_ends_in_its_row(
    doing: Callable[..., RunRequest], some_isolation: Isolation, plate: Any, name: str
) -> None:
    error = ending(doing(DEEDS[name]), some_isolation, plate)

    assert (error.rule, error.actual.split()[0]) == (signal_rows()[name], name)


def test_weights_that_shrink_while_they_are_read_end_in_a_bus_error(
    shop: Workshop, request_for: Make, some_isolation: Isolation
) -> None:
    """Mapped files are the one way for a file to bring a process down that has read it long before."""
    shop.external()
    data = shop.folder / "big.data"
    data.write_bytes(bytes(3 << 22))
    plate = np.zeros((1024, 1024, 3), np.float32)

    with ModelProcess(request_for(), some_isolation) as model:
        with data.open("r+b") as file:
            file.truncate(0)
        with pytest.raises(MeasurementError) as caught:
            model.infer({"plate": plate}, reset=True)

    assert (caught.value.rule, caught.value.actual) == ("crash", "SIGBUS")


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        ("raise RuntimeError('words that no release of any runtime has used')", "unknown"),
        ("return {'y': arguments[1]['x'][:, :1] * float('inf')}", "not finite"),
    ],
)
def test_endings_without_a_text_of_their_own(
    doing: Callable[..., RunRequest], some_isolation: Isolation, plate: Any, deed: str, rule: str
) -> None:
    error = ending(doing(deed), some_isolation, plate)

    assert isinstance(error, MeasurementError)
    assert error.rule == rule


@pytest.fixture
def half(nets: Any, contract: Contract, request_for: Make) -> Callable[..., RunRequest]:
    """A model of halves that takes 60000 times the mean of the channels twice, and may divide by 60000 again."""

    def make(*last: Any) -> RunRequest:
        kind, big = TensorProto.FLOAT16, onnx.numpy_helper.from_array(np.array([60000], np.float16), "big")
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Mul", ["m", "big"], ["b"]),
            helper.make_node("Add", ["b", "b"], ["t" if last else "y"]),
            *last,
        ]
        inputs = [helper.make_tensor_value_info("x", kind, [1, 3, "h", "w"])]
        outputs = [helper.make_tensor_value_info("y", kind, [1, 1, "h", "w"])]
        graph = helper.make_graph(nodes, "net", inputs, outputs, [big])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, Path(nets.folder) / "net.onnx")
        tensors = (contract.inputs[0].model_copy(update={"dtype": "float16"}),)
        return request_for(contract=contract.model_copy(update={"inputs": tensors}))

    return make


def test_a_half_that_overflows_is_no_matte(
    half: Callable[..., RunRequest], some_isolation: Isolation, plate: Any
) -> None:
    error = ending(half(), some_isolation, plate)

    assert isinstance(error, MeasurementError)
    assert error.rule == "not finite"
    assert "of 1200 values that are NaN or infinite" in error.actual


def test_a_half_that_overflows_inside_is_hidden_by_the_cpu_which_computes_in_floats(
    half: Callable[..., RunRequest], some_isolation: Isolation, plate: Any
) -> None:
    """Why a golden finding of the CPU never stands for a GPU: there the same file gives infinities."""
    request = half(helper.make_node("Div", ["t", "big"], ["y"]))

    with ModelProcess(request, some_isolation) as model:
        got = model.infer({"plate": plate}, reset=True)

    np.testing.assert_allclose(got.matte, 2 * plate.mean(axis=2), atol=5e-3)


def test_a_fault_of_the_gpu_ends_the_child_although_it_goes_on_answering(
    doing: Callable[..., RunRequest], some_isolation: Isolation, plate: Any
) -> None:
    """The text is CUDA's, not produced by a GPU; that nothing more is asked of such a process is what is tested."""
    deed = "raise RuntimeError('CUDA error: an illegal memory access was encountered')"

    with ModelProcess(doing(deed), some_isolation) as model:
        assert model._running is not None
        process = model._running.process
        with pytest.raises(MeasurementError) as first:
            model.infer({"plate": plate}, reset=True)
        process.wait(10)
        with pytest.raises(MeasurementError) as second:
            model.infer({"plate": plate}, reset=True)

    assert first.value.rule == "GPU fault"
    assert second.value is first.value


def test_a_provider_that_falls_back_with_a_mere_warning_is_found(
    nets: Any, request_for: Make, doing: Callable[..., RunRequest], some_isolation: Isolation, plate: Any
) -> None:
    """Where CUDA is missing onnxruntime answers with a session on the CPU, unless its own option forbids it."""
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    forbidding = (
        "import onnxruntime; options = onnxruntime.SessionOptions()\n"
        "    options.add_session_config_entry('session.disable_cpu_ep_fallback', '1'); return options"
    )

    silent = ending(request_for(provider="cuda"), some_isolation, plate)
    loud = ending(doing(forbidding, at="session_options", provider="cuda"), some_isolation, plate)

    assert (silent.rule, silent.actual) == ("provider", "CPUExecutionProvider")
    row = row_of_text("", loud.actual)
    assert (loud.rule, row.id if row else None) == ("provider", "provider-missing")


@pytest.fixture
def small_group() -> Iterator[Path]:
    """The file that puts a process into a control group of its own with 320 MiB, where this machine allows one."""
    made: Path | None = None
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        place = Path(root) / "changeover-test-of-endings"
        try:
            place.mkdir()
            (place / limit).write_text(str(320 << 20))
            made = place
            break
        except OSError:
            if place.is_dir():
                place.rmdir()
    if made is None:
        pytest.skip("no control group for memory may be made here")
    yield made / "cgroup.procs"
    made.rmdir()


PARENT = """
import sys
from pathlib import Path
import numpy as np
from changeover_registry.errors import MeasurementError
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
contract = Contract.model_validate_json(sys.argv[1])
request = RunRequest(sys.executable, Path(sys.argv[2]), "net.onnx", "onnx", contract, Tile(size=0), "cpu", "required",
                     60.0, 4096)
with ModelProcess(request) as model:
    try:
        model.infer({"plate": np.zeros((30, 40, 3), np.float32)}, reset=True)
    except MeasurementError as error:
        print(f"{error.rule}: {error.actual}")
"""


def test_a_child_that_the_kernel_kills_for_memory_is_told_from_one_that_crashes(
    nets: Any, contract: Contract, some_isolation: Isolation, small_group: Path
) -> None:
    nets.expanding(1, 1, 12_000, 12_500)

    done = subprocess.run(
        ["/bin/sh", "-c", 'echo $$ > "$0"; exec "$@"', str(small_group), sys.executable, "-c", PARENT,
         contract.model_dump_json(), str(nets.folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.stdout == "out of host memory: the kernel killed it for memory\n", done.stderr
