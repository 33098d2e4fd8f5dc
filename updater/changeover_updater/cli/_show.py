"""How states, events and choices are shown to a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from changeover_updater.cli._output import escape, mark, rows, say

if TYPE_CHECKING:
    from datetime import datetime

    from changeover_registry.records.choice import Back, Choice, Entry
    from changeover_registry.records.station import Event
    from changeover_registry.repository.pending import Written
    from changeover_updater.expiries import Expires, Stage
    from changeover_updater.overrides import Standing
    from changeover_updater.status import Status

__all__ = [
    "choice_rows",
    "entry_row",
    "event_rows",
    "show_expiring",
    "show_overrides",
    "show_status",
    "show_written",
    "way_from_withdrawn",
]


def show_status(status: "Status") -> None:
    """A station's state, for a person."""
    number = status.generation.number if status.generation else None
    say(
        f"station [bold]{escape(status.station)}[/]: "
        + (f"generation {number}" if number else f"nothing in use{'' if status.kept else ' yet'}")
    )
    if hold := status.hold:
        until = f" until {hold.until}" if hold.until else ""
        say(f"{mark('open')} held since {hold.since}{until} by {escape(hold.by)}: {escape(hold.why)}")
    if status.generation is None and status.kept:
        numbers = ", ".join(map(str, status.kept))
        say(
            f"{mark('no')} no pointer is there, though generations are ({numbers}); mend it: changeover doctor --repair"
        )
        return
    if status.generation is None:
        say("next: changeover plan, then changeover update")
        return
    made = status.generation
    say(f"made {made.made_at}; site {escape(made.site)}; follows channel {made.channel}")
    lines = [
        (entry.channel, entry.model, _version(entry.key), escape(status.note(entry.key)))
        for entry in status.generation.channels
    ]
    rows("channels", ("channel", "model", "release", "note"), lines)
    pins = [
        (
            "/".join(filter(None, (pin.show, pin.sequence, pin.shot))) or "site",
            pin.model,
            _version(pin.key),
            escape(status.note(pin.key)),
        )
        for pin in status.generation.pins
    ]
    if pins:
        rows("pins", ("scope", "model", "release", "note"), pins)
    if gone := status.withdrawn():
        say(f"{mark('no')} {way_from_withdrawn([e.channel for e in status.generation.channels if e.key in gone])}")
    kept = ", ".join(str(n) for n in status.kept if n != number) or "none"
    say(f"releases kept for stamped scripts: {len(status.generation.releases)}; generations to go back to: {kept}")


def way_from_withdrawn(channels: "Sequence[str]") -> str:
    """What to do about withdrawn releases that are in use; `channels` are those that answer one, if it is no pin."""
    if not channels:
        return "a pin answers a withdrawn release; pin another with: changeover pin"
    back = f"changeover rollback --channel {min(channels)}"
    return f"a withdrawn release is in use; go back with: {back}, or promote another release"


def show_expiring(soon: "Sequence[tuple[Expires, Stage]]", now: "datetime") -> None:
    """What of the signed metadata ends soon, one line a repository's role, and who renews it."""
    for expires, near in soon:
        sign = "no" if near == "expired" else "open"
        say(f"{mark(sign)} {escape(expires.said(now))}; {escape(expires.remedy())}")


def show_overrides(standing: "Sequence[Standing]", unread: str | None) -> None:
    """What is passed over while it is, one line each; or why nobody can tell at this moment."""
    if unread:
        say(f"{mark('open')} whether overrides stand cannot be told: {escape(unread)}")
    for one in standing:
        override = one.override
        where = "" if one.scope == "site" else f" for {one.scope.removeprefix('shows/')}"
        here = ", which is in use here" if one.in_use else ""
        said = (
            f"override until {override.until}{where}: {', '.join(override.checks)} of {override.release}{here}; "
            f"by {override.by}: {override.reason}"
        )
        say(f"{mark('open')} {escape(said)}")


def show_written(done: "Written", then: str = "") -> None:
    """What a command wrote into the choice; `then` is what follows from it once it is chosen."""
    entry = done.choice.entry
    if done.entry is not None:
        say(f"{mark('open')} {escape(entry.what)}: waits for {done.missing}; nothing is chosen yet")
        say(f"  another promoter reads and signs it with: changeover approve {done.entry}")
        return
    say(f"{mark('ok')} {escape(entry.what)} (choice {done.choice.scope} {done.choice.number})")
    if then:
        say(f"  {then}")


def _version(key: str) -> str:
    return key.partition("@")[2]


def choice_rows(history: "Sequence[Choice | Back]") -> list[tuple[str, ...]]:
    """The studio's choices and ways back as lines of a table."""
    return [entry_row(_place(c), c.number, c.entry) for c in history]


def entry_row(scope: str, number: int, entry: "Entry") -> tuple[str, ...]:
    """One signed entry as a line of that table."""
    return (scope, str(number), entry.when, escape(entry.who), escape(entry.what), escape(entry.why))


def _place(choice: "Choice | Back") -> str:
    from changeover_registry.records.choice import Back

    return f"{choice.scope}/back" if isinstance(choice, Back) else choice.scope


def event_rows(events: "tuple[Event, ...]") -> list[tuple[str, ...]]:
    """Events as lines of a table."""
    return [
        (
            str(e.sequence),
            e.when,
            escape(e.who),
            f"{e.what} {e.phase}",
            str(e.before or "-"),
            str(e.after or "-"),
            escape(e.why),
        )
        for e in events
    ]
