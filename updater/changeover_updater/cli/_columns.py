"""How wide the columns of a table are, so that no word in it is broken: a release or a path can be copied from it.

Pure: it knows cells only by their lengths, in columns of a terminal. What draws the table is `_output.rows`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["GAP", "Column", "breaks", "widths"]

GAP = 2
"""Between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column asks for: its longest word, below which one is broken, and its longest cell."""

    least: int
    whole: int


def widths(columns: Sequence[Column], room: int) -> tuple[int, ...] | None:
    """The width of each column in so much room, or None where a word would have to be broken.

    Columns that lack little become whole first; what is left over goes to the others from the left.
    """
    free = room - GAP * (len(columns) - 1) - sum(column.least for column in columns)
    if free < 0:
        return None
    found = [column.least for column in columns]
    for place in sorted(range(len(columns)), key=lambda at: columns[at].whole - columns[at].least):
        more = min(free, columns[place].whole - found[place])
        found[place] += more
        free -= more
    return tuple(found)


def breaks(text: str, room: int) -> Iterator[int]:
    """Where a text is to be broken so that its lines have room: between words alone, however long one is."""
    began = end = 0
    for word in re.finditer(r"\S+", text):
        if word.end() - began > room and end > began:
            began = word.start()
            yield began
        end = word.end()
