"""A release that fits and has no room at this moment is installed and proven, and changed over to later."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from changeover_registry.records.facts import Gpu, HostFacts, RuntimeFacts
from changeover_registry.records.findings import Finding, Passed
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Release, Variant
from changeover_registry.records.verdict import CurvePoint, PointReport
from changeover_updater.update import Outcome, Tools, update
from changeover_validators.classes import golden_class_of

MIB = 1 << 20


@dataclass
class Smoked:
    """A smoke test that passes and remembers what it was given."""

    folders: list[Path] = field(default_factory=list)
    plans: list[MemoryPlan | None] = field(default_factory=list)

    def __call__(self, release: Release, variant: Variant, folder: Path, plan: MemoryPlan | None = None) -> Finding:
        assert variant in release.variants
        assert (folder / variant.entry).is_file()
        self.folders.append(folder)
        self.plans.append(plan)
        return Passed(check="smoke", subject=variant.id)


def with_gpu(facts: HostFacts, free: int) -> HostFacts:
    gpu = Gpu(
        name="NVIDIA RTX A4000",
        uuid="GPU-1",
        compute_capability="8.6",
        total_mib=16376,
        reserved_mib=346,
        free_mib=free,
        display=False,
    )
    runtime = RuntimeFacts(name="onnxruntime", version="1.26.0", interpreter="/python", providers=("cuda", "cpu"))
    driver = {"driver": "570.133.07", "cuda_driver": "12.8"}
    return facts.model_copy(update={"gpus": (gpu,), "runtimes": (runtime,), **driver})


def on_gpu(facts: HostFacts, report: PointReport) -> PointReport:
    assert isinstance(facts.runtimes, tuple)
    return report.model_copy(
        update={
            "point": report.point.model_copy(update={"provider": "cuda"}),
            "golden_class": golden_class_of(facts, facts.runtimes[0], "cuda", "fp32"),
            "memory": (CurvePoint(width=4096, height=2160, bytes=3000 * MIB, requested_bytes=2000 * MIB),),
        }
    )


def run_update(world: Any, facts: HostFacts) -> tuple[Outcome, Smoked]:
    smoked = Smoked()
    tools = Tools("td", lambda _: smoked, lambda _name, _more, _total: None, lambda _: None)
    return update(world.site, world.station, facts, world.now, tools), smoked


def test_release_without_room_is_installed_and_taken_by_a_later_update(world: Any) -> None:
    release = world.publish("1.0.0")
    facts = with_gpu(world.facts, 2999)
    tiles = release.variants[0].contract.tiles
    world.accept(release, points=tuple(on_gpu(facts, world.point(release, tile)) for tile in tiles))
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")

    waits, smoked = run_update(world, facts)
    first = world.station.current()
    later, _ = run_update(world, with_gpu(world.facts, 3000))

    assert (waits.changed, waits.plan.exit_code, first) == (False, 4, None)
    assert "installed, and waits: 2999 MiB are free" in waits.plan.moves[0].why
    assert len(smoked.folders) == 1
    assert (later.changed, later.plan.exit_code) == (True, 0)
    assert world.station.current() == 1
