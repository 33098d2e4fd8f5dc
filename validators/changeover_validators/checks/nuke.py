"""Whether a Nuke's Inference node loads a ``.cat``, and runs it on a host's GPUs, by the torch that it embeds.

Which torch, and for which CUDA it was built, are rows of the table: a Nuke does not say it. What architectures its
libraries carry nobody has published, so the range of the toolkit stands for it. What this leaves out: whether it gives
the right matte (`twin`, and Nuke itself).
"""

from collections.abc import Iterable

from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall
from changeover_registry.records.release import Variant
from changeover_validators import tables
from changeover_validators.checks.cuda import chosen_gpus, driver_of, gpu_capability, in_range
from changeover_validators.checks.reasons import Broken, Cost, Open, Problem, Reason
from changeover_validators.checks.torchscript import torchscript_problems

__all__ = ["nuke_costs", "nuke_problems"]


def nuke_problems(variant: Variant, nuke: NukeInstall, facts: HostFacts | None) -> Iterable[Problem]:
    """All that speaks against `variant` in that Nuke, on the GPUs of `facts` where given."""
    yield from _file(variant, nuke)
    if facts is not None:
        yield from _gpus(nuke, facts)


def nuke_costs(nuke: NukeInstall, facts: HostFacts | None) -> Iterable[Cost]:
    """What a person should know before: a compilation that blocks Nuke once, on each card that needs it."""
    for gpu in chosen_gpus(facts) if facts else ():
        capability = gpu_capability(gpu)
        jit = tables.nuke_jit(nuke.line, capability) if isinstance(capability, str) else None
        if jit is not None:
            yield Cost(
                Reason.NUKE_COMPILATION,
                f"Nuke {nuke.line} compiles its kernels for {gpu.name} ({capability}) once, at first use: about "
                f"{jit.minutes} minutes, and again at each start unless the driver's cache holds them "
                f"(set CUDA_CACHE_MAXSIZE={jit.cache_gib << 30})",
                (f"fact compute_capability of {gpu.name}", jit.row),
            )


def _file(variant: Variant, nuke: NukeInstall) -> Iterable[Problem]:
    here = f"not available in Nuke {nuke.line}"
    needed, embedded = variant.requires.torch_line, nuke.torch_line
    if variant.runtime != "nuke-cat":
        expected, remedy = "a .cat, the only format that Inference loads", "ask the vendor for a .cat of this release"
        yield Broken(Reason.NUKE_FORMAT, here, expected, variant.runtime, remedy)
    elif needed is None:
        why = f"{here}: the record does not say for which torch the .cat was made"
        yield Open(Reason.NUKE_TORCH_NOT_STATED, why, "ask the vendor to state torch_line")
    elif isinstance(embedded, Unknown):
        why = f"{here}: the torch that it embeds is unknown: {embedded.unknown}"
        yield Open(Reason.NUKE_TORCH_UNKNOWN, why, "use a Nuke that the tables know", ("tables/nuke.toml",))
    elif PackageVersion(embedded).release < PackageVersion(needed).release:
        remedy = "use a newer Nuke, or ask the vendor for a .cat for this line"
        evidence = ("requires.torch_line", "tables/nuke.toml")
        actual = f"torch {embedded}"
        yield Broken(Reason.NUKE_TORCH_TOO_OLD, here, f"torch {needed} or newer", actual, remedy, evidence)
    else:
        yield from torchscript_problems(variant, embedded, f"Nuke {nuke.line}", None)


def _gpus(nuke: NukeInstall, facts: HostFacts) -> Iterable[Problem]:
    """The embedded torch runs on no GPU that its CUDA toolkit does not serve, nor under a driver that is too old."""
    # Where nobody says which build a Nuke embeds, the newest build of that torch is the most that it can be.
    embedded = nuke.torch_line if isinstance(nuke.torch_line, str) else ""
    line = tables.nuke_toolkit(nuke.line) or tables.newest_torch_toolkit(embedded)
    toolkit = tables.toolkit(line) if line else None
    if toolkit is None or not chosen_gpus(facts):
        return
    driver = driver_of(facts)
    least = toolkit.floor(facts.os)
    if not isinstance(driver, Open) and driver < PackageVersion(least):
        yield Broken(
            Reason.DRIVER_TOO_OLD,
            f"not available on a GPU in Nuke {nuke.line}",
            f"driver {least} or newer, for CUDA {toolkit.line}",
            f"driver {facts.driver}",
            "update the driver, or use an older Nuke line",
            ("fact driver", toolkit.row),
        )
    for gpu in chosen_gpus(facts):
        yield from _gpu(nuke, gpu, toolkit)


def _gpu(nuke: NukeInstall, gpu: Gpu, toolkit: tables.Toolkit) -> Iterable[Problem]:
    capability = gpu_capability(gpu)
    if isinstance(capability, str) and not in_range(capability, toolkit.lowest, toolkit.highest):
        yield Broken(
            Reason.NUKE_GPU,
            f"not available on a GPU in Nuke {nuke.line}",
            f"compute capability {toolkit.lowest} to {toolkit.highest}, for CUDA {toolkit.line}",
            f"{capability} ({gpu.name})",
            "use another Nuke line, or another GPU",
            (f"fact compute_capability of {gpu.name}", "tables/nuke.toml", toolkit.row),
        )
