"""Whether one runtime's CUDA runs with a host's driver and on its GPUs: floor, last driver, architectures, cuDNN.

What a machine said of itself comes before the tables. A newer driver is never refused because a toolkit is older: the
largest driver in NVIDIA's tables bounds minor-version compatibility alone. It is refused only where it no longer drives
the card at all. Machine code runs on the same major at the same or a later minor, ``sm_90a`` on 9.0 alone, ``sm_120f``
on its family; intermediate code is compiled for newer cards by a driver that knows its version, at a cost that is said.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion
from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, RuntimeFacts
from changeover_validators import tables
from changeover_validators.checks.reasons import Broken, Cost, Open, Problem, Reason
from changeover_validators.devices import LOOK, look, nuke_gpus
from changeover_validators.tables.load import capability_key

__all__ = ["build_of", "check_cuda", "chosen_gpus", "driver_of", "gpu_capability", "in_range", "runs_on"]

_COMPILES = (
    "it has no machine code for this GPU, so the driver compiles its intermediate code once, at the first run: minutes "
    "to half an hour, and again unless the driver's cache holds it (set CUDA_CACHE_MAXSIZE=4294967296)"
)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the rules of one runtime on one host share."""

    runtime: RuntimeFacts
    facts: HostFacts
    build: tables.Build
    toolkit: tables.Toolkit
    driver: PackageVersion | Open

    @property
    def name(self) -> str:
        return f"{self.runtime.name} {self.runtime.version}"


def gpu_capability(gpu: Gpu) -> str | Unknown:
    """What the driver says, else what the product's family has, else unknown."""
    if isinstance(gpu.compute_capability, str):
        return gpu.compute_capability
    return tables.capability_of_gpu(gpu.name) or gpu.compute_capability


def chosen_gpus(facts: HostFacts) -> tuple[Gpu, ...]:
    """The GPUs that have to do: the one that Nuke is set to where the facts say it, else all; empty if unknown."""
    found = nuke_gpus(facts)
    return () if isinstance(found, Unknown) else found


def build_of(runtime: RuntimeFacts, system: str) -> tables.Build | None:
    """What a runtime was built for: what it told first, then its release's row; None where neither says the toolkit."""
    listed = _listed(runtime, system)
    toolkit = runtime.toolkit if isinstance(runtime.toolkit, str) else listed.toolkit if listed else None
    if toolkit is None:
        return None
    told = runtime.architectures if isinstance(runtime.architectures, tuple) else ()
    same = listed if listed is not None and listed.toolkit == toolkit else None
    return tables.Build(
        toolkit=toolkit,
        cudnn=runtime.cudnn if isinstance(runtime.cudnn, str) else same.cudnn if same else None,
        glibc=listed.glibc if listed else None,
        architectures=told or (same.architectures if same else ()),
        # A binary's intermediate code is of the toolkit that built it.
        ptx=(same.ptx if same else None) or toolkit,
        served=same.served if same else None,
        row=f"{runtime.interpreter} told it" if told else (listed.row if listed else f"{runtime.interpreter} told it"),
    )


def _listed(runtime: RuntimeFacts, system: str) -> tables.Build | None:
    if runtime.name == "torch":
        return tables.torch_build(runtime.version)
    return tables.onnxruntime_build(runtime.version, system)


def driver_of(facts: HostFacts) -> PackageVersion | Open:
    """The driver's version as numbers, or why it is not known."""
    driver = facts.driver
    try:
        if isinstance(driver, str):
            return PackageVersion(driver)
    except InvalidVersion:
        pass
    reason = driver.unknown if isinstance(driver, Unknown) else f"the facts say {driver!r}"
    remedy = look(driver) if isinstance(driver, Unknown) else LOOK
    return Open(Reason.DRIVER_UNKNOWN, f"the GPU driver's version is unknown: {reason}", remedy, ("fact driver",))


def check_cuda(runtime: RuntimeFacts, facts: HostFacts) -> Iterable[Problem]:
    """All that speaks against the runtime's CUDA on this host, and what it costs."""
    build = build_of(runtime, facts.os)
    toolkit = None if build is None else tables.toolkit(build.toolkit)
    if build is None or toolkit is None:
        why = f"the CUDA toolkit of {runtime.name} {runtime.version} is unknown"
        yield Open(Reason.TOOLKIT_UNKNOWN, why, f"use a release of {runtime.name} that the tables know")
        return
    ground = _Ground(runtime, facts, build, toolkit, driver_of(facts))
    yield from _floor(ground)
    for gpu in chosen_gpus(facts):
        capability = gpu_capability(gpu)
        if isinstance(capability, Unknown):
            why = f"compute capability of {gpu.name} is unknown: {capability.unknown}"
            yield Open(Reason.CAPABILITY_UNKNOWN, why, look(capability), (f"fact compute_capability of {gpu.name}",))
        else:
            yield from _architecture(ground, gpu, capability)
            yield from _last_driver(ground, gpu, capability)
            yield from _cudnn(ground, gpu, capability)


def runs_on(built: str, capability: str) -> bool:
    """Whether code named `built` runs on a card of `capability`, intermediate code by being compiled.

    ``sm_86`` runs on 8.6 and 8.9, ``compute_90`` on 9.0 and everything newer, ``sm_90a`` and ``compute_90a`` on 9.0
    alone, ``sm_120f`` on 12.0 and 12.1.
    """
    kind, _, rest = built.partition("_")
    digits, suffix = (rest[:-1], rest[-1]) if rest[-1:] in {"a", "f"} else (rest, "")
    if not digits.isdecimal() or len(digits) < 2:
        return False
    wanted, actual = (int(digits[:-1]), int(digits[-1])), capability_key(capability)
    if suffix == "a":
        return wanted == actual
    return wanted <= actual and (wanted[0] == actual[0] or (kind == "compute" and not suffix))


def in_range(capability: str, lowest: str, highest: str) -> bool:
    """Whether code for `lowest` to `highest` runs on a card of `capability`; later minors of its major run it too."""
    wanted, top = capability_key(capability), capability_key(highest)
    return capability_key(lowest) <= wanted and (wanted <= top or wanted[0] == top[0])


def _floor(ground: _Ground) -> Iterable[Problem]:
    if isinstance(ground.driver, Open):
        yield ground.driver
        return
    least = ground.toolkit.floor(ground.facts.os)
    if ground.driver < PackageVersion(least):
        yield Broken(
            Reason.DRIVER_TOO_OLD,
            "driver",
            f"driver {least} or newer, for CUDA {ground.build.toolkit} of {ground.name}",
            f"driver {ground.facts.driver}",
            "update the driver, or use an older runtime: changeover doctor names the set",
            ("fact driver", ground.toolkit.row, ground.build.row),
        )


def _last_driver(ground: _Ground, gpu: Gpu, capability: str) -> Iterable[Problem]:
    """Newer drivers have dropped old cards, so for those a driver may also be too new."""
    last = tables.driver_ceiling(capability)
    if last is not None and isinstance(ground.driver, PackageVersion) and ground.driver.major >= last.next:
        yield Broken(
            Reason.DRIVER_TOO_NEW,
            "driver",
            f"driver {last.branch} or older, the last for {gpu.name} ({capability})",
            f"driver {ground.facts.driver}",
            "install the last driver branch for this card",
            ("fact driver", last.row),
        )


def _architecture(ground: _Ground, gpu: Gpu, capability: str) -> Iterable[Problem]:
    """Whether the runtime was built for this GPU, by its own list, else its build's range, else its toolkit's."""
    listed = ground.build.architectures
    fitting = [name for name in listed if runs_on(name, capability)]
    low, high = ground.build.served or (ground.toolkit.lowest, ground.toolkit.highest)
    if not fitting and (listed or not in_range(capability, low, high)):
        expected = f"one of {', '.join(listed)}" if listed else f"compute capability {low} to {high}"
        yield Broken(
            Reason.ARCHITECTURE_MISSING,
            "GPU architecture",
            f"{expected}, for {ground.name}",
            f"{capability} ({gpu.name})",
            f"use a release of {ground.runtime.name} that is built for this GPU",
            (f"fact compute_capability of {gpu.name}", ground.build.row),
        )
    elif fitting and all(name.startswith("compute_") for name in fitting):
        yield from _compiled(ground, gpu, capability, fitting)


def _compiled(ground: _Ground, gpu: Gpu, capability: str, fitting: list[str]) -> Iterable[Problem]:
    """Intermediate code alone: minor-version compatibility does not cover it, so the driver must know its version."""
    wanted = ground.build.ptx or ground.build.toolkit
    known = _cuda_of_driver(ground)
    evidence = (f"fact compute_capability of {gpu.name}", "fact cuda_driver", ground.build.row)
    about = f"{', '.join(fitting)} of {ground.name} on {gpu.name} ({capability})"
    if known is None:
        why = f"whether this driver compiles CUDA {wanted} code is unknown: {about}"
        told = ground.facts.cuda_driver
        remedy = look(told) if isinstance(told, Unknown) else LOOK
        yield Open(Reason.PTX_DRIVER_UNKNOWN, why, remedy, evidence)
    elif known < PackageVersion(wanted):
        yield Broken(
            Reason.PTX_DRIVER_TOO_OLD,
            "driver",
            f"a driver of CUDA {wanted} or newer, to compile {about}",
            f"one of CUDA {known}",
            "update the driver, or use a release that is built for this GPU",
            evidence,
        )
    else:
        yield Cost(Reason.PTX_COMPILATION, f"{ground.name} on {gpu.name} ({capability}): {_COMPILES}", evidence)


def _cuda_of_driver(ground: _Ground) -> PackageVersion | None:
    """The newest CUDA that the driver knows: what it says, else the newest toolkit that brings a driver no newer."""
    told = ground.facts.cuda_driver
    if isinstance(told, str):
        return PackageVersion(told)
    if isinstance(ground.driver, Open):
        return None
    lines = (tables.toolkit(row["line"]) for row in tables.rows("cuda")["toolkit"])
    brought = [
        PackageVersion(line.line)
        for line in lines
        if line and (own := line.own(ground.facts.os)) and PackageVersion(own) <= ground.driver
    ]
    return max(brought, default=None)


def _cudnn(ground: _Ground, gpu: Gpu, capability: str) -> Iterable[Problem]:
    found = ground.build.cudnn
    if found is None:
        return
    listed = _listed(ground.runtime, ground.facts.os) if ground.runtime.name == "onnxruntime" else None
    needed = listed.cudnn.split(".")[0] if listed and listed.cudnn else None
    if needed is not None and found.split(".")[0] != needed:
        yield Broken(
            Reason.CUDNN_OTHER_MAJOR,
            "cuDNN",
            f"cuDNN {needed}, which {ground.name} links",
            f"cuDNN {found}",
            f"install cuDNN {needed} beside it, such as by the extra cuda12 or cuda13",
            (f"fact cudnn of {ground.runtime.interpreter}", listed.row if listed else ""),
        )
    last = tables.last_cudnn(capability)
    # A release that only says its major may be any minor, so it is no ground to refuse.
    if last is not None and "." in found and PackageVersion(found) >= _next_minor(last[0]):
        yield Broken(
            Reason.CUDNN_TOO_NEW,
            "cuDNN",
            f"cuDNN {last[0]} or older, the last for {gpu.name} ({capability})",
            f"cuDNN {found}",
            f"pin cuDNN to {last[0]} in {ground.runtime.interpreter}",
            (f"fact cudnn of {ground.runtime.interpreter}", last[1]),
        )


def _next_minor(release: str) -> PackageVersion:
    parsed = PackageVersion(release)
    return PackageVersion(f"{parsed.major}.{parsed.minor + 1}")
