"""Host class and golden class: sha256 of documented projections of host facts.

Two hosts of one **host class** get the same answer from every check that reads facts. The projection holds what those
checks read and nothing else: system, CPU level, cores and RAM; each GPU's name, compute capability, total and reserved
memory, display and MIG; the driver's branch; each runtime's name, version, providers and limits; each Nuke's line and
torch. It leaves out what changes without changing an answer: the host's name, kernel, free memory, the ids of GPUs,
paths, the driver's patch level. Order does not count.

A **golden class** is (architecture, runtime, its minor version, provider, precision): where a golden finding holds. The
architecture is the GPUs' compute capabilities for ``cuda`` and the CPU level for ``cpu``.
"""

from typing import Any

from changeover_registry import canonical
from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall, RuntimeFacts
from changeover_validators.checks.hardware import gpu_capability

__all__ = ["golden_class", "golden_class_of", "host_class"]


def host_class(facts: HostFacts) -> str:
    """The digest of the host's projection."""
    projection = {
        "class": "changeover.host-class/1",
        "os": facts.os,
        "cpu_level": _plain(facts.cpu_level),
        "cores": _plain(facts.cores),
        "ram_mib": _plain(facts.ram_mib),
        "driver": _branch(facts.driver),
        "gpus": _sorted(facts.gpus, _gpu),
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
    if isinstance(facts.gpus, Unknown) or not facts.gpus:
        return _known(facts.gpus if isinstance(facts.gpus, Unknown) else Unknown(unknown="no GPU on this host"))
    # Which of several GPUs runs is Nuke's setting, so unlike GPUs make a class of their own.
    return "+".join(sorted({_known(gpu_capability(gpu)) for gpu in facts.gpus}))


def _known(fact: str | Unknown) -> str:
    if isinstance(fact, str):
        return fact
    raise UndecidedError(
        "golden class",
        where="host facts",
        expected="a known architecture",
        actual=f"unknown: {fact.unknown}",
        remedy="run changeover facts on this host",
    )


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "compute_capability": _plain(gpu_capability(gpu)),
        "total_mib": _plain(gpu.total_mib),
        "reserved_mib": _plain(gpu.reserved_mib),
        "display": _plain(gpu.display),
        "mig": _plain(gpu.mig),
    }


def _runtime(runtime: RuntimeFacts) -> dict[str, Any]:
    return {
        "name": runtime.name,
        "version": runtime.version,
        "providers": sorted(runtime.providers),
        "max_ir_version": _plain(runtime.max_ir_version),
        "max_opset": _plain(runtime.max_opset),
        "architectures": sorted(runtime.architectures) if isinstance(runtime.architectures, tuple) else None,
    }


def _nuke(nuke: NukeInstall) -> dict[str, Any]:
    return {"line": nuke.line, "torch_line": _plain(nuke.torch_line)}


def _branch(driver: str | Unknown | None) -> str | None:
    return driver.split(".")[0] if isinstance(driver, str) else None


def _plain(fact: str | int | bool | Unknown | None) -> str | int | bool | None:  # noqa: FBT001 - a fact, not a switch
    """A fact as JSON; unknown is null whatever its reason, so a reworded reason makes no new class."""
    return None if isinstance(fact, Unknown) else fact


def _sorted(items: Any, project: Any) -> Any:  # noqa: ANN401 - a tuple of any fact and its projection
    if isinstance(items, Unknown):
        return None
    return sorted((project(item) for item in items), key=canonical.dumps)
