"""How an entry that waits for signatures is shown: what it changes, who signed it and why, what is missing."""

from typing import TYPE_CHECKING, Any

from changeover_updater.cli._output import escape, mark, say

if TYPE_CHECKING:
    from changeover_registry.repository.approval import Waiting

__all__ = ["show_waiting", "waiting_object"]


def show_waiting(waiting: "Waiting") -> None:
    """One entry, for whoever may sign it."""
    from changeover_updater.differences import differences

    say(f"{mark('no' if waiting.error else 'open')} [bold]{escape(waiting.name)}[/]")
    if waiting.entry is not None:
        said = waiting.entry.choice.entry
        say(f"  {escape(said.what)}, by {escape(said.who)} at {said.when}: {escape(said.why)}")
        for approval in waiting.entry.signatures[1:]:
            why = f": {escape(approval.why)}" if approval.why else ""
            say(f"  signed by {escape(approval.who)} at {approval.when}{why}")
    if waiting.error is not None:
        say(f"  nobody can sign it: {escape(str(waiting.error))}")
        return
    if waiting.entry is not None:
        before = waiting.holds.choice if waiting.holds else None
        for line in differences(before, waiting.entry.choice) or ("changes nothing but the signatures",):
            say(f"    {escape(str(line))}")
    if waiting.tally is not None:
        say(f"  waits for {escape(waiting.tally.missing)}")


def waiting_object(waiting: "Waiting") -> dict[str, Any]:
    """For ``--json``."""
    from changeover_updater.differences import differences

    before = waiting.holds.choice if waiting.holds else None
    entry = waiting.entry
    changes = differences(before, entry.choice) if entry and not waiting.error else ()
    return {
        "entry": waiting.name,
        "error": str(waiting.error) if waiting.error else None,
        "missing": waiting.tally.missing if waiting.tally else None,
        "choice": entry.choice.model_dump(mode="json", exclude_none=True) if entry else None,
        "signatures": [a.model_dump(mode="json", exclude_none=True) for a in entry.signatures] if entry else [],
        "changes": [{"what": one.what, "before": one.before, "after": one.after} for one in changes],
    }
