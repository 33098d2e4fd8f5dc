"""What an MLflow shows of our releases and verdicts, as it is: for `audit`, which compares it with what was signed.

The adapter's readers look for what they know; these list what is there, made by hand or not, believed in nothing. Left
out: what any of it should be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.mlflow_adapter.view import model_of, registered_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "SeenRun",
    "SeenVersion",
    "read_artifact",
    "read_run_artifact",
    "seen_artifacts",
    "seen_models",
    "seen_run",
    "seen_versions",
]

_PAGE = 200
_PREFIX = "changeover."


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """One model version: its number, its source, and the tags that are ours by name."""

    number: int
    source: str
    tags: Mapping[str, str]

    @property
    def holder(self) -> str | None:
        """The LoggedModel that it points at; None where it points elsewhere."""
        holder = self.source.removeprefix("models:/")
        return holder if self.source.startswith("models:/m-") and "/" not in holder else None


@dataclass(frozen=True, slots=True)
class SeenRun:
    """One run of a verdict: its tags that are ours by name, its metrics, and its artifacts by path."""

    id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: tuple[str, ...]


def seen_models(registry: Registry) -> tuple[str, ...]:
    """Every registered model that says by its tag that it is one of ours, as ``vendor/name``.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    found: list[str] = []
    token = None
    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        while True:
            page = client.search_registered_models(max_results=_PAGE, page_token=token)
            said = (model_of(str(one.name), one.tags.get("changeover.model")) for one in page)
            found += [model for model in said if model is not None]
            token = page.token
            if not token:
                return tuple(sorted(found))


def seen_versions(registry: Registry, model: str) -> tuple[SeenVersion, ...]:
    """Every version of a model, in the order of numbers; none for a model that MLflow does not have.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    found: list[SeenVersion] = []
    token = None
    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        while True:
            query = f"name = '{registered_name(model)}'"
            page = client.search_model_versions(query, max_results=_PAGE, page_token=token)
            found += [SeenVersion(int(one.version), str(one.source), _ours(one.tags)) for one in page]
            token = page.token
            if not token:
                return tuple(sorted(found, key=lambda one: one.number))


def seen_artifacts(registry: Registry, holder: str) -> tuple[str, ...]:
    """The path of every file that a LoggedModel holds.

    Raises:
        UnreachableError: MLflow does not answer, or has no such LoggedModel.
    """
    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        # MLflow's client remembers where a LoggedModel's files are, also of one that is gone since.
        client.get_logged_model(holder)
        return tuple(sorted(_walk(client, holder, None)))


def read_artifact(registry: Registry, holder: str, path: str, folder: Path) -> Path:
    """Copy one artifact of a LoggedModel into `folder`.

    Raises:
        TrustError: MLflow has no such artifact.
        UnreachableError: MLflow does not answer.
    """
    return registry.copy(holder, path, folder)


def seen_run(registry: Registry, model: str, envelope: str) -> SeenRun | None:
    """The run of the verdict whose envelope has that digest, if MLflow says that it has one.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        experiment = client.get_experiment_by_name(f"changeover.{registered_name(model)}")
        if experiment is None:
            return None
        query = f"tags.`changeover.envelope` = '{envelope}'"
        runs = client.search_runs([experiment.experiment_id], query, max_results=1)
        if not runs:
            return None
        data, run = runs[0].data, str(runs[0].info.run_id)
        artifacts = tuple(item.path for item in client.list_artifacts(run) if not item.is_dir)
        return SeenRun(run, _ours(data.tags), dict(data.metrics), artifacts)


def read_run_artifact(registry: Registry, run: SeenRun, path: str, folder: Path) -> Path:
    """Copy one artifact of a run into `folder`.

    Raises:
        UnreachableError: MLflow does not answer, or has no such artifact.
    """
    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        return Path(client.download_artifacts(run.id, path, str(folder)))


def _walk(client: "MlflowClient", holder: str, folder: str | None) -> Iterator[str]:
    for item in client.list_logged_model_artifacts(holder, folder):
        if item.is_dir:
            yield from _walk(client, holder, item.path)
        else:
            yield str(item.path)


def _ours(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith(_PREFIX)}
