"""A report as canonical JSON: everything that the page shows but the pixels, for whoever writes a page of their own."""

from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from changeover_registry import canonical
from changeover_validators.golden.report.model import Report

__all__ = ["SCHEMA", "render_json"]

SCHEMA = "changeover.report/1"


def render_json(report: Report) -> bytes:
    """The report in one canonical byte form; numbers are decimal strings, pictures are named by their sha256."""
    return canonical.dumps({"schema": SCHEMA, **_plain(report)})


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a report, as JSON
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: _plain(part) for name, part in parts if part is not None}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
