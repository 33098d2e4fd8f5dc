"""What MLflow is shown of releases, verdicts and measurements: names, tags and metrics as plain values.

MLflow's own limits are held here, apart from the calls: its names take no slash, its metrics no plus sign and on
Windows no colon, its data set digests 36 characters, a tag 5000 where PostgreSQL keeps it (what is longer is cut and
says where the whole is). Nothing in this module knows MLflow; `mlflow_adapter` carries it there. Left out: what its
pages say (`page`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from changeover_registry import canonical
from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.names import check_model, digest12
from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import MemoryMeasurement
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import PointReport, Verdict

__all__ = [
    "MetricValue",
    "memory_tags",
    "memory_values",
    "metric_values",
    "milliseconds",
    "model_of",
    "registered_name",
    "release_tags",
    "series_values",
    "verdict_tags",
]

_TAG_CHARS = 4900
"""PostgreSQL refuses a tag of more than 5000 characters of a model or a LoggedModel; SQLite takes any length."""


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One number of a verdict or a measurement: its name, its moment in milliseconds, and its golden set if any."""

    key: str
    value: float
    moment_ms: int
    dataset: str | None
    dataset_digest: str | None
    step: int = 0


def registered_name(model: str) -> str:
    """``vendor.name``: MLflow's names take no slash, and ours have no dot."""
    return model.replace("/", ".")


def model_of(name: str, said: str | None) -> str | None:
    """The model that a registered model says it is; None where that is no model's name, or another one's.

    Whoever may write in MLflow may name anything anyhow, and one such entry must not end what is asked of the others.
    """
    try:
        model = check_model(said or "", where=name)
    except ChangeoverError:
        return None
    return model if registered_name(model) == name else None


def release_tags(release: Release) -> dict[str, str]:
    """The tags of a release's version."""
    tags = {
        "changeover.model": release.model,
        "changeover.version": release.version,
        "changeover.digest": release.digest(),
        "changeover.kind": release.kind,
        "changeover.variants": ",".join(variant.id for variant in release.variants),
        "changeover.licence.weights": release.licences.weights,
        "changeover.licence.code": release.licences.code,
    }
    if release.provenance.parent_release is not None:
        tags["changeover.parent"] = release.provenance.parent_release
    if release.adopted is not None:
        tags["changeover.adopted"] = release.adopted.source
    return {key: _tag(value, "release.json") for key, value in tags.items()}


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """The tags of a verdict's run; what it is found again by is left to whoever makes the run whole."""
    name, digest = _dataset(verdict)
    tags = {
        "changeover.model": verdict.candidate.model,
        "changeover.version": verdict.candidate.version,
        "changeover.digest": verdict.candidate.digest,
        "changeover.current": str(verdict.current or "none"),
        "changeover.decision": verdict.decision,
        "changeover.reason": verdict.reason,
        "changeover.golden_set": f"{name}@{digest}" if name else "none",
        "changeover.policy": verdict.policy,
        "changeover.facts": verdict.facts,
        "changeover.host_class": verdict.host_class,
        "changeover.sandbox": verdict.sandbox,
        "changeover.signed_off_by": verdict.sign_off.name if verdict.sign_off else "nobody",
    }
    return {key: _tag(value, "the report") for key, value in tags.items()}


def metric_values(verdict: Verdict) -> tuple[MetricValue, ...]:
    """Each metric of each golden shot at each operating point, of candidate and current, and the time of a frame.

    The first operating point that was scored stands there a second time by metric and shot alone: with these names the
    runs of any two releases can be laid over each other, whatever their variants and tiles are called.
    """
    name, digest = _dataset(verdict)
    moment = milliseconds(verdict)
    found = [numbers for report in verdict.points for numbers in _numbers(report)]
    return tuple(MetricValue(key, float(text), moment, name, digest) for key, text in (*found, *_comparable(verdict)))


def series_values(verdict: Verdict, number: int) -> tuple[MetricValue, ...]:
    """The comparable numbers of a verdict as one step of a line over the versions; `number` is the version's own."""
    name, digest = _dataset(verdict)
    moment = milliseconds(verdict)
    return tuple(MetricValue(key, float(text), moment, name, digest, number) for key, text in _comparable(verdict))


def milliseconds(made: Verdict | MemoryMeasurement) -> int:
    """When a verdict or a measurement was made, as MLflow counts time."""
    return int(parse_time(made.made_at).timestamp()) * 1000


def memory_tags(model: str, version: str, measured: MemoryMeasurement) -> dict[str, str]:
    """The tags of a measurement's run: all that its bytes belong to."""
    key = measured.key
    return {
        "changeover.model": model,
        "changeover.version": version,
        "changeover.host": measured.host,
        "changeover.memory.file": key.model,
        "changeover.memory.runtime": f"{key.runtime} {key.version}",
        "changeover.memory.provider": key.provider,
        "changeover.memory.gpu": key.gpu or "none",
        "changeover.memory.driver": key.driver or "none",
        "changeover.memory.tensor": f"{key.width}x{key.height}",
        "changeover.memory.plan": canonical.dumps(
            cast("canonical.Json", key.plan.model_dump(mode="json", exclude_none=True))
        ).decode(),
    }


def memory_values(measured: MemoryMeasurement) -> tuple[MetricValue, ...]:
    """What was measured, and beside it what was predicted; what could not be had is no metric."""
    predicted, moment = measured.predicted, milliseconds(measured)
    numbers: dict[str, int | Unknown] = {
        "measured/loaded_arena_bytes": measured.loaded.arena_bytes,
        "measured/first_in_use_bytes": measured.first.in_use_bytes,
        "measured/first_arena_bytes": measured.first.arena_bytes,
        "measured/steady_in_use_bytes": measured.steady.in_use_bytes,
        "measured/steady_arena_bytes": measured.steady.arena_bytes,
        "measured/resting_bytes": measured.resting_bytes,
        "measured/process_bytes": measured.process_bytes,
        "measured/accounted_bytes": measured.accounted_bytes,
    }
    if predicted is not None:
        numbers |= {
            "predicted/steady_in_use_bytes": predicted.steady.in_use_bytes,
            "predicted/steady_arena_bytes": predicted.steady.arena_bytes,
            "predicted/range_low_bytes": predicted.range.low_bytes,
            "predicted/range_high_bytes": predicted.range.high_bytes,
            "predicted/total_bytes": predicted.total_bytes,
        }
    values = [(name, float(value)) for name, value in numbers.items() if isinstance(value, int)]
    if measured.error is not None:
        values.append(("error", float(measured.error)))
    return tuple(MetricValue(f"memory/{name}", value, moment, None, None) for name, value in values)


def _comparable(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """The candidate's numbers at the first operating point that was scored, under names that no release changes."""
    report = next((point for point in verdict.points if point.scores), None)
    if report is None:
        return
    for score in report.scores:
        yield f"{score.metric.replace(':', '.')}/{score.shot}", score.candidate
    if report.frame_us is not None:
        yield "frame_us", str(report.frame_us)


def _tag(text: str, whole: str) -> str:
    """A tag that PostgreSQL takes; one that is cut says where the whole is."""
    ending = f" ... (cut here; the whole is in {whole})"
    return text if len(text) <= _TAG_CHARS else f"{text[: _TAG_CHARS - len(ending)]}{ending}"


def _numbers(report: PointReport) -> Iterator[tuple[str, str]]:
    prefix = str(report.point).replace("+", "_")
    for score in report.scores:
        # A colon is refused by MLflow on Windows.
        key = f"{prefix}/{score.metric.replace(':', '.')}/{score.shot}"
        yield key, score.candidate
        if score.current is not None:
            yield f"{key}/current", score.current
    if report.frame_us is not None:
        yield f"{prefix}/frame_us", str(report.frame_us)


def _dataset(verdict: Verdict) -> tuple[str | None, str | None]:
    """A golden set as MLflow names it: by name, and version and digest in 36 characters."""
    used = verdict.golden_set
    return (used.name, f"{used.version}-{digest12(used.digest)}") if used else (None, None)
