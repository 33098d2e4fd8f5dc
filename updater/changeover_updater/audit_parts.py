"""The parts of an audit: of a studio its site, store, MLflow and the vendors' places; of a vendor its own three.

Left out: comparing (`audit`), and what is shown of it.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from changeover_registry import canonical
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.release import Release
from changeover_registry.records.repository import IndexEntry
from changeover_updater.audit import Part
from changeover_updater.audit_repository import repository_part
from changeover_updater.audit_site import (
    Signed,
    signed_indexes,
    signed_releases,
    signed_verdicts,
    site_part,
    store_part,
)
from changeover_updater.site import Site
from changeover_updater.store import Store
from changeover_updater.vendor_home import VendorHome

__all__ = ["STUDIO", "VENDOR", "studio_parts", "vendor_parts"]

STUDIO = ("site", "store", "mlflow", "repositories")
"""The parts of a studio; the last one brings every file of every trusted vendor, and is swept where it is named."""
VENDOR = ("repository", "mlflow", "places")


def studio_parts(names: tuple[str, ...], site: Site, root: bytes, store: Callable[[], Store]) -> tuple[Part, ...]:
    """The parts of a studio by their names.

    Args:
        names: Of `STUDIO`.
        site: The site.
        root: The root of its choice, as this host was given it.
        store: Opens the store, where it is asked for.

    Raises:
        InvalidInputError: A name is none of a studio's, or the store is not there.
    """
    _check(names, STUDIO)
    made: dict[str, Callable[[], tuple[Part, ...]]] = {
        "site": lambda: (site_part(site, root),),
        "store": lambda: (store_part(store(), site),),
        "mlflow": lambda: (_studio_mlflow(site, root),),
        "repositories": lambda: tuple(_places_of_vendors(site)),
    }
    return tuple(part for name in names for part in made[name]())


def vendor_parts(names: tuple[str, ...], home: VendorHome) -> tuple[Part, ...]:
    """The parts of a vendor by their names: the repository that it signs, its MLflow, the places it is carried to.

    Raises:
        InvalidInputError: A name is none of a vendor's.
    """
    _check(names, VENDOR)
    root = home.keys.anchor.read_bytes()
    made: dict[str, Callable[[], tuple[Part, ...]]] = {
        "repository": lambda: (repository_part("repository", str(home.repository), home.vendor, root),),
        "mlflow": lambda: (_vendor_mlflow(home, root),),
        "places": lambda: tuple(repository_part(place, place, home.vendor, root) for place in home.publish),
    }
    return tuple(part for name in names for part in made[name]())


def _studio_mlflow(site: Site, root: bytes) -> Part:
    from changeover_registry.mlflow_adapter.registry import Registry
    from changeover_updater.audit_mlflow import mlflow_part

    registry = Registry(site.mlflow_uri(), site.root / "mlflow" / "artifacts")
    return mlflow_part(
        "mlflow",
        registry,
        lambda: chain.from_iterable(signed_releases(folder) for folder in site.vendors()),
        lambda: signed_verdicts(site, root),
        with_files=False,
    )


def _vendor_mlflow(home: VendorHome, root: bytes) -> Part:
    from changeover_updater.audit_mlflow import mlflow_part

    return mlflow_part("mlflow", home.registry(), lambda: _own_releases(home, root), with_files=True)


def _own_releases(home: VendorHome, root: bytes) -> Iterator[Signed]:
    """What the vendor signed into its repository, and what it registered from this home and has not published yet."""
    from changeover_registry.repository.objects import object_path

    published: set[tuple[str, str]] = set()
    for index in signed_indexes(home.repository, root, home.vendor):
        for entry in index.releases:
            model = f"{index.vendor}/{index.name}"
            published.add((model, entry.version))
            yield Signed(model, entry, _record(home.repository / object_path(entry.record), entry.record))
    for path in sorted((home.folder / "registered").glob("*/*.json")):
        model = f"{home.vendor}/{path.parent.name}"
        if (model, path.stem) not in published:
            data = path.read_bytes()
            digest = canonical.digest(data)
            entry = IndexEntry(version=path.stem, record=digest, length=len(data))
            yield Signed(model, entry, _record(path, digest))


def _record(path: Path, digest: str) -> Release | None:
    try:
        data = path.read_bytes()
        return Release.from_bytes(data, where=str(path)) if canonical.digest(data) == digest else None
    except (ChangeoverError, OSError):
        return None


def _places_of_vendors(site: Site) -> Iterator[Part]:
    for folder in site.vendors():
        entry = folder.entry()
        if not folder.carried():
            for place in entry.locations():
                yield repository_part(place, place, folder.vendor, folder.pinned_root(), entry.models)


def _check(names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            remedy = "name one of them; a vendor's are swept with --home DIR"
            raise InvalidInputError(
                "part of an audit", where=name, expected=f"one of {', '.join(known)}", actual=name, remedy=remedy
            )
