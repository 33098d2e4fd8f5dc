import hashlib
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError

texts = st.text().map(lambda text: unicodedata.normalize("NFC", text))
scalars = st.none() | st.booleans() | st.integers() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
objects = st.dictionaries(texts, values)


@settings(deadline=None)
@given(objects)
def test_what_is_written_reads_back_to_the_same_value_and_bytes(value: canonical.Json) -> None:
    data = canonical.dumps(value)

    assert canonical.loads(data, where="file") == value
    assert canonical.dumps(canonical.loads(data, where="file")) == data


@settings(deadline=None)
@given(objects.filter(bool))
def test_any_other_layout_of_the_same_object_is_refused(value: canonical.Json) -> None:
    data = json.dumps(value, indent=1).encode()

    with pytest.raises(InvalidInputError, match="canonical JSON: file"):
        canonical.loads(data, where="file")


def test_keys_are_sorted_by_code_point_and_text_is_utf8() -> None:
    assert canonical.dumps({"é": 1, "Z": 2, "a": "–"}) == '{"Z":2,"a":"–","é":1}'.encode()


@pytest.mark.parametrize(
    ("data", "actual"),
    [
        (b'{"a":1,"a":1}', "other bytes"),
        (b'{"b":1,"a":1}', "other bytes"),
        (b'{"a":1}\n', "other bytes"),
        (b'{"a": 1}', "other bytes"),
        (b'{"a":-0}', "other bytes"),
        (b'{"a":"\\u0041"}', "other bytes"),
        (b"[1]", "other bytes"),
        (b'{"a":1.0}', "the number 1.0"),
        (b'{"a":1e3}', "the number 1e3"),
        (b'{"a":NaN}', "the number NaN"),
        (b'{"a":Infinity}', "the number Infinity"),
        (b'{"a":"e\xcc\x81"}', "not in NFC"),
        (b'{"a":"\xff"}', "invalid start byte"),
        (b'\xef\xbb\xbf{"a":1}', "BOM"),
        (b'{"a":"\\ud800"}', "surrogates"),
        (b'{"a":', "line 1"),
        (b'{"a":' + b"9" * 5000 + b"}", "limit"),
        (b'{"a":' * 100_000, "recursion"),
    ],
)
def test_bytes_that_are_not_their_own_canonical_form_are_refused_with_the_reason(data: bytes, actual: str) -> None:
    with pytest.raises(InvalidInputError, match=actual) as caught:
        canonical.loads(data, where="choice-3.json")

    assert caught.value.where == "choice-3.json"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [1.0, {"a": 0.5}, [float("nan")], (1,), {1: 2}, {"a": b""}, {"a": {1, 2}}])
def test_a_value_without_a_canonical_form_cannot_be_written(value: canonical.Json) -> None:
    with pytest.raises(TypeError, match=r"no canonical form|key is not text"):
        canonical.dumps(value)


@pytest.mark.parametrize("value", ["e\u0301", {"e\u0301": 1}, ["e\u0301"], {"a": "\ud800"}])
def test_text_without_a_canonical_form_cannot_be_written(value: canonical.Json) -> None:
    with pytest.raises(ValueError, match=r"not in NFC|surrogates"):
        canonical.dumps(value)


@given(st.binary())
def test_digest_is_the_sha256_of_the_bytes(data: bytes) -> None:
    assert canonical.digest(data) == hashlib.sha256(data).hexdigest()
