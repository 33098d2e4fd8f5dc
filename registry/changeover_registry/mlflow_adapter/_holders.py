"""A release's raw bytes in MLflow: one LoggedModel, filled, read again and finished before any version points at it.

Every file is read back by size and sha256 once it is up, and every later read is compared with what the release's
record says, whose own digest stands in the version's tags. A registration that was killed leaves a LoggedModel that no
version points at; the next registration of that version clears it away, but never one whose process may still run.
Left out: whether MLflow's word for a digest is true; whoever publishes compares it with what was signed.
"""

import contextlib
import hashlib
import os
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from changeover_registry.errors import TrustError
from changeover_registry.locks import process_is_there
from changeover_registry.mlflow_adapter._entries import Registered, versions
from changeover_registry.mlflow_adapter._errors import altered, missing
from changeover_registry.mlflow_adapter.view import release_tags
from changeover_registry.names import Version, digest12
from changeover_registry.records.release import Release, Variant

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

__all__ = ["RECORD", "Content", "Parcel", "artifact_path", "as_files", "contents", "copy", "drop", "fill", "take"]

RECORD = "release.json"
"""Where the canonical record lies among a release's artifacts."""

_REGISTERING = "changeover.registering"
_DOCUMENT = "changeover.document."
_FORGOTTEN_MS = 7 * 24 * 3600 * 1000
"""After so long nobody is sending any more, wherever the process was."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """What a file must be: its size in bytes (None where only the digest is known) and its sha256."""

    size: int | None
    sha256: str

    def __str__(self) -> str:
        """As an error shows it."""
        return f"sha256 {self.sha256}" + ("" if self.size is None else f", {self.size} bytes")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes up: local files and small documents, each by its path among the artifacts."""

    files: Mapping[str, Path]
    documents: Mapping[str, bytes]


def artifact_path(variant: Variant, path: str) -> str:
    """Where a variant's file lies among a release's artifacts."""
    return f"{variant.id}/{path}"


def contents(release: Release) -> dict[str, Content]:
    """What the release's record says of each of its files, by path among the artifacts."""
    return {
        artifact_path(variant, file.path): Content(file.size, file.sha256)
        for variant in release.variants
        for file in variant.files
    }


def fill(
    client: "MlflowClient", experiment: str, release: Release, parcel: Parcel, progress: Callable[[int], None]
) -> str:
    """Put the parcel and the record into a new LoggedModel and read it back; returns its id.

    What fails on the way is cleared away again as far as MLflow lets us; what was killed, by the next one.

    Raises:
        TrustError: Something is not there as it was sent.
    """
    documents = {RECORD: release.to_bytes(), **parcel.documents}
    tags = {
        **release_tags(release),
        **{f"{_DOCUMENT}{name}": hashlib.sha256(data).hexdigest() for name, data in parcel.documents.items()},
        _REGISTERING: _myself(),
    }
    name = f"{release.model.partition('/')[2]}-{digest12(release.digest())}"
    made = client.create_logged_model(experiment, name=name, tags=tags, model_type="changeover")
    holder = str(made.model_id)
    try:
        _clear_forgotten(client, experiment, release, made)
        _send(client, holder, release, Parcel(parcel.files, documents), progress)
        client.finalize_logged_model(holder, "READY")
    except BaseException:
        # Whoever interrupts it by hand wants nothing left either; a kill leaves it to the next registration.
        drop(client, holder)
        raise
    return holder


def finish(client: "MlflowClient", holder: str) -> None:
    """Say of a LoggedModel that its registration is over; it counts as found even if this is never said."""
    with _tolerating():
        client.delete_logged_model_tag(holder, _REGISTERING)


def take(
    client: "MlflowClient", known: Registered, path: str, folder: Path, release: Release | None, location: str
) -> Path:
    """Copy one artifact of a release into `folder`, under its own path, once its bytes were compared.

    Args:
        client: MLflow.
        known: The release.
        path: The artifact.
        folder: Where to; nothing lies there under the path's name until all of it was compared.
        release: The release's record, which says what its files must be; only the record itself is had without.
        location: MLflow's address, for errors.

    Raises:
        TrustError: It is not there, is not what the record says, or nothing says what it must be.
    """
    where = f"{known.model}@{known.version} in {location}: {path}"
    must = _must(client, known, path, release)
    if must is None:
        raise missing(where)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".taking-", dir=target.parent) as place:
        local = copy(client, known.holder, path, Path(place), where)
        found = _content(local)
        if (must.size not in {None, found.size}) or must.sha256 != found.sha256:
            raise altered(where, str(must), str(found))
        local.replace(target)
    return target


def copy(client: "MlflowClient", holder: str, path: str, folder: Path, where: str) -> Path:
    """Copy one artifact of a LoggedModel into `folder`, under its own path, as it is.

    Raises:
        TrustError: MLflow has no such artifact.
    """
    store = _store_with(client, holder, path)
    if store is None:
        raise missing(where)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(store.download_artifacts(path, str(folder)))


def drop(client: "MlflowClient", holder: str) -> None:
    """Take away a LoggedModel that no version points at, with its bytes, as far as MLflow lets us."""
    with _tolerating():
        found = client.get_logged_model(holder)
        if _lies_apart(str(found.artifact_location), holder):
            with _tolerating():
                _store(found).delete_artifacts()
        client.delete_logged_model(holder)


@contextlib.contextmanager
def as_files(documents: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
    """The documents as files by their path, for as long as it takes to send them."""
    with tempfile.TemporaryDirectory(prefix="changeover-") as folder:
        files = {path: Path(folder, path) for path in documents}
        for path, local in files.items():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(documents[path])
        yield files


def _send(
    client: "MlflowClient", holder: str, release: Release, parcel: Parcel, progress: Callable[[int], None]
) -> None:
    """Each file up, and back to be compared: with its record, else with what lies here."""
    recorded = contents(release)
    # The client's own call for this takes no folder before 3.16.
    store = _store(client.get_logged_model(holder))
    with as_files(parcel.documents) as documents:
        for path, local in (*parcel.files.items(), *documents.items()):
            store.log_artifact(str(local), path.rpartition("/")[0] or None)
            _read_again(client, holder, path, recorded.get(path) or _content(local))
            if path in parcel.files:
                progress(local.stat().st_size)


def _read_again(client: "MlflowClient", holder: str, path: str, must: Content) -> None:
    store = _store_with(client, holder, path)
    found = None
    if store is not None:
        with tempfile.TemporaryDirectory(prefix="changeover-") as place:
            # A store on this disk is read where it lies; any other brings a copy.
            local = store.download_artifacts(path, None if hasattr(store, "artifact_dir") else place)
            found = _content(Path(local))
    if found != must:
        raise TrustError(
            "registered files",
            where=path,
            expected=f"what was sent, {must}",
            actual=str(found) if found else "no such file",
            remedy="nothing was registered; see whether its store is sound, then run this again",
        )


def _content(file: Path) -> Content:
    with file.open("rb") as stream:
        whole = hashlib.sha256()
        size = 0
        while piece := stream.read(_PIECE):
            whole.update(piece)
            size += len(piece)
    return Content(size, whole.hexdigest())


def _must(client: "MlflowClient", known: Registered, path: str, release: Release | None) -> Content | None:
    if path == RECORD:
        return Content(None, known.digest)
    if release is not None and path in contents(release):
        return contents(release)[path]
    said = client.get_logged_model(known.holder).tags.get(f"{_DOCUMENT}{path}")
    return Content(None, said) if said else None


def _store_with(client: "MlflowClient", holder: str, path: str) -> Any:  # noqa: ANN401 - as `_store`
    """The store of a LoggedModel that has this artifact; None where there is no such LoggedModel or artifact."""
    from mlflow.exceptions import MlflowException

    parent = str(PurePosixPath(path).parent)
    try:
        store = _store(client.get_logged_model(holder))
        listed = store.list_artifacts(None if parent == "." else parent)
        return store if path in {item.path for item in listed} else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _store(found: "LoggedModel") -> Any:  # noqa: ANN401 - MLflow types none of its stores
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(str(found.artifact_location))


def _clear_forgotten(client: "MlflowClient", experiment: str, release: Release, made: "LoggedModel") -> None:
    """Take away what killed registrations of this version left: not what a version points at, nor what may be running.

    Both moments that are compared are the server's, so that nobody's clock matters.
    """
    with _tolerating():
        query = f"tags.`changeover.version` = '{Version.parse(release.version)}'"
        left = [one for one in _held(client, experiment, query) if _REGISTERING in one.tags]
        if len(left) < 2:
            return
        visible = {entry.holder for entry in versions(client, release.model)}
        for one in left:
            if one.model_id == made.model_id or one.model_id in visible:
                continue
            silent = made.creation_timestamp - one.last_updated_timestamp > _FORGOTTEN_MS
            if silent or _is_over(one.tags[_REGISTERING]):
                drop(client, str(one.model_id))


def _held(client: "MlflowClient", experiment: str, query: str) -> "Iterator[LoggedModel]":
    token: str | None = None
    while True:
        page = client.search_logged_models([experiment], query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _lies_apart(location: str, holder: str) -> bool:
    """Whether a place is the LoggedModel's own, so that what is deleted there belongs to nobody else.

    MLflow says where it is, and whoever rules MLflow may have it say anything.
    """
    path = PurePosixPath(unquote(urlsplit(location).path))
    return holder in path.parts and ".." not in path.parts


def _myself() -> str:
    """This process, so that others here can see whether it is over: the boot and the namespace, number and start."""
    return f"{_here()} {os.getpid()} {_began(os.getpid())}"


def _is_over(mark: str) -> bool:
    """Whether the process of a mark was on this very system and has ended. Nobody can tell of another system's."""
    here, _, rest = mark.partition(" ")
    pid, _, began = rest.partition(" ")
    if here != _here() or not pid.isdecimal():
        return False
    return not process_is_there(int(pid)) or _began(int(pid)) != began


def _here() -> str:
    """This boot of this system and its numbers of processes; only the host's name where there are no such files."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink().name}".replace(" ", "_")
    except OSError:
        return platform.node() or "localhost"


def _began(pid: int) -> str:
    """When a process began, in the kernel's own count; the same for all where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"


@contextlib.contextmanager
def _tolerating() -> Iterator[None]:
    """Clearing away is a courtesy: where MLflow refuses it, what is left lies there, seen by nobody."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    with contextlib.suppress(MlflowException, RequestException, OSError, NotImplementedError):
        yield
