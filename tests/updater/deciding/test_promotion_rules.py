"""What a promotion reads, what it is held to, and what was live: decided from values."""

from datetime import timedelta
from typing import Any

import pytest

from changeover_registry.errors import LostRaceError
from changeover_registry.records.choice import Back, ClientApproval, Pin, Returned, Share
from changeover_registry.repository.backs import Effective
from changeover_registry.repository.past import Held
from changeover_updater.choose import Change, approve_for_client, check_expected, check_unmoved, promote
from changeover_updater.differences import differences
from changeover_updater.live import changes_in, live_at, models_of
from changeover_updater.needed import ALL, Needed
from changeover_updater.overrides import standing
from changeover_updater.permitted import permission_of

CHANGE = Change("td", "2026-11-23T02:00:00Z", "test")


def test_a_promoter_who_approves_is_shown_what_the_client_agreed_to(build: Any) -> None:
    release = build.release()
    agreed = ClientApproval(release=release.ref(), by="Dana", when=build.after(days=0), evidence="mail")
    before = build.choice({"show/atlas": release}, scope="shows/atlas")

    after = approve_for_client(before, "atlas", agreed, CHANGE)

    (line,) = differences(before, after)
    assert str(line).startswith(f"client approval, {release.ref()}: nothing -> by Dana at ")


@pytest.mark.parametrize(
    ("texts", "models", "takes"),
    [
        (("acme/a@1.0.0",), {"a"}, {("acme/a", "1.0.0")}),
        (("a@1.0.0",), {"a"}, {("acme/a", "1.0.0"), ("other/a", "1.0.0")}),
        (("a",), {"a"}, set()),
        (("other/a@1.0.0",), set(), {("other/a", "1.0.0")}),
        (("a@not a version",), {"a"}, set()),
    ],
)
def test_only_what_is_asked_for_and_what_choices_name_is_read(
    build: Any, texts: tuple[str, ...], models: set[str], takes: set[tuple[str, str]]
) -> None:
    chosen = build.release("9.0.0")
    needed = Needed.of(*texts).beside([build.choice({"stable": chosen})])
    entries = {
        (model, version): build._indexed(build.release(version, model=model), None)
        for model in ("acme/a", "acme/b", "other/a")
        for version in ("1.0.0", "2.0.0")
    }

    assert set(needed.models_of("acme", None) or ()) == models
    assert set(needed.models_of("acme", ("b",)) or ()) == models & {"b"}
    assert {(model, version) for (model, version), entry in entries.items() if needed.takes(model, entry)} == takes
    assert needed.takes("acme/person-roto", build._indexed(chosen, None))
    assert all(ALL.takes(model, entry) for (model, _), entry in entries.items())
    assert ALL.models_of("acme", ("b",)) == ("b",)


def test_the_past_is_asked_only_where_no_verdict_permits(build: Any) -> None:
    release = build.release()
    pointer = build.choice({"stable": release}).channels[0].model_copy(update={"verdict": "e" * 64})
    asked: list[str] = []

    def earlier() -> tuple[Any, ...]:
        asked.append("past")
        return (pointer,)

    accepted = build.case(release)
    assert permission_of(accepted, earlier) == accepted.verdicts[0].digest
    assert not asked
    assert permission_of(build.case(release, verdicts=()), earlier) == "e" * 64
    assert asked == ["past"]


def test_a_choice_that_is_not_the_expected_one_is_named_with_its_author(build: Any) -> None:
    head = build.choice().model_copy(update={"number": 8})

    check_expected(head, "site", 8)
    check_expected(None, "site", 0)
    for last, number, says in ((head, 7, "choice 8 by td at"), (None, 1, "no choice"), (head, 0, "choice 8 by td at")):
        with pytest.raises(LostRaceError, match=says):
            check_expected(last, "site", number)


def test_what_was_decided_on_is_no_more_what_holds(build: Any) -> None:
    seen = build.choice({"stable": build.release("1.0.0")})
    returned = seen.model_copy(update={"channels": ()})

    check_unmoved(seen, "site", seen)
    check_unmoved(None, "shows/atlas", None)
    for last in (returned, None, promote(seen, "stable", build.release("1.1.0").ref(), None, CHANGE)):
        with pytest.raises(LostRaceError, match="on which this was decided"):
            check_unmoved(last, "site", seen)


def test_overrides_stand_until_their_end_and_those_in_use_come_first(build: Any) -> None:
    one, two = build.release("1.0.0"), build.release("2.0.0")
    choices = (
        build.choice(overrides=(build.override(one, "speed"), build.override(one, "vram", until=build.after(days=-1)))),
        build.choice(scope="shows/atlas", overrides=(build.override(two, "golden", until=build.after(days=3)),)),
    )
    plan = build.known(build.choice({"stable": two}), vendors=(build.vendor(two),), verdicts=(build.verdict(two),))
    from changeover_updater.plan import make_plan

    current = make_plan(plan).generation

    found = standing(choices, current, build.now)

    assert [(s.scope, s.override.checks, s.in_use) for s in found] == [
        ("shows/atlas", ("golden",), True),
        ("site", ("speed",), False),
    ]
    assert standing(choices, None, build.now + timedelta(days=30)) == ()


def held(choice: Any, back: Back | None = None) -> Held:
    return Held(choice.scope, choice.entry.when, Effective(choice, choice, back))


def test_what_was_live_is_pointers_shares_pins_and_overrides_of_that_channel(build: Any) -> None:
    one, two = build.release("1.0.0"), build.release("2.0.0")
    site = build.choice(
        {"stable": one, "beta": two},
        pins=(build.pin(one), build.pin(one, "boreas")),
        overrides=(build.override(two, "speed"), build.override(two, "vram", until=build.after(days=-1))),
    ).model_copy(update={"shares": (Share(channel="stable", release=two.ref(), percent=10),)})
    show = build.choice({"show/atlas": two}, scope="shows/atlas", pins=(build.pin(one, "atlas", "sq10"),))

    def where(channel: str | None, model: str | None = None) -> list[str]:
        return [line.where for line in live_at((held(site), held(show)), build.now, channel=channel, model=model)]

    assert where("stable") == ["stable", "share of stable", "pin site", "override"]
    assert where("show/atlas") == ["pin site", "override", "show/atlas", "pin atlas/sq10"]
    assert len(where(None)) == 8
    assert where(None, "acme/other") == []
    share = live_at((held(site),), build.now, channel="stable", model=None)[1]
    assert (share.detail, share.release) == ("10 % of the stations, running", str(two.ref()))


def test_a_way_back_is_marked_and_told_once_though_it_was_signed_again(build: Any) -> None:
    one = build.release("1.0.0")
    choice = build.choice({"stable": one})
    back = Back(
        scope="site",
        number=1,
        entry=build.entry(),
        stands_on=1,
        stands_on_digest=choice.digest(),
        channels=(Returned(channel="stable", release=one.ref(), held_in=1, reason="tears"),),
    )
    again = back.model_copy(update={"number": 2})

    (line,) = live_at((held(choice, back),), build.now, channel="stable", model=one.model)
    changes = changes_in([(None, choice)], [back, again], one.model)

    assert line.returned
    assert [(c.scope, c.number) for c in changes] == [("site", 1), ("site/back", 1)]
    assert changes[1].changes == (f"returned stable to {one.ref()}",)


def test_a_models_changes_say_nothing_of_other_models(build: Any) -> None:
    mine, other = build.release("1.0.0"), build.release("1.0.0", model="acme/other")
    before, after = build.choice({"stable": mine}), build.choice({"stable": mine})
    both = after.model_copy(
        update={
            "channels": (*after.channels, build.choice({"beta": other}).channels[0]),
            "pins": (Pin(release=mine.ref(), reason="hero"),),
        }
    )

    (change,) = changes_in([(before, both)], [], mine.model)

    assert change.changes == (f"pin for site, {mine.model}: nothing -> {mine.ref()} without a verdict: hero",)
    assert models_of((both,)) == ("acme/other", mine.model)
