"""The bill of materials of a release: CycloneDX 1.7 with the model as its subject and every file by its digest.

The official library makes and validates it. It has no class for a model card, so the card is added to the JSON before
the official schema judges the whole. The bill repeats what the release record says in a form that other tools read; it
decides nothing and is no part of a release's digest. Left out: scores, which belong to a studio's verdicts.
"""

import json
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.release import FileEntry, Interface, Release, Variant

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

__all__ = ["BOM_NAME", "make_bom", "validate_bom"]

BOM_NAME = "bom.cdx.json"
"""The name of the bill beside ``release.json``."""

_NAMESPACE = uuid.UUID("b3a6f3a4-6e1c-5d0c-9f5e-0c7a1f1f7d11")


def make_bom(release: Release, now: datetime) -> bytes:
    """The bill of materials of `release` as indented JSON.

    Args:
        release: The release.
        now: The time of making, aware.

    Raises:
        InvalidInputError: The official schema refuses what the release says, such as a text it does not take.
        UndecidedError: The official library is not installed.
    """
    try:
        from cyclonedx.output.json import JsonV1Dot7
    except ImportError as error:
        raise _not_installed(error) from error
    body = json.loads(JsonV1Dot7(_bom(release, now)).output_as_string())
    body["metadata"]["component"]["modelCard"] = _card(release.interface)
    data = json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    validate_bom(data, where=f"{release.model}@{release.version}")
    return data


def validate_bom(data: bytes, *, where: str) -> None:
    """Hold a bill against CycloneDX's own schema 1.7, strictly.

    Raises:
        InvalidInputError: It is not valid.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_7).validate_str(data.decode("utf-8"))
    if problem is not None:
        line = next(iter(str(getattr(problem.data, "message", problem.data)).splitlines()), "not valid")
        raise InvalidInputError(
            "bill of materials",
            where=where,
            expected="what the CycloneDX 1.7 schema takes",
            actual=line[:200],
            remedy="correct the field of release.toml that holds it",
        )


def _bom(release: Release, now: datetime) -> "Bom":
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.dependency import Dependency

    model = _model(release)
    files = [component.bom_ref for component in model.components]
    return Bom(
        serial_number=uuid.uuid5(_NAMESPACE, release.digest()),
        metadata=BomMetaData(component=model, timestamp=now),
        dependencies=[Dependency(model.bom_ref, dependencies=[Dependency(ref) for ref in files])],
    )


def _model(release: Release) -> "Component":
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity

    vendor, _, name = release.model.partition("/")
    licences = release.licences
    facts = {"kind": release.kind, "licence.code": licences.code, "licence.training-data": licences.training_data}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=str(release.ref()),
        group=vendor,
        name=name,
        version=release.version,
        description=release.summary,
        supplier=OrganizationalEntity(name=vendor),
        licenses=[LicenseFactory().make_from_string(licences.weights)],
        hashes=_hashes(release.digest()),
        properties=[Property(name=f"changeover:{key}", value=value) for key, value in facts.items()],
        components=[_file(variant, file) for variant in release.variants for file in variant.files],
    )


def _file(variant: Variant, file: FileEntry) -> "Component":
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    facts = {"runtime": variant.runtime, "precision": variant.precision, "bytes": str(file.size)}
    return Component(
        type=ComponentType.FILE,
        bom_ref=f"{variant.id}/{file.path}",
        name=f"{variant.id}/{file.path}",
        hashes=_hashes(file.sha256),
        properties=[Property(name=f"changeover:{key}", value=value) for key, value in facts.items()],
    )


def _not_installed(error: ImportError) -> UndecidedError:
    return UndecidedError(
        "bill of materials",
        where=BOM_NAME,
        expected="the package cyclonedx-python-lib in this environment",
        actual=str(error),
        remedy="install it with: pip install 'changeover[mlflow]'",
    )


def _hashes(sha256: str) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _card(interface: Interface) -> dict[str, Any]:
    """What goes in and comes out, as the schema's model card says it."""
    return {
        "modelParameters": {
            "task": "image-matting",
            "inputs": [{"format": _port(port.channels, port.colour)} for port in interface.inputs],
            "outputs": [{"format": _port(port.channels, port.colour)} for port in interface.outputs],
        }
    }


def _port(channels: tuple[str, ...], colour: str) -> str:
    return f"image ({', '.join(channels)}; {colour})"
