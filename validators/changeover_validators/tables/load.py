"""Reads the tables of this folder into values, once a process, and answers questions about them.

Every answer is a value or None for "not in the table", and says which row it is from. Versions are compared as numbers,
never as text. Rows of cards, toolkits and drivers are read by `cuda`, those of frameworks and hosts by `frameworks`.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from packaging.version import InvalidVersion, Version

__all__ = ["capability_key", "line_of", "row_name", "rows"]


@cache
def rows(table: str) -> dict[str, Any]:
    """The parsed table ``<table>.toml`` of this package."""
    data = resources.files("changeover_validators.tables").joinpath(f"{table}.toml").read_bytes()
    return tomllib.loads(data.decode("utf-8"))


def capability_key(text: str) -> tuple[int, int]:
    """``8.6`` as a pair that orders as numbers do."""
    major, minor = text.split(".")
    return int(major), int(minor)


def line_of(version: str) -> str | None:
    """``1.26`` of ``1.26.0rc1+cu12``; None where it is no version."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None
    return f"{parsed.major}.{parsed.minor}"


def row_name(table: str, kind: str, row: Mapping[str, Any]) -> str:
    """How evidence names a row: table, kind, what it is of, its origin and day."""
    keys = ("line", "name", "version", "torch", "suffix", "below", "isa", "capability", "lines")
    first = next((str(row[key]) for key in keys if key in row), "")
    whole = rows(table)
    told = (row.get(key, whole.get(key, "")) for key in ("origin", "date"))
    return f"tables/{table}.toml, {kind} {first} ({', '.join(map(str, told))})"
