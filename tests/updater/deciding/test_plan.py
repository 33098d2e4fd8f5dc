from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import ChangeoverError, TrustError, UndecidedError
from changeover_registry.records.choice import Pin
from changeover_registry.records.findings import CHECKS
from changeover_updater.eligible import Candidate, judge_release
from changeover_updater.plan import Known, Plan, make_plan

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0")
EXPIRED = TrustError("expiry", where="timestamp.json", expected="a later date", actual="expired", remedy="sync")
KINDS = ("accepted", "refused", "not run", "withdrawn")
EVERY: tuple[Any, ...] = tuple(check for check in CHECKS if check != "trust")


def channels(plan: Plan) -> dict[str, str]:
    assert plan.generation is not None
    return {entry.channel: entry.key for entry in plan.generation.channels}


def outcomes(plan: Plan) -> dict[str, str]:
    return {move.where: move.outcome for move in plan.moves}


def world(build: Any, kinds: dict[str, str]) -> dict[str, Any]:
    """A vendor with releases of these kinds, and the verdicts that make them so."""
    releases = {version: build.release(version) for version in kinds}
    bad = (build.passed("speed"), build.refused("golden"), build.passed("smoke"))
    verdicts = []
    for version, kind in kinds.items():
        release = releases[version]
        if kind == "refused":
            reports = tuple(build.report(release, bad, tile=n) for n in (0, 1))
            verdicts.append(build.verdict(release, "reject", points=reports))
        elif kind != "not run":
            verdicts.append(build.verdict(release))
    gone = {version: "leaks hair" for version, kind in kinds.items() if kind == "withdrawn"}
    vendor = build.vendor(*releases.values(), withdrawn=gone)
    return {"releases": releases, "vendors": (vendor,), "verdicts": tuple(verdicts)}


@pytest.fixture
def two(build: Any) -> Any:
    """A station that has 1.0.0 on stable, and a vendor with an accepted 1.1.0."""
    made = world(build, {"1.0.0": "accepted", "1.1.0": "accepted"})
    first = build.known(
        build.choice({"stable": made["releases"]["1.0.0"]}), vendors=made["vendors"], verdicts=made["verdicts"]
    )
    return build.applied(first, make_plan(first).generation), made["releases"]


def choose(known: Known, *choices: Any) -> Known:
    return replace(known, studio=replace(known.studio, choices=choices))


def test_station_with_nothing_chosen_changes_nothing(build: Any) -> None:
    plan = make_plan(build.known(build.choice()))

    assert (plan.moves, plan.generation, plan.exit_code) == ((), None, 0)


def test_first_accepted_release_is_taken_into_generation_1(build: Any) -> None:
    made = world(build, {"1.0.0": "accepted"})
    release = made["releases"]["1.0.0"]

    plan = make_plan(build.known(build.choice({"stable": release}), vendors=made["vendors"], verdicts=made["verdicts"]))

    assert outcomes(plan) == {"stable": "take"}
    assert plan.exit_code == 0
    assert [e.ref for e in plan.taken] == [release.ref()]
    generation = plan.generation
    assert generation is not None
    assert (generation.number, generation.previous, generation.station) == (1, None, "vm1")
    assert generation.why == f"stable: {release.ref()}"
    assert [(r.key, r.digest) for r in generation.releases] == [(str(release.ref()), release.digest())]
    assert channels(plan) == {"stable": str(release.ref())}


def test_next_release_takes_the_channel_and_the_one_before_is_contained(build: Any, two: Any) -> None:
    known, releases = two
    plan = make_plan(choose(known, build.choice({"stable": releases["1.1.0"]})))

    assert plan.generation is not None
    assert (plan.generation.number, plan.generation.previous) == (2, 1)
    assert {r.version for r in plan.generation.releases} == {"1.0.0", "1.1.0"}
    assert channels(plan) == {"stable": str(releases["1.1.0"].ref())}
    assert [e.ref.version for e in plan.taken] == ["1.1.0"]


@pytest.mark.parametrize(("kind", "code"), [("refused", 3), ("not run", 4), ("withdrawn", 3)])
def test_release_that_is_not_accepted_never_replaces_one_that_is(build: Any, kind: str, code: int) -> None:
    made = world(build, {"1.0.0": "accepted", "1.1.0": kind})
    first = build.known(
        build.choice({"stable": made["releases"]["1.0.0"]}), vendors=made["vendors"], verdicts=made["verdicts"]
    )
    known = build.applied(first, make_plan(first).generation)

    plan = make_plan(choose(known, build.choice({"stable": made["releases"]["1.1.0"]})))

    assert outcomes(plan) == {"stable": "keep"}
    assert plan.exit_code == code
    assert plan.generation is None
    assert plan.taken == ()
    assert plan.moves[0].why != ""
    assert plan.moves[0].before == str(made["releases"]["1.0.0"].ref())


def test_release_that_is_not_synced_is_kept_out_with_4(build: Any, two: Any) -> None:
    known, _ = two
    plan = make_plan(choose(known, build.choice({"stable": build.release("7.0.0")})))

    assert (plan.exit_code, outcomes(plan)) == (4, {"stable": "keep"})
    assert "run: changeover sync" in plan.moves[0].why


def test_release_that_a_bundle_would_bring_names_the_import(build: Any) -> None:
    plan = make_plan(
        build.known(build.choice({"stable": build.release("1.0.0")}), vendors=(build.vendor(carried=True),))
    )

    assert plan.exit_code == 4
    assert "run: changeover import BUNDLE" in plan.moves[0].why


def test_release_of_a_vendor_that_is_not_trusted_is_kept_out_with_4(build: Any, two: Any) -> None:
    known, _ = two
    stranger = build.release("1.0.0", model="evil/person-roto")

    plan = make_plan(choose(known, build.choice({"stable": stranger})))

    assert (plan.exit_code, outcomes(plan)) == (4, {"stable": "keep"})


def test_release_of_a_vendor_that_does_not_verify_is_kept_out_with_5(build: Any, two: Any) -> None:
    known, releases = two
    broken = replace(known, studio=replace(known.studio, vendors=(build.vendor(error=EXPIRED),)))

    plan = make_plan(choose(broken, build.choice({"stable": releases["1.1.0"]})))

    assert (plan.exit_code, outcomes(plan)) == (5, {"stable": "keep"})
    assert plan.moves[0].why == str(EXPIRED)
    assert plan.trust_errors == (EXPIRED,)


def test_vendor_that_does_not_verify_is_no_failure_where_all_that_was_chosen_is_in_use(build: Any, two: Any) -> None:
    known, _ = two
    broken = replace(known, studio=replace(known.studio, vendors=(build.vendor(error=EXPIRED),)))

    plan = make_plan(broken)

    assert (plan.exit_code, outcomes(plan), plan.generation) == (0, {"stable": "same"}, None)


def test_exit_code_is_that_of_what_was_kept_out_and_trust_goes_before_refused_before_undecided(build: Any) -> None:
    made = world(build, {"1.0.0": "refused", "1.1.0": "not run"})
    other = build.vendor(name="zeta", error=EXPIRED)
    releases = made["releases"]
    zeta = build.release(model="zeta/sky")
    known = build.known(vendors=(*made["vendors"], other), verdicts=made["verdicts"])

    def code(**pointers: Any) -> int:
        return make_plan(choose(known, build.choice(pointers))).exit_code

    assert code(stable=releases["1.1.0"]) == 4
    assert code(stable=releases["1.1.0"], beta=releases["1.0.0"]) == 3
    assert code(stable=releases["1.1.0"], beta=zeta) == 5


def test_changed_host_takes_nothing_away_from_a_channel(build: Any, two: Any) -> None:
    known, _ = two
    plan = make_plan(replace(known, facts=build.facts(ram_mib=1, runtimes=())))

    assert (outcomes(plan), plan.exit_code, plan.generation) == ({"stable": "same"}, 0, None)


def test_release_that_is_only_kept_for_stamps_is_judged_anew_before_a_channel_moves_to_it(build: Any, two: Any) -> None:
    """Stamps keep it; a channel changes over to it only if this host may still run it."""
    known, releases = two
    second = choose(known, build.choice({"stable": releases["1.1.0"]}))
    known = build.applied(second, make_plan(second).generation)
    back = choose(known, build.choice({"stable": releases["1.0.0"]}))

    fine = make_plan(back)
    changed = make_plan(replace(back, facts=build.facts(cpu_level="x86_64_v4")))
    distrusted = make_plan(replace(back, studio=replace(back.studio, vendors=())))

    assert (outcomes(fine), fine.taken) == ({"stable": "take"}, ())
    assert (outcomes(changed), changed.exit_code) == ({"stable": "keep"}, 4)
    assert (outcomes(distrusted), distrusted.generation) == ({"stable": "keep"}, None)


def test_release_whose_record_is_unreadable_is_undecided_and_other_channels_go_on(build: Any) -> None:
    new, other = build.release("2.0.0"), build.release("1.0.0", model="acme/sky-roto")
    error = UndecidedError("release record", where="w", expected="major 1", actual="9", remedy="install a newer one")
    vendor = build.vendor(other, unreadable=((str(new.ref()), error),))
    pins = (Pin(release=other.ref(), reason="sky"),)
    choice = build.choice({"stable": new}, pins=pins)
    known = build.known(choice, vendors=(vendor,), verdicts=(build.verdict(other),))

    plan = make_plan(known)

    assert {m.wanted: (m.outcome, m.exit_code) for m in plan.moves} == {
        str(new.ref()): ("keep", 4),
        str(other.ref()): ("take", 0),
    }
    assert plan.generation is not None
    assert [release.key for release in plan.generation.releases] == [str(other.ref())]
    assert plan.exit_code == 4


def test_withdrawn_release_in_use_stays_and_is_marked(build: Any, two: Any) -> None:
    known, releases = two
    vendor = build.vendor(*releases.values(), withdrawn={"1.0.0": "leaks hair"})

    plan = make_plan(replace(known, studio=replace(known.studio, vendors=(vendor,))))

    assert outcomes(plan) == {"stable": "same"}
    assert plan.generation is not None
    assert [r.withdrawn for r in plan.generation.releases] == ["leaks hair"]
    assert channels(plan) == {"stable": str(releases["1.0.0"].ref())}


def test_hold_keeps_the_station_where_it_is_until_its_last_second(build: Any, two: Any) -> None:
    known, releases = two
    moved = choose(known, build.choice({"stable": releases["1.1.0"]}))

    for_ever = make_plan(replace(moved, hold=build.hold()))
    ending = replace(moved, hold=build.hold(until=build.after(seconds=1)))

    assert (for_ever.generation, for_ever.hold) == (None, build.hold())
    assert make_plan(ending).generation is None
    later = make_plan(replace(ending, now=build.now + timedelta(seconds=1)))
    assert (later.hold, outcomes(later)) == (None, {"stable": "take"})
    assert later.generation is not None


def test_smoke_that_did_not_pass_keeps_the_release_out(build: Any, two: Any) -> None:
    known, releases = two
    moved = choose(known, build.choice({"stable": releases["1.1.0"]}))
    key = str(releases["1.1.0"].ref())

    refused = make_plan(replace(moved, smoke=((key, build.refused("smoke")),)))
    not_run = make_plan(replace(moved, smoke=((key, build.not_run("smoke")),)))

    assert (refused.exit_code, refused.generation, outcomes(refused)) == (3, None, {"stable": "keep"})
    assert (not_run.exit_code, not_run.generation) == (4, None)
    assert "smoke" in refused.moves[0].why


def test_pins_answer_for_their_scope_and_end_when_they_are_taken_away(build: Any, two: Any) -> None:
    known, releases = two
    pins = (build.pin(releases["1.1.0"]), build.pin(releases["1.0.0"], "atlas", "ab"))
    pinned = choose(known, build.choice({"stable": releases["1.0.0"]}, pins=pins))

    plan = make_plan(pinned)
    assert plan.generation is not None
    freed = make_plan(build.applied(choose(pinned, build.choice({"stable": releases["1.0.0"]})), plan.generation))

    assert outcomes(plan) == {"stable": "same", "pin site": "take", "pin atlas/ab": "take"}
    assert {(p.show, p.sequence, p.key.split("@")[1][:5]) for p in plan.generation.pins} == {
        (None, None, "1.1.0"),
        ("atlas", "ab", "1.0.0"),
    }
    assert freed.generation is not None
    assert freed.generation.pins == ()
    assert freed.generation.why == "the choice or the policy changed"
    assert {r.version for r in freed.generation.releases} == {"1.0.0", "1.1.0"}


def test_pin_that_cannot_move_keeps_the_release_that_it_named_before(build: Any) -> None:
    made = world(build, {"1.0.0": "accepted", "1.1.0": "refused"})
    releases = made["releases"]
    first = build.known(
        build.choice(pins=(build.pin(releases["1.0.0"], "atlas"),)),
        vendors=made["vendors"],
        verdicts=made["verdicts"],
    )
    known = build.applied(first, make_plan(first).generation)

    plan = make_plan(choose(known, build.choice(pins=(build.pin(releases["1.1.0"], "atlas"),))))

    assert (plan.exit_code, plan.generation) == (3, None)
    assert plan.moves[0].before == str(releases["1.0.0"].ref())


def test_new_interface_moves_no_channel_by_itself_and_a_pin_may_name_it(build: Any, two: Any) -> None:
    """The same release is judged for each that names it: the channel has something to compare with, the pin has not."""
    known, releases = two
    port = releases["1.0.0"].interface.inputs[0].model_copy(update={"colour": "srgb"})
    new = build.release("2.0.0", interface=releases["1.0.0"].interface.model_copy(update={"inputs": (port,)}))
    studio = replace(known.studio, vendors=(build.vendor(*releases.values(), new),))
    known = replace(known, studio=studio, verdicts=(*known.verdicts, build.verdict(new)))
    site = build.choice({"stable": new})
    show = build.choice(scope="shows/atlas", pins=(build.pin(new, "atlas"),))

    for choices in permutations((site, show)):
        plan = make_plan(choose(known, *choices))
        assert outcomes(plan) == {"stable": "keep", "pin atlas": "take"}
        assert plan.exit_code == 3
        assert channels(plan) == {"stable": str(releases["1.0.0"].ref())}
        after = make_plan(build.applied(choose(known, *choices), plan.generation))
        assert outcomes(after) == {"stable": "keep", "pin atlas": "same"}


def test_override_of_one_show_passes_over_nothing_for_the_site_or_another_show(build: Any) -> None:
    made = world(build, {"1.0.0": "not run"})
    release = made["releases"]["1.0.0"]
    known = build.known(vendors=made["vendors"])
    override = build.override(release, "vram", "speed", "golden")
    site = build.choice({"stable": release})
    atlas = build.choice({"show/atlas": release}, scope="shows/atlas", overrides=(override,))
    other = build.choice({"show/other": release}, scope="shows/other")

    plan = make_plan(choose(known, site, atlas, other))
    of_the_site = build.choice({"stable": release}, overrides=(override,))
    everywhere = make_plan(choose(known, of_the_site, build.choice({"show/atlas": release}, scope="shows/atlas")))

    assert outcomes(plan) == {"stable": "keep", "show/atlas": "take", "show/other": "keep"}
    assert channels(plan) == {"show/atlas": str(release.ref())}
    assert plan.exit_code == 4
    assert set(outcomes(everywhere).values()) == {"take"}


def test_show_is_heard_where_site_and_show_speak_of_the_same_channel(build: Any) -> None:
    made = world(build, {"1.0.0": "accepted", "1.1.0": "accepted"})
    site = build.choice({"show/atlas": made["releases"]["1.0.0"]})
    show = build.choice({"show/atlas": made["releases"]["1.1.0"]}, scope="shows/atlas")

    for choices in permutations((site, show)):
        plan = make_plan(build.known(*choices, vendors=made["vendors"], verdicts=made["verdicts"]))
        assert channels(plan) == {"show/atlas": str(made["releases"]["1.1.0"].ref())}
        assert len(plan.moves) == 1


def test_newest_generation_is_contained_in_the_next_after_a_rollback(build: Any, two: Any) -> None:
    first, releases = two
    second = choose(first, build.choice({"stable": releases["1.1.0"]}))
    newest = make_plan(second).generation
    back = replace(build.applied(second, newest), current=first.current)

    plan = make_plan(choose(back, build.choice({"stable": releases["1.0.0"], "beta": releases["1.0.0"]})))

    assert plan.generation is not None
    assert (plan.generation.number, plan.generation.previous) == (3, 1)
    assert {release.version for release in plan.generation.releases} == {"1.0.0", "1.1.0"}


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, str], list[list[tuple[str, str]]]]:
    """What each version is like, and what is chosen one time after another: (channel or pin, version)."""
    kinds = {version: draw(st.sampled_from(KINDS)) for version in VERSIONS}
    targets = st.sampled_from(["stable", "beta", "pin site", "pin atlas"])
    steps = st.lists(st.tuples(targets, st.sampled_from(VERSIONS)), max_size=4, unique_by=lambda entry: entry[0])
    return kinds, draw(st.lists(steps, min_size=1, max_size=3))


def chosen(build: Any, releases: dict[str, Any], step: list[tuple[str, str]]) -> Any:
    shows: dict[str, Any] = {"pin site": None, "pin atlas": "atlas"}
    pins = tuple(build.pin(releases[version], shows[name]) for name, version in step if name in shows)
    return build.choice({name: releases[version] for name, version in step if name not in shows}, pins=pins)


@given(situations(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_rules_hold_after_any_choices(build: Any, situation: Any, rolled_back: bool) -> None:
    kinds, steps = situation
    made = world(build, kinds)
    good = {str(made["releases"][version].ref()) for version, kind in kinds.items() if kind == "accepted"}
    known = build.known(vendors=made["vendors"], verdicts=made["verdicts"])
    for step in steps:
        known = choose(known, chosen(build, made["releases"], step))
        plan = make_plan(known)
        new = plan.generation

        # Nothing that is not accepted is served, and whatever was accepted and had is kept or replaced by the like.
        served = {} if new is None else {c.channel: c.key for c in new.channels}
        assert set(served.values()) <= good
        for move in plan.moves:
            assert move.outcome == ("same" if move.before == move.wanted else "take" if move.wanted in good else "keep")
            assert (move.exit_code == 0) == (move.outcome != "keep")
            if new is not None and move.outcome == "keep" and move.where in {"stable", "beta"}:
                assert served.get(move.where) == move.before
        # What the generation in use and the newest hold is contained in the next.
        if new is not None:
            kept = {r.key for made in (known.current, known.latest) if made for r in made.releases}
            assert {r.key for r in new.releases} >= kept
            assert new.number == known.next_number
        # Planning again once it is applied changes nothing.
        after = build.applied(known, new)
        again = make_plan(after)
        assert again.generation is None
        assert {move.outcome for move in again.moves} <= {"same", "keep"}
        assert again.exit_code == plan.exit_code
        current = known.current if rolled_back and known.current else after.current
        known = replace(after, current=current)


@given(situations(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_order_within_a_scope_and_of_scopes_changes_no_answer(build: Any, situation: Any, random: Any) -> None:
    kinds, steps = situation
    made = world(build, kinds)
    site = chosen(build, made["releases"], steps[0])
    show = build.choice(
        {"show/atlas": made["releases"]["1.1.0"]},
        scope="shows/atlas",
        pins=(build.pin(made["releases"]["1.0.0"], "atlas", "ab"),),
    )
    verdicts = made["verdicts"]
    known = build.known(site, show, vendors=made["vendors"], verdicts=verdicts)
    shuffled_site = site.model_copy(
        update={
            "channels": tuple(random.sample(site.channels, len(site.channels))),
            "pins": tuple(random.sample(site.pins, len(site.pins))),
        }
    )
    choices = [shuffled_site, show]
    random.shuffle(choices)

    assert make_plan(choose(known, *choices)) == make_plan(known)


def test_choice_that_names_one_scope_twice_is_answered_in_one_way_whatever_its_order(build: Any) -> None:
    made = world(build, {"1.0.0": "accepted", "1.1.0": "accepted"})
    pins = tuple(Pin(release=made["releases"][v].ref(), show="atlas", reason="r") for v in ("1.0.0", "1.1.0"))
    found = [
        make_plan(build.known(build.choice(pins=order), vendors=made["vendors"], verdicts=made["verdicts"]))
        for order in permutations(pins)
    ]

    assert found[0] == found[1]
    assert len(found[0].moves) == 1


@given(st.sets(st.sampled_from(EVERY)), st.sampled_from(KINDS), st.integers(-2, 2))
@settings(deadline=None, max_examples=60)
def test_override_never_passes_trust_and_never_after_its_end(
    build: Any, checks: set[Any], kind: str, ahead: int
) -> None:
    made = world(build, {"1.0.0": kind})
    release = made["releases"]["1.0.0"]
    overrides = (build.override(release, *checks, until=build.after(seconds=ahead)),) if checks else ()
    known = build.known(
        build.choice({"stable": release}, overrides=overrides), vendors=made["vendors"], verdicts=made["verdicts"]
    )

    taken = outcomes(make_plan(known)) == {"stable": "take"}

    needed = {"accepted": set(), "refused": {"golden"}, "not run": {"vram", "speed", "golden"}, "withdrawn": {"trust"}}
    live = checks if ahead > 0 else set()
    assert taken == (needed[kind] <= live)


def test_plan_and_judgement_agree_on_what_is_accepted(build: Any, two: Any) -> None:
    known, releases = two
    release = releases["1.1.0"]
    plan = make_plan(choose(known, build.choice({"stable": release})))
    alone = judge_release(
        Candidate(
            release=release,
            vendor=known.studio.vendors[0],
            baseline=releases["1.0.0"],
            verdicts=known.verdicts,
            overrides=(),
            facts=known.facts,
            policy=known.studio.policy,
            now=known.now,
        )
    )

    assert plan.judged == (alone,)
    assert isinstance(EXPIRED, ChangeoverError)


def served_without_nuke(build: Any) -> tuple[Any, Any]:
    """A station without Nuke that serves a release of which it could be given only the ONNX variant."""
    release = build.release("1.0.0", variants=(build.variant(), build.cat()))
    checks = ("hardware", "vram", "speed", "golden", "smoke")
    chosen = build.choice({"stable": release}, overrides=(build.override(release, *checks),))
    first = build.known(chosen, vendors=(build.vendor(release, allow_executable=True),))
    return build.applied(first, make_plan(first).generation), release


def test_nuke_that_comes_later_is_given_the_release_in_use_and_what_is_served_stays(build: Any) -> None:
    without, _ = served_without_nuke(build)
    known = replace(without, facts=build.facts(nukes=(build.nuke(),)))

    plan = make_plan(known)

    assert outcomes(plan) == {"stable": "same"}
    assert [[v.id for v in arrival.variants] for arrival in plan.arrivals] == [["nuke-cat-torch2.1"]]
    assert plan.generation is not None
    answers = {(a.loader, a.nuke_line): a.path for a in plan.generation.releases[0].answers}
    before = {(a.loader, a.nuke_line): a.path for a in without.current.releases[0].answers}
    assert (answers["nuke-inference", "15.1"] or "").endswith("Roto.cat")
    assert before.items() <= answers.items()
    assert make_plan(build.applied(known, plan.generation)).generation is None


def test_variant_that_fails_its_smoke_does_not_reach_a_release_in_use(build: Any) -> None:
    without, release = served_without_nuke(build)
    smoke = ((str(release.ref()), build.refused("smoke")),)

    plan = make_plan(replace(without, facts=build.facts(nukes=(build.nuke(),)), smoke=smoke))

    assert outcomes(plan) == {"stable": "same"}
    assert (plan.arrivals, plan.exit_code) == ((), 3)
    assert "smoke" in plan.moves[0].why


def test_other_variant_is_never_put_under_a_release_in_use(build: Any) -> None:
    half = build.variant(id="onnx-fp16", precision="fp16")
    release = build.release("1.0.0", variants=(half, build.variant()))
    only_full = build.known(
        build.choice({"stable": release}),
        vendors=(build.vendor(release),),
        verdicts=(build.verdict(release, points=(build.report(release, variant=1),)),),
    )
    served = build.applied(only_full, make_plan(only_full).generation)

    plan = make_plan(replace(served, verdicts=(build.verdict(release),)))

    assert plan.generation is None
    assert {a.variant for a in served.current.releases[0].answers if a.path} == {"onnx-fp32"}
