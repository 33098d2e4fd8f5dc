import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from changeover_registry.bom import make_bom, validate_bom
from changeover_registry.errors import InvalidInputError
from changeover_registry.records.release import Release

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
