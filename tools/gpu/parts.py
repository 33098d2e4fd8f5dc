"""The parts of a measurement, each run in a process of its own: ``parts.py NAME JSON`` answers JSON on standard output.

A fresh process for each, so that a context, a library or a crash of one part is not in the figures of another. What a
part needs and does not find ends it with a sentence; all sizes are bytes.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import fixtures
from device import Nvml

__all__ = ["PARTS"]

_ROOT = Path(__file__).resolve().parents[2]
_TRACES = _ROOT / "validators" / "changeover_validators" / "vram" / "trace_child.py"
_CALLS = 4
_RUNS = 4

_CONVOLUTIONS = (
    ("conv 3x3, 16 to 32", {"in_channels": 16, "out_channels": 32, "kernel_size": 3, "padding": 1}),
    ("conv 3x3, 64 to 64", {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1}),
    ("dilated 3x3, 32 to 32", {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 6, "dilation": 6}),
    ("depthwise 5x5, 32", {"in_channels": 32, "out_channels": 32, "kernel_size": 5, "padding": 2, "groups": 32}),
)


class Absent(Exception):  # noqa: N818 - not a failure: what a part needs is not on this machine
    """What a part needs is not here."""


def context(_asked: dict[str, Any]) -> dict[str, Any]:
    """What a process holds of the device: a bare context, torch's, then with the first Conv and the first MatMul."""
    nvml = Nvml()
    before = nvml.used_bytes()

    def held() -> dict[str, int | None]:
        return {"process": nvml.used_by(os.getpid()), "device_rise": nvml.used_bytes() - before}

    steps: dict[str, Any] = {"bare context": {**_bare_context(), **held()}}
    torch = _torch()
    torch.zeros(1, device="cuda")
    steps["torch"] = held() | _torch_counts(torch)
    x = torch.rand(1, 16, 64, 64, device="cuda")
    with torch.inference_mode():
        torch.nn.Conv2d(16, 16, 3, padding=1).cuda()(x)
        torch.cuda.synchronize()
        steps["first Conv"] = held() | _torch_counts(torch)
        torch.matmul(x, x)
        torch.cuda.synchronize()
    steps["first MatMul"] = held() | _torch_counts(torch)
    return {"torch": str(torch.__version__), "steps": steps}


def workspace(asked: dict[str, Any]) -> dict[str, Any]:
    """What a convolution takes beyond its tensors, with cuDNN's search for the fastest algorithm off and on."""
    torch = _torch()
    found = []
    for half in (False, True):
        for name, settings in _CONVOLUTIONS:
            for width, height in asked["sizes"]:
                for search in (False, True):
                    torch.backends.cudnn.benchmark = search
                    extra = _extra(torch, settings, (width, height), half=half)
                    row = {"operator": name, "half": half, "width": width, "height": height, "search": search}
                    found.append(row | extra)
    return {"torch": str(torch.__version__), "cudnn": torch.backends.cudnn.version(), "rows": found}


def _extra(torch: Any, settings: dict[str, int], size: tuple[int, int], *, half: bool) -> dict[str, int]:
    dtype = torch.float16 if half else torch.float32
    with torch.inference_mode():
        module = torch.nn.Conv2d(**settings).cuda().to(dtype)
        x = torch.rand(1, settings["in_channels"], size[1], size[0], device="cuda").to(dtype)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        peaks = []
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            y = module(x)
            torch.cuda.synchronize()
            peaks.append(torch.cuda.max_memory_allocated() - before - y.numel() * y.element_size())
            elements = y.numel()
            del y
    return {"elements": elements, "first_run": peaks[0], "second_run": peaks[1]}


def trace(asked: dict[str, Any]) -> dict[str, Any]:
    """The allocator's history and counters of one net at one size, in the form that predictions are made from."""
    torch = _torch() if asked["device"] == "cuda" else _any_torch()
    child = _by_path(_TRACES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        fixtures.torch_net(asked["net"], half=asked["half"]).save(str(path))
        dtype = "float16" if asked["half"] else "float32"
        request = {
            "path": str(path),
            "device": asked["device"],
            "threads": 1,
            "sessions": 1,
            "sizes": [[asked["width"], asked["height"]]],
            "inputs": [{"channels": 3, "dtype": dtype}],
            "states": [],
            "calls": _CALLS,
        }
        (recording,) = child.recordings(request)
    return {"recording": recording, "torch": str(torch.__version__)}


def onnx(asked: dict[str, Any]) -> dict[str, Any]:
    """One session of onnxruntime on CUDA; what its arena takes stands in the log, on standard error."""
    runtime = _runtime()
    numpy = importlib.import_module("numpy")
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    runtime.set_default_logger_severity(1)
    options = runtime.SessionOptions()
    options.enable_mem_pattern = asked["pattern"]
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    nvml = Nvml()
    before = nvml.used_bytes()
    chosen = [("CUDAExecutionProvider", asked["options"])]
    session = runtime.InferenceSession(_onnx_bytes(asked["net"]), options, providers=chosen)
    if session.get_providers()[:1] != ["CUDAExecutionProvider"]:
        message = f"onnxruntime ran on {session.get_providers()[0]}"
        raise Absent(message)
    x = numpy.zeros((1, 3, asked["height"], asked["width"]), "float32")
    took = []
    for _ in range(_RUNS):
        began = time.perf_counter_ns()
        session.run(None, {"x": x})
        took.append((time.perf_counter_ns() - began) // 1000)
    held = {"process": nvml.used_by(os.getpid()), "device_rise": nvml.used_bytes() - before}
    return {"onnxruntime": str(runtime.__version__), "run_us": took, **held}


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "context": context,
    "workspace": workspace,
    "trace": trace,
    "onnx": onnx,
}


def _bare_context() -> dict[str, Any]:
    """A context by the driver alone, without any library on top; what torch opens afterwards is the same one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return {"error": "libcuda cannot be loaded"}
    handle = ctypes.c_void_p()
    codes = (
        cuda.cuInit(0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(handle), 0),
        cuda.cuCtxSetCurrent(handle),
    )
    return {"error": f"the driver answered {codes}"} if any(codes) else {}


def _torch_counts(torch: Any) -> dict[str, int]:
    free, total = torch.cuda.mem_get_info()
    counts = {"allocated": torch.cuda.memory_allocated(), "reserved": torch.cuda.memory_reserved()}
    return {**counts, "device_free": int(free), "device_total": int(total)}


def _any_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        message = f"{sys.executable} has no torch"
        raise Absent(message) from error


def _torch() -> Any:
    torch = _any_torch()
    if not torch.cuda.is_available():
        message = f"torch {torch.__version__} sees no GPU"
        raise Absent(message)
    return torch


def _runtime() -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        message = f"{sys.executable} has no onnxruntime"
        raise Absent(message) from error
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        message = f"onnxruntime {runtime.__version__} lists no CUDAExecutionProvider"
        raise Absent(message)
    return runtime


def _onnx_bytes(name: str) -> bytes:
    try:
        return fixtures.onnx_net(name)
    except ImportError as error:
        message = f"{sys.executable} cannot write ONNX files: {error}"
        raise Absent(message) from error


def _by_path(path: Path) -> Any:
    """A module of this repository, by its file, so that none of what surrounds it is imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        message = f"{path} is not there"
        raise Absent(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run one part. What libraries print goes to standard error."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    name, asked = sys.argv[1], json.loads(sys.argv[2])
    try:
        answer = PARTS[name](asked)
    except Absent as absent:
        answer = {"not_measured": str(absent)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the report says it
        answer = {"not_measured": f"{type(error).__name__}: {str(error)[:300]}"}
    with os.fdopen(pipe, "w", encoding="ascii") as out:
        json.dump(answer, out)


if __name__ == "__main__":
    main()
