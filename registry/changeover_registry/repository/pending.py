"""A choice that waits for signatures: where it stands, and what is missing until it is chosen."""

from dataclasses import dataclass

from changeover_registry.records.choice import Choice

__all__ = ["Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """The next choice of a scope as somebody wrote it: chosen, or waiting for signatures.

    `entry` is None where it is chosen; else the name under which it waits, for ``approve``. `missing` says then, in a
    few words, what it waits for.
    """

    choice: Choice
    entry: str | None = None
    missing: str = ""

    @property
    def chosen(self) -> bool:
        """Whether readers take it from now on."""
        return self.entry is None
