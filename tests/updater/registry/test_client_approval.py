"""A show's client: nothing goes to a show that asks before its client agreed, and its own list of licences holds."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from changeover_updater.studio import choice_history

ATLAS = ("--channel", "show/atlas", "--reason", "atlas")
AGREED = ("--by", "Dana of Big Films", "--evidence", "mail of 2026-11-20", "--reason", "asked and answered")


def asks(world: Any, lines: str) -> None:
    """Sign a policy with these lines about shows."""
    policy = world.site.root / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8") + lines, encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "what clients ask for")


def state(world: Any) -> tuple[Any, ...]:
    """What a refusal must leave as it was: every choice, and what the station serves."""
    served = world.station.in_use().to_bytes() if world.station.current() else b""
    return tuple(choice.digest() for choice in choice_history(world.site)), served


@pytest.fixture
def asking(world: Any) -> Any:
    world.without_mlflow()
    asks(world, "\n[shows.atlas]\nclient_approval = true\n")
    return world


def test_promotion_share_and_pin_for_a_show_that_asks_are_refused_until_its_client_agreed(asking: Any) -> None:
    world = asking
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    before = state(world)

    refused = [
        world.run("promote", "tiny-roto@1.1.0", *ATLAS),
        world.run("promote", "tiny-roto@1.1.0", *ATLAS, "--share", "10%"),
        world.run("pin", "tiny-roto@1.1.0", "--show", "atlas", "--shot", "sh01", "--sequence", "sq", "--reason", "x"),
    ]

    for code, _, err in refused:
        assert code == 3
        assert "agreement of the client of show atlas" in err
        assert "changeover show approve atlas acme/tiny-roto@1.1.0" in err
    assert state(world) == before
    world.ok("show", "approve", "atlas", "tiny-roto@1.1.0", *AGREED)
    world.ok("promote", "tiny-roto@1.1.0", *ATLAS)
    world.ok("update")
    channels = {c.channel: c.key for c in world.station.in_use().channels}
    assert channels == {"stable": str(first.ref()), "show/atlas": str(second.ref())}


def test_check_for_a_show_that_asks_names_the_agreement_before_the_promotion(asking: Any, golden_set: Any) -> None:
    asking.publish("1.0.0")

    out = asking.ok("check", "tiny-roto@1.0.0", "--set", "hero", "--channel", "show/atlas")

    first, second = out.splitlines()[-2:]
    assert first.strip().startswith("next: once the client agreed: changeover show approve atlas acme/tiny-roto@1.0.0")
    assert second.strip().startswith("then: changeover promote acme/tiny-roto@1.0.0 --channel show/atlas")


def test_other_channels_shows_and_releases_are_not_the_clients(asking: Any) -> None:
    world = asking
    first = world.publish("1.0.0")
    world.accept(first)
    world.ok("show", "approve", "atlas", "tiny-roto@1.0.0", *AGREED)
    world.ok("promote", "tiny-roto@1.0.0", *ATLAS)
    second = world.publish("1.1.0")
    world.accept(second, current=first)

    code, _, err = world.run("promote", "tiny-roto@1.1.0", *ATLAS)
    world.ok("promote", "tiny-roto@1.1.0", "--channel", "show/boreas", "--reason", "no such terms")

    assert (code, "found its agreement to 1.0.0 alone" in err) == (3, True)


def test_release_for_everybody_says_which_shows_get_it_unasked(asking: Any) -> None:
    world = asking
    first = world.publish("1.0.0")
    world.accept(first)

    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--reason", "all")

    assert (code, "show atlas asks for its client's approval" in err) == (0, True)


def test_agreement_that_is_taken_back_stops_what_is_new_and_takes_nothing_away(asking: Any) -> None:
    world = asking
    first = world.publish("1.0.0")
    world.accept(first)
    world.ok("show", "approve", "atlas", "tiny-roto@1.0.0", *AGREED)
    world.ok("promote", "tiny-roto@1.0.0", *ATLAS)
    world.ok("update")
    served = world.station.in_use()

    world.ok("show", "unapprove", "atlas", "tiny-roto@1.0.0", "--reason", "they changed their mind")
    again = world.run("promote", "tiny-roto@1.0.0", *ATLAS)

    assert (again[0], "show approve atlas" in again[2]) == (3, True)
    assert "nothing changed" in world.ok("update")
    assert world.station.in_use() == served
    code, _, err = world.run("show", "unapprove", "atlas", "tiny-roto@1.0.0", "--reason", "once more")
    assert (code, "no client's agreement stands" in err) == (2, True)


def test_station_that_comes_after_the_agreement_was_taken_back_does_not_take_the_release(asking: Any) -> None:
    world = asking
    first = world.publish("1.0.0")
    world.accept(first)
    world.ok("show", "approve", "atlas", "tiny-roto@1.0.0", *AGREED)
    world.ok("promote", "tiny-roto@1.0.0", *ATLAS)
    world.ok("show", "unapprove", "atlas", "tiny-roto@1.0.0", "--reason", "they changed their mind")

    code, out, _ = world.run("update")

    assert code == 3
    assert "client approval" in out
    assert world.station.current() is None


@pytest.mark.parametrize(("option", "text"), [("--by", ""), ("--evidence", "a\x1b[31m")])
def test_words_that_no_record_holds_are_refused_by_the_options_name(asking: Any, option: str, text: str) -> None:
    given = {"--by": "Jo", "--evidence": "a mail", "--reason": "they said so", option: text}

    code, _, err = asking.run(
        "show", "approve", "atlas", "tiny-roto@1.0.0", *(x for pair in given.items() for x in pair)
    )

    assert (code, err.startswith(f"error: {option.strip('-')}: {option}:")) == (2, True)


def test_agreements_are_listed_and_stand_in_the_shows_signed_choice(asking: Any) -> None:
    world = asking
    release = world.publish("1.0.0")
    world.ok("show", "approve", "atlas", "tiny-roto@1.0.0", *AGREED)

    (told,) = json.loads(world.ok("show", "approvals", "atlas", "--json"))

    assert (told["show"], told["by"], told["evidence"]) == ("atlas", "Dana of Big Films", "mail of 2026-11-20")
    assert told["release"] == release.ref().model_dump(mode="json")
    assert "Dana of Big Films" in world.ok("show", "approvals")
    (choice,) = [c for c in choice_history(world.site) if c.scope == "shows/atlas"]
    assert choice.entry.what == f"client approval of {release.ref()} for atlas by Dana of Big Films"
    assert choice.entry.why == "asked and answered"


def test_override_of_the_licence_check_passes_over_the_client_and_is_shown(asking: Any) -> None:
    """It is named, reasoned, signed by the show's promoters, ends by itself, and `status` tells of it."""
    world = asking
    release = world.publish("1.0.0")
    world.accept(release)
    more = ("--reason", "verbal, mail follows", "--until", "2d", "--show", "atlas")
    world.ok("override", "add", "tiny-roto@1.0.0", "--check", "licence", *more)

    world.ok("promote", "tiny-roto@1.0.0", *ATLAS)

    assert "licence of acme/tiny-roto@1.0.0" in world.ok("status")


def test_everything_that_is_missing_is_said_at_once(asking: Any) -> None:
    world = asking
    world.publish("1.0.0")
    before = state(world)

    code, _, err = world.run("promote", "tiny-roto@1.0.0", *ATLAS)

    assert code == 3
    assert "show approve atlas" in err
    assert "no verdict at all (open: hardware, vram, speed, golden, smoke)" in err
    assert err.count("\n") == 1
    assert state(world) == before


@pytest.mark.parametrize(
    ("weights", "channel", "code"),
    [
        ('["Apache-2.0"]', "show/atlas", 3),
        ('["CC-BY-4.0"]', "show/atlas", 0),
        ('["Apache-2.0"]', "show/boreas", 0),
        ('["Apache-2.0"]', "stable", 0),
    ],
)
def test_a_show_has_its_own_list_of_licences(
    make_world: Callable[..., Any], weights: str, channel: str, code: int
) -> None:
    world = make_world()
    world.without_mlflow()
    asks(world, f"\n[shows.atlas]\nweights = {weights}\n")
    world.accept(world.publish("1.0.0"))

    found, _, err = world.run("promote", "tiny-roto@1.0.0", "--channel", channel, "--reason", "x")

    assert found == code, err
    assert code == 0 or "change `weights` under [shows.atlas] in policy.toml" in err
