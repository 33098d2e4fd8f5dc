from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.findings import Passed
from changeover_registry.records.policy import HardwarePolicy, Policy
from changeover_registry.records.release import Release, Requires, Variant
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport
from changeover_validators.checks.hardware import check_hardware
from changeover_validators.checks.impact import elsewhere, impact
from changeover_validators.classes import host_class
from changeover_validators.probe import forged_host, forged_hosts

MakeRelease = Callable[..., Release]
MakeVariant = Callable[..., Variant]
ON_CPU = Policy(hardware=HardwarePolicy(serve_on_cpu=True))


def updated(facts: HostFacts, version: str, toolkit: str, **other: object) -> HostFacts:
    """The host with its onnxruntime updated in place, telling no architectures, so that the table tells them."""
    assert isinstance(facts.runtimes, tuple)
    change = {"version": version, "toolkit": toolkit, "architectures": None, "cudnn": "9"}
    runtimes = tuple(r.model_copy(update=change) if r.name == "onnxruntime" else r for r in facts.runtimes)
    return facts.model_copy(update={"runtimes": runtimes, **other})


@pytest.mark.parametrize("name", forged_hosts())
def test_nothing_changed_is_no_impact(make_release: MakeRelease, name: str) -> None:
    facts = forged_host(name)

    found = impact(facts, facts, (make_release(),), ON_CPU)

    assert (found.changes, found.effects, found.same_class) == ((), (), True)


def test_update_from_cuda_12_to_13_is_a_breaking_change_and_says_what_it_asks_for(make_release: MakeRelease) -> None:
    before = forged_host("quadro-p4000-8gib")

    found = impact(before, updated(before, "1.31.1", "13.0"), (make_release(),), Policy())

    (change,) = found.changes
    assert change.breaking == (
        "CUDA 12 becomes CUDA 13: the least driver goes from 525.60.13 to 580.65.06, and compute capability 7.5 "
        "becomes the lowest that is served (it was 5.0); this host has driver 535.216.01"
    )
    assert found.breaks
    assert not found.same_class
    assert {effect.code for effect in found.effects} == {"driver-too-old", "architecture-missing"}
    assert all(effect.remedy.startswith("it stays in use as installed; ") for effect in found.effects)


def test_update_within_cuda_12_breaks_nothing_and_re_opens_golden_speed_and_memory(make_release: MakeRelease) -> None:
    before = forged_host("rtx-a4000-16gib")

    found = impact(before, updated(before, "1.25.1", "12.8"), (make_release(),), Policy())

    assert not found.breaks
    assert [change.breaking for change in found.changes] == [""]
    assert [effect.kind for effect in found.effects] == ["reopens", "reopens"]
    golden, memory = sorted(effect.why for effect in found.effects)
    assert "judged in another class" in golden
    assert memory == "memory was found for onnxruntime 1.26.0, now 1.25.1"
    assert all("changeover check acme/person-roto@1.0.0" in effect.remedy for effect in found.effects)


def test_patch_of_a_runtime_re_opens_memory_and_not_golden(make_release: MakeRelease) -> None:
    before = forged_host("rtx-a4000-16gib")

    found = impact(before, updated(before, "1.26.1", "12.8"), (make_release(),), Policy())

    assert [effect.why for effect in found.effects] == ["memory was found for onnxruntime 1.26.0, now 1.26.1"]


def test_patch_of_a_driver_re_opens_memory_alone(make_release: MakeRelease) -> None:
    before = forged_host("rtx-a4000-16gib")

    found = impact(before, before.model_copy(update={"driver": "570.200.01"}), (make_release(),), Policy())

    assert [(change.what, change.after) for change in found.changes] == [("driver", "570.200.01")]
    assert [effect.why for effect in found.effects] == ["memory was found for driver 570.133.07, now 570.200.01"]


def test_driver_that_drops_the_card_breaks_what_runs(make_release: MakeRelease) -> None:
    before = forged_host("quadro-p4000-8gib")

    found = impact(before, before.model_copy(update={"driver": "590.44.01"}), (make_release(),), Policy())

    assert {effect.code for effect in found.effects if effect.kind == "breaks"} == {"driver-too-new"}


def test_better_driver_mends_what_did_not_run(make_release: MakeRelease) -> None:
    before = forged_host("old-driver-16gib")

    found = impact(
        before, before.model_copy(update={"driver": "580.82.07", "cuda_driver": "13.0"}), (make_release(),), Policy()
    )

    assert [effect.kind for effect in found.effects] == ["mends"]
    assert not found.breaks


def test_gpu_that_is_taken_out_breaks_with_the_reason_of_the_variant(make_release: MakeRelease) -> None:
    before = forged_host("rtx-a4000-16gib")
    after = before.model_copy(update={"gpus": ()})

    (refused,) = impact(before, after, (make_release(),), Policy()).effects
    served = impact(before, after, (make_release(),), ON_CPU)

    assert (refused.kind, refused.subject, refused.code) == ("breaks", "onnx-fp32/cuda", "no-gpu")
    assert {(e.kind, e.subject) for e in served.effects} == {("breaks", "onnx-fp32/cuda"), ("mends", "onnx-fp32/cpu")}


def test_fact_that_is_no_longer_known_leaves_it_unknown_and_not_broken(make_release: MakeRelease) -> None:
    before = forged_host("rtx-a4000-16gib")
    after = before.model_copy(update={"driver": forged_host("unknown-gpus").driver})

    found = impact(before, after, (make_release(),), Policy())

    assert (found.breaks, found.unsure) == (False, True)
    assert "unknown (" in found.changes[0].after


def test_nuke_that_is_gone_or_new_is_told_for_a_cat(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    cat = make_variant(
        id="cat",
        runtime="nuke-cat",
        entry="roto.cat",
        loaders=("nuke-inference",),
        requires=Requires(torch_line="2.1.1"),
    )
    before = forged_host("rtx-a4000-16gib")
    after = before.model_copy(update={"nukes": (NukeInstall(version="17.0v1", torch_line="2.7.1"),)})

    found = impact(before, after, (make_release(variants=(cat,)),), Policy())

    assert {change.what for change in found.changes} == {"Nuke 15.1v3", "Nuke 16.0v2", "Nuke 17.0v1"}
    kinds = {effect.subject: effect.kind for effect in found.effects}
    assert kinds == {"cat/nuke-15.1": "breaks", "cat/nuke-16.0": "breaks", "cat/nuke-17.0": "mends"}


def test_other_gpu_is_told_by_its_name_and_re_opens(make_release: MakeRelease) -> None:
    before, other = forged_host("rtx-a4000-16gib"), forged_host("rtx-6000-ada-48gib")

    found = impact(before, before.model_copy(update={"gpus": other.gpus}), (make_release(),), Policy())

    assert any("NVIDIA RTX 6000 Ada Generation (8.9" in change.after for change in found.changes)
    assert [effect.kind for effect in found.effects] == ["reopens", "reopens"]


def test_golden_class_that_cannot_be_told_any_more_is_re_opened(make_release: MakeRelease) -> None:
    before = forged_host("no-gpu")
    after = before.model_copy(update={"cpu_level": forged_host("unknown-gpus").driver})

    (effect,) = impact(before, after, (make_release(),), ON_CPU).effects

    assert (effect.kind, effect.code) == ("unknown", "cpu-level-unknown")


def report(release: Release, provider: str, size_bytes: int | None) -> PointReport:
    """An operating point in use: predicted at the policy's plate, or by nobody."""
    variant = release.variants[0]
    point = OperatingPoint(variant=variant.id, precision="fp32", tile=variant.contract.tiles[0], provider=provider)
    width, height = Policy().vram.plate
    curve = () if size_bytes is None else (CurvePoint(width=width, height=height, bytes=size_bytes),)
    return PointReport(point=point, memory=curve)


def with_less_memory(facts: HostFacts, mib: object) -> HostFacts:
    """The same card with other memory on it; the RAM where there is no card."""
    if not facts.gpus:
        return facts.model_copy(update={"ram_mib": mib})
    assert isinstance(facts.gpus, tuple)
    return facts.model_copy(update={"gpus": tuple(g.model_copy(update={"total_mib": mib}) for g in facts.gpus)})


@pytest.mark.parametrize(
    ("host", "provider", "left_mib", "before"),
    [("rtx-a4000-16gib", "cuda", 4096, " MiB allowed before, "), ("no-gpu", "cpu", 2000, " MiB allowed before, ")],
)
def test_less_memory_breaks_an_operating_point_that_had_room(
    make_release: MakeRelease, host: str, provider: str, left_mib: int, before: str
) -> None:
    facts, release = forged_host(host), make_release()
    points = {release.ref(): (report(release, provider, 3 << 30),)}

    found = impact(facts, with_less_memory(facts, left_mib), (release,), ON_CPU, points)

    (broken,) = (effect for effect in found.effects if effect.kind == "breaks")
    assert (broken.subject, broken.code) == (f"onnx-fp32/none/{provider}", "over-budget")
    assert "expected at most" in broken.why
    assert before in broken.why
    assert broken.why.endswith(" MiB after")
    assert found.breaks


def test_memory_that_is_the_same_or_more_breaks_nothing(make_release: MakeRelease) -> None:
    facts, release = forged_host("no-gpu"), make_release()
    points = {release.ref(): (report(release, "cpu", 3 << 30),)}
    assert isinstance(facts.ram_mib, int)

    assert impact(facts, with_less_memory(facts, facts.ram_mib + 1024), (release,), ON_CPU, points).effects == ()
    assert (
        impact(with_less_memory(facts, 2000), with_less_memory(facts, 1900), (release,), ON_CPU, points).effects == ()
    )


@pytest.mark.parametrize(
    ("size_bytes", "left", "why"),
    [
        (None, 2000, "no prediction of memory for this variant"),
        (3 << 30, Unknown(unknown="not asked"), "the memory budget is unknown: not asked"),
    ],
)
def test_less_memory_for_what_cannot_be_compared_is_unknown(
    make_release: MakeRelease, size_bytes: int | None, left: object, why: str
) -> None:
    facts, release = forged_host("no-gpu"), make_release()
    points = {release.ref(): (report(release, "cpu", size_bytes),)}

    found = impact(facts, with_less_memory(facts, left), (release,), ON_CPU, points)

    assert [(effect.kind, effect.subject) for effect in found.effects] == [("unknown", "onnx-fp32/none/cpu")]
    assert found.effects[0].why.startswith(why)
    assert " MiB allowed before, " in found.effects[0].why
    assert (found.breaks, found.unsure) == (False, True)


def test_host_that_would_run_it_but_has_no_room_mends_nothing(make_release: MakeRelease) -> None:
    before, after, release = forged_host("old-driver-16gib"), forged_host("rtx-a4000-16gib"), make_release()

    def kinds(size_bytes: int) -> list[str]:
        points = {release.ref(): (report(release, "cuda", size_bytes),)}
        return [effect.kind for effect in impact(before, after, (release,), Policy(), points).effects]

    assert kinds(1 << 30) == ["mends"]
    assert kinds(64 << 30) == []


def test_other_machine_is_told_without_what_only_this_one_has(make_release: MakeRelease) -> None:
    before, release = forged_host("no-gpu"), make_release()
    here = impact(before, forged_host("rtx-a4000-16gib"), (release,), ON_CPU)
    refused = impact(forged_host("quadro-p4000-8gib"), forged_host("old-driver-16gib"), (release,), ON_CPU)

    assert {effect.kind for effect in here.effects} == {"breaks", "mends"}
    assert elsewhere(here).effects == ()
    assert refused.breaks
    assert elsewhere(refused) == refused


def test_other_machine_with_another_provider_is_told_why_it_does_not_run_there(make_release: MakeRelease) -> None:
    before, release = forged_host("no-gpu"), make_release()
    points = {release.ref(): (report(release, "cpu", 1 << 30), report(release, "cuda", 64 << 30))}

    old_driver = elsewhere(impact(before, forged_host("old-driver-16gib"), (release,), ON_CPU, points))
    small = elsewhere(impact(before, forged_host("rtx-a4000-16gib"), (release,), ON_CPU, points))

    assert [(e.kind, e.code) for e in old_driver.effects] == [("breaks", "driver-too-old")]
    assert [(e.kind, e.code, e.subject) for e in small.effects] == [
        ("breaks", "over-budget", "onnx-fp32/none/cuda"),
    ]


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=st.sampled_from(forged_hosts()), other=st.sampled_from(forged_hosts()))
def test_effects_are_what_the_hardware_check_says_of_both_hosts(
    make_release: MakeRelease, one: str, other: str
) -> None:
    before, after, release = forged_host(one), forged_host(other), make_release()

    found = impact(before, after, (release,), ON_CPU)

    def runs(facts: HostFacts) -> set[str]:
        given_ = check_hardware(release, facts, ON_CPU)
        subjects = {f.subject for f in given_ if "/" in f.subject}
        return {s for s in subjects if all(isinstance(f, Passed) for f in given_ if f.subject == s)}

    assert {e.subject for e in found.effects if e.kind in {"breaks", "unknown"}} == runs(before) - runs(after)
    assert {e.subject for e in found.effects if e.kind == "mends"} == runs(after) - runs(before)
    assert found.same_class == (host_class(before) == host_class(after))
