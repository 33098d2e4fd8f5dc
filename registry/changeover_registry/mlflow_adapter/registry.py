"""MLflow as the control plane: versions, tags, reports, metrics and aliases of releases. The one way to it.

A release is a LoggedModel that holds raw bytes (flavors rewrite files) and a version of the registered model
``vendor.name`` that points at it. All of it is there and was read again before the version is made, last and in one
call; so a killed registration leaves nothing to see. Of two versions with one release number the lower MLflow number
counts. A verdict is a run. Aliases are a picture of the studio's choice, and one that was moved by hand is a request.

Nothing here is trusted and nothing here is on the data path: whoever takes bytes out compares their digests, and a
studio's artists do not notice when MLflow is down. Only the modules of this package know MLflow; what they
tell it are plain values of `view`, `page` and `aliases`.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import RefusedError
from changeover_registry.mlflow_adapter._aliases import draw, draw_promoted, moved
from changeover_registry.mlflow_adapter._entries import (
    MOST_VERSIONS,
    Registered,
    Registration,
    check_room,
    describe,
    find,
    make_visible,
    mark_withdrawn,
    same,
    settle,
    versions,
)
from changeover_registry.mlflow_adapter._holders import RECORD, Parcel, artifact_path, copy, drop, fill, finish, take
from changeover_registry.mlflow_adapter._runs import (
    ENVELOPE,
    Run,
    candidate_of,
    found_run,
    keep,
    keep_series,
    verdict_run,
)
from changeover_registry.mlflow_adapter._session import Connection
from changeover_registry.mlflow_adapter.aliases import Held, MovedAlias
from changeover_registry.mlflow_adapter.page import Side, judged, model_page, version_page
from changeover_registry.mlflow_adapter.view import memory_tags, memory_values, milliseconds, registered_name
from changeover_registry.names import digest12
from changeover_registry.records.memory import MemoryMeasurement
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "MOST_VERSIONS",
    "RECORD",
    "Held",
    "MovedAlias",
    "Registered",
    "Registration",
    "Registry",
    "artifact_path",
    "local_uri",
]


def local_uri(path: Path) -> str:
    """The address of an MLflow that is one SQLite file at `path`."""
    return f"sqlite:///{path.resolve().as_posix()}"


class Registry:
    """One MLflow, by its address.

    Every method raises `UnreachableError` if MLflow does not answer, refuses, is too old, or is not installed: one line
    with its cause and its own remedy. `OSError` is this machine's own disk.

    Args:
        uri: ``sqlite:///…`` or any other database that MLflow takes, or a server's ``http(s)://…``.
        artifacts: Where artifacts of a database are kept; a server decides for itself.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self._connection = Connection(uri)
        self._artifacts = artifacts
        self._records: dict[str, Release] = {}

    @property
    def location(self) -> str:
        """The address without a password."""
        return self._connection.location

    @property
    def is_there(self) -> bool:
        """False where it is a SQLite file that nobody has made yet, so that it knows nothing."""
        return self._connection.is_there

    def versions(self, model: str) -> tuple[Registered, ...]:
        """Every release of `model` that is registered, in the order of registration; none for an unknown model."""
        with self._session() as client:
            return versions(client, model)

    def find(self, model: str, version: str) -> Registered | None:
        """The release of that model and version, if it is registered."""
        with self._session() as client:
            return find(client, model, version)

    def register_release(
        self,
        release: Release,
        files: Mapping[str, Path],
        documents: Mapping[str, bytes],
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Registration:
        """Put a release in: all artifacts first, read again, the version that makes it visible last.

        Args:
            release: The release; its canonical bytes are stored beside the files.
            files: Local files by the path that they get among the artifacts (the last part stays the file's name).
            documents: Further small documents by file name, such as the bill of materials.
            progress: Called with the bytes of each file that has arrived and was read again.

        Raises:
            RefusedError: This version is registered with other content.
            LostRaceError: Somebody registered other content as this version at the same time.
            TrustError: What arrived is not what was sent; nothing is registered.
        """
        return self._register(release, Parcel(files, documents), "vendor", progress)

    def know_release(self, release: Release, documents: Mapping[str, bytes] | None = None) -> Registration:
        """Let a studio's MLflow know a release: version, tags, record and documents; the bytes stay in the store.

        Raises:
            RefusedError: This version is known with other content.
            TrustError: What arrived is not what was sent.
        """
        return self._register(release, Parcel({}, documents or {}), "studio", lambda _: None)

    def know_releases(
        self, releases: Iterable[Release], documents: Callable[[Release], Mapping[str, bytes]] = lambda _: {}
    ) -> None:
        """Let a studio's MLflow know these releases; one look at each model shows which it knows already.

        One that is refused keeps none of the others out; the first refusal is raised once they are in.

        Args:
            releases: The releases.
            documents: Asked for what lies beside a release that is new there, by file name.

        Raises:
            RefusedError: A version is known with other content.
            TrustError: What arrived is not what was sent.
        """
        known: dict[str, frozenset[tuple[str, str]]] = {}
        refused: list[RefusedError] = []
        for release in releases:
            if release.model not in known:
                found = self.versions(release.model)
                known[release.model] = frozenset((entry.version, entry.digest) for entry in found)
            if (release.version, release.digest()) not in known[release.model]:
                try:
                    self.know_release(release, documents(release))
                except RefusedError as error:
                    refused.append(error)
        if refused:
            raise refused[0]

    def tell_withdrawn(self, withdrawn: Mapping[ReleaseRef, str]) -> None:
        """Have the pages of these releases say that their vendor took them back, and why; unknown ones are left out."""
        with self._session() as client:
            for ref, why in withdrawn.items():
                known = find(client, ref.model, ref.version)
                if known is not None and known.digest == ref.digest:
                    mark_withdrawn(client, known, why)

    def fetch(self, registered: Registered, path: str, folder: Path) -> Path:
        """Copy one artifact of a release into `folder`, under its own `path`, once its bytes were compared.

        The record is held against the digest in the version's tags, every file of a variant against the record, any
        other document against the digest that its registration noted. All of these lie in MLflow and may be forged
        together: whoever signs compares with what is known from elsewhere.

        Raises:
            TrustError: MLflow has no such artifact, or its bytes are others; nothing lies under the path's name.
        """
        with self._session() as client:
            record = None if path == RECORD else self._record(client, registered)
            return take(client, registered, path, folder, record, self.location)

    def copy(self, holder: str, path: str, folder: Path) -> Path:
        """Copy one artifact of a LoggedModel into `folder` as it is: for whoever looks what somebody made of it.

        Raises:
            TrustError: MLflow has no such artifact.
        """
        with self._session() as client:
            return copy(client, holder, path, folder, f"{holder} in {self.location}: {path}")

    def log_verdict(
        self, verdict: Verdict, digest: str, documents: Mapping[str, bytes], pictures: tuple[str, ...] = ()
    ) -> str:
        """Keep a verdict: a run with its decision, its digests and its metrics of each golden shot.

        Metrics are bound to the release's LoggedModel, the golden set's name and its version and digest; those of the
        first operating point also go on in the golden set's run over the versions, and the page of the release names
        its newest verdict. Done again it changes nothing. Whatever is in here can be read by whoever reads MLflow.

        Args:
            verdict: The verdict, with the shots' names that its readers may know.
            digest: Of the signed envelope, by which the run is found again.
            documents: Artifacts by path.
            pictures: Those of them, by path, that the release's page may show to anybody.

        Returns:
            The run's id.
        """
        with self._session() as client:
            experiment = self._experiment(client, verdict.candidate.model)
            known = found_run(client, experiment, ENVELOPE, digest)
            if known is not None:
                return known
            candidate = candidate_of(client, verdict)

            def tell(run: str) -> None:
                if candidate is not None:
                    keep_series(client, experiment, verdict, candidate)
                    newest = judged(verdict, experiment, run, pictures)
                    page = version_page(self._record(client, candidate), "studio", newest)
                    describe(client, candidate, page)

            run = verdict_run(verdict, documents)
            holder = candidate.holder if candidate else None
            return keep(client, experiment, run, holder, (ENVELOPE, digest), tell)

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
            experiment = self._experiment(client, model)
            known = found_run(client, experiment, "changeover.memory", digest)
            if known is not None:
                return known
            found = find(client, model, version)
            run = Run(
                name=f"{version} memory {digest12(measured.key.model)}",
                moment_ms=milliseconds(measured),
                tags=memory_tags(model, version, measured),
                values=memory_values(measured),
                documents={"measurement.json": measured.to_bytes()},
            )
            return keep(client, experiment, run, found.holder if found else None, ("changeover.memory", digest))

    def show_aliases(self, held: Iterable[Held]) -> tuple[str, ...]:
        """Draw all that the verified choice gives its channels as aliases (``show/atlas`` as ``show-atlas``).

        An alias that a person moved stays where it is, until the choice gives its channel another release than was
        drawn, or `show_promoted` draws it.

        Returns:
            ``vendor/name alias`` of each that was drawn anew.
        """
        with self._session(hurried=True) as client:
            return draw(client, held)

    def show_promoted(self, held: Iterable[Held]) -> None:
        """Draw what was promoted just now, also where a person moved the alias. MLflow gets seconds, no second try."""
        with self._session(hurried=True) as client:
            draw_promoted(client, held)

    def moved_aliases(self, held: Iterable[Held]) -> tuple[MovedAlias, ...]:
        """Every alias named like a channel that a person moved, made or took away: requests to promote."""
        with self._session(hurried=True) as client:
            return moved(client, held)

    def _register(self, release: Release, parcel: Parcel, side: Side, progress: Callable[[int], None]) -> Registration:
        with self._session() as client:
            known = find(client, release.model, release.version)
            if known is not None:
                return Registration(same(known, release, self.location, side), new=False)
            check_room(client, release.model, self.location)
            page = version_page(release, side)
            whole = Parcel(parcel.files, {**parcel.documents, **page.documents()})
            holder = fill(client, self._experiment(client, release.model), release, whole, progress)
            number = make_visible(client, release, holder, page, model_page(release, side))
            finish(client, holder)
            return settle(client, release, number, holder, lambda left: drop(client, left))

    def _record(self, client: "MlflowClient", registered: Registered) -> Release:
        """The record of a registered release, of the digest that its tags name.

        Raises:
            TrustError: It is not there, or its bytes are others.
        """
        if registered.digest not in self._records:
            with tempfile.TemporaryDirectory(prefix="changeover-") as folder:
                data = take(client, registered, RECORD, Path(folder), None, self.location).read_bytes()
            where = f"{registered.model}@{registered.version} in {self.location}: {RECORD}"
            self._records[registered.digest] = Release.from_bytes(data, where=where)
        return self._records[registered.digest]

    def _experiment(self, client: "MlflowClient", model: str) -> str:
        """The experiment of a model, made at its first use."""
        from mlflow.exceptions import MlflowException

        name = f"changeover.{registered_name(model)}"
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=self._artifact_location()))
        except MlflowException as error:
            # Of several first registrations at one moment one makes it, and the others find it.
            known = client.get_experiment_by_name(name)
            if known is None:
                raise error from None
            return str(known.experiment_id)

    def _artifact_location(self) -> str | None:
        if self._artifacts is None or self._connection.is_server:
            return None
        return self._artifacts.resolve().as_uri()

    @contextlib.contextmanager
    def _session(self, *, hurried: bool = False) -> "Iterator[MlflowClient]":
        """A client for the length of the block; every foreign error in it becomes one clear line."""
        with self._connection.session(hurried=hurried) as client:
            yield client
