"""Measuring the memory of one operating point on this machine, beside its prediction.

What is measured is decided here: which variant, which tile, which tensor, which interpreter, under which memory plan.
The measuring is done in an isolated child (`changeover_validators.vram.measure`); keeping it is `memory`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, RuntimeFacts
from changeover_registry.records.memory import Calibration, MemoryAnswer, MemoryMeasurement, MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Tile, Variant
from changeover_updater.predicting import Builder, Predictors, nearest
from changeover_updater.runtimes import Runtimes
from changeover_updater.subjects import Subject
from changeover_validators.devices import nuke_gpus
from changeover_validators.runtimes.interface import OWN_PLAN, RunRequest
from changeover_validators.vram.calibrate import Subject as Throwaway
from changeover_validators.vram.calibrate import calibrate
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.measure import STEADY_RUNS, Place, beside, is_alarm, measure_memory
from changeover_validators.vram.measure_nuke import NukeMemory, measure_in_nuke
from changeover_validators.vram.spill import spilled

__all__ = [
    "Measured",
    "Point",
    "Wish",
    "calibration",
    "cat_of",
    "measure",
    "measure_cat",
    "point_of",
    "with_runtime",
]

_WALL_SECONDS = 600.0
_RAM_SHARE_MIB = 65536
_SMALL_PLATE = (512, 512)
"""The plate whose tensor stands for the smallest tile where the whole frame is the only one."""
_LIBRARIES = {"onnx": "onnxruntime", "torchscript": "torch"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks to have measured; None is the first that there is.

    Attributes:
        variant: The variant's id.
        tile: The tile's size, 0 for the whole frame.
        provider: ``cpu`` or ``cuda``.
        runs: Runs after the warm-up of two.
        own_settings: Under the runtime's own settings, and not under the memory plan that is chosen for the point.
    """

    variant: str | None = None
    tile: int | None = None
    provider: str = "cpu"
    runs: int = STEADY_RUNS
    own_settings: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One operating point at the size of its tensors, in pixels."""

    variant: Variant
    tile: Tile
    provider: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it; `unpredicted` says why there is no prediction beside it, `spilled` why it did not fit."""

    point: Point
    measurement: MemoryMeasurement
    unpredicted: str | None
    spilled: str | None = None

    @property
    def exit_code(self) -> int:
        """What the command ends with: undecided without a prediction, refused where it is off by more than 5 %.

        A run that spilled out of the GPU's memory is refused in any case.
        """
        if self.spilled is not None:
            return RefusedError.exit_code
        if self.unpredicted is not None:
            return UndecidedError.exit_code
        return RefusedError.exit_code if is_alarm(self.measurement) else 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person must know beside the figures."""
        found = []
        if self.spilled is not None:
            found.append(f"this did not fit the GPU: {self.spilled}")
        if self.unpredicted is not None:
            found.append(f"there is no prediction to hold against it: {self.unpredicted}")
        if is_alarm(self.measurement):
            found.append(
                "the prediction is off by more than 5 %: budget by the measured figure, and report it with --json"
            )
        return tuple(found)


def point_of(subject: Subject, policy: Policy, wish: Wish) -> Point:
    """The operating point of a wish at the policy's plate.

    Raises:
        InvalidInputError: The release has no such variant, or the variant no such tile.
    """
    variants = [v for v in subject.release.variants if wish.variant in {None, v.id} and v.runtime in _LIBRARIES]
    if not variants:
        known = ", ".join(variant.id for variant in subject.release.variants)
        raise _bad("--variant", f"a variant that runs outside Nuke, of {known}", str(wish.variant or "none"))
    variant = variants[0]
    tile = _tile_of(variant, wish)
    width, height = tensor_size(variant.contract, *policy.vram.plate, tile)
    return Point(variant, tile, wish.provider, width, height)


def with_runtime(facts: HostFacts, point: Point, builders: tuple[Builder, ...]) -> tuple[HostFacts, RuntimeFacts]:
    """The facts with a runtime that loads the variant, and that runtime: one that they name, else one found here.

    Raises:
        UndecidedError: No interpreter of this machine holds one.
    """
    library = _LIBRARIES[point.variant.runtime]
    known = facts.runtimes if isinstance(facts.runtimes, tuple) else ()
    serving = [one for one in known if one.name == library and (not one.providers or point.provider in one.providers)]
    if serving:
        return facts, serving[0]
    interpreter = nearest(builders, library, "0")
    if interpreter is None:
        raise UndecidedError(
            "runtime",
            where=point.variant.id,
            expected=f"an interpreter that has {library}",
            actual="none under [runtimes] in host.toml, nor the one that runs this command",
            remedy="name one, such as an environment with changeover[run]",
        )
    version = next(one.version for one in builders if one.interpreter == interpreter and one.runtime == library)
    found = RuntimeFacts(name=library, version=version, interpreter=interpreter, providers=(point.provider,))
    return facts.model_copy(update={"runtimes": (found, *known)}), found


def measure(
    subject: Subject,
    point: Point,
    wish: Wish,
    runtime: RuntimeFacts,
    predictors: Predictors,
    made_at: str,
    step: Callable[[str], None] = lambda _: None,
    before: tuple[MemoryMeasurement, ...] = (),
) -> Measured:
    """Measure a point, with its prediction beside it where something predicts it.

    `before` is what was measured of this release: how long a frame of the same key usually takes.

    Raises:
        UndecidedError: Not run: no isolation, no runtime, or one that tells nothing of its memory.
        MeasurementError: It crashed, hung, took too much memory or ran on another provider, or cannot be counted.
    """
    step("predict")
    plan, predicted, why = _predicted(subject, point, wish, predictors)
    request, place = _request(subject, point, runtime, predictors, plan), _place(predictors.facts, made_at)
    found = measure_memory(request, point.width, point.height, place, runs=wish.runs, step=step)
    usual = next((one.frame_us for one in reversed(before) if one.key == found.key), None)
    return Measured(point, beside(found, predicted), why, spilled(found, usual))


def calibration(
    subject: Subject, point: Point, runtime: RuntimeFacts, predictors: Predictors, made_at: str
) -> Calibration:
    """Measure the constants of the GPU, driver and runtime of a point, with its variant at the smallest tile.

    Raises:
        UndecidedError: Not run, or nobody tells what a process holds of the GPU.
        MeasurementError: As `measure`.
    """
    contract, facts = point.variant.contract, predictors.facts
    smallest = min(contract.tiles, key=lambda tile: (tile.size == 0, tile.size))
    width, height = tensor_size(contract, *_SMALL_PLATE, smallest)
    request = _request(subject, point, runtime, predictors, OWN_PLAN)
    place = _place(facts, made_at)
    capability = next((gpu.compute_capability for gpu in _cards(facts) if gpu.name == place.gpu), "unknown")
    return calibrate(Throwaway(request, width, height), place, capability if isinstance(capability, str) else "unknown")


def cat_of(subject: Subject, wish: Wish) -> Variant | None:
    """The ``.cat`` that a person names; one that nobody names is not measured, for it needs a licence of Nuke."""
    named = subject.release.variant(wish.variant) if wish.variant is not None else None
    return named if named is not None and named.runtime == "nuke-cat" else None


def measure_cat(subject: Subject, cat: Variant, wish: Wish, facts: HostFacts, policy: Policy) -> NukeMemory:
    """What a licensed Nuke of this host holds while it runs a ``.cat`` at the policy's plate.

    Raises:
        InvalidInputError: The variant has no such tile.
        UndecidedError: Not run: no licensed Nuke here loads it, or no bubblewrap.
        MeasurementError: Nuke crashed, hung, took too much memory, or did not use the GPU that was asked for.
    """
    tile = _tile_of(cat, wish)
    runtimes = Runtimes(facts, policy)
    ran = replace(runtimes.evidence(subject.release, cat), variant=cat)
    request = runtimes.nuke_request(subject.release, ran, subject.folder(cat), tile, wish.provider)
    size = tensor_size(cat.contract, *policy.vram.plate, Tile(size=0))
    return measure_in_nuke(request, *size, runs=wish.runs)


def _tile_of(variant: Variant, wish: Wish) -> Tile:
    tiles = [tile for tile in variant.contract.tiles if wish.tile in {None, tile.size}]
    if not tiles:
        known = ", ".join(map(str, variant.contract.tiles))
        raise _bad("--tile", f"a tile of {variant.id}: {known}", str(wish.tile))
    return tiles[0]


def _request(
    subject: Subject, point: Point, runtime: RuntimeFacts, predictors: Predictors, plan: MemoryPlan
) -> RunRequest:
    return RunRequest(
        interpreter=runtime.interpreter,
        folder=subject.folder(point.variant),
        entry=point.variant.entry,
        runtime=point.variant.runtime,
        contract=point.variant.contract,
        tile=point.tile,
        provider=point.provider,
        sandbox=predictors.policy.sandbox,
        wall_seconds=_WALL_SECONDS,
        ram_mib=_ram_mib(predictors.facts),
        ports=subject.release.interface.inputs,
        memory_plan=plan,
        gpu=predictors.facts.nuke_gpu,
    )


def _predicted(
    subject: Subject, point: Point, wish: Wish, predictors: Predictors
) -> tuple[MemoryPlan, MemoryAnswer | None, str | None]:
    """The plan to measure under, the prediction for it, and why there is none; a plan is chosen by predictions."""
    size = point.width, point.height
    try:
        predictor = predictors.of(subject.release, point.variant, point.provider)
        plan = OWN_PLAN
        if not wish.own_settings:
            plan = predictors.plan(predictor, point.variant, point.tile, size)
        return plan, predictor.answer(*size, plan), None
    except UndecidedError as error:
        return OWN_PLAN, None, str(error)


def _place(facts: HostFacts, made_at: str) -> Place:
    gpus = _cards(facts)
    driver = facts.driver if isinstance(facts.driver, str) else None
    return Place(facts.host, made_at, gpu=gpus[0].name if gpus else None, driver=driver)


def _cards(facts: HostFacts) -> tuple[Gpu, ...]:
    """The cards that a run may be on; with `nuke_gpu` the child sees that one alone."""
    found = nuke_gpus(facts)
    return () if isinstance(found, Unknown) else found


def _ram_mib(facts: HostFacts) -> int:
    """Three quarters of the machine, so that a model that is too large ends and not the machine."""
    return _RAM_SHARE_MIB if isinstance(facts.ram_mib, Unknown) else facts.ram_mib * 3 // 4


def _bad(where: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError("usage", where=where, expected=expected, actual=actual, remedy="choose one of these")
