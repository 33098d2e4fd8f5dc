"""What all records share: frozen, strict, unknown keys refused, one canonical byte form, a schema with a major.

A record that stands alone carries ``schema``: ``changeover.<record>/<major>``. Readers take every major up to theirs
and refuse a newer one by naming what it needs. ``ext`` is the one place where unknown keys are kept and ignored.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from changeover_registry import canonical, names
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, UndecidedError

__all__ = [
    "Decimal6",
    "Digest",
    "ModelName",
    "Name",
    "Record",
    "RelativePath",
    "Text",
    "Time",
    "Unknown",
    "Unsigned6",
    "Value",
    "VersionText",
]


def _decimal_text(value: object) -> object:
    return str(value) if type(value) is int else value


def _checked(check: Callable[..., object]) -> AfterValidator:
    """A checker of `names` as a validator: its error becomes one that pydantic collects."""

    def run(text: str) -> str:
        try:
            return str(check(text, where=""))
        except ChangeoverError as error:
            message = f"expected {error.expected}"
            raise ValueError(message) from error

    return AfterValidator(run)


def _shown(pattern: str, **more: str) -> WithJsonSchema:
    """What a JSON Schema says of a text that a function of ours checks; the function may refuse more."""
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


def _moment(text: str, *, where: str) -> str:
    return format_time(parse_time(text, where=where))


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        message = "expected text without control characters"
        raise ValueError(message)
    return text


def _plain(value: object) -> object:
    """Text in NFC, the only form that records hold; people and file systems also write others."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if not isinstance(value, str) or value.isascii():
        return value
    if any("\ud800" <= character <= "\udfff" for character in value):
        message = "expected text that can be written as UTF-8"
        raise ValueError(message)
    return unicodedata.normalize("NFC", value)


def _canonical_mapping(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        canonical.dumps(cast("canonical.Json", value))
    except (TypeError, ValueError) as error:
        message = f"expected integers, text in NFC, true, false, null, lists and tables ({error})"
        raise ValueError(message) from error
    return value


_MAJOR = re.compile(r"[1-9][0-9]{0,8}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_NAME = "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
_NUMBER = "(0|[1-9][0-9]{0,8})"
ModelName = Annotated[str, _checked(names.check_model), _shown(f"^{_NAME}/{_NAME}$")]
Name = Annotated[str, _checked(names.check_name), _shown(f"^{_NAME}$")]
Digest = Annotated[str, _checked(names.check_digest), _shown("^[0-9a-f]{64}$")]
RelativePath = Annotated[str, _checked(names.check_path), _shown(r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")]
VersionText = Annotated[
    str, _checked(names.Version.parse), _shown(rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}((a|b|rc){_NUMBER})?$")
]
Time = Annotated[
    str, _checked(_moment), _shown("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", format="date-time")
]
"""UTC in RFC 3339 with seconds: ``2026-11-22T13:45:00Z``."""
_UNSIGNED = r"(0|[1-9][0-9]*)(\.[0-9]{1,9})?$"
Decimal6 = Annotated[
    str,
    BeforeValidator(_decimal_text),
    StringConstraints(pattern=f"^-?{_UNSIGNED}"),
    _shown(f"^-?{_UNSIGNED}"),
]
"""A ratio or a measured value as a decimal string; a whole number may be written without quotes."""
Unsigned6 = Annotated[
    str, BeforeValidator(_decimal_text), StringConstraints(pattern=f"^{_UNSIGNED}"), _shown(f"^{_UNSIGNED}")
]
"""As `Decimal6`, and never negative."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"\S"), AfterValidator(_printable)]
"""What people read: not empty, without control characters other than newline and tab."""


class Value(BaseModel):
    """A part of a record: frozen, strict, unknown keys refused, text in NFC."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _text_in_nfc(cls, value: object) -> object:
        return _plain(value)


class Unknown(Value):
    """A fact that could not be had, with the reason; it takes the place of the fact and satisfies no rule."""

    unknown: Text


class Record(Value):
    """A record that stands alone in a file or an envelope.

    A field that is added within a major is optional and absent by default (`... | None = None`), so that bytes written
    before keep their digest.
    """

    NAME: ClassVar[str]
    MAJOR: ClassVar[int] = 1

    ext: Annotated[dict[str, JsonValue], AfterValidator(_canonical_mapping)] = Field(default_factory=dict)

    @classmethod
    def schema_id(cls) -> str:
        """``changeover.<record>/<major>`` as this version writes it."""
        return f"changeover.{cls.NAME}/{cls.MAJOR}"

    def to_bytes(self) -> bytes:
        """The canonical bytes; their sha256 is the record's digest."""
        return canonical.dumps({"schema": self.schema_id(), **self.model_dump(mode="json", exclude_none=True)})

    def digest(self) -> str:
        """The sha256 of the canonical bytes."""
        return canonical.digest(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Read a record from canonical bytes, so that its `digest` is the sha256 of `data`.

        Raises:
            InvalidInputError: Not canonical, of another kind, or a field is missing, unknown or wrong.
            UndecidedError: Written by a newer major than this version reads.
        """
        record = cls.from_object(canonical.loads(data, where=where), where=where)
        if record.to_bytes() != data:
            raise InvalidInputError(
                "canonical record",
                where=where,
                expected="each field in its one spelling, those at their default too, and no null",
                actual="other bytes than the record's own",
                remedy="take the file again from whoever wrote it; it was edited or written by another program",
            )
        return record

    @classmethod
    def from_object(cls, value: Mapping[str, Any], *, where: str) -> Self:
        """Read a record from a parsed JSON or TOML object that holds its ``schema``.

        Raises:
            InvalidInputError: No object, of another kind, or a field is missing, unknown or wrong.
            UndecidedError: Written by a newer major than this version reads.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(
                "record",
                where=where,
                expected=f"an object with the schema {cls.schema_id()}",
                actual=_short(value),
                remedy="give the file that this command asks for",
            )
        body = dict(value)
        cls._check_schema(body.pop("schema", None), needs=body.get("needs"), where=where)
        return cls.parse(body, where=where)

    @classmethod
    def parse(cls, body: Mapping[str, Any], *, where: str) -> Self:
        """Read the fields of a record, without its ``schema``.

        Raises:
            InvalidInputError: A field is missing, unknown or wrong; the message names the first and counts the rest.
        """
        try:
            return cls.model_validate_json(json.dumps(body, default=str))
        except ValidationError as error:
            raise _invalid(error, where) from error

    @classmethod
    def _check_schema(cls, schema: object, *, needs: object, where: str) -> None:
        kind, _, major = str(schema).rpartition("/")
        if kind != f"changeover.{cls.NAME}" or _MAJOR.fullmatch(major) is None:
            raise InvalidInputError(
                "schema",
                where=where,
                expected=cls.schema_id(),
                actual="no schema" if schema is None else str(schema),
                remedy="add that line at the top" if schema is None else "give the file that this command asks for",
            )
        if int(major) > cls.MAJOR:
            raise UndecidedError(
                "schema",
                where=where,
                expected=f"at most {cls.schema_id()}",
                actual=f"{schema}, which needs changeover >= {needs or f'{major}.0'}",
                remedy="update changeover on this machine",
            )


def _invalid(error: ValidationError, where: str) -> InvalidInputError:
    first, *rest = error.errors()
    field = ".".join(str(part) for part in first["loc"] if not _KIND.match(str(part))) or "(whole record)"
    expected, actual = _expected(first)
    more = f" ({len(rest)} more in this file)" if rest else ""
    return InvalidInputError(
        "field",
        where=f"{where}: {field}",
        expected=expected,
        actual=actual + more,
        remedy="correct the field",
    )


def _expected(problem: Any) -> tuple[str, str]:  # noqa: ANN401 - pydantic's ErrorDetails is a loose mapping
    kind, given = problem["type"], problem["input"]
    if kind == "missing":
        return "this field", "nothing"
    if kind == "extra_forbidden":
        return "no such field", f"an unknown field with value {_short(given)}"
    if kind == "json_invalid":
        return "text that can be written as UTF-8", problem["ctx"]["error"]
    if kind == "string_pattern_mismatch":
        return f"text of the form {problem['ctx']['pattern']}", _short(given)
    if kind == "value_error":
        expected, _, found = problem["msg"].removeprefix("Value error, expected ").partition(", found ")
        return expected, found or _short(given)
    return _LEAD.sub("", problem["msg"]), _short(given)


_KIND = re.compile(r"constrained-|tuple\[")
"""The kinds that pydantic names beside a field which may also be unknown; whoever wrote the file knows none of them."""
_LEAD = re.compile(r"^(Input|[A-Z]\w+) should (be )?")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
