"""What is wrong is decided from values alone: no disk, no clock, no network."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changeover_registry.records.station import Event, Hold
from changeover_updater.events import Replayed
from changeover_updater.expiries import CHOICE, Expires, expiring, stage
from changeover_updater.health import (
    FileSeen,
    GenerationSeen,
    Repair,
    Seen,
    SiteSeen,
    StationSeen,
    StoreSeen,
    Symptom,
    symptoms,
    whole_generation,
)
from changeover_updater.leases import SessionLease

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

STATION = StationSeen(
    id="ws01",
    pointer=3,
    pointer_damage=None,
    generations=(GenerationSeen(2), GenerationSeen(3)),
    replayed=Replayed(3, None),
    events_damage=None,
    host="ws01",
)
WELL = Seen(NOW, STATION, StoreSeen(free=10**12), SiteSeen(clock=NOW, newest=("choice site 4", NOW - DAY)))


def open_event() -> Event:
    return Event(
        sequence=9, transaction="t", phase="intent", what="update", who="td", when="2026-11-22T11:00:00Z", why="x",
        before=3, after=4,
    )  # fmt: skip


def of_station(**changes: object) -> tuple[Symptom, ...]:
    return symptoms(replace(WELL, station=replace(STATION, **changes)))  # type: ignore[arg-type]


def of_store(**changes: object) -> tuple[Symptom, ...]:
    return symptoms(replace(WELL, store=replace(WELL.store, **changes)))  # type: ignore[arg-type]


def of_site(**changes: object) -> tuple[Symptom, ...]:
    assert WELL.site is not None
    return symptoms(replace(WELL, site=replace(WELL.site, **changes)))  # type: ignore[arg-type]


def test_what_is_well_has_no_symptom() -> None:
    assert symptoms(WELL) == ()
    assert symptoms(replace(WELL, site=None)) == ()


def test_station_before_its_first_changeover_is_well() -> None:
    assert of_station(pointer=None, generations=(), replayed=Replayed(None, None)) == ()


@pytest.mark.parametrize(
    ("changes", "to"),
    [
        ({"pointer": None, "pointer_damage": "three bytes"}, 3),
        ({"pointer": 7}, 3),
        ({"pointer": None}, 3),
        ({"pointer": None, "replayed": Replayed(2, None)}, 2),
        ({"pointer": None, "generations": (GenerationSeen(2), GenerationSeen(3, lacks=("a file",)))}, 2),
        ({"generations": (GenerationSeen(2), GenerationSeen(3, unreadable="cut"))}, 2),
    ],
)
def test_lost_pointer_goes_where_the_events_say_or_to_the_newest_whole_generation(
    changes: dict[str, object], to: int
) -> None:
    found = [one for one in of_station(**changes) if one.subject == "pointer"]

    assert [(one.code, one.repair) for one in found] == [(3, Repair("point", number=to))]


def test_where_no_generation_is_whole_an_update_is_the_way_and_nothing_is_pointed_at() -> None:
    lost = replace(STATION, pointer=None, generations=(GenerationSeen(3, lacks=("a file",)),))

    (symptom,) = symptoms(replace(WELL, station=lost))

    assert whole_generation(lost) is None
    assert (symptom.remedy, symptom.repair) == ("changeover update", None)


def test_pointer_that_somebody_moved_is_a_persons_matter() -> None:
    (symptom,) = of_station(pointer=2)

    assert symptom.found == "it names generation 2; by the events generation 3 is in use"
    assert (symptom.code, symptom.repair) == (3, None)


def test_open_intent_is_a_symptom_unless_its_command_still_runs() -> None:
    replayed = Replayed(3, open_event())

    assert [one.repair for one in of_station(replayed=replayed)] == [Repair("settle")]
    running = of_station(replayed=replayed, locked_by="process 7 holding the lock")
    assert [(one.subject, one.code, one.repair) for one in running] == [("lock", 0, None)]


def test_unreadable_generation_is_left_where_a_session_holds_it() -> None:
    lease = SessionLease("ws02-7.json", NOW, host="ws02", pid=7, generation=2)
    damaged = (GenerationSeen(2, unreadable="cut"), GenerationSeen(3))

    (aside,) = of_station(generations=damaged)
    (kept,) = of_station(generations=damaged, leases=(lease,))

    assert aside.repair == Repair("aside", path="stations/ws01/generations/2")
    assert (kept.repair, kept.code) == (None, 3)


@pytest.mark.parametrize(
    ("state", "code", "kind"),
    [
        ("missing", 3, "file"),
        ("wrong bytes", 5, "file"),
        ("a link", 5, "file"),
        ("a second name of another file", 5, "file"),
        ("writable", 3, "mode"),
        ("unreadable", 9, None),
    ],
)
def test_each_way_in_which_a_file_is_wrong_has_its_code_and_repair(state: str, code: int, kind: str | None) -> None:
    (symptom,) = of_store(files=(FileSeen("releases/a", state),))  # type: ignore[arg-type]

    assert (symptom.code, symptom.repair.kind if symptom.repair else None) == (code, kind)


def test_worst_comes_first() -> None:
    found = of_store(files=(FileSeen("a", "missing"), FileSeen("b", "unreadable"), FileSeen("c", "wrong bytes")))

    assert [one.code for one in found] == [9, 5, 3]


def test_room_for_the_next_update_is_told_before_it_is_gone() -> None:
    assert of_store(free=10**12, needed=10**10) == ()
    (near,) = of_store(free=10**10, needed=10**10 - 1)
    (short,) = of_store(free=10**9, needed=10**10)

    assert (near.code, short.code) == (0, 9)
    assert short.found == "the next update needs 10000.0 MB, and 1000.0 MB are free"


@pytest.mark.parametrize(
    ("clock", "newest", "words"),
    [
        (NOW + timedelta(minutes=9), NOW, None),
        (NOW + timedelta(hours=1), NOW, "is behind the site's disk"),
        (NOW - timedelta(hours=1), NOW, "is ahead of the site's disk"),
        (None, NOW + DAY, "which choice site 4 bears"),
        (NOW, NOW + DAY, "which choice site 4 bears"),
        (None, NOW - DAY, None),
    ],
)
def test_clock_is_held_against_what_others_wrote(clock: datetime | None, newest: datetime, words: str | None) -> None:
    found = of_site(clock=clock, newest=("choice site 4", newest))

    assert [(one.subject, one.code) for one in found] == ([("clock", 4)] if words else [])
    assert all(words in one.found for one in found if words)


def test_unreached_choice_is_repaired_only_where_the_key_is() -> None:
    (here,) = of_site(unreached=("4.site.json",), repairable=True)
    (elsewhere,) = of_site(unreached=("4.site.json",))

    assert (here.repair, elsewhere.repair) == (Repair("choice"), None)
    assert "where the studio's site key is" in elsewhere.remedy


def test_hold_quarantine_telemetry_and_sessions_are_told_and_fail_nothing() -> None:
    hold = Hold(by="td", why="deadline", since="2026-11-01T00:00:00Z", until="2026-11-02T00:00:00Z")
    old = SessionLease("old-1.json", NOW - 20 * DAY)
    found = symptoms(
        replace(WELL, station=replace(STATION, hold=hold, leases=(old,)), telemetry=("/home/a/.cache/ort",))
    )

    assert {one.subject for one in found} == {"hold", "leases", "telemetry"}
    assert {one.code for one in found} == {0}
    assert "that has passed" in next(one.found for one in found if one.subject == "hold")


# Expiry.


@pytest.mark.parametrize(
    ("left", "role", "expected"),
    [
        (31 * DAY, "root", None),
        (30 * DAY, "root", "30 days"),
        (30 * DAY, "timestamp", None),
        (8 * DAY, "site", "30 days"),
        (7 * DAY, "timestamp", "7 days"),
        (DAY + timedelta(seconds=1), "snapshot", "7 days"),
        (DAY, "snapshot", "1 day"),
        (timedelta(seconds=1), "targets", "1 day"),
        (timedelta(0), "targets", "expired"),
        (-400 * DAY, "targets", "expired"),
    ],
)
def test_an_end_is_told_thirty_seven_and_one_days_ahead(left: timedelta, role: str, expected: str | None) -> None:
    assert stage(Expires(CHOICE, role, NOW + left), NOW) == expected


def test_next_to_expire_is_told_first_and_only_what_has_expired_fails() -> None:
    found = (
        Expires("acme", "snapshot", NOW - DAY),
        Expires(CHOICE, "root", NOW + DAY),
        Expires("b", "x", NOW + 99 * DAY),
    )

    assert [(one.role, near) for one, near in expiring(found, NOW)] == [("snapshot", "expired"), ("root", "1 day")]
    assert [(one.where, one.code) for one in symptoms(replace(WELL, expiries=found))] == [
        ("acme: snapshot", 5),
        (f"{CHOICE}: root", 0),
    ]


@pytest.mark.parametrize(
    ("owner", "role", "who"),
    [
        ("acme", "timestamp", "ask acme to run changeover vendor renew, then run changeover sync"),
        (CHOICE, "snapshot", "run changeover sync where the studio's site key is"),
        (CHOICE, "root", "run changeover sync where the studio's root key is"),
        (CHOICE, "shows.atlas", "have a promoter of shows/atlas promote anything: that signs the scope again"),
    ],
)
def test_who_renews_what_is_named(owner: str, role: str, who: str) -> None:
    assert Expires(owner, role, NOW).remedy() == who
