"""What must be drawn, and what is a request: decided on values."""

from changeover_registry.mlflow_adapter.aliases import (
    Chosen,
    Drawing,
    Held,
    Request,
    alias_of,
    drawings,
    known_number,
    note_of,
    requests,
)
from changeover_registry.records.release import ReleaseRef

STABLE = Chosen("stable", 2)
ATLAS = Chosen("show/atlas", 3)


def note(**drawn: int) -> dict[str, str]:
    return {f"changeover.drawn.{alias.replace('_', '-')}": str(number) for alias, number in drawn.items()}


def test_channel_of_a_show_has_no_slash_in_its_alias() -> None:
    assert (alias_of("show/atlas"), alias_of("stable")) == ("show-atlas", "stable")


def test_what_was_never_drawn_is_drawn() -> None:
    assert drawings((STABLE, ATLAS), {}) == (Drawing("show-atlas", 3), Drawing("stable", 2))
    assert requests((STABLE, ATLAS), {}, {}) == ()


def test_what_was_drawn_is_not_drawn_again() -> None:
    assert drawings((STABLE,), note(stable=2)) == ()
    assert requests((STABLE,), {"stable": 2}, note(stable=2)) == ()


def test_choice_that_went_on_is_drawn_and_is_no_request_meanwhile() -> None:
    assert drawings((STABLE,), note(stable=1)) == (Drawing("stable", 2),)
    assert requests((STABLE,), {"stable": 1}, note(stable=1)) == ()


def test_drawing_that_was_killed_before_its_note_is_no_request() -> None:
    assert requests((STABLE,), {"stable": 2}, note(stable=1)) == ()
    assert drawings((STABLE,), note(stable=1)) == (Drawing("stable", 2),)


def test_moved_by_hand_is_a_request_and_is_not_drawn_over() -> None:
    assert drawings((STABLE,), note(stable=2)) == ()
    assert requests((STABLE,), {"stable": 5}, note(stable=2)) == (Request("stable", "stable", 5, 2),)


def test_taken_away_by_hand_is_a_request() -> None:
    assert requests((STABLE,), {}, note(stable=2)) == (Request("stable", "stable", None, 2),)


def test_made_by_hand_for_a_channel_without_a_release_is_a_request() -> None:
    assert requests((), {"show-atlas": 1}, {}) == (Request("show-atlas", "show/atlas", 1, None),)


def test_channel_that_lost_its_release_loses_its_alias() -> None:
    assert drawings((), note(show_atlas=3)) == (Drawing("show-atlas", None),)


def test_aliases_of_people_and_notes_of_nonsense_are_nobodys_request() -> None:
    aliases, tags = {"favourite": 1, "stable": 2}, {**note(stable=2), "changeover.drawn.beta": "x", "team": "roto"}

    assert requests((STABLE,), aliases, tags) == ()
    assert drawings((STABLE,), tags) == ()


def test_what_was_drawn_is_known_by_its_note_alone() -> None:
    release = ReleaseRef(model="acme/person-roto", version="4.2.0", digest="0123456789ab" + "0" * 52)
    other = release.model_copy(update={"digest": "f" * 64})
    tags = {"changeover.drawn.show-atlas": note_of(7, release)}

    assert tags["changeover.drawn.show-atlas"] == "7 4.2.0-0123456789ab"
    assert known_number(Held("show/atlas", release), tags) == 7
    assert known_number(Held("show/atlas", other), tags) is None
    assert known_number(Held("stable", release), tags) is None
    assert known_number(Held("stable", release), {"changeover.drawn.stable": "9" * 400}) is None
