from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.vram.sessions import loaded_from
from changeover_validators.vram.simulate import Loaded

MIB = 1 << 20


def test_what_is_held_of_the_requests_is_found_and_the_rest_is_one_piece() -> None:
    told = {
        "asked": [2 * MIB, MIB, 512],
        "regions": 3 * MIB + 512,
        "in_use": 264 + 2 * MIB + 512,
        "total": 264 + 3 * MIB + 512,
    }

    assert loaded_from(told) == Loaded(264, (2 * MIB, MIB, 512), (2 * MIB, 512))
    assert loaded_from({**told, "in_use": 264 + 1000}).held == (512, 488)


def test_a_release_without_figures_is_taken_to_hold_what_it_asked_for() -> None:
    told = {"asked": [MIB], "regions": MIB, "reserved": 77, "in_use": None, "total": None}

    assert loaded_from(told) == Loaded(77, (MIB,), (MIB,))


def test_nothing_loaded_is_nothing() -> None:
    assert loaded_from({"asked": [], "regions": 0, "reserved": 0, "in_use": 0, "total": 0}) == Loaded(0)


anything = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.floats(), st.integers(-9, 2**70), st.lists(st.integers(-9, 9))
)


@given(st.dictionaries(st.sampled_from(["asked", "regions", "reserved", "in_use", "total"]), anything))
def test_whatever_a_child_says_no_figure_is_below_zero(told: dict[str, object]) -> None:
    found = loaded_from(told)

    assert min((found.reserved, *found.asked, *found.held)) >= 0
