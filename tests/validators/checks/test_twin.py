from collections.abc import Callable
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.release import Release, Requires, Variant
from changeover_validators.checks.twin import embedded_runtime, target_line, torch_lines, twin_of, twin_runtime
from changeover_validators.classes import golden_class_of
from changeover_validators.probe import forged_host, nuke_install

MakeVariant = Callable[..., Variant]


def torch(version: str) -> RuntimeFacts:
    return RuntimeFacts(name="torch", version=version, interpreter=f"/{version}/bin/python", providers=("cpu",))


def host(*versions: str, nukes: tuple[NukeInstall, ...] = ()) -> HostFacts:
    return forged_host("no-gpu").model_copy(update={"runtimes": tuple(map(torch, versions)), "nukes": nukes})


def cat(make_variant: MakeVariant, line: str | None = "2.1.1") -> Variant:
    return make_variant(
        id="cat",
        runtime="nuke-cat",
        entry="roto.cat",
        loaders=("nuke-inference",),
        requires=Requires(torch_line=line),
        derived_from="ts",
    )


def script(make_variant: MakeVariant, line: str | None = None) -> Variant:
    requires = Requires(torch_line=line)
    return make_variant(id="ts", runtime="torchscript", entry="m.pt", loaders=("python",), requires=requires)


@pytest.mark.parametrize(
    ("nukes", "lines", "target"),
    [
        ((), ("2.1.1",), "2.1.1"),
        (("15.1v3",), ("2.1.1",), "2.1.1"),
        (("15.0v4", "15.1v3"), ("2.1.1",), "2.1.1"),
        (("17.0v3",), ("2.7.1",), "2.7.1"),
        (("17.0v3", "15.1v3"), ("2.1.1", "2.7.1"), "2.1.1"),
        (("15.0v4",), (), None),
    ],
)
def test_the_line_is_what_a_nuke_that_loads_the_file_embeds(
    make_variant: MakeVariant, nukes: tuple[str, ...], lines: tuple[str, ...], target: str | None
) -> None:
    facts = host("2.13.0", nukes=tuple(map(nuke_install, nukes)))

    assert torch_lines(cat(make_variant), facts) == lines
    assert target_line(cat(make_variant), facts) == target


def test_a_nuke_of_unknown_torch_gives_no_line(make_variant: MakeVariant) -> None:
    unknown = NukeInstall(version="99.0v1", torch_line=Unknown(unknown="the tables do not know it"))

    assert torch_lines(cat(make_variant), host(nukes=(unknown,))) == ()
    assert torch_lines(cat(make_variant, None), host()) == ()
    assert embedded_runtime(unknown) is None


@pytest.mark.parametrize("there", [("2.13.0+cpu",), ("2.1.2", "2.1.0"), (), ("2.2.1+cu121", "2.7.1")])
def test_another_line_does_not_stand_in(make_variant: MakeVariant, there: tuple[str, ...]) -> None:
    assert twin_runtime(script(make_variant), "2.1.1", host(*there)) is None


@pytest.mark.parametrize("claimed", [None, "1.12.1", "2.1.1"])
def test_the_interpreter_of_that_line_is_taken_whatever_the_twin_would_load_in(
    make_variant: MakeVariant, claimed: str | None
) -> None:
    facts = host("2.13.0+cpu", "2.1.1+cu118", "2.7.1")

    found = twin_runtime(script(make_variant, claimed), "2.1.1", facts)

    assert found == torch("2.1.1+cu118")


def test_onnxruntime_of_the_same_number_is_no_torch(make_variant: MakeVariant) -> None:
    runtime = RuntimeFacts(name="onnxruntime", version="2.1.1", interpreter="/python", providers=("cpu",))
    facts = host().model_copy(update={"runtimes": (runtime,)})

    assert twin_runtime(script(make_variant), "2.1.1", facts) is None
    assert (
        twin_runtime(script(make_variant), "2.1.1", facts.model_copy(update={"runtimes": Unknown(unknown="x")})) is None
    )


def test_a_twin_is_the_torchscript_variant_that_the_cat_names(
    make_release: Callable[..., Release], make_variant: MakeVariant
) -> None:
    twin, plain = script(make_variant), make_variant()
    release = make_release(variants=(cat(make_variant), twin, plain))

    def named(other: str | None) -> Any:
        return twin_of(release, cat(make_variant).model_copy(update={"derived_from": other}))

    assert named("ts") == twin
    assert named(None) is None
    assert named("onnx-fp32") is None
    assert named("gone") is None


def test_what_was_measured_under_a_line_is_found_by_the_nuke_that_embeds_it() -> None:
    facts = host("2.1.1+cpu")
    measured = golden_class_of(facts, facts.runtimes[0], "cpu", "fp32")  # type: ignore[index]

    def looked_up(version: str) -> str:
        embedded = embedded_runtime(nuke_install(version))
        assert embedded is not None
        return golden_class_of(facts, embedded, "cpu", "fp32")

    assert looked_up("15.1v3") == looked_up("16.0v2") == measured
    assert looked_up("17.0v3") != measured
