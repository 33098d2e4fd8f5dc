import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import changeover_registry.records
from changeover_registry.records.base import Record
from changeover_registry.schemas import RECORDS, write_schemas

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
    subprocess.run([sys.executable, "-m", "changeover_registry.schemas", str(tmp_path)], check=True)

    assert len(list(tmp_path.iterdir())) == len(RECORDS)
