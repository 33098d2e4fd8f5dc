"""Aliases in MLflow as a picture of the studio's choice, and one that was moved by hand as a request. Pure.

A channel is drawn as an alias (``show/atlas`` as ``show-atlas``). Beside each alias a tag of the registered model keeps
what was drawn, so that two things can be told apart: a choice that went on since (drawn anew), and an alias that a
person moved (left as it is: it asks for a promotion, and stands until that channel is promoted again). Neither alias
nor tag is believed anywhere: whoever forges both draws a wrong picture, and nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from changeover_registry.names import digest12
from changeover_registry.records.release import ReleaseRef

__all__ = [
    "DRAWN",
    "Chosen",
    "Drawing",
    "Held",
    "MovedAlias",
    "Request",
    "alias_of",
    "drawings",
    "known_number",
    "note_of",
    "requests",
]

DRAWN = "changeover.drawn."
"""The tag's name before the alias: which MLflow version was drawn, and which release that was."""

_DIGITS = 10
_ALIAS = re.compile(r"(stable|beta|show-[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Held:
    """What the verified choice gives one channel."""

    channel: str
    release: ReleaseRef


@dataclass(frozen=True, slots=True)
class MovedAlias:
    """An alias that is neither where it was drawn nor where the choice is: somebody asks for a promotion.

    `asked` and `chosen` are releases' versions as text; None where there is none. MLflow keeps no word of who moved it.
    Of what is no release of ours `asked` says so in words, and `is_release` is False.
    """

    model: str
    alias: str
    channel: str
    asked: str | None
    chosen: str | None
    is_release: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the choice gives a channel: the number of that release's version in MLflow."""

    channel: str
    number: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """One alias to be drawn at a version, or taken away (None)."""

    alias: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """An alias that a person moved: to which version (None: taken away), and which one the choice says (None: none)."""

    alias: str
    channel: str
    asked: int | None
    chosen: int | None


def alias_of(channel: str) -> str:
    """How a channel is called among MLflow's aliases, which take no slash."""
    return channel.replace("/", "-", 1)


def note_of(number: int, release: ReleaseRef) -> str:
    """What is noted of a drawing: ``4 4.2.0-0123456789ab``."""
    return f"{number} {release.version}-{digest12(release.digest)}"


def known_number(held: Held, tags: Mapping[str, str]) -> int | None:
    """The number under which this very release was drawn for this channel, so that nobody must look for it again."""
    note = tags.get(f"{DRAWN}{alias_of(held.channel)}", "")
    number = _number(note)
    return number if number is not None and note == note_of(number, held.release) else None


def drawings(chosen: Iterable[Chosen], tags: Mapping[str, str]) -> tuple[Drawing, ...]:
    """What must be drawn of one model, so that its aliases show the choice and requests stay as they are.

    Args:
        chosen: All that the choice says of it.
        tags: The registered model's tags.
    """
    wanted = {alias_of(one.channel): one.number for one in chosen}
    drawn = _drawn(tags)
    found = [Drawing(alias, number) for alias, number in wanted.items() if drawn.get(alias) != number]
    # A channel that lost its release: what stands there was drawn, and nobody asked for it.
    found += [Drawing(alias, None) for alias in drawn if alias not in wanted]
    return tuple(sorted(found, key=lambda one: one.alias))


def requests(chosen: Iterable[Chosen], aliases: Mapping[str, int], tags: Mapping[str, str]) -> tuple[Request, ...]:
    """Every alias of one model that is named like a channel and is not where it was drawn."""
    wanted = {alias_of(one.channel): one for one in chosen}
    drawn = _drawn(tags)
    named = {alias for alias in (*aliases, *drawn) if _ALIAS.fullmatch(alias)}
    return tuple(
        Request(alias, _channel(alias), aliases.get(alias), wanted[alias].number if alias in wanted else None)
        for alias in sorted(named)
        if aliases.get(alias) != drawn.get(alias)
        and aliases.get(alias) != (wanted[alias].number if alias in wanted else None)
    )


def _channel(alias: str) -> str:
    return alias.replace("show-", "show/", 1) if alias.startswith("show-") else alias


def _drawn(tags: Mapping[str, str]) -> dict[str, int]:
    """Which version each alias was drawn at, as far as the tags can be read."""
    named = {key.removeprefix(DRAWN): value for key, value in tags.items() if key.startswith(DRAWN)}
    numbers = {alias: _number(value) for alias, value in named.items() if _ALIAS.fullmatch(alias)}
    return {alias: number for alias, number in numbers.items() if number is not None}


def _number(note: str) -> int | None:
    first = note.partition(" ")[0]
    return int(first) if first.isdecimal() and len(first) < _DIGITS else None
