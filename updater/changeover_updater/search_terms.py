"""What ``--fits`` says, as a value: ``gpu=RTX A4000,vram<=8GiB,nuke=15.1``. Pure.

A closed list of fields, each with the comparisons that make sense of it; whatever else is written is refused with what
may be. Left out: what the fields are compared with (`search_query`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from changeover_registry.errors import InvalidInputError

__all__ = ["NO_TERMS", "Terms", "parse_terms"]

_TERM = re.compile(r"\s*([a-z]+)\s*(<=|<|=)\s*(.*?)\s*", re.DOTALL)
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([KMGT]i?B|B)?", re.IGNORECASE)
_UNITS = {"b": 1, **{f"{unit}ib": 1 << (10 * power) for power, unit in enumerate("kmgt", 1)}}
_UNITS |= {f"{unit}b": 1000**power for power, unit in enumerate("kmgt", 1)}
_MIB = 1 << 20
_NUKE = re.compile(r"[0-9]{1,3}\.[0-9]{1,2}(v[0-9]{1,3})?")
_ONE_OF = {
    "loader": ("nuke-inference", "mlserver", "flame", "python"),
    "runtime": ("onnx", "torchscript", "nuke-cat"),
    "precision": ("fp32", "fp16"),
}
_HELP = "gpu=NAME, nuke=15.1, vram<=8GiB, size<=500MB, loader=, runtime=, precision="


@dataclass(frozen=True, slots=True)
class Terms:
    """What one operating point of one variant has to satisfy, all of it together. Sizes in bytes, inclusive."""

    gpu: str | None = None
    nuke: str | None = None
    vram: int | None = None
    size: int | None = None
    loader: str | None = None
    runtime: str | None = None
    precision: str | None = None


NO_TERMS = Terms()


def parse_terms(texts: Iterable[str]) -> Terms:
    """The terms of every ``--fits``, which hold together.

    Raises:
        InvalidInputError: A field is unknown or said twice, or its comparison or value cannot be read.
    """
    terms = NO_TERMS
    for text in texts:
        for part in text.split(","):
            terms = _with(terms, part)
    return terms


def _with(terms: Terms, part: str) -> Terms:
    match = _TERM.fullmatch(part)
    if match is None or match[1] not in Terms.__dataclass_fields__:
        raise _refused(part, _HELP)
    field, sign, value = match.groups()
    if getattr(terms, field) is not None:
        raise _refused(part, f"{field} once")
    if field in {"vram", "size"}:
        if sign == "=":
            raise _refused(part, f"{field}<=SIZE")
        most = _size(part, value) - (sign == "<")
        return replace(terms, vram=most) if field == "vram" else replace(terms, size=most)
    if sign != "=":
        raise _refused(part, f"{field}=VALUE")
    known = _ONE_OF.get(field)
    if not value or (known is not None and value not in known):
        raise _refused(part, f"{field}= one of {', '.join(known)}" if known else f"{field}=VALUE")
    if field == "nuke" and _NUKE.fullmatch(value) is None:
        raise _refused(part, "a version of Nuke, such as nuke=15.1")
    said: dict[str, Any] = {field: value}
    return replace(terms, **said)


def _size(part: str, value: str) -> int:
    """Bytes; a number without a unit is MiB, as everywhere in a policy."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise _refused(part, "a size such as 8GiB, 500MB, or 8192 (MiB)")
    unit = _UNITS[match[2].lower()] if match[2] else _MIB
    return int(Decimal(match[1]) * unit)


def _refused(part: str, expected: str) -> InvalidInputError:
    return InvalidInputError(
        "search", where="--fits", expected=expected, actual=repr(part.strip()), remedy="correct that term"
    )
