import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts, MigInstance
from changeover_registry.records.policy import HardwarePolicy, Policy, VramPolicy
from changeover_validators.checks.budget import MIB, Budget, budget, budgets, free_bytes, mib
from changeover_validators.probe import forged_host

UNKNOWN = Unknown(unknown="not asked")
A4000, P2000 = "GPU-a", "GPU-b"
DEFAULT = Policy()


def card(**fields: object) -> Gpu:
    base = {
        "name": "NVIDIA RTX 2070",
        "uuid": "GPU-0",
        "compute_capability": "7.5",
        "total_mib": 8192,
        "reserved_mib": 221,
        "free_mib": 100,
        "display": True,
    }
    return Gpu(**(base | fields))  # type: ignore[arg-type]


def host(*gpus: Gpu, nuke_gpu: str | None = None) -> HostFacts:
    return forged_host("rtx-2070-8gib").model_copy(update={"gpus": gpus, "nuke_gpu": nuke_gpu})


def allowed(facts: HostFacts, policy: Policy = DEFAULT, provider: str = "cuda") -> int:
    found = budget(facts, policy, provider)
    assert isinstance(found, Budget), found
    return found.allowed_bytes // MIB


def instance(total: int, uuid: str = "MIG-1", **fields: object) -> MigInstance:
    base = {"uuid": uuid, "profile": "3g.40gb", "total_mib": total, "reserved_mib": 100, "free_mib": total - 200}
    return MigInstance(**(base | fields))  # type: ignore[arg-type]


def test_budget_is_what_total_leaves_after_every_reserve_and_context_is_not_one() -> None:
    assert allowed(host(card())) == 8192 - 221 - 1024 - 1024 - 512


def test_card_without_a_display_keeps_the_displays_reserve_and_unknown_counts_as_a_display() -> None:
    assert allowed(host(card(display=False))) == 8192 - 221 - 1024 - 512
    assert allowed(host(card(display=UNKNOWN))) == allowed(host(card()))


def test_display_and_compute_cards_have_headrooms_of_their_own_and_else_the_common_one() -> None:
    own = Policy(vram=VramPolicy(headroom_mib=512, display_headroom_mib=2048, compute_headroom_mib=256))
    one = Policy(vram=VramPolicy(headroom_mib=512, compute_headroom_mib=0))

    assert allowed(host(card()), own) == 8192 - 221 - 1024 - 1024 - 2048
    assert allowed(host(card(display=False)), own) == 8192 - 221 - 1024 - 256
    assert allowed(host(card()), one) == 8192 - 221 - 1024 - 1024 - 512
    assert allowed(host(card(display=False)), one) == 8192 - 221 - 1024


def test_each_card_has_a_budget_of_its_own_and_the_least_decides() -> None:
    both = host(card(uuid=A4000, total_mib=16376, display=False), card(uuid=P2000, total_mib=5120))

    found = budgets(both, Policy(), "cuda")

    assert isinstance(found, tuple)
    assert [one.device for one in found if isinstance(one, Budget)] == [A4000, P2000]
    assert allowed(both) == 5120 - 221 - 1024 - 1024 - 512


def test_card_that_nuke_is_set_to_decides_and_no_other() -> None:
    cards = (card(uuid=A4000, total_mib=16376, display=False), card(uuid=P2000, total_mib=UNKNOWN))

    assert allowed(host(*cards, nuke_gpu=A4000)) == 16376 - 221 - 1024 - 512
    assert isinstance(budget(host(*cards), Policy(), "cuda"), Unknown)


def test_card_that_this_host_does_not_have_is_unknown_and_named() -> None:
    found = budget(host(card(), nuke_gpu="GPU-gone"), Policy(), "cuda")

    assert isinstance(found, Unknown)
    assert "GPU-gone" in found.unknown


def test_instances_of_a_divided_card_count_by_their_own_memory() -> None:
    divided = card(mig=True, total_mib=81920, display=False, instances=(instance(40000), instance(20000, "MIG-2")))

    assert allowed(host(divided)) == 20000 - 100 - 1024 - 512
    assert allowed(host(divided, nuke_gpu="MIG-1")) == 40000 - 100 - 1024 - 512
    assert allowed(host(divided, nuke_gpu="GPU-0")) == 20000 - 100 - 1024 - 512


@pytest.mark.parametrize(
    "divided",
    [{"mig": True}, {"mig": True, "instances": ()}, {"mig": True, "instances": UNKNOWN}, {"mig": UNKNOWN}],
    ids=["not told", "none", "unknown", "division unknown"],
)
def test_divided_card_of_unknown_instances_has_no_known_budget(divided: dict[str, object]) -> None:
    assert isinstance(budget(host(card(**divided)), Policy(), "cuda"), Unknown)
    assert isinstance(free_bytes(host(card(**divided))), Unknown)


@pytest.mark.parametrize("field", ["total_mib", "reserved_mib"])
def test_unknown_memory_makes_the_budget_unknown_for_cards_and_instances(field: str) -> None:
    part = instance(40000).model_copy(update={field: UNKNOWN})

    assert budget(host(card(**{field: UNKNOWN})), Policy(), "cuda") == UNKNOWN
    assert budget(host(card(mig=True, instances=(part,))), Policy(), "cuda") == UNKNOWN


def test_unknown_cards_and_no_card_have_no_known_budget() -> None:
    for name in ("unknown-gpus", "no-gpu"):
        assert isinstance(budget(forged_host(name), Policy(), "cuda"), Unknown)


def test_cpu_gets_its_share_of_ram_and_unknown_ram_is_unknown() -> None:
    facts = forged_host("no-gpu")

    assert allowed(facts, Policy(hardware=HardwarePolicy(ram_share="0.25")), "cpu") == facts.ram_mib // 4  # type: ignore[operator]
    assert budget(facts.model_copy(update={"ram_mib": UNKNOWN}), Policy(), "cpu") == UNKNOWN


def test_whole_share_of_ram_keeps_nothing_back() -> None:
    facts = forged_host("no-gpu")

    assert allowed(facts, Policy(hardware=HardwarePolicy(ram_share="1")), "cpu") == facts.ram_mib


def test_free_memory_is_the_least_over_the_cards_that_nuke_may_use() -> None:
    cards = (card(uuid=A4000, free_mib=900), card(uuid=P2000, free_mib=5000))

    assert free_bytes(host(*cards)) == 900 * MIB
    assert free_bytes(host(*cards, nuke_gpu=P2000)) == 5000 * MIB
    assert free_bytes(host(card(free_mib=UNKNOWN), *cards)) == UNKNOWN
    assert isinstance(free_bytes(forged_host("unknown-gpus")), Unknown)


def test_terms_tell_how_the_budget_came_about() -> None:
    found = budget(host(card()), Policy(), "cuda")

    assert isinstance(found, Budget)
    assert found.terms() == "NVIDIA RTX 2070: 8192 less 221 reserved, 1024 for the display, 1024 for Nuke, 512 headroom"
    assert found.gpu == "NVIDIA RTX 2070"
    assert mib(MIB + 1) == 2


reserves = st.integers(0, 4096)


@settings(deadline=None)
@given(total=st.integers(221, 100_000), more=st.integers(0, 1000), kept=reserves, free=st.integers(0, 221))
def test_budget_grows_with_memory_falls_with_reserves_and_ignores_what_is_free(
    total: int, more: int, kept: int, free: int
) -> None:
    policy = Policy(vram=VramPolicy(headroom_mib=kept))
    stricter = Policy(vram=VramPolicy(headroom_mib=kept + more))

    now, with_more = allowed(host(card(total_mib=total)), policy), allowed(host(card(total_mib=total + more)), policy)

    assert 0 <= allowed(host(card(total_mib=total)), stricter) <= now <= with_more
    assert now == max(0, total - 221 - 1024 - 1024 - kept)
    assert allowed(host(card(total_mib=total, free_mib=free, name="Other")), policy) == now


@settings(deadline=None)
@given(order=st.permutations(range(3)))
def test_order_of_cards_changes_no_budget(order: list[int]) -> None:
    cards = (
        card(total_mib=8192),
        card(total_mib=16384, uuid="b"),
        card(mig=True, uuid="c", instances=(instance(6144),)),
    )

    assert budget(host(*(cards[index] for index in order)), Policy(), "cuda") == budget(host(*cards), Policy(), "cuda")
