import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import changeover_registry.records
from changeover_registry import canonical
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.base import Record
from changeover_registry.records.repository import Index
from changeover_registry.schemas import RECORDS, schema, schema_page, write_schemas

PUBLISHED = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def test_the_published_schemas_are_those_of_the_records(tmp_path: Path) -> None:
    written = {path.name: path.read_bytes() for path in write_schemas(tmp_path / "schemas")}

    assert {path.name: path.read_bytes() for path in PUBLISHED.iterdir()} == written, "run `make reference`"


def test_every_record_has_a_schema() -> None:
    for module in pkgutil.iter_modules(changeover_registry.records.__path__):
        importlib.import_module(f"changeover_registry.records.{module.name}")

    ours = {record for record in Record.__subclasses__() if record.__module__.startswith("changeover_registry.")}
    assert ours == set(RECORDS)


def test_no_two_records_share_a_name() -> None:
    assert len({record.NAME for record in RECORDS}) == len(RECORDS)


def test_the_schemas_are_written_by_one_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "changeover_registry.schemas",
        str(tmp_path / "schemas"),
        str(tmp_path / "page.md"),
    ]
    subprocess.run(command, check=True)

    assert len(list((tmp_path / "schemas").iterdir())) == len(RECORDS)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == schema_page()


def test_the_page_that_explains_them_is_that_of_the_records() -> None:
    assert PUBLISHED.with_name("record-fields.md").read_text(encoding="utf-8") == schema_page(), "run `make reference`"


def test_every_record_is_explained_and_has_its_place_in_the_table_of_records() -> None:
    table = PUBLISHED.with_name("records.md").read_text(encoding="utf-8")

    for record in RECORDS:
        assert f"(schemas/{record.NAME}-{record.MAJOR}.json)" in table, record.NAME
        assert schema(record)["description"], record.NAME


def test_every_part_that_the_page_links_to_is_on_it() -> None:
    text = schema_page()

    linked, headings = set(re.findall(r"\]\(#([a-z0-9]+)\)", text)), re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert linked <= {heading.lower() for heading in headings}
    assert len({heading.lower() for heading in headings}) == len(headings)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "0" * 63),
        ("sha256", "A" * 64),
        ("when", "2026-11-22 13:45:00"),
        ("version", "1.0"),
        ("version", "v1.0.0"),
        ("name", "-acme"),
    ],
)
def test_a_schema_refuses_a_text_that_the_record_refuses(field: str, value: str) -> None:
    """Other programs check with the schema alone: what an index holds, each wrong in one place."""
    entry: dict[str, Any] = {"version": "1.0.0", "record": "0" * 64, "length": 1}
    entry |= {"withdrawn": {"why": "it flickers", "when": "2026-11-22T13:45:00Z"}}
    entry |= {"documents": [{"name": "README.md", "sha256": "0" * 64, "length": 1}]}
    made = Index.parse({"vendor": "acme", "name": "person-roto", "releases": [entry]}, where="index")
    body = json.loads(made.to_bytes())
    check = jsonschema.Draft202012Validator(schema(Index)).is_valid
    assert check(body)

    release = body["releases"][0]
    place = {"sha256": release["documents"][0], "when": release["withdrawn"], "version": release, "name": body}[field]
    place[field] = value

    assert not check(body)
    with pytest.raises(ChangeoverError):
        Index.from_bytes(canonical.dumps(body), where="index")
