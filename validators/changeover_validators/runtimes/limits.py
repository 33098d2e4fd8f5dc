"""The child's limits on itself, set before the first byte of a model is read.

RLIMIT_AS is of no use: CUDA reserves far more addresses than it uses. RLIMIT_DATA counts private writable memory,
touched or not; it bounds a sudden leap between two looks of the parent, which polls the resident memory and is exact.
RLIMIT_CPU moves ahead with each request, so a child whose parent sleeps still ends. Where the system has no rlimits the
parent's watch is all there is.
"""

import time
from dataclasses import dataclass

try:
    import resource
except ImportError:  # pragma: windows
    resource = None  # type: ignore[assignment]

__all__ = ["FILE_BYTES", "Limits", "allow_cpu", "apply_limits", "plan_limits"]

FILE_BYTES = 16 * 1024 * 1024
"""The largest file that the child may write in its empty /tmp."""

_SLACK_MIB = 512
_SLACK_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of private memory (None is unbounded), of one file, and of a core file."""

    data_bytes: int | None
    file_bytes: int
    core_bytes: int = 0


def plan_limits(ram_mib: int, provider: str) -> Limits:
    """The limits for a child that may have `ram_mib` resident.

    Private memory may be twice that and half a GiB more, since runtimes' arenas grow by doubling and libraries map what
    they never touch. With CUDA it is unbounded: the driver maps host memory for all of the device's.
    """
    data = (2 * ram_mib + _SLACK_MIB) * 1024 * 1024 if provider == "cpu" else None
    return Limits(data, FILE_BYTES)


def apply_limits(limits: Limits) -> None:
    """Bind this process, for good."""
    if resource is None:  # pragma: windows
        return
    _lower(resource.RLIMIT_CORE, limits.core_bytes)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.data_bytes is not None:
        _lower(resource.RLIMIT_DATA, limits.data_bytes)


def allow_cpu(wall_seconds: float, threads: int) -> None:
    """Let this process use the processor for one more request: as long as all its threads could, and a little."""
    if resource is None:  # pragma: windows
        return
    until = int(time.process_time() + wall_seconds * threads) + _SLACK_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or until < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def _lower(kind: int, value: int) -> None:
    """Set a limit, but never above what this process already has."""
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
