"""How much is run: everything, or an even part of it that fits into a check before each merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Scale"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Scale:
    """`full` is every call and a thousand kills; else a part, spread evenly over the whole.

    `exhaustive` is also every error at every call of every command, which takes hours: without it that is so for the
    commands that change over, and each call of the others meets one of the errors in turn.
    """

    full: bool
    exhaustive: bool = False

    def some(self, items: Sequence[_T], most: int) -> Sequence[_T]:
        """All items, or at most so many of them, evenly over the whole, the last among them."""
        if self.full or len(items) <= most:
            return items
        return tuple(items[(n + 1) * len(items) // most - 1] for n in range(most))

    def many(self, full: int, bounded: int) -> int:
        """One of two counts."""
        return full if self.full else bounded
