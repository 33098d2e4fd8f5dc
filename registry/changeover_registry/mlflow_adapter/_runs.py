"""Verdicts and measurements as MLflow's runs, and one run for each golden set that goes on over the versions.

A run is found again by a tag that comes last, so that a killed copy is made anew. Left out: which numbers and tags
these are (`view`), and the signed records themselves, which lie in the site.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_registry.mlflow_adapter._entries import Registered, find
from changeover_registry.mlflow_adapter._holders import as_files
from changeover_registry.mlflow_adapter.view import (
    MetricValue,
    metric_values,
    milliseconds,
    series_values,
    verdict_tags,
)
from changeover_registry.names import digest12
from changeover_registry.records.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["ENVELOPE", "Run", "candidate_of", "found_run", "keep", "keep_series", "verdict_run"]

ENVELOPE = "changeover.envelope"
"""The tag by which a verdict's run is found again."""

_SERIES = "changeover.series"
_BATCH = 500
"""MLflow takes at most 1000 metrics at once, and at most a million bytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is to hold."""

    name: str
    moment_ms: int
    tags: Mapping[str, str]
    values: tuple[MetricValue, ...]
    documents: Mapping[str, bytes]


def found_run(client: "MlflowClient", experiment: str, tag: str, value: str) -> str | None:
    """The run that has this tag; of several the oldest."""
    order = ["attributes.start_time ASC"]
    known = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=order)
    return str(known[0].info.run_id) if known else None


def candidate_of(client: "MlflowClient", verdict: Verdict) -> Registered | None:
    """The verdict's candidate as MLflow has it; None where it has none of that digest."""
    known = find(client, verdict.candidate.model, verdict.candidate.version)
    return known if known and known.digest == verdict.candidate.digest else None


def verdict_run(verdict: Verdict, documents: Mapping[str, bytes]) -> Run:
    """What a verdict's run holds."""
    name = f"{verdict.candidate.version}-{digest12(verdict.candidate.digest)} {verdict.decision}"
    return Run(name, milliseconds(verdict), verdict_tags(verdict), metric_values(verdict), documents)


def keep(
    client: "MlflowClient",
    experiment: str,
    run: Run,
    holder: str | None,
    last: tuple[str, str],
    before_last: Callable[[str], None] = lambda _: None,
) -> str:
    """Make a run whole; returns its id.

    Args:
        client: MLflow.
        experiment: Where it belongs.
        run: What it holds.
        holder: The LoggedModel that its metrics belong to, if any.
        last: The tag by which it is found again, set once all else is there.
        before_last: Called with its id before that tag is set.
    """
    from mlflow.entities import RunTag

    made = str(client.create_run(experiment, start_time=run.moment_ms, run_name=run.name).info.run_id)
    client.log_batch(made, tags=[RunTag(key, value) for key, value in run.tags.items()])
    _log(client, made, run.values, holder)
    with as_files(run.documents) as paths:
        for path, local in paths.items():
            client.log_artifact(made, str(local), path.rpartition("/")[0] or None)
    before_last(made)
    client.set_tag(made, *last)
    client.set_terminated(made, end_time=run.moment_ms)
    return made


def keep_series(client: "MlflowClient", experiment: str, verdict: Verdict, candidate: Registered) -> None:
    """Go on with the golden set's run over the versions: one line for each metric of each shot, by MLflow's number."""
    from mlflow.entities import RunTag

    values = series_values(verdict, candidate.number)
    if verdict.golden_set is None or not values:
        return
    name = verdict.golden_set.name
    run = found_run(client, experiment, _SERIES, name)
    if run is None:
        made = client.create_run(experiment, start_time=milliseconds(verdict), run_name=f"{name} over the versions")
        run = str(made.info.run_id)
        client.log_batch(run, tags=[RunTag("changeover.model", candidate.model), RunTag(_SERIES, name)])
        client.set_terminated(run, end_time=milliseconds(verdict))
    _log(client, run, values, None)


def _log(client: "MlflowClient", run: str, values: Iterable[MetricValue], holder: str | None) -> None:
    metrics = [_metric(value, holder) for value in values]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])


def _metric(value: MetricValue, holder: str | None) -> "Metric":
    from mlflow.entities import Metric

    return Metric(
        value.key,
        value.value,
        value.moment_ms,
        value.step,
        model_id=holder,
        dataset_name=value.dataset,
        dataset_digest=value.dataset_digest,
    )
