"""Ten thousand stations in virtual time: ``python -m changeover_updater.bench_fleet [--hosts N]``.

What a station does is the product's own code on values: when its agent looks and updates (`agent`), what a share is for
it (`rollout`), what it plans (`plan`), how others keep it back (`others`), and what it reports (`tried`, the status
record as bytes). Only disk, network and models are left out: a station's files arrive at once, and one in ten fails its
smoke test of every new release. The story: a release grows from 1 % over 10 % and 50 % to all, with a pause; then one
comes with which six in ten fail, which stops by itself until a person stops it for good.

Printed: how far a share is from what was asked for, who ever left a cohort, how long all took to converge, and the
requests and bytes of a host in a day.
"""

import argparse
import hashlib
import heapq
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice, Share
from changeover_registry.records.findings import Refused
from changeover_registry.records.release import Release
from changeover_registry.records.station import Generation, Quarantine, StationStatus
from changeover_updater import agent
from changeover_updater._fleet_values import CLASS, FACTS, MODEL, START, release_of, studio_of, verdict_of
from changeover_updater.choose import Change, promote, share, steer
from changeover_updater.others import failing_among
from changeover_updater.plan import Known, Plan, make_plan
from changeover_updater.tried import tried_of

__all__ = ["Fleet", "Report", "main", "story"]

POLL_BYTES = 1024
"""A timestamp of the choice: measured, 0.9 kB with one signature."""
REFRESH_BYTES = 16 * 1024
"""What a changed choice costs to read: timestamp, snapshot, one role and one choice of a few channels, rounded up."""


@dataclass(slots=True)
class Host:
    """One station: what it has, when its agent wakes, and what it has done to the network."""

    name: str
    faulty: Callable[[str], bool]
    pace: agent.Pace
    memory: agent.Memory
    known: Known
    polled: datetime
    wakes: datetime = START
    serial: str = ""
    requests: int = 0
    received: int = 0
    sent: int = 0
    had: list[str] = field(default_factory=list)
    """Every release that the channel answered here, in order."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a story came to."""

    hosts: int
    hours: float
    shares: tuple[tuple[int, float], ...]
    """Each share that was asked for, in percent, and the part of all stations that it reached."""
    flips: int
    """Stations that were given a release, lost it, and were given it again, or lost it while it was paused."""
    moved_while_paused: int
    minutes_to_converge: float
    converged: bool
    faulty: int
    stayed: int
    """Faulty stations that are on the release before, as they should be."""
    tried_of_bad: int
    stopped_of_bad: bool
    back_after_stop: bool
    requests_a_day: float
    received_a_day: float
    sent_a_day: float


class Fleet:
    """All stations, the studio that they see, and the virtual clock.

    Args:
        hosts: How many.
        faulty: Given a station's name and a release's key, whether its smoke test of it fails.
    """

    def __init__(self, hosts: int, faulty: Callable[[str, str], bool]) -> None:
        self.now = START
        self.releases = tuple(release_of(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
        self.choice = promote(None, "stable", self.releases[0].ref(), None, self._change("first"))
        self.studio = studio_of(self.releases, self.choice)
        self.verdicts = tuple(verdict_of(release) for release in self.releases)
        self.statuses: dict[str, StationStatus] = {}
        self._sizes: dict[tuple[int, int, int], int] = {}
        self.hosts = {f"render-{n:05d}": self._host(f"render-{n:05d}", faulty) for n in range(hosts)}
        self._plans: dict[object, Plan] = {}
        self._queue: list[tuple[datetime, str]] = []
        for host in self.hosts.values():
            self._sleep(host, host.memory.tick_at)

    def choose(self, change: Callable[[Choice | None], Choice]) -> None:
        """Sign the next choice; every station sees it at its next poll."""
        self.choice = change(self.choice)
        self.studio = replace(self.studio, choices=(self.choice,))
        for host in self.hosts.values():
            self._sleep(host, self._next_poll(host))

    def run(self, span: timedelta) -> None:
        """Let so much time pass."""
        end = self.now + span
        while self._queue and self._queue[0][0] <= end:
            moment, name = heapq.heappop(self._queue)
            if self.hosts[name].wakes == moment:
                self.now = max(self.now, moment)
                self._wake(self.hosts[name])
        self.now = end

    def having(self, release: Release) -> frozenset[str]:
        """The stations whose channel answers a release."""
        key = str(release.ref())
        return frozenset(name for name, host in self.hosts.items() if host.had and host.had[-1] == key)

    def steer(self, state: Literal["running", "paused", "stopped"]) -> None:
        """Pause, resume or stop what is on its way."""
        self.choose(lambda last: steer(last, "stable", MODEL, state, self._change(state)))

    def share(self, release: Release, percent: int) -> None:
        """Let a part of the stations have a release."""
        new = Share(channel="stable", release=release.ref(), percent=percent)
        self.choose(lambda last: share(last, new, self._change(f"{percent} %")))

    def promote(self, release: Release) -> None:
        """Let all have it."""
        self.choose(lambda last: promote(last, "stable", release.ref(), None, self._change("all")))

    def _change(self, why: str) -> Change:
        return Change(who="td", when=format_time(self.now), why=why)

    def _host(self, name: str, faulty: Callable[[str, str], bool]) -> Host:
        pace = agent.Pace(name)
        known = Known(
            studio=self.studio,
            verdicts=self.verdicts,
            facts=FACTS,
            station=name,
            site="/site",
            current=None,
            latest=None,
            next_number=1,
            hold=None,
            now=self.now,
        )
        memory = agent.start(pace, self.now)
        return Host(name, lambda key: faulty(name, key), pace, memory, known, self.now)

    def _next_poll(self, host: Host) -> datetime:
        """The first of the station's polls that comes after now; those before it saw what the last one saw."""
        passed = max(0.0, (self.now - host.polled).total_seconds())
        return host.polled + timedelta(seconds=(passed // host.pace.poll + 1) * host.pace.poll)

    def _wake(self, host: Host) -> None:
        """Poll and, if it is time, update; then sleep until the next moment that changes anything."""
        self._count_polls(host)
        serial = f"{self.choice.number}"
        host.memory = replace(host.memory, poll_at=self.now)
        host.memory = agent.after_poll(
            host.pace, host.memory, agent.Seen(serial), self.now, self.now.time(), _chance(host.name, self.now)
        )
        if agent.wanted(host.pace, host.memory, self.now) == "tick":
            done = self._tick(host)
            chance = _chance(host.name, self.now)
            host.memory = agent.after_tick(host.pace, host.memory, done, self.now, chance)
        self._sleep(host, host.memory.tick_at)

    def _sleep(self, host: Host, until: datetime) -> None:
        """Wake a station at that moment, and not at the one that was set before."""
        host.wakes = until
        heapq.heappush(self._queue, (until, host.name))

    def _count_polls(self, host: Host) -> None:
        polls = int((self.now - host.polled).total_seconds() // host.pace.poll)
        host.requests += polls
        host.received += polls * POLL_BYTES
        host.polled += timedelta(seconds=polls * host.pace.poll)

    def _tick(self, host: Host) -> agent.Done:
        """An update as `update` does it: plan, heed others, smoke, quarantine, change over, report."""
        if host.serial != str(self.choice.number):
            host.serial = str(self.choice.number)
            host.requests, host.received = host.requests + 4, host.received + REFRESH_BYTES
        known = replace(host.known, studio=self.studio, now=self.now)
        plan = self._plan(known)
        taken = frozenset((move.where, move.wanted) for move in plan.moves if move.outcome == "take")
        if taken:
            known = replace(known, failing=failing_among(self.hosts, self._reader(host), host.name, self.studio, taken))
            plan = self._plan(known)
        if plan.generation is not None:
            known, plan = self._smoke(host, known, plan)
        changed = plan.generation is not None
        if plan.generation is not None:
            known = _applied(known, plan.generation)
        host.known = replace(known, failing=(), smoke=())
        self._report(host, plan, changed=changed)
        return agent.Done(exit_code=plan.exit_code, line="", changed=changed)

    def _smoke(self, host: Host, known: Known, plan: Plan) -> tuple[Known, Plan]:
        broken = [arrival.eligible.ref for arrival in plan.arrivals if host.faulty(str(arrival.eligible.ref))]
        if not broken:
            return known, plan
        finding = Refused(check="smoke", rule="smoke", expected="the matte", actual="another", remedy="tell the vendor")
        smoked = replace(known, smoke=tuple((str(ref), finding) for ref in broken))
        since = format_time(self.now)
        entries = tuple(
            Quarantine(release=ref, host_class=CLASS, check="smoke", why="another matte", since=since) for ref in broken
        )
        again = self._plan(smoked)
        return replace(smoked, quarantined=(*known.quarantined, *entries)), again

    def _reader(self, host: Host) -> Callable[[Iterable[str]], tuple[StationStatus, ...]]:
        def read(names: Iterable[str]) -> tuple[StationStatus, ...]:
            found = tuple(self.statuses[name] for name in names if name in self.statuses)
            host.requests += 1 + len(found)
            host.received += 64 * len(self.hosts) + sum(self._size(status) for status in found)
            return found

        return read

    def _report(self, host: Host, plan: Plan, *, changed: bool) -> None:
        made = host.known.current
        status = StationStatus(
            station=host.name,
            host=host.name,
            reported_at=format_time(self.now),
            host_class=CLASS,
            generation=made.number if made else None,
            releases=tuple(release.key for release in made.releases) if made else (),
            serving=made.channels if made else (),
            facts=FACTS,
            tried=tried_of(plan, changed=changed, quarantined=host.known.quarantined, now=self.now),
            choices={"site": self.choice.number},
            next_report=format_time(agent.next_report(host.pace, self.now)),
        )
        self.statuses[host.name] = status
        host.requests += 1
        host.sent += self._size(status)
        key = made.channels[0].key if made and made.channels else ""
        if key and (not host.had or host.had[-1] != key):
            host.had.append(key)

    def _size(self, status: StationStatus) -> int:
        """The bytes of a status; those with as many releases and outcomes are as long, up to a few digits."""
        like = (len(status.releases), len(status.tried or ()), len(status.serving or ()))
        if like not in self._sizes:
            self._sizes[like] = len(status.to_bytes())
        return self._sizes[like]

    def _plan(self, known: Known) -> Plan:
        """The plan of `known`; stations that are alike but for name and time share one, which is pure."""
        from changeover_updater.rollout import chosen_pointers

        has = tuple((entry.channel, entry.key) for entry in known.current.channels) if known.current else ()
        pointers = chosen_pointers(self.choice, known.station, CLASS, has)
        number = known.current.number if known.current else None
        alike = (pointers, has, number, known.smoke, known.failing, tuple(q.release for q in known.quarantined))
        if alike not in self._plans:
            # The choice as this station sees it: what a share is for it has been decided by its name.
            seen = self.choice.model_copy(update={"channels": pointers, "shares": ()})
            self._plans[alike] = make_plan(replace(known, studio=replace(known.studio, choices=(seen,))))
        return self._plans[alike]


def story(hosts: int, *, pause: timedelta = timedelta(hours=2)) -> Report:
    """Play the story and tell what it came to."""
    fleet = Fleet(hosts, _faulty)
    first, second, third = fleet.releases
    fleet.run(timedelta(hours=1))
    shares: list[tuple[int, float]] = []
    moved = 0
    for percent in (1, 10, 50):
        fleet.share(second, percent)
        fleet.run(timedelta(hours=1))
        reached = fleet.having(second) | {name for name, host in fleet.hosts.items() if host.known.quarantined}
        shares.append((percent, len(reached) / hosts))
        if percent == 10:
            fleet.steer("paused")
            before = fleet.having(second)
            fleet.run(pause)
            moved = len(before ^ fleet.having(second))
            fleet.steer("running")
    fleet.promote(second)
    minutes, healthy = _converge(fleet, second)
    bad = frozenset(fleet.hosts) - healthy
    converged, stayed = fleet.having(second) == healthy, len(fleet.having(first) & bad)
    tried, stopped, back = _bad_release(fleet, third, second)
    hours = (fleet.now - START).total_seconds() / 3600
    every = fleet.hosts.values()
    a_day = 24 / hours / hosts
    return Report(
        hosts=hosts,
        hours=hours,
        shares=tuple(shares),
        flips=sum(_flips(host.had, str(second.ref())) for host in every),
        moved_while_paused=moved,
        minutes_to_converge=minutes,
        converged=converged,
        faulty=len(bad),
        stayed=stayed,
        tried_of_bad=tried,
        stopped_of_bad=stopped,
        back_after_stop=back,
        requests_a_day=sum(host.requests for host in every) * a_day,
        received_a_day=sum(host.received for host in every) * a_day,
        sent_a_day=sum(host.sent for host in every) * a_day,
    )


def _converge(fleet: Fleet, release: Release) -> tuple[float, frozenset[str]]:
    """Minutes until every healthy station has a release, at most a day; and which are healthy."""
    key = str(release.ref())
    healthy = frozenset(name for name in fleet.hosts if not _faulty(name, key))
    begun = fleet.now
    while fleet.having(release) != healthy and fleet.now - begun < timedelta(days=1):
        fleet.run(timedelta(minutes=1))
    return (fleet.now - begun).total_seconds() / 60, healthy


def _bad_release(fleet: Fleet, bad: Release, good: Release) -> tuple[int, bool, bool]:
    """How many stations tried a bad release, whether that ended by itself, and whether a stop undid it."""
    key = str(bad.ref())
    fleet.share(bad, 100)
    fleet.run(timedelta(hours=2))
    tried = _ended_with(fleet, key)
    fleet.run(timedelta(hours=2))
    stopped = _ended_with(fleet, key) == tried < len(fleet.hosts)
    fleet.steer("stopped")
    fleet.run(timedelta(hours=1))
    return tried, stopped, not fleet.having(bad) and bool(fleet.having(good))


def _ended_with(fleet: Fleet, key: str) -> int:
    told = (one for status in fleet.statuses.values() for one in status.tried or ())
    return sum(one.key == key and one.outcome in {"done", "failed"} for one in told)


def _flips(had: Sequence[str], key: str) -> int:
    """How often a station was given a release again after it had lost it."""
    times = sum(one == key for one in had)
    later = {str(release_of("3.0.0").ref())}
    return max(0, times - 1 - sum(one in later for one in had))


def _faulty(name: str, key: str) -> bool:
    """One station in ten fails with every new release; with 3.0.0 six in ten do."""
    if "@1.0.0" in key:
        return False
    return _share(f"faulty {name}") < (0.6 if "@3.0.0" in key else 0.1)


def _chance(name: str, now: datetime) -> float:
    return _share(f"{name} {now.timestamp()}")


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _applied(known: Known, generation: Generation) -> Known:
    return replace(known, current=generation, latest=generation, next_number=generation.number + 1, smoke=())


def lines(report: Report) -> tuple[str, ...]:
    """The report, for a person."""
    far = max(abs(reached - percent / 100) for percent, reached in report.shares)
    asked = ", ".join(f"{percent} %: {reached:.2%}" for percent, reached in report.shares)
    ended = "nobody else did" if report.stopped_of_bad else "others went on"
    back = "everybody is back" if report.back_after_stop else "some still have it"
    traffic = f"{report.received_a_day / 1e6:.2f} MB read, {report.sent_a_day / 1e6:.2f} MB written"
    return (
        f"{report.hosts} stations, {report.hours:.1f} hours of virtual time",
        f"shares reached: {asked} (at most {far:.2%} off)",
        f"stations that left a cohort: {report.flips}; that moved while it was paused: {report.moved_while_paused}",
        f"all have it: {'yes' if report.converged else 'no'}, {report.minutes_to_converge:.0f} minutes after promoting",
        f"faulty stations that stay on the release before: {report.stayed} of {report.faulty}",
        f"a release that fails on six in ten: {report.tried_of_bad} stations tried it, then {ended}",
        f"after rollout stop: {back}",
        f"a host and day: {report.requests_a_day:.0f} requests, {traffic}",
    )


def main(arguments: Sequence[str]) -> int:
    """Play the story and print what it came to."""
    parser = argparse.ArgumentParser(prog="python -m changeover_updater.bench_fleet")
    parser.add_argument("--hosts", type=int, default=10_000)
    report = story(parser.parse_args(arguments).hosts)
    sys.stdout.write("\n".join(lines(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
