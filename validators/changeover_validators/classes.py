"""Host class and golden class: sha256 of documented projections of host facts.

Two hosts of one **host class** get the same answer from every check that reads facts. The projection holds what those
checks read and nothing else:

- system, glibc, CPU level and RAM;
- of the driver its branch, the newest of the tables' floors that it reaches, and the CUDA version that it speaks;
- of each GPU that Nuke may be set to its name, compute capability, total and reserved memory, display; of a divided one
  the memory of each instance that Nuke may be set to;
- each runtime's name, version, providers, limits, toolkit, cuDNN and architectures;
- each Nuke's line and torch.

It leaves out what changes without changing an answer: the host's name, kernel, CPU name and cores, free memory, the ids
of GPUs, how Windows drives them and whether the driver keeps accounts (both count for measuring alone), paths, where a
Nuke was found, the driver's patch level between two floors. Order does not count, nor whether a thing is there twice.

A **golden class** is (architecture, runtime, its minor version, provider, precision): where a golden finding holds. The
architecture is the compute capability of the GPUs that Nuke may be set to for ``cuda``, and the CPU level for ``cpu``.
"""

from typing import Any

from packaging.version import InvalidVersion, Version

from changeover_registry import canonical
from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, MigInstance, NukeInstall, RuntimeFacts
from changeover_validators import tables
from changeover_validators.checks.hardware import gpu_capability
from changeover_validators.devices import look, nuke_gpus

__all__ = ["golden_class", "golden_class_of", "host_class"]


def host_class(facts: HostFacts) -> str:
    """The digest of the host's projection."""
    projection = {
        "class": "changeover.host-class/2",
        "os": facts.os,
        "glibc": _plain(facts.glibc),
        "cpu_level": _plain(facts.cpu_level),
        "ram_mib": _plain(facts.ram_mib),
        "driver": _driver(facts),
        "cuda_driver": _plain(facts.cuda_driver),
        "gpus": _sorted(nuke_gpus(facts), lambda gpu: _gpu(gpu, facts.nuke_gpu)),
        "runtimes": _sorted(facts.runtimes, _runtime),
        "nukes": _sorted(facts.nukes, _nuke),
    }
    return canonical.digest(canonical.dumps(projection))


def golden_class(architecture: str, runtime: str, version: str, provider: str, precision: str) -> str:
    """The digest of one golden class; of `version` only major and minor count."""
    projection = {
        "class": "changeover.golden-class/1",
        "architecture": architecture,
        "runtime": runtime,
        "version": ".".join(version.partition("+")[0].split(".")[:2]),
        "provider": provider,
        "precision": precision,
    }
    return canonical.digest(canonical.dumps(projection))


def golden_class_of(facts: HostFacts, runtime: RuntimeFacts, provider: str, precision: str) -> str:
    """The golden class of runs in `runtime` on this host.

    Raises:
        UndecidedError: The architecture is not known; `check_hardware` says so before anything is looked up.
    """
    return golden_class(_architecture(facts, provider), runtime.name, runtime.version, provider, precision)


def _architecture(facts: HostFacts, provider: str) -> str:
    if provider == "cpu":
        return _known(facts.cpu_level)
    gpus = nuke_gpus(facts)
    if isinstance(gpus, Unknown) or not gpus:
        return _known(gpus if isinstance(gpus, Unknown) else Unknown(unknown="no GPU on this host"))
    # Which of several GPUs runs is Nuke's setting, so unlike GPUs make a class of their own.
    return "+".join(sorted({_known(gpu_capability(gpu)) for gpu in gpus}))


def _known(fact: str | Unknown) -> str:
    if isinstance(fact, str):
        return fact
    raise UndecidedError(
        "golden class",
        where="host facts",
        expected="a known architecture",
        actual=f"unknown: {fact.unknown}",
        remedy=look(fact),
    )


def _gpu(gpu: Gpu, chosen: str | None) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "compute_capability": _plain(gpu_capability(gpu)),
        "total_mib": _plain(gpu.total_mib),
        "reserved_mib": _plain(gpu.reserved_mib),
        "display": _plain(gpu.display),
        "mig": _plain(gpu.mig),
        "instances": _instances(gpu, chosen),
    }


def _instances(gpu: Gpu, chosen: str | None) -> list[dict[str, Any]] | None:
    """Those that Nuke may be set to; the id of a divided card stands for all of its instances."""
    if not isinstance(gpu.instances, tuple):
        return None
    counted = [item for item in gpu.instances if chosen in {None, gpu.uuid, item.uuid}]
    return _sorted(counted, _instance)  # type: ignore[no-any-return]


def _instance(instance: MigInstance) -> dict[str, Any]:
    return {"total_mib": _plain(instance.total_mib), "reserved_mib": _plain(instance.reserved_mib)}


def _runtime(runtime: RuntimeFacts) -> dict[str, Any]:
    return {
        "name": runtime.name,
        "version": runtime.version,
        "providers": sorted(runtime.providers),
        "max_ir_version": _plain(runtime.max_ir_version),
        "max_opset": _plain(runtime.max_opset),
        "max_torchscript": _plain(runtime.max_torchscript),
        "toolkit": _plain(runtime.toolkit),
        "cudnn": _plain(runtime.cudnn),
        "architectures": sorted(runtime.architectures) if isinstance(runtime.architectures, tuple) else None,
    }


def _nuke(nuke: NukeInstall) -> dict[str, Any]:
    return {"line": nuke.line, "torch_line": _plain(nuke.torch_line)}


def _driver(facts: HostFacts) -> dict[str, str | None] | None:
    """The branch, and the newest floor of the tables that this driver reaches; rules compare it with nothing else."""
    if not isinstance(facts.driver, str):
        return None
    own = _version(facts.driver)
    floors = {row[key] for row in tables.rows("cuda")["toolkit"] for key in (facts.os, f"own_{facts.os}") if key in row}
    reached = [floor for floor in floors if own is not None and Version(floor) <= own]
    return {"branch": facts.driver.split(".")[0], "reaches": max(reached, key=Version, default=None)}


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _plain(fact: str | int | bool | Unknown | None) -> str | int | bool | None:  # noqa: FBT001 - a fact, not a switch
    """A fact as JSON; unknown is null whatever its reason, so a reworded reason makes no new class."""
    return None if isinstance(fact, Unknown) else fact


def _sorted(items: Any, project: Any) -> Any:  # noqa: ANN401 - a tuple of any fact and its projection
    """The projections in order, each once; null for unknown."""
    if isinstance(items, Unknown):
        return None
    once = {canonical.dumps(found): found for found in map(project, items)}
    return [once[key] for key in sorted(once)]
