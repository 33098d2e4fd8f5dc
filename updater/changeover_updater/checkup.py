"""What `doctor` does about the disk: gather, decide, mend if it was asked to, and look again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.mlflow_adapter.aliases import MovedAlias
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.release import Release
from changeover_updater.health import Repair, Seen, Symptom, symptoms
from changeover_updater.health_gather import Around, gather
from changeover_updater.install import Progress, missing_bytes
from changeover_updater.plan import make_plan
from changeover_updater.records import alias_requests
from changeover_updater.repair import Hands, Mended, mend
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.studio import read_choices, read_studio
from changeover_updater.update import known_now

__all__ = ["Asked", "Checkup", "check_up"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose disk is looked at, and by whom. `reach` is None where the studio's site key is not here."""

    station: Station
    site: Site | None
    facts: HostFacts
    who: str
    host: str
    cache: Path
    now: datetime
    progress: Progress
    reach: Callable[[], object] | None = None
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was mended, and what is left to tell."""

    hashed: int
    left: tuple[Symptom, ...]
    mended: tuple[Mended, ...] = ()

    @property
    def exit_code(self) -> int:
        """The highest that a symptom makes; 0 where all is well."""
        return max((symptom.code for symptom in self.left), default=0)


def check_up(asked: Asked) -> Checkup:
    """Look, and mend where that was asked for; what is left after mending is told.

    Raises:
        OSError: The folders of the store cannot be listed.
    """
    requests, silent = _requests(asked)
    seen = replace(_look(asked), requests=requests, silent=silent)
    found = symptoms(seen)
    mended: tuple[Mended, ...] = ()
    for moves_pointer in (False, True) if asked.repair else ():
        # Where the pointer goes is decided again once files are there that were missing.
        repairs = _repairs(found, moves_pointer=moves_pointer)
        if repairs:
            mended += mend(repairs, _hands(asked))
            seen = replace(_look(asked), requests=requests, silent=silent)
            found = symptoms(seen)
    return Checkup(seen.hashed, found, mended)


def _repairs(found: tuple[Symptom, ...], *, moves_pointer: bool) -> list[Repair]:
    return [one.repair for one in found if one.repair and (one.repair.kind == "point") is moves_pointer]


def _look(asked: Asked) -> Seen:
    return gather(
        asked.station,
        Around(
            site=asked.site,
            releases=_releases(asked),
            needed=_needed(asked),
            host=asked.host,
            has_site_key=asked.reach is not None,
            cache=asked.cache,
            now=asked.now,
        ),
        asked.progress,
    )


def _hands(asked: Asked) -> Hands:
    return Hands(
        station=asked.station,
        site=asked.site,
        releases=_releases(asked),
        who=asked.who,
        now=asked.now,
        progress=asked.progress,
        reach=asked.reach or (lambda: None),
    )


def _releases(asked: Asked) -> tuple[Release, ...]:
    """Every release whose verified record is at hand; none where the choice cannot be read, which is told elsewhere."""
    if asked.site is None:
        return ()
    try:
        return read_studio(asked.site, asked.station).releases()
    except (ChangeoverError, OSError):
        return ()


def _requests(asked: Asked) -> tuple[tuple[MovedAlias, ...], str | None]:
    """What people asked for in MLflow; else why it could not be asked, where the choice itself can be read."""
    if asked.site is None:
        return (), None
    try:
        choices = read_choices(asked.site, asked.station)
    except (ChangeoverError, OSError):
        return (), None
    try:
        return alias_requests(asked.site, choices), None
    except (ChangeoverError, OSError) as error:
        return (), str(error)


def _needed(asked: Asked) -> int:
    """The bytes that the next update brings here, as far as that can be planned now."""
    if asked.site is None:
        return 0
    try:
        plan = make_plan(known_now(asked.site, asked.station, asked.facts, asked.now))
    except (ChangeoverError, OSError):
        return 0
    arrivals = ((arrival.eligible.release, arrival.variants) for arrival in plan.arrivals)
    return sum(missing_bytes(asked.station.store, release, variants) for release, variants in arrivals)
