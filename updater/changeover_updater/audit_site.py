"""What the site and the store hold, and the signed digest of each thing: for `audit`.

Signatures are verified from the roots that were pinned by hand; how fresh metadata is matters to whoever installs and
not here. A file that says its digest in its own name is held to it, whether or not anything signed names it. Left out:
golden shots (``golden verify``), generations and pointers (``doctor``), and the chain of choices (``log --verify``).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_registry import canonical, signing
from changeover_registry._fs import is_leftover
from changeover_registry.errors import ChangeoverError, TrustError
from changeover_registry.records.choice import Choice
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.repository import Index, IndexEntry
from changeover_registry.records.verdict import Verdict
from changeover_updater.audit import Difference, Item, Part, changed, local_item
from changeover_updater.site import Site, VendorFolder
from changeover_updater.store import Store
from changeover_updater.studio import LIMIT_BYTES

__all__ = [
    "FiledRun",
    "Signed",
    "index_of",
    "signed_choices",
    "signed_indexes",
    "signed_releases",
    "signed_verdicts",
    "site_part",
    "store_part",
]

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Signed:
    """A release that a vendor's signed index names, and its record where that is here and is the signed one."""

    model: str
    entry: IndexEntry
    record: Release | None

    @property
    def ref(self) -> ReleaseRef:
        """The release by model, version and digest."""
        return ReleaseRef(model=self.model, version=self.entry.version, digest=self.entry.record)


@dataclass(frozen=True, slots=True)
class FiledRun:
    """A filed verdict by the digest of its envelope, as it was signed."""

    digest: str
    verdict: Verdict


def signed_indexes(repository: Path, root: bytes, vendor: str) -> tuple[Index, ...]:
    """Every index that the newest metadata of a repository's folder reaches, from a root that is trusted.

    Raises:
        TrustError: Something does not verify, or an index is of another vendor.
        InvalidInputError: There is no repository.
    """
    from changeover_registry.repository.reached import read_reached, read_target

    reached = read_reached(repository, root, in_part=True)
    found = []
    for name in sorted(set(reached.roles) - {"targets"}):
        path = f"{name}/index.json"
        info = reached.roles[name].targets.get(path)
        if info is not None:
            data = read_target(repository, path, info.hashes["sha256"])
            found.append(index_of(data, vendor, name, f"{repository}: {path}"))
    return tuple(found)


def index_of(data: bytes, vendor: str, name: str, where: str) -> Index:
    """An index that must be of this vendor and model.

    Raises:
        TrustError: It is another one's.
    """
    index = Index.from_bytes(data, where=where)
    if (index.vendor, index.name) != (vendor, name):
        actual = f"the index of {index.vendor}/{index.name}"
        remedy = "find out who signed it; nothing of it is installed"
        raise TrustError("owner", where=where, expected=f"{vendor}/{name}", actual=actual, remedy=remedy)
    return index


def signed_choices(site: Site, root: bytes) -> Iterator[Choice]:
    """The newest choice of each scope, verified from the root of the studio's choice.

    Raises:
        TrustError: A signature or a digest does not hold.
        InvalidInputError: There is no choice yet.
    """
    from changeover_registry.repository.reached import read_reached, read_target

    reached = read_reached(site.choice, root)
    for role in sorted(set(reached.roles) - {"targets"}):
        for path, info in sorted(reached.roles[role].targets.items()):
            data = read_target(site.choice, path, info.hashes["sha256"])
            if "/choice-" in path:
                yield Choice.from_bytes(data, where=f"{site.choice}: {path}")


def signed_verdicts(site: Site, root: bytes) -> Iterator[FiledRun]:
    """Every filed verdict that a signer of the studio's choice signed, one after the other.

    Raises:
        TrustError: The choice does not hold.
    """
    keys = tuple(key for choice in signed_choices(site, root) for key in choice.verdict_keys)
    for path in sorted(site.verdicts.glob("*.json")):
        with contextlib.suppress(ChangeoverError, OSError):
            # A pipe would be waited for; that it is no verdict is told by the sweep of the site.
            data = path.read_bytes() if path.is_file() and path.stat().st_size <= LIMIT_BYTES else b""
            payload, _ = signing.open_envelope(data, "verdict", keys, where=str(path))
            if canonical.digest(data) == path.stem:
                yield FiledRun(path.stem, Verdict.from_bytes(payload, where=str(path)))


def signed_releases(folder: VendorFolder) -> Iterator[Signed]:
    """Every release that a trusted vendor's signed metadata names, as it lies in the site.

    Raises:
        TrustError: The metadata or the pinned root does not hold.
    """
    if folder.waits_for_a_bundle() or not folder.mirror.is_dir():
        return
    for index in signed_indexes(folder.mirror, folder.pinned_root(), folder.vendor):
        for entry in index.releases:
            record = _record(folder.record_path(entry.record), entry.record)
            yield Signed(f"{index.vendor}/{index.name}", entry, record)


def site_part(site: Site, root: bytes) -> Part:
    """The site: what was signed in it, the vendors' records and mirrors, and the verdicts.

    Args:
        site: The site.
        root: The root of its choice, as this host was given it.
    """
    return Part("site", lambda: _site(site, root))


def store_part(store: Store, site: Site) -> Part:
    """The store: every file of every installed release, held to its vendor's record, or to a generation's."""
    return Part("store", lambda: _store(store, site))


def _site(site: Site, root: bytes) -> Iterator[Item | Difference]:
    yield from _refused(lambda: _choice(site, root))
    for folder in site.vendors():
        yield from _refused(lambda folder=folder: _vendor(site, folder))  # type: ignore[misc]
    for path in sorted(site.verdicts.glob("*.json")):
        yield _named(site.root, path, path.stem)
    for path in _whole_files(site.root / "local", "*/objects/*/*"):
        # The studio's own vendors have no other repository than this.
        yield _named(site.root, path, path.name)


def _choice(site: Site, root: bytes) -> Iterator[Item | Difference]:
    """The newest choice of each scope, and the policy that the site's choice signs."""
    for choice in signed_choices(site, root):
        if choice.policy is not None:
            yield local_item(site.root / "policy.toml", "policy.toml", choice.policy)


def _vendor(site: Site, folder: VendorFolder) -> Iterator[Item | Difference]:
    """A vendor's pinned root, its records, and what its mirror holds by digest."""
    yield local_item(folder.root / "root.json", f"trust/{folder.vendor}/root.json", folder.entry().root)
    for path in sorted((folder.root / "records").glob("*.json")):
        yield _named(site.root, path, path.stem)
    for path in _whole_files(folder.mirror / "objects", "*/*"):
        yield _named(site.root, path, path.name)
    for path in sorted((folder.mirror / "targets").rglob("*.json")):
        yield _named(site.root, path, path.name.partition(".")[0])
    for signed in signed_releases(folder):
        path = folder.record_path(signed.entry.record)
        if not path.is_file() and not folder.carried():
            place = path.relative_to(site.root).as_posix()
            expected = f"the record of {signed.ref}, sha256 {signed.entry.record}"
            yield Difference("missing", place, expected, "no such file; changeover sync brings it")


def _whole_files(folder: Path, pattern: str) -> Iterator[Path]:
    """What lies there, but for what killed commands left half written: nobody reads that, and `gc` removes it."""
    return (path for path in sorted(folder.glob(pattern)) if not is_leftover(path.name))


def _named(root: Path, path: Path, digest: str) -> Item | Difference:
    place = path.relative_to(root).as_posix()
    if len(digest) != 64 or not _HEX.issuperset(digest):
        return Difference("unknown", place, "a file that is named by its sha256", "another name")
    return local_item(path, place, digest)


def _store(store: Store, site: Site) -> Iterator[Item | Difference]:
    from changeover_updater.health_gather import signed_files

    seen: set[str] = set()
    for folder in site.vendors():
        for one in _whole(folder):
            if isinstance(one, Difference):
                yield one
            elif one.record is not None:
                for path, must in signed_files(store, (), (one.record,)).items():
                    seen.add(path)
                    yield local_item(store.root / path, path, must.sha256)
    for path, digest in _generations(store):
        if path not in seen:
            seen.add(path)
            yield local_item(store.root / path, path, digest)


def _generations(store: Store) -> Iterator[tuple[str, str]]:
    """What the kept generations serve: also of a vendor that is no longer trusted."""
    from changeover_updater.gc_facts import stations_of
    from changeover_updater.health_gather import signed_files

    for station in stations_of(store):
        for number in station.numbers():
            try:
                made = station.generation(number)
            except (ChangeoverError, OSError):
                # What a generation is not is told by doctor, which can mend it.
                continue
            yield from ((path, must.sha256) for path, must in signed_files(store, (made,), ()).items())


def _whole(folder: VendorFolder) -> Iterator[Signed | Difference]:
    try:
        yield from signed_releases(folder)
    except TrustError as error:
        yield changed(error)


def _refused(holds: Callable[[], Iterable[Item | Difference]]) -> Iterator[Item | Difference]:
    """What a reader refuses ends its own branch and no other."""
    try:
        yield from holds()
    except TrustError as error:
        yield changed(error)


def _record(path: Path, digest: str) -> Release | None:
    try:
        data = path.read_bytes()
        return Release.from_bytes(data, where=str(path)) if canonical.digest(data) == digest else None
    except (ChangeoverError, OSError):
        return None
