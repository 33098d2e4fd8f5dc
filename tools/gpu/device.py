"""What the driver says of a GPU, by NVML through ctypes: no binding is installed, none is needed.

Every answer that is not to be had is an `OSError` whose text says why.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass

__all__ = ["Card", "Nvml"]

_NAMES = ("libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1", "nvml.dll")
_TEXT = 96
_MOST = 256


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


@dataclass(frozen=True)
class Card:
    """The first GPU: what a calibration belongs to, and its memory in bytes."""

    name: str
    driver: str
    capability: str
    total_bytes: int
    used_bytes: int


class Nvml:
    """NVML, opened.

    Raises:
        OSError: There is no driver, or it does not answer.
    """

    def __init__(self) -> None:
        self._library = _opened()
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self._handle))

    def card(self) -> Card:
        """The first GPU as it is now."""
        major, minor, memory = ctypes.c_int(), ctypes.c_int(), self._memory()
        self._call("nvmlDeviceGetCudaComputeCapability", self._handle, ctypes.byref(major), ctypes.byref(minor))
        name, driver = self._text("nvmlDeviceGetName", self._handle), self._text("nvmlSystemGetDriverVersion")
        return Card(name, driver, f"{major.value}.{minor.value}", memory.total, memory.used)

    def used_bytes(self) -> int:
        """What is used of the device by all processes."""
        return int(self._memory().used)

    def used_by(self, pid: int) -> int | None:
        """What one process holds; None where the driver does not tell, or numbers processes in another way."""
        count, found = ctypes.c_uint(_MOST), (_Process * _MOST)()
        try:
            self._call("nvmlDeviceGetComputeRunningProcesses_v3", self._handle, ctypes.byref(count), found)
        except OSError:
            return None
        used = [item.used for item in found[: count.value] if item.pid == pid]
        return int(used[0]) if used and used[0] < 1 << 60 else None

    def _memory(self) -> _Memory:
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return memory

    def _text(self, function: str, *arguments: object) -> str:
        text = ctypes.create_string_buffer(_TEXT)
        self._call(function, *arguments, text, _TEXT)
        return text.value.decode("utf-8", "replace")

    def _call(self, function: str, *arguments: object) -> None:
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError as error:
            message = f"this driver has no {function}"
            raise OSError(message) from error
        if code:
            message = f"{function} answered {code}"
            raise OSError(message)


def _opened() -> ctypes.CDLL:
    found = ctypes.util.find_library("nvidia-ml")
    for name in (*((found,) if found else ()), *_NAMES):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    message = "no NVIDIA driver: its library libnvidia-ml is not on this machine"
    raise OSError(message)
