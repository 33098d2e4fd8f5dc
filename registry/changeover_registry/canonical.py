"""Canonical JSON: the one byte form of everything that is signed or digested.

Rules: UTF-8, keys sorted by code point, separators ``,`` and ``:``, no floats (integers carry their unit in the name,
ratios are decimal strings), text in NFC, no trailing newline. The digest of a value is the sha256 of its stored bytes.
`loads` refuses bytes that do not re-encode to themselves, so a value has exactly one spelling.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from changeover_registry.errors import InvalidInputError

__all__ = ["Json", "digest", "dumps", "loads"]

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"


def digest(data: bytes) -> str:
    """The sha256 of `data` as 64 lower-case hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def dumps(value: Json) -> bytes:
    """Encode `value` canonically.

    Raises:
        TypeError: `value` holds a float or something that JSON lacks.
        ValueError: A text is not in NFC.
    """
    _check(value)
    return _encode(value)


def loads(data: bytes, *, where: str) -> dict[str, Any]:
    """Decode a canonical object.

    Args:
        data: The stored bytes.
        where: The file or address that the bytes came from, for the message.

    Raises:
        InvalidInputError: `data` is not an object in canonical form.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
        # What the parser gave has no floats and no other types; text in ASCII is in NFC.
        encode = _encode if data.isascii() and b"\\u" not in data else dumps
        canonical = isinstance(value, dict) and encode(value) == data
    except (ValueError, TypeError, RecursionError) as error:
        raise _invalid(where, str(error)) from error
    if not canonical:
        raise _invalid(where, "other bytes than its own canonical form")
    result: dict[str, Any] = value
    return result


def _encode(value: Json) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _invalid(where: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "canonical JSON",
        where=where,
        expected="one JSON object in canonical form (sorted keys, no spaces, no floats, NFC)",
        actual=actual,
        remedy="take the file again from whoever wrote it; it was cut or edited",
    )


def _no_float(text: str) -> None:
    message = f"the number {text}, which is not an integer"
    raise ValueError(message)


def _check(value: object) -> None:
    if isinstance(value, str):
        if not (value.isascii() or unicodedata.is_normalized("NFC", value)):
            message = f"text not in NFC: {value[:60]!r}"
            raise ValueError(message)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                message = f"key is not text: {key!r}"
                raise TypeError(message)
            _check(key)
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif value is not None and not isinstance(value, (bool, int)):
        message = f"{type(value).__name__} has no canonical form: {repr(value)[:60]}"
        raise TypeError(message)
