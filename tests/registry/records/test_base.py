import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.base import Decimal6, Record, Text, Time, Unsigned6
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.repository import TrustEntry, VendorCard
from changeover_registry.schemas import RECORDS

Changed = Callable[..., dict[str, Any]]


class Note(Record):
    """A record of these tests alone: one field of each kind that `base` defines."""

    NAME = "note"

    text: Text = "text"
    plain: str = ""
    lines: tuple[str, ...] = ()
    number: Decimal6 = "0"
    size: Unsigned6 = "0"
    time: Time = "2026-11-22T13:45:00Z"


def read(**fields: object) -> Note:
    return Note.from_object({"schema": "changeover.note/1", **fields}, where="note.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abcé"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda text: text.strip())


@settings(deadline=None)
@given(texts, st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.text("abc"), json_values))
def test_a_record_reads_back_from_its_bytes(text: str, plain: str, ext: dict[str, Any]) -> None:
    note = Note(text=text, plain=plain, lines=(plain, text), ext=ext)

    again = Note.from_bytes(note.to_bytes(), where="note.json")

    assert again == note
    assert again.digest() == canonical.digest(note.to_bytes())


def test_text_is_kept_in_nfc_wherever_it_came_from() -> None:
    note = Note(text="Rene\u0301", plain="e\u0301", lines=("e\u0301",))

    assert (note.text, note.plain, note.lines) == ("Ren\u00e9", "\u00e9", ("\u00e9",))


def test_text_with_bytes_that_are_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="written as UTF-8"):
        read(plain="\udc80")
    with pytest.raises(ValueError, match="written as UTF-8"):
        Note(plain="\udc80")


@pytest.mark.parametrize("text", ["", " \n", "\x1b[31mred", "a\x00", "a\rb", "\x9bm", "x" * 4001])
def test_text_that_is_empty_endless_or_obeyed_by_a_terminal_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="note.json: text"):
        read(text=text)


@pytest.mark.parametrize("number", ["1.", ".5", "+1", "1e3", "01", "0.1234567891", "٣", "", "nan", 0.5, True])
def test_a_number_of_another_form_is_refused(number: object) -> None:
    with pytest.raises(InvalidInputError, match="note.json: number"):
        read(number=number)


def test_a_whole_number_may_be_written_without_quotes() -> None:
    assert read(number=-3, size=7).number == "-3"


def test_a_size_is_never_negative() -> None:
    with pytest.raises(InvalidInputError, match="note.json: size: expected text of the form"):
        read(size="-1")


def test_a_time_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="note.json: time: expected UTC in the form"):
        read(time="2026-02-30T00:00:00Z")


def test_a_date_of_a_toml_file_is_not_taken_for_a_time() -> None:
    with pytest.raises(InvalidInputError, match="note.json: time"):
        read(time=dt.date(2026, 11, 22))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.NAME)
def test_an_unknown_field_is_refused_and_named(record: type[Record], changed: Changed) -> None:
    body = changed(f"{record.NAME}-1", "colour_of_the_sky", "blue")

    with pytest.raises(InvalidInputError) as caught:
        record.from_object(body, where="a.json")

    assert str(caught.value) == (
        "field: a.json: colour_of_the_sky: expected no such field, found an unknown field with value 'blue'; "
        "correct the field"
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.NAME)
def test_a_newer_major_is_undecided_and_says_what_it_needs(record: type[Record], changed: Changed) -> None:
    body = changed(f"{record.NAME}-1", "schema", f"changeover.{record.NAME}/2")

    with pytest.raises(UndecidedError, match=r"needs changeover >= 2\.0"):
        record.from_bytes(canonical.dumps(body), where="a.json")


def test_a_newer_major_may_name_the_version_it_needs() -> None:
    body = {"schema": "changeover.note/9", "needs": "3.1", "what": "nobody knows"}

    with pytest.raises(UndecidedError, match=r"found changeover\.note/9, which needs changeover >= 3\.1; update"):
        Note.from_object(body, where="a.json")


@pytest.mark.parametrize("schema", ["changeover.vendor/1", "changeover.note", "changeover.note/x", "note/1", None, 3])
def test_another_kind_of_record_is_refused(schema: object) -> None:
    with pytest.raises(InvalidInputError, match="schema: a.json: expected changeover.note/1"):
        Note.from_object({"schema": schema}, where="a.json")


def test_major_zero_was_never_written() -> None:
    with pytest.raises(InvalidInputError, match="schema"):
        Note.from_object({"schema": "changeover.note/0"}, where="a.json")


def test_a_missing_field_is_named() -> None:
    body = {"schema": "changeover.vendor/1", "models": []}

    with pytest.raises(InvalidInputError, match="a.json: vendor: expected this field, found nothing"):
        VendorCard.from_object(body, where="a.json")


def test_a_field_of_the_wrong_type_is_named_with_what_was_found(changed: Changed) -> None:
    with pytest.raises(InvalidInputError, match=r"a\.json: allow_executable: expected a valid boolean, found 'yes'"):
        TrustEntry.from_object(changed("trust-1", "allow_executable", "yes"), where="a.json")


def test_a_deep_field_is_named_by_its_path(changed: Changed) -> None:
    with pytest.raises(InvalidInputError, match=r"a\.json: gpus.*\.0\.name"):
        HostFacts.from_object(changed("facts-1", "gpus.0.name", ""), where="a.json")


def test_several_bad_fields_are_counted() -> None:
    with pytest.raises(InvalidInputError, match=r"\(1 more in this file\)"):
        read(text="", number="x")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(number="9" * 5000 + "x")

    assert len(str(caught.value)) < 300


def test_bytes_that_spell_a_default_or_a_null_otherwise_are_refused() -> None:
    short = canonical.dumps({"schema": "changeover.vendor/1", "vendor": "acme", "ext": {}})
    null = canonical.dumps(json.loads(VendorCard(vendor="acme").to_bytes()) | {"ext": {"a": None}})

    with pytest.raises(InvalidInputError, match="canonical record: a.json"):
        VendorCard.from_bytes(short, where="a.json")
    assert VendorCard.from_bytes(null, where="a.json").ext == {"a": None}


def test_unknown_keys_are_kept_under_ext_and_nowhere_else() -> None:
    card = VendorCard(vendor="acme", ext={"acme": {"since": 1999}})

    assert VendorCard.from_bytes(card.to_bytes(), where="a.json").ext == {"acme": {"since": 1999}}


@pytest.mark.parametrize("ext", [{"a": 0.5}, {"a": [{"b": 1.0}]}, {"e\u0301": 1}])
def test_what_has_no_canonical_form_is_refused_under_ext(ext: dict[str, Any]) -> None:
    body = {"schema": "changeover.vendor/1", "vendor": "acme", "ext": ext}

    with pytest.raises(InvalidInputError, match="a.json: ext: expected integers"):
        VendorCard.from_object(body, where="a.json")


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        VendorCard(vendor="acme").vendor = "other"  # type: ignore[misc]


@pytest.mark.parametrize("value", [None, [], float("inf"), "text"])
def test_value_that_is_no_object_is_refused_and_the_file_is_named(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"note.json: expected an object with the schema changeover.note/1"):
        Note.from_object(value, where="note.json")
