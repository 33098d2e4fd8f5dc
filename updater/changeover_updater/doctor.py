"""What a host is set to, which runtime set suits it, what is unknown, and what changed since it was last judged. Pure.

Nothing is changed here and nothing is withdrawn: a runtime or a driver that was updated is told of like a new release
of a model, and what is in use goes on until a person changes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.verdict import PointReport
from changeover_registry.telemetry import Switch
from changeover_updater.settings import Settings
from changeover_updater.studio import FiledVerdict
from changeover_validators import tables
from changeover_validators.checks.cuda import check_cuda
from changeover_validators.checks.glibc import check_glibc
from changeover_validators.checks.impact import Impact, impact
from changeover_validators.checks.reasons import Cost, Open, Problem
from changeover_validators.checks.sets import Advice, right_set
from changeover_validators.classes import host_class

__all__ = ["Diagnosis", "Gap", "Installed", "Setting", "Since", "diagnose", "gaps_of", "settings_of", "since_last"]

_RUN = "name an interpreter with the extra run under [runtimes] in host.toml, then: changeover facts"
_LEARN = {
    "gpus": _RUN,
    "driver": _RUN,
    "cuda_driver": _RUN,
    "cpu_level": _RUN,
    "cpu": _RUN,
    "runtimes": "changeover runtimes add onnxruntime==VERSION, or name an interpreter in host.toml",
    "torch_line": "nobody has published it for this Nuke; see tables/nuke.toml and the page on compatibility",
    "toolkit": "install a wheel that names it: onnxruntime 1.21 or newer",
    "cudnn": "install a wheel that names it: onnxruntime 1.21 or newer",
    "max_ir_version": "see what is wrong with that interpreter: changeover runtimes list",
    "max_opset": "see what is wrong with that interpreter: changeover runtimes list",
    "max_torchscript": "see what is wrong with that interpreter: changeover runtimes list",
    "architectures": "see what is wrong with that interpreter: changeover runtimes list",
}
_ELSE = "update the driver and nvidia-ml-py there, then: changeover facts"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, its value, and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Gap:
    """One fact that is unknown: of what, why, and how to learn it."""

    fact: str
    why: str
    learn: str


@dataclass(frozen=True, slots=True)
class Installed:
    """One runtime of this host, the set that it would be in, and what speaks against it here or what it costs."""

    runtime: RuntimeFacts
    set_name: str | None
    problems: tuple[Problem, ...]

    @property
    def runs(self) -> bool:
        """Whether nothing speaks against its CUDA here."""
        return all(isinstance(problem, Cost) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Since:
    """The last verdict that was made on this host, and what changed since; `note` where that cannot be told."""

    verdict: str
    made_at: str
    impact: Impact | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that is told. `planned` is what a change that somebody plans would do."""

    settings: tuple[Setting, ...]
    facts: HostFacts
    advice: Advice
    installed: tuple[Installed, ...]
    gaps: tuple[Gap, ...]
    since: Since | None = None
    planned: Impact | None = None
    troubles: tuple[ChangeoverError, ...] = ()
    telemetry: tuple[Switch, ...] = ()
    """What keeps the packages that we use quiet, as it is in this process and in every one that it starts."""

    @property
    def exit_code(self) -> int:
        """0 all is well; 3 something in use breaks, or no runtime here runs on the GPU; 4 that cannot be said.

        Where site or station could not be read, that error's own, unless something breaks.
        """
        impacts = [found for found in (self.planned, self.since.impact if self.since else None) if found]
        on_gpu = [one for one in self.installed if one.runtime.name == "onnxruntime"] if self.facts.gpus else []
        broken = bool(on_gpu) and not any(one.runs for one in on_gpu)
        open_ = any(isinstance(problem, Open) for one in on_gpu for problem in one.problems)
        if any(found.breaks for found in impacts) or (broken and not open_):
            return 3
        unsure = broken or self.advice.undecided or any(found.unsure for found in impacts)
        return max((error.exit_code for error in self.troubles), default=4 if unsure else 0)


def diagnose(
    settings: Settings,
    facts: HostFacts,
    *,
    since: Since | None = None,
    planned: Impact | None = None,
    troubles: tuple[ChangeoverError, ...] = (),
) -> Diagnosis:
    """Put together what is known of a host."""
    known = facts.runtimes if isinstance(facts.runtimes, tuple) else ()
    return Diagnosis(
        settings=settings_of(settings),
        facts=facts,
        advice=right_set(facts),
        installed=tuple(_installed(runtime, facts) for runtime in known),
        gaps=tuple(gaps_of(facts)),
        since=since,
        planned=planned,
        troubles=troubles,
    )


def since_last(
    verdicts: Iterable[FiledVerdict],
    facts: HostFacts,
    judged: Callable[[str], HostFacts | None],
    releases: Sequence[Release],
    policy: Policy,
    points: Mapping[ReleaseRef, tuple[PointReport, ...]],
) -> Since | None:
    """What changed since the newest verdict that this host made on itself; None where it made none.

    Args:
        verdicts: Signed verdicts, newest first.
        facts: The host now.
        judged: The facts of a digest, as they were kept.
        releases: What is in use here.
        policy: The studio's.
        points: The operating points in use of those.
    """
    filed = next((f for f in verdicts if f.verdict.host == facts.host and f.verdict.judged_host is None), None)
    if filed is None:
        return None
    before = judged(filed.verdict.facts)
    if before is not None:
        return Since(filed.digest, filed.verdict.made_at, impact(before, facts, releases, policy, points))
    same = filed.verdict.host_class == host_class(facts)
    note = "the facts of then were not kept; the host class is " + ("the same" if same else "another now")
    return Since(filed.digest, filed.verdict.made_at, None, note)


def settings_of(settings: Settings) -> tuple[Setting, ...]:
    """Every setting with its origin: a flag, a variable, host.toml, or a default."""
    origins, file = dict(settings.origins), str(settings.config)
    chosen = [
        Setting(name, str(getattr(settings, name) or "none"), origins.get(name, "nowhere"))
        for name in ("site", "store", "station", "who", "nuke_gpu")
    ]
    read = file if settings.config.is_file() else "default"
    keys = [
        Setting(f"keys.{name}", path, file) for name, path in settings.keys.model_dump().items() if path is not None
    ]
    return (
        Setting("host.toml", file, "read" if settings.config.is_file() else "not there"),
        *(_with_file(setting, read) for setting in chosen),
        *_interpreters(settings),
        *keys,
        *(Setting("nukes", version, file) for version in settings.nukes),
    )


def _interpreters(settings: Settings) -> tuple[Setting, ...]:
    """The interpreters that are named; that there is none is said, because GPUs and runtimes are unknown then."""
    found = tuple(Setting(f"runtimes.{name}", path, str(settings.config)) for name, path in settings.runtimes)
    return found or (Setting("runtimes", "none", "named nowhere"),)


def gaps_of(facts: HostFacts) -> Iterable[Gap]:
    """Every fact of the record that is unknown, with its place."""
    yield from _gaps(facts, "")


def _with_file(setting: Setting, read: str) -> Setting:
    """What nothing names has its origin in the file that could have named it."""
    if setting.origin != "nowhere":
        return setting
    return Setting(setting.name, setting.value, read if setting.value != "none" else "named nowhere")


def _gaps(part: BaseModel, place: str) -> Iterable[Gap]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        where = f"{place}{name}"
        if isinstance(value, Unknown):
            yield Gap(where, value.unknown, _LEARN.get(name, _ELSE))
        elif isinstance(value, tuple):
            yield from _in_tuple(value, where)


def _in_tuple(items: Sequence[object], where: str) -> Iterable[Gap]:
    for index, item in enumerate(items):
        if isinstance(item, BaseModel):
            yield from _gaps(item, f"{where}[{index}].")


def _installed(runtime: RuntimeFacts, facts: HostFacts) -> Installed:
    """The runtime under the rules of the hardware check; torch's CUDA counts as much as onnxruntime's."""
    sets = tables.runtime_sets() if runtime.name == "onnxruntime" else ()
    name = next((one.name for one in sets if runtime.version in one.onnxruntime), None)
    on_gpu = tuple(check_cuda(runtime, facts)) if facts.gpus and "cuda" in runtime.providers else ()
    return Installed(runtime, name, (*check_glibc(runtime, facts), *on_gpu))
