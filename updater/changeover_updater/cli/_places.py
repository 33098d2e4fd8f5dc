"""What the vendor's commands say of the places that they carried to; the gravest error ends the command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from changeover_updater.cli._output import count, escape, mark, notice, progress, say

if TYPE_CHECKING:
    from changeover_registry.errors import ChangeoverError
    from changeover_updater.places import Went
    from changeover_updater.vendor_home import VendorHome

__all__ = ["answer_of", "carried", "raise_errors", "raise_failed", "show_carried"]


def carried(home: "VendorHome") -> "tuple[Went, ...]":
    """Carry what was just signed to every place; a place that fails is in the answer, and nothing is raised for it.

    Raises:
        LostRaceError: Another process has been carrying for a minute.
    """
    from changeover_updater.places import carry_all

    with progress() as line:
        return carry_all(home, step=line.step)


def answer_of(went: "Sequence[Went]") -> list[dict[str, object]]:
    """The same for ``--json``."""
    return [
        {
            "place": one.location,
            "before": one.carried.before if one.carried else None,
            "files": one.carried.files if one.carried else None,
            "bytes": one.carried.length if one.carried else None,
            "error": str(one.error) if one.error else None,
        }
        for one in went
    ]


def show_carried(went: "Sequence[Went]") -> None:
    """One line for each place."""
    for one in went:
        if one.carried is None:
            say(f"    {mark('no')} not carried to {escape(one.location)}")
        elif one.carried.files:
            sent = f"{count(one.carried.files, 'file')}, {one.carried.length / 1e6:.1f} MB"
            say(f"    {mark('ok')} carried to {escape(one.location)}: {sent}, each read again")
        else:
            say(f"    {mark('skip')} {escape(one.location)} has it already")


def raise_failed(went: "Sequence[Went]") -> None:
    """As `raise_errors`, for what kept each place from being filled."""
    raise_errors([one.error for one in went if one.error is not None])


def raise_errors(errors: "Sequence[ChangeoverError]") -> None:
    """Say every error; the gravest ends the command.

    Raises:
        ChangeoverError: There is one.
    """
    from changeover_updater.places import gravest

    last = gravest(errors)
    for error in errors:
        if error is not last:
            notice(str(error))
    if last is not None:
        raise last
