"""How a machine's facts are shown to a person; what is unknown says why, where it stands."""

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall, RuntimeFacts
from changeover_updater.cli._output import escape, rows, say
from changeover_validators.classes import host_class
from changeover_validators.devices import nuke_gpus

__all__ = ["show_facts"]


def show_facts(facts: HostFacts) -> None:
    """A machine: system, driver, each GPU and its instances, runtimes with what they were built for, Nukes."""
    libc = f", glibc {_fact(facts.glibc)}" if facts.glibc is not None else ""
    say(f"host [bold]{escape(facts.host)}[/]: {facts.os}, kernel {_fact(facts.kernel)}{libc}")
    named = "" if facts.cpu is None else f"{_fact(facts.cpu)}, "
    say(f"CPU: {named}{_fact(facts.cpu_level)}, {_fact(facts.cores)} threads; {_fact(facts.ram_mib)} MiB RAM")
    say(f"driver: {_fact(facts.driver)}; CUDA driver: {_fact(facts.cuda_driver)}")
    _show_gpus(facts)
    _show_runtimes(facts)
    lines = [(nuke.version, _fact(nuke.torch_line), _named(nuke)) for nuke in facts.nukes]
    rows("Nuke", ("version", "torch", "known by"), lines, empty="none")
    say(f"host class: {host_class(facts)}")


def _show_gpus(facts: HostFacts) -> None:
    if isinstance(facts.gpus, Unknown):
        say(f"GPUs: unknown: {escape(facts.gpus.unknown)}")
        return
    head = ("name", "compute capability", "MiB", "reserved", "free", "use", "id")
    rows("GPUs", head, [line for gpu in facts.gpus for line in _gpu_lines(gpu)], empty="none")
    chosen = nuke_gpus(facts)
    if facts.nuke_gpu is not None:
        name = chosen.unknown if isinstance(chosen, Unknown) else f"Nuke is set to {facts.nuke_gpu} ({chosen[0].name})"
        say(escape(name))


def _gpu_lines(gpu: Gpu) -> list[tuple[str, ...]]:
    memory = (_fact(gpu.total_mib), _fact(gpu.reserved_mib), _fact(gpu.free_mib))
    lines: list[tuple[str, ...]] = [
        (escape(gpu.name), _fact(gpu.compute_capability), *memory, _use(gpu), _fact(gpu.uuid))
    ]
    if isinstance(gpu.instances, Unknown):
        return [*lines, (f"  instances {_fact(gpu.instances)}", *[""] * 6)]
    for item in gpu.instances or ():
        own = (_fact(item.total_mib), _fact(item.reserved_mib), _fact(item.free_mib))
        lines.append((f"  instance {_fact(item.profile)}", "", *own, "", _fact(item.uuid)))
    return lines


def _use(gpu: Gpu) -> str:
    """Display or compute, and what else sets a card apart."""
    display = _fact(gpu.display) if isinstance(gpu.display, Unknown) else "display" if gpu.display else "compute"
    divided = [_fact(gpu.mig)] if isinstance(gpu.mig, Unknown) else ["divided"] if gpu.mig else []
    model = [_fact(gpu.driver_model)] if gpu.driver_model is not None else []
    return ", ".join([display, *model, *divided, *(["accounts kept"] if gpu.accounting is True else [])])


def _show_runtimes(facts: HostFacts) -> None:
    if isinstance(facts.runtimes, Unknown):
        say(f"runtimes: unknown: {escape(facts.runtimes.unknown)}")
        return
    head = ("name", "version", "providers", "loads at most", "built for", "interpreter")
    lines = [
        (
            item.name,
            escape(item.version),
            ", ".join(item.providers),
            _limits(item),
            _build(item),
            escape(item.interpreter),
        )
        for item in facts.runtimes
    ]
    rows("runtimes", head, lines, empty="none; name one in host.toml")


def _limits(runtime: RuntimeFacts) -> str:
    known = (
        ("IR", runtime.max_ir_version),
        ("opset", runtime.max_opset),
        ("TorchScript", runtime.max_torchscript),
    )
    return ", ".join(f"{name} {_fact(value)}" for name, value in known if value is not None) or "-"


def _build(runtime: RuntimeFacts) -> str:
    if runtime.toolkit is None:
        return "CPU" if runtime.architectures == () else "-"
    parts = [f"CUDA {_fact(runtime.toolkit)}"]
    if runtime.cudnn is not None:
        parts.append(f"cuDNN {_fact(runtime.cudnn)}")
    if isinstance(runtime.architectures, tuple):
        parts.append(" ".join(runtime.architectures))
    return ", ".join(parts)


def _named(nuke: NukeInstall) -> str:
    """Who says that it is there: host.toml, or the folder in which it was found."""
    if nuke.found is not None:
        return f"found in {escape(nuke.found)}"
    return "host.toml, a check may start it" if nuke.path is not None else "host.toml"


def _fact(value: object) -> str:
    if isinstance(value, Unknown):
        return escape(f"unknown ({value.unknown})")
    return escape(str(value if value is not None else "-"))
