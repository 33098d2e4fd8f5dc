"""Where the Nuke plug-in lies: in a checkout, or where the distribution put it."""

import sys
from pathlib import Path

from changeover_registry.errors import InvalidInputError

__all__ = ["plugin_folder"]


def plugin_folder() -> Path:
    """The folder to put on NUKE_PATH.

    Raises:
        InvalidInputError: The installation lacks it.
    """
    checkout = Path(__file__).resolve().parents[2] / "plugins" / "nuke"
    installed = Path(sys.prefix) / "share" / "changeover" / "nuke"
    folder = checkout if (checkout / "init.py").is_file() else installed
    if not (folder / "init.py").is_file():
        raise InvalidInputError(
            "plug-in",
            where=str(folder),
            expected="the plug-in's folder with init.py",
            actual="no such file",
            remedy="install the distribution changeover again",
        )
    return folder
