"""Which release a channel goes back to, and the back that says so. Pure, but for `return_channel`, which signs it.

A channel goes back only to what choices of its scope held on it, so no verdict is asked for anew. A withdrawn release
is no way back. Stations that may not run it stay where they are, as with any release.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError, RefusedError, TrustError
from changeover_registry.names import Version
from changeover_registry.records.choice import Back, Choice, Pointer, Returned
from changeover_updater.choose import Change, channel_scope

if TYPE_CHECKING:
    from changeover_registry.repository.backs import Effective
    from changeover_updater.cli._context import Invocation

__all__ = ["next_back", "return_channel", "target_of"]


def return_channel(call: "Invocation", channel: str | None, to: str | None, reason: str) -> Back:
    """Return a channel to a release that it held before, by one signature of this host's key.

    Args:
        call: The command.
        channel: Its name; None: the policy's.
        to: ``VERSION``, ``MODEL`` or ``MODEL@VERSION``; None: what it held before, where it holds one model.
        reason: Why; it is recorded for ever.

    Raises:
        InvalidInputError: The channel holds nothing, or several models and `to` names none.
        RefusedError: It never held such a release.
        TrustError: The release is withdrawn, or the key may not sign it.
        LostRaceError: Somebody else is writing.
    """
    from changeover_registry.repository import backs
    from changeover_updater.signed import change_of, open_studio, studio_keys

    site, studio = open_studio(call)
    call.key("site")
    name = studio.policy.channel if channel is None else channel
    change, withdrawn = change_of(call, reason), studio.withdrawn()

    def back(holds: "Effective", past: Sequence[Choice]) -> Back:
        model, version = _wanted(holds.choice, name, to)
        pointer, held_in = target_of(holds, past, name, model, version)
        if why := withdrawn.get(str(pointer.release)):
            raise _withdrawn(name, pointer, why)
        return next_back(holds, pointer, held_in, change)

    return backs.write(site.choice, studio_keys(call), channel_scope(name), back, call.now)


def target_of(
    holds: "Effective", past: Sequence[Choice], channel: str, model: str, version: str | None
) -> tuple[Pointer, int]:
    """The pointer to go back to, and the number of the choice that held it.

    While another release is on its way into the channel, the way back is to what the channel still points at.

    Args:
        holds: What holds of the scope.
        past: All its choices, newest first.
        channel: The channel.
        model: The model.
        version: A release's version; None: whatever the channel held before what it holds now.

    Raises:
        RefusedError: It held none such.
    """
    now = holds.choice.pointer(channel, model)
    if now is not None and holds.choice.share(channel, model) and version in {None, now.release.version}:
        return now, holds.signed.number
    returned = holds.back.channels if holds.back else ()
    start = next((r.held_in for r in returned if (r.channel, r.release.model) == (channel, model)), holds.signed.number)
    earlier = [(p, c.number) for c in past if c.number <= start and (p := c.pointer(channel, model))]
    if version is not None:
        earlier = [(p, c.number) for c in past if (p := c.pointer(channel, model)) and p.release.version == version]
    others = [(p, number) for p, number in earlier if now is None or p.release != now.release]
    if not others:
        held = sorted({p.release.version for c in past if (p := c.pointer(channel, model))})
        raise RefusedError(
            "way back",
            where=f"{channel}: {model}",
            expected=f"a release that this channel held before, other than now ({', '.join(held) or 'none'})",
            actual=version or "nothing before it",
            remedy="name one of these with --to; another release needs a verdict: changeover promote",
        )
    return others[0]


def next_back(holds: "Effective", pointer: Pointer, held_in: int, change: Change) -> Back:
    """The next back of a scope: this channel's, and those that stand besides. Its number and place are set on signing.

    Raises:
        InvalidInputError: The reason is empty.
    """
    name = (pointer.channel, pointer.release.model)
    standing = holds.back.channels if holds.back else ()
    kept = [r for r in standing if (r.channel, r.release.model) != name]
    new = Returned(channel=pointer.channel, release=pointer.release, held_in=held_in, reason=change.why)
    share = holds.choice.share(*name)
    ended = f", and end the rollout of {share.release}" if share else ""
    entry = change.entry(f"return {pointer.channel} to {pointer.release}, as choice {held_in} held it{ended}")
    channels = sorted([*kept, new], key=lambda r: (r.channel, r.release.model))
    return Back(
        scope=holds.signed.scope,
        number=1,
        entry=entry,
        stands_on=holds.signed.number,
        stands_on_digest=holds.signed.digest(),
        channels=tuple(channels),
    )


def _wanted(choice: Choice, channel: str, to: str | None) -> tuple[str, str | None]:
    """The model, and the version that was asked for."""
    models = sorted({p.release.model for p in choice.channels if p.channel == channel})
    name, at, version = (to or "").partition("@")
    if to and not at and _is_version(to):
        name, version = "", to
    found = [model for model in models if not name or name in {model, model.partition("/")[2]}]
    if not models:
        raise InvalidInputError(
            "way back",
            where=f"--channel {channel}",
            expected=_held_channels(choice),
            actual="one that holds nothing",
            remedy="name another channel; changeover log --choice shows what each was given",
        )
    if len(found) != 1:
        raise InvalidInputError(
            "way back",
            where=f"--channel {channel}",
            expected=f"one of its models: {', '.join(models)}",
            actual=name or ("several" if found else "none"),
            remedy="name the model: --to MODEL, or --to MODEL@VERSION",
        )
    return found[0], str(Version.parse(version, where="--to")) if version else None


def _held_channels(choice: Choice) -> str:
    names = ", ".join(sorted({pointer.channel for pointer in choice.channels}))
    return f"a channel that holds a release: {names or 'none does yet'}"


def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except InvalidInputError:
        return False
    return True


def _withdrawn(channel: str, pointer: Pointer, why: str) -> TrustError:
    return TrustError(
        "withdrawn release",
        where=f"--channel {channel}",
        expected="a release that its vendor stands by",
        actual=f"{pointer.release}, withdrawn: {why}",
        remedy="name an earlier one with --to VERSION",
    )
