"""The bill of materials of a release: CycloneDX 1.7 with the model as its subject and every file by its digest.

The official library makes and validates it. It has no class for a model card, so the card is added to the JSON before
the official schema judges the whole. The bill repeats what the release record says in a form that other tools read; it
decides nothing and is no part of a release's digest. The vendor's bill has no scores; a studio's own has those of one
of its verdicts.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from changeover_registry._bom_card import Results, model_card
from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.names import Version
from changeover_registry.records.release import FileEntry, Release, Variant

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, Pedigree

__all__ = ["BOM_NAME", "Results", "make_bom", "validate_bom"]

BOM_NAME = "bom.cdx.json"
"""The name of the bill beside ``release.json``."""

_NAMESPACE = uuid.UUID("b3a6f3a4-6e1c-5d0c-9f5e-0c7a1f1f7d11")


def make_bom(release: Release, now: datetime, results: Results | None = None) -> bytes:
    """The bill of materials of `release` as indented JSON.

    Args:
        release: The release.
        now: The time of making, aware.
        results: What a studio found; its shots go by their aliases.

    Raises:
        InvalidInputError: The official schema refuses what the release says, such as a text it does not take.
        UndecidedError: The official library is not installed.
    """
    try:
        from cyclonedx.output.json import JsonV1Dot7
    except ImportError as error:
        raise _not_installed(error) from error
    body = json.loads(JsonV1Dot7(_bom(release, now, results)).output_as_string())
    body["metadata"]["component"]["modelCard"] = model_card(release, results)
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


def _bom(release: Release, now: datetime, results: Results | None) -> "Bom":
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.dependency import Dependency

    model = _model(release)
    files = [component.bom_ref for component in model.components]
    return Bom(
        serial_number=uuid.uuid5(_NAMESPACE, release.digest() + (results.envelope if results else "")),
        metadata=BomMetaData(component=model, timestamp=now),
        dependencies=[Dependency(model.bom_ref, dependencies=[Dependency(ref) for ref in files])],
    )


def _model(release: Release) -> "Component":
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from cyclonedx.model.release_note import ReleaseNotes

    vendor, _, name = release.model.partition("/")
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=str(release.ref()),
        group=vendor,
        name=name,
        version=release.version,
        description=release.summary,
        supplier=OrganizationalEntity(name=vendor),
        licenses=[LicenseFactory().make_from_string(release.licences.weights)],
        hashes=_hashes(release.digest()),
        properties=_properties(dict(_facts(release))),
        release_notes=ReleaseNotes(type=_kind_of_change(release.version), description=release.changes),
        pedigree=_pedigree(release),
        components=[_file(variant, file) for variant in release.variants for file in variant.files],
    )


def _facts(release: Release) -> Iterator[tuple[str, str]]:
    """What the schema has no field for, by name."""
    licences, adopted = release.licences, release.adopted
    yield from (("kind", release.kind), ("licence.code", licences.code))
    yield "licence.training-data", licences.training_data
    for name, value in release.provenance.model_dump(exclude_none=True).items():
        yield f"provenance.{name.replace('_', '-')}", value
    if adopted is not None:
        yield "adopted.source", adopted.source
        yield "adopted.unknown", ", ".join(adopted.unknown) or "nothing"


def _kind_of_change(version: str) -> str:
    """What CycloneDX calls a release: a major, minor or patch one, or one before a release."""
    parsed = Version.parse(version)
    if parsed.stage:
        return "pre-release"
    return "patch" if parsed.patch else "minor" if parsed.minor else "major"


def _pedigree(release: Release) -> "Pedigree | None":
    """The release that this one descends from, as its vendor names it."""
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    parent = release.provenance.parent_release
    if parent is None:
        return None
    name, _, version = parent.partition("@")
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, name=name, version=version or None, bom_ref=f"ancestor:{parent}"
    )
    return Pedigree(ancestors=[model])


def _file(variant: Variant, file: FileEntry) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    facts = {"runtime": variant.runtime, "precision": variant.precision, "bytes": str(file.size)}
    if file.path == variant.entry:
        needs = variant.requires.model_dump(mode="json", exclude_none=True)
        facts |= {f"requires.{name.replace('_', '-')}": _said(value) for name, value in needs.items() if value != []}
    return Component(
        type=ComponentType.FILE,
        bom_ref=f"{variant.id}/{file.path}",
        name=f"{variant.id}/{file.path}",
        hashes=_hashes(file.sha256),
        properties=_properties(facts),
    )


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _properties(facts: Mapping[str, str]) -> "list[Property]":
    from cyclonedx.model import Property

    return [Property(name=f"changeover:{name}", value=value) for name, value in facts.items()]


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
