from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from changeover_registry.errors import InvalidInputError, RefusedError, TrustError
from changeover_registry.records.choice import Choice, Share
from changeover_updater.choose import (
    Change,
    add_override,
    channel_scope,
    first_choice,
    pin,
    pin_scope,
    promote,
    renew,
    share,
    sign_policy,
    steer,
    unpin,
)

CHANGE = Change(who="td", when="2026-11-22T12:00:00Z", why="test")


def test_first_choice_holds_keys_and_policy_and_nothing_else() -> None:
    first = first_choice(CHANGE, (), "b" * 64)

    assert (first.scope, first.number, first.policy, first.channels, first.pins) == ("site", 1, "b" * 64, (), ())
    assert first.entry.what == "init"


@pytest.mark.parametrize(
    ("channel", "scope"), [("stable", "site"), ("beta", "site"), ("show/atlas", "shows/atlas"), ("show/", "shows/")]
)
def test_channel_of_a_show_is_the_shows(channel: str, scope: str) -> None:
    assert channel_scope(channel) == scope


def test_pin_of_a_show_is_the_shows() -> None:
    assert (pin_scope(None), pin_scope("atlas")) == ("site", "shows/atlas")


@given(st.lists(st.tuples(st.sampled_from(["stable", "beta"]), st.sampled_from("ab"), st.integers(0, 3)), max_size=6))
@settings(deadline=None)
def test_channel_points_at_what_was_promoted_last_of_each_model(build: Any, steps: list[tuple[str, str, int]]) -> None:
    choice: Choice | None = None
    oracle = {}
    chain = []
    for channel, model, minor in steps:
        ref = build.release(f"1.{minor}.0", model=f"acme/{model}").ref()
        before = choice
        choice = promote(choice, channel, ref, None, CHANGE)
        oracle[channel, ref.model] = ref
        assert choice.previous == (before.digest() if before else None)
        chain.append(choice.number)
        Choice.from_bytes(choice.to_bytes(), where="choice")

    if choice is not None:
        assert {(p.channel, p.release.model): p.release for p in choice.channels} == oracle
        assert choice.channels == tuple(sorted(choice.channels, key=lambda p: (p.channel, p.release.model)))
    assert chain == list(range(1, len(steps) + 1))


def test_promotion_says_what_it_did_and_keeps_its_verdict(build: Any) -> None:
    ref = build.release().ref()

    done = promote(None, "show/atlas", ref, "d" * 64, CHANGE)

    assert (done.scope, done.entry.what) == ("shows/atlas", f"promote {ref} to show/atlas")
    assert done.channels[0].verdict == "d" * 64


@pytest.mark.parametrize("channel", ["live", "", "show/", "show/Atlas", "stable ", "show/a/b"])
def test_channel_of_no_possible_name_is_refused_with_2(build: Any, channel: str) -> None:
    with pytest.raises(InvalidInputError, match="expected stable, beta or show/NAME"):
        promote(None, channel, build.release().ref(), None, CHANGE)


@pytest.mark.parametrize("why", ["", " ", "\n"])
def test_nothing_is_chosen_without_a_reason(build: Any, why: str) -> None:
    with pytest.raises(InvalidInputError, match="give --reason"):
        promote(None, "stable", build.release().ref(), None, Change(who="td", when=CHANGE.when, why=why))


def test_pin_of_the_same_scope_is_replaced_and_others_stay(build: Any) -> None:
    one, two = build.release("1.0.0"), build.release("1.1.0")
    choice = pin(None, build.pin(one, "atlas"), CHANGE)
    choice = pin(choice, build.pin(one, "atlas", "ab"), CHANGE)
    choice = pin(choice, build.pin(two, "atlas"), CHANGE)

    assert [(p.show, p.sequence, p.release.version) for p in choice.pins] == [
        ("atlas", None, "1.1.0"),
        ("atlas", "ab", "1.0.0"),
    ]
    assert choice.entry.what == f"pin {two.ref()} for atlas"
    assert (choice.scope, choice.number) == ("shows/atlas", 3)
    assert pin(None, build.pin(one), CHANGE).entry.what == f"pin {one.ref()} for site"


def test_pin_is_taken_away_and_only_that_one(build: Any) -> None:
    release = build.release()
    choice = pin(pin(None, build.pin(release, "atlas"), CHANGE), build.pin(release, "atlas", "ab"), CHANGE)

    freed = unpin(choice, release.model, "atlas", None, None, CHANGE)

    assert [(p.show, p.sequence) for p in freed.pins] == [("atlas", "ab")]
    assert freed.entry.what == "unpin acme/person-roto for atlas"
    assert unpin(pin(None, build.pin(release), CHANGE), release.model, None, None, None, CHANGE).pins == ()


def test_pin_that_is_not_there_is_refused_with_those_that_are(build: Any) -> None:
    release = build.release()
    choice = pin(None, build.pin(release, "atlas", "ab"), CHANGE)

    with pytest.raises(InvalidInputError, match=r"\(none\)"):
        unpin(None, release.model, "atlas", None, None, CHANGE)
    with pytest.raises(InvalidInputError, match="for atlas/ab") as caught:
        unpin(choice, release.model, "atlas", None, None, CHANGE)
    assert caught.value.exit_code == 2
    with pytest.raises(InvalidInputError, match="for site"):
        unpin(pin(None, build.pin(release), CHANGE), "acme/other", None, None, None, CHANGE)


def test_override_is_added_to_those_before_it(build: Any) -> None:
    release = build.release()
    choice = add_override(None, "site", build.override(release, "vram"), CHANGE)

    choice = add_override(choice, "site", build.override(release, "speed", "golden"), CHANGE)

    assert [o.checks for o in choice.overrides] == [("vram",), ("speed", "golden")]
    assert choice.entry.what.startswith(f"override speed, golden for {release.ref()} until ")


def test_override_of_trust_is_refused_with_5(build: Any) -> None:
    forged = build.override(build.release(), "vram").model_copy(update={"checks": ("vram", "trust")})

    with pytest.raises(TrustError, match="no override passes over trust") as caught:
        add_override(None, "site", forged, CHANGE)

    assert caught.value.exit_code == 5


def test_policy_is_signed_and_all_else_stays(build: Any) -> None:
    choice = promote(first_choice(CHANGE, (), "b" * 64), "stable", build.release().ref(), None, CHANGE)

    signed = sign_policy(choice, "c" * 64, CHANGE)

    assert (signed.policy, signed.entry.what) == ("c" * 64, "policy cccccccccccc")
    assert signed.channels == choice.channels
    assert signed.previous == choice.digest()


def test_choice_that_is_renewed_says_the_same_once_more(build: Any) -> None:
    choice = promote(None, "stable", build.release().ref(), None, CHANGE)

    again = renew(choice, "site", CHANGE)

    assert (again.number, again.previous, again.entry.what) == (2, choice.digest(), "renew")
    assert again.channels == choice.channels


def shared(build: Any, percent: int = 10, **changes: Any) -> Choice:
    """Stable at 1.0.0, with a share of 1.1.0 on its way."""
    first = promote(None, "stable", build.release("1.0.0").ref(), None, CHANGE)
    return share(first, new_share(build, percent, **changes), CHANGE)


def new_share(build: Any, percent: int = 10, **changes: Any) -> Share:
    base: dict[str, Any] = {"channel": "stable", "release": build.release("1.1.0").ref(), "percent": percent}
    return Share(**(base | changes))


def test_share_stands_beside_the_pointer_and_a_larger_one_takes_its_place(build: Any) -> None:
    grown = share(shared(build), new_share(build, 50, names=("render-*",)), CHANGE)

    assert [p.release.version for p in grown.channels] == ["1.0.0"]
    assert [(s.release.version, s.percent) for s in grown.shares] == [("1.1.0", 50)]
    assert grown.entry.what.endswith("with 50 % of the stations named render-* on stable")


def test_promoting_ends_the_share_of_that_model_and_channel_alone(build: Any) -> None:
    other = build.release("1.1.0", model="acme/hair-roto").ref()
    first = promote(shared(build), "stable", build.release("1.0.0", model="acme/hair-roto").ref(), None, CHANGE)
    both = share(first, new_share(build, release=other), CHANGE)
    done = promote(both, "stable", build.release("1.1.0").ref(), None, CHANGE)

    assert [s.release.model for s in done.shares] == ["acme/hair-roto"]
    assert done.pointer("stable", "acme/person-roto") is not None


@pytest.mark.parametrize("version", [None, "1.1.0"])
def test_share_of_a_channel_that_has_nothing_or_the_release_itself_is_refused(build: Any, version: str | None) -> None:
    last = promote(None, "stable", build.release(version).ref(), None, CHANGE) if version else None

    with pytest.raises(RefusedError, match="a channel that points at another release"):
        share(last, new_share(build), CHANGE)


def test_rollout_is_paused_resumed_and_stopped_and_resuming_forgives(build: Any) -> None:
    model = "acme/person-roto"
    paused = steer(shared(build), "stable", model, "paused", CHANGE)
    stopped = steer(paused, "stable", model, "stopped", CHANGE)
    resumed = steer(stopped, "stable", model, "running", CHANGE)

    assert [c.shares[0].state for c in (paused, stopped, resumed)] == ["paused", "stopped", "running"]
    assert [c.shares[0].resumed for c in (paused, stopped, resumed)] == [None, None, CHANGE.when]
    assert resumed.entry.what == f"rollout resume {resumed.shares[0].release} on stable"


def test_what_was_forgiven_stays_forgiven_while_the_release_reaches_more_stations(build: Any) -> None:
    resumed = steer(shared(build), "stable", "acme/person-roto", "running", CHANGE)
    grown = share(resumed, new_share(build, 50), CHANGE)
    done = promote(grown, "stable", grown.shares[0].release, None, CHANGE)
    assert (grown.shares[0].resumed, done.channels[0].resumed) == (CHANGE.when, CHANGE.when)
    assert promote(done, "stable", build.release("2.0.0").ref(), None, CHANGE).channels[0].resumed is None


def test_channel_itself_can_be_resumed_and_not_stopped(build: Any) -> None:
    first = promote(None, "stable", build.release("1.0.0").ref(), None, CHANGE)

    resumed = steer(first, "stable", "acme/person-roto", "running", CHANGE)
    assert [p.resumed for p in resumed.channels] == [CHANGE.when]
    with pytest.raises(InvalidInputError, match="rollback --channel"):
        steer(first, "stable", "acme/person-roto", "stopped", CHANGE)


def test_what_is_paused_already_is_refused(build: Any) -> None:
    paused = steer(shared(build), "stable", "acme/person-roto", "paused", CHANGE)

    with pytest.raises(RefusedError, match="paused already"):
        steer(paused, "stable", "acme/person-roto", "paused", CHANGE)


def test_a_pause_does_not_soften_a_stop(build: Any) -> None:
    stopped = steer(shared(build), "stable", "acme/person-roto", "stopped", CHANGE)

    with pytest.raises(RefusedError, match="stopped already"):
        steer(stopped, "stable", "acme/person-roto", "paused", CHANGE)


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_share_that_somebody_paused_or_stopped_does_not_grow_on_by_the_way(build: Any, state: Any) -> None:
    held = steer(shared(build), "stable", "acme/person-roto", state, CHANGE)

    with pytest.raises(RefusedError, match=f"one that is {state}; run changeover rollout resume"):
        share(held, new_share(build, 50), CHANGE)
    other = new_share(build, 50, release=build.release("1.2.0").ref())
    assert [s.state for s in share(held, other, CHANGE).shares] == ["running"]


def test_a_show_has_no_share_of_another_channel(build: Any) -> None:
    with pytest.raises(ValidationError, match="expected only channel show/atlas"):
        Choice(scope="shows/atlas", number=1, entry=CHANGE.entry("x"), shares=(new_share(build),))
