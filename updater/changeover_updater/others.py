"""How other stations fare with a release, as far as their reports can be read: who is asked, and what they say.

Not everybody is asked, or ten thousand stations would read each other's reports each time: the stations that a release
reaches first, which tell earliest, and as many of all others, another choice of them for each station that asks. A
report that cannot be read counts for nothing. Left out: what the counts mean (`rollout`).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

from changeover_registry.records.policy import RolloutPolicy
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.station import StationStatus
from changeover_updater.rollout import asked, health_of, pointer_of, stopped_by
from changeover_updater.site import Site
from changeover_updater.stations import read_statuses, station_names
from changeover_updater.studio import Studio

__all__ = ["Read", "failing", "failing_among"]

Read: TypeAlias = Callable[[Iterable[str]], tuple[StationStatus, ...]]
"""Answers with the reports of the stations of these names."""

_ASKED = 64
"""How many stations of each kind are asked."""


def failing(site: Site, station: str, studio: Studio, keys: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Of the releases with these keys, those with which too many others failed, each with one sentence.

    Where the stations' reports cannot be listed at all, nothing is known of how others fare, and each is kept back.
    """
    try:
        names = station_names(site)
    except OSError as error:
        why = f"how other stations fare with it cannot be read ({error.strerror or error}); mend the site's stations/"
        return tuple((key, why) for key in sorted(keys))
    return failing_among(names, partial(read_statuses, site), station, studio, keys)


def failing_among(
    names: Iterable[str], read: Read, station: str, studio: Studio, keys: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    """As `failing`, of the stations with these names, whose reports `read` answers."""
    rules, found, known = studio.policy.rollout or RolloutPolicy(), [], tuple(names)
    for ref, resumed in _chosen(studio):
        if str(ref) not in keys:
            continue
        reports = read(asked(ref, known, _ASKED, by=station))
        why = stopped_by(health_of(reports, str(ref), resumed, but=station), rules)
        found += [(str(ref), why)] if why else []
    return tuple(sorted(found))


def _chosen(studio: Studio) -> Iterator[tuple[ReleaseRef, str | None]]:
    """Every release that a channel or a share names, with the moment up to which failures are forgiven."""
    resumed: dict[ReleaseRef, str] = {}
    for choice in studio.choices:
        for pointer in (*choice.channels, *map(pointer_of, choice.shares)):
            resumed[pointer.release] = max(resumed.get(pointer.release, ""), pointer.resumed or "")
    return ((ref, moment or None) for ref, moment in resumed.items())
