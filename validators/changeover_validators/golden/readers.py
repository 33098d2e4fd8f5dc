"""Who may use a golden set: the show that owns it, and its readers. A set without a show is for everybody.

A reader is another show, or ``site``, which stands for the channels of the whole site (``stable`` and ``beta``).
"""

from collections.abc import Sequence

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.names import check_name
from changeover_registry.records.golden import GoldenSet

__all__ = ["SITE", "check_show", "may_use", "with_readers"]

SITE = "site"
"""The reader that stands for the channels ``stable`` and ``beta``."""


def may_use(golden_set: GoldenSet, channel: str) -> None:
    """See that a release may be judged for `channel` (``stable``, ``beta``, ``show/atlas``) on this set.

    Raises:
        RefusedError: The set is retired, or is another show's and the channel is not among its readers.
    """
    if golden_set.retired is not None:
        raise RefusedError(
            "golden set",
            where=golden_set.name,
            expected="a set in use",
            actual=f"one that was retired: {golden_set.retired}",
            remedy="name another set with --set, or in policy.toml",
        )
    asking = channel.partition("/")[2] or SITE
    allowed = (golden_set.owner_show, *golden_set.readers)
    if golden_set.owner_show is None or asking in allowed:
        return
    raise RefusedError(
        "golden set",
        where=golden_set.name,
        expected=f"a channel that may use it ({', '.join(_channels(golden_set))})",
        actual=f"channel {channel}",
        remedy=f"name another set, or ask show {golden_set.owner_show} for: "
        f"changeover golden set readers {golden_set.name} --add {asking}",
    )


def check_show(name: str, owner_show: str | None, readers: Sequence[str]) -> tuple[str, ...]:
    """The readers of the set `name`, each once, if show and readers have names that shows have.

    Raises:
        InvalidInputError: A name is bad, or there are readers and no show.
    """
    if owner_show is not None:
        check_name(owner_show, where="show")
    for reader in readers:
        if reader != SITE:
            check_name(reader, where="reader")
    if readers and owner_show is None:
        raise InvalidInputError(
            "readers",
            where=name,
            expected="the show that owns the set, beside its readers",
            actual=f"the readers {', '.join(readers)} alone",
            remedy="name it with --show when the set is created; a set without a show may be used by everybody",
        )
    return tuple(dict.fromkeys(reader for reader in readers if reader != owner_show))


def with_readers(golden_set: GoldenSet, add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    """The readers that a set has after some were added and some removed.

    Raises:
        InvalidInputError: A name is bad, the set has no show, or one that is to be removed is no reader.
    """
    unknown = [reader for reader in remove if reader not in golden_set.readers]
    if unknown:
        raise InvalidInputError(
            "readers",
            where=golden_set.name,
            expected=f"one of its readers ({', '.join(golden_set.readers) or 'it has none'})",
            actual=unknown[0],
            remedy="name a reader that it has",
        )
    kept = [reader for reader in golden_set.readers if reader not in remove]
    return check_show(golden_set.name, golden_set.owner_show, (*kept, *add))


def _channels(golden_set: GoldenSet) -> list[str]:
    """The channels that may use a set that a show owns, as people write them."""
    shows = [f"show/{show}" for show in (golden_set.owner_show, *golden_set.readers) if show != SITE]
    return [*shows, "stable", "beta"] if SITE in golden_set.readers else shows
