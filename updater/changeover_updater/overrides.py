"""The overrides that hold at this moment, for whoever asks a station how it is.

They are read from the signed choice each time: a station whose site is away still answers, and says that it cannot
tell. Left out: what an override passes over (`eligible`, `permission`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.choice import Choice, Override
from changeover_registry.records.station import Generation
from changeover_updater.site import Site
from changeover_updater.station import Station

__all__ = ["Standing", "read_standing", "standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One override that holds: whose choice says so, and whether a channel or pin of the station answers its release.

    `in_use` is about the release, not about whether the station would have it without the override.
    """

    scope: str
    override: Override
    in_use: bool

    def as_object(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"scope": self.scope, **self.override.model_dump(mode="json"), "in_use": self.in_use}


def standing(choices: Iterable[Choice], current: Generation | None, now: datetime) -> tuple[Standing, ...]:
    """Every override of these choices that has not ended, those of what is in use here first."""
    served = {c.key for c in current.channels} | {p.key for p in current.pins} if current else set()
    found = [
        Standing(choice.scope, override, str(override.release) in served)
        for choice in choices
        for override in choice.overrides
        if now < parse_time(override.until)
    ]
    return tuple(sorted(found, key=lambda one: (not one.in_use, one.override.until)))


def read_standing(site: Path | None, station: Station, now: datetime) -> tuple[tuple[Standing, ...], str | None]:
    """The overrides that hold, and None; or none, and why they cannot be read at this moment."""
    from changeover_updater.studio import read_choices

    if site is None:
        return (), "no site is named"
    try:
        return standing(read_choices(Site.open(site), station), station.in_use(), now), None
    except (ChangeoverError, OSError) as error:
        return (), str(error)
