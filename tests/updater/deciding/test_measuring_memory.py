"""What is measured, by which interpreter, and how the command ends."""

from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryMeasurement,
    MemoryPart,
    MemoryRange,
    Steady,
)
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Tile,
    Variant,
)
from changeover_updater.measure import Measured, Wish, point_of, with_runtime
from changeover_updater.predicting import Builder
from changeover_updater.subjects import Subject
from changeover_validators.vram.measure import beside


def variant(name: str, runtime: Any, *tiles: int) -> Variant:
    digest = "ab" * 32
    inside = runtime == "nuke-cat"
    entry = "model.cat" if inside else "model.bin"
    return Variant(
        id=name,
        runtime=runtime,
        precision="fp32",
        loaders=("nuke-inference",) if inside else ("python",),
        entry=entry,
        files=(FileEntry(path=entry, size=1, sha256=digest, blocks=(digest,)),),
        contract=Contract(
            evaluation="stateless",
            inputs=(TensorIn(name="x", port="plate", channels=("R",)),),
            output=TensorOut(name="y", port="matte"),
            colour="srgb",
            multiple=32,
            tiles=tuple(Tile(size=size) for size in tiles),
        ),
        requires=Requires(),
    )


@pytest.fixture
def subject() -> Subject:
    release = Release(
        model="acme/roto",
        version="1.0.0",
        summary="s",
        changes="c",
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("R",), colour="srgb"),),
            outputs=(Port(name="matte", channels=("A",), colour="raw"),),
        ),
        variants=(
            variant("cat", "nuke-cat", 0),
            variant("onnx", "onnx", 0, 1024),
            variant("script", "torchscript", 512),
        ),
    )
    return Subject("acme/roto@1.0.0", release, lambda _: Path("/nowhere"))


def facts(runtimes: Any) -> HostFacts:
    unknown = Unknown(unknown="not asked")
    return HostFacts(
        host="ws-01",
        os="linux",
        kernel="6.1",
        cpu_level=unknown,
        cores=2,
        ram_mib=unknown,
        gpus=(),
        runtimes=runtimes,
    )


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (Wish(), ("onnx", 0, 1952, 1088)),
        (Wish(tile=1024), ("onnx", 1024, 1024, 1024)),
        (Wish(variant="script"), ("script", 512, 512, 512)),
    ],
)
def test_the_first_variant_outside_nuke_and_its_first_tile_are_measured_unless_named(
    subject: Subject, wish: Wish, found: tuple[Any, ...]
) -> None:
    policy = Policy()
    policy = policy.model_copy(update={"vram": policy.vram.model_copy(update={"plate": (1921, 1080)})})
    point = point_of(subject, policy, wish)
    assert (point.variant.id, point.tile.size, point.width, point.height) == found


@pytest.mark.parametrize("wish", [Wish(variant="cat"), Wish(variant="none"), Wish(tile=2048)])
def test_what_the_release_does_not_have_is_invalid(subject: Subject, wish: Wish) -> None:
    with pytest.raises(InvalidInputError):
        point_of(subject, Policy(), wish)


def test_the_runtime_is_the_hosts_own_that_serves_the_provider(subject: Subject) -> None:
    point = point_of(subject, Policy(), Wish())
    old = RuntimeFacts(name="onnxruntime", version="1.20.1", interpreter="/old", providers=("cuda",))
    new = RuntimeFacts(name="onnxruntime", version="1.31.1", interpreter="/new", providers=("cpu",))
    own = facts((old, new))
    assert with_runtime(own, point, ()) == (own, new)


def test_without_a_named_runtime_an_interpreter_of_this_machine_serves(subject: Subject) -> None:
    point = point_of(subject, Policy(), Wish())
    builders = (Builder("torch", "2.13.0", "/torch"), Builder("onnxruntime", "1.31.1", "/here"))
    found, runtime = with_runtime(facts(Unknown(unknown="none named")), point, builders)
    assert (runtime.interpreter, runtime.version) == ("/here", "1.31.1")
    assert found.runtimes == (runtime,)


def test_where_nothing_here_runs_it_the_answer_is_undecided(subject: Subject) -> None:
    point = point_of(subject, Policy(), Wish())
    with pytest.raises(UndecidedError, match="an interpreter that has onnxruntime"):
        with_runtime(facts(()), point, (Builder("torch", "2.13.0", "/torch"),))


@pytest.mark.parametrize(
    ("predicted", "why", "code"), [(1000, None, 0), (1050, None, 0), (1051, None, 3), (900, None, 3), (None, "x", 4)]
)
def test_the_command_ends_by_how_far_the_prediction_was_off(
    subject: Subject, predicted: int | None, why: str | None, code: int
) -> None:
    key = MemoryKey(model="ab" * 32, runtime="onnxruntime", version="1.31.1", provider="cpu", width=64, height=32)
    held = Steady(in_use_bytes=1000, arena_bytes=1000)
    found = MemoryMeasurement(
        key=key,
        host="ws-01",
        made_at="2026-11-22T12:00:00Z",
        runs=5,
        loaded=held,
        first=held,
        steady=held,
        resting_bytes=1000,
        process_bytes=1000,
        accounted_bytes=Unknown(unknown="not asked"),
    )
    answer = None
    if predicted is not None:
        answer = MemoryAnswer(
            key=key,
            steady=Steady(in_use_bytes=predicted, arena_bytes=predicted),
            range=MemoryRange(low_bytes=predicted, high_bytes=predicted, sessions=5),
            parts=(MemoryPart(name="activations", bytes=predicted, label="modelled"),),
            total_bytes=predicted,
            requested_bytes=predicted,
            label="modelled",
        )
    point = point_of(subject, Policy(), Wish())
    done = Measured(point, beside(found, answer), why)
    assert done.exit_code == code
    assert len(done.remarks) == (code != 0)
    assert len(Measured(point, beside(found, answer), why, spilled="it did").remarks) == 1 + (code != 0)
    assert Measured(point, beside(found, answer), why, spilled="it did").exit_code == 3
