"""A session that opens and resolves again and again: ``python -m changeover_faults.reading STORE STATION STOP``.

It ends when the file STOP is there, and then writes one line of JSON: how often it read, which versions it was given,
and every answer that was not one release, whole.
"""

import json
import sys
import time
from pathlib import Path

from changeover_faults import oracle

__all__ = ["read_until"]

_PAUSE_SECONDS = 0.002
"""Sessions of Nuke read seldom; readers that took every core would leave none to the commands that are killed."""
_HASHED = 20
"""One of so many readings hashes the files too."""


def read_until(store: Path, station: str, stop: Path) -> dict[str, object]:
    """Read until `stop` is there."""
    reads, wrong, seen = 0, [], set()
    while not stop.exists():
        try:
            seen.add(oracle.served(store, station, hashed=reads % _HASHED == 0))
        except (AssertionError, oracle.StoreError, OSError) as error:
            wrong.append(f"reading {reads}: {error}")
        reads += 1
        time.sleep(_PAUSE_SECONDS)
    return {"reads": reads, "seen": sorted(seen), "wrong": wrong[:100]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read_until(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
