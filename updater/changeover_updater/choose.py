"""The next choice, as a function of the last: promote, pin, unpin, override, policy. Pure; signing it is elsewhere."""

from dataclasses import dataclass

from pydantic import ValidationError

from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.choice import Choice, Entry, Override, Pin, Pointer, VerdictKey
from changeover_registry.records.release import ReleaseRef

__all__ = [
    "Change",
    "add_override",
    "channel_scope",
    "first_choice",
    "pin",
    "pin_scope",
    "promote",
    "renew",
    "sign_policy",
    "unpin",
]


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes the choice, when (RFC 3339) and why."""

    who: str
    when: str
    why: str

    def entry(self, what: str) -> Entry:
        """The entry that stands in the next choice.

        Raises:
            InvalidInputError: The reason is empty.
        """
        if not self.why.strip():
            raise InvalidInputError(
                "reason", where=what, expected="why it is done, in words", actual=repr(self.why), remedy="give --reason"
            )
        return Entry(who=self.who, when=self.when, why=self.why, what=what)


def channel_scope(channel: str) -> str:
    """The scope whose choice holds a channel: ``shows/atlas`` for ``show/atlas``, else ``site``."""
    return f"shows/{channel.removeprefix('show/')}" if channel.startswith("show/") else "site"


def pin_scope(show: str | None) -> str:
    """The scope whose choice holds a pin."""
    return f"shows/{show}" if show else "site"


def first_choice(change: Change, keys: tuple[VerdictKey, ...], policy: str) -> Choice:
    """The site's first choice: nothing chosen, who may sign verdicts, and which policy holds."""
    return Choice(scope="site", number=1, entry=change.entry("init"), verdict_keys=keys, policy=policy)


def promote(last: Choice | None, channel: str, release: ReleaseRef, verdict: str | None, change: Change) -> Choice:
    """Point a channel at a release.

    Raises:
        InvalidInputError: There can be no channel of that name.
    """
    pointer = _pointer(channel, release, verdict)
    scope = channel_scope(channel)
    kept = [p for p in _channels(last) if (p.channel, p.release.model) != (channel, release.model)]
    channels = tuple(sorted([*kept, pointer], key=lambda p: (p.channel, p.release.model)))
    return _next(last, scope, change, f"promote {release} to {channel}", channels=channels)


def _pointer(channel: str, release: ReleaseRef, verdict: str | None) -> Pointer:
    try:
        return Pointer(channel=channel, release=release, verdict=verdict)
    except ValidationError as error:
        raise InvalidInputError(
            "channel",
            where=str(release),
            expected="stable, beta or show/NAME",
            actual=repr(channel),
            remedy="correct the name of the channel",
        ) from error


def pin(last: Choice | None, new: Pin, change: Change) -> Choice:
    """Pin a release for a scope; a pin of the same model and scope is replaced."""
    kept = [p for p in (last.pins if last else ()) if _pin_key(p) != _pin_key(new)]
    pins = tuple(sorted([*kept, new], key=lambda p: tuple(part or "" for part in _pin_key(p))))
    where = "/".join(filter(None, (new.show, new.sequence, new.shot))) or "site"
    return _next(last, pin_scope(new.show), change, f"pin {new.release} for {where}", pins=pins)


def unpin(
    last: Choice | None, model: str, show: str | None, sequence: str | None, shot: str | None, change: Change
) -> Choice:
    """Take a pin away.

    Raises:
        InvalidInputError: There is no such pin.
    """
    pins = last.pins if last else ()
    key = (model, show, sequence, shot)
    kept = tuple(p for p in pins if _pin_key(p) != key)
    where = "/".join(filter(None, (show, sequence, shot))) or "site"
    if len(kept) == len(pins):
        have = ", ".join(f"{p.release} for {'/'.join(filter(None, _pin_key(p)[1:])) or 'site'}" for p in pins) or "none"
        raise InvalidInputError(
            "pin",
            where=f"{model} for {where}",
            expected=f"one of the pins ({have})",
            actual="no such pin",
            remedy="name the scope of the pin with --show, --sequence and --shot",
        )
    return _next(last, pin_scope(show), change, f"unpin {model} for {where}", pins=kept)


def add_override(last: Choice | None, scope: str, override: Override, change: Change) -> Choice:
    """Add an override.

    Raises:
        TrustError: It would pass over trust, which nothing may.
    """
    if "trust" in override.checks:
        raise TrustError(
            "override",
            where=str(override.release),
            expected="checks other than trust",
            actual="trust among them",
            remedy="no override passes over trust; have the vendor publish the release again",
        )
    overrides = (*(last.overrides if last else ()), override)
    what = f"override {', '.join(override.checks)} for {override.release} until {override.until}"
    return _next(last, scope, change, what, overrides=overrides)


def sign_policy(last: Choice | None, policy: str, change: Change) -> Choice:
    """Take a changed policy.toml as the studio's policy."""
    return _next(last, "site", change, f"policy {policy[:12]}", policy=policy)


def renew(last: Choice | None, scope: str, change: Change) -> Choice:
    """The same choice once more, so that it is signed anew before it expires."""
    return _next(last, scope, change, "renew")


def _next(last: Choice | None, scope: str, change: Change, what: str, **fields: object) -> Choice:
    entry = change.entry(what)
    if last is None:
        return Choice.model_validate({"scope": scope, "number": 1, "entry": entry, **fields})
    update = {"number": last.number + 1, "previous": last.digest(), "entry": entry, **fields}
    return last.model_copy(update=update)


def _channels(last: Choice | None) -> tuple[Pointer, ...]:
    return last.channels if last else ()


def _pin_key(pin: Pin) -> tuple[str, str | None, str | None, str | None]:
    return (pin.release.model, pin.show, pin.sequence, pin.shot)
