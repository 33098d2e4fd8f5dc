"""The next choice, as a function of the last: promote, pin, unpin, override, policy. Pure; signing it is elsewhere."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError, TrustError
from changeover_registry.records.choice import Choice, ClientApproval, Entry, Override, Pin, Pointer, Share, VerdictKey
from changeover_registry.records.release import ReleaseRef

__all__ = [
    "Change",
    "add_override",
    "approve_for_client",
    "channel_scope",
    "check_expected",
    "check_unmoved",
    "first_choice",
    "pin",
    "pin_scope",
    "promote",
    "renew",
    "share",
    "sign_policy",
    "steer",
    "unapprove_for_client",
    "unpin",
]

_STEERED = {"running": "resume", "paused": "pause", "stopped": "stop"}


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


def check_expected(last: Choice | None, scope: str, number: int) -> None:
    """Check that the newest choice of a scope is the one that somebody decided on; 0 stands for none.

    Raises:
        LostRaceError: It is another; the message names it and who made it.
    """
    if (last.number if last else 0) != number:
        raise _moved(
            last, scope, f"choice {number} of {scope} as the newest" if number else f"no choice of {scope} yet"
        )


def check_unmoved(last: Choice | None, scope: str, seen: Choice | None) -> None:
    """Check that what holds of a scope is still what a decision was made on.

    Raises:
        LostRaceError: Somebody chose, or went back, in between; the message names the head and who moved it.
    """
    if last != seen:
        read = f"choice {seen.number} of {scope}, on which this was decided" if seen else f"no choice of {scope} yet"
        raise _moved(last, scope, read)


def _moved(last: Choice | None, scope: str, expected: str) -> LostRaceError:
    head = f"choice {last.number} by {last.entry.who} at {last.entry.when} ({last.entry.what})" if last else "no choice"
    return LostRaceError(
        "choice",
        where=scope,
        expected=expected,
        actual=head,
        remedy="look at what was chosen (changeover log --choice) and run the command again; nothing was written",
    )


def promote(last: Choice | None, channel: str, release: ReleaseRef, verdict: str | None, change: Change) -> Choice:
    """Point a channel at a release; what was forgiven it there, on its way into the channel, stays forgiven.

    Raises:
        InvalidInputError: There can be no channel of that name.
    """
    pointer = _pointer(channel, release, verdict, _forgiven(last, channel, release))
    scope = channel_scope(channel)
    kept = [p for p in _channels(last) if (p.channel, p.release.model) != (channel, release.model)]
    channels = tuple(sorted([*kept, pointer], key=lambda p: (p.channel, p.release.model)))
    shares = _shares_but(last, channel, release.model)
    return _next(last, scope, change, f"promote {release} to {channel}", channels=channels, shares=shares)


def share(last: Choice | None, new: Share, change: Change) -> Choice:
    """Let a part of the stations have a release; a share of the same channel and model is replaced.

    A share that grows keeps what was forgiven the release before. One that somebody paused or stopped does not go on
    by the way: that takes a resume.

    Raises:
        RefusedError: The channel points at that release already, nothing is there that the others would have, or the
            release's rollout is paused or stopped.
    """
    pointer = last.pointer(new.channel, new.release.model) if last else None
    if pointer is None or pointer.release == new.release:
        raise RefusedError(
            "share",
            where=f"{new.channel}: {new.release}",
            expected="a channel that points at another release, which all other stations keep",
            actual=f"{new.channel} pointing at {pointer.release if pointer else 'nothing'}",
            remedy="promote without --share" if pointer is None else "nothing to do: every station may have it",
        )
    found = last.share(new.channel, new.release.model) if last else None
    if found is not None and found.release == new.release and found.state != "running":
        raise RefusedError(
            "share",
            where=f"{new.channel}: {new.release}",
            expected="a rollout that goes on",
            actual=f"one that is {found.state}",
            remedy=f"run changeover rollout resume {new.release.model} first",
        )
    kept = new.model_copy(update={"resumed": _forgiven(last, new.channel, new.release)})
    shares = (*_shares_but(last, new.channel, new.release.model), kept)
    what = f"share {new.release} with {new.percent} % of {_cohort(new)} on {new.channel}"
    ordered = tuple(sorted(shares, key=lambda entry: (entry.channel, entry.release.model)))
    return _next(last, channel_scope(new.channel), change, what, shares=ordered)


def steer(
    last: Choice | None, channel: str, model: str, state: Literal["running", "paused", "stopped"], change: Change
) -> Choice:
    """Pause, resume or stop a rollout. Resuming forgives what stations reported of their failures up to now.

    A release that the channel itself points at can be resumed too: too many failures keep stations from it as well.

    Raises:
        InvalidInputError: There is no rollout of that model on that channel.
        RefusedError: It is in that state already, or stopped, which a pause would soften.
    """
    found = last.share(channel, model) if last else None
    pointer = last.pointer(channel, model) if last else None
    if found is None and pointer is not None and state == "running":
        return _resumed(last, pointer, change)
    if found is None:
        raise InvalidInputError(
            "rollout",
            where=f"{channel}: {model}",
            expected="a release with a share of this channel",
            actual="none",
            remedy="see: changeover rollout list; to go back on a channel: changeover rollback --channel",
        )
    if (found.state == state and state != "running") or (found.state, state) == ("stopped", "paused"):
        raise RefusedError(
            "rollout",
            where=f"{channel}: {found.release}",
            expected="another state",
            actual=f"{found.state} already",
            remedy="nothing to do"
            if found.state == state
            else "nothing to do; to begin again: changeover rollout resume",
        )
    update = {"state": state, **({"resumed": change.when} if state == "running" else {})}
    shares = (*_shares_but(last, channel, model), found.model_copy(update=update))
    ordered = tuple(sorted(shares, key=lambda entry: (entry.channel, entry.release.model)))
    what = f"rollout {_STEERED[state]} {found.release} on {channel}"
    return _next(last, channel_scope(channel), change, what, shares=ordered)


def _resumed(last: Choice | None, pointer: Pointer, change: Change) -> Choice:
    kept = [p for p in _channels(last) if p != pointer]
    channels = sorted([*kept, pointer.model_copy(update={"resumed": change.when})], key=_key)
    what = f"rollout resume {pointer.release} on {pointer.channel}"
    return _next(last, channel_scope(pointer.channel), change, what, channels=tuple(channels))


def _key(pointer: Pointer) -> tuple[str, str]:
    return (pointer.channel, pointer.release.model)


def _cohort(share: Share) -> str:
    """Who a share is of, in words."""
    named = f"the stations named {' or '.join(share.names)}" if share.names else "all stations"
    return f"{named} of class {' or '.join(found[:12] for found in share.classes)}" if share.classes else named


def _shares_but(last: Choice | None, channel: str, model: str) -> tuple[Share, ...]:
    return tuple(s for s in (last.shares if last else ()) if (s.channel, s.release.model) != (channel, model))


def _forgiven(last: Choice | None, channel: str, release: ReleaseRef) -> str | None:
    """Up to when failures with a release are forgiven on a channel, if ever."""
    named = (last.pointer(channel, release.model), last.share(channel, release.model)) if last else ()
    return max((one.resumed for one in named if one and one.release == release and one.resumed), default=None)


def _pointer(channel: str, release: ReleaseRef, verdict: str | None, resumed: str | None) -> Pointer:
    try:
        return Pointer(channel=channel, release=release, verdict=verdict, resumed=resumed)
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


def approve_for_client(last: Choice | None, show: str, approval: ClientApproval, change: Change) -> Choice:
    """Write down that a show's client agreed to a release; an earlier agreement to the same release is replaced."""
    kept = [one for one in _approvals(last) if one.release != approval.release]
    approvals = tuple(sorted([*kept, approval], key=lambda one: str(one.release)))
    what = f"client approval of {approval.release} for {show} by {approval.by}"
    return _next(last, f"shows/{show}", change, what, client_approvals=approvals)


def unapprove_for_client(last: Choice | None, show: str, release: ReleaseRef, change: Change) -> Choice:
    """Take a client's agreement back; what the show has stays until another release is chosen for it.

    Raises:
        InvalidInputError: The client never agreed to that release.
    """
    kept = tuple(one for one in _approvals(last) if one.release != release)
    if len(kept) == len(_approvals(last)):
        have = ", ".join(str(one.release) for one in kept) or "none"
        raise InvalidInputError(
            "client approval",
            where=f"show {show}",
            expected=f"one of those that stand ({have})",
            actual=f"{release}, to which no client's agreement stands",
            remedy=f"see them with: changeover show approvals {show}",
        )
    what = f"no client approval of {release} for {show} any more"
    return _next(last, f"shows/{show}", change, what, client_approvals=kept or None)


def _approvals(last: Choice | None) -> tuple[ClientApproval, ...]:
    return (last.client_approvals or ()) if last else ()


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
