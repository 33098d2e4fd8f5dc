"""A training run in an MLflow, as whoever makes a release of it must know it: where it came from, and what it left.

Files are those of the run itself and of the models that it logged; since MLflow 3 the latter are kept apart from it.
Nothing of it is trusted: what is taken is inspected and hashed as any other file. Left out: which files are a release.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import InvalidInputError
from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.names import check_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TrainedRun", "take_file", "trained_run"]

_REVISION = "mlflow.source.git.commit"
_PARENT = "changeover.parent_release"
_DEEPEST = 16
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """One run.

    Attributes:
        id: The run's id.
        name: What its people called it.
        status: As MLflow has it; only ``FINISHED`` came to its end.
        revision: The git commit of its code, where it is known.
        parent: The release that its people say it descends from, by the tag ``changeover.parent_release``.
        datasets: The data sets that it was given, each by name and MLflow's short digest.
        files: Size in bytes of every file by its path; those of a logged model stand below ``models/<id>/``.
    """

    id: str
    name: str
    status: str
    revision: str | None
    parent: str | None
    datasets: tuple[tuple[str, str], ...]
    files: Mapping[str, int]


def trained_run(registry: Registry, run_id: str) -> TrainedRun:
    """Read a run and list its files.

    Raises:
        InvalidInputError: There is no such run, or it has more files than anybody reads.
        UnreachableError: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    with registry._session() as client:  # noqa: SLF001 - the adapter's own other half
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            raise _no_run(registry, run_id) from error
        files = dict(_files(registry, client, run_id))
        for model in run.outputs.model_outputs if run.outputs else ():
            files.update(_files(registry, client, str(model.model_id), f"models/{model.model_id}/"))
        tags, inputs = run.data.tags, run.inputs.dataset_inputs if run.inputs else ()
        return TrainedRun(
            id=str(run.info.run_id),
            name=str(run.info.run_name or ""),
            status=str(run.info.status),
            revision=tags.get(_REVISION),
            parent=tags.get(_PARENT),
            datasets=tuple((str(one.dataset.name), str(one.dataset.digest)) for one in inputs),
            files=files,
        )


def take_file(registry: Registry, run: TrainedRun, path: str, folder: Path) -> Path:
    """Copy one of a run's files into `folder`, under its own `path`.

    Raises:
        InvalidInputError: The path is none that a release could have.
        UnreachableError: MLflow does not bring it.
    """
    import mlflow

    check_path(path, where=f"run {run.id} in {registry.location}")
    kind, _, rest = path.partition("/")
    holder, _, below = rest.partition("/")
    with registry._session() as client:  # noqa: SLF001 - as above
        if kind == "models" and holder.startswith("m-"):
            location = client.get_logged_model(holder).artifact_location
            target = folder / kind / holder
        else:
            location, below, target = client.get_run(run.id).info.artifact_uri, path, folder
        parent = (target / below).parent
        parent.mkdir(parents=True, exist_ok=True)
        mlflow.artifacts.download_artifacts(artifact_uri=f"{location}/{below}", dst_path=str(parent))
        return target / below


def _files(registry: Registry, client: "MlflowClient", holder: str, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every file of a run, or of a logged model where `prefix` says so."""
    waiting: list[tuple[str | None, int]] = [(None, 0)]
    seen = 0
    while waiting:
        path, depth = waiting.pop()
        found = client.list_logged_model_artifacts(holder, path) if prefix else client.list_artifacts(holder, path)
        for item in found:
            seen += 1
            if seen > _MOST or depth > _DEEPEST:
                raise _too_many(registry, holder)
            if item.is_dir:
                waiting.append((str(item.path), depth + 1))
            else:
                yield f"{prefix}{item.path}", int(item.file_size or 0)


def _no_run(registry: Registry, run_id: str) -> InvalidInputError:
    return InvalidInputError(
        "MLflow run",
        where=f"{run_id} in {registry.location}",
        expected="the id of a run, as MLflow's page shows it",
        actual="no such run",
        remedy="correct the id, or name the MLflow that has it: --mlflow ADDRESS",
    )


def _too_many(registry: Registry, holder: str) -> InvalidInputError:
    return InvalidInputError(
        "MLflow run",
        where=f"{holder} in {registry.location}",
        expected=f"at most {_MOST} files, {_DEEPEST} folders deep",
        actual="more",
        remedy="put the model files of the release into a run of their own",
    )
