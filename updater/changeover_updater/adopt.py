"""Adopting what a studio already runs: from ``.cat`` files on disk to signed releases, and to what a show has.

Done in steps that can each be killed and done again: the studio's own vendor, the release in its repository, the site's
knowledge of it, the show's signed choice. Before the first of them everything is read and decided, so that what is
refused has changed nothing. The same bytes are the same release, whatever they are called by then. The files are read
and never moved, changed or run. Decisions are `adopted`'s, what is found on disk is `cats`'.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry import _fs
from changeover_registry.errors import RefusedError
from changeover_registry.names import check_model, check_name
from changeover_registry.records.choice import Choice
from changeover_registry.records.release import Release, ReleaseRef
from changeover_updater.adopted import (
    Found,
    adopt,
    check_place,
    is_adopted,
    known_as,
    names_of,
    next_version,
    record_of,
)
from changeover_updater.cats import CatFile, look_for
from changeover_updater.own_vendor import open_own, own_name
from changeover_updater.permitted import case_of, check_adoption, check_client
from changeover_updater.site import Site
from changeover_updater.studio import Studio, read_studio
from changeover_updater.vendors import sync_vendor

if TYPE_CHECKING:
    from changeover_registry.repository.pending import Written
    from changeover_updater.cli._context import Invocation

__all__ = ["Asked", "Chosen", "Done", "Taken", "adopt_files"]

Step = Callable[[str], None]
_LOCK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants: a file or folder, for which shows, by which name, as the baseline of what, and why."""

    path: Path
    shows: tuple[str, ...]
    name: str | None
    baseline_of: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """One file and the release that it is by now; `new` is False where it was adopted before."""

    path: Path
    release: Release
    new: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a show has now; `written` is None where it had it before."""

    show: str
    release: ReleaseRef
    written: "Written | None"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it all; `left` are files beside the models that no release holds, such as gizmos."""

    taken: tuple[Taken, ...]
    chosen: tuple[Chosen, ...]
    left: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked, with every name checked."""

    vendor: str
    name: str | None
    shows: tuple[str, ...]
    model: str | None
    who: str
    why: str


def adopt_files(
    call: "Invocation", asked: Asked, *, step: Step = lambda _: None, notice: Step = lambda _: None
) -> Done:
    """Make what lies at a path releases of the studio's own, and have the shows hold them.

    Raises:
        InvalidInputError: Nothing there is a ``.cat``, a name cannot be used, or the keys of the studio's own vendor
            are on another host.
        RefusedError: A file is known by another name, or a show has what somebody judged in its place.
        TrustError: A signature does not hold.
        LostRaceError: Somebody else is adopting, or changed the choice meanwhile.
        OSError: A file cannot be read, or home or site cannot be written.
    """
    from changeover_updater.records import know_releases
    from changeover_updater.signed import open_studio

    step(f"reading {asked.path}")
    files, left = look_for(asked.path, step)
    site, studio = open_studio(call)
    wish = _wish(call, site, studio, asked)
    studio = _synced(call, site, studio, wish.vendor)
    taken = _plan(studio, wish, files)
    for show in wish.shows:
        for one in taken:
            _check_show(studio, f"show/{show}", one.release, wish.model)
    if any(one.new for one in taken):
        taken = _publish(call, site, wish, files, step)
        studio = read_studio(site, call.station())
        step("telling MLflow")
        know_releases(site, tuple(one.release for one in taken if one.new), notice)
    releases = tuple(dict.fromkeys(one.release.ref() for one in taken))
    chosen = tuple(_choose(call, site, studio, show, ref, wish) for show in wish.shows for ref in releases)
    return Done(taken, chosen, left)


def _wish(call: "Invocation", site: Site, studio: Studio, asked: Asked) -> _Wish:
    vendor, slash, bare = (asked.name or "").rpartition("/")
    if asked.name:
        check_model(asked.name if slash else f"studio/{asked.name}", where="--as")
    return _Wish(
        vendor=own_name(site, vendor or None),
        name=bare or None,
        shows=tuple(check_name(show, where="--show") for show in dict.fromkeys(asked.shows)),
        model=None if asked.baseline_of is None else studio.model(asked.baseline_of),
        who=call.settings.who,
        why=asked.reason,
    )


def _synced(call: "Invocation", site: Site, studio: Studio, vendor: str) -> Studio:
    """What the studio knows, with what a killed run published and did not come to sync."""
    if all(folder.vendor != vendor for folder in site.vendors()):
        return studio
    sync_vendor(site.vendor(vendor))
    return read_studio(site, call.station())


def _plan(studio: Studio, wish: _Wish, files: Iterable[CatFile]) -> tuple[Taken, ...]:
    """Which release each file is, or becomes."""
    files = tuple(files)
    own = [release for state in studio.vendors if state.entry.local for release in state.releases]
    names = names_of((file.found for file in files), wish.name)
    taken: list[Taken] = []
    for file in files:
        known = known_as(file.found, own)
        if known is None:
            model = f"{wish.vendor}/{names[file.found.file.sha256]}"
            made = record_of(file.found, model, next_version(model, own), who=wish.who, why=wish.why)
            own.append(made)
            taken.append(Taken(file.path, made, new=True))
            continue
        if wish.name and known.model != f"{wish.vendor}/{wish.name}":
            raise _other_name(file.found, known, f"{wish.vendor}/{wish.name}")
        taken.append(Taken(file.path, known, new=False))
    return tuple(taken)


def _check_show(studio: Studio, channel: str, release: Release, model: str | None) -> None:
    """Before anything is written: that the show's channel, and the site's that serves it else, may hold a release."""
    ref, scope = release.ref(), f"shows/{channel.removeprefix('show/')}"

    def known(held: ReleaseRef) -> bool:
        return held == ref or is_adopted(studio.release(held))

    check_client(studio.choices, scope, ref, studio.policy)
    own = next((choice for choice in studio.choices if choice.scope == scope), None)
    check_place(own, channel, ref, model, known)
    if own is None or own.pointer(channel, release.model) is None:
        everybody = next((choice for choice in studio.choices if choice.scope == "site"), None)
        check_place(everybody, studio.policy.channel, ref, model, known, site=True)


def _publish(call: "Invocation", site: Site, wish: _Wish, files: tuple[CatFile, ...], step: Step) -> tuple[Taken, ...]:
    """Sign what is new into the repository of the studio's own vendor, and let the site know it."""
    from changeover_registry.repository import vendor as repository
    from changeover_updater.vendor_documents import plain_documents

    home = open_own(call, site, wish.vendor)
    with _fs.lock(home.lock, what=f"the home of {wish.vendor}", wait_seconds=_LOCK_SECONDS):
        sync_vendor(site.vendor(wish.vendor))
        # Somebody else may have adopted since all of it was decided.
        taken = _plan(read_studio(site, call.station()), wish, files)
        for one in taken:
            if one.new:
                step(f"signing {one.release.ref()}")
                (file,) = one.release.variants[0].files
                data, beside = one.release.to_bytes(), plain_documents(one.release, call.now)
                repository.publish(home.repository, home.keys, data, {file.sha256: one.path}, call.now, beside)
        sync_vendor(site.vendor(wish.vendor))
    return taken


def _choose(call: "Invocation", site: Site, studio: Studio, show: str, ref: ReleaseRef, wish: _Wish) -> Chosen:
    """Have a show hold a release, unless it does."""
    from changeover_updater.signed import change_of, write_choice

    channel, scope = f"show/{show}", f"shows/{show}"
    now = next((choice for choice in studio.choices if choice.scope == scope), None)
    if now is not None and _holds(now, channel, ref, wish.model):
        return Chosen(show, ref, None)
    release, change = studio.release(ref), change_of(call, wish.why)
    if release is not None:
        check_adoption(case_of(call, site, studio, release, scope, channel))

    def known(held: ReleaseRef) -> bool:
        return is_adopted(studio.release(held))

    return Chosen(
        show,
        ref,
        write_choice(call, site, scope, lambda last: adopt(last, channel, ref, wish.model, change, known)),
    )


def _holds(choice: Choice, channel: str, ref: ReleaseRef, model: str | None) -> bool:
    pointer = choice.pointer(channel, ref.model)
    compared = {(entry.channel, entry.model, entry.release) for entry in choice.baselines or ()}
    return pointer is not None and pointer.release == ref and (model is None or (channel, model, ref) in compared)


def _other_name(found: Found, known: Release, wanted: str) -> RefusedError:
    return RefusedError(
        "adopt",
        where=found.source,
        expected=f"a file that is not known yet, to be called {wanted}",
        actual=f"{known.ref()}, which has the very same bytes",
        remedy=f"leave --as out, or write --as {known.model}",
    )
