"""The commands that are swept, each with the studio it starts from and what must stand on the disk around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from changeover_faults.studio import NEW, OLD, Studio, promote

__all__ = ["ACTIONS", "Action"]


@dataclass(frozen=True, slots=True)
class Action:
    """One command: how the studio is made ready for it, and the versions a reader may see before and after it."""

    name: str
    words: tuple[str, ...]
    ready: Callable[[Studio], None]
    old: str | None
    new: str | None


def _chosen(studio: Studio) -> None:
    """The studio as it was built: `OLD` chosen, nothing in use."""


def _serving(studio: Studio) -> None:
    """`OLD` in use, `NEW` chosen."""
    studio.ok("update")
    promote(studio, NEW)


def _updated(studio: Studio) -> None:
    """`NEW` in use, `OLD` before it."""
    _serving(studio)
    studio.ok("update")


def _all(*actions: Action) -> Mapping[str, Action]:
    return {action.name: action for action in actions}


ACTIONS = _all(
    Action("first", ("update",), _chosen, None, OLD),
    Action("update", ("update",), _serving, OLD, NEW),
    Action("rollback", ("rollback", "--to", "1", "--reason", "test"), _updated, NEW, OLD),
)
