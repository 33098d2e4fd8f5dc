"""Inspects a Nuke ``.cat``: opaque bytes. Only its size and that it is not a known other thing can be said.

The format is closed and can only be read inside Nuke, so requirements stay absent, which no rule takes for satisfied.
"""

from pathlib import Path

from changeover_registry.inspect.inspection import Inspection, Problem
from changeover_registry.records.release import Requires

__all__ = ["inspect_cat"]

_REMEDY = "make the .cat with CatFileCreator inside NukeX, or take the file again"


def inspect_cat(path: Path, where: str) -> Inspection:
    """What can be said of the `.cat` at `path`; `where` names it in problems."""
    actual = None
    if path.suffix != ".cat":
        actual = f"a file that ends in {path.suffix!r}"
    elif path.stat().st_size == 0:
        actual = "an empty file"
    if actual is None:
        return Inspection(Requires())
    problem = Problem("Nuke .cat file", where, "a file with content that ends in '.cat'", actual, _REMEDY)
    return Inspection(Requires(), problems=(problem,))
