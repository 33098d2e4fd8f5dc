"""What an interpreter needs to see in order to run: asked of itself, once, outside the sandbox.

The interpreter is named by the machine's owner and is trusted; no model is near when it answers.
"""

import functools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import UndecidedError

__all__ = ["Interpreter", "inspect_interpreter"]

_SECONDS = 30.0
_QUESTION = """
import importlib.util as u, json, sys
spec = u.find_spec("changeover_validators")
home = [] if spec is None else [*spec.submodule_search_locations]
base = u.find_spec("changeover_registry")
home += [] if base is None else [*base.submodule_search_locations]
print(json.dumps({"paths": [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path], "home": home}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its path, and the folders that it reads."""

    path: str
    folders: tuple[str, ...]


def inspect_interpreter(path: str, *, bare: bool = False) -> Interpreter:
    """Ask the interpreter at `path` what it reads; only a `bare` one need not hold Changeover.

    Raises:
        UndecidedError: There is none, it does not start, or Changeover is not installed in it: nothing can be run.
    """
    try:
        stamp = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise _no_runtime(path, str(error.strerror)) from error
    return _inspect(path, stamp, bare)


@functools.lru_cache(maxsize=64)
def _inspect(path: str, _stamp: int, bare: bool) -> Interpreter:  # noqa: FBT001 - as the cache keeps it
    try:
        done = subprocess.run(
            [path, "-I", "-c", _QUESTION], capture_output=True, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL
        )
        answer = json.loads(done.stdout)
        folders, home = answer["paths"], answer["home"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise _no_runtime(path, f"one that does not answer ({type(error).__name__})") from error
    if not home and not bare:
        raise _no_runtime(path, "one without Changeover")
    parents = [str(Path(folder).parent) for folder in home]
    return Interpreter(path, tuple(dict.fromkeys(_existing([*_hops(path), *folders, *parents]))))


def _existing(folders: list[str]) -> list[str]:
    """Each folder as it is written and as it resolves, so that links along the way need not exist in the sandbox."""
    both = [name for folder in folders for name in (folder, os.path.realpath(folder))]
    return [name for name in both if name != "/" and Path(name).is_dir()]


def _hops(path: str) -> list[str]:
    """The folders of the executable and of every link between its name and its file."""
    hops: list[str] = []
    here = Path(path).absolute()
    while here.is_symlink() and len(hops) < 40:
        hops.append(str(here.parent))
        here = Path(os.path.normpath(here.parent / here.readlink()))
    return [*hops, str(here.parent)]


def _no_runtime(path: str, actual: str) -> UndecidedError:
    return UndecidedError(
        "runtime",
        where=path,
        expected="a Python that holds Changeover with the extra 'run' or 'torch'",
        actual=actual,
        remedy="name such an interpreter under [runtimes] in host.toml",
    )
