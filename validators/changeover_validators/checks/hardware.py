"""Check 5, hardware: whether a variant can run on a host at all, on which provider, and in which Nuke.

Three answers: compatible (passed), incompatible (refused, with rule, expected and actual), unknown (not run, with the
reason). Unknown satisfies no rule. Every rule is evaluated, so one run shows every reason. With several GPUs each
has to do, because Nuke may be set to any. The CPU serves only on a host without a GPU, and only if the policy says so.
What this leaves out: memory (`vram`), speed, and whether the numbers are right (`golden`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Variant
from changeover_validators import tables
from changeover_validators.tables.load import capability_key

__all__ = ["Broken", "Open", "check_hardware", "check_nuke", "gpu_capability", "providers_for", "runtime_for"]

_LOOK = "run changeover facts on this host"
_RUNTIMES = {"onnx": "onnxruntime", "torchscript": "torch"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold: the host is incompatible."""

    rule: str
    expected: str
    actual: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Open:
    """A rule that cannot be decided, and why."""

    why: str
    remedy: str


Problem = Broken | Open


def check_hardware(release: Release, facts: HostFacts, policy: Policy) -> tuple[Finding, ...]:
    """Findings for every variant: one a provider, for a ``.cat`` one a Nuke line as well.

    The subject is ``variant/provider`` or ``variant/nuke-line``; the variant alone where no provider is left.
    """
    return tuple(finding for variant in release.variants for finding in _variant(variant, facts, policy))


def providers_for(variant: Variant, facts: HostFacts, policy: Policy) -> tuple[str, ...]:
    """The providers (``cuda``, ``cpu``) on which nothing speaks against `variant` here; most often one or none."""
    candidates = _candidates(facts, policy)
    return tuple(p for p in candidates if isinstance(p, str) and not _provider_problems(variant, facts, p))


def runtime_for(variant: Variant, facts: HostFacts) -> RuntimeFacts | None:
    """The interpreter's runtime that `variant` would run in here: the best that is known, None for a ``.cat``."""
    known = _runtimes(variant, facts)
    if not isinstance(known, tuple):
        return None
    provider = "cpu" if facts.gpus == () else "cuda"
    newest_first = sorted(known, key=_order)
    # A twin of a .cat is evidence for Nuke only under the very line that Nuke embeds, so that line comes first.
    return min(
        newest_first,
        key=lambda runtime: (
            _rank(_runtime_problems(variant, runtime, facts, provider)),
            runtime.version.partition("+")[0] != variant.requires.torch_line,
        ),
    )


def check_nuke(variant: Variant, nuke: NukeInstall, facts: HostFacts | None = None) -> tuple[Finding, ...]:
    """Whether the Inference node of that Nuke can load `variant`, by its torch; with `facts`, on those GPUs as well."""
    subject = f"{variant.id}/nuke-{nuke.line}"
    problem = _nuke_problem(variant, nuke)
    problems = (*([problem] if problem else []), *(_nuke_gpus(nuke, facts) if facts else ()))
    if problems:
        return tuple(_finding(subject, found) for found in problems)
    return (Passed(check="hardware", subject=subject, detail=f"Nuke {nuke.line} embeds torch {nuke.torch_line}"),)


def gpu_capability(gpu: Gpu) -> str | Unknown:
    """What the driver says, else what the product's family has, else unknown."""
    if isinstance(gpu.compute_capability, str):
        return gpu.compute_capability
    return tables.capability_of_gpu(gpu.name) or gpu.compute_capability


def _variant(variant: Variant, facts: HostFacts, policy: Policy) -> Iterable[Finding]:
    if variant.runtime == "nuke-cat":
        yield from _nukes(variant, facts)
    for candidate in _candidates(facts, policy):
        if not isinstance(candidate, str):
            yield _finding(variant.id, candidate)
            continue
        problems = _provider_problems(variant, facts, candidate)
        subject = f"{variant.id}/{candidate}"
        yield from (_finding(subject, problem) for problem in problems)
        if not problems:
            yield Passed(check="hardware", subject=subject, detail=_evidence(variant, facts, candidate))


def _candidates(facts: HostFacts, policy: Policy) -> tuple[str | Problem, ...]:
    """The provider that this host would use, or why there is none."""
    if isinstance(facts.gpus, Unknown):
        return (Open(f"the GPUs of this host are unknown: {facts.gpus.unknown}", _LOOK),)
    if facts.gpus:
        return ("cuda",)
    if policy.hardware.serve_on_cpu:
        return ("cpu",)
    remedy = "use a host with a GPU, or set serve_on_cpu = true under [hardware] in policy.toml"
    return (Broken("GPU", "an NVIDIA GPU, or a policy that serves on the CPU", "no GPU on this host", remedy),)


def _provider_problems(variant: Variant, facts: HostFacts, provider: str) -> tuple[Problem, ...]:
    """All that speaks against `variant` on `provider`; a rule about the host first, then the best runtime's."""
    host = (*_capability(variant, facts, provider), *_cpu(facts, provider))
    if variant.runtime == "nuke-cat":
        return host
    known = _runtimes(variant, facts)
    if not isinstance(known, tuple):
        return (*host, known)
    by_runtime = [_runtime_problems(variant, runtime, facts, provider) for runtime in sorted(known, key=_order)]
    return (*host, *min(by_runtime, key=_rank))


def _rank(problems: tuple[Problem, ...]) -> int:
    """Compatible before unknown before incompatible."""
    return 0 if not problems else 2 if any(isinstance(problem, Broken) for problem in problems) else 1


def _order(runtime: RuntimeFacts) -> tuple[tuple[int, ...], str]:
    """Newest first, then by path, so that the same facts in another order give the same answer."""
    return tuple(-part for part in PackageVersion(runtime.version).release), runtime.interpreter


def _runtimes(variant: Variant, facts: HostFacts) -> tuple[RuntimeFacts, ...] | Problem:
    wanted = _RUNTIMES.get(variant.runtime)
    remedy = f"name an interpreter that has {wanted} under [runtimes] in host.toml"
    if isinstance(facts.runtimes, Unknown):
        return Open(f"the runtimes of this host are unknown: {facts.runtimes.unknown}", remedy)
    known = tuple(runtime for runtime in facts.runtimes if runtime.name == wanted)
    return known or Open(f"no interpreter with {wanted} is known on this host", remedy)


def _capability(variant: Variant, facts: HostFacts, provider: str) -> Iterable[Problem]:
    needed = variant.requires.compute_capability
    if provider != "cuda" or needed is None or isinstance(facts.gpus, Unknown):
        return
    for gpu in facts.gpus:
        actual = gpu_capability(gpu)
        if isinstance(actual, Unknown):
            yield Open(f"compute capability of {gpu.name} is unknown: {actual.unknown}", _LOOK)
        elif capability_key(actual) < capability_key(needed):
            why = f"compute capability {needed} or higher (tensors of {_wide(variant)})"
            remedy = "use a host with a newer GPU, or ask the vendor for a variant in float16 or float32"
            yield Broken("compute capability", why, f"{actual} ({gpu.name})", remedy)


def _wide(variant: Variant) -> str:
    found = [name for name in variant.requires.dtypes if name.startswith(("bfloat16", "float8"))]
    return ", ".join(found) or "the kind that the vendor states"


def _cpu(facts: HostFacts, provider: str) -> Iterable[Problem]:
    """A golden finding belongs to a CPU level, so on a CPU of unknown level nothing can be looked up."""
    if provider == "cpu" and isinstance(facts.cpu_level, Unknown):
        remedy = "name an interpreter with the extra `run` under [runtimes] in host.toml"
        yield Open(f"the level of this CPU is unknown: {facts.cpu_level.unknown}", remedy)


def _runtime_problems(variant: Variant, runtime: RuntimeFacts, facts: HostFacts, provider: str) -> tuple[Problem, ...]:
    if variant.runtime == "torchscript":
        own = tuple(_torch_line(variant, runtime.version, f"torch of {runtime.interpreter}"))
    else:
        own = (*_limit(variant, runtime, "ir_version"), *_limit(variant, runtime, "opset"))
    return (*own, *_provider(runtime, provider), *(_cuda(runtime, facts) if provider == "cuda" else ()))


def _provider(runtime: RuntimeFacts, provider: str) -> Iterable[Problem]:
    if provider not in runtime.providers:
        actual = ", ".join(runtime.providers) or "none"
        remedy = f"install {runtime.name} with {provider} in {runtime.interpreter}"
        yield Broken("provider", f"{provider} in {runtime.name} {runtime.version}", actual, remedy)


def _limit(variant: Variant, runtime: RuntimeFacts, what: str) -> Iterable[Problem]:
    """Whether the file's IR or opset is within the runtime's limit: the probed one, else the table's."""
    needed: int | None = getattr(variant.requires, what)
    if needed is None:
        return
    probed = runtime.max_ir_version if what == "ir_version" else runtime.max_opset
    limits = tables.runtime_limits(runtime.version)
    listed = None if limits is None else limits.max_ir_version if what == "ir_version" else limits.max_opset
    limit = probed if isinstance(probed, int) else listed
    name = f"ONNX {'IR version' if what == 'ir_version' else 'opset'}"
    if limit is None:
        why = f"the highest {name} of onnxruntime {runtime.version} is unknown"
        yield Open(why, f"run changeover facts with {runtime.interpreter} at hand")
    elif needed > limit:
        expected = f"at most {limit}, which onnxruntime {runtime.version} loads"
        yield Broken(name, expected, str(needed), "update onnxruntime, or ask the vendor for an older export")


def _torch_line(variant: Variant, version: str, where: str) -> Iterable[Problem]:
    """TorchScript is loaded by the torch line that it was made for and by newer ones, never by older ones."""
    needed = variant.requires.torch_line
    if needed is not None and PackageVersion(version).release < PackageVersion(needed).release:
        remedy = f"name an interpreter with torch {needed} or newer, or take a variant for this line"
        yield Broken("torch line", f"torch {needed} or newer", f"torch {version} ({where})", remedy)


def _cuda(runtime: RuntimeFacts, facts: HostFacts) -> Iterable[Problem]:
    """Whether the runtime's CUDA toolkit runs with this driver and on these GPUs."""
    line = _toolkit_line(runtime)
    toolkit = None if line is None else tables.toolkit(line)
    if toolkit is None:
        why = f"the CUDA toolkit of {runtime.name} {runtime.version} is unknown"
        yield Open(why, f"use a release of {runtime.name} that the tables know")
        return
    branch = _branch(facts)
    if isinstance(branch, Open):
        yield branch
    elif branch < toolkit.first_driver:
        expected = (
            f"driver {toolkit.first_driver} or newer, for CUDA {toolkit.line} of {runtime.name} {runtime.version}"
        )
        yield Broken("driver", expected, f"driver {facts.driver}", "update the driver, or use an older runtime")
    gpus = () if isinstance(facts.gpus, Unknown) else facts.gpus
    for gpu in gpus:
        capability = gpu_capability(gpu)
        if isinstance(capability, Unknown):
            yield Open(
                f"compute capability of {gpu.name} is unknown: {capability.unknown}",
                _LOOK,
            )
        else:
            yield from _architecture(runtime, gpu, capability, (toolkit.lowest, toolkit.highest))
            yield from _last_driver(gpu, capability, branch)


def _last_driver(gpu: Gpu, capability: str, branch: int | Open) -> Iterable[Problem]:
    """Newer drivers have dropped old cards, so for those a driver may also be too new."""
    last = tables.driver_ceiling(capability)
    if last is not None and isinstance(branch, int) and branch > last:
        expected = f"driver {last} or older, the last for {gpu.name} ({capability})"
        yield Broken("driver", expected, f"driver {branch}", "install the last driver branch for this card")


def _architecture(runtime: RuntimeFacts, gpu: Gpu, capability: str, served: tuple[str, str]) -> Iterable[Problem]:
    """Whether the runtime was built for this GPU: its own list if it told one, else its wheel's, else its toolkit's."""
    build = tables.torch_build(runtime.version) if runtime.name == "torch" else None
    lowest, highest = (build.lowest, build.highest) if build else served
    listed = runtime.architectures
    if isinstance(listed, tuple) and listed:
        fits = any(_runs_on(known, capability) for known in listed)
        expected = f"one of {', '.join(listed)}"
    else:
        fits = capability_key(lowest) <= capability_key(capability) <= capability_key(highest)
        expected = f"compute capability {lowest} to {highest}"
    if not fits:
        remedy = f"use a release of {runtime.name} that is built for this GPU"
        yield Broken(
            "GPU architecture",
            f"{expected}, for {runtime.name} {runtime.version}",
            f"{capability} ({gpu.name})",
            remedy,
        )


def _runs_on(built: str, capability: str) -> bool:
    """A binary for X.Y runs on X.Z with Z >= Y; intermediate code (``compute_XY``) runs on everything newer."""
    kind, _, digits = built.partition("_")
    if not digits.isdecimal() or len(digits) < 2:
        # Names such as sm_90a are exact, and no common card is one of them alone.
        return built.removesuffix("a").partition("_")[2] == capability.replace(".", "")
    wanted = (int(digits[:-1]), int(digits[-1]))
    actual = capability_key(capability)
    return wanted <= actual and (kind == "compute" or wanted[0] == actual[0])


def _toolkit_line(runtime: RuntimeFacts) -> str | None:
    if runtime.name == "torch":
        build = tables.torch_build(runtime.version)
        suffix = runtime.version.partition("+")[2]
        if build is None and suffix.startswith("cu") and suffix[2:].isdecimal() and len(suffix) > 4:
            return f"{suffix[2:-1]}.{suffix[-1]}"
        return None if build is None else build.toolkit
    limits = tables.runtime_limits(runtime.version)
    return None if limits is None else limits.cuda


def _branch(facts: HostFacts) -> int | Open:
    driver = facts.driver
    if isinstance(driver, str) and driver.split(".")[0].isdecimal():
        return int(driver.split(".")[0])
    reason = driver.unknown if isinstance(driver, Unknown) else f"the facts say {driver!r}"
    return Open(f"the GPU driver's version is unknown: {reason}", _LOOK)


def _nukes(variant: Variant, facts: HostFacts) -> Iterable[Finding]:
    if not facts.nukes:
        why = "no Nuke is known on this host"
        yield _finding(variant.id, Open(why, "name it under [[nukes]] in host.toml"))
    for line in sorted({nuke.line: nuke for nuke in facts.nukes}.items()):
        yield from check_nuke(variant, line[1], facts)


def _nuke_problem(variant: Variant, nuke: NukeInstall) -> Problem | None:
    here = f"not available in Nuke {nuke.line}"
    if variant.runtime != "nuke-cat":
        expected = "a .cat, the only format that Inference loads"
        return Broken(here, expected, variant.runtime, "ask the vendor for a .cat of this release")
    needed, embedded = variant.requires.torch_line, nuke.torch_line
    if needed is None:
        return Open(
            f"{here}: the record does not say for which torch the .cat was made", "ask the vendor to state torch_line"
        )
    if isinstance(embedded, Unknown):
        return Open(
            f"{here}: the torch that it embeds is unknown: {embedded.unknown}", "use a Nuke that the tables know"
        )
    if PackageVersion(embedded).release < PackageVersion(needed).release:
        actual = f"torch {embedded}"
        return Broken(
            here, f"torch {needed} or newer", actual, "use a newer Nuke, or ask the vendor for a .cat for this line"
        )
    return None


def _nuke_gpus(nuke: NukeInstall, facts: HostFacts) -> Iterable[Problem]:
    """The embedded torch runs on no GPU that is newer, or older, than what its CUDA toolkit serves."""
    line = tables.nuke_toolkit(nuke.line)
    toolkit = tables.toolkit(line) if line else None
    if toolkit is None or isinstance(facts.gpus, Unknown):
        return
    for gpu in facts.gpus:
        capability = gpu_capability(gpu)
        low, high = capability_key(toolkit.lowest), capability_key(toolkit.highest)
        if isinstance(capability, str) and not low <= capability_key(capability) <= high:
            expected = f"compute capability {toolkit.lowest} to {toolkit.highest}, for CUDA {toolkit.line}"
            remedy = "use another Nuke line, or another GPU"
            yield Broken(f"not available on a GPU in Nuke {nuke.line}", expected, f"{capability} ({gpu.name})", remedy)


def _evidence(variant: Variant, facts: HostFacts, provider: str) -> str:
    runtime = runtime_for(variant, facts)
    by = f", {runtime.name} {runtime.version}" if runtime else ""
    if provider == "cpu" or isinstance(facts.gpus, Unknown):
        return f"served on the CPU ({facts.cpu_level}){by}"
    return f"{', '.join(sorted(f'{gpu.name} ({gpu_capability(gpu)})' for gpu in facts.gpus))}{by}"


def _finding(subject: str, problem: Problem) -> Finding:
    if isinstance(problem, Open):
        return NotRun(check="hardware", subject=subject, why=problem.why, remedy=problem.remedy)
    return Refused(
        check="hardware",
        subject=subject,
        rule=problem.rule,
        expected=problem.expected,
        actual=problem.actual,
        remedy=problem.remedy,
    )
