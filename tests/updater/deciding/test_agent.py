"""When an agent looks and updates: properties over any station, moment, hours and chance."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_updater.agent import (
    Done,
    Memory,
    Pace,
    Seen,
    after_poll,
    after_tick,
    is_open,
    next_report,
    start,
    wanted,
    why_shut,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NOON = time(12, 0)
PACE = Pace("ws1")
WELL = Done(exit_code=0, line="generation 1 stays; nothing to do")

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given a zone
chances = st.floats(0, 1, exclude_max=True)
clocks = st.times().map(lambda at: at.replace(second=0, microsecond=0))
stations = st.text("abcdefghij-0123456789", min_size=1, max_size=20)


def at_rest(pace: Pace = PACE, serial: str = "a") -> Memory:
    """An agent that has looked and updated, and has nothing to do until its next moment."""
    memory = after_tick(pace, start(pace, NOW), WELL, NOW, 0.5)
    return after_poll(pace, memory, Seen(serial), NOW, NOON, 0.5)


def test_fresh_agent_looks_at_once_and_updates_within_the_jitter() -> None:
    memory = start(PACE, NOW)

    assert wanted(PACE, memory, NOW) == "poll"
    assert NOW <= memory.tick_at <= NOW + timedelta(seconds=PACE.jitter)


def test_agent_that_was_restarted_goes_on_where_it_was() -> None:
    memory = start(PACE, NOW, seen=Seen("a"), last=NOW - timedelta(seconds=100))

    same = after_poll(PACE, memory, Seen("a"), NOW, NOON, 0.5)
    changed = after_poll(PACE, memory, Seen("b"), NOW, NOON, 0.5)

    assert same.tick_at == memory.tick_at
    assert same.why == "interval"
    assert (changed.why, changed.tick_at <= NOW + timedelta(seconds=PACE.jitter)) == ("the choice changed", True)


def test_last_tick_of_the_future_or_of_long_ago_counts_for_nothing() -> None:
    for last in (NOW + timedelta(days=400), NOW - timedelta(days=400)):
        assert start(PACE, NOW, last=last).why == "start"


@given(stations, moments, chances, st.floats(60, 86400))
def test_ticks_are_about_an_interval_apart(station: str, now: datetime, chance: float, interval: float) -> None:
    pace = Pace(station, interval)

    after = after_tick(pace, start(pace, now), WELL, now, chance)

    assert 0.5 * pace.period - 0.001 <= (after.tick_at - now).total_seconds() <= 1.7 * pace.period + 0.001


@given(st.floats(60, 86400))
def test_the_period_is_a_prime_number_of_seconds_that_is_hardly_longer(interval: float) -> None:
    period = Pace("ws1", interval).period

    assert int(interval) <= period < interval + 120
    assert all(period % divisor for divisor in range(2, int(period**0.5) + 1))


def test_ten_thousand_stations_do_not_come_at_once() -> None:
    """Of an interval and of a new choice alike, no second has more than a few of them."""
    paces = [Pace(f"render-{number:05}") for number in range(10_000)]
    slots = [after_tick(pace, start(pace, NOW), WELL, NOW, 0.5).tick_at for pace in paces]
    news = [after_poll(pace, at_rest(pace), Seen("b"), NOW, NOON, 0.5).tick_at for pace in paces]

    for found, seconds in ((slots, PACE.period), (news, PACE.jitter)):
        counts: dict[int, int] = {}
        for moment in found:
            second = int((moment - NOW).total_seconds())
            counts[second] = counts.get(second, 0) + 1
        even = 10_000 / seconds
        assert max(counts.values()) < even + 6 * even**0.5
        assert len(counts) > 0.99 * seconds


def test_the_place_of_a_station_is_the_same_in_every_interval() -> None:
    first = after_tick(PACE, start(PACE, NOW), WELL, NOW, 0.5).tick_at
    late = after_tick(PACE, start(PACE, NOW), WELL, first + timedelta(seconds=200), 0.5).tick_at

    assert late - first == timedelta(seconds=PACE.period)


def test_one_tick_in_five_is_late_by_up_to_a_fifth() -> None:
    def moment(chance: float) -> float:
        after = after_tick(PACE, start(PACE, NOW), WELL, NOW, chance)
        return (after.tick_at - moment_of_its_own).total_seconds()

    moment_of_its_own = after_tick(PACE, start(PACE, NOW), WELL, NOW, 0.99).tick_at

    assert [moment(chance) for chance in (0.2, 0.5, 0.9)] == [0, 0, 0]
    assert moment(0.1) == pytest.approx(0.1 * PACE.period)
    assert moment(0.199) == pytest.approx(0.199 * PACE.period)


@given(stations, moments, chances)
def test_what_was_not_changed_wakes_nobody(station: str, now: datetime, chance: float) -> None:
    pace = Pace(station)
    before = replace(at_rest(pace), tick_at=now + timedelta(seconds=500))

    after = after_poll(pace, before, Seen("a"), now, NOON, chance)

    assert after.tick_at == before.tick_at
    assert after.poll_at == now + timedelta(seconds=pace.poll)


def test_hold_that_is_set_wakes_nobody_and_one_that_is_lifted_does() -> None:
    before = at_rest()

    held = after_poll(PACE, before, Seen("a", held=True), NOW, NOON, 0.5)
    lifted = after_poll(PACE, held, Seen("a"), NOW, NOON, 0.5)

    assert held.tick_at == before.tick_at
    assert (lifted.tick_at, lifted.why) == (NOW, "the hold was lifted")


@given(chances)
def test_site_that_does_not_answer_is_asked_ever_more_rarely_up_to_the_interval(chance: float) -> None:
    memory, now, waits = at_rest(), NOW, []
    for _ in range(12):
        memory = after_poll(PACE, memory, Seen(None), now, NOON, chance)
        waits.append((memory.poll_at - now).total_seconds())
        # An update would find no site either.
        assert wanted(PACE, memory, now) == memory.poll_at - now
        now = memory.poll_at

    factor = 0.75 + 0.5 * chance
    assert waits == pytest.approx([min(60 * 2**turn, 900) * factor for turn in range(12)])


def test_site_that_answers_again_is_taken_up_within_the_jitter() -> None:
    gone = after_poll(PACE, at_rest(), Seen(None), NOW, NOON, 0.5)

    back = after_poll(PACE, gone, Seen("a"), NOW, NOON, 0.5)

    assert (back.silent, back.why) == (0, "the site answers again")
    assert back.tick_at <= NOW + timedelta(seconds=PACE.jitter)


def test_choice_that_changed_while_the_site_was_away_is_seen() -> None:
    gone = after_poll(PACE, at_rest(), Seen(None), NOW, NOON, 0.5)

    assert after_poll(PACE, gone, Seen("b"), NOW, NOON, 0.5).seen == Seen("b")


@pytest.mark.parametrize("code", [6, 7, 9, -9])
def test_what_may_pass_is_tried_again_soon_and_then_ever_later(code: int) -> None:
    memory, waits = at_rest(), []
    for _ in range(8):
        memory = after_tick(PACE, memory, Done(exit_code=code, line="x"), NOW, 0.5)
        waits.append((memory.tick_at - NOW).total_seconds())
        assert memory.why == "again"

    assert waits[:4] == [60, 120, 240, 480]
    assert max(waits) <= PACE.period
    assert after_tick(PACE, memory, WELL, NOW, 0.5).failed == 0


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 8])
def test_what_does_not_pass_by_itself_waits_for_the_interval(code: int) -> None:
    after = after_tick(PACE, at_rest(), Done(exit_code=code, line="x"), NOW, 0.5)

    assert (after.failed, after.why) == (0, "interval")


@given(st.timedeltas(timedelta(days=1), timedelta(days=4000)))
def test_clock_that_was_put_back_stops_no_agent(back: timedelta) -> None:
    memory = at_rest()

    assert wanted(PACE, memory, NOW - back) == "poll"
    after = after_poll(PACE, memory, Seen("a"), NOW - back, NOON, 0.5)
    assert wanted(PACE, after, NOW - back) == "tick"


@given(moments, chances, chances)
def test_next_report_is_never_missed_by_an_agent_that_lives(now: datetime, one: float, two: float) -> None:
    """Even where the tick that comes next is as late as it can be."""
    first = after_tick(PACE, start(PACE, now), WELL, now, one).tick_at
    second = after_tick(PACE, start(PACE, now), WELL, first, two).tick_at

    assert first < second <= next_report(PACE, now) + timedelta(seconds=1)


@given(clocks, clocks, clocks)
def test_hours_and_their_complement_share_the_day(begin: time, end: time, at: time) -> None:
    span, rest = f"{begin:%H:%M}-{end:%H:%M}", f"{end:%H:%M}-{begin:%H:%M}"

    if begin == end:
        assert is_open(span, at)
    else:
        assert is_open(span, at) != is_open(rest, at)


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        ("", "03:00", True),
        ("19:00-07:00", "18:59", False),
        ("19:00-07:00", "19:00", True),
        ("19:00-07:00", "00:00", True),
        ("19:00-07:00", "06:59", True),
        ("19:00-07:00", "07:00", False),
        ("12:00-13:00", "12:59", True),
        ("12:00-13:00", "13:00", False),
    ],
)
def test_hours(hours: str, at: str, expected: bool) -> None:
    assert is_open(hours, time.fromisoformat(at)) is expected


def test_hours_follow_the_clock_on_the_wall_when_it_is_changed() -> None:
    """02:00 to 03:00 is skipped in March and comes twice in October, in a zone that does so."""
    zone = ZoneInfo("Europe/Berlin")

    def minutes(day: date) -> int:
        begin = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        return sum(
            why_shut("02:00-03:00", (begin + timedelta(minutes=minute)).astimezone(zone)) is None
            for minute in range(25 * 60)
            if (begin + timedelta(minutes=minute)).astimezone(zone).date() == day
        )

    assert [minutes(day) for day in (date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25))] == [60, 0, 120]


def test_station_that_waited_for_its_hours_is_woken_when_they_begin() -> None:
    waits = after_tick(PACE, at_rest(), Done(exit_code=0, line="x", hours="19:00-07:00", shut=True), NOW, 0.5)

    before = after_poll(PACE, waits, Seen("a"), NOW, time(18, 59), 0.5)
    begun = after_poll(PACE, before, Seen("a"), NOW, time(19, 0), 0.5)
    again = after_poll(PACE, begun, Seen("a"), NOW, time(19, 1), 0.5)

    assert before.tick_at == waits.tick_at
    assert begun.why == "the hours of the policy have begun"
    assert begun.tick_at <= NOW + timedelta(seconds=PACE.jitter)
    assert again.tick_at == begun.tick_at


def test_agent_that_begins_within_the_hours_knows_that_the_last_one_waited_for_them() -> None:
    done = Done(exit_code=0, line="x", hours="19:00-07:00", shut=True)
    memory = start(PACE, NOW, seen=Seen("a"), last=NOW - timedelta(seconds=1), done=done)

    assert after_poll(PACE, memory, Seen("a"), NOW, time(20, 0), 0.5).why == "the hours of the policy have begun"


def test_sentence_of_closed_hours_names_them_and_the_hour() -> None:
    local = datetime(2026, 11, 22, 12, 3, tzinfo=ZoneInfo("Asia/Tokyo"))

    assert (
        why_shut("19:00-07:00", local) == "the policy lets agents change over from 19:00 to 07:00, and it is 12:03 here"
    )
    assert why_shut("12:00-13:00", local) is None
