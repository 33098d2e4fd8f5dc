"""Measures a ``.cat`` inside Nuke: runs frames as ``score.py`` does, and tells with each what Nuke holds of memory.

Started as ``nuke --gpu -t measure.py JOB.json``, by the same protocol. Each answer has ``memory`` besides, before and
after its frame: what this process holds of the GPUs by NVML, the most that it ever held by the driver's accounting, and
its resident memory, now and at the most. A figure that cannot be had is its reason, never a zero: where Windows manages
the memory of GPUs (WDDM), and where this process is numbered otherwise than the driver numbers it (a container), nobody
in here can know; the check that started it then looks from outside. Standard library and `nuke`.
"""
# ruff: noqa: ANN401 - what ctypes calls has no types.

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))

import score  # It lies beside this file, where Nuke does not look for modules by itself.

Figure = Union[int, str]
"""Bytes, or why they cannot be had."""

_LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")
_NOT_AVAILABLE = 2**64 - 1
_TOO_SMALL = 7
_MOST_PROCESSES = 4096
_KIB = 1024


class Process(ctypes.Structure):
    """One process on one GPU, as NVML lists it."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Account(ctypes.Structure):
    """What the driver's accounting kept of one process."""

    _fields_ = [
        ("gpu_share", ctypes.c_uint),
        ("memory_share", ctypes.c_uint),
        ("most", ctypes.c_ulonglong),
        ("milliseconds", ctypes.c_ulonglong),
        ("started", ctypes.c_ulonglong),
        ("runs", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 5),
    ]


class Gauge:
    """What NVML tells of one process.

    Args:
        nvml: The library, started; None where there is none.
        reason: Why there is none.
    """

    def __init__(self, nvml: Any, reason: str = "") -> None:
        self._nvml, self._reason = nvml, reason

    def held(self, pid: int) -> Figure:
        """What the process holds of all GPUs together."""
        if self._nvml is None:
            return self._reason
        total, listed = 0, False
        for device in self._devices():
            # One that computes and draws is listed twice, with the same figure.
            used = used_by(self._nvml.nvmlDeviceGetComputeRunningProcesses_v3, device, pid)
            if used is None:
                used = used_by(self._nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, device, pid)
            if used is None:
                continue
            if used == _NOT_AVAILABLE:
                return "per-process unavailable: the driver tells no figure of one process"
            total, listed = total + used, True
        return total if listed else "no GPU lists process {}".format(pid)

    def accounted(self, pid: int) -> Figure:
        """The most that the process ever held, by the driver's accounting."""
        if self._nvml is None:
            return self._reason
        most = 0
        for device in self._devices():
            account = Account()
            if not self._nvml.nvmlDeviceGetAccountingStats(device, ctypes.c_uint(pid), ctypes.byref(account)):
                most += account.most if account.most != _NOT_AVAILABLE else 0
        return most or "the driver keeps no accounts of process {}".format(pid)

    def _devices(self) -> List[Any]:
        count = ctypes.c_uint()
        self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        devices = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            if not self._nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
                devices.append(device)
        return devices


def open_gauge(libraries: Tuple[str, ...] = _LIBRARIES) -> Gauge:
    """NVML under the first of these names that there is, started."""
    reason = "NVML is not installed here"
    for name in libraries:
        try:
            nvml = ctypes.CDLL(name)
        except OSError as error:
            reason = "NVML is not installed here: {}".format(error)
            continue
        code = nvml.nvmlInit_v2()  # pragma: gpu
        return Gauge(None, "NVML does not start: error {}".format(code)) if code else Gauge(nvml)  # pragma: gpu
    return Gauge(None, reason)


def used_by(function: Any, device: Any, pid: int) -> Optional[int]:
    """What the list that `function` gives says of the process; None where it is not in it."""
    count = ctypes.c_uint(0)
    code = function(device, ctypes.byref(count), None)
    if code not in (0, _TOO_SMALL) or not 0 < count.value <= _MOST_PROCESSES:
        return None
    # Others may start meanwhile, so there is room for some more.
    count.value += 16
    processes = (Process * count.value)()
    if function(device, ctypes.byref(count), processes):
        return None
    return next((entry.used for entry in processes[: count.value] if entry.pid == pid), None)


def resident(status: str = "/proc/self/status") -> Dict[str, Figure]:
    """The resident memory of this process, now and at the most."""
    try:
        text = Path(status).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        why = "this system has no {}: {}".format(status, error.strerror)
        return {"now": why, "most": why}
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith(("VmRSS:", "VmHWM:"))}
    why = "{} does not tell it".format(status)
    return {
        "now": int(found["VmRSS"]) * _KIB if "VmRSS" in found else why,
        "most": int(found["VmHWM"]) * _KIB if "VmHWM" in found else why,
    }


def figures(gauge: Gauge) -> Dict[str, Any]:
    """What this process holds now."""
    pid = os.getpid()
    return {"gpu": gauge.held(pid), "accounted": gauge.accounted(pid), "resident": resident()}


def main(arguments: List[str]) -> int:
    """Serve one job to its end; returns the exit status."""
    gauge = open_gauge()

    def reply(folder: Path, graph: score.Graph, number: int) -> Dict[str, Any]:
        before = figures(gauge)
        said = score.answer(folder, graph, number)
        said["memory"] = {"before": before, "after": figures(gauge)}
        return said

    return score.main(arguments, reply)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
