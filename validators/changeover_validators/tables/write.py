"""Writes a table: its comment and head, then each row: numbers, texts, and lists of texts. tomllib reads it back.

A refresh replaces the rows that artifacts told (`origin` is probe, metadata, binary or file) and leaves those that a
person wrote (``prose``) as they are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Row", "comment_of", "refreshed", "text_of"]

Row = Mapping[str, Any]


def comment_of(path: Path) -> str:
    """The comment at the head of a table, with its line feeds."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count])


def refreshed(old: Mapping[str, Any], new: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """`old` with the rows of each array in `new` in the place of those that artifacts had told before.

    Rows of prose stay, behind the new ones. An array that `new` does not name stays whole.
    """
    table = dict(old)
    for name, rows in new.items():
        kept = [row for row in old.get(name, ()) if row.get("origin") == "prose"]
        table[name] = [*rows, *kept]
    return table


def text_of(comment: str, table: Mapping[str, Any]) -> str:
    """The table as TOML: plain keys first, then the arrays of rows."""
    plain = {key: value for key, value in table.items() if not _is_array(value)}
    arrays = {key: value for key, value in table.items() if _is_array(value)}
    parts = [comment + "\n" + "".join(_line(key, value) for key, value in plain.items())]
    for name, rows in arrays.items():
        parts += [f"[[{name}]]\n" + "".join(_line(key, value) for key, value in row.items()) for row in rows]
    return "\n".join(parts)


def _is_array(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    message = f"expected a number, a text or a list of these, found {value!r}"
    raise TypeError(message)
