"""Adds one line to host.toml and leaves every other as it is, comments included.

The file belongs to the machine's owner. A line is put below the last entry of ``[runtimes]``, or the table is begun at
the end; then the new text is parsed, and only if it says what the old one said and the new entry besides is it written,
in one step. What cannot be edited so is refused with the line to add by hand. Left out: reading (`settings`).
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from changeover_registry import _fs
from changeover_registry.errors import InvalidInputError

__all__ = ["add_runtime", "entry", "with_runtime"]

_TABLE = "runtimes"
_HEADER = re.compile(r"^\s*\[\s*runtimes\s*\]\s*(#.*)?$")
_ANY_HEADER = re.compile(r"^\s*\[")
_NEW = 'schema = "changeover.host/1"\n'


def entry(name: str, interpreter: str) -> str:
    """The line for one runtime, as TOML."""
    return f"{_text(name)} = {_text(interpreter)}"


def with_runtime(text: str, name: str, interpreter: str, *, where: str) -> str:
    """`text` of a host.toml with one more runtime.

    Raises:
        InvalidInputError: It is not TOML, the name is there already, or the table is written in a way that cannot be
            added to line by line.
    """
    before = _parse(text or _NEW, where)
    known = before.get(_TABLE, {})
    if isinstance(known, dict) and name in known:
        raise InvalidInputError(
            "runtime",
            where=f"{where}: runtimes.{name}",
            expected="a name that is not there yet",
            actual=str(known[name]),
            remedy="give another --name, or take that line and its folder away first",
        )
    # Only at line feeds: splitlines would also cut at characters that a comment may hold.
    lines = (text or _NEW).removesuffix("\n").split("\n")
    at = next((index for index, line in enumerate(lines) if _HEADER.match(line)), None)
    if at is None:
        lines += ["", f"[{_TABLE}]", entry(name, interpreter)]
    else:
        lines.insert(_end_of_table(lines, at), entry(name, interpreter))
    after = "\n".join([*lines, ""])
    if _read(after) != {**before, _TABLE: {**(known if isinstance(known, dict) else {}), name: interpreter}}:
        raise InvalidInputError(
            "host.toml",
            where=where,
            expected="a table [runtimes] with one entry a line",
            actual="one that is written otherwise",
            remedy=f"add this to it by hand: {entry(name, interpreter)}",
        )
    return after


def add_runtime(config: Path, name: str, interpreter: str) -> None:
    """Write one more runtime into the file at `config`, which is made if it is not there.

    Raises:
        InvalidInputError: As `with_runtime`.
        LostRaceError: Another command is writing it.
        OSError: The disk is full, read-only or gone; the file is as it was.
    """
    target = config.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _fs.lock(target.with_name(f".{target.name}.lock"), what=str(config), wait_seconds=10):
        there = target.is_file()
        text = target.read_bytes().decode("utf-8") if there else ""
        mode = target.stat().st_mode & 0o777 if there else 0o644
        _fs.write_atomic(target, with_runtime(text, name, interpreter, where=str(config)).encode("utf-8"), mode=mode)


def _end_of_table(lines: list[str], header: int) -> int:
    """Behind the last line of the table that says something; what follows belongs to the next one."""
    end = next((i for i in range(header + 1, len(lines)) if _ANY_HEADER.match(lines[i])), len(lines))
    said = [i for i in range(header, end) if lines[i].strip() and not lines[i].lstrip().startswith("#")]
    return said[-1] + 1


def _parse(text: str, where: str) -> dict[str, Any]:
    found = _read(text)
    if found is None:
        raise InvalidInputError(
            "TOML", where=where, expected="a TOML file in UTF-8", actual="something else", remedy="correct it first"
        )
    return found


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _text(value: str) -> str:
    """A TOML basic string: JSON's, but TOML wants one more control character escaped. Other text stays itself."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
