"""MLflow as the control plane: versions, tags, reports and metrics of releases. The only module that knows it.

A release is a LoggedModel that holds raw bytes (flavors rewrite files) and a version of the registered model
``vendor.name`` that points at it. The version is made last and in one call, so a killed registration leaves nothing to
see; of two versions with one release number the lower MLflow number counts, the other is ignored. A verdict is a run.

Nothing here is trusted and nothing here is on the data path: whoever takes bytes out compares their digests, and a
studio's artists do not notice when MLflow is down. Left out: aliases, which are a view of the studio's choice.
"""

import contextlib
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from changeover_registry._mlflow_database import ensure_database
from changeover_registry._mlflow_errors import missing, not_installed, unreachable
from changeover_registry.errors import ChangeoverError, LostRaceError, RefusedError
from changeover_registry.mlflow_view import (
    MetricValue,
    description,
    memory_tags,
    memory_values,
    metric_values,
    milliseconds,
    registered_name,
    release_tags,
    verdict_tags,
)
from changeover_registry.names import Version, digest12
from changeover_registry.records.memory import MemoryMeasurement
from changeover_registry.records.release import Release, Variant
from changeover_registry.records.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["RECORD", "Registered", "Registration", "Registry", "artifact_path", "local_uri"]

RECORD = "release.json"
"""Where the canonical record lies among a release's artifacts."""

_PAGE = 200
_BATCH = 500
"""MLflow takes at most 1000 metrics at once, and at most a million bytes."""
_SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True, slots=True)
class Registered:
    """One release as MLflow has it: the version's number there, and the LoggedModel that holds its artifacts."""

    model: str
    version: str
    digest: str
    number: int
    holder: str


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registration came to; `new` is False where the same release was there already."""

    registered: Registered
    new: bool


def local_uri(path: Path) -> str:
    """The address of an MLflow that is one SQLite file at `path`."""
    return f"sqlite:///{path.resolve().as_posix()}"


def artifact_path(variant: Variant, path: str) -> str:
    """Where a variant's file lies among a release's artifacts."""
    return f"{variant.id}/{path}"


class Registry:
    """One MLflow, by its address.

    Every method raises `UnreachableError` if MLflow does not answer, refuses, or is not installed.

    Args:
        uri: ``sqlite:///…`` or any other database that MLflow takes, or a server's ``http(s)://…``.
        artifacts: Where artifacts of a database are kept; a server decides for itself.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self._uri = uri
        self._artifacts = artifacts

    @property
    def location(self) -> str:
        """The address without a password."""
        parts = urlsplit(self._uri)
        if parts.password is None:
            return self._uri
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))

    def versions(self, model: str) -> tuple[Registered, ...]:
        """Every release of `model` that is registered, in the order of registration; none for an unknown model."""
        with self._session() as client:
            return _versions(client, model)

    def find(self, model: str, version: str) -> Registered | None:
        """The release of that model and version, if it is registered."""
        with self._session() as client:
            return _find(client, model, version)

    def register_release(
        self,
        release: Release,
        files: Mapping[str, Path],
        documents: Mapping[str, bytes],
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Registration:
        """Put a release in: all artifacts first, the version that makes it visible last.

        Args:
            release: The release; its canonical bytes are stored beside the files.
            files: Local files by the path that they get among the artifacts (the last part stays the file's name).
            documents: Further small documents by file name, such as the bill of materials.
            progress: Called with the bytes of each file that has arrived.

        Raises:
            RefusedError: This version is registered with other content.
            LostRaceError: Somebody registered other content as this version at the same time.
        """
        with self._session() as client:
            known = _find(client, release.model, release.version)
            if known is not None:
                return Registration(_same(known, release, self.location), new=False)
            holder = self._hold(client, release, files, documents, progress)
            number = self._make_visible(client, release, holder)
            return _settle(client, release, number)

    def know_release(self, release: Release, documents: Mapping[str, bytes] | None = None) -> Registration:
        """Let a studio's MLflow know a release: version, tags, record and documents; the bytes stay in the store.

        Raises:
            RefusedError: This version is known with other content.
        """
        return self.register_release(release, {}, documents or {})

    def fetch(self, registered: Registered, path: str, folder: Path) -> Path:
        """Copy one artifact of a release into `folder`, under its own `path`. Its content is for the caller to verify.

        Raises:
            TrustError: MLflow has no such artifact.
        """
        import mlflow

        with self._session() as client:
            parent, _, name = path.rpartition("/")
            listed = {item.path for item in client.list_logged_model_artifacts(registered.holder, parent or None)}
            if path not in listed:
                raise missing(f"{registered.model}@{registered.version} in {self.location}: {path}")
            location = client.get_logged_model(registered.holder).artifact_location
            target = folder / parent if parent else folder
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{location}/{path}", dst_path=str(target), tracking_uri=self._uri
            )
            return target / name

    def log_verdict(self, verdict: Verdict, digest: str, documents: Mapping[str, bytes]) -> str:
        """Keep a verdict: a run with its decision, its digests and its metrics of each golden shot.

        Metrics are bound to the release's LoggedModel, the golden set's name and its version and digest. Done again it
        changes nothing. Whatever is in here can be read by whoever reads MLflow.

        Args:
            verdict: The verdict, with the shots' names that its readers may know.
            digest: Of the signed envelope, by which the run is found again.
            documents: Artifacts by path.

        Returns:
            The run's id.
        """
        with self._session() as client:
            experiment = self._experiment(client, verdict.candidate.model)
            known = client.search_runs([experiment], f"tags.`changeover.envelope` = '{digest}'", max_results=1)
            if known:
                return str(known[0].info.run_id)
            return self._log(client, experiment, verdict, digest, documents)

    def log_memory(self, model: str, version: str, measured: MemoryMeasurement) -> str:
        """Keep a measurement of memory beside its prediction: a run with the record and each figure as a metric.

        Done again with the same record it changes nothing.

        Args:
            model: ``vendor/name``.
            version: The release that was measured.
            measured: With what was predicted, where something was.

        Returns:
            The run's id.
        """
        digest = measured.digest()
        with self._session() as client:
            from mlflow.entities import RunTag

            experiment = self._experiment(client, model)
            known = client.search_runs([experiment], f"tags.`changeover.memory` = '{digest}'", max_results=1)
            if known:
                return str(known[0].info.run_id)
            name = f"{version} memory {digest12(measured.key.model)}"
            run = str(client.create_run(experiment, start_time=milliseconds(measured), run_name=name).info.run_id)
            found = _find(client, model, version)
            metrics = [_metric(value, found.holder if found else None) for value in memory_values(measured)]
            tags = [RunTag(key, value) for key, value in memory_tags(model, version, measured).items()]
            client.log_batch(run, metrics=metrics, tags=tags)
            with _documents({"measurement.json": measured.to_bytes()}) as paths:
                client.log_artifact(run, str(paths["measurement.json"]))
            # As for a verdict: the tag by which this run is found again comes last.
            client.set_tag(run, "changeover.memory", digest)
            client.set_terminated(run)
            return run

    def _log(
        self,
        client: "MlflowClient",
        experiment: str,
        verdict: Verdict,
        digest: str,
        documents: Mapping[str, bytes],
    ) -> str:
        from mlflow.entities import RunTag

        candidate = _find(client, verdict.candidate.model, verdict.candidate.version)
        holder = candidate.holder if candidate and candidate.digest == verdict.candidate.digest else None
        name = f"{verdict.candidate.version}-{digest12(verdict.candidate.digest)} {verdict.decision}"
        run = str(client.create_run(experiment, start_time=milliseconds(verdict), run_name=name).info.run_id)
        client.log_batch(run, tags=[RunTag(key, value) for key, value in verdict_tags(verdict).items()])
        metrics = [_metric(value, holder) for value in metric_values(verdict)]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run, metrics=metrics[start : start + _BATCH])
        with _documents(documents) as paths:
            for path, local in paths.items():
                client.log_artifact(run, str(local), path.rpartition("/")[0] or None)
        # The tag by which this run is found again comes last: a killed copy is made anew.
        client.set_tag(run, "changeover.envelope", digest)
        client.set_terminated(run)
        return run

    def _hold(
        self,
        client: "MlflowClient",
        release: Release,
        files: Mapping[str, Path],
        documents: Mapping[str, bytes],
        progress: Callable[[int], None],
    ) -> str:
        experiment = self._experiment(client, release.model)
        name = f"{release.model.partition('/')[2]}-{digest12(release.digest())}"
        model = client.create_logged_model(experiment, name=name, tags=release_tags(release), model_type="changeover")
        holder = str(model.model_id)
        for path, local in files.items():
            client.log_model_artifact(holder, str(local), path.rpartition("/")[0] or None)
            progress(local.stat().st_size)
        with _documents({RECORD: release.to_bytes(), **documents}) as paths:
            for document in paths.values():
                client.log_model_artifact(holder, str(document))
        client.finalize_logged_model(holder, "READY")
        return holder

    def _make_visible(self, client: "MlflowClient", release: Release, holder: str) -> int:
        from mlflow.exceptions import MlflowException

        name = registered_name(release.model)
        try:
            client.create_registered_model(name, tags={"changeover.model": release.model})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name,
            source=f"models:/{holder}",
            model_id=holder,
            tags=release_tags(release),
            description=description(release),
        )
        return int(made.version)

    def _experiment(self, client: "MlflowClient", model: str) -> str:
        """The experiment of a model, made at its first use."""
        from mlflow.exceptions import MlflowException

        name = f"changeover.{registered_name(model)}"
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=self._artifact_location()))
        except MlflowException as error:  # pragma: no cover - two first registrations within the same millisecond
            known = client.get_experiment_by_name(name)
            if known is None:
                raise error from None
            return str(known.experiment_id)

    def _artifact_location(self) -> str | None:
        if self._artifacts is None or self._uri.startswith(("http://", "https://")):
            return None
        return self._artifacts.resolve().as_uri()

    @contextlib.contextmanager
    def _session(self) -> "Iterator[MlflowClient]":
        """A client for the length of the block; every foreign error in it becomes one clear line."""
        with _ONE_AT_A_TIME, _quiet():
            try:
                with self._connected() as client:
                    yield client
            except (ChangeoverError, GeneratorExit):
                raise
            except ImportError as error:
                raise not_installed(self.location, error) from error
            except _foreign_errors() as error:
                raise unreachable(self.location, error) from error

    @contextlib.contextmanager
    def _connected(self) -> "Iterator[MlflowClient]":
        """A client, and MLflow's process-wide address set to ours inside the block.

        Its SQL store looks a version's source up under that address, whatever address the client was made with, and
        would otherwise make a database in the working folder.
        """
        if self._uri.startswith("sqlite:///"):
            ensure_database(Path(self._uri.removeprefix("sqlite:///")), _make_tables)
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self._uri)
        try:
            yield mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        finally:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None, which it documents, means "not set".


def _make_tables(path: Path) -> None:
    """Make MLflow's tables in a new SQLite file, and close it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore(f"sqlite:///{path.as_posix()}", str(path.parent))  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _versions(client: "MlflowClient", model: str, only: str = "") -> tuple[Registered, ...]:
    """The releases of a model, or of it the one version `only`: of equal versions the lowest number."""
    listed = (_registered(version, model) for version in _pages(client, _filter(model, only)))
    first: dict[str, Registered] = {}
    for entry in sorted((entry for entry in listed if entry is not None), key=lambda entry: entry.number):
        first.setdefault(entry.version, entry)
    return tuple(first.values())


def _find(client: "MlflowClient", model: str, version: str) -> Registered | None:
    return next(iter(_versions(client, model, version)), None)


def _filter(model: str, only: str) -> str:
    """MLflow's query; a version has no character that would end the quotes."""
    tag = f" and tags.`changeover.version` = '{Version.parse(only)}'" if only else ""
    return f"name = '{registered_name(model)}'{tag}"


def _pages(client: "MlflowClient", query: str, size: int = _PAGE) -> "Iterator[ModelVersion]":
    token: str | None = None
    while True:
        page = client.search_model_versions(query, max_results=size, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _registered(version: "ModelVersion", model: str) -> Registered | None:
    """The entry that a version stands for; None if somebody made it by hand, without our tags."""
    tags, holder = version.tags, str(version.source).removeprefix("models:/")
    if tags.get("changeover.model") != model or "changeover.version" not in tags or "changeover.digest" not in tags:
        return None
    return Registered(model, tags["changeover.version"], tags["changeover.digest"], int(version.version), holder)


def _settle(client: "MlflowClient", release: Release, number: int) -> Registration:
    """Whoever has the lower number has the version; everybody who looks finds the same."""
    winner = _find(client, release.model, release.version)
    if winner is None or winner.digest != release.digest():
        raise LostRaceError(
            "register",
            where=f"{release.model}@{release.version}",
            expected=f"nobody else registering this version while {digest12(release.digest())} was on its way",
            actual=f"{digest12(winner.digest)} under number {winner.number}" if winner else "no version",
            remedy="give your release another version in release.toml and register it again",
        )
    return Registration(winner, new=winner.number == number)


def _same(known: Registered, release: Release, location: str) -> Registered:
    if known.digest == release.digest():
        return known
    raise RefusedError(
        "registered version",
        where=f"{release.model}@{release.version} in {location}",
        expected=f"the content that was registered as this version, {digest12(known.digest)}",
        actual=f"other content, {digest12(release.digest())}",
        remedy="a version never changes; give the new content a new version in release.toml",
    )


def _metric(value: MetricValue, holder: str | None) -> "Metric":
    from mlflow.entities import Metric

    return Metric(
        value.key,
        value.value,
        value.moment_ms,
        0,
        model_id=holder,
        dataset_name=value.dataset,
        dataset_digest=value.dataset_digest,
    )


@contextlib.contextmanager
def _documents(documents: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
    """The documents as files by their path, for as long as it takes to send them."""
    with tempfile.TemporaryDirectory(prefix="changeover-") as folder:
        files = {path: Path(folder, path) for path in documents}
        for path, local in files.items():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(documents[path])
        yield files


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No telemetry, no progress bars, no log lines or warnings about MLflow's own insides; failures still raise."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3.connectionpool")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _foreign_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, RequestException, SQLAlchemyError)
