"""Which stations have a release that is on its way into a channel, and when others' failures keep one back. Pure.

A station's place in a rollout is a stable hash of release and station, so that a larger share has all stations that a
smaller one had, and each release goes another way through the studio. What stations say of themselves is trusted by
nobody: the worst that a lie does here is that a station stays where it is, which a person sees and can lift by a signed
``rollout resume``. Left out: reading statuses (`stations`) and signing (`signed`).
"""

import hashlib
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from changeover_registry.records.choice import Choice, Pointer, Share
from changeover_registry.records.policy import RolloutPolicy
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import StationStatus

__all__ = [
    "Health",
    "admits",
    "asked",
    "chosen_pointers",
    "health_of",
    "place",
    "pointer_of",
    "stopped_by",
]

_FEWEST = 3
_PLACES = 10_000
"""How finely a share divides stations."""


def place(release: ReleaseRef, station: str) -> int:
    """A station's place on a release's way, 0 to 9999: the release reaches the lowest first. It never changes."""
    return _drawn(release.digest, station) * _PLACES >> 64


def admits(share: Share, station: str, host_class: str | None) -> bool:
    """Whether a share reaches a station, whatever its state: by name, by host class, and by its place."""
    named = not share.names or any(fnmatchcase(station, pattern) for pattern in share.names)
    known = host_class is not None and any(host_class.startswith(wanted) for wanted in share.classes)
    return named and (known or not share.classes) and place(share.release, station) < share.percent * _PLACES // 100


def chosen_pointers(
    choice: Choice, station: str, host_class: str | None, has: Iterable[tuple[str, str]]
) -> tuple[Pointer, ...]:
    """What the channels of a choice are for one station: the release on its way where a share reaches it.

    Args:
        choice: Of one scope.
        station: The station's name.
        host_class: Its class; None where it is not known.
        has: The channels of the generation in use, each with the key of its release: a rollout that is paused takes
            nothing away.
    """
    in_use = frozenset(has)
    moved: dict[tuple[str, str], Pointer] = {}
    for share in choice.shares:
        has_it = (share.channel, str(share.release)) in in_use
        if share.state == "stopped" or (share.state == "paused" and not has_it):
            continue
        if has_it or admits(share, station, host_class):
            moved[share.channel, share.release.model] = pointer_of(share)
    kept = [p for p in choice.channels if (p.channel, p.release.model) not in moved]
    return tuple(sorted((*kept, *moved.values()), key=lambda p: (p.channel, p.release.model)))


def pointer_of(share: Share) -> Pointer:
    """What the channel is for a station that a share reaches."""
    return Pointer(channel=share.channel, release=share.release, verdict=share.verdict, resumed=share.resumed)


def asked(release: ReleaseRef, stations: tuple[str, ...], most: int, *, by: str) -> tuple[str, ...]:
    """The stations whose reports tell how it goes with a release.

    At most `most` that the release reaches first, which tell earliest, and as many of all, drawn anew for each station
    that asks (`by`), which never asks itself.
    """
    first = [station for station in _first(release.digest, stations, most + 1) if station != by][:most]
    drawn = {stations[_drawn(f"{release.digest} {by}", str(n)) % len(stations)] for n in range(most) if stations}
    return tuple(sorted({*first, *drawn} - {by}))


@lru_cache(maxsize=8)
def _first(seed: str, stations: tuple[str, ...], most: int) -> list[str]:
    return heapq.nsmallest(most, stations, key=lambda station: (_drawn(seed, station), station))


@dataclass(frozen=True, slots=True)
class Health:
    """How many stations tried a release, and how many of them failed with it."""

    tried: int
    failed: int

    @property
    def share(self) -> float:
        """The part that failed, 0 to 1."""
        return self.failed / self.tried if self.tried else 0.0


def health_of(statuses: Iterable[StationStatus], key: str, since: str | None, *, but: str = "") -> Health:
    """Count the stations that came to an end with a release: changed over to it, or failed.

    Args:
        statuses: What stations report; each counts once, however often it names the release, as failed if it did once.
        key: The release's key.
        since: What was reported up to this moment does not count; None: all counts.
        but: A station that does not count: the one that asks, which decides by its own smoke test.
    """
    after = since or ""  # Moments in records have one form, in which the later is the larger text.
    told = [_ended(status, key, after) for status in statuses if status.station != but]
    failed = sum("failed" in outcomes for outcomes in told)
    return Health(failed + sum("done" in outcomes and "failed" not in outcomes for outcomes in told), failed)


def _ended(status: StationStatus, key: str, after: str) -> frozenset[str]:
    return frozenset(tried.outcome for tried in status.tried or () if tried.key == key and tried.when > after)


def stopped_by(health: Health, policy: RolloutPolicy) -> str | None:
    """One sentence where too many stations failed, else None.

    Too many is a share above the policy's limit that chance would hardly have made of a release within the limit: the
    probability of as many failures or more at exactly the limit is under one minus the policy's confidence. One or two
    failures stop nobody.
    """
    limit, confidence = float(policy.max_failed), float(policy.confidence)
    if (
        health.failed < _FEWEST
        or health.share <= limit
        or _at_least(health.failed, health.tried, limit) > 1 - confidence
    ):
        return None
    return (
        f"{health.failed} of {health.tried} stations that tried it failed, more than the policy's {limit:.0%}; "
        "a person decides: changeover rollout stop or resume"
    )


def _drawn(seed: str, station: str) -> int:
    """A number of 64 bits that is as good as random, and always the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {station}".encode()).digest()[:8], "big")


def _at_least(failed: int, tried: int, chance: float) -> float:
    """The probability of `failed` or more failures of `tried` when each fails with probability `chance`."""
    if chance <= 0.0:
        return 0.0
    terms = (
        math.lgamma(tried + 1)
        - math.lgamma(k + 1)
        - math.lgamma(tried - k + 1)
        + k * math.log(chance)
        + (tried - k) * math.log1p(-chance)
        for k in range(failed, tried + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))
