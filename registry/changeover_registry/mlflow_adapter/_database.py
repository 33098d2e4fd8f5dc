"""How MLflow's own database file comes to be there: whole, or not at all.

MLflow makes its tables in many steps, some of which cannot be taken twice, so that a database whose making was killed
is refused by it for ever. It is made under another name and renamed. Left out: what is in it (`mlflow_adapter`).
"""

from collections.abc import Callable
from pathlib import Path

from changeover_registry._fs import fsync_dir, fsync_file, lock, make_dirs

__all__ = ["ensure_database"]

_LOCK_SECONDS = 60.0


def ensure_database(path: Path, make: Callable[[Path], None]) -> None:
    """Have a database at `path`, made by `make` if none is there; one that is there is left as it is.

    Args:
        path: Where it belongs.
        make: Makes one where it is told to, and holds no file of it open when it returns.

    Raises:
        LostRaceError: Another process has been making it for a minute.
        OSError: The folder cannot be written.
    """
    if path.is_file():
        return
    make_dirs(path.parent)
    with lock(path.with_name(f".{path.name}.lock"), what=f"the database {path}", wait_seconds=_LOCK_SECONDS):
        if path.is_file():
            return
        making = path.with_name(f".{path.name}.making")
        for left in (making, making.with_name(f"{making.name}-journal")):
            left.unlink(missing_ok=True)
        make(making)
        fsync_file(making)
        making.replace(path)
        fsync_dir(path.parent)
