"""When an agent looks at the studio's choice and when it updates its station: decided from values. Pure.

Two beats. A *poll* reads which choice is the newest, each minute: a file of a kilobyte. A *tick* is an update, once an
interval and whenever a poll saw something new. Ten thousand stations must not come at once, so each has its own moment:
its place in the interval is the hash of its name; the interval is a prime number of seconds, which never falls in with
the minute, the hour or a nightly job; one tick in five is late by up to a fifth, as Omaha's are. What all of them see
at once (a new choice, the hour at which they may change) is spread over the jitter by a hash of station and occasion.
While the site does not answer, polls become rarer up to the interval. Left out: reading, running and telling
(`agent_loop`).
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Literal

from pydantic import Field

from changeover_registry.records.base import Value

__all__ = [
    "Done",
    "Memory",
    "Pace",
    "Seen",
    "after_poll",
    "after_tick",
    "is_open",
    "next_report",
    "start",
    "wanted",
    "why_shut",
]

_AGAIN = frozenset({6, 7, 9})
"""Exit codes that may pass by themselves: no answer, a lost race, a full disk."""
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in seconds, and whose moments."""

    station: str
    interval: float = 900.0
    poll: float = 60.0
    jitter: float = 120.0

    @property
    def period(self) -> float:
        """The interval as the smallest prime number of seconds that is no less; one under a minute as it is."""
        return self.interval if self.interval < _MINUTE else float(_prime_from(int(self.interval)))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a poll read: the serial of the newest choice (None: the site does not answer), and whether a hold is set."""

    serial: str | None
    held: bool = False


class Done(Value):
    """What a tick did, as the process that ran it says.

    `behind`: how many channels and pins have another release here than was chosen for them; None where nobody found
    out. `hours` and `shut`: when the policy lets agents change over, and whether this tick waited for that. `expires`:
    until when the trusted metadata of each repository holds. `notes`: what it said beside that, such as of a hook.
    """

    exit_code: int
    line: str
    changed: bool = False
    generation: int | None = None
    held: bool = False
    behind: int | None = 0
    quarantined: int = 0
    hours: str = ""
    shut: bool = False
    choices: dict[str, int] = Field(default_factory=dict)
    serving: tuple[tuple[str, str, str], ...] = ()
    expires: dict[str, str] = Field(default_factory=dict)
    milliseconds: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What an agent knows between two moments."""

    poll_at: datetime
    tick_at: datetime
    why: str
    seen: Seen | None = None
    """What the last poll read, the last that reached the site."""
    silent: int = 0
    """How many polls in a row found no site."""
    failed: int = 0
    """How many ticks in a row ended in what may pass by itself."""
    hours: str = ""
    shut: bool = False


def start(
    pace: Pace, now: datetime, *, seen: Seen | None = None, last: datetime | None = None, done: Done | None = None
) -> Memory:
    """Begin: look at once, and update once an interval has passed since the `last` tick, or soon where none is known.

    Where the power came back for a whole studio, the first ticks are spread like those after a new choice. What the
    agent before this one had `seen`, and how its last tick was `done`, is known still.
    """
    fresh = last is not None and timedelta(0) <= now - last < timedelta(seconds=pace.period)
    first = _slot(pace, now) if fresh else now + _spread(pace, "start")
    memory = Memory(now, first, "interval" if fresh else "start", seen=seen)
    return replace(memory, hours=done.hours, shut=done.shut) if done else memory


def wanted(pace: Pace, memory: Memory, now: datetime) -> Literal["poll", "tick"] | timedelta:
    """What to do now, or how long to wait until there is something.

    A moment that lies further ahead than any interval was set before the clock was put back, and has come.
    """
    most = timedelta(seconds=2 * max(pace.period, pace.poll, pace.jitter))
    poll_in, tick_in = memory.poll_at - now, memory.tick_at - now
    if not timedelta(0) < poll_in <= most:
        return "poll"
    if memory.silent:
        return poll_in
    if not timedelta(0) < tick_in <= most:
        return "tick"
    return min(poll_in, tick_in)


def after_poll(pace: Pace, memory: Memory, seen: Seen, now: datetime, local: time, chance: float) -> Memory:
    """What follows from a poll.

    Args:
        pace: How often.
        memory: Before the poll.
        seen: What it read.
        now: The moment.
        local: The time of day where the host is.
        chance: A random value, 0 to 1, that keeps stations apart while the site does not answer.
    """
    if seen.serial is None:
        silent = memory.silent + 1
        return replace(memory, silent=silent, poll_at=now + _backoff(pace, silent, chance))
    again = replace(memory, silent=0, seen=seen, poll_at=now + timedelta(seconds=pace.poll))
    before = memory.seen
    if memory.silent:
        again = _sooner(again, now + _spread(pace, f"back {seen.serial}"), "the site answers again")
    if before is not None and before.serial != seen.serial:
        again = _sooner(again, now + _spread(pace, seen.serial), "the choice changed")
    if before is not None and before.held and not seen.held:
        again = _sooner(again, now, "the hold was lifted")
    if memory.shut and is_open(memory.hours, local):
        again = replace(again, shut=False)
        again = _sooner(again, now + _spread(pace, f"hours {now:%Y-%m-%d}"), "the hours of the policy have begun")
    return again


def _sooner(memory: Memory, moment: datetime, why: str) -> Memory:
    return replace(memory, tick_at=moment, why=why) if moment < memory.tick_at else memory


def after_tick(pace: Pace, memory: Memory, done: Done, now: datetime, chance: float) -> Memory:
    """What follows from a tick that ended at `now`; `chance` is a random value, 0 to 1."""
    passing = done.exit_code in _AGAIN or done.exit_code < 0
    failed = memory.failed + 1 if passing else 0
    slot = _slot(pace, now)
    late = slot + timedelta(seconds=pace.period * chance) if chance < 0.2 else slot
    moment = min(now + _backoff(pace, failed, chance), late) if failed else late
    why = "again" if failed else "interval"
    return replace(memory, tick_at=moment, why=why, failed=failed, hours=done.hours, shut=done.shut)


def next_report(pace: Pace, now: datetime) -> datetime:
    """By when a station whose agent lives has reported again: two intervals, each as late as it can be, and a poll."""
    return now + timedelta(seconds=2 * (1.2 * pace.period + pace.jitter) + pace.poll)


def is_open(hours: str, at: time) -> bool:
    """Whether the policy's `hours` (``19:00-07:00``; empty: always) let an agent change over at a local time of day.

    Only the clock on the wall counts, so an hour that comes twice is open twice, and hours that the clocks skip are
    not there that day. A span that ends where it begins is the whole day.
    """
    if not hours:
        return True
    begin, end = (time.fromisoformat(text) for text in hours.split("-"))
    if begin == end:
        return True
    return begin <= at < end if begin < end else at >= begin or at < end


def why_shut(hours: str, local: datetime) -> str | None:
    """One sentence where the policy's hours keep an agent from changing over at this local moment, else None."""
    if is_open(hours, local.time()):
        return None
    begin, _, end = hours.partition("-")
    return f"the policy lets agents change over from {begin} to {end}, and it is {local:%H:%M} here"


def _slot(pace: Pace, now: datetime) -> datetime:
    """The station's next own moment that is half a period away or more: its place in the period, from 1970 on.

    A moment that is nearer was just had, perhaps by less than a clock can tell.
    """
    period, seconds = pace.period, now.timestamp()
    place = _share(f"slot {pace.station}") * period
    ahead = period - (seconds - place) % period
    return now + timedelta(seconds=ahead if ahead >= period / 2 else ahead + period)


def _spread(pace: Pace, occasion: str) -> timedelta:
    """How long this station lets the others go first on an occasion that all of them meet at once."""
    return timedelta(seconds=_share(f"{occasion} {pace.station}") * pace.jitter)


def _backoff(pace: Pace, failures: int, chance: float) -> timedelta:
    """A poll, twice as long each time, up to the interval; between three quarters and five quarters of that."""
    longest = max(pace.interval, pace.poll)
    seconds = min(pace.poll * 2.0 ** min(failures - 1, 30), longest)
    return timedelta(seconds=seconds * (0.75 + 0.5 * chance))


def _share(text: str) -> float:
    """A number from 0 to under 1 that a text always has."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _prime_from(least: int) -> int:
    number = max(least, 2)
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number
