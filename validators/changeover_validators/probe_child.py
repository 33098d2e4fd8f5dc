"""Runs inside a named interpreter and prints, as one JSON line, what only that interpreter can know.

GPUs by NVML (nvidia-ml-py), the CPU's level (archspec), onnxruntime and torch with their limits. It is run as a file
(``python -I probe_child.py``), so the interpreter needs nothing of Changeover: standard library only, syntax of
Python 3.8, and whatever else is installed there. A fact that cannot be had is ``{"unknown": reason}``. It never fails.
What this leaves out: any decision. Arguments: what to look for, of ``gpus``, ``cpu``, ``onnxruntime``, ``torch``.
"""
# ruff: noqa: ANN401, UP006, UP007, UP035 - the interpreter may be as old as 3.8, and what it has installed has no types.

import json
import re
import sys
from typing import Any, Callable, Dict, List, Union

MIB = 1 << 20
TOO_NEW = 99
NO_DRIVER = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")


def unknown(reason: Union[str, BaseException]) -> Dict[str, str]:
    """A fact that could not be had; the reason in one line."""
    if isinstance(reason, BaseException):
        reason = f"{type(reason).__name__}: {reason}"
    return {"unknown": " ".join(str(reason).split())[:300] or "no reason was given"}


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` answers, or why it could not."""
    try:
        return function(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever breaks in a foreign library is the answer
        return unknown(error)


def gpus() -> Dict[str, Any]:
    """All GPUs and the driver. None at all is certain only where NVML says that library or driver is absent."""
    try:
        import pynvml
    except ImportError as error:
        return {"gpus": unknown(error), "driver": unknown(error), "cuda_driver": unknown(error)}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return without_nvml(error)
    try:
        return with_nvml(pynvml)
    finally:
        pynvml.nvmlShutdown()


def without_nvml(error: Exception) -> Dict[str, Any]:
    """Facts where NVML does not start: no driver means no GPU that CUDA could use; all else is unknown."""
    if type(error).__name__ in NO_DRIVER:
        return {"gpus": [], "driver": None, "cuda_driver": None}
    return {"gpus": unknown(error), "driver": unknown(error), "cuda_driver": unknown(error)}


def with_nvml(nvml: Any) -> Dict[str, Any]:
    """Facts from a started NVML."""
    code = attempt(nvml.nvmlSystemGetCudaDriverVersion_v2)
    cuda = f"{code // 1000}.{code % 1000 // 10}" if isinstance(code, int) else code
    handles = attempt(lambda: [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())])
    found = [gpu(nvml, handle) for handle in handles] if isinstance(handles, list) else handles
    return {"gpus": found, "driver": attempt(lambda: text(nvml.nvmlSystemGetDriverVersion())), "cuda_driver": cuda}


def gpu(nvml: Any, handle: Any) -> Dict[str, Any]:
    """One GPU. Memory in MiB; version 2 of the memory query tells what the driver keeps for itself."""
    memory = attempt(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    known = not isinstance(memory, dict)
    capability = attempt(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return {
        "name": attempt(lambda: text(nvml.nvmlDeviceGetName(handle))),
        "uuid": attempt(lambda: text(nvml.nvmlDeviceGetUUID(handle))),
        "compute_capability": capability if isinstance(capability, dict) else "{}.{}".format(*capability),
        "total_mib": memory.total // MIB if known else memory,
        "reserved_mib": -(-memory.reserved // MIB) if known else memory,
        "free_mib": memory.free // MIB if known else memory,
        "display": attempt(lambda: bool(nvml.nvmlDeviceGetDisplayActive(handle))),
        "mig": mig(nvml, handle),
    }


def mig(nvml: Any, handle: Any) -> Any:
    """Whether the GPU is divided into instances; a GPU that does not know the question is not."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError as error:
        return False if type(error).__name__ == "NVMLError_NotSupported" else unknown(error)


def text(value: Union[str, bytes]) -> str:
    """Some releases of the binding answer bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def cpu() -> str:
    """The microarchitecture level that binaries are built for, such as ``x86_64_v3``."""
    from archspec.cpu import host

    return str(host().generic.name)


def number(value: int) -> bytes:
    """An integer as protobuf writes it."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def part(field: int, value: Union[int, str, bytes]) -> bytes:
    """One field of a protobuf message: an integer, text or a message that is already bytes."""
    if isinstance(value, int):
        return number(field << 3) + number(value)
    data = value.encode("ascii") if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(data)) + data


def model(ir_version: int, opset: int) -> bytes:
    """The smallest ONNX model, one Identity, as bytes; written by hand because onnx may not be installed there."""
    tensor = part(2, part(1, part(1, 1) + part(2, part(1, part(1, 1)))))
    node = part(1, "x") + part(2, "y") + part(4, "Identity")
    graph = part(1, node) + part(2, "probe") + part(11, part(1, "x") + tensor) + part(12, part(1, "y") + tensor)
    return part(1, ir_version) + part(7, graph) + part(8, part(1, "") + part(2, opset))


def opens(runtime: Any, data: bytes, provider: str = "CPUExecutionProvider") -> Any:
    """Open a session that may not fall back to another provider."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if provider != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return runtime.InferenceSession(data, options, providers=[provider])


def limit(runtime: Any, data: bytes, pattern: str) -> Any:
    """The limit that the runtime names when it refuses a model that is too new."""
    try:
        opens(runtime, data)
    except Exception as error:  # noqa: BLE001 - the text is the answer
        found = re.search(pattern, str(error))
        return int(found.group(1)) if found else unknown(error)
    return unknown(f"it loads a model of version {TOO_NEW}")


def onnxruntime() -> Dict[str, Any]:
    """Version, the providers that really open a session, and the newest IR and opset that it loads."""
    import onnxruntime as runtime

    runtime.set_default_logger_severity(4)
    max_ir = limit(runtime, model(TOO_NEW, 13), r"max supported IR version: (\d+)")
    max_opset = limit(runtime, model(8, TOO_NEW), r"domain ai\.onnx is till opset (\d+)")
    tried = [("cuda", "CUDAExecutionProvider"), ("cpu", "CPUExecutionProvider")]
    listed = runtime.get_available_providers()
    working = [name for name, long in tried if long in listed and works(runtime, long)]
    return {"version": runtime.__version__, "providers": working, "max_ir_version": max_ir, "max_opset": max_opset}


def works(runtime: Any, provider: str) -> bool:
    """Whether a session opens on exactly this provider; being listed only means being compiled in."""
    if hasattr(runtime, "preload_dlls") and provider == "CUDAExecutionProvider":
        attempt(runtime.preload_dlls)
    session = attempt(opens, runtime, model(8, 13), provider)
    return not isinstance(session, dict) and bool(session.get_providers()[:1] == [provider])


def torch() -> Dict[str, Any]:
    """Version with its build, whether CUDA works, and the architectures that this build carries."""
    import torch as library

    cuda = library.cuda.is_available()
    listed = list(library.cuda.get_arch_list()) if cuda else []
    return {
        "version": str(library.__version__),
        "providers": ["cuda", "cpu"] if cuda else ["cpu"],
        "architectures": listed,
    }


def main(wanted: List[str]) -> None:
    """Everything that was asked for, in one JSON line on standard output."""
    questions = {"gpus": gpus, "cpu": cpu, "onnxruntime": onnxruntime, "torch": torch}
    answers = {name: attempt(questions[name]) for name in wanted if name in questions}
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
