"""The way to one MLflow: a client for the length of a block, kept quiet, whose errors become one clear line.

MLflow keeps its address, its log levels and its settings for the whole process; inside a block they are ours, and of
two blocks one waits. Left out: what is asked of it (`mlflow_adapter` and its other `_mlflow` modules), and what its
errors mean (`_errors`).
"""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from changeover_registry.errors import ChangeoverError
from changeover_registry.mlflow_adapter._database import ensure_database
from changeover_registry.mlflow_adapter._errors import Failure, full_disk, not_installed, unreachable, wrong_version
from changeover_registry.telemetry import NO_TELEMETRY

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["OLDEST", "Connection"]

OLDEST = "3.15"
"""The oldest MLflow, here and at the server, that this adapter was written and tested for."""

_SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_HURRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_GREETING = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A server that takes a connection and never answers is found out at its version, not after six minutes of a `sync`."""
_FILE = "sqlite:///"
_ONE_AT_A_TIME = threading.RLock()


class Connection:
    """One MLflow by its address: a database's, or a server's ``http(s)://``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._greeted = False

    @property
    def is_server(self) -> bool:
        """Whether a server stands between us and the database."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def is_there(self) -> bool:
        """False where it is a SQLite file that nobody has made yet."""
        return not self.uri.startswith(_FILE) or Path(self.uri.removeprefix(_FILE)).is_file()

    @property
    def location(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.uri)
        if parts.password is None:
            return self.uri
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))

    def _host(self) -> str:
        """The server's host and port, as errors name them."""
        parts = urlsplit(self.uri)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    @contextlib.contextmanager
    def session(self, *, hurried: bool = False) -> "Iterator[MlflowClient]":
        """A client for the length of the block; `hurried` gives a server five seconds and no second try.

        Raises:
            UnreachableError: MLflow does not answer, refuses, is too old or is not installed.
            OSError: This machine's own disk is full.
        """
        with _ONE_AT_A_TIME, _quiet(), _set(_HURRY if hurried else {}):
            try:
                with self._connected() as client:
                    yield client
            except (ChangeoverError, GeneratorExit):
                raise
            except ImportError as error:
                raise not_installed(self.location, error) from error
            except _foreign_errors() as error:
                failure = _failure(error, self._host() if self.is_server else "")
                raise full_disk(failure) or unreachable(self.location, failure) from error

    @contextlib.contextmanager
    def _connected(self) -> "Iterator[MlflowClient]":
        """A client, and MLflow's process-wide address set to ours inside the block.

        Its SQL store looks a version's source up under that address, whatever address the client was made with, and
        would otherwise make a database in the working folder.
        """
        if self.uri.startswith(_FILE):
            ensure_database(Path(self.uri.removeprefix(_FILE)), _make_tables)
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            self._greet(mlflow.__version__)
            yield mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        finally:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None, which it documents, means "not set".

    def _greet(self, ours: str) -> None:
        """Compare versions, once: an old server takes a release and keeps less of it without a word."""
        if self._greeted:
            return
        if _older(ours):
            raise wrong_version("the package mlflow in this environment", ours, OLDEST)
        # What hurries, or a person's own setting, says something else.
        with _set({name: seconds for name, seconds in _GREETING.items() if name not in os.environ}):
            theirs = _server_version(self.uri) if self.is_server else None
        if theirs is not None and _older(theirs):
            raise wrong_version(self.location, theirs, OLDEST)
        self._greeted = True


def _server_version(uri: str) -> str | None:
    """What the server says that it is; None where a proxy keeps that to itself."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer: Any = http_request(get_default_host_creds(uri), "/version", "GET")  # type: ignore[no-untyped-call]
    text = str(answer.text).strip()
    return text if answer.status_code == 200 and text[:1].isdigit() and len(text) < 40 else None


def _older(version: str) -> bool:
    """Whether a version is older than `OLDEST`; what cannot be read as one is taken for new."""
    parts = version.split(".")[:2]
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        return False
    return [int(part) for part in parts] < [int(part) for part in OLDEST.split(".")]


def _make_tables(path: Path) -> None:
    """Make MLflow's tables in a new SQLite file, and close it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore(f"sqlite:///{path.as_posix()}", str(path.parent))  # type: ignore[no-untyped-call]
    store.engine.dispose()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No telemetry, no progress bars, no log lines or warnings about MLflow's own insides; failures still raise."""
    os.environ.update(NO_TELEMETRY)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3.connectionpool")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        # An error of its database is logged with all of its SQL before it is raised.
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _set(settings: Mapping[str, str]) -> Iterator[None]:
    """These variables for the length of the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _failure(error: Exception, host: str) -> Failure:
    """What the error says, with its number where it carries one; a message without words is its name."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    code = str(getattr(error, "error_code", "") or "")
    text = str(error).strip() or type(error).__name__
    cause = error.__cause__ or error.__context__
    if cause is not None and type(cause).__name__ not in text:
        text = f"{text}\n{type(cause).__name__}: {cause}"
    return Failure(text, code, status if isinstance(status, int) else None, host)


def _foreign_errors() -> tuple[type[Exception], ...]:
    """What the libraries below raise, of those that are loaded: only they can have raised something."""
    named = (
        ("mlflow.exceptions", "MlflowException"),
        ("requests.exceptions", "RequestException"),
        ("sqlalchemy.exc", "SQLAlchemyError"),
        ("alembic.util.exc", "CommandError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("boto3.exceptions", "Boto3Error"),
    )
    found = (getattr(sys.modules.get(module), name, None) for module, name in named)
    return tuple(one for one in found if one is not None)
