"""Stations together: what follows from what they report and from what was chosen."""

from datetime import UTC, datetime
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.choice import Choice, Entry, Pointer, Share
from changeover_registry.records.facts import Gpu
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import GenerationChannel, StationStatus, Tried
from changeover_updater import bench_stations
from changeover_updater.fleet_stations import Coverage, class_label, is_of, stations_object, stations_of
from changeover_updater.rollout import admits
from changeover_updater.stations import Unread

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
AT, BEFORE, LATER = "2026-11-22T11:50:00Z", "2026-11-22T11:00:00Z", "2026-11-22T12:10:00Z"
MODEL = "acme/net"
BIG, SMALL = "a" * 64, "b" * 64


def ref(number: int) -> ReleaseRef:
    return ReleaseRef(model=MODEL, version=f"{number}.0.0", digest=f"{number:064x}")


ONE, TWO = str(ref(1)), str(ref(2))


def chosen(number: int = 2, shares: tuple[Share, ...] = (), count: int = 5) -> Choice:
    entry = Entry(who="td", when=AT, why="x", what="y")
    return Choice(
        scope="site",
        number=count,
        entry=entry,
        channels=(Pointer(channel="stable", release=ref(number)),),
        shares=shares,
    )


def told(name: str, serves: str | None = ONE, **fields: Any) -> StationStatus:
    serving = (GenerationChannel(channel="stable", model=MODEL, key=serves),) if serves else ()
    said: dict[str, Any] = {
        "station": name,
        "host": name,
        "reported_at": AT,
        "host_class": BIG,
        "serving": serving,
        "next_report": LATER,
        "choices": {"site": 5},
        "changeover": "0.1.0",
    }
    return StationStatus(**(said | fields))


def tried(outcome: Any, why: str = "", key: str = TWO) -> tuple[Tried, ...]:
    return (Tried(key=key, outcome=outcome, when=BEFORE, why=why),)


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"tried": tried("refused", "hardware: no")}, "refused", "hardware: no"),
        ({"tried": tried("failed", "wrong matte")}, "failed", "wrong matte"),
        ({"tried": tried("failed", "wrong matte"), "quarantined": (TWO,)}, "quarantined", "wrong matte"),
        ({"tried": tried("failed", "wrong matte"), "hold": "final"}, "failed", "wrong matte"),
        ({"tried": tried("undecided", "no verdict")}, "undecided", "no verdict"),
        ({"tried": tried("waiting", "it is noon")}, "waiting", "it is noon"),
        ({"tried": tried("waiting", "hold: final"), "hold": "final"}, "hold", "final"),
        ({"hold": "final"}, "hold", "final"),
        ({"next_report": BEFORE}, "silent", "did not report"),
        ({"choices": {"site": 4}}, "not-seen", "has not seen choice 5"),
        ({"choices": None}, "not-seen", "has not seen choice 5"),
        ({"choices": None, "next_report": None}, "no-agent", "no agent runs there"),
        ({}, "unreported", "says nothing"),
    ],
)
def test_why_a_station_is_behind(fields: dict[str, Any], reason: str, words: str) -> None:
    found = stations_of([told("ws1", **fields)], (chosen(),), NOW)

    (behind,) = found.lines[0].behind
    assert (behind.has, behind.wanted, behind.reason) == (ONE, TWO, reason)
    assert words in behind.why
    assert list(found.behind().values()) == [("ws1",)]


def test_station_with_what_was_chosen_is_not_behind_and_one_with_nothing_is() -> None:
    found = stations_of([told("ws1", TWO), told("ws2", None, choices={"site": 1})], (chosen(),), NOW)

    assert [len(line.behind) for line in found.lines] == [0, 1]
    assert found.lines[1].behind[0].has is None
    assert found.running() == (("stable", MODEL, TWO, 1),)


def test_without_the_verified_choice_nobody_is_called_behind() -> None:
    found = stations_of([told("ws1")], None, NOW)

    assert (found.chosen, found.behind()) == (False, {})


def test_station_that_a_share_does_not_reach_is_not_behind() -> None:
    share = Share(channel="stable", release=ref(2), percent=50)
    names = [f"ws{number}" for number in range(200)]

    found = stations_of([told(name) for name in names], (chosen(1, (share,)),), NOW)

    reached = [name for name in names if admits(share, name, BIG)]
    assert 60 < len(reached) < 140
    assert [line.station for line in found.lines if line.behind] == reached
    (rollout,) = found.rollouts
    assert (rollout.reaches, rollout.stations, rollout.percent, rollout.state) == (len(reached), 200, 50, "running")


def test_rollout_counts_who_tried_it_and_who_failed() -> None:
    share = Share(channel="stable", release=ref(2), percent=100, resumed="2026-11-22T10:00:00Z")
    old = (Tried(key=TWO, outcome="failed", when="2026-11-22T09:00:00Z"),)
    reports = [told("a", TWO, tried=tried("done")), told("b", tried=tried("failed")), told("c", tried=old)]

    (rollout,) = stations_of([*reports, told("d")], (chosen(1, (share,)),), NOW).rollouts

    assert (rollout.tried, rollout.failed) == (2, 1)


def test_station_that_a_hold_keeps_from_a_release_is_counted_with_the_hold() -> None:
    found = stations_of([told("a", hold="final renders"), told("b", TWO, hold="too")], (chosen(),), NOW)

    one = next(one for one in found.coverage if one.release == TWO)
    assert (one.stations, one.runs, one.held, one.unheard, one.why) == (2, 1, 1, 0, "hold: final renders")


def test_coverage_counts_each_station_of_a_class_once() -> None:
    reports = [
        told("a", TWO, tried=tried("done")),
        told("b", tried=tried("waiting", "hold: x"), hold="x"),
        told("c", tried=tried("refused", "hardware: 8 GiB")),
        told("d", tried=tried("refused", "hardware: 8 GiB")),
        told("e", tried=tried("failed", "crash")),
        told("f", tried=tried("undecided", "no verdict")),
        told("g"),
        told("h", TWO, host_class=SMALL),
    ]

    coverage = stations_of(reports, (chosen(),), NOW).coverage

    big = next(one for one in coverage if (one.release, one.host_class) == (TWO, BIG))
    assert (big.stations, big.runs, big.may, big.refused, big.failed, big.undecided, big.unheard) == (
        7,
        1,
        1,
        2,
        1,
        1,
        1,
    )
    assert big.why == "hardware: 8 GiB"
    for one in coverage:
        assert one.stations == total(one)
    small = next(one for one in coverage if (one.release, one.host_class) == (TWO, SMALL))
    assert (small.runs, small.stations) == (1, 1)


def total(one: Coverage) -> int:
    return one.runs + one.may + one.refused + one.failed + one.undecided + one.unheard


def test_who_is_silent_stands_first_that_was_heard_of_longest_ago() -> None:
    reports = [
        told("late", next_report=BEFORE),
        told("older", reported_at="2026-11-20T00:00:00Z", next_report="2026-11-20T00:30:00Z"),
        told("well"),
        told("none", next_report=None),
    ]

    found = stations_of(reports, (chosen(1),), NOW)

    assert [line.station for line in found.silent()] == ["older", "late"]
    assert [line.agent for line in found.lines] == [True, True, True, False]


def test_only_what_was_asked_for_is_told() -> None:
    other = "acme/other@1.0.0-aaaaaaaaaaaa"
    status = told("ws1", tried=(*tried("waiting"), *tried("failed", key=other)))

    found = stations_of([status], (chosen(),), NOW, (f"{MODEL}@2.0.0",))

    assert {one.release for one in found.coverage} == {TWO}
    assert [one.key for one in found.lines[0].tried] == [TWO]
    assert found.running() == ()


def test_release_is_found_by_its_key_its_version_or_its_bare_name() -> None:
    for name in (ONE, f"{MODEL}@1.0.0", "net@1.0.0", ONE.partition("/")[2]):
        assert is_of(ONE, (name,))
    assert not is_of(ONE, ("net@1.0.1",))
    assert is_of(ONE, ())


def test_unreadable_report_is_told_apart() -> None:
    found = stations_of([Unread("bad", "its report is no file"), told("ws1")], (chosen(1),), NOW)

    assert [(one.station, one.why) for one in found.unread] == [("bad", "its report is no file")]
    assert len(found.lines) == 1


def test_object_for_json_says_who_reported_it() -> None:
    value = stations_object(stations_of([told("ws1", tried=tried("failed", "x"))], (chosen(),), NOW))

    assert value["reported_by"] == "the hosts"
    assert value["stations"][0]["behind"][0]["reason"] == "failed"
    assert value["stations"][0]["tried"][0]["outcome"] == "failed"
    assert value["versions"] == {"0.1.0": 1}


def test_bench_reads_what_it_wrote(capsys: Any) -> None:
    assert bench_stations.main(["--stations", "64"]) == 0

    told = capsys.readouterr().out
    assert told.startswith("64 stations, ")
    behind = int(told.split(" behind")[0].rpartition(" ")[2])
    share = Share(channel="stable", release=bench_stations.NEW, percent=25)
    assert behind == sum(admits(share, f"render-{number:05}", BIG) for number in range(64))


def test_class_is_called_by_its_cards(build: Any) -> None:
    unknown = Unknown(unknown="no driver")

    def gpu(name: str, total: int | Unknown) -> Gpu:
        return Gpu(
            name=name,
            total_mib=total,
            reserved_mib=unknown,
            free_mib=unknown,
            uuid=unknown,
            compute_capability="8.6",
            display=False,
        )

    assert class_label(build.facts()) == "linux, no GPU"
    assert class_label(build.facts(gpus=unknown)) == "linux, GPUs unknown"
    two = (gpu("RTX A6000", 49140), gpu("RTX A6000", 49140), gpu("T4", unknown))
    assert class_label(build.facts(gpus=two)) == "2x RTX A6000, 47 GiB + T4"
