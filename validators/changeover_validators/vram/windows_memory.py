"""What one process holds of GPU memory on Windows, by the system's own counters.

There the driver tells no figure of one process (WDDM), since the system manages that memory; its counters "GPU Process
Memory" do, apart for the card's own memory and for the host's that stands in for it. They are asked through CIM, whose
names are the same in every language of Windows. Written by the counters' documentation and not tried on Windows yet.
"""

import json
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from changeover_registry.records.base import Unknown

__all__ = ["ProcessMemory", "asked", "parsed"]

_SECONDS = 30
_CLASS = "Win32_PerfFormattedData_GPUPerformanceCounters_GPUProcessMemory"
_COMMAND = f"Get-CimInstance {_CLASS} | Select-Object Name,DedicatedUsage,SharedUsage | ConvertTo-Json -Compress"
_PID = re.compile(r"pid_(\d+)_")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes of the card's own memory and of the host's in its stead, or why they are not known."""

    dedicated: int | Unknown
    shared: int | Unknown


def asked(pids: Collection[int]) -> ProcessMemory:  # pragma: windows
    """What the processes `pids` hold now, on all GPUs together."""
    try:
        done = subprocess.run(
            ["powershell", "-NoProfile", "-NonInteractive", "-Command", _COMMAND],  # noqa: S607 - Windows' own
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return _unknown(f"the counters cannot be asked: {type(error).__name__}")
    return parsed(done.stdout, pids)


def parsed(text: str, pids: Collection[int]) -> ProcessMemory:
    """What the counters' answer says of the processes: one row for each process and GPU; a single row stands alone."""
    try:
        found: Any = json.loads(text)
        rows = found if isinstance(found, list) else [found]
        mine = [row for row in rows if _pid(str(row["Name"])) in pids]
        dedicated = [int(row["DedicatedUsage"]) for row in mine]
        shared = [int(row["SharedUsage"]) for row in mine]
    except (ValueError, KeyError, TypeError) as error:
        return _unknown(f"the counters answered what cannot be read: {type(error).__name__}")
    if not mine:
        return _unknown("the counters list no such process")
    return ProcessMemory(sum(dedicated), sum(shared))


def _pid(name: str) -> int | None:
    match = _PID.match(name)
    return int(match.group(1)) if match else None


def _unknown(reason: str) -> ProcessMemory:
    return ProcessMemory(Unknown(unknown=reason), Unknown(unknown=reason))
