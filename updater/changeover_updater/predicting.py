"""Who predicts the memory of a variant: one predictor for each (variant, provider), made when it is first asked.

A session is built by an interpreter of this machine, of the runtime's own version where there is one, else of the
nearest; whose memory is asked for is said by the facts, which may be another machine's. What this leaves out: what is
predicted, and how a memory plan is chosen (`changeover_validators.vram`).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.memory import Calibration, MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_validators.checks.budget import MIB, budget
from changeover_validators.checks.hardware import runtime_for
from changeover_validators.vram.plans import choose_plan
from changeover_validators.vram.predictor import Predictor, Target

__all__ = ["Builder", "Made", "Predictors", "builders_in", "builders_of", "nearest"]

_WHEEL = re.compile(r"(?P<name>onnxruntime|torch)(_[a-z_]+)?-(?P<version>[^-]+)\.dist-info")


@dataclass(frozen=True, slots=True)
class Builder:
    """An interpreter of this machine that holds a runtime."""

    runtime: str
    version: str
    interpreter: str


@dataclass(slots=True)
class Made:
    """What was made so far, so that hosts with the same runtime share it: predictors, and plans by predictor."""

    predictors: dict[tuple[str, str, str], Predictor] = field(default_factory=dict)
    plans: dict[tuple[int, bool, tuple[int, int]], MemoryPlan] = field(default_factory=dict)


@dataclass(slots=True)
class Predictors:
    """The predictors of one command.

    Attributes:
        facts: The host that is asked about.
        policy: For what its context takes where nobody measured it.
        builders: What this machine could build sessions with.
        folder: Where a variant's files lie.
        calibration: What was measured of a (GPU, driver, runtime, version).
        made: What was made so far; hosts that are asked about together share it.
    """

    facts: HostFacts
    policy: Policy
    builders: tuple[Builder, ...]
    folder: Callable[[Release, Variant], Path]
    calibration: Callable[[Target], Calibration | None] = lambda _: None
    made: Made = field(default_factory=Made)

    def of(self, release: Release, variant: Variant, provider: str) -> Predictor:
        """The predictor of a variant on that provider of the facts' host.

        Raises:
            UndecidedError: Nothing predicts such a variant there.
        """
        model, target = self._model(release, variant, provider)
        # Without a calibration a prediction does not depend on the card, so cards may share it.
        own = f"{target.gpu} {target.driver}" if target.calibration else ""
        key = (release.digest(), model.id, f"{target.runtime} {target.version} {target.provider} {own}")
        if key not in self.made.predictors:
            self.made.predictors[key] = self._make(release, model, target)
        return self.made.predictors[key]

    def plan(
        self, predictor: Predictor, variant: Variant, tile: Tile, size: tuple[int, int], *, quick: bool = False
    ) -> MemoryPlan:
        """The memory plan of an operating point at a tensor of `size`, chosen by simulation and kept.

        With `quick` plans that fix the shapes are left out, since each of them takes sessions of its own.

        Raises:
            ChangeoverError: As the predictor.
        """
        one_size = not quick and (tile.size > 0 or variant.contract.resize is not None)
        key = (id(predictor), one_size, size)
        if key not in self.made.plans:
            self.made.plans[key] = choose_plan(predictor, *size, one_size=one_size).plan
        return self.made.plans[key]

    def target(self, variant: Variant, provider: str) -> Target:
        """Where a variant would run on the facts' host.

        Raises:
            UndecidedError: No runtime of that host loads it.
        """
        runtime = runtime_for(variant, self.facts)
        if runtime is None:
            raise _nothing(variant, "a runtime of that host that loads it", "none is known")
        return self._target(runtime.name, runtime.version, provider)

    def _model(self, release: Release, variant: Variant, provider: str) -> tuple[Variant, Target]:
        """What answers for a variant, and where it would run: for a ``.cat`` its twin in the torch that Nuke embeds."""
        if variant.runtime != "nuke-cat":
            return variant, self.target(variant, provider)
        from changeover_validators.vram.torch_predictor import twin_target

        twin, line = twin_target(release, variant, self.facts)
        return twin, self._target("torch", line, provider)

    def _target(self, runtime: str, version: str, provider: str) -> Target:
        allowed, driver = budget(self.facts, self.policy, provider), self.facts.driver
        target = Target(
            runtime="torch" if runtime == "torch" else "onnxruntime",
            version=version,
            provider="cpu" if provider == "cpu" else "cuda",
            gpu=None if isinstance(allowed, Unknown) else allowed.gpu,
            driver=driver if isinstance(driver, str) and provider != "cpu" else None,
            interpreter=nearest(self.builders, runtime, version),
            context_bytes=0 if provider == "cpu" else self.policy.vram.context_mib * MIB,
        )
        return replace(target, calibration=self.calibration(target))

    def _make(self, release: Release, model: Variant, target: Target) -> Predictor:
        folder = self.folder(release, model)
        if model.runtime == "torchscript":
            from changeover_validators.vram.torch_predictor import TorchPredictor

            return TorchPredictor(folder, model.entry, model.contract, target)
        from changeover_validators.vram.onnx_predictor import OnnxPredictor

        return OnnxPredictor(folder, model.entry, model.contract, target, sandbox=self.policy.sandbox)


def nearest(builders: Iterable[Builder], runtime: str, version: str) -> str | None:
    """The interpreter whose runtime is of that version, else of the same line, else the newest; None without any."""
    wanted = _version(version)
    known = [(builder, _version(builder.version)) for builder in builders if builder.runtime == runtime]
    if not known:
        return None

    def far(item: tuple[Builder, Version]) -> tuple[bool, bool, Version]:
        found = item[1]
        return found.public == wanted.public, found.release[:2] == wanted.release[:2], found

    return max(sorted(known, key=lambda item: item[0].interpreter, reverse=True), key=far)[0].interpreter


def builders_in(interpreters: Iterable[str]) -> tuple[Builder, ...]:
    """What these interpreters hold, by the names of their installed packages; none of them is started."""
    found = []
    for interpreter in dict.fromkeys(interpreters):
        root = Path(interpreter).parent.parent
        for folder in (*root.glob("lib/python*/site-packages"), *root.glob("Lib/site-packages")):
            matches = (_WHEEL.fullmatch(item.name) for item in folder.glob("*.dist-info"))
            found += [Builder(m["name"], m["version"], interpreter) for m in matches if m]
    return tuple(sorted(set(found), key=lambda builder: (builder.runtime, builder.version, builder.interpreter)))


def builders_of(own: HostFacts) -> tuple[Builder, ...]:
    """What this machine could build sessions with, by its probed facts."""
    runtimes = own.runtimes if isinstance(own.runtimes, tuple) else ()
    found = {Builder(runtime.name, runtime.version, runtime.interpreter) for runtime in runtimes}
    return tuple(sorted(found, key=lambda builder: (builder.runtime, builder.version, builder.interpreter)))


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _nothing(variant: Variant, expected: str, actual: str) -> UndecidedError:
    return UndecidedError(
        "memory prediction",
        where=variant.id,
        expected=expected,
        actual=actual,
        remedy="measure it on that host, or override vram for this release",
    )
