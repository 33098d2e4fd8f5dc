"""The page *Records, field by field* of the reference, written from the JSON Schemas of the records.

What a record and each part of it is for stands in its docstring, which the schema has as its description. Left out: the
rules that all records share, which `docs/reference/records.md` tells.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from changeover_registry.records.base import (
    Decimal6,
    Digest,
    ModelName,
    Name,
    RelativePath,
    Time,
    Unsigned6,
    VersionText,
)

__all__ = ["page"]

_HEAD = """\
# Records, field by field

Generated from the records by `make reference`. What all records share, and where each of them stands:
[Records](records.md). A field that is not needed is absent where it says nothing; no null is ever written.
"""
_SHARED = {"schema", "ext"}
_TEXTS = {
    str(TypeAdapter(kind).json_schema()["pattern"]): said
    for kind, said in (
        (ModelName, "`vendor/name`"),
        (Name, "name"),
        (Digest, "sha256"),
        (RelativePath, "path"),
        (VersionText, "version"),
        (Time, "time"),
        (Decimal6, "decimal number as text"),
        (Unsigned6, "decimal number as text, at least 0"),
    )
}
"""What a text holds, by the pattern that its schema has."""


def page(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page as Markdown.

    Args:
        schemas: The JSON Schema of each record, by its file's name without the ending, such as ``index-1``.
    """
    parts: dict[str, Mapping[str, Any]] = {}
    for schema in schemas.values():
        parts |= {name: part for name, part in schema.get("$defs", {}).items() if "properties" in part}
    records = [_section(name, schemas[name], parts, f"[schema](schemas/{name}.json)") for name in sorted(schemas)]
    common = [_section(name, parts[name], parts, "") for name in sorted(parts)]
    return "\n".join([_HEAD, "## Records\n", *records, "## Parts of records\n", *common]).rstrip() + "\n"


def _section(name: str, schema: Mapping[str, Any], parts: Mapping[str, Any], link: str) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_type(body, parts)} | {'yes' if field in needed else ''} |"
        for field, body in schema["properties"].items()
        if field not in _SHARED
    ]
    table = ["| field | what it holds | needed |", "| --- | --- | --- |", *rows] if rows else []
    return "\n".join(
        [f"### {name}\n", _prose(schema.get("description", "")), "", *([link, ""] if link else []), *table, ""]
    )


def _prose(text: str) -> str:
    """A docstring as Markdown: single and double backquotes mean code, in which nothing needs an escape."""
    pieces = re.split(r"``?([^`]+)``?", text)
    return "".join(f"`{piece}`" if number % 2 else piece.replace("<", "&lt;") for number, piece in enumerate(pieces))


def _type(body: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a field holds, in a few words, with a link to each part that is a table of its own."""
    if "anyOf" in body:
        return " or ".join(dict.fromkeys(_type(one, parts) for one in body["anyOf"] if one.get("type") != "null"))
    if "$ref" in body:
        name = body["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name in parts else "any JSON"
    if "const" in body or "enum" in body:
        return " or ".join(f"`{value}`" for value in body.get("enum", [body.get("const")]))
    return _plain(body, parts) + _limits(body)


def _plain(body: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    kind = body.get("type", "any JSON")
    if kind == "array" and "prefixItems" in body:
        return f"a list of {len(body['prefixItems'])}: {', '.join(_type(one, parts) for one in body['prefixItems'])}"
    if kind == "array":
        return f"a list of {_type(body.get('items', {}), parts)}"
    if kind == "object":
        inner = body.get("additionalProperties")
        return f"a table of {_type(inner, parts)}" if isinstance(inner, dict) else "a table"
    if kind == "string":
        return _text(body)
    return "true or false" if kind == "boolean" else str(kind)


def _text(body: Mapping[str, Any]) -> str:
    return _TEXTS.get(body.get("pattern", ""), "text")


def _limits(body: Mapping[str, Any]) -> str:
    found = list(_bounds(body))
    return f", {' and '.join(found)}" if found else ""


def _bounds(body: Mapping[str, Any]) -> Iterator[str]:
    for key, said in (
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("exclusiveMinimum", "over"),
        ("exclusiveMaximum", "under"),
    ):
        if key in body:
            yield f"{said} {body[key]:,}"
    if body.get("minItems"):
        yield f"at least {body['minItems']} of them" if body["minItems"] != body.get("maxItems") else "all of them"
