"""Makes host facts from a real machine. The only module that looks; everything else is handed what it found.

What the base install can know (system, RAM, cores, installed Nukes) is read here. GPUs, the CPU's level and name,
onnxruntime and torch are asked of the named interpreters, each in a child that runs `probe_child.py` as a file. What
could not be had is `Unknown` with its reason. That there is no GPU is certain only where NVML says that its library or
the driver is absent. `forged_host` gives machines that nobody here has, for tests, trials and planning. What this
leaves out: any decision.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.telemetry import NO_TELEMETRY
from changeover_validators import tables
from changeover_validators.devices import NO_INTERPRETER
from changeover_validators.installs import PLACES, installed_nukes

__all__ = ["forged_host", "forged_hosts", "nuke_found", "nuke_install", "probe", "probe_key", "with_free_memory"]

_CHILD = Path(__file__).with_name("probe_child.py")
_SECONDS = 120
_MACHINE = ("gpus", "cpu", "cpu_name")
_LIBRARIES = ("onnxruntime", "torch")
_DRIVER_FILES = ("/proc/driver/nvidia/version", "C:/Windows/System32/nvml.dll")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

Answers = Mapping[str, Any]


def probe(
    runtimes: Mapping[str, str],
    nukes: Sequence[str] = (),
    licensed: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    nuke_gpu: str | None = None,
    places: Sequence[str] = PLACES,
) -> HostFacts:
    """The facts of this machine; takes seconds, because it starts each interpreter and imports its libraries.

    Args:
        runtimes: Name to interpreter, as ``[runtimes]`` in ``host.toml``. A name with ``torch`` in front asks only for
            torch, one with ``onnx`` only for onnxruntime, any other for both.
        nukes: Versions of the Nukes that host.toml names, such as ``15.1v3``.
        licensed: Of those that a check may start, version to path and the further folders that it reads.
        nuke_gpu: The UUID of the GPU that Nuke is set to, as host.toml says it; Nuke's own preference is not read.
        places: Folders in which Nukes that host.toml does not name are looked for.

    Raises:
        InvalidInputError: A Nuke's version cannot be read.
    """
    with ThreadPoolExecutor(max_workers=max(len(runtimes), 1)) as pool:
        asked = {name: pool.submit(_ask, path, _questions(name)) for name, path in sorted(runtimes.items())}
        answers = {name: future.result() for name, future in asked.items()}
    found = [nuke_install(version, *licensed.get(version, ())) for version in nukes]
    found += [nuke_found(version, folder) for version, folder in installed_nukes(places) if version not in nukes]
    body = {
        "host": platform.node().split(".")[0].lower() or "localhost",
        "os": _system(),
        "kernel": platform.release() or _unknown("the system does not say"),
        "glibc": platform.libc_ver()[1] or None,
        "cpu_level": _first(answers, "cpu"),
        "cpu": _first(answers, "cpu_name"),
        "cores": os.cpu_count() or _unknown("the system does not say"),
        "ram_mib": _ram_mib(),
        **_devices(answers),
        "runtimes": _runtimes(runtimes, answers),
        "nukes": [nuke.model_dump(mode="json") for nuke in found],
        "nuke_gpu": nuke_gpu,
    }
    return HostFacts.parse(body, where="host facts")


def with_free_memory(facts: HostFacts, runtimes: Mapping[str, str]) -> HostFacts:
    """`facts` with the GPUs as NVML tells them at this moment; a host without GPUs as it is.

    Free memory is of the moment, and a card may have been divided anew, or got a display, since facts were kept. Where
    NVML names no card now, those that were kept stay, and their free memory is unknown: an old figure is none.
    """
    if isinstance(facts.gpus, Unknown) or not facts.gpus:
        return facts
    with ThreadPoolExecutor(max_workers=max(len(runtimes), 1)) as pool:
        answers = dict(zip(runtimes, pool.map(lambda path: _ask(path, ("gpus",)), runtimes.values()), strict=True))
    told = _devices(answers)
    if told["gpus"] and not _is_unknown(told["gpus"]):
        return HostFacts.parse({**facts.model_dump(mode="json"), **told}, where="host facts")
    return facts.model_copy(update={"gpus": tuple(map(_without_free_memory, facts.gpus))})


def probe_key(runtimes: Mapping[str, str], nukes: Sequence[str] = (), places: Sequence[str] = PLACES) -> str:
    """A cheap fingerprint of what facts depend on: boot, driver, interpreters and their packages, Nukes, this release.

    Facts that were kept under the same key may be used again. Takes well under a millisecond for each interpreter.
    `nukes` are all that host.toml says of Nuke: versions, paths, the GPU that it is set to.
    """
    lines = [_text(_BOOT_ID), *map(_stamp, _DRIVER_FILES), _stamp(str(_CHILD)), *map(str, nukes)]
    lines += [folder for _, folder in installed_nukes(places)]
    for name, interpreter in sorted(runtimes.items()):
        folders = sorted(Path(interpreter).parent.parent.glob("lib/python*/site-packages"))
        lines += [name, interpreter, _stamp(interpreter), *(_stamp(str(folder)) for folder in folders)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def nuke_install(version: str, path: str | None = None, *reads: str) -> NukeInstall:
    """The facts of one Nuke by its version, and where it is if a check may start it; its torch comes from the table.

    Raises:
        InvalidInputError: `version` is not like ``15.1v3`` or ``15.1``.
    """
    try:
        return NukeInstall(version=version, torch_line=_torch_line(version), path=path, reads=reads or None)
    except ValidationError as error:
        raise InvalidInputError(
            "Nuke version",
            where="host.toml: nukes",
            expected="a version such as 15.1v3",
            actual=repr(version),
            remedy="correct it",
        ) from error


def nuke_found(version: str, folder: str) -> NukeInstall:
    """The facts of one Nuke that nobody named: that it is there, and where; no check may start it."""
    return NukeInstall(version=version, torch_line=_torch_line(version), found=folder)


def forged_hosts() -> tuple[str, ...]:
    """The names of the hosts that ship as files, in order."""
    folder = resources.files("changeover_validators.hosts")
    return tuple(sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json")))


def forged_host(name: str) -> HostFacts:
    """The facts of a machine that ships as a file; see ``hosts/__init__.py`` for what each is.

    Raises:
        InvalidInputError: There is none of that name.
    """
    if name not in forged_hosts():
        raise InvalidInputError(
            "forged host",
            where="host",
            expected=f"one of {', '.join(forged_hosts())}",
            actual=repr(name),
            remedy="choose one of them, or give a file with facts",
        )
    data = resources.files("changeover_validators.hosts").joinpath(f"{name}.json").read_bytes()
    return HostFacts.from_bytes(data, where=f"{name}.json")


def _torch_line(version: str) -> str | Unknown:
    line = version.split("v", maxsplit=1)[0]
    return tables.nuke_torch_line(line) or Unknown(unknown=f"the tables do not know Nuke {line}")


def _questions(name: str) -> tuple[str, ...]:
    if name.startswith("torch"):
        return (*_MACHINE, "torch")
    if name.startswith("onnx"):
        return (*_MACHINE, "onnxruntime")
    return (*_MACHINE, *_LIBRARIES)


def _ask(interpreter: str, questions: Sequence[str]) -> Answers:
    """What the child says; where it says nothing readable, every answer is unknown with the reason."""
    command = [interpreter, "-I", str(_CHILD), *questions]
    try:
        quiet = {**os.environ, **NO_TELEMETRY}
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL, env=quiet
        )
        answers: dict[str, Any] = json.loads(done.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        return _silence(questions, f"{interpreter} did not answer in {_SECONDS} seconds")
    except OSError as error:
        return _silence(questions, f"{interpreter} cannot be started: {error.strerror}")
    except ValueError:
        return _silence(questions, f"{interpreter} ended with code {done.returncode} and no answer")
    return answers


def _silence(questions: Sequence[str], reason: str) -> Answers:
    return {name: _unknown(reason) for name in questions}


def _unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, dict) and "unknown" in answer


def _first(answers: Mapping[str, Answers], question: str) -> Any:  # noqa: ANN401 - JSON of that question
    """The first interpreter's answer that is known, else the first reason."""
    given = [answer[question] for answer in answers.values() if question in answer]
    known = [answer for answer in given if not _is_unknown(answer)]
    return next(iter([*known, *given]), _unknown(NO_INTERPRETER))


def _devices(answers: Mapping[str, Answers]) -> dict[str, Any]:
    """GPUs and driver, from the first interpreter whose NVML answered."""
    given = [answer["gpus"] for answer in answers.values() if "gpus" in answer]
    usable = [found for found in given if "gpus" in found and not _is_unknown(found["gpus"])]
    if usable:
        return dict(usable[0])
    reasons = [found.get("gpus", found) for found in given] or [_unknown(NO_INTERPRETER)]
    return {"gpus": reasons[0], "driver": reasons[0], "cuda_driver": reasons[0]}


def _without_free_memory(gpu: Gpu) -> Gpu:
    lost = {"free_mib": Unknown(unknown="NVML does not tell it at this moment")}
    if not isinstance(gpu.instances, tuple):
        return gpu.model_copy(update=lost)
    instances = tuple(instance.model_copy(update=lost) for instance in gpu.instances)
    return gpu.model_copy(update={**lost, "instances": instances})


def _runtimes(runtimes: Mapping[str, str], answers: Mapping[str, Answers]) -> Any:  # noqa: ANN401 - JSON of RuntimeFacts
    """The runtimes that answered, each once; unknown only if interpreters were named and none of them has any."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    reasons: list[dict[str, str]] = []
    for name, interpreter in sorted(runtimes.items()):
        for library in _LIBRARIES:
            answer: dict[str, Any] | None = answers[name].get(library)
            if answer is None:
                continue
            if _is_unknown(answer):
                reasons.append(answer)
            else:
                found[library, interpreter] = {"name": library, "interpreter": interpreter, **answer}
    if not found:
        return reasons[0] if reasons else _unknown(NO_INTERPRETER)
    return [RuntimeFacts.model_validate_json(json.dumps(item)).model_dump(mode="json") for item in found.values()]


def _system() -> str:
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")


def _ram_mib() -> Any:  # noqa: ANN401 - an integer or an unknown as JSON
    readers: tuple[Callable[[], int], ...] = (_ram_by_sysconf,) if hasattr(os, "sysconf") else (_ram_by_windows,)
    try:
        return readers[0]() >> 20
    except (OSError, ValueError) as error:
        return _unknown(f"the system does not say: {error}")


def _ram_by_sysconf() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _ram_by_windows() -> int:  # pragma: windows
    import ctypes

    size = ctypes.c_ulonglong()
    if not ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(size)):  # type: ignore[attr-defined]
        message = "GetPhysicallyInstalledSystemMemory failed"
        raise OSError(message)
    return size.value << 10


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _stamp(path: str) -> str:
    """What changes when a file is replaced: modification time and size; links are followed."""
    try:
        status = Path(path).stat()
    except OSError:
        return f"{path}: absent"
    return f"{path}: {status.st_mtime_ns} {status.st_size}"
