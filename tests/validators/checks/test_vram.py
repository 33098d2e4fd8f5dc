from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryPart,
    MemoryRange,
    Steady,
)
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport
from changeover_validators.checks.budget import MIB, Budget, budget
from changeover_validators.checks.vram import Gate, Memory, changeover_gate, check_vram, footprint_at
from changeover_validators.devices import NO_INTERPRETER
from changeover_validators.probe import forged_host
from changeover_validators.vram.footprint import Footprint

PLATE = (4096, 2160)
UNKNOWN = Unknown(unknown="not asked")
ALONE = Policy(vram=VramPolicy(instances=1))


def point(provider: str = "cuda", tile: int = 0) -> OperatingPoint:
    return OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=tile), provider=provider)


def at(size_bytes: int, plate: tuple[int, int] = PLATE, requested: int | None = None) -> CurvePoint:
    return CurvePoint(width=plate[0], height=plate[1], bytes=size_bytes, requested_bytes=requested)


def host(*gpus: Gpu) -> HostFacts:
    return forged_host("rtx-2070-8gib").model_copy(update={"gpus": gpus})


def card(**fields: object) -> Gpu:
    return forged_host("rtx-2070-8gib").gpus[0].model_copy(update=fields)  # type: ignore[index]


def allowed(facts: HostFacts, policy: Policy = ALONE, provider: str = "cuda") -> int:
    found = budget(facts, policy, provider)
    assert isinstance(found, Budget)
    return found.allowed_bytes


def predicted(total: int, context: int = 0) -> MemoryAnswer:
    key = MemoryKey(model="a" * 64, runtime="onnxruntime", version="1.26.0", provider="cuda", width=4096, height=2176)
    parts = (
        MemoryPart(name="context", bytes=context, label="calibrated"),
        MemoryPart(name="activations", bytes=total - context, label="modelled"),
    )
    return MemoryAnswer(
        key=key,
        steady=Steady(in_use_bytes=total - context, arena_bytes=total - context),
        range=MemoryRange(low_bytes=total - context, high_bytes=total - context, sessions=5),
        parts=parts,
        total_bytes=total,
        requested_bytes=total - context,
        label="modelled",
    )


def judged(total: int, context: int, policy: Policy, **more: Any) -> Finding:
    memory = Memory((at(total, requested=total),), predicted(total, context))
    return check_vram(point(), memory, forged_host("rtx-2070-8gib"), policy, **more)


def test_what_fits_exactly_passes_and_one_byte_more_is_refused() -> None:
    facts = forged_host("rtx-2070-8gib")
    most = allowed(facts)

    assert isinstance(judged(most, 0, ALONE), Passed)
    refused = judged(most + 1, 0, ALONE, largest=Tile(size=1024, overlap=64))

    assert isinstance(refused, Refused)
    assert refused.rule == "VRAM budget"
    assert f"at most {most // MIB} MiB" in refused.expected
    assert "1024 for Nuke" in refused.expected
    assert f"{most // MIB + 1} MiB at 4096x2160" in refused.actual
    assert "onnx-fp32/1024+64/cuda" in refused.remedy


def test_context_is_a_part_of_a_new_prediction_and_added_to_an_old_one() -> None:
    facts = forged_host("rtx-2070-8gib")
    most = allowed(facts)
    old_record = Memory((at(most - 399 * MIB),))

    assert isinstance(judged(most, 400 * MIB, ALONE), Passed)
    assert isinstance(check_vram(point(), old_record, facts, ALONE), Refused)
    assert isinstance(check_vram(point(), Memory((at(most - 400 * MIB),)), facts, ALONE), Passed)
    assert isinstance(check_vram(point(), Memory((at(most, requested=1),)), facts, ALONE), Passed)


def test_old_prediction_on_the_cpu_has_no_context() -> None:
    facts = forged_host("no-gpu")
    memory = Memory((at(allowed(facts, ALONE, "cpu")),))

    assert isinstance(check_vram(point("cpu"), memory, facts, ALONE), Passed)


def test_two_instances_are_counted_by_default_and_the_context_once() -> None:
    most = allowed(forged_host("rtx-2070-8gib"))
    context = 400 * MIB
    half = (most - context) // 2

    assert isinstance(judged(context + half, context, Policy()), Passed)
    refused = judged(context + half + 1, context, Policy())

    assert isinstance(refused, Refused)
    assert "2 instances" in refused.actual
    assert isinstance(judged(context + half + 1, context, ALONE), Passed)


def test_changeover_is_refused_with_both_resident_and_passes_when_the_policy_unloads_first() -> None:
    most = allowed(forged_host("rtx-2070-8gib"))
    old = Footprint(0, most // 2)
    first = Policy(vram=VramPolicy(instances=1, changeover="unload-first"))

    refused = judged(most // 2 + MIB, 0, ALONE, old=old)
    passed = judged(most // 2 + MIB, 0, first, old=old)

    assert isinstance(refused, Refused)
    assert refused.rule == "VRAM budget at the changeover"
    assert "while the release in use is resident" in refused.actual
    assert "unload-first" in refused.remedy
    assert isinstance(passed, Passed)
    assert "unloading first" in passed.detail
    assert isinstance(judged(most // 2 - MIB, 0, ALONE, old=old), Passed)


def test_model_that_does_not_fit_alone_is_refused_for_that_and_not_for_the_changeover() -> None:
    refused = judged(allowed(forged_host("rtx-2070-8gib")) + 1, 0, ALONE, old=Footprint(0, 1))

    assert isinstance(refused, Refused)
    assert refused.rule == "VRAM budget"


def test_release_in_use_of_unknown_size_is_said_and_left_to_the_gate() -> None:
    passed = judged(MIB, 0, ALONE, old=UNKNOWN)

    assert isinstance(passed, Passed)
    assert "of which nothing is known" in passed.detail


def test_refusal_without_a_search_still_says_what_to_do() -> None:
    found = check_vram(point("cpu"), Memory((at(1 << 50),)), forged_host("no-gpu"), Policy())

    assert isinstance(found, Refused)
    assert found.rule == "RAM budget"
    assert "smaller tile" in found.remedy


def test_no_curve_is_not_run() -> None:
    assert isinstance(check_vram(point(), Memory(), forged_host("rtx-2070-8gib"), Policy()), NotRun)


def test_unknown_budget_is_not_run_with_its_reason() -> None:
    found = check_vram(point(), Memory((at(1),)), forged_host("unknown-gpus"), Policy())

    assert isinstance(found, NotRun)
    assert "No module named" in found.why


def test_larger_plate_that_fits_answers_and_one_that_does_not_says_nothing() -> None:
    facts = forged_host("rtx-2070-8gib")
    too_large = Memory((at(1 << 40, (8192, 4320)), at(MIB, (1920, 1080))))

    fits = check_vram(point(), Memory((at(MIB, (8192, 4320)),)), facts, Policy())
    exceeds = check_vram(point(), too_large, facts, Policy())

    assert isinstance(fits, Passed)
    assert "predicted at 8192x4320" in fits.detail
    assert isinstance(exceeds, NotRun)
    assert "no prediction at 4096x2160" in exceeds.why


def test_plate_between_two_known_ones_is_refused_by_the_least_that_it_asks_for() -> None:
    facts = forged_host("rtx-2070-8gib")
    most = allowed(facts)
    pixels = 4096 * 2160
    smaller, larger = at(1, (2048, 1080), most // 2), at(4 * most, (8192, 4320), 8 * most)
    half = at(1, (1024, 540), most // 8)

    # The line through the two plates below asks for `most` at this one, all but what was rounded off.
    line = check_vram(point(), Memory((half, smaller, larger)), facts, ALONE)
    below = check_vram(point(), Memory((half, at(1, (2048, 1080), most // 2 + MIB), larger)), facts, ALONE)
    steady = check_vram(point(), Memory((at(1, (2048, 1080), most + 1),)), facts, ALONE)

    assert pixels == 4 * 2048 * 1080
    assert isinstance(line, Refused)
    assert isinstance(below, Refused)
    assert "by the plates known" in below.actual
    assert isinstance(steady, Refused)


def test_attention_model_is_not_drawn_out_beyond_the_largest_plate_known() -> None:
    facts = forged_host("rtx-2070-8gib")
    most = allowed(facts)
    rising = (at(1, (1024, 540), most // 16), at(1, (2048, 1080), most // 2))

    plain = check_vram(point(), Memory(rising), facts, ALONE)
    attention = check_vram(point(), Memory(rising, attention=True), facts, ALONE)

    assert isinstance(plain, Refused)
    assert isinstance(attention, NotRun)


@settings(deadline=None)
@given(order=st.permutations(range(3)), needed=st.integers(0, 10_000 * MIB))
def test_order_of_cards_and_of_the_curve_changes_no_answer(order: list[int], needed: int) -> None:
    cards = [card(total_mib=8192), card(total_mib=16384, uuid="b"), card(total_mib=6144, uuid="c")]
    curve = [at(needed), at(needed * 2, (8192, 4320)), at(needed // 2, (1920, 1080))]
    shuffled = Memory(tuple(curve[index] for index in order))

    found = check_vram(point(), shuffled, host(*(cards[index] for index in order)), Policy())

    assert found == check_vram(point(), Memory(tuple(curve)), host(*cards), Policy())


def test_footprint_of_a_report_is_read_at_the_policys_plate_alone() -> None:
    report = PointReport(point=point(), memory=(at(1000, (1920, 1080)), at(9 * MIB, PLATE)))
    other = ALONE.model_copy(update={"vram": VramPolicy(plate=(512, 512))})

    assert footprint_at(report, ALONE) == Footprint(400 * MIB, 9 * MIB)
    assert footprint_at(report, other) is None


@pytest.mark.parametrize(("free", "answer"), [(4000, "go"), (3999, "wait")])
def test_gate_goes_when_one_instance_has_room_and_waits_when_it_has_not(free: int, answer: str) -> None:
    gate = changeover_gate(host(card(free_mib=free)), Footprint(400 * MIB, 3600 * MIB))

    assert gate.answer == answer
    assert ("4000 are needed" in gate.why) is (answer == "wait")


def test_gate_counts_what_the_release_in_use_gives_back_first() -> None:
    needed, old = Footprint(400 * MIB, 3600 * MIB), Footprint(400 * MIB, 3000 * MIB)

    assert changeover_gate(host(card(free_mib=1000)), needed).answer == "wait"
    assert changeover_gate(host(card(free_mib=1000)), needed, old).answer == "go"


def test_gate_waits_where_free_memory_is_not_known_and_goes_where_nothing_is_loaded_on_a_gpu() -> None:
    needed = Footprint(0, 1)

    assert changeover_gate(host(card(free_mib=UNKNOWN)), needed).answer == "wait"
    assert changeover_gate(host(card(free_mib=UNKNOWN)), None) == Gate("go")
    assert changeover_gate(forged_host("no-gpu"), needed) == Gate("go")


@pytest.mark.parametrize(
    ("low", "label", "kind"),
    [
        (0.5, "modelled", NotRun),
        (0.5, "calibrated", Refused),
        (1.1, "modelled", Refused),
    ],
    ids=["budget between the ends", "ends of a calibrated card", "both ends over it"],
)
def test_budget_between_what_a_card_takes_at_least_and_at_most_is_refused_only_where_it_was_measured(
    low: float, label: str, kind: type[Finding]
) -> None:
    facts = forged_host("rtx-2070-8gib")
    room = allowed(facts)
    answer = predicted(room * 2).model_copy(update={"label": label})
    curve = (at(room * 2, requested=MIB).model_copy(update={"low_bytes": int(room * low)}),)

    found = check_vram(point(), Memory(curve, answer), facts, ALONE)

    assert isinstance(found, kind)
    assert found.code == ("workspace-unknown" if kind is NotRun else "over-budget")
    if isinstance(found, NotRun):
        assert "never measured" in found.why
        assert "changeover measure" in found.remedy


def test_budget_that_no_interpreter_could_tell_is_learned_by_naming_one() -> None:
    unseen = host().model_copy(update={"gpus": Unknown(unknown=NO_INTERPRETER)})

    found = check_vram(point(), Memory((at(MIB),)), unseen, ALONE)

    assert isinstance(found, NotRun)
    assert "name an interpreter with the extra run" in str(found.remedy)


@pytest.mark.parametrize("old", [None, Footprint(0, 1 << 50)], ids=["alone", "beside the release in use"])
def test_tensor_of_one_size_is_told_without_plate_and_no_smaller_tile_is_advised(old: Footprint | None) -> None:
    facts = forged_host("rtx-2070-8gib")
    size = MIB if old else 1 << 50
    free = check_vram(point(), Memory((at(size),)), facts, Policy(), old=old)
    one = check_vram(point(), Memory((at(size),), one_size=True), facts, Policy(), old=old)

    assert isinstance(free, Refused)
    assert isinstance(one, Refused)
    assert ("smaller tile" in free.remedy, "smaller tile" in one.remedy) == (True, False)
    assert ("4096x2160" in free.actual, "4096x2160" in one.actual) == (True, False)
    assert "release in use" not in one.actual or old is not None
