"""What the signed choices need in the studio: what they name now, and all that a show was given until it is closed.

Whatever was once promoted to a show stays, since its scripts are stamped with it. `close_show` writes the show's
archive and takes its channel and pins out of the choice, and from then on `gc` may drop what nothing else needs. The
archive comes first and the choice last: until the choice is signed to its threshold, the show is open.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry import _fs
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError
from changeover_registry.names import check_name
from changeover_registry.records.choice import Choice, Entry, Pin, Pointer, Share
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.show import ClosedShow
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.studio import read_choices

if TYPE_CHECKING:
    from changeover_registry.repository.pending import Written
    from changeover_updater.cli._context import Invocation

__all__ = [
    "Show",
    "archives",
    "close_show",
    "needs_of",
    "read_histories",
    "read_needs",
    "sha256_of",
    "shows_of",
]


@dataclass(frozen=True, slots=True)
class Show:
    """A show that has, or had, a choice of its own: what it was ever given, and how it was closed, if it was."""

    name: str
    releases: tuple[ReleaseRef, ...]
    choice: int
    closed: ClosedShow | None

    @property
    def is_open(self) -> bool:
        """Whether something was chosen for it since it was closed, or it never was."""
        return self.closed is None


def needs_of(
    choices: Iterable[Choice], histories: Mapping[str, tuple[Choice, ...]], closed: Mapping[str, int]
) -> Mapping[str, tuple[str, ...]]:
    """Why the signed choices need a release, by its key.

    Args:
        choices: Those in force.
        histories: Every choice of each scope, oldest first.
        closed: After which choice of its own a show was closed.
    """
    found: dict[str, dict[str, None]] = {}
    for choice in (*choices, *(history[-1] for history in histories.values() if history)):
        for entry in _entries(choice):
            found.setdefault(str(entry.release), {})[_chosen(entry)] = None
    for history in histories.values():
        for choice in history:
            for show, entry in _given(choice):
                if choice.scope != _scope(show) or choice.number > closed.get(show, 0):
                    found.setdefault(str(entry.release), {})[f"show {show} was given it and is not closed"] = None
    return {key: tuple(why) for key, why in found.items()}


def read_needs(site: Site, station: Station) -> Mapping[str, tuple[str, ...]]:
    """`needs_of` what the site holds, verified against the root that the station was given.

    Raises:
        TrustError: The choice does not hold, or has expired: then nobody knows what is needed.
    """
    choices = read_choices(site, station)
    histories = read_histories(site, station, choices)
    closed = {show.name: show.closed.choice for show in shows_of(site, histories) if show.closed}
    return needs_of(choices, histories, closed)


def read_histories(site: Site, station: Station, choices: Iterable[Choice]) -> Mapping[str, tuple[Choice, ...]]:
    """Every choice of the scopes of `choices`, oldest first, verified."""
    from changeover_registry.repository import choice

    root = (station.folder / "trust" / "choice" / "root.json").read_bytes()
    return {scope: choice.history(site.choice, scope, root=root) for scope in sorted({c.scope for c in choices})}


def shows_of(site: Site, histories: Mapping[str, tuple[Choice, ...]]) -> tuple[Show, ...]:
    """Every show with a choice of its own, by name.

    Raises:
        InvalidInputError: What says that a show was closed is damaged.
    """
    found = []
    for scope, history in sorted(histories.items()):
        if scope == "site" or not history:
            continue
        name = scope.removeprefix("shows/")
        refs = {str(entry.release): entry.release for choice in history for entry in _entries(choice)}
        closed, releases = _closed(site, name), tuple(refs[key] for key in sorted(refs))
        later = [choice for choice in history if closed and choice.number > closed.choice]
        # One that the choice does not confirm yet, or was given something since, is open.
        is_closed = bool(later) and not any(any(_given(choice)) for choice in later)
        found.append(Show(name, releases, history[-1].number, closed if is_closed else None))
    return tuple(found)


def archives(site: Site) -> tuple[tuple[Path, ClosedShow], ...]:
    """Every archive of a closed show that is there with its size; its bytes were not hashed."""
    found = []
    for folder in sorted((site.root / "shows").glob("*")):
        closed = _closed(site, folder.name)
        path = folder / closed.archive if closed else folder
        if closed and path.is_file() and path.stat().st_size == closed.size:
            found.append((path, closed))
    return tuple(found)


def close_show(
    call: "Invocation", name: str, reason: str, progress: Callable[[str, int, int], None]
) -> "tuple[ClosedShow, Written]":
    """Write the archive of all that a show was ever given, then take its channel and pins out of the choice.

    Returns:
        What was written beside the archive, and the choice, which may wait for further signatures.

    Raises:
        InvalidInputError: There is no such show, it is closed already, or a key is missing.
        TrustError: The choice does not hold, or a file is not the signed one; the show is open as before.
        UnreachableError: A release is neither here nor at its vendor's; the show is open as before.
        OSError: The site's disk is full; the show is open as before.
    """
    from changeover_updater.bundle import write_bundle
    from changeover_updater.signed import write_choice

    site, station = call.site(), call.station()
    call.key("promoter")
    show = _open_show(shows_of(site, read_histories(site, station, read_choices(site, station))), name)
    folder = site.root / "shows" / show.name
    _fs.make_dirs(folder)
    target = folder / f"archive-{show.choice}.changeover"
    write_bundle(
        target,
        site=site,
        store=station.store,
        releases=show.releases,
        choice=True,
        now=call.now,
        who=call.settings.who,
        progress=progress,
    )
    closed = ClosedShow(
        show=show.name,
        choice=show.choice,
        who=call.settings.who,
        when=format_time(call.now),
        why=reason,
        releases=show.releases,
        archive=target.name,
        size=target.stat().st_size,
        sha256=sha256_of(target),
    )
    entry = Entry(who=closed.who, when=closed.when, why=reason, what=f"close show {show.name}")
    _fs.write_atomic(folder / "closed.json", closed.to_bytes())
    return closed, write_choice(call, site, _scope(show.name), lambda last: _emptied(last, show, entry))


def _emptied(last: Choice | None, show: Show, entry: Entry) -> Choice:
    """The choice that gives the show nothing any more."""
    if last is None or last.number != show.choice:
        raise InvalidInputError(
            "show",
            where=show.name,
            expected=f"choice {show.choice} as the newest, which the archive was written of",
            actual=f"choice {last.number if last else 0}",
            remedy="run the command again; what was chosen meanwhile belongs into the archive",
        )
    nothing = {"channels": (), "pins": (), "shares": (), "overrides": (), "baselines": None}
    return last.model_copy(update={"entry": entry, **nothing})


def _open_show(shows: tuple[Show, ...], name: str) -> Show:
    found = next((show for show in shows if show.name == name), None)
    if found is None or not found.is_open:
        known = ", ".join(show.name for show in shows if show.is_open) or "none"
        raise InvalidInputError(
            "show",
            where=name,
            expected=f"an open show that something was promoted to ({known})",
            actual=f"closed by {found.closed.who} at {found.closed.when}" if found and found.closed else "no such show",
            remedy="nothing is kept for it; see them with: changeover show list",
        )
    return found


def _closed(site: Site, show: str) -> ClosedShow | None:
    path = site.root / "shows" / show / "closed.json"
    try:
        closed = ClosedShow.from_bytes(path.read_bytes(), where=str(path))
    except FileNotFoundError:
        return None
    if closed.show != show or check_name(closed.show, where=str(path)) != show:
        raise InvalidInputError(
            "closed show", where=str(path), expected=f"show = {show}", actual=closed.show, remedy="remove the file"
        )
    return closed


def _entries(choice: Choice) -> Iterator[Pointer | Pin | Share]:
    yield from choice.channels
    yield from choice.pins
    yield from choice.shares


def _given(choice: Choice) -> Iterator[tuple[str, Pointer | Pin | Share]]:
    """What a choice gives to a show."""
    for entry in _entries(choice):
        show = entry.show if isinstance(entry, Pin) else entry.channel.partition("show/")[2]
        if show or choice.scope != "site":
            yield show or choice.scope.removeprefix("shows/"), entry


def _chosen(entry: Pointer | Pin | Share) -> str:
    if isinstance(entry, Pin):
        return "pin " + ("/".join(filter(None, (entry.show, entry.sequence, entry.shot))) or "site")
    return ("share of " if isinstance(entry, Share) else "") + f"channel {entry.channel}"


def _scope(show: str) -> str:
    return f"shows/{show}"


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
