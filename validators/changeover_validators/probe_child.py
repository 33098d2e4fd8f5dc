"""Runs inside a named interpreter and prints, as one JSON line, what only that interpreter can know.

GPUs by NVML (nvidia-ml-py), the CPU's level and name (archspec), onnxruntime and torch with their limits and what their
binaries were built for. It is run as a file (``python -I probe_child.py``), so the interpreter needs nothing of
Changeover: standard library only, syntax of Python 3.8, and whatever else is installed there. A fact that cannot be
had is ``{"unknown": reason}``. It never fails. What this leaves out: any decision. Arguments: what to look for, of
``gpus``, ``cpu``, ``cpu_name``, ``onnxruntime``, ``torch``.
"""
# ruff: noqa: ANN401, UP006, UP007, UP035 - the interpreter may be as old as 3.8, and what it has installed has no types.

import io
import json
import mmap
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Union

MIB = 1 << 20
TOO_NEW = 99
NO_DRIVER = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
DRIVER_MODELS = {0: "wddm", 1: "tcc", 2: "mcdm"}
"""NVML's numbers for how Windows drives a card."""
FATBIN = struct.pack("<IHH", 0xBA55ED50, 1, 16)
"""How each container of GPU code in a library begins: magic, version, size of its header."""
GPU_CODE = struct.Struct("<HHIQ12xI8xQ")
"""Kind, version, header's size, payload's size, architecture and flags of one piece of GPU code."""
GPU_CODE_KINDS = {1: "compute", 2: "sm"}
"""Intermediate code, and machine code."""
SUFFIX_A, SUFFIX_F = 1 << 20, 1 << 21
"""Flags of code for one architecture alone (``sm_90a``) and for one family (``sm_120f``); read from the output of
NVIDIA's own fatbinary 13.0 for 75 to 121, with and without suffix."""


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
    """One GPU, with its instances where it is divided."""
    capability = attempt(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    divided = yes_or_no(attempt(lambda: nvml.nvmlDeviceGetMigMode(handle)[0]))
    return {
        "name": attempt(lambda: text(nvml.nvmlDeviceGetName(handle))),
        "uuid": attempt(lambda: text(nvml.nvmlDeviceGetUUID(handle))),
        "compute_capability": capability if isinstance(capability, dict) else "{}.{}".format(*capability),
        **memory(nvml, handle),
        "display": attempt(lambda: bool(nvml.nvmlDeviceGetDisplayActive(handle))),
        "mig": divided,
        "instances": instances(nvml, handle) if divided is True else None,
        "driver_model": driver_model(nvml, handle),
        "accounting": yes_or_no(attempt(nvml.nvmlDeviceGetAccountingMode, handle)),
    }


def memory(nvml: Any, handle: Any) -> Dict[str, Any]:
    """Total, reserved and free in MiB, of a GPU or of an instance.

    Drivers before R510 know only the first version of the question, whose total leaves the reserve out.
    """
    told = attempt(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    reserved = told if isinstance(told, dict) else -(-told.reserved // MIB)
    if isinstance(told, dict):
        told = attempt(nvml.nvmlDeviceGetMemoryInfo, handle)
    if isinstance(told, dict):
        return {"total_mib": told, "reserved_mib": reserved, "free_mib": told}
    total, free = told.total // MIB, told.free // MIB
    return {
        "total_mib": total or unknown("the driver tells a total of 0"),
        "reserved_mib": within(reserved, total, "reserved"),
        "free_mib": within(free, total, "free"),
    }


def within(size: Any, total: int, what: str) -> Any:
    """A size that cannot be more than the total; where a driver says so, it is not known."""
    return unknown(f"the driver tells {size} MiB {what} of {total}") if isinstance(size, int) and size > total else size


def instances(nvml: Any, handle: Any) -> Any:
    """The instances of a divided GPU, each through its own handle; places without one are left out."""
    places = attempt(nvml.nvmlDeviceGetMaxMigDeviceCount, handle)
    if isinstance(places, dict):
        return places
    asked = [attempt(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place) for place in range(places)]
    broken = [answer for answer in asked if isinstance(answer, dict) and not says(answer, "NVMLError_NotFound")]
    if broken:
        return broken[0]
    return [instance(nvml, found) for found in asked if not isinstance(found, dict)]


def instance(nvml: Any, handle: Any) -> Dict[str, Any]:
    """One instance; its profile stands at the end of its name: ``NVIDIA A100-SXM4-80GB MIG 3g.40gb``."""
    name = attempt(lambda: text(nvml.nvmlDeviceGetName(handle)))
    profile = name if isinstance(name, dict) else name.partition(" MIG ")[2]
    return {
        "uuid": attempt(lambda: text(nvml.nvmlDeviceGetUUID(handle))),
        "profile": profile or unknown(f"its name tells none: {name}"),
        **memory(nvml, handle),
    }


def driver_model(nvml: Any, handle: Any) -> Any:
    """How Windows drives the card; None where NVML says that there is no such thing, as on other systems."""
    model = attempt(nvml.nvmlDeviceGetCurrentDriverModel, handle)
    if says(model, "NVMLError_FunctionNotFound"):
        # Older drivers know only the first version of the question, which newer bindings no longer ask by themselves.
        model = attempt(lambda: nvml.nvmlDeviceGetDriverModel_v1(handle)[0])
    if says(model, "NVMLError_NotSupported"):
        return None
    return model if isinstance(model, dict) else DRIVER_MODELS.get(model) or unknown(f"NVML says {model}")


def yes_or_no(answer: Any) -> Any:
    """A mode that is on or off; a GPU that does not know the question has it not."""
    if isinstance(answer, dict):
        return False if says(answer, "NVMLError_NotSupported") else answer
    return bool(answer)


def says(answer: Any, error: str) -> bool:
    """Whether the answer is unknown because of that error."""
    return isinstance(answer, dict) and answer["unknown"].startswith(error)


def text(value: Union[str, bytes]) -> str:
    """Some releases of the binding answer bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def cpu() -> str:
    """The microarchitecture level that binaries are built for, such as ``x86_64_v3``."""
    from archspec.cpu import host

    return str(host().generic.name)


def cpu_name() -> Any:
    """What the CPU calls itself."""
    from archspec.cpu import brand_string

    return " ".join((brand_string() or "").split()) or unknown("the CPU does not say")


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
    """Version, the providers that really open a session, the newest IR and opset that it loads, and its build."""
    import onnxruntime as runtime

    runtime.set_default_logger_severity(4)
    max_ir = limit(runtime, model(TOO_NEW, 13), r"max supported IR version: (\d+)")
    max_opset = limit(runtime, model(8, TOO_NEW), r"domain ai\.onnx is till opset (\d+)")
    tried = [("cuda", "CUDAExecutionProvider"), ("cpu", "CPUExecutionProvider")]
    listed = runtime.get_available_providers()
    working = [name for name, long in tried if long in listed and works(runtime, long)]
    limits = {"max_ir_version": max_ir, "max_opset": max_opset}
    return {"version": runtime.__version__, "providers": working, **limits, **build(runtime)}


def build(runtime: Any) -> Dict[str, Any]:
    """What the wheel's CUDA library was built for; nothing where there is none, as in a build for the CPU."""
    libraries = sorted(Path(runtime.__file__).parent.glob("capi/*onnxruntime_providers_cuda.*"))
    if not libraries:
        return {"toolkit": None, "cudnn": None, "architectures": []}
    found = libraries[0]
    return {"toolkit": attempt(toolkit), "cudnn": attempt(cudnn, found), "architectures": attempt(architectures, found)}


def toolkit() -> Any:
    """The CUDA toolkit that the wheel names as its own; those of 1.15 and 1.18 do not."""
    try:
        from onnxruntime.capi.build_and_package_info import cuda_version
    except ImportError:
        return unknown("the wheel does not say for which CUDA it was built")
    return str(cuda_version)


def cudnn(path: Path) -> Any:
    """The major of cuDNN: what the wheel requires, else what its library asks the loader for.

    Both are needed: older wheels require nothing, and newer libraries open cuDNN by themselves.
    """
    from importlib.metadata import requires

    listed = attempt(lambda: "\n".join(requires("onnxruntime-gpu") or ()))
    required = None if isinstance(listed, dict) else re.search(r"nvidia-cudnn-cu\d+\W*(\d+)", listed)
    if required:
        return required.group(1)
    with mapped(path) as data:
        linked = re.search(rb"libcudnn\.so\.(\d+)|cudnn64_(\d+)\.dll", data)
        major = (linked.group(1) or linked.group(2)).decode() if linked else ""
    return major or unknown("the wheel names no cuDNN")


def architectures(path: Path) -> List[str]:
    """The GPU code that a library carries: ``sm_86`` is machine code, ``compute_90`` can be compiled for newer GPUs."""
    with mapped(path) as data:
        return sorted({name for start, end in containers(data) for name in pieces(data, start, end)})


def mapped(path: Path) -> mmap.mmap:
    """The file as bytes that are read only where they are looked at; such a library has hundreds of MiB."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def containers(data: Any) -> Iterator[Any]:
    """Where the contents of each container of GPU code begin and end."""
    at = data.find(FATBIN)
    while at >= 0:
        start = at + 16
        end = start + int.from_bytes(data[at + 8 : start], "little")
        if end <= len(data):
            yield start, end
        at = data.find(FATBIN, end if end <= len(data) else start)


def pieces(data: Any, at: int, end: int) -> Set[str]:
    """The names of the pieces of GPU code from `at` to `end`; stops where something else lies."""
    found = set()
    while at + GPU_CODE.size <= end:
        kind, _, header, payload, architecture, flags = GPU_CODE.unpack_from(data, at)
        if kind not in GPU_CODE_KINDS or header < GPU_CODE.size:
            break
        suffix = "a" if flags & SUFFIX_A else "f" if flags & SUFFIX_F else ""
        found.add(f"{GPU_CODE_KINDS[kind]}_{architecture}{suffix}")
        at += header + payload
    return found


def works(runtime: Any, provider: str) -> bool:
    """Whether a session opens on exactly this provider; being listed only means being compiled in."""
    if hasattr(runtime, "preload_dlls") and provider == "CUDAExecutionProvider":
        attempt(runtime.preload_dlls)
    session = attempt(opens, runtime, model(8, 13), provider)
    return not isinstance(session, dict) and bool(session.get_providers()[:1] == [provider])


def torch() -> Dict[str, Any]:
    """Version with its build, whether CUDA works, the newest TorchScript that it reads, and what it was built for."""
    import torch as library

    built = library.version.cuda
    return {
        "version": str(library.__version__),
        "providers": ["cuda", "cpu"] if library.cuda.is_available() else ["cpu"],
        "architectures": attempt(torch_architectures, library) if built else [],
        "max_torchscript": max_torchscript(library),
        "toolkit": built,
        "cudnn": attempt(torch_cudnn, library) if built else None,
    }


def torch_architectures(library: Any) -> List[str]:
    """What the binary carries; without a working GPU the public list is empty, and the one behind it is not."""
    public = list(library.cuda.get_arch_list())
    return public or str(library._C._cuda_getArchFlags()).split()  # noqa: SLF001 - nothing else tells it


def torch_cudnn(library: Any) -> Any:
    """The version of cuDNN; its integer is 8907 for 8.9.7, and since version 9 91002 for 9.10.2."""
    code = library.backends.cudnn.version()
    if not isinstance(code, int):
        return unknown("torch names no cuDNN")
    base = 100 if code >= 90000 else 10
    return f"{code // (base * 100)}.{code // 100 % base}.{code % 100}"


def max_torchscript(library: Any) -> Any:
    """The newest archive version that torch reads, as it says when it refuses one that is too new."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/version", f"{TOO_NEW}\n")
    try:
        library.jit.load(io.BytesIO(data.getvalue()))
    except Exception as error:  # noqa: BLE001 - the text is the answer
        found = re.search(r"maximum supported version for reading is (\d+)", str(error))
        return int(found.group(1)) if found else unknown(error)
    return unknown(f"it loads an archive of version {TOO_NEW}")


def main(wanted: List[str]) -> None:
    """Everything that was asked for, in one JSON line on standard output."""
    questions = {"gpus": gpus, "cpu": cpu, "cpu_name": cpu_name, "onnxruntime": onnxruntime, "torch": torch}
    answers = {name: attempt(questions[name]) for name in wanted if name in questions}
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
