import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from changeover_registry.bom import Results, make_bom, validate_bom
from changeover_registry.errors import InvalidInputError
from changeover_registry.records.release import Adopted, Provenance, Release
from changeover_registry.records.verdict import Verdict

pytest.importorskip("cyclonedx", reason="the extra mlflow is not installed")

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
DIGEST = hashlib.sha256(b"weights").hexdigest()


def release(weights_licence: str = "CC-BY-4.0") -> Release:
    contract = {
        "evaluation": "stateless",
        "inputs": [{"name": "x", "port": "plate", "channels": ["red"]}],
        "output": {"name": "y", "port": "matte"},
        "colour": "srgb",
    }
    variant = {
        "id": "onnx-fp32",
        "runtime": "onnx",
        "precision": "fp32",
        "loaders": ["python"],
        "entry": "model.onnx",
        "files": [{"path": "model.onnx", "size": 7, "sha256": DIGEST, "blocks": [DIGEST]}],
        "contract": contract,
        "requires": {},
    }
    body = {
        "model": "acme/person-roto",
        "version": "1.0.0",
        "summary": "Mattes of persons, größer.",
        "changes": "First release.",
        "licences": {"code": "MIT", "weights": weights_licence, "training_data": "none"},
        "interface": {
            "inputs": [{"name": "plate", "channels": ["red"], "colour": "scene-linear"}],
            "outputs": [{"name": "matte", "channels": ["alpha"], "colour": "raw"}],
        },
        "variants": [variant],
    }
    return Release.parse(body, where="release")


def test_bill_names_the_model_and_every_file_by_its_digest() -> None:
    made = release()

    bill = json.loads(make_bom(made, NOW))

    model = bill["metadata"]["component"]
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.7")
    assert bill["metadata"]["timestamp"].startswith("2026-11-22T13:45:00")
    assert model["type"] == "machine-learning-model"
    assert (model["group"], model["name"], model["version"]) == ("acme", "person-roto", "1.0.0")
    assert model["hashes"] == [{"alg": "SHA-256", "content": made.digest()}]
    assert model["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]
    assert [(file["name"], file["hashes"][0]["content"]) for file in model["components"]] == [
        ("onnx-fp32/model.onnx", DIGEST)
    ]
    assert model["modelCard"]["modelParameters"]["inputs"] == [{"format": "image (red; scene-linear)"}]


def verdict(made: Release) -> Verdict:
    """A verdict on two shots at one operating point; one-sided bounds where a third shot would have given them."""
    point = {"variant": "onnx-fp32", "precision": "fp32", "tile": {"size": 0}, "provider": "cpu"}
    report = {
        "point": point,
        "golden_class": DIGEST,
        "memory": [{"width": 4096, "height": 2160, "bytes": 1234}],
        "scores": [
            {"shot": "shot-a", "metric": "jaccard", "frames": 3, "candidate": "0.9", "current": "0.875"},
            {"shot": "shot-b", "metric": "jaccard", "frames": 3, "candidate": "0.75"},
        ],
        "metrics": [
            {"metric": "jaccard", "shots": 2, "margin": "0.01", "mean": "0.025", "lower": "0.01", "upper": "0.04"},
            {"metric": "mad", "shots": 2, "margin": "0.005", "mean": "0.001"},
        ],
        "speeds": [{"width": 256, "height": 144, "frames": 5, "candidate_us": 812}],
    }
    body = {
        "candidate": made.ref().model_dump(),
        "decision": "accept",
        "reason": "as good",
        "made_at": "2026-11-22T13:00:00Z",
        "made_by": "td@vm1",
        "host": "vm1",
        "host_class": DIGEST,
        "facts": DIGEST,
        "policy": DIGEST,
        "sandbox": "bubblewrap",
        "golden_set": {"name": "hero", "version": 3, "digest": DIGEST},
        "findings": [],
        "points": [report],
    }
    return Verdict.parse(body, where="verdict")


def test_a_verdicts_results_are_performance_metrics_by_the_alias_of_each_shot() -> None:
    made = release()

    bill = json.loads(make_bom(made, NOW, Results(verdict(made), "e" * 64)))

    card = bill["metadata"]["component"]["modelCard"]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    at = "at onnx-fp32/none/cpu"
    assert metrics == [
        {"type": f"jaccard {at}", "value": "0.9", "slice": "shot-a"},
        {"type": f"jaccard of the current release {at}", "value": "0.875", "slice": "shot-a"},
        {"type": f"jaccard {at}", "value": "0.75", "slice": "shot-b"},
        {
            "type": f"gain in jaccard {at}",
            "value": "0.025",
            "slice": "all 2 shots of hero",
            "confidenceInterval": {"lowerBound": "0.01", "upperBound": "0.04"},
        },
        {"type": f"gain in mad {at}", "value": "0.001", "slice": "all 2 shots of hero"},
        {"type": f"microseconds a frame {at}", "value": "812", "slice": "256x144"},
    ]
    facts = {one["name"]: one["value"] for one in card["properties"]}
    assert facts["changeover:verdict.envelope"] == "e" * 64
    assert facts["changeover:verdict.golden-set"] == f"hero 3 sha256 {DIGEST}"
    assert facts[f"changeover:vram.modelled-bytes {at} 4096x2160"] == "1234"


def test_a_bill_with_results_is_another_document_than_the_vendors() -> None:
    made = release()

    bills = [json.loads(make_bom(made, NOW, found)) for found in (None, Results(verdict(made), "e" * 64))]

    assert bills[0]["serialNumber"] != bills[1]["serialNumber"]
    assert "quantitativeAnalysis" not in bills[0]["metadata"]["component"]["modelCard"]


@pytest.mark.parametrize(
    ("version", "kind"), [("1.0.0", "major"), ("1.1.0", "minor"), ("1.1.1", "patch"), ("2.0.0rc1", "pre-release")]
)
def test_what_changed_and_where_it_comes_from_is_told(version: str, kind: str) -> None:
    provenance = Provenance(parent_release="acme/person-roto@0.9.0", source_revision="abc123")
    made = release().model_copy(update={"version": version, "provenance": provenance})

    model = json.loads(make_bom(made, NOW))["metadata"]["component"]

    assert model["releaseNotes"] == {"type": kind, "description": "First release."}
    (ancestor,) = model["pedigree"]["ancestors"]
    assert (ancestor["name"], ancestor["version"]) == ("acme/person-roto", "0.9.0")
    facts = {one["name"]: one["value"] for one in model["properties"]}
    assert facts["changeover:provenance.source-revision"] == "abc123"


def test_an_adopted_release_says_what_nobody_knows_of_it() -> None:
    adopted = Adopted(source="/jobs/old/EdgeRoto.cat", unknown=("licences.weights", "contract"))
    made = release().model_copy(update={"adopted": adopted})

    facts = {
        one["name"]: one["value"] for one in json.loads(make_bom(made, NOW))["metadata"]["component"]["properties"]
    }

    assert facts["changeover:adopted.source"] == "/jobs/old/EdgeRoto.cat"
    assert facts["changeover:adopted.unknown"] == "licences.weights, contract"


def test_same_release_at_the_same_time_gives_the_same_bill() -> None:
    assert make_bom(release(), NOW) == make_bom(release(), NOW)


@pytest.mark.parametrize("licence", ["LicenseRef-acme-commercial", "MIT OR Apache-2.0", "our own terms"])
def test_licences_that_are_no_single_identifier_are_valid_too(licence: str) -> None:
    bill = json.loads(make_bom(release(licence), NOW))

    assert licence in json.dumps(bill["metadata"]["component"]["licenses"])


def test_bill_with_a_field_that_the_schema_lacks_is_refused() -> None:
    bill = json.loads(make_bom(release(), NOW))
    bill["metadata"]["component"]["vram"] = 12

    with pytest.raises(InvalidInputError, match="vram"):
        validate_bom(json.dumps(bill).encode(), where="bom.cdx.json")


def test_without_the_library_the_line_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(release().to_bytes())
    program = (
        "import sys; sys.modules['cyclonedx'] = None\n"
        "from datetime import UTC, datetime; from pathlib import Path\n"
        "from changeover_registry.bom import make_bom\n"
        "from changeover_registry.errors import UndecidedError\n"
        "from changeover_registry.records.release import Release\n"
        "release = Release.from_bytes(Path(sys.argv[1]).read_bytes(), where='release.json')\n"
        "try:\n    make_bom(release, datetime.now(UTC))\n"
        "except UndecidedError as error:\n    print(error)\n"
    )

    command = [sys.executable, "-c", program, str(tmp_path / "release.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "changeover[mlflow]" in ended.stdout
