"""What must fit at once, against a walk over every moment of a changeover of all nodes of a script."""

from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.records.policy import Policy, VramPolicy
from changeover_validators.vram.footprint import Footprint, Room, instances_of, need_of

sizes = st.integers(0, 10**6)
counts = st.integers(1, 8)


def moments(new: int, old: int, number: int) -> list[int]:
    """Bytes of instances at every moment while `number` nodes move one by one, each loading before it drops."""
    found = []
    for moved in range(number):
        before = moved * new + (number - moved) * old
        found += [before, before + new, before + new - old]
    return found


@given(new=sizes, old=sizes, context=sizes, other=sizes, number=counts)
def test_need_with_both_resident_is_the_worst_moment_of_the_changeover(
    new: int, old: int, context: int, other: int, number: int
) -> None:
    policy = Policy(vram=VramPolicy(instances=number))

    need = need_of(Footprint(context, new), policy, Footprint(other, old))

    assert need.bytes == need.changeover_bytes == max(context, other) + max(moments(new, old, number))
    assert need.alone_bytes == context + number * new


@given(new=sizes, old=sizes, number=counts)
def test_unloading_first_needs_what_the_new_release_needs_and_still_tells_the_other_figure(
    new: int, old: int, number: int
) -> None:
    policy = Policy(vram=VramPolicy(instances=number, changeover="unload-first"))

    need = need_of(Footprint(7, new), policy, Footprint(7, old))

    assert need.bytes == 7 + number * new
    assert need.changeover_bytes == 7 + max(moments(new, old, number))


def test_two_instances_are_held_unless_the_policy_says_otherwise() -> None:
    assert instances_of(Policy()) == 2
    assert instances_of(Policy(vram=VramPolicy(instances=5))) == 5
    assert need_of(Footprint(1, 10), Policy()).bytes == 21
    assert Footprint(1, 10).one_bytes == 11


def test_share_of_bytes_that_are_missing_is_rounded_against_the_model() -> None:
    room = Room(100, Policy())

    assert (room.share(5), room.share(-5)) == (2, -3)
