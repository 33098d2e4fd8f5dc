"""How it went with each chosen release, from what an update did."""

from datetime import UTC, datetime
from typing import Any

import pytest

from changeover_registry.errors import ChangeoverError, LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import Hold, Quarantine, StationStatus, Tried
from changeover_updater.plan import Move, Plan
from changeover_updater.tried import broken, newly_failed, tried_of

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
AT = "2026-11-22T12:00:00Z"
REF = ReleaseRef(model="acme/net", version="2.0.0", digest="c" * 64)
KEY = str(REF)
OLD = "acme/net@1.0.0-aaaaaaaaaaaa"


def move(outcome: Any, where: str = "stable", **changes: Any) -> Move:
    before = KEY if outcome == "same" else OLD
    return Move(where, "acme/net", before, KEY, outcome, **changes)


def plan(*moves: Move, **changes: Any) -> Plan:
    made: dict[str, Any] = {"moves": moves, "judged": (), "generation": None, "hold": None, "held": frozenset()}
    return Plan(**(made | changes))


def outcome(made: Plan, *, changed: bool = False, quarantined: tuple[Quarantine, ...] = ()) -> tuple[str, str]:
    (one,) = tried_of(made, changed=changed, quarantined=quarantined, now=NOW)
    assert one.key == KEY
    return one.outcome, one.why


def test_what_was_changed_over_to_is_done_and_what_waits_says_for_what() -> None:
    hold = Hold(by="td", why="final renders", since=AT)

    assert outcome(plan(move("take")), changed=True) == ("done", "")
    assert outcome(plan(move("same"))) == ("done", "")
    assert outcome(plan(move("take"), hold=hold)) == ("waiting", "hold: final renders")
    assert outcome(plan(move("take"), wait="it is noon")) == ("waiting", "it is noon")
    assert outcome(plan(move("keep", why="GPU full", exit_code=4, waits=True))) == ("waiting", "GPU full")


def test_check_that_says_no_beforehand_is_no_failure() -> None:
    assert outcome(plan(move("keep", why="hardware: no", exit_code=3))) == ("refused", "hardware: no")
    assert outcome(plan(move("keep", why="not run", exit_code=4)))[0] == "undecided"
    assert outcome(plan(move("keep", why="expired", exit_code=5)))[0] == "undecided"


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (Refused(check="smoke", rule="matte", expected="x", actual="y", remedy="z"), "failed"),
        (NotRun(check="smoke", why="it crashed", error=True), "failed"),
        (NotRun(check="smoke", why="no runtime here"), "undecided"),
    ],
)
def test_smoke_that_ran_and_was_wrong_is_a_failure_and_one_that_could_not_run_is_none(
    finding: Finding, expected: str
) -> None:
    made = plan(move("keep", why="smoke", exit_code=3 if expected == "failed" else 4), smoke=((KEY, finding),))

    assert outcome(made)[0] == expected


def test_what_is_quarantined_failed_when_it_failed() -> None:
    since = "2026-11-20T08:00:00Z"
    found = Quarantine(release=REF, host_class="d" * 64, check="smoke", why="wrong matte", since=since)

    (one,) = tried_of(plan(move("keep", why="q", exit_code=3)), changed=False, quarantined=(found,), now=NOW)

    assert (one.outcome, one.when) == ("failed", since)


def test_of_several_channels_the_worst_counts() -> None:
    made = plan(move("same"), move("keep", "beta", why="licence", exit_code=3))

    assert outcome(made) == ("refused", "licence")


def error(kind: type[ChangeoverError]) -> ChangeoverError:
    return kind("rule", where="there", expected="this", actual="that", remedy="do")


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (error(TrustError), "failed"),
        (error(RefusedError), "failed"),
        (OSError(28, "No space left on device"), "failed"),
        (error(UnreachableError), "undecided"),
        (error(LostRaceError), "undecided"),
    ],
)
def test_install_that_broke_is_a_failure_unless_it_says_nothing_of_the_release(
    cause: ChangeoverError | OSError, expected: str
) -> None:
    assert broken(KEY, cause, NOW).outcome == expected
    assert len(broken(KEY, OSError(5, "x" * 5000), NOW).why) <= 300


def test_failure_is_new_once() -> None:
    failed = Tried(key=KEY, outcome="failed", when=AT, why="x")
    done = Tried(key=KEY, outcome="done", when=AT)

    def before(*tried: Tried) -> StationStatus:
        return StationStatus(station="ws1", host="ws1", reported_at=AT, tried=tried)

    assert newly_failed(None, (failed,)) == (failed,)
    assert newly_failed(before(done), (failed, done)) == (failed,)
    assert newly_failed(before(failed), (failed,)) == ()
