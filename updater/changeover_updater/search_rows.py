"""The rows of the search index: the typed fields of a release, what it asks of a host, what its verdicts say of memory.

All of it follows from bytes that never change (a record, a signed verdict), so a row is made once and never corrected.
A `Need` is a variant without its files: ten thousand releases have a few hundred of them, and each is judged once a
search. Left out: keeping rows (`search_index`), and answering (`search_query`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from changeover_registry import canonical
from changeover_registry.records.release import FileEntry, Release, Variant
from changeover_registry.records.verdict import PointReport, Verdict

__all__ = ["MemoryRow", "Row", "VariantRow", "VerdictRow", "needs_of", "row_of", "variant_of_need", "verdict_row"]

_SHAPE = "v"
"""What the variant of a need is called: its own name belongs to the release."""


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One variant: its name, how it is loaded, the size of all its files and of its weights in bytes, and its need."""

    id: str
    runtime: str
    precision: str
    loaders: tuple[str, ...]
    size: int
    weights: int | None
    need: str


@dataclass(frozen=True, slots=True)
class Row:
    """One release by its digest."""

    digest: str
    model: str
    version: str
    summary: str
    changes: str
    code: str
    weights: str
    training_data: str
    adopted: bool
    variants: tuple[VariantRow, ...]


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """What a verdict says an operating point takes at a plate, in bytes; `context` of it is counted once a process.

    `least` is the low end of its range; `gpu` the card that it was predicted or measured for, empty where it holds for
    any; `label` says how it is known.
    """

    variant: str
    provider: str
    tile: tuple[int, int]
    plate: tuple[int, int]
    bytes: int
    least: int
    context: int | None
    label: str
    gpu: str


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One filed verdict by the digest of its envelope: on which release, when, by which key, and its memory."""

    digest: str
    release: str
    made_at: str
    key: str
    memory: tuple[MemoryRow, ...]


def row_of(release: Release) -> Row:
    """The row of a release."""
    return Row(
        digest=release.digest(),
        model=release.model,
        version=release.version,
        summary=release.summary,
        changes=release.changes,
        code=release.licences.code,
        weights=release.licences.weights,
        training_data=release.licences.training_data,
        adopted=release.adopted is not None,
        variants=tuple(_variant(variant) for variant in release.variants),
    )


def needs_of(release: Release) -> Mapping[str, dict[str, Any]]:
    """The needs of a release's variants, by the key that its row names them with."""
    return {_key(need): need for need in map(_need, release.variants)}


def variant_of_need(need: Mapping[str, Any]) -> Variant:
    """A need as a variant that can be judged; its file stands for all that were left out."""
    file = FileEntry(path="model", size=0, sha256="0" * 64, blocks=())
    return Variant.model_validate({**need, "id": _SHAPE, "entry": "model", "files": (file,)}, strict=False)


def verdict_row(digest: str, key: str, verdict: Verdict) -> VerdictRow:
    """The row of a verdict whose signature was verified with the key of that id."""
    memory = tuple(row for report in verdict.points for row in _memory(report))
    return VerdictRow(digest, verdict.candidate.digest, verdict.made_at, key, memory)


def _variant(variant: Variant) -> VariantRow:
    size = sum({file.sha256: file.size for file in variant.files}.values())
    need = _key(_need(variant))
    loaders = tuple(variant.loaders)
    return VariantRow(
        variant.id, variant.runtime, variant.precision, loaders, size, variant.requires.weight_bytes, need
    )


def _need(variant: Variant) -> dict[str, Any]:
    return variant.model_dump(mode="json", exclude_none=True, exclude={"id", "entry", "files", "derived_from"})


def _key(need: Mapping[str, Any]) -> str:
    return canonical.digest(canonical.dumps(cast("canonical.Json", need)))[:16]


def _memory(report: PointReport) -> tuple[MemoryRow, ...]:
    point, answer = report.point, report.memory_answer
    return tuple(
        MemoryRow(
            variant=point.variant,
            provider=point.provider,
            tile=(point.tile.size, point.tile.overlap),
            plate=(found.width, found.height),
            bytes=found.bytes,
            least=found.bytes if found.low_bytes is None else found.low_bytes,
            context=answer.part("context") if answer else None,
            label=answer.label if answer else report.memory_label,
            gpu=(answer.key.gpu or "") if answer else "",
        )
        for found in report.memory
    )
