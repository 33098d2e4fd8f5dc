"""What one process holds of the GPUs, by NVML: polled while it runs, and by the driver's own accounting.

NVML lists a process with the bytes that it holds of a device; where Windows manages memory (WDDM) it lists no figure,
and none is made up: the answer is then unknown with that reason, never 0. Accounting keeps the most that a process
ever held without polling; it must be switched on by root. NVML is handed in, so that tests can say what it answers.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from changeover_registry.records.base import Unknown

__all__ = ["DeviceWatch", "Seen", "accounted_bytes", "opened_nvml", "seen_now"]

_LOOK_SECONDS = 0.02
_NOT_TOLD = "per-process unavailable: the driver tells no figure of one process (WDDM, WSL or no right to see it)"
_NOT_LISTED = "no GPU lists the process"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of some processes: the bytes that they hold of all GPUs together, and the GPU with the most."""

    bytes: int | Unknown
    gpu: str | None = None


@contextlib.contextmanager
def opened_nvml() -> Iterator[Any]:
    """NVML, started; or an `Unknown` that says why there is none."""
    try:
        import pynvml
    except ImportError as error:
        yield Unknown(unknown=f"nvidia-ml-py is not installed here: {error}")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Unknown(unknown=f"NVML does not start: {error}")
        return
    try:  # pragma: gpu
        yield pynvml
    finally:  # pragma: gpu
        pynvml.nvmlShutdown()


def seen_now(nvml: Any, pids: Collection[int]) -> Seen:  # noqa: ANN401 - NVML's binding has no types
    """What the processes `pids` hold now."""
    held: dict[str, int] = {}
    told = False
    for handle in _handles(nvml):
        for process in _processes(nvml, handle):
            if process.pid not in pids:
                continue
            if process.usedGpuMemory is None:
                return Seen(Unknown(unknown=_NOT_TOLD))
            told = True
            name = _text(nvml.nvmlDeviceGetName(handle))
            held[name] = held.get(name, 0) + int(process.usedGpuMemory)
    if not told:
        return Seen(Unknown(unknown=_NOT_LISTED))
    return Seen(sum(held.values()), max(held, key=lambda name: held[name]))


def accounted_bytes(nvml: Any, pids: Collection[int]) -> int | Unknown:  # noqa: ANN401 - as above
    """The most that the processes `pids` ever held by the driver's accounting, each at its own peak."""
    found, reasons = list[int](), list[str]()
    for handle in _handles(nvml):
        for pid in pids:
            try:
                most = nvml.nvmlDeviceGetAccountingStats(handle, pid).maxMemoryUsage
            except nvml.NVMLError as error:
                reasons.append(f"accounting tells nothing: {error}")
                continue
            if most is None:
                reasons.insert(0, _NOT_TOLD)
            else:
                found.append(int(most))
    if found:
        return sum(found)
    return Unknown(unknown=reasons[0] if reasons else _NOT_LISTED)


class DeviceWatch(threading.Thread):
    """Looks every 20 ms at what some processes hold, and keeps the most.

    Args:
        nvml: NVML, started.
        pids: Answers the processes as they are now.
    """

    def __init__(self, nvml: Any, pids: Callable[[], Collection[int]]) -> None:  # noqa: ANN401 - as above
        super().__init__(name="changeover-gpu", daemon=True)
        self._nvml, self._pids = nvml, pids
        self._done = threading.Event()
        self.most = Seen(Unknown(unknown=_NOT_LISTED))

    def look_once(self) -> None:
        """One look; a figure is never replaced by a smaller one or by an unknown."""
        seen = seen_now(self._nvml, self._pids())
        before = self.most.bytes
        if isinstance(before, Unknown) or (not isinstance(seen.bytes, Unknown) and seen.bytes > before):
            self.most = seen

    def run(self) -> None:
        """Look until `stop` is called."""
        while not self._done.wait(_LOOK_SECONDS):
            self.look_once()

    def stop(self) -> None:
        """Look once more and end."""
        self._done.set()
        self.join()
        self.look_once()


def _handles(nvml: Any) -> list[Any]:  # noqa: ANN401 - as above
    return [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]


def _processes(nvml: Any, handle: Any) -> list[Any]:  # noqa: ANN401 - as above
    """Those that compute and those that draw; one may be listed as both, and counts once."""
    listed: dict[int, Any] = {}
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        with contextlib.suppress(nvml.NVMLError):
            listed |= {process.pid: process for process in getattr(nvml, name)(handle)}
    return list(listed.values())


def _text(value: str | bytes) -> str:
    """Some releases of the binding answer bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
