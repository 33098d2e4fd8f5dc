"""How other stations fare with a release, as far as their reports can be read: who is asked, and what they say.

Not everybody is asked, or ten thousand stations would read each other's reports each time: the stations that a release
reaches first, which tell earliest, and as many of all others, another choice of them for each station that asks. A
report that cannot be read counts for nothing. Left out: what the counts mean (`rollout`).
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeAlias

from changeover_registry.records.policy import RolloutPolicy
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import StationStatus
from changeover_updater.rollout import asked, health_of, pointer_of, stopped_by
from changeover_updater.site import Site
from changeover_updater.stations import read_statuses, station_names
from changeover_updater.studio import Studio

__all__ = ["Read", "Way", "failing", "failing_among"]

Way: TypeAlias = tuple[str, str]
"""A channel, and the key of a release that it or its share names: how a release comes to a station."""

Read: TypeAlias = Callable[[Iterable[str]], tuple[StationStatus, ...]]
"""Answers with the reports of the stations of these names."""

_ASKED = 64
"""How many stations of each kind are asked."""


def failing(
    site: Site, station: str, studio: Studio, wanted: frozenset[Way], now: datetime
) -> tuple[tuple[Way, str], ...]:
    """Of these ways, those whose release too many others failed with, each with one sentence.

    A report from the future counts for nothing: no resume of today could forgive it. Where the reports cannot be listed
    at all, nothing is known of how others fare, and each is kept back.
    """
    try:
        names = station_names(site)
    except OSError as error:
        why = f"how other stations fare with it cannot be read ({error.strerror or error}); mend the site's stations/"
        return tuple((way, why) for way in sorted(wanted))
    return failing_among(names, partial(read_statuses, site, now=now), station, studio, wanted)


def failing_among(
    names: Iterable[str], read: Read, station: str, studio: Studio, wanted: frozenset[Way]
) -> tuple[tuple[Way, str], ...]:
    """As `failing`, of the stations with these names, whose reports `read` answers."""
    rules, found, known = studio.policy.rollout or RolloutPolicy(), [], tuple(names)
    reports: dict[ReleaseRef, tuple[StationStatus, ...]] = {}
    for (channel, ref), resumed in _chosen(studio):
        if (channel, str(ref)) not in wanted:
            continue
        if ref not in reports:
            reports[ref] = read(asked(ref, known, _ASKED, by=station))
        why = stopped_by(health_of(reports[ref], str(ref), resumed, but=station), rules)
        found += [((channel, str(ref)), why)] if why else []
    return tuple(sorted(found))


def _chosen(studio: Studio) -> Iterator[tuple[tuple[str, ReleaseRef], str | None]]:
    """Every channel with each release that it or its share names, and up to when failures are forgiven there.

    Whoever may resume for one show forgives nothing for the site or for another show.
    """
    resumed: dict[tuple[str, ReleaseRef], str] = {}
    for choice in studio.choices:
        for pointer in (*choice.channels, *map(pointer_of, choice.shares)):
            way = (pointer.channel, pointer.release)
            resumed[way] = max(resumed.get(way, ""), pointer.resumed or "")
    return ((way, moment or None) for way, moment in resumed.items())
