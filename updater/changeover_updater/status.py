"""What a station says of itself: to the person who asks, and to the site where others read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.station import Generation, GenerationRelease, Hold, StationStatus
from changeover_updater.site import Site
from changeover_updater.station import Station

__all__ = ["Status", "report_status", "reported_head", "status_now"]


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
        return "; ".join(("for " + ", ".join(served) if served else "for no loader here", *_not_in_nuke(release)))

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


def report_status(
    site: Site, station: Station, host: str, now: datetime, facts: HostFacts, notice: Callable[[str], None]
) -> None:
    """Write the station's status to the site, where everybody may read it and nobody trusts it."""
    from changeover_validators.classes import host_class

    status, events = status_now(station, now), station.events()
    record = StationStatus(
        station=station.id,
        host=host,
        reported_at=format_time(now),
        host_class=host_class(facts),
        generation=status.generation.number if status.generation else None,
        hold=status.hold.why if status.hold else None,
        releases=tuple(release.key for release in status.generation.releases) if status.generation else (),
        events=len(events),
        events_head=events[-1].digest() if events else None,
    )
    folder = site.root / "stations" / station.id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fs.write_atomic(folder / "status.json", record.to_bytes())
    except OSError as error:
        notice(f"the site was not told of this station's state: {error.strerror or error}")


def reported_head(site: Path, station: str) -> tuple[int, str] | None:
    """How many events the station had reported to the site, and the digest of the last."""
    path = site / "stations" / station / "status.json"
    try:
        status = StationStatus.from_bytes(path.read_bytes(), where=str(path))
    except (OSError, ChangeoverError):
        return None
    return None if status.events_head is None else (status.events, status.events_head)
