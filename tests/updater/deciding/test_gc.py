import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.policy import RetentionPolicy
from changeover_updater.gc import GRACE, Facts, GenerationFact, Plan, Probe, ReleaseFact, StationFact, plan_gc
from changeover_updater.leases import SessionLease

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYS = tuple(f"acme/roto@{n}.0.0-{'a' * 12}" for n in range(6))
FREE = Probe(is_open=False, copy="the vendor's repository")


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def generation(number: int, *holds: str, days: float = 100, answers: tuple[str, ...] | None = None) -> GenerationFact:
    before = number - 1 if number > 1 else None
    served = holds[-1:] if answers is None else answers
    return GenerationFact(number, ago(days), before, None, frozenset(holds), frozenset(served), size=10)


def release(key: str, days: float = 100, read: float | None = 100) -> ReleaseFact:
    return ReleaseFact(key, 1000, ago(days), None if read is None else ago(read))


def station(*generations: GenerationFact, current: int | None = None, **changes: object) -> StationFact:
    newest = max((g.number for g in generations), default=None)
    return replace(StationFact("vm1", current or newest, generations), **changes)  # type: ignore[arg-type]


def facts(*stations: StationFact, releases: tuple[ReleaseFact, ...] = (), **changes: object) -> Facts:
    probes = {fact.key: FREE for fact in releases}
    return replace(Facts(stations, releases, NOW, probes=probes), **changes)  # type: ignore[arg-type]


def gone(plan: Plan) -> list[int]:
    return [fact.number for part in plan.stations for fact in part.goes]


def test_the_one_in_use_and_the_way_back_stay() -> None:
    five = station(*(generation(n, KEYS[0]) for n in range(1, 6)))

    plan = plan_gc(facts(five))

    assert gone(plan) == [1, 2]
    assert plan.why("generation 5 of vm1") == ("in use", "the newest")
    assert plan.why("generation 3 of vm1") == ("the way back: one of the 3 newest in its line",)
    assert plan.size == 20


def test_the_way_back_follows_previous_and_not_the_numbers() -> None:
    line = (generation(1), generation(2), generation(3), replace(generation(4), previous=1))

    assert gone(plan_gc(facts(station(*line)))) == [2, 3]


def test_after_a_way_back_the_newest_stays_and_nothing_is_dropped() -> None:
    plan = plan_gc(facts(station(*(generation(n, *KEYS[:n]) for n in range(1, 6)), current=2)))

    assert gone(plan) == [3, 4]
    assert plan.stations[0].drop == frozenset()


@pytest.mark.parametrize(
    ("share", "days", "stays"), [(False, 29, True), (False, 31, False), (True, 31, True), (True, 91, False)]
)
def test_what_was_used_within_the_retention_stays(share: bool, days: float, stays: bool) -> None:
    old = replace(generation(1), used_until=ago(days))
    rest = tuple(generation(n) for n in range(2, 6))

    assert (1 not in gone(plan_gc(facts(station(old, *rest), share=share)))) is stays


def test_a_session_keeps_what_it_opened_and_an_unreadable_lease_everything() -> None:
    five = tuple(generation(n) for n in range(1, 6))
    mine = SessionLease("ws-1.json", ago(1), "ws", 1, 2)

    assert gone(plan_gc(facts(station(*five, leases=(mine,))))) == [1]
    assert gone(plan_gc(facts(station(*five, leases=(replace(mine, generation=None),))))) == []
    assert gone(plan_gc(facts(station(*five, leases=(replace(mine, ended=True),))))) == [1, 2]
    assert gone(plan_gc(facts(station(*five, leases=(replace(mine, touched=ago(15)),))))) == [1, 2]


def test_what_nothing_answers_any_more_is_dropped_and_what_was_read_lately_is_not() -> None:
    one, two, three = KEYS[:3]
    line = (generation(1, one), generation(2, one, two), generation(3, one, two, three))
    few = RetentionPolicy(generations=2)
    releases = tuple(release(key) for key in (one, two, three))

    assert plan_gc(facts(station(*line), releases=releases, retention=few)).stations[0].drop == {one}
    read = (release(one, read=5), *releases[1:])
    assert plan_gc(facts(station(*line), releases=read, retention=few)).stations[0].drop == frozenset()
    needed = facts(station(*line), releases=releases, retention=few, needs={one: ("channel beta",)})
    assert plan_gc(needed).stations[0].drop == frozenset()
    held = facts(station(*line, held=True), releases=releases, retention=few)
    assert plan_gc(held).stations[0].drop == frozenset()


def test_a_release_goes_only_when_nothing_keeps_it_and_each_reason_is_told() -> None:
    free = facts(station(generation(1, KEYS[1])), releases=(release(KEYS[0]),))
    assert [fact.key for fact in plan_gc(free).releases] == [KEYS[0]]

    for changes, said in (
        ({"needs": {KEYS[0]: ("show atlas was given it and is not closed",)}}, "show atlas"),
        ({"probes": {KEYS[0]: Probe(is_open=True, copy="there")}}, "a process has it open"),
        ({"probes": {KEYS[0]: Probe(is_open=None, missing="the vendor is gone")}}, "the vendor is gone; --purge"),
        ({"probes": {}}, "nobody looked"),
        ({"releases": (release(KEYS[0], days=GRACE.days / 2),)}, "put in place within a day"),
        ({"releases": (release(KEYS[0], read=29),)}, "read within 30 days"),
        ({"stations": (station(generation(1, KEYS[0])),)}, "generation 1 of vm1 holds it"),
        ({"stations": (station(replace(generation(1), readable=False)),)}, "cannot be read and may hold it"),
    ):
        plan = plan_gc(replace(free, **changes))
        assert plan.releases == ()
        assert said in "; ".join(plan.why(KEYS[0]))


def test_a_purge_gives_up_the_last_copy_and_nothing_else() -> None:
    lost = facts(station(generation(1)), releases=(release(KEYS[0]),), probes={KEYS[0]: Probe(missing="gone")})
    purge = frozenset({KEYS[0]})

    assert plan_gc(lost).releases == ()
    assert len(plan_gc(replace(lost, purge=purge)).releases) == 1
    assert plan_gc(replace(lost, purge=purge, needs={KEYS[0]: ("channel beta",)})).releases == ()
    assert plan_gc(replace(lost, purge=purge, probes={KEYS[0]: Probe(is_open=True)})).releases == ()


def test_questions_are_open_only_for_what_nothing_else_keeps() -> None:
    asked = facts(
        station(generation(1, KEYS[0])), releases=tuple(release(key) for key in KEYS[:3]), probes={KEYS[2]: FREE}
    )

    assert plan_gc(asked).open_questions == (KEYS[1],)


def moments() -> st.SearchStrategy[datetime]:
    return st.floats(min_value=-1, max_value=200).map(ago)


def keys() -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(KEYS))


@st.composite
def some_facts(draw: st.DrawFn) -> Facts:
    """Any store, also one that no command of ours would leave."""
    stations = tuple(draw(some_station(f"vm{n}")) for n in range(draw(st.integers(0, 3))))
    releases = tuple(ReleaseFact(key, 1, draw(moments()), draw(st.none() | moments())) for key in sorted(draw(keys())))
    probe = st.builds(Probe, is_open=st.sampled_from([None, True, False]), copy=st.sampled_from([None, "there"]))
    return Facts(
        stations,
        releases,
        NOW,
        needs=dict.fromkeys(draw(keys()), ("named",)),
        probes={key: draw(probe) for key in sorted(draw(keys()))},
        purge=draw(keys()),
        retention=RetentionPolicy(generations=draw(st.integers(2, 4))),
        share=draw(st.booleans()),
    )


@st.composite
def some_station(draw: st.DrawFn, name: str) -> StationFact:
    numbers = sorted(draw(st.sets(st.integers(1, 8), max_size=6)))
    number = st.sampled_from([None, *numbers, 99])
    generations = []
    for one in numbers:
        holds = draw(keys())
        answers = draw(st.frozensets(st.sampled_from(sorted(holds)))) if holds else frozenset()
        used = draw(st.none() | moments())
        readable = draw(st.integers(0, 9)) > 0
        generations.append(GenerationFact(one, draw(moments()), draw(number), used, holds, answers, 1, readable))
    lease = st.builds(SessionLease, name=st.just("l"), touched=moments(), generation=number, ended=st.booleans())
    return StationFact(
        name,
        draw(number),
        tuple(generations),
        tuple(draw(st.lists(lease, max_size=2))),
        held=draw(st.booleans()),
        unknown=draw(st.sampled_from([None, None, None, "damaged"])),
    )


@given(some_facts())
@settings(max_examples=200, deadline=None)
def test_nothing_that_anything_needs_is_ever_taken(facts: Facts) -> None:
    """Told once more in other words than the code's, from the promises: what goes was needed by none of these."""
    plan = plan_gc(facts)
    parts = {part.station: part for part in plan.stations}
    staying: list[GenerationFact] = []
    for one in facts.stations:
        goes = {fact.number for fact in parts[one.id].goes}
        assert one.current not in goes
        assert not goes or not one.unknown
        for fact in one.generations:
            if fact.number not in goes:
                staying.append(fact)
                continue
            assert fact.readable
            assert fact.number != max(other.number for other in one.generations)
            assert NOW - max(fact.made_at, fact.used_until or fact.made_at) >= timedelta(days=facts.days)
            for lease in one.leases:
                dead = lease.ended or NOW - lease.touched >= timedelta(days=14)
                assert dead or lease.generation not in {None, fact.number}
        if parts[one.id].drop:
            assert not one.held
            newest = max(one.generations, key=lambda g: g.number)
            assert newest.number == one.current
            for key in parts[one.id].drop:
                assert key in newest.holds
                assert not facts.needs.get(key)
                assert all(key not in g.answers for g in one.generations if g.number not in goes)
    for went in plan.releases:
        assert not facts.needs.get(went.key)
        assert all(g.readable and went.key not in g.holds for g in staying)
        assert NOW - went.placed_at >= timedelta(days=1)
        assert went.read_at is None or NOW - went.read_at >= timedelta(days=facts.days)
        probe = facts.probes.get(went.key, Probe())
        assert not probe.is_open
        assert probe.copy or went.key in facts.purge


@given(some_facts(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_things_were_found_does_not_matter(facts: Facts, chance: random.Random) -> None:
    def mixed(values: tuple) -> tuple:  # type: ignore[type-arg]
        return tuple(chance.sample(values, len(values)))

    shuffled = replace(
        facts,
        stations=mixed(tuple(replace(one, generations=mixed(one.generations)) for one in facts.stations)),
        releases=mixed(facts.releases),
    )

    assert plan_gc(shuffled) == plan_gc(facts)


@given(some_facts())
@settings(max_examples=60, deadline=None)
def test_everything_goes_or_stays_with_a_reason(facts: Facts) -> None:
    plan = plan_gc(facts)

    told = [kept.what for kept in plan.kept] + [fact.key for fact in plan.releases]
    told += [f"generation {fact.number} of {part.station}" for part in plan.stations for fact in part.goes]
    there = [fact.key for fact in facts.releases]
    there += [f"generation {g.number} of {one.id}" for one in facts.stations for g in one.generations]
    assert sorted(told) == sorted(there)
    assert all(kept.why and all(kept.why) for kept in plan.kept)
