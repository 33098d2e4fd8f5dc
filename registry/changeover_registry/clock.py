"""Time as text: UTC, RFC 3339, seconds. `now` is read once, by the command line, and handed to every decision."""

import re
from datetime import UTC, datetime

from changeover_registry.errors import InvalidInputError

__all__ = ["format_time", "now", "parse_time"]

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def now() -> datetime:
    """The machine's clock in UTC, cut to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def format_time(moment: datetime) -> str:
    """Write an aware moment as ``2026-11-22T13:45:00Z``."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse_time(text: str, *, where: str = "time") -> datetime:
    """Read a moment as `format_time` writes it.

    Raises:
        InvalidInputError: `text` has another form.
    """
    try:
        # `strptime` alone takes days and hours of one digit too.
        return datetime.strptime(text if _FORM.fullmatch(text) else "", _FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInputError(
            "time",
            where=where,
            expected="UTC in the form 2026-11-22T13:45:00Z",
            actual=repr(text),
            remedy="write the time in that form",
        ) from error
