"""The rules of the smaller records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Record, Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.golden import GoldenSet
from changeover_registry.records.repository import Index
from changeover_registry.records.station import Generation
from changeover_registry.records.verdict import OperatingPoint, Verdict
from changeover_registry.schemas import RECORDS

Changed = Callable[..., dict[str, Any]]
R = TypeVar("R", bound=Record)


class Sample(Protocol):
    """Reads the sample of a record."""

    def __call__(self, record: type[R]) -> R: ...


@pytest.fixture
def sample(samples: Path) -> Sample:
    def load(record: type[R]) -> R:
        return record.from_bytes((samples / f"{record.NAME}-1.json").read_bytes(), where="sample")

    return load


def test_a_published_version_is_found_in_the_index(sample: Sample) -> None:
    index = sample(Index)

    old = index.entry("4.1.0")

    assert old is not None
    assert old.withdrawn is not None
    assert old.withdrawn.why == "edges tear"
    assert index.entry("9.9.9") is None


def test_a_release_is_found_in_a_generation_by_its_key(sample: Sample) -> None:
    generation = sample(Generation)
    key = generation.releases[0].key

    assert generation.release(key) is generation.releases[0]
    assert generation.release("acme/other@1.0.0-0") is None


@pytest.mark.parametrize(("version", "line"), [("15.1v3", "15.1"), ("17.0", "17.0"), ("17.10v12", "17.10")])
def test_a_nuke_belongs_to_the_line_before_its_v(version: str, line: str) -> None:
    assert NukeInstall(version=version, torch_line="2.1.1").line == line


def test_an_operating_point_reads_as_variant_tile_and_provider(sample: Sample) -> None:
    point = sample(Verdict).points[0].point

    assert isinstance(point, OperatingPoint)
    assert str(point) == "onnx-fp16/1024+64/cuda"


@pytest.mark.parametrize(
    ("sample_name", "path", "value", "message"),
    [
        ("index-1", "releases.0.version", "4.2.0rc1", "expected each version once"),
        ("index-1", "releases.0.length", 0, "releases.0.length: expected greater than 0"),
        ("golden-set-1", "shots", "two", "shots: expected"),
        ("facts-1", "os", "amiga", "os: expected text of the form"),
        ("facts-1", "nukes.0.version", "15.1v٣", "nukes.0.version: expected text of the form"),
        ("facts-1", "cores", 1.5, "cores"),
        ("facts-1", "cores", -4, "cores: expected greater than 0"),
        ("facts-1", "ram_mib", -1, "ram_mib: expected greater than 0"),
        ("facts-1", "gpus.0.total_mib", -5, "total_mib: expected greater than 0"),
        ("facts-1", "gpus.0.reserved_mib", 99999, "reserved_mib: expected at most total_mib, which is 24564"),
        ("facts-1", "gpus.0.free_mib", 24565, "free_mib: expected at most total_mib, which is 24564"),
        ("facts-1", "gpus.0.compute_capability", "abc", "compute_capability: expected text of the form"),
        ("verdict-1", "decision", "maybe", "decision: expected 'accept', 'reject', 'inconclusive' or 'error'"),
        ("verdict-1", "findings.0.check", "mood", "findings.0.passed.check: expected"),
        ("verdict-1", "findings.0.outcome", "fine", "findings.0: expected"),
        ("verdict-1", "findings.3.rule", "because", "findings.3.not-applicable.rule: expected"),
        ("event-1", "sequence", 0, "sequence: expected greater than or equal to 1"),
        ("current-1", "generation", 0, "generation: expected greater than or equal to 1"),
        ("vendor-1", "vendor", "root", "vendor: expected 1 to 40 characters"),
        ("hold-1", "until", "2026-11-29", "until"),
        ("shot-1", "level", 6, "level: expected less than or equal to 5"),
        ("shot-1", "frames", [], "frames: expected"),
        ("status-1", "events_head", "x", "events_head"),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused_and_named(
    changed: Changed, sample_name: str, path: str, value: object, message: str
) -> None:
    record = next(record for record in RECORDS if f"{record.NAME}-1" == sample_name)

    with pytest.raises(InvalidInputError) as caught:
        record.from_object(changed(sample_name, path, value), where="a.json")

    assert message in str(caught.value)


def test_a_shot_that_occurs_twice_in_a_set_is_refused(samples: Path, changed: Changed, sample: Sample) -> None:
    shots = [shot.model_dump(mode="json") for shot in sample(GoldenSet).shots] * 2

    with pytest.raises(InvalidInputError, match="expected each shot once"):
        GoldenSet.from_object(changed("golden-set-1", "shots", shots), where="set.json")


def test_a_fact_may_be_unknown_only_with_its_reason(changed: Changed) -> None:
    facts = HostFacts.from_object(changed("facts-1", "ram_mib", {"unknown": "no permission"}), where="facts.json")

    assert facts.ram_mib == Unknown(unknown="no permission")
    with pytest.raises(InvalidInputError, match="ram_mib"):
        HostFacts.from_object(changed("facts-1", "ram_mib", {"unknown": ""}), where="facts.json")
