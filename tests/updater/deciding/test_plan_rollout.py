"""What shares, quarantine, others' failures, holds and hours make of a plan."""

from dataclasses import replace
from typing import Any

import pytest

from changeover_registry.records.choice import Share
from changeover_registry.records.station import Quarantine
from changeover_updater.plan import Known, Plan, make_plan
from changeover_validators.classes import host_class


@pytest.fixture
def world(build: Any) -> Any:
    """A station with 1.0.0 on stable; 1.1.0 is accepted, and the choice can be given a share of it."""
    old, new = build.release("1.0.0"), build.release("1.1.0")
    first = build.known(
        build.choice({"stable": old}),
        vendors=(build.vendor(old, new),),
        verdicts=(build.verdict(old), build.verdict(new)),
    )
    return build.applied(first, make_plan(first).generation), old, new


def with_share(build: Any, known: Known, old: Any, new: Any, **changes: Any) -> Known:
    share: dict[str, Any] = {"channel": "stable", "release": new.ref(), "percent": 100}
    choice = build.choice({"stable": old}).model_copy(update={"shares": (Share(**(share | changes)),)})
    return replace(known, studio=replace(known.studio, choices=(choice,)))


def serves(plan: Plan) -> list[str]:
    assert plan.generation is not None
    return [entry.key for entry in plan.generation.channels]


def entry(known: Known, release: Any, check: Any = "smoke") -> Quarantine:
    digest = host_class(known.facts)
    return Quarantine(release=release.ref(), host_class=digest, check=check, why="NaN", since="2026-11-22T00:00:00Z")


def test_a_station_that_a_share_reaches_changes_to_it_and_keeps_the_old_release(build: Any, world: Any) -> None:
    known, old, new = world
    plan = make_plan(with_share(build, known, old, new))
    assert serves(plan) == [str(new.ref())]
    assert plan.generation is not None
    assert plan.generation.release(str(old.ref())) is not None


@pytest.mark.parametrize(
    "changes", [{"percent": 0}, {"names": ("render-*",)}, {"classes": ("0000",)}, {"state": "paused"}]
)
def test_a_station_that_a_share_does_not_reach_stays(build: Any, world: Any, changes: dict[str, Any]) -> None:
    known, old, new = world
    plan = make_plan(with_share(build, known, old, new, **changes))
    assert plan.generation is None
    assert [(move.outcome, move.exit_code) for move in plan.moves] == [("same", 0)]


@pytest.mark.parametrize(("state", "stays"), [("paused", True), ("stopped", False)])
def test_a_station_that_has_it_keeps_it_while_paused_and_goes_back_when_stopped(
    build: Any, world: Any, state: str, stays: bool
) -> None:
    known, old, new = world
    shared = with_share(build, known, old, new)
    has_it = build.applied(shared, make_plan(shared).generation)
    plan = make_plan(with_share(build, has_it, old, new, state=state))
    assert (plan.generation is None) == stays
    assert stays or serves(plan) == [str(old.ref())]


def test_what_failed_with_too_many_others_is_kept_out_with_their_sentence_and_4(build: Any, world: Any) -> None:
    known, old, new = world
    kept = replace(with_share(build, known, old, new), failing=((("stable", str(new.ref())), "3 of 3 failed"),))
    plan = make_plan(kept)
    assert (plan.generation, plan.arrivals, plan.exit_code) == (None, (), 4)
    assert (plan.moves[0].waits, plan.moves[0].why) == (True, "3 of 3 failed")
    elsewhere = replace(kept, failing=((("show/atlas", str(new.ref())), "3 of 3 failed"),))
    assert serves(make_plan(elsewhere)) == [str(new.ref())]


def test_a_pin_does_not_wait_for_others(build: Any, world: Any) -> None:
    known, old, new = world
    choice = build.choice({"stable": old}, pins=(build.pin(new, "atlas"),))
    pinned = replace(
        known, studio=replace(known.studio, choices=(choice,)), failing=((("stable", str(new.ref())), "3 of 3 failed"),)
    )
    plan = make_plan(pinned)
    assert plan.generation is not None
    assert [pin.key for pin in plan.generation.pins] == [str(new.ref())]


def test_what_failed_here_is_not_tried_again_and_names_the_command_that_lifts_it(build: Any, world: Any) -> None:
    known, old, new = world
    plan = make_plan(replace(with_share(build, known, old, new), quarantined=(entry(known, new),)))
    assert (plan.generation, plan.arrivals, plan.exit_code) == (None, (), 3)
    assert f"changeover quarantine lift {new.ref()}" in plan.moves[0].why


def test_an_override_of_the_check_lets_a_quarantined_release_in(build: Any, world: Any) -> None:
    known, old, new = world
    shared = with_share(build, known, old, new)
    choice = shared.studio.choices[0].model_copy(update={"overrides": (build.override(new, "smoke"),)})
    overridden = replace(shared, studio=replace(shared.studio, choices=(choice,)), quarantined=(entry(known, new),))
    assert serves(make_plan(overridden)) == [str(new.ref())]


def test_a_release_in_use_stays_though_it_is_quarantined_now(build: Any, world: Any) -> None:
    known, old, _ = world
    plan = make_plan(replace(known, quarantined=(entry(known, old),)))
    assert (plan.generation, plan.exit_code) == (None, 0)


@pytest.mark.parametrize("how", ["hold", "wait"])
def test_while_held_or_waiting_files_arrive_and_nothing_changes_over(build: Any, world: Any, how: str) -> None:
    known, old, new = world
    shared = with_share(build, known, old, new)
    stays = replace(shared, hold=build.hold()) if how == "hold" else replace(shared, wait="the hours are 19:00-07:00")
    plan = make_plan(stays)
    assert plan.generation is None
    assert [str(arrival.eligible.ref) for arrival in plan.arrivals] == [str(new.ref())]
    assert plan.wait == (None if how == "hold" else "the hours are 19:00-07:00")


def test_with_nothing_to_change_there_is_nothing_to_wait_for(build: Any, world: Any) -> None:
    known, _, _ = world
    assert make_plan(replace(known, wait="the hours are 19:00-07:00")).wait is None


def test_the_policy_says_whether_farm_workers_may_run_on_their_cpu(build: Any, world: Any) -> None:
    from changeover_registry.records.policy import FarmPolicy

    known, old, new = world
    shared = with_share(build, known, old, new)
    strict = shared.studio.policy.model_copy(update={"farm": FarmPolicy(device="gpu")})
    found = [
        make_plan(replace(shared, studio=replace(shared.studio, policy=p))) for p in (shared.studio.policy, strict)
    ]
    assert [plan.generation.farm_device for plan in found if plan.generation] == ["any", "gpu"]
