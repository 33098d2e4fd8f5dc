"""A store that several hosts read: one account writes site and store, artists and render users only read.

A station is a host class; ``stations/by-host/<host>`` tells each host its own. Readers may write in two folders alone,
where each keeps what is its own: a station's ``leases`` and the site's ``inbox``. The modes are set whatever the
account's umask is, and told where they are otherwise. Left out: groups and access lists, which are the studio's; and
golden shots, which not everybody who renders may see.
"""

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_registry import _fs
from changeover_registry.errors import InvalidInputError
from changeover_updater.site import Site
from changeover_updater.station import BY_HOST
from changeover_updater.store import SHARE, Store

__all__ = ["WrongMode", "check_keys_apart", "hosts_named", "make_share", "name_hosts", "open_to_readers", "wrong_modes"]

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_FOLDER = 0o755
_DROP = 0o1777
_READ = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_IN_SITE = (
    "format",
    "site.toml",
    "policy.toml",
    "trust",
    "choice",
    "verdicts",
    "stations",
    "shows",
    "inbox",
    "follows",
)


@dataclass(frozen=True, slots=True)
class WrongMode:
    """A file or folder whose mode is not what readers of a share need: `wanted` against `found`."""

    path: Path
    wanted: int
    found: int

    def __str__(self) -> str:
        """For a person."""
        return f"{self.path}: expected mode {self.wanted:o}, found {self.found:o}"


def make_share(store: Store) -> None:
    """Have the store be one that several hosts read. A share stays one: hosts that nobody told may read it."""
    if not store.is_share():
        _fs.write_atomic(store.root / "mode", SHARE)


def name_hosts(store: Store, station: str, hosts: Iterable[str]) -> None:
    """Leave word for each host that this is its station; one that had another has this from now on."""
    folder = store.root / "stations" / BY_HOST
    _fs.make_dirs(folder)
    for host in hosts:
        _fs.write_atomic(folder / host, f"{station}\n".encode())


def hosts_named(texts: Iterable[str]) -> tuple[str, ...]:
    """The short names of hosts, out of texts that may hold several with commas between them.

    Raises:
        InvalidInputError: A name is none, such as a pattern.
    """
    found = [part.strip().partition(".")[0].lower() for text in texts for part in text.split(",") if part.strip()]
    for name in found:
        if _HOST.fullmatch(name) is None:
            raise InvalidInputError(
                "host",
                where="--host",
                expected="names of single hosts, with commas between them",
                actual=repr(name),
                remedy="name each host; a pattern cannot be looked up by Nuke",
            )
    return tuple(dict.fromkeys(found))


def check_keys_apart(keys: Path, *roots: Path) -> None:
    """Refuse private keys in a folder that everybody is going to read.

    Raises:
        InvalidInputError: They would lie in one of `roots`.
    """
    for root in roots:
        if keys.resolve().is_relative_to(root.resolve()):
            raise InvalidInputError(
                "keys",
                where=str(keys),
                expected=f"a folder outside of {root}, which everybody reads",
                actual="one inside of it",
                remedy="name another folder with --keys",
            )


def open_to_readers(site: Site, store: Store) -> None:
    """Set the modes that readers need on all that they read; what belongs to others is left, and told by `wrong_modes`.

    Raises:
        OSError: The disk is read-only or fails.
    """
    for wrong in wrong_modes(site, store):
        if sys.platform == "win32" or wrong.path.lstat().st_uid in {os.geteuid(), 0}:
            wrong.path.chmod(wrong.wanted)


def wrong_modes(site: Site, store: Store) -> tuple[WrongMode, ...]:
    """Every file and folder whose mode keeps readers out, or lets them write what they may only read."""
    if sys.platform == "win32":  # pragma: windows
        return ()
    tops = [site.root, *(site.root / name for name in _IN_SITE), store.root]
    entries = [site.root, *(entry for top in tops[1:] if top.exists() for entry in _below(top))]
    return tuple(wrong for entry in entries if (wrong := _wrong(entry, site, store)) is not None)


def _below(top: Path) -> Iterator[Path]:
    yield top
    if top.is_dir() and not top.is_symlink():
        for folder, folders, files in os.walk(top):
            yield from (Path(folder, name) for name in (*folders, *files))


def _wrong(path: Path, site: Site, store: Store) -> WrongMode | None:
    status = path.lstat()
    found = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        wanted = _DROP if _is_drop(path, site, store) else _FOLDER
    elif stat.S_ISREG(status.st_mode) and not _is_drop(path.parent, site, store):
        wanted = (found | _READ) & ~_WRITE_BY_OTHERS
    else:
        return None
    return None if found == wanted else WrongMode(path, wanted, found)


def _is_drop(path: Path, site: Site, store: Store) -> bool:
    """Whether everybody may add files to a folder, and remove only their own."""
    is_leases = path.name == "leases" and path.parent.parent == store.root / "stations"
    return is_leases or path == site.root / "inbox"
