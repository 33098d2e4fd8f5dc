"""A studio's clearance: signed metadata that was verified when it arrived, and is used later.

Where a security review takes weeks, a timestamp of thirty days has expired before anybody may use what came with it.
So expiry is judged as of the arrival, for the very metadata that was cleared and no longer than `CLEARANCE_DAYS` after
it. Signatures, digests and versions are judged as ever. A clearance lies in the site beside the roots that were pinned
by hand, and is trusted like them: by who may write there.
"""

from datetime import datetime, timedelta
from pathlib import Path

from changeover_registry import canonical
from changeover_registry._fs import write_atomic
from changeover_registry.clock import format_time, parse_time
from changeover_registry.records.bundle import Clearance

__all__ = ["CLEARANCE_DAYS", "clear", "judged_at"]

CLEARANCE_DAYS = 180
"""How long after its arrival a bundle may be released, and what it brought be installed, without new freshness."""

_NAME = "clearance.json"


def judged_at(folder: Path, repository: Path, now: datetime) -> datetime | None:
    """When the expiry of a repository's metadata is judged: at its arrival if it was cleared so, else now (None).

    Args:
        folder: Where the clearance lies, beside the pinned root.
        repository: The mirror that is to be read.
        now: This moment.

    Raises:
        InvalidInputError: The clearance is not one.
    """
    path = folder / _NAME
    try:
        cleared = Clearance.from_bytes(path.read_bytes(), where=str(path))
        timestamp = (repository / "metadata" / "timestamp.json").read_bytes()
    except FileNotFoundError:
        return None
    holds = cleared.timestamp == canonical.digest(timestamp) and now < parse_time(cleared.until)
    return parse_time(cleared.arrived_at) if holds else None


def clear(folder: Path, timestamp: bytes, arrived: datetime, now: datetime, who: str, why: str) -> None:
    """Have the metadata with this timestamp judged as of its arrival, until `CLEARANCE_DAYS` after it."""
    cleared = Clearance(
        timestamp=canonical.digest(timestamp),
        arrived_at=format_time(arrived),
        until=format_time(arrived + timedelta(days=CLEARANCE_DAYS)),
        cleared_at=format_time(now),
        cleared_by=who,
        why=why,
    )
    write_atomic(folder / _NAME, cleared.to_bytes())
