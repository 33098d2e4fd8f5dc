"""How commands speak: results on stdout, everything else on stderr; JSON has no locale, no colour and no wrapping."""

import codecs
import io
import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from changeover_updater.cli._columns import Column

__all__ = [
    "ProgressLine",
    "console",
    "count",
    "emit",
    "mark",
    "notice",
    "once",
    "print_error",
    "progress",
    "rows",
    "say",
    "speak_anyhow",
]

_RATE_SECONDS = 10.0
"""Over how long the rate of a transfer is taken: what was fast at first says little of the rest."""
_CONTROL = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))
_TURNS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_DROPPED = dict.fromkeys((*_CONTROL, *_TURNS))
"""What steers a terminal, and what turns the direction of text, with which one name can look like another."""
_CLEAR = "\r\x1b[K"
"""Back to the line's beginning, and nothing on it."""
_HANGING = 4
"""How far the further lines of a row stand in, where a table has no room."""
MARKS = {
    "ok": "[green]✓[/]",
    "no": "[red]✗[/]",
    "open": "[yellow]?[/]",
    "skip": "[dim]-[/]",
}


def console(*, stderr: bool = False) -> "Console":
    """A console on stdout or stderr. Off a terminal it does not cut lines to a width."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 160
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


def emit(value: object, *, as_json: bool, show: Callable[[], None]) -> None:
    """Print `value` as one JSON document, or call `show` to print it for a person."""
    if as_json:
        text = json.dumps(value, ensure_ascii=_is_narrow(sys.stdout.encoding), indent=2, sort_keys=True)
        sys.stdout.write(text + "\n")
    else:
        show()


def speak_anyhow() -> None:
    """Have what an output cannot encode be an escape: a render node's log in ASCII, or a file on Windows.

    What a command did is done when it speaks of it; a sign that cannot be written must not make a failure of it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_narrow(encoding: str | None) -> bool:
    """Whether an output lacks signs that texts may hold; one without an encoding takes all."""
    return encoding is not None and codecs.lookup(encoding).name != "utf-8"


def say(text: str) -> None:
    """One line of a result."""
    console().print(text)


def notice(text: str) -> None:
    """One line beside the result: a warning, something that was left out."""
    if sys.stderr.isatty():
        # What is being done may stand on this line.
        sys.stderr.write(_CLEAR)
    console(stderr=True).print(f"[yellow]note:[/] {escape(text)}")


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, but for what it told already: one MLflow that is down is one line, however much it should have heard."""
    told: set[str] = set()

    def tell_once(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return tell_once


def print_error(text: str) -> None:
    """The one line of an error."""
    out = console(stderr=True)
    # A terminal would break a long list of names in the middle of a name.
    out.soft_wrap = not out.is_terminal
    out.print(f"[bold red]error:[/] {escape(text)}")


def mark(kind: str) -> str:
    """The sign before a line: ok, no, open or skip."""
    return MARKS[kind]


def escape(text: str) -> str:
    """Text that may hold square brackets, made safe for the console's markup, without control characters."""
    from rich.markup import escape as rich_escape

    return rich_escape(text.translate(_DROPPED))


def count(number: int, what: str) -> str:
    """A number of things whose plural ends in s: ``1 release``, ``1,200 files``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def rows(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], *, empty: str = "nothing yet", indent: int = 0
) -> None:
    """Print a table, or one sentence where there is nothing to show.

    No word is broken: where the columns do not fit beside each other, each row's cells follow one another in lines.
    """
    from rich.padding import Padding
    from rich.table import Table

    from changeover_updater.cli import _columns

    if not lines:
        say(f"{title}: {empty}" if title else empty)
        return
    out = console()
    out.soft_wrap = False
    cells = [[_marked(cell) for cell in line] for line in lines]
    asked = [_asked([_marked(name), *(line[at] for line in cells)]) for at, name in enumerate(columns)]
    found = _columns.widths(asked, out.width - indent)
    if found is None:
        _print_flowing(out, title, columns, cells, indent)
        return
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for column, width in zip(columns, found, strict=True):
        table.add_column(column, overflow="fold", width=width)
    for line in cells:
        table.add_row(*line)
    out.print(Padding.indent(table, indent))


def _marked(cell: str) -> "Text":
    from rich.text import Text

    return Text.from_markup(cell)


def _asked(cells: "Sequence[Text]") -> "Column":
    from rich.cells import cell_len

    from changeover_updater.cli._columns import Column

    least = max(cell_len(word) for cell in cells for word in cell.plain.split() or [""])
    return Column(least, max(cell_len(line) for cell in cells for line in cell.plain.splitlines() or [""]))


def _print_flowing(
    out: "Console", title: str, columns: Sequence[str], lines: "Sequence[Sequence[Text]]", indent: int
) -> None:
    """A table too wide for the terminal: row by row, a cell whole on its line where it has room there."""
    from rich.text import Text

    from changeover_updater.cli._columns import GAP

    if title:
        out.print(Text(" " * indent + title, style="bold"))
    head = [Text(column, style="dim") for column in columns]
    hanging = " " * (indent + _HANGING)
    for line in (head, *lines):
        flowing, filled = Text(" " * indent), indent
        for cell in line:
            parts = _broken(cell if cell.plain else Text("-"), out.width - len(hanging))
            if filled > indent and filled + GAP + max(part.cell_len for part in parts) > out.width:
                flowing.append(f"\n{hanging}")
                filled = len(hanging)
            elif filled > indent:
                flowing.append(" " * GAP)
                filled += GAP
            flowing.append_text(Text(f"\n{hanging}").join(parts))
            filled = (filled if len(parts) == 1 else len(hanging)) + parts[-1].cell_len
        out.print(flowing, soft_wrap=True)


def _broken(cell: "Text", room: int) -> "list[Text]":
    """A cell in lines that have room, as far as its words do."""
    from changeover_updater.cli._columns import breaks

    parts = list(cell.divide(breaks(cell.plain, room)))
    for part in parts:
        part.rstrip()
    return parts


@dataclass(slots=True)
class ProgressLine:
    """One line on stderr that says what is being done and how far it is; silent where nobody watches."""

    live: bool
    clock: Callable[[], float] = time.monotonic
    _text: str = ""
    _name: str = ""
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def step(self, text: str) -> None:
        """Say what is being done now."""
        self._show(text)

    def bytes(self, name: str, more: int, total: int) -> None:
        """Count the bytes of a file; after a second also how fast they come, and how long the rest will take."""
        before = self._seen[-1][1] if self._seen and self._name == name else 0
        if before == 0 or before >= total:
            # A file of this name that was whole is another one, in another variant.
            before, self._name = 0, name
            self._seen.clear()
        now = self.clock()
        self._seen.append((now, before + more))
        while now - self._seen[0][0] > _RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        self._show(f"{name}: {(before + more) / 1e6:.1f} of {total / 1e6:.1f} MB{self._rate(total)}")

    def _rate(self, total: int) -> str:
        """Rate and time left, from what came in the last seconds."""
        (since, had), (now, have) = self._seen[0], self._seen[-1]
        if now - since < 1 or have == had:
            return ""
        speed = (have - had) / (now - since)
        left = round((total - have) / speed)
        minutes = f"{left // 60} min " if left >= 60 else ""
        return f", {speed / 1e6:.1f} MB/s, {minutes}{left % 60} s left"

    def clear(self) -> None:
        """Leave an empty line behind."""
        if self.live and self._text:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def _show(self, text: str) -> None:
        if self.live and text != self._text:
            sys.stderr.write(f"{_CLEAR}{text[: min(100, shutil.get_terminal_size().columns - 1)]}")
            sys.stderr.flush()
        self._text = text


@contextmanager
def progress() -> Iterator[ProgressLine]:
    """A progress line for the length of a block."""
    line = ProgressLine(live=sys.stderr.isatty())
    try:
        yield line
    finally:
        line.clear()
