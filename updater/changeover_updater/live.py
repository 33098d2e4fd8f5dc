"""What was live at a moment, and who changed what of a model, from the signed choices of the past. Pure.

A channel answers for a model with its pointer; while a release is on its way into it, the stations that its share
reaches have that one; and a pin goes before both for the scope that it names.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from changeover_registry.clock import parse_time
from changeover_registry.records.choice import Back, Choice, Entry, Override, Pin, Pointer, Share
from changeover_registry.records.release import ReleaseRef
from changeover_registry.repository.past import Held
from changeover_updater.differences import differences

__all__ = ["Change", "Live", "changes_in", "live_at", "models_of"]


@dataclass(frozen=True, slots=True)
class Live:
    """One thing that answered for a model at a moment.

    Attributes:
        where: The channel, ``share of`` one, ``pin`` and its scope, or ``override``.
        model: The model.
        release: The release, by its key.
        detail: Of a share how much and its state, of a pin its reason, of an override what it passed over until when.
        scope: Whose choice said so.
        number: Which choice of that scope.
        since: From when that choice, or the way back that stood on it, held.
        verdict: The verdict that it was chosen by, if one was named.
        returned: Whether a way back had returned the channel to it.
    """

    where: str
    model: str
    release: str
    detail: str
    scope: str
    number: int
    since: str
    verdict: str | None = None
    returned: bool = False

    def as_object(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Change:
    """One signed step of a model's history: a choice, or a way back (``<scope>/back``)."""

    scope: str
    number: int
    entry: Entry
    changes: tuple[str, ...]

    def as_object(self) -> dict[str, Any]:
        """For ``--json``."""
        entry = self.entry.model_dump(mode="json")
        return {"scope": self.scope, "number": self.number, "entry": entry, "changes": list(self.changes)}


def live_at(held: Iterable[Held], moment: datetime, *, channel: str | None, model: str | None) -> tuple[Live, ...]:
    """Everything that answered at a moment, by what held of each scope then.

    Args:
        held: What held, a scope each.
        moment: The moment.
        channel: Only what answers on this channel: itself, shares of it, pins of its show and of the site.
        model: Only of this model.
    """
    found = [line for one in held for line in _lines(one, moment, channel)]
    return tuple(line for line in found if model in {None, line.model})


def _lines(held: Held, moment: datetime, channel: str | None) -> Iterator[Live]:
    choice, back = held.effective.choice, held.effective.back
    returned = {(r.channel, r.release.model) for r in back.channels} if back else set()
    for pointer in choice.channels:
        if channel in {None, pointer.channel}:
            gone_back = (pointer.channel, pointer.release.model) in returned
            yield _line(held, pointer.channel, pointer.release, "", pointer, returned=gone_back)
    for share in choice.shares:
        if channel in {None, share.channel}:
            yield _line(held, f"share of {share.channel}", share.release, _share(share), share)
    show = channel.removeprefix("show/") if channel and channel.startswith("show/") else None
    for pin in choice.pins:
        if channel is None or pin.show in {None, show}:
            where = "/".join(filter(None, (pin.show, pin.sequence, pin.shot))) or "site"
            yield _line(held, f"pin {where}", pin.release, pin.reason, pin)
    for override in choice.overrides:
        if moment < parse_time(override.until):
            yield _line(held, "override", override.release, _override(override), override)


def _line(
    held: Held,
    where: str,
    release: ReleaseRef,
    detail: str,
    entry: Pointer | Share | Pin | Override,
    *,
    returned: bool = False,
) -> Live:
    verdict = None if isinstance(entry, Override) else entry.verdict
    number = held.effective.signed.number
    return Live(where, release.model, str(release), detail, held.scope, number, held.since, verdict, returned)


def _share(share: Share) -> str:
    names = f" named {' or '.join(share.names)}" if share.names else ""
    classes = f" of class {' or '.join(one[:12] for one in share.classes)}" if share.classes else ""
    return f"{share.percent} % of the stations{names}{classes}, {share.state}"


def _override(override: Override) -> str:
    return f"passes over {', '.join(override.checks)} until {override.until}, by {override.by}: {override.reason}"


def models_of(choices: Iterable[Choice]) -> tuple[str, ...]:
    """Every model that something was chosen of in these choices, by name."""
    found = {
        entry.release.model
        for choice in choices
        for entries in (choice.channels, choice.shares, choice.pins, choice.overrides)
        for entry in entries
    }
    return tuple(sorted(found))


def changes_in(steps: Iterable[tuple[Choice | None, Choice]], backs: Iterable[Back], model: str) -> tuple[Change, ...]:
    """What changed of a model, oldest first.

    Args:
        steps: Each choice that says something else of the model than the one before it, with that one.
        backs: Every way back of the same scopes, oldest first of each.
        model: The model.
    """
    found = [
        Change(after.scope, after.number, after.entry, tuple(_about(before, after, model))) for before, after in steps
    ]
    found += _returned(backs, model)
    return tuple(sorted(found, key=lambda one: (one.entry.when, one.scope, one.number)))


def _about(before: Choice | None, after: Choice, model: str) -> Iterator[str]:
    for one in differences(before, after):
        if one.what.endswith(f", {model}") or f"{model}@" in str(one):
            yield str(one)


def _returned(backs: Iterable[Back], model: str) -> Iterator[Change]:
    """Each way back that returns the model and says something new of it; one that was signed again does not."""
    last: dict[str, tuple[int, str]] = {}
    for back in backs:
        said = ", ".join(f"{r.channel} to {r.release}" for r in back.channels if r.release.model == model)
        if said and last.get(back.scope) != (back.stands_on, said):
            yield Change(f"{back.scope}/back", back.number, back.entry, (f"returned {said}",))
        last[back.scope] = (back.stands_on, said)
