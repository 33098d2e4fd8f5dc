"""What a report calls a shot: by its alias outside the show that owns the set, by its name where the reader may know.

Both also stand inside sentences: a decoder's message holds a file's path, and a verdict's reason, which everybody may
read, holds aliases. So every sentence goes through `Aliases.text`, which puts what this reader calls the shot in the
place of the other, wherever that stands as a word of its own.
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
        """A sentence in which every shot goes by what this reader calls it."""
        called = self._names() if self.named else {name.lower(): alias for name, alias in self.of.items()}
        if not called:
            return sentence
        words = "|".join(map(re.escape, sorted(called, key=len, reverse=True)))
        pattern = rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9{'-' if self.named else ''}])"
        return re.sub(pattern, lambda found: called[found[0].lower()], sentence, flags=re.IGNORECASE)

    def _names(self) -> dict[str, str]:
        """Names by alias; an alias that is also some shot's name is left as it stands, since it may be meant so."""
        taken = {name.lower() for name in self.of}
        return {alias.lower(): name for name, alias in self.of.items() if alias.lower() not in taken}
