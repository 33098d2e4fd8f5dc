"""What must hold before the first frame of a render: the farm lock's releases, their bytes, and a GPU if one is wanted.

`problem` decides from values and a hash; `hash_file` and `count_gpus` look at the machine. With a lock, every node of
ours must load what the lock froze, from files whose bytes are hashed here, once for each file and process. Where a GPU
is wanted, a worker that would run on its CPU is stopped: Nuke itself would only be slower and the matte a little
different. Left out: how a render is stopped, which `changeover_nuke` does by raising.
"""

# ruff: noqa: PTH116, PTH123
# Importing pathlib would cost Nuke's start as much as all the rest of this.

from __future__ import annotations

import os
import sys
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import nuke
from changeover_nuke_answers import Frozen, LockEntry, Resolution, lock_entry

__all__ = ["Asked", "Worker", "asked_of", "count_gpus", "hash_file", "problem", "this_worker"]

_CHUNK = 1 << 20
_hashed: Dict[Tuple[str, int, int], str] = {}


class Asked(NamedTuple):
    """One node of ours as it stands: its full name, what it resolves to, and what its knobs say."""

    node: str
    found: Resolution
    model_file: str
    use_gpu: bool = True
    gpu_name: str = ""


class Worker(NamedTuple):
    """This Nuke: its line, whether it has windows, its command line, its environment, and how many GPUs CUDA finds.

    `gpus` is asked only where a GPU is wanted; None is not known.
    """

    line: str
    gui: bool
    arguments: Optional[Sequence[str]]
    environ: Mapping[str, str]
    gpus: Callable[[], Optional[int]]


def asked_of(node: nuke.Node, found: Resolution) -> Asked:
    """A node as it stands, with what it resolves to."""
    use_gpu, gpu_name = node.knob("useGPUIfAvailable"), node.knob("gpuName")
    return Asked(
        node.fullName(),
        found,
        str(node["modelFile"].value()),
        use_gpu is None or bool(use_gpu.value()),
        "" if gpu_name is None else str(gpu_name.value()),
    )


def this_worker(line: str) -> Worker:
    """The Nuke that this runs in, of that line."""
    return Worker(line, nuke.GUI, getattr(nuke, "rawArgs", None), os.environ, count_gpus)


def problem(
    frozen: Frozen,
    lock: Optional[Sequence[LockEntry]],
    asked: Asked,
    worker: Worker,
    digest_of: Callable[[str], str],
) -> str:
    """Why a node must not be rendered here, in one sentence; an empty text where nothing speaks against it.

    Args:
        frozen: The generation of this session.
        lock: The farm lock; None where none is set, and then only the device is looked at.
        asked: The node.
        worker: This Nuke.
        digest_of: The sha256 of a file's bytes, by its path; it may raise `OSError`.
    """
    entry = lock_entry(lock or (), asked.found.model, asked.node)
    sentence = "" if lock is None else _not_as_locked(frozen, entry, asked, worker, digest_of)
    if not sentence and not worker.gui and "gpu" in {frozen.device, entry.device if entry else "any"}:
        why = _would_run_on_cpu(asked, worker)
        sentence = f"a GPU is wanted and this worker would use its CPU: {why}" if why else ""
    return f"{asked.node}: {sentence}" if sentence else ""


def hash_file(path: str) -> str:
    """The sha256 of a file, read once in this process as long as its size and time stay what they were.

    Raises:
        OSError: It cannot be read.
    """
    import hashlib  # Only a render needs it.

    state = os.stat(path)
    key = (path, state.st_size, state.st_mtime_ns)
    if key not in _hashed:
        whole = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                whole.update(chunk)
        _hashed[key] = whole.hexdigest()
    return _hashed[key]


def count_gpus() -> Optional[int]:
    """How many GPUs CUDA finds in this process; None on macOS, where Nuke uses others."""
    import ctypes  # Only a render that wants a GPU needs it.

    if sys.platform == "darwin":
        return None
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return 0 if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) else count.value
    except (OSError, AttributeError):
        return 0


def _not_as_locked(
    frozen: Frozen,
    entry: Optional[LockEntry],
    asked: Asked,
    worker: Worker,
    digest_of: Callable[[str], str],
) -> str:
    found = asked.found
    if found.path is None or found.release is None:
        return found.unavailable or "nothing is available"
    if entry is None and found.source != "stamp":
        return f"no line of the farm lock is for it, and it goes by its {found.source}; write the lock again"
    if entry is not None and entry.release.key != found.release.key:
        return f"the farm lock names {entry.release}, but it resolves to {found.release} by {found.source}"
    if entry is not None and entry.line not in {None, worker.line}:
        return f"the farm lock was written for Nuke {entry.line}, and this is Nuke {worker.line}"
    if asked.model_file != found.path:
        return f"its Model File is {asked.model_file}, not {found.path}, which the farm lock stands for"
    return _other_bytes(frozen, entry, found, worker.line, digest_of)


def _other_bytes(
    frozen: Frozen, entry: Optional[LockEntry], found: Resolution, line: str, digest_of: Callable[[str], str]
) -> str:
    """Why the files are not those of the release, hashed here."""
    files = frozen.files(found.release, line) if found.release else ()
    if found.path not in {f"{frozen.root}/{path}" for path, _ in files}:
        return f"generation {frozen.number} does not say what bytes {found.path} has; run: changeover update"
    if entry is not None and entry.files and sorted(entry.files) != sorted(files):
        return f"the farm lock froze other files of {found.release} than this station serves in Nuke {line}"
    for path, expected in files:
        try:
            actual = digest_of(f"{frozen.root}/{path}")
        except OSError as error:
            return f"{frozen.root}/{path} cannot be read ({error.strerror}); run: changeover ensure LOCK"
        if actual != expected:
            return (
                f"{frozen.root}/{path} is not the file of {found.release}: sha256 {expected[:12]} was expected and"
                f" {actual[:12]} found; run: changeover ensure LOCK"
            )
    return ""


def _would_run_on_cpu(asked: Asked, worker: Worker) -> str:
    if worker.environ.get("FN_NUKE_DISABLE_GPU_ACCELERATION"):
        return "FN_NUKE_DISABLE_GPU_ACCELERATION is set"
    if worker.arguments is not None and "--gpu" not in worker.arguments:
        return "Nuke was started without --gpu"
    if not asked.use_gpu:
        return "Use GPU if available is off"
    if asked.gpu_name.strip().lower() == "not available":
        return "Nuke found no GPU that it can use"
    return "CUDA finds no GPU here" if worker.gpus() == 0 else ""
