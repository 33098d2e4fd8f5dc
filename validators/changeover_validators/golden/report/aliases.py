"""What a report calls a shot: by its alias outside the show that owns the set, by its name where the reader may know.

Names also stand inside sentences: a decoder's message holds a file's path, a remedy a command. So every sentence goes
through `Aliases.text`, which puts the alias in the place of a name wherever that stands as a word of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["Aliases"]


@dataclass(frozen=True, slots=True)
class Aliases:
    """Every shot's alias by its name, and whether the reader may see the names."""

    of: Mapping[str, str]
    named: bool = False

    @classmethod
    def make(cls, names: Iterable[str], known: Mapping[str, str], *, named: bool = False) -> Self:
        """Aliases of all `names`; one that nobody gave an alias gets a number, and never goes by its name."""
        found = dict(known)
        for name in sorted(set(names) - set(known)):
            taken = set(found.values())
            places = (f"unnamed-{place}" for place in range(1, len(found) + 2))
            found[name] = next(place for place in places if place not in taken)
        return cls(found, named)

    def alias(self, name: str) -> str:
        """The alias of a shot.

        Raises:
            KeyError: The shot was not among the names.
        """
        return self.of[name]

    def label(self, name: str) -> str:
        """What to call a shot before this reader."""
        return name if self.named else self.of[name]

    def text(self, sentence: str) -> str:
        """A sentence in which no shot goes by its name, unless the reader may see the names."""
        if self.named or not self.of:
            return sentence
        longest_first = sorted(self.of, key=len, reverse=True)
        words = "|".join(map(re.escape, longest_first))
        lower = {name.lower(): alias for name, alias in self.of.items()}
        pattern = rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])"
        return re.sub(pattern, lambda found: lower[found[0].lower()], sentence, flags=re.IGNORECASE)
