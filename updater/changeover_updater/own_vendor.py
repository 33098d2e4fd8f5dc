"""The studio as a vendor of its own: a home beside host.toml, a repository in the site, trusted as any vendor is.

What a studio adopts and what it trains itself is signed by keys like everybody's, because nothing is served that no
trusted vendor signed. The keys stay where the home is; the repository lies below ``local/`` in the site, where every
host that reads the site finds it. Made once, by whoever adopts first, and killed at any moment it is made on by the
next. Left out: what is published (`adopt`, `vendor`).
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry import _fs
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.names import check_name
from changeover_updater.site import Site
from changeover_updater.vendor_home import VendorHome, make_home, open_home
from changeover_updater.vendors import trust_own

if TYPE_CHECKING:
    from changeover_updater.cli._context import Invocation

__all__ = ["NAME", "home_of", "open_own", "own_name", "renew_own"]

NAME = "studio"
"""What the studio's own vendor is called where nobody names it otherwise."""


def own_name(site: Site, given: str | None) -> str:
    """The name of the studio's own vendor: as given, else of the one that is there, else ``studio``.

    Raises:
        InvalidInputError: Several are there, or the name is another vendor's.
    """
    own = [folder.vendor for folder in site.vendors() if folder.entry().local]
    if given is None and len(own) > 1:
        raise InvalidInputError(
            "vendor",
            where="--as",
            expected=f"one of this studio's own vendors ({', '.join(own)})",
            actual="none named",
            remedy="write the vendor before the model: --as VENDOR/NAME",
        )
    name = check_name(given or (own[0] if own else NAME), where="vendor")
    if name not in own and any(folder.vendor == name for folder in site.vendors()):
        raise InvalidInputError(
            "vendor",
            where=name,
            expected="a vendor that is this studio itself",
            actual="a trusted vendor that signs for itself",
            remedy="name the studio's own vendor: --as VENDOR/NAME",
        )
    return name


def home_of(config: Path, vendor: str) -> Path:
    """Where the home of the studio's own vendor is on the host with its keys: beside host.toml."""
    return config.parent / "vendors" / vendor


def open_own(call: "Invocation", site: Site, vendor: str) -> VendorHome:
    """The home of the studio's own vendor, made and trusted where it is not there yet.

    Raises:
        InvalidInputError: It was made on another host, which has its keys.
        RefusedError: Another home is in its place.
        TrustError: The repository in the site is not this home's.
        OSError: Home or site cannot be written.
    """
    folder = home_of(call.settings.config.absolute(), vendor)
    trusted = next((one for one in site.vendors() if one.vendor == vendor), None)
    if trusted is None:
        repository = site.root / "local" / vendor
        _fs.make_dirs(repository.parent)
        made = make_home(folder, vendor, "", call.now, repository=repository, ask_mlflow=False)
        root = made.root.read_bytes()
        trust_own(site, vendor, str(made.home.repository), root, who=call.settings.who, now=call.now)
        return made.home
    if not folder.is_dir():
        entry = trusted.entry()
        raise InvalidInputError(
            "keys of the studio's own vendor",
            where=str(folder),
            expected=f"the home of {vendor}, which was made on {entry.added_at} by {entry.added_by}",
            actual="no such folder on this host",
            remedy="run this where it was made, or bring the folder here",
        )
    return open_home(folder)


def renew_own(call: "Invocation", site: Site, notice: Callable[[str], None]) -> None:
    """Sign anew what expires of the studio's own vendors whose keys are on this host; others are left alone."""
    from changeover_registry.repository import vendor as repository

    for folder in site.vendors():
        home = home_of(call.settings.config.absolute(), folder.vendor)
        try:
            if not folder.entry().local or not home.is_dir():
                continue
            own = open_home(home)
            if _is_due(own.repository, call.now):
                repository.renew(own.repository, own.keys, call.now)
        except ChangeoverError as error:
            notice(f"{folder.vendor} was not renewed: {error}")


def _is_due(repository: Path, now: datetime) -> bool:
    from tuf.api.metadata import Metadata, Timestamp

    from changeover_registry.repository.metadata import is_due

    data = (repository / "metadata" / "timestamp.json").read_bytes()
    return is_due("timestamp", Metadata[Timestamp].from_bytes(data).signed.expires, now)
