"""What measuring needs of this machine: its places, its verified knowledge, its facts, and the models that it runs."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from changeover_registry.errors import UndecidedError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Release, ReleaseRef, Variant
from changeover_registry.records.verdict import OperatingPoint
from changeover_updater.install import Progress, install_variants
from changeover_updater.runtimes import Runtimes
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.studio import Studio

if TYPE_CHECKING:
    from changeover_validators.golden.pipeline import Subject
    from changeover_validators.runtimes.interface import Process

__all__ = ["Bench", "Cost", "Models", "Watch", "variant_of"]


@dataclass(frozen=True, slots=True)
class Watch:
    """Where progress goes: a line of text, and bytes of a file."""

    step: Callable[[str], None]
    bytes: Progress

    @classmethod
    def silent(cls) -> Self:
        """Nobody watches."""
        return cls(lambda _: None, lambda _name, _more, _total: None)


@dataclass(frozen=True, slots=True)
class Bench:
    """The workbench: site, station, what the studio knows, this machine's facts, and where progress goes."""

    site: Site
    station: Station
    studio: Studio
    own: HostFacts
    watch: Watch

    @property
    def store(self) -> Store:
        """Where releases are installed."""
        return self.station.store

    @property
    def runtimes(self) -> Runtimes:
        """What runs models here."""
        return Runtimes(self.own, self.studio.policy)

    def folder(self, release: Release, variant: Variant) -> Path:
        """Where a variant is installed."""
        return self.store.variant_folder(release.ref(), variant.id)

    def install(self, release: Release, variants: tuple[Variant, ...]) -> None:
        """Bring variants of a release here, and hash those that are here.

        Raises:
            TrustError: A file's bytes are not the signed ones.
            UnreachableError: The vendor's repository does not answer.
            OSError: The disk is full or read-only.
        """
        self.watch.step(f"install {release.ref()}")
        install_variants(self.store, self.site.vendor_of(release.model), release, variants, self.watch.bytes)

    def release(self, ref: ReleaseRef) -> Release:
        """The verified record of a release.

        Raises:
            UndecidedError: No trusted vendor's metadata here lists it.
        """
        found = self.studio.release(ref)
        if found is None:
            raise UndecidedError(
                "release",
                where=str(ref),
                expected="a release that a trusted vendor's metadata lists",
                actual="none of that name and digest here",
                remedy="run changeover sync, then this again",
            )
        return found


def variant_of(release: Release, point: OperatingPoint) -> Variant:
    """The variant that an operating point names.

    Raises:
        UndecidedError: The release has none of that name.
    """
    found = release.variant(point.variant)
    if found is None or point.tile not in found.contract.tiles:
        raise UndecidedError(
            "operating point",
            where=str(release.ref()),
            expected=f"the variant and tile of {point}",
            actual=", ".join(f"{v.id} with {' '.join(map(str, v.contract.tiles))}" for v in release.variants),
            remedy="run changeover check again; this point is not the record's",
        )
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds until the first frame may come, and the most resident memory; both with the isolation.

    What the first run of all compiles belongs to it: on a GPU that a runtime was not built for that is minutes.
    """

    load_us: int
    peak_rss_bytes: int


@dataclass(slots=True)
class Models:
    """The models of one thread: each is started when it is first needed, and all end with the block."""

    bench: Bench
    _stack: ExitStack = field(default_factory=ExitStack)
    _running: "dict[tuple[str, OperatingPoint, MemoryPlan | None], tuple[Process, Subject]]" = field(
        default_factory=dict
    )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.clear()
        self._stack.close()

    def subject(self, release: Release, point: OperatingPoint, plan: MemoryPlan | None = None) -> "Subject":
        """A release's loaded model at an operating point, under a memory plan or the runtime's own settings.

        Raises:
            UndecidedError: Nothing here runs it.
            MeasurementError: It does not load.
        """
        return self._open(release, point, plan)[1]

    def cost(self, release: Release, point: OperatingPoint, plan: MemoryPlan | None = None) -> Cost:
        """What a model that was started has cost so far."""
        process, _ = self._open(release, point, plan)
        return Cost(process.started.first_load_us + process.compile_us, process.peak_rss_bytes)

    def _open(self, release: Release, point: OperatingPoint, plan: MemoryPlan | None) -> "tuple[Process, Subject]":
        from changeover_validators.golden.pipeline import Subject

        key = (release.digest(), point, plan)
        if key not in self._running:
            runtimes = self.bench.runtimes
            ran = runtimes.evidence(release, variant_of(release, point))
            self.bench.install(release, (ran.variant,))
            self.bench.watch.step(f"start {release.ref()} {point}")
            folder = self.bench.folder(release, ran.variant)
            model = self._stack.enter_context(runtimes.process(release, ran, folder, point.tile, point.provider, plan))
            subject = Subject(model, ran.variant.contract, release.interface.inputs, model.started)
            self._running[key] = model, subject
        return self._running[key]
