from typing import Any

from changeover_registry.records.choice import Share
from changeover_updater.shows import needs_of


def test_a_show_needs_what_it_was_ever_given_until_it_is_closed(build: Any) -> None:
    release = build.release()
    chosen = build.choice({"show/atlas": release}, scope="shows/atlas")
    empty = chosen.model_copy(update={"number": 2, "channels": ()})
    key, given = str(release.ref()), "show atlas was given it and is not closed"

    assert needs_of((chosen,), {"shows/atlas": (chosen,)}, {}) == {key: ("channel show/atlas", given)}
    assert needs_of((empty,), {"shows/atlas": (chosen, empty)}, {}) == {key: (given,)}
    assert needs_of((empty,), {"shows/atlas": (chosen, empty)}, {"atlas": 1}) == {}


def test_everything_that_a_choice_names_is_needed(build: Any) -> None:
    one, two, three = (build.release(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
    share = Share(channel="stable", release=three.ref(), percent=10, state="stopped")
    choice = build.choice({"stable": one}, pins=(build.pin(two, "atlas", "sq010"),)).model_copy(
        update={"shares": (share,)}
    )

    found = needs_of((choice,), {"site": (choice,)}, {})

    assert found[str(one.ref())] == ("channel stable",)
    assert found[str(two.ref())] == ("pin atlas/sq010", "show atlas was given it and is not closed")
    assert found[str(three.ref())] == ("share of channel stable",)


def test_what_a_way_back_returned_is_needed_beside_what_was_signed(build: Any) -> None:
    """The choices in force may differ from the newest that was signed: both are needed."""
    old, new = build.release("1.0.0"), build.release("2.0.0")
    signed, effective = build.choice({"stable": new}), build.choice({"stable": old})

    assert needs_of((effective,), {"site": (signed,)}, {}).keys() == {str(old.ref()), str(new.ref())}
