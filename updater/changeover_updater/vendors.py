"""The vendors that the studio trusts: add, remove, and bring their newest releases to the studio (`sync`)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from changeover_registry import _fs, canonical, clock
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UndecidedError, UnreachableError
from changeover_registry.names import check_name
from changeover_registry.openssf import SignatureError
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.repository import IndexEntry, TrustEntry
from changeover_registry.transport.interface import NotThereError
from changeover_updater.clearance import judged_at
from changeover_updater.site import IN_SITE, Site, VendorFolder
from changeover_updater.studio import unreadable_record

if TYPE_CHECKING:
    from changeover_registry.repository.vendor import VendorView
    from changeover_registry.transport import Transport

__all__ = ["Synced", "add_trust", "remove_trust", "sync_vendor", "trust_own"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync of one vendor found: all releases, those that are new here, those withdrawn since and why."""

    vendor: str
    releases: tuple[Release, ...]
    new: tuple[Release, ...]
    withdrawn: tuple[tuple[ReleaseRef, str], ...]
    unreadable: tuple[ChangeoverError, ...] = ()
    """Why this build cannot read a release's signed record; the release is left out, the others come."""
    refused: tuple[ChangeoverError, ...] = ()
    """Why a release's OpenSSF signature does not hold; it is left out if it was not here before, the others come."""


def add_trust(  # noqa: PLR0913 - each is what one flag of `trust add` says
    site: Site,
    vendor: str,
    location: str | tuple[str, ...],
    root: bytes,
    *,
    allow_executable: bool,
    who: str,
    now: datetime,
    models: tuple[str, ...] = (),
    model_signing: str | None = None,
) -> TrustEntry:
    """Trust a vendor: its name, where its repository is, and the root metadata that it gave in person.

    Args:
        site: The studio's.
        vendor: What the vendor is called here.
        location: Where its repository is, or a bundle's file; of several places, the order in which they are asked.
        root: The root metadata.
        allow_executable: Whether it may send formats that are code.
        who: Who trusts it.
        now: When.
        models: The models to follow, by bare name; none means all. Nothing of any other is fetched.
        model_signing: A public key in PEM, given in person, by which every release must have an OpenSSF signature.

    Raises:
        InvalidInputError: The name is bad, the vendor is trusted already with another root or place, or it has no such
            model.
        TrustError: The repository does not verify with that root.
        UnreachableError: The repository does not answer.
    """
    folder = site.root / "trust" / check_name(vendor, where="vendor")
    given = (location,) if isinstance(location, str) else location
    bundle = _bundle(given[0])
    # What bundles bring stands in the mirror, and there whoever installs will look for it.
    place, *mirrors = (str(folder / "mirror"),) if bundle else map(_absolute, given)
    entry = TrustEntry(
        vendor=vendor,
        location=place,
        root=canonical.digest(root),
        allow_executable=allow_executable,
        added_by=who,
        added_at=format_time(now),
        models=models or None,
        mirrors=tuple(mirrors) or None,
        model_signing=model_signing,
    )
    return _add(site, entry, root, bundle)


def trust_own(site: Site, vendor: str, location: str, root: bytes, *, who: str, now: datetime) -> TrustEntry:
    """Trust the studio itself as a vendor: a repository in the site that its own keys sign, or a bundle of it.

    It is trusted as any other is, with formats that are code, since what a studio adopts is nothing else; and it alone
    may say of a release that the studio adopted it.

    Raises:
        InvalidInputError: The name is bad, or a vendor of that name is trusted already.
        TrustError: The repository does not verify with that root.
        UnreachableError: The repository does not answer.
    """
    bundle = _bundle(location)
    entry = TrustEntry(
        vendor=check_name(vendor, where="vendor"),
        location=str(site.root / "trust" / vendor / "mirror") if bundle else _absolute(location),
        root=canonical.digest(root),
        allow_executable=True,
        added_by=who,
        added_at=format_time(now),
        local=True,
    )
    return _add(site, entry, root, bundle)


def _add(site: Site, entry: TrustEntry, root: bytes, bundle: Path | None) -> TrustEntry:
    """Ask the repository, then put the entry in place, whole or not at all."""
    from changeover_registry.client import Client
    from changeover_registry.repository.vendor import open_vendor

    vendor, models = entry.vendor, entry.models or ()
    folder = site.root / "trust" / vendor
    _check_new(folder, entry)
    with _fs.lock(site.root / "trust" / ".lock", what="the trusted vendors", wait_seconds=5):
        staged = site.root / "trust" / f".new-{vendor}"
        _fs.remove_tree(staged) if staged.exists() else None
        staged.mkdir()
        try:
            _ask_each(
                entry,
                lambda transport: _check_has(
                    open_vendor(Client(transport, staged / "state", root), vendor, ()), models
                ),
                bundle,
            )
            _fs.write_atomic(staged / "root.json", root)
            _fs.write_atomic(staged / "entry.json", (_in_site(site, entry) if entry.local else entry).to_bytes())
            _fs.fsync_tree(staged)
            _fs.rename_dir(staged, folder)
        finally:
            _fs.remove_tree(staged) if staged.exists() else None
    return entry


def remove_trust(site: Site, vendor: str) -> None:
    """Stop trusting a vendor: nothing new of it is changed over to; what is installed stays.

    Raises:
        InvalidInputError: The vendor is not trusted.
    """
    folder = site.vendor(vendor).root
    gone = folder.with_name(f".removed-{vendor}")
    _fs.remove_tree(gone) if gone.exists() else None
    _fs.rename_dir(folder, gone)
    _fs.remove_tree(gone)


def sync_vendor(folder: VendorFolder) -> Synced:
    """Bring a vendor's metadata and release records here, verified; model files come when they are needed.

    Raises:
        TrustError: Metadata or a record does not verify, at no mirror; what was here before stays.
        UnreachableError: The repository does not answer, nor does a mirror.
    """
    return _ask_each(folder.entry(), lambda transport: _sync_from(folder, transport))


def _sync_from(folder: VendorFolder, transport: "Transport") -> Synced:
    from changeover_registry.client import Client
    from changeover_registry.repository.vendor import open_vendor

    models, root, carried = folder.entry().models, folder.pinned_root(), transport.location == str(folder.mirror)
    at = judged_at(folder.root, folder.mirror, clock.now()) if carried else None
    client = Client(transport, folder.root / "state", root, mirror=folder.mirror, mirrored=models, at=at)
    view = open_vendor(client, folder.vendor, models)
    found = _Found()
    for name, index in sorted(view.indexes.items()):
        for entry in index.releases:
            ref = ReleaseRef(model=f"{folder.vendor}/{name}", version=entry.version, digest=entry.record)
            try:
                found.take(*_bring(folder, transport, entry, ref.model, carried=carried), entry)
            except NotThereError:
                # A bundle brings the records that its maker had.
                if not carried:
                    raise
            except SignatureError as error:
                found.refused.append(error)
            except (InvalidInputError, UndecidedError) as error:
                found.unreadable.append(unreadable_record(str(ref), error))
    return found.synced(folder.vendor)


class _Found:
    """What a sync has found so far."""

    def __init__(self) -> None:
        self.releases: list[Release] = []
        self.new: list[Release] = []
        self.withdrawn: list[tuple[ReleaseRef, str]] = []
        self.unreadable: list[ChangeoverError] = []
        self.refused: list[ChangeoverError] = []

    def take(self, release: Release, new: bool, entry: IndexEntry) -> None:  # noqa: FBT001 - as `_bring` answers
        self.releases.append(release)
        if new:
            self.new.append(release)
        if entry.withdrawn:
            self.withdrawn.append((release.ref(), entry.withdrawn.why))

    def synced(self, vendor: str) -> Synced:
        return Synced(
            vendor,
            tuple(self.releases),
            tuple(self.new),
            tuple(self.withdrawn),
            tuple(self.unreadable),
            tuple(self.refused),
        )


def _bring(
    folder: VendorFolder, transport: "Transport", entry: IndexEntry, model: str, *, carried: bool
) -> tuple[Release, bool]:
    """One release with its documents, and whether its record was not here before; the record is written last."""
    from changeover_registry.repository.vendor import fetch_record
    from changeover_updater.documents import bring_documents, lacks_documents

    path = folder.record_path(entry.record)
    known = _known(path)
    if known is not None:
        if lacks_documents(folder, entry):
            bring_documents(folder, transport, known, entry, in_part=carried)
        return known, False
    release, data = fetch_record(transport, entry, model)
    bring_documents(folder, transport, release, entry, in_part=carried)
    path.parent.mkdir(parents=True, exist_ok=True)
    _fs.write_atomic(path, data, mode=0o444)
    return release, True


def _bundle(location: str) -> Path | None:
    """The bundle that a location is; its vendor's repository will be the mirror that bundles fill."""
    path = Path(location)
    return path if "://" not in location and path.is_file() else None


def _ask_each(entry: TrustEntry, ask: "Callable[[Transport], _T]", bundle: Path | None = None) -> _T:
    """The first answer that holds, of the repository's places in their order; else the error of the first that lied.

    A place that is behind the others, or copied halfway, does not hold; it is named, and the next one is asked.
    """
    from changeover_registry.transport import open_transport

    if bundle is not None:
        from changeover_registry.bundle_file import open_bundle
        from changeover_registry.transport.bundle import BundleTransport

        return ask(BundleTransport(open_bundle(bundle), f"vendors/{entry.vendor}"))
    errors: list[ChangeoverError] = []
    for location in entry.locations():
        try:
            answer = ask(open_transport(location))
        except (TrustError, UnreachableError) as error:
            errors.append(error)
        else:
            for failed in errors:
                _log.warning("another mirror of %s was taken: %s", entry.vendor, failed)
            return answer
    raise next((error for error in errors if isinstance(error, TrustError)), errors[0])


def _known(path: Path) -> Release | None:
    """A record that is here already; one whose bytes were changed is fetched again."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if canonical.digest(data) != path.stem:
        return None
    try:
        return Release.from_bytes(data, where=str(path))
    except ChangeoverError:
        return None


def _check_new(folder: Path, entry: TrustEntry) -> None:
    if not (folder / "entry.json").is_file():
        return
    there = VendorFolder(folder).entry()
    raise InvalidInputError(
        "vendor",
        where=entry.vendor,
        expected="a vendor that is not trusted yet",
        actual=f"one trusted since {there.added_at} at {there.location}",
        remedy=f"to change it: changeover trust remove {entry.vendor}, then add it again",
    )


def _check_has(view: "VendorView", models: tuple[str, ...]) -> None:
    for name in models:
        if name not in view.card.models:
            raise InvalidInputError(
                "model",
                where=f"{view.card.vendor}/{name}",
                expected=f"one of {', '.join(view.card.models)}" if view.card.models else "a model that it published",
                actual="none of that name",
                remedy="correct the name, or follow all models: leave out --model",
            )


def _in_site(site: Site, entry: TrustEntry) -> TrustEntry:
    """The entry with a repository that lies in the site named from the site's root, which hosts have elsewhere."""
    try:
        below = Path(entry.location).relative_to(site.root).as_posix()
    except ValueError:
        return entry
    return entry.model_copy(update={"location": f"{IN_SITE}{below}"})


def _absolute(location: str) -> str:
    if "://" in location and not location.startswith("file://"):
        return location
    return str(Path(location.removeprefix("file://")).absolute())
