import hashlib
import json
from pathlib import Path

import jsonschema
import pytest

from changeover_registry.records.base import Record
from changeover_registry.schemas import RECORDS, schema

records = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.NAME)


@records
def test_the_sample_of_a_format_reads_back_with_its_digest(record: type[Record], samples: Path) -> None:
    for major in range(1, record.MAJOR + 1):
        data = (samples / f"{record.NAME}-{major}.json").read_bytes()

        value = record.from_bytes(data, where="sample")

        assert value.to_bytes() == data
        assert value.digest() == hashlib.sha256(data).hexdigest()


@records
def test_the_sample_agrees_with_the_published_schema(record: type[Record], samples: Path) -> None:
    body = json.loads((samples / f"{record.NAME}-{record.MAJOR}.json").read_bytes())

    jsonschema.Draft202012Validator(schema(record)).validate(body)


def test_no_sample_is_left_without_a_record(samples: Path) -> None:
    known = {f"{record.NAME}-{major}.json" for record in RECORDS for major in range(1, record.MAJOR + 1)}

    assert {path.name for path in samples.glob("*.json")} == known
