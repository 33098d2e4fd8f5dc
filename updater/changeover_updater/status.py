"""What a station says of itself: to the person who asks, and to the site where others read it.

What is told to the site is small whatever a station went through: ten thousand of them are read together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.station import Generation, GenerationRelease, Hold, StationStatus, Tried
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.stations import LIMIT_BYTES, read_statuses

__all__ = ["Status", "Told", "report_status", "reported_head", "reported_status", "status_now"]

_RELEASES = 200
_TRIED = 50


@dataclass(frozen=True, slots=True)
class Status:
    """A station as it is: the generation in use, the hold that is in force, the generations that are kept."""

    station: str
    generation: Generation | None
    hold: Hold | None
    kept: tuple[int, ...]
    known_withdrawn: Mapping[str, str] = field(default_factory=dict)
    """What the station was told of withdrawals since its generation was made, by the release's key."""

    def withdrawn(self) -> Mapping[str, str]:
        """Why its vendor took back a release that a channel or a pin answers, by the release's key."""
        made = self.generation
        if made is None:
            return {}
        served = {entry.key for entry in made.channels} | {pin.key for pin in made.pins}
        why = {r.key: r.withdrawn or self.known_withdrawn.get(r.key) for r in made.releases if r.key in served}
        return {key: text for key, text in why.items() if text}

    def note(self, key: str) -> str:
        """What a person should know of a release in use."""
        release = self.generation.release(key) if self.generation else None
        if release is None:
            return "not in this generation"
        if why := release.withdrawn or self.known_withdrawn.get(key):
            return f"WITHDRAWN: {why}"
        served = [a.loader + (f" {a.nuke_line}" if a.nuke_line else "") for a in release.answers if a.path]
        known = ["adopted: nobody judged it"] if release.adopted else []
        return "; ".join(
            ("for " + ", ".join(served) if served else "for no loader here", *known, *_not_in_nuke(release))
        )

    def as_object(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "station": self.station,
            "generation": self.generation.model_dump(mode="json", exclude_none=True) if self.generation else None,
            "hold": self.hold.model_dump(mode="json", exclude_none=True) if self.hold else None,
            "kept": list(self.kept),
            "withdrawn": dict(self.withdrawn()),
        }


def _not_in_nuke(release: GenerationRelease) -> list[str]:
    """Why a Nuke of this host does not get the release, for each line; its name stands beside and is not repeated."""
    return [
        answer.unavailable.replace("not available in", "not in", 1).replace(f"{release.key} has", "has", 1)
        for answer in release.answers
        if answer.nuke_line and not answer.path and answer.unavailable
    ]


def status_now(station: Station, now: datetime) -> Status:
    """Read a station's state."""
    hold = station.hold()
    live = hold if hold and hold.holds(now) else None
    return Status(station.id, station.in_use(), live, station.numbers(), station.withdrawn())


@dataclass(frozen=True, slots=True)
class Told:
    """What an update adds to a station's status; where it is absent, what was told before still stands.

    `choices` is the number of each scope's choice that was read, `verdicts` the digests that those rest on for this
    station, `outcome` how it ended, in one line.
    """

    tried: tuple[Tried, ...] | None = None
    choices: Mapping[str, int] | None = None
    verdicts: tuple[str, ...] | None = None
    outcome: str | None = None
    next_report: str | None = None


def report_status(
    site: Site,
    station: Station,
    host: str,
    now: datetime,
    facts: HostFacts | None,
    notice: Callable[[str], None],
    told: Told | None = None,
) -> None:
    """Write the station's status to the site, where everybody may read it and nobody trusts it.

    A site that cannot be written is a notice, and never a failure of what was done. `facts` is None where they are not
    known at this moment; what was told of them before stands.
    """
    from changeover_validators.classes import host_class

    status, events = status_now(station, now), station.events()
    before, told = reported_status(site, station.id) or _nothing(station, now), told or Told()
    of_class = host_class(facts) if facts else before.host_class
    record = StationStatus(
        station=station.id,
        host=host,
        reported_at=format_time(now),
        host_class=of_class,
        generation=status.generation.number if status.generation else None,
        hold=status.hold.why if status.hold else None,
        releases=_kept(status.generation),
        events=len(events),
        events_head=events[-1].digest() if events else None,
        last_outcome=before.last_outcome if told.outcome is None else told.outcome[:400],
        changeover=version("changeover"),
        serving=status.generation.channels if status.generation else (),
        facts=facts or before.facts,
        verdicts=before.verdicts if told.verdicts is None else told.verdicts,
        tried=_tried(before, told.tried),
        quarantined=tuple(sorted({str(one.release) for one in station.quarantined(of_class or "")})),
        choices=before.choices if told.choices is None else dict(told.choices),
        next_report=told.next_report or _still_to_come(before.next_report, now),
    )
    folder = site.root / "stations" / station.id
    if folder.is_symlink():
        # Other hosts can write beside it, and this may be an account that may write anywhere.
        notice(f"the site was not told of this station's state: {folder} is a link")
        return
    try:
        _fs.make_dirs(folder)
        _fs.write_atomic(folder / "status.json", _small(record))
    except OSError as error:
        notice(f"the site was not told of this station's state: {error.strerror or error}")


def _nothing(station: Station, now: datetime) -> StationStatus:
    return StationStatus(station=station.id, host="nobody", reported_at=format_time(now))


def _kept(generation: Generation | None) -> tuple[str, ...]:
    """What is kept, that which channels and pins answer first."""
    if generation is None:
        return ()
    served = {entry.key for entry in generation.channels} | {pin.key for pin in generation.pins}
    keys = [release.key for release in generation.releases]
    return tuple(sorted(keys, key=lambda key: key not in served)[:_RELEASES])


def _tried(before: StationStatus, new: tuple[Tried, ...] | None) -> tuple[Tried, ...] | None:
    """What was tried, each with the moment since when it stands so; of a failure, with the last of several."""
    if new is None:
        return before.tried
    since = {(one.key, str(one.outcome)): one.when for one in before.tried or () if one.outcome != "failed"}
    return tuple(
        one.model_copy(update={"when": min(one.when, since.get((one.key, one.outcome), one.when))})
        for one in new[:_TRIED]
    )


def _still_to_come(moment: str | None, now: datetime) -> str | None:
    """When the agent of this station said that it reports again, unless that has passed."""
    return moment if moment is not None and moment > format_time(now) else None


def _small(record: StationStatus) -> bytes:
    """The bytes; without the facts where they are larger than anybody reads."""
    data = record.to_bytes()
    return data if len(data) <= LIMIT_BYTES else record.model_copy(update={"facts": None}).to_bytes()


def reported_status(site: Site, station: str) -> StationStatus | None:
    """What the station told the site last; None where it told nothing that can be read."""
    return next(iter(read_statuses(site, (station,))), None)


def reported_head(site: Path, station: str) -> tuple[int, str] | None:
    """How many events the station had reported to the site, and the digest of the last."""
    path = site / "stations" / station / "status.json"
    try:
        status = StationStatus.from_bytes(path.read_bytes(), where=str(path))
    except (OSError, ChangeoverError):
        return None
    return None if status.events_head is None else (status.events, status.events_head)
