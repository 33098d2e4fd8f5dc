"""Check 5, hardware: whether a variant can run on a host at all, on which provider, and in which Nuke.

Three answers: compatible (passed), incompatible (refused, with rule, expected and actual), unknown (not run, with the
reason); each with a reason of a closed list (`reasons`), the facts and rows it rests on, and a remedy. Unknown
satisfies no rule. Every rule is evaluated, so one run shows every reason. With several GPUs each has to do, because
Nuke may be set to any, unless the facts say to which. The CPU serves only on a host without a GPU, and only if the
policy says so. What this leaves out: CUDA's own rules (`cuda`), Nuke's (`nuke`), memory (`vram`), speed, and whether
the numbers are right (`golden`).
"""

from collections.abc import Iterable

from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Finding, Passed
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Variant
from changeover_validators import tables
from changeover_validators.checks.cuda import build_of, check_cuda, chosen_gpus, gpu_capability
from changeover_validators.checks.glibc import check_glibc
from changeover_validators.checks.nuke import nuke_costs, nuke_problems
from changeover_validators.checks.reasons import Broken, Cost, Open, Problem, Reason, as_finding
from changeover_validators.checks.torchscript import torchscript_problems
from changeover_validators.devices import look, nuke_gpus
from changeover_validators.tables.load import capability_key

__all__ = ["check_hardware", "check_nuke", "gpu_capability", "providers_for", "runtime_for"]

_RUNTIMES = {"onnx": "onnxruntime", "torchscript": "torch"}
_ENGINES = frozenset({"EPContext"})
"""Operators whose node holds code that was compiled for one GPU, runtime and driver."""


def check_hardware(release: Release, facts: HostFacts, policy: Policy) -> tuple[Finding, ...]:
    """Findings for every variant: one a provider, for a ``.cat`` one a Nuke line as well, and one for each cost.

    The subject is ``variant/provider`` or ``variant/nuke-line``; the variant alone where no provider is left.
    """
    return tuple(finding for variant in release.variants for finding in _variant(variant, facts, policy))


def providers_for(variant: Variant, facts: HostFacts, policy: Policy) -> tuple[str, ...]:
    """The providers (``cuda``, ``cpu``) on which nothing speaks against `variant` here; most often one or none."""
    candidates = _candidates(facts, policy)
    return tuple(p for p in candidates if isinstance(p, str) and not _against(_provider_problems(variant, facts, p)))


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
    problems = tuple(nuke_problems(variant, nuke, facts))
    if problems:
        return tuple(as_finding(subject, problem) for problem in problems)
    detail = f"Nuke {nuke.line} embeds torch {nuke.torch_line}"
    passed = Passed(check="hardware", subject=subject, detail=detail, evidence=("tables/nuke.toml",))
    return (passed, *(as_finding(subject, cost) for cost in nuke_costs(nuke, facts)))


def _variant(variant: Variant, facts: HostFacts, policy: Policy) -> Iterable[Finding]:
    if variant.runtime == "nuke-cat":
        yield from _nukes(variant, facts)
    for candidate in _candidates(facts, policy):
        if not isinstance(candidate, str):
            yield as_finding(variant.id, candidate)
            continue
        subject, problems = f"{variant.id}/{candidate}", _provider_problems(variant, facts, candidate)
        against = _against(problems)
        if not against:
            yield _passed(subject, variant, facts, candidate)
        yield from (as_finding(subject, problem) for problem in against or problems)


def _against(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """What keeps a variant from running; a cost does not."""
    return tuple(problem for problem in problems if not isinstance(problem, Cost))


def _candidates(facts: HostFacts, policy: Policy) -> tuple[str | Problem, ...]:
    """The provider that this host would use, or why there is none."""
    gpus = nuke_gpus(facts)
    if isinstance(gpus, Unknown):
        why = f"the GPUs of this host are unknown: {gpus.unknown}"
        choose = "name one of this host's GPUs as nuke_gpu in host.toml"
        remedy = look(gpus) if isinstance(facts.gpus, Unknown) else choose
        return (Open(Reason.GPUS_UNKNOWN, why, remedy, ("fact gpus", "fact nuke_gpu")),)
    if gpus:
        return ("cuda",)
    if policy.hardware.serve_on_cpu:
        return ("cpu",)
    remedy = "use a host with a GPU, or set serve_on_cpu = true under [hardware] in policy.toml"
    expected = "an NVIDIA GPU, or a policy that serves on the CPU"
    return (Broken(Reason.NO_GPU, "GPU", expected, "no GPU on this host", remedy, ("fact gpus",)),)


def _provider_problems(variant: Variant, facts: HostFacts, provider: str) -> tuple[Problem, ...]:
    """All that speaks against `variant` on `provider`, and costs; about the host first, then about the best runtime."""
    host = (*_capability(variant, facts, provider), *_cpu(facts, provider), *_engine(variant))
    if variant.runtime == "nuke-cat":
        return host
    known = _runtimes(variant, facts)
    if not isinstance(known, tuple):
        return (*host, known)
    by_runtime = [_runtime_problems(variant, runtime, facts, provider) for runtime in sorted(known, key=_order)]
    return (*host, *min(by_runtime, key=_rank))


def _rank(problems: tuple[Problem, ...]) -> int:
    """Compatible before compatible at a cost, before unknown, before incompatible."""
    ranks = {Cost: 1, Open: 2, Broken: 3}
    return max((ranks[type(problem)] for problem in problems), default=0)


def _order(runtime: RuntimeFacts) -> tuple[tuple[int, ...], str]:
    """Newest first, then by path, so that the same facts in another order give the same answer."""
    return tuple(-part for part in PackageVersion(runtime.version).release), runtime.interpreter


def _runtimes(variant: Variant, facts: HostFacts) -> tuple[RuntimeFacts, ...] | Problem:
    wanted = _RUNTIMES.get(variant.runtime)
    remedy = f"name an interpreter that has {wanted} under [runtimes] in host.toml"
    if isinstance(facts.runtimes, Unknown):
        why = f"the runtimes of this host are unknown: {facts.runtimes.unknown}"
        return Open(Reason.RUNTIMES_UNKNOWN, why, remedy, ("fact runtimes",))
    known = tuple(runtime for runtime in facts.runtimes if runtime.name == wanted)
    why = f"no interpreter with {wanted} is known on this host"
    return known or Open(Reason.NO_RUNTIME, why, remedy, ("fact runtimes",))


def _capability(variant: Variant, facts: HostFacts, provider: str) -> Iterable[Problem]:
    needed = variant.requires.compute_capability
    if provider != "cuda" or needed is None:
        return
    for gpu in chosen_gpus(facts):
        actual, evidence = gpu_capability(gpu), (f"fact compute_capability of {gpu.name}",)
        if isinstance(actual, Unknown):
            why = f"compute capability of {gpu.name} is unknown: {actual.unknown}"
            yield Open(Reason.CAPABILITY_UNKNOWN, why, look(actual), evidence)
        elif capability_key(actual) < capability_key(needed):
            yield Broken(
                Reason.CAPABILITY_TOO_LOW,
                "compute capability",
                f"compute capability {needed} or higher (tensors of {_wide(variant)})",
                f"{actual} ({gpu.name})",
                "use a host with a newer GPU, or ask the vendor for a variant in float16 or float32",
                evidence,
            )


def _wide(variant: Variant) -> str:
    found = [name for name in variant.requires.dtypes if name.startswith(("bfloat16", "float8"))]
    return ", ".join(found) or "the kind that the vendor states"


def _cpu(facts: HostFacts, provider: str) -> Iterable[Problem]:
    """The level that what runs every model is built for; an unknown one leaves no golden class to look up."""
    level, evidence = facts.cpu_level, ("fact cpu_level", tables.cpu_floor().row)
    if isinstance(level, Unknown):
        if provider == "cpu":
            remedy = "name an interpreter with the extra `run` under [runtimes] in host.toml"
            why = f"the level of this CPU is unknown: {level.unknown}"
            yield Open(Reason.CPU_LEVEL_UNKNOWN, why, remedy, evidence)
    elif tables.below_cpu_floor(level):
        expected = f"{tables.cpu_floor().level} or higher, for {tables.cpu_floor().package} of the runtime sets"
        remedy = "use a host with a newer CPU"
        yield Broken(Reason.CPU_LEVEL_TOO_LOW, "CPU level", expected, level, remedy, evidence)


def _engine(variant: Variant) -> Iterable[Problem]:
    """A compiled engine holds for one GPU, runtime and driver, which the file does not say."""
    if _ENGINES & set(variant.requires.operators):
        why = "it holds an engine that was compiled for one GPU, runtime and driver; which, the file does not say"
        remedy = "take a variant without EPContext; engines are compiled on the machine that runs them"
        yield Open(Reason.COMPILED_ENGINE, why, remedy, ("requires.operators: EPContext",))


def _runtime_problems(variant: Variant, runtime: RuntimeFacts, facts: HostFacts, provider: str) -> tuple[Problem, ...]:
    if variant.runtime == "torchscript":
        where = f"torch of {runtime.interpreter}"
        own = tuple(torchscript_problems(variant, runtime.version, where, runtime.max_torchscript))
    else:
        own = (*_limit(variant, runtime, "ir_version"), *_limit(variant, runtime, "opset"))
    cuda = tuple(check_cuda(runtime, facts)) if provider == "cuda" else ()
    return (*own, *_provider(runtime, provider), *check_glibc(runtime, facts), *cuda)


def _provider(runtime: RuntimeFacts, provider: str) -> Iterable[Problem]:
    if provider not in runtime.providers:
        actual = ", ".join(runtime.providers) or "none"
        remedy = f"install {runtime.name} with {provider} in {runtime.interpreter}"
        expected = f"{provider} in {runtime.name} {runtime.version}"
        evidence = (f"fact providers of {runtime.interpreter}",)
        yield Broken(Reason.NO_PROVIDER, "provider", expected, actual, remedy, evidence)


def _limit(variant: Variant, runtime: RuntimeFacts, what: str) -> Iterable[Problem]:
    """Whether the file's IR or opset is within the runtime's limit: the probed one, else the table's."""
    needed: int | None = getattr(variant.requires, what)
    if needed is None:
        return
    is_ir = what == "ir_version"
    probed = runtime.max_ir_version if is_ir else runtime.max_opset
    limits = tables.runtime_limits(runtime.version)
    listed = None if limits is None else limits.max_ir_version if is_ir else limits.max_opset
    limit = probed if isinstance(probed, int) else listed
    name = f"ONNX {'IR version' if is_ir else 'opset'}"
    if limit is None:
        why = f"the highest {name} of onnxruntime {runtime.version} is unknown"
        reason = Reason.IR_LIMIT_UNKNOWN if is_ir else Reason.OPSET_LIMIT_UNKNOWN
        yield Open(reason, why, f"run changeover facts with {runtime.interpreter} at hand")
    elif needed > limit:
        yield Broken(
            Reason.IR_TOO_NEW if is_ir else Reason.OPSET_TOO_NEW,
            name,
            f"at most {limit}, which onnxruntime {runtime.version} loads",
            str(needed),
            "update onnxruntime, or ask the vendor for an older export",
            (f"probed in {runtime.interpreter}" if isinstance(probed, int) else limits.row if limits else "",),
        )


def _nukes(variant: Variant, facts: HostFacts) -> Iterable[Finding]:
    if not facts.nukes:
        why, remedy = "no Nuke is known on this host", "name it under [[nukes]] in host.toml"
        yield as_finding(variant.id, Open(Reason.NUKES_UNKNOWN, why, remedy, ("fact nukes",)))
    for line in sorted({nuke.line: nuke for nuke in facts.nukes}.items()):
        yield from check_nuke(variant, line[1], facts)


def _passed(subject: str, variant: Variant, facts: HostFacts, provider: str) -> Finding:
    runtime = runtime_for(variant, facts)
    by = f", {runtime.name} {runtime.version}" if runtime else ""
    build = build_of(runtime, facts.os) if runtime and provider == "cuda" else None
    names = ", ".join(sorted(f"{gpu.name} ({gpu_capability(gpu)})" for gpu in chosen_gpus(facts)))
    detail = f"served on the CPU ({facts.cpu_level}){by}" if provider == "cpu" else f"{names}{by}"
    evidence = ("fact cpu_level",) if provider == "cpu" else ("fact gpus", *((build.row,) if build else ()))
    return Passed(check="hardware", subject=subject, detail=detail, evidence=evidence)
