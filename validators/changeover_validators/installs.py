"""Nukes that are installed on this machine, found where Nuke's own installer puts them.

A studio may name its Nukes in host.toml; one that it forgot there still opens scripts, so its answers are wanted too. A
folder counts only with the program in it: what an uninstaller leaves behind is no Nuke. Nothing is started here. What
this leaves out: Nukes in other places, which only host.toml can tell.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["PLACES", "installed_nukes"]

_USUAL = {"win32": ("C:/Program Files",), "darwin": ("/Applications",)}
PLACES = _USUAL.get(sys.platform, ("/usr/local", "/opt"))
"""The folders in which the installers for this system make one folder for each version, such as ``Nuke15.1v3``."""
_FOLDER = re.compile(r"Nuke(([0-9]+\.[0-9]+)v[0-9]+)")


def installed_nukes(places: Iterable[str] = PLACES) -> tuple[tuple[str, str], ...]:
    """Version and folder of each Nuke in `places`, oldest first; of one version the first place counts.

    A place that is not there, or may not be read, has none.
    """
    found: dict[str, str] = {}
    for place in places:
        for folder in _folders(Path(place)):
            match = _FOLDER.fullmatch(folder.name)
            if match and _program(folder, match[1], match[2]):
                found.setdefault(match[1], str(folder))
    return tuple(sorted(found.items(), key=lambda item: [int(part) for part in re.split(r"[.v]", item[0])]))


def _folders(place: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(place.iterdir()))
    except OSError:
        return ()


def _program(folder: Path, version: str, line: str) -> bool:
    """Whether the program lies there: a file on Linux and Windows, a bundle on macOS."""
    return any((folder / name).exists() for name in (f"Nuke{line}", f"Nuke{line}.exe", f"Nuke{version}.app"))
