import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_registry.records.findings import NotRun, Passed, Refused
from changeover_registry.records.policy import HardwarePolicy, Policy, VramPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import CurvePoint, OperatingPoint
from changeover_validators.checks.vram import MIB, budget, check_vram
from changeover_validators.probe import forged_host

PLATE = (4096, 2160)
UNKNOWN = Unknown(unknown="not asked")


def point(provider: str = "cuda", tile: int = 0) -> OperatingPoint:
    return OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=tile), provider=provider)


def at(size_bytes: int, plate: tuple[int, int] = PLATE) -> CurvePoint:
    return CurvePoint(width=plate[0], height=plate[1], bytes=size_bytes)


def host(*gpus: Gpu) -> HostFacts:
    return forged_host("rtx-2070-8gib").model_copy(update={"gpus": gpus})


def card(**fields: object) -> Gpu:
    return forged_host("rtx-2070-8gib").gpus[0].model_copy(update=fields)  # type: ignore[index]


def test_budget_is_what_total_leaves_after_every_reserve() -> None:
    assert budget(forged_host("rtx-2070-8gib"), Policy(), "cuda") == (8192 - 221 - 1024 - 1024 - 512 - 400) * MIB


def test_card_without_a_display_keeps_the_displays_reserve_for_the_model() -> None:
    without = budget(host(card(display=False)), Policy(), "cuda")
    unknown = budget(host(card(display=UNKNOWN)), Policy(), "cuda")

    assert without == (8192 - 221 - 1024 - 512 - 400) * MIB
    assert unknown == budget(host(card(display=True)), Policy(), "cuda")


def test_smallest_of_several_cards_counts() -> None:
    both = budget(forged_host("two-unlike-gpus"), Policy(), "cuda")

    assert both == (5120 - 61 - 1024 - 1024 - 512 - 400) * MIB


@pytest.mark.parametrize("field", ["total_mib", "reserved_mib", "mig"])
def test_unknown_memory_makes_the_budget_unknown(field: str) -> None:
    assert isinstance(budget(host(card(**{field: UNKNOWN})), Policy(), "cuda"), Unknown)


def test_divided_card_unknown_cards_and_no_card_have_no_known_budget() -> None:
    for name in ("a100-mig-80gib", "unknown-gpus", "no-gpu"):
        assert isinstance(budget(forged_host(name), Policy(), "cuda"), Unknown)


def test_cpu_gets_its_share_of_ram_and_unknown_ram_is_unknown() -> None:
    facts = forged_host("no-gpu")

    assert budget(facts, Policy(hardware=HardwarePolicy(ram_share="0.25")), "cpu") == facts.ram_mib * MIB // 4  # type: ignore[operator]
    assert budget(facts.model_copy(update={"ram_mib": UNKNOWN}), Policy(), "cpu") == UNKNOWN


reserves = st.integers(0, 4096)


@settings(deadline=None)
@given(total=st.integers(0, 100_000), more=st.integers(0, 1000), kept=reserves, free=st.integers(0, 9999))
def test_budget_grows_with_memory_falls_with_reserves_and_ignores_what_is_free(
    total: int, more: int, kept: int, free: int
) -> None:
    policy = Policy(vram=VramPolicy(headroom_mib=kept))
    stricter = Policy(vram=VramPolicy(headroom_mib=kept + more))
    facts, larger = host(card(total_mib=total)), host(card(total_mib=total + more))
    answers = [budget(facts, policy, "cuda"), budget(larger, policy, "cuda"), budget(facts, stricter, "cuda")]
    now, with_more, with_less = (answer for answer in answers if isinstance(answer, int))

    assert 0 <= with_less <= now <= with_more
    assert budget(host(card(total_mib=total, free_mib=free, name="Other")), policy, "cuda") == now


@settings(deadline=None)
@given(order=st.permutations(range(3)), needed=st.integers(0, 10_000 * MIB))
def test_order_of_cards_and_of_the_curve_changes_no_answer(order: list[int], needed: int) -> None:
    cards = [card(total_mib=8192), card(total_mib=16384, uuid="b"), card(total_mib=6144, uuid="c")]
    curve = [at(needed), at(needed * 2, (8192, 4320)), at(needed // 2, (1920, 1080))]
    shuffled = tuple(curve[index] for index in order)

    found = check_vram(point(), shuffled, host(*(cards[index] for index in order)), Policy())

    assert found == check_vram(point(), tuple(curve), host(*cards), Policy())


def test_what_fits_exactly_passes_and_one_byte_more_is_refused() -> None:
    facts = forged_host("rtx-2070-8gib")
    allowed = budget(facts, Policy(), "cuda")
    assert isinstance(allowed, int)

    assert isinstance(check_vram(point(), (at(allowed),), facts, Policy()), Passed)
    refused = check_vram(point(), (at(allowed + 1),), facts, Policy(), largest=Tile(size=1024, overlap=64))

    assert isinstance(refused, Refused)
    assert refused.rule == "VRAM budget"
    assert "at most 5011 MiB" in refused.expected
    assert "5012 MiB at 4096x2160" in refused.actual
    assert "onnx-fp32/1024+64/cuda" in refused.remedy


def test_refusal_without_a_search_still_says_what_to_do() -> None:
    found = check_vram(point("cpu"), (at(1 << 50),), forged_host("no-gpu"), Policy())

    assert isinstance(found, Refused)
    assert found.rule == "RAM budget"
    assert "smaller tile" in found.remedy


def test_no_curve_is_not_run() -> None:
    found = check_vram(point(), (), forged_host("rtx-2070-8gib"), Policy())

    assert isinstance(found, NotRun)


def test_unknown_budget_is_not_run_with_its_reason() -> None:
    found = check_vram(point(), (at(1),), forged_host("unknown-gpus"), Policy())

    assert isinstance(found, NotRun)
    assert "No module named" in found.why


def test_larger_plate_that_fits_answers_and_one_that_does_not_says_nothing() -> None:
    facts = forged_host("rtx-2070-8gib")

    fits = check_vram(point(), (at(MIB, (8192, 4320)),), facts, Policy())
    exceeds = check_vram(point(), (at(1 << 40, (8192, 4320)), at(MIB, (1920, 1080))), facts, Policy())

    assert isinstance(fits, Passed)
    assert isinstance(exceeds, NotRun)
    assert "no prediction at 4096x2160" in exceeds.why
