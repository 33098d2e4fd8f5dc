"""What a studio's executable is told when something happened: one event as JSON on its standard input."""

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from changeover_registry.records.base import Digest, ModelName, Record, Text, Time

__all__ = ["HOOKS", "HookEvent", "HookName"]

HookName: TypeAlias = Literal["accepted", "refused", "promoted", "rolled_back", "host_failed"]
"""What a hook can be run for."""
HOOKS: tuple[HookName, ...] = ("accepted", "refused", "promoted", "rolled_back", "host_failed")


class HookEvent(Record):
    """What happened, when, by whom, and where; what does not apply is absent.

    `what`: ``accepted`` and ``refused`` by a check, ``promoted`` to a channel, ``rolled_back`` of a station (with its
    `generation` and `station`) or of a channel, ``host_failed`` when a station failed with a release.
    """

    NAME: ClassVar[str] = "hook"

    what: HookName
    when: Time
    who: Text
    host: Text
    site: Text
    why: str = ""
    station: Text | None = None
    generation: int | None = Field(default=None, ge=1)
    model: ModelName | None = None
    release: Text | None = None
    channel: Text | None = None
    scope: Text | None = None
    verdict: Digest | None = None
    decision: Text | None = None
