"""Builds in which one fsync is removed: where the product calls fsync, and the folder that takes one of them out.

A place is named by its functions from the innermost out: those of the module that writes files, and the first caller
beyond it, such as ``_write_beside < write_atomic < Station.point``. The folder holds a ``sitecustomize.py``, which
Python runs before the command; nothing of the command itself is changed.
"""

import json
from pathlib import Path

__all__ = ["Chain", "fsyncs_in", "recording", "without"]

Chain = tuple[str, ...]

_START = """\
import os
import sys

_real = os.fsync


def _chain():
    found, frame = [], sys._getframe(2)
    while frame is not None:
        found.append(frame.f_code.co_qualname)
        if frame.f_globals.get("__name__") != "changeover_registry._fs":
            break
        frame = frame.f_back
    return found


def _fsync(handle):
{body}


os.fsync = _fsync
"""


def recording(folder: Path, out: Path) -> Path:
    """A folder for ``PYTHONPATH`` that writes the place of each fsync to `out`, a line each."""
    body = f'    _real(handle)\n    with open({str(out)!r}, "a") as file:\n        file.write(repr(_chain()) + "\\n")'
    return _write(folder, body.replace("repr(_chain())", "__import__('json').dumps(_chain())"))


def without(folder: Path, chain: Chain) -> Path:
    """A folder for ``PYTHONPATH`` with which the fsync at `chain` does nothing."""
    return _write(folder, f"    if _chain() != {list(chain)!r}:\n        _real(handle)")


def fsyncs_in(out: Path) -> tuple[Chain, ...]:
    """The different places of a recording, in the order of their first call."""
    lines = out.read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(tuple(json.loads(line)) for line in lines))


def _write(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_START.format(body=body), encoding="utf-8")
    return folder
