"""Asks real runtimes for their limits: each release is unpacked into a folder of its own and probed in a child process.

What is probed is what a host's facts probe (`probe_child.py`), so the table and a machine answer alike. torch's limits
stand in a header that every wheel carries, so that file is read and the wheel not run. What this leaves out: the
fetching (`wheels`), and which release goes into which row (`regenerate`).
"""

import json
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from changeover_registry.errors import UnreachableError

__all__ = ["numpy_baseline", "onnx_versions", "onnxruntime_limits", "torch_operators", "torchscript_limits", "unpack"]

_CHILD = Path(__file__).parents[1] / "probe_child.py"
_HEADERS = ("torch/include/caffe2/serialize/versions.h", "torch/include/caffe2/serialize/inline_container.h")
_CONSTANT = re.compile(r"k(Min|Max)SupportedFileFormatVersion\s*=\s*(0x[0-9A-Fa-f]+|\d+)L?\s*;")
_SWITCH = re.compile(r"#if (\w+)\n(.*?)#else\n(.*?)#endif", re.DOTALL)
_RUN = "import runpy, sys; sys.path[:0] = sys.argv[2:]; p = sys.argv[1]; sys.argv = [p, 'onnxruntime']; "
_RUN += "runpy.run_path(p, run_name='__main__')"
_SECONDS = 120


def unpack(wheel: Path, folder: Path) -> Path:
    """Lay out a wheel's files in `folder`, and answer it; nothing of the wheel is run."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def onnxruntime_limits(*folders: Path) -> dict[str, Any]:
    """Version, ``max_ir_version`` and ``max_opset`` of the onnxruntime in the first folder; others hold what it needs.

    A limit that could not be had is an object with the reason under ``unknown``.

    Raises:
        UnreachableError: The child gave no answer.
    """
    command = [sys.executable, "-I", "-c", _RUN, str(_CHILD), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])["onnxruntime"]
    except (ValueError, KeyError) as error:
        raise UnreachableError(
            "probe",
            where=str(folders[0]),
            expected="one line of JSON",
            actual=f"code {done.returncode} and no answer",
            remedy="look at that folder by hand",
        ) from error
    return answer


def torchscript_limits(wheel: Path) -> tuple[int, int]:
    """The oldest and the newest archive version that the torch in this wheel reads, from the header that it ships.

    Raises:
        ValueError: The wheel has no such header.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in _HEADERS:
            if name in archive.namelist():
                found = dict(_CONSTANT.findall(_compiled(archive.read(name).decode("utf-8", "replace"))))
                if set(found) == {"Min", "Max"}:
                    return int(found["Min"], 0), int(found["Max"], 0)
    message = f"expected the limits in {' or '.join(_HEADERS)} of {wheel.name}"
    raise ValueError(message)


def _compiled(header: str) -> str:
    """The header as the compiler sees it: 1.12 has limits for two builds, and says at its head which one it is."""

    def taken(found: re.Match[str]) -> str:
        on = re.search(rf"#define {found.group(1)} (?:true|TRUE|1)\b", header)
        return found.group(2) if on else found.group(3)

    return _SWITCH.sub(taken, header)


def torch_operators(interpreter: str = sys.executable) -> tuple[str, dict[str, int]]:
    """The version of that interpreter's torch, and each operator that raises an archive's version, to which.

    Raises:
        subprocess.CalledProcessError: It has no torch.
    """
    code = (
        "import json, torch; found = torch._C._get_operator_version_map(); "
        "print(json.dumps([torch.__version__, {n: max(e.bumped_at_version for e in v) for n, v in found.items()}]))"
    )
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True, timeout=_SECONDS)
    version, found = json.loads(done.stdout.strip().rpartition("\n")[2])
    return str(version), {str(name): int(raised) for name, raised in found.items()}


def numpy_baseline() -> tuple[str, str]:
    """The version of this interpreter's numpy, and the CPU level that it is built for, as archspec names it."""
    import numpy as np

    core = import_module("numpy._core._multiarray_umath")
    found = set(core.__cpu_baseline__)
    levels = (("x86_64_v4", "AVX512_SKX"), ("x86_64_v3", "AVX2"), ("x86_64_v2", "SSE42"))
    named = next((level for level, _ in levels if level.replace("x86_64", "X86").upper() in found), None)
    return np.__version__, named or next((level for level, feature in levels if feature in found), "x86_64")


def onnx_versions() -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """The version of this interpreter's onnx, and (release, IR version, opset) of each onnx release that it knows."""
    import onnx
    from onnx import helper

    return onnx.__version__, tuple((str(row[0]), int(row[1]), int(row[2])) for row in helper.VERSION_TABLE)
