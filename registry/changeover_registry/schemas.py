"""The JSON Schema of every record, generated from the records themselves.

``python -m changeover_registry.schemas DIR PAGE`` writes one file a record, and a page that explains all of them field
by field; a test holds ``docs/reference`` to both.
What a schema cannot say (that two names differ, that a show speaks for itself alone) stands in the records' validators.
"""

import json
import sys
from pathlib import Path
from typing import Any

from changeover_registry._schema_page import page
from changeover_registry.records.base import Record
from changeover_registry.records.bundle import Bundle, Clearance, Received
from changeover_registry.records.choice import Back, Choice, Pending
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.farm import FarmLock
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.hook import HookEvent
from changeover_registry.records.key import KeyRecord
from changeover_registry.records.memory import Calibration, MemoryAnswer, MemoryMeasurement
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release
from changeover_registry.records.repository import Index, TrustEntry, VendorCard
from changeover_registry.records.scores import NoiseRecord, ScoreTask, ShotScores, ShotTimes
from changeover_registry.records.show import ClosedShow
from changeover_registry.records.station import Current, Event, Generation, Hold, Lease, Quarantine, StationStatus
from changeover_registry.records.vendor_change import VendorChange
from changeover_registry.records.verdict import Verdict

__all__ = ["RECORDS", "schema", "schema_page", "write_schemas"]

RECORDS: tuple[type[Record], ...] = (
    Back,
    Bundle,
    Calibration,
    Choice,
    ClosedShow,
    Clearance,
    Current,
    Event,
    FarmLock,
    Generation,
    GoldenSet,
    GoldenShot,
    Hold,
    HookEvent,
    HostFacts,
    Index,
    KeyRecord,
    Lease,
    MemoryAnswer,
    MemoryMeasurement,
    NoiseRecord,
    Pending,
    Policy,
    Quarantine,
    Received,
    Release,
    ScoreTask,
    ShotScores,
    ShotTimes,
    StationStatus,
    TrustEntry,
    VendorCard,
    VendorChange,
    Verdict,
)
"""Every record that stands alone in a file or an envelope."""


def schema(record: type[Record]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record as it stands in a file, with its ``schema`` member."""
    body = record.model_json_schema(mode="validation")
    properties = {"schema": {"const": record.schema_id()}, **body.pop("properties")}
    required = ["schema", *body.pop("required", [])]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": record.schema_id()}
    return {**body, **head, "properties": properties, "required": required}


def write_schemas(folder: Path) -> tuple[Path, ...]:
    """Write ``<record>-<major>.json`` for every record into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for record in RECORDS:
        path = folder / f"{record.NAME}-{record.MAJOR}.json"
        text = json.dumps(schema(record), indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
        paths.append(path)
    return tuple(paths)


def schema_page() -> str:
    """All records field by field, as Markdown."""
    return page({f"{record.NAME}-{record.MAJOR}": schema(record) for record in RECORDS})


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(schema_page(), encoding="utf-8", newline="\n")
