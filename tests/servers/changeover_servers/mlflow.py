"""MLflow's server: on SQLite or PostgreSQL, its artifacts in a folder or an object store, with users or without."""

import configparser
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from changeover_servers.postgres import Postgres
from changeover_servers.process import Server, answers, free_ports, start
from changeover_servers.s3 import ROOT, S3Store

__all__ = ["ADMIN", "KINDS", "MlflowServer", "start_mlflow"]

ADMIN = ("admin", "a pass phrase of tests")
KINDS: dict[str, dict[str, Any]] = {
    "postgres-swift": {"backend": "postgres", "workers": 4, "artifacts": "swift"},
    "moto": {"artifacts": "moto"},
}
"""The two servers on which the registry's road is tested, by name; beside them a database without a server."""


@dataclass(frozen=True)
class MlflowServer:
    """A running server.

    Args:
        uri: ``http://127.0.0.1:PORT``; with users, whoever comes without a name is refused.
        backend: The SQLAlchemy address of its database: for tests in which somebody edits it by hand.
        artifacts: Where its artifacts lie: a folder, else an address ``s3://bucket/…`` in `store`.
        store: The object store behind it, if any.
        server: The process, to stop it before the tests end; `said` is the end of its log.
        administrator: Name and pass phrase, where it has users.
    """

    uri: str
    backend: str
    artifacts: Path | str
    store: S3Store | None
    server: Server
    administrator: tuple[str, str] | None = None

    def uri_of(self, user: str, password: str) -> str:
        """The address with a user in it."""
        return self.uri.replace("://", f"://{user}:{password}@")


def start_mlflow(
    held: ExitStack,
    *,
    postgres: Postgres | None = None,
    store: S3Store | None = None,
    workers: int = 1,
    auth: bool = False,
    old: bool = False,
) -> MlflowServer:
    """Start one.

    Args:
        held: Ends it.
        postgres: Where its database is made; SQLite without.
        store: Where a bucket is made for its artifacts; a folder without.
        workers: Its processes.
        auth: With MLflow's own users, of which `ADMIN` is there.
        old: The oldest MLflow that is supported, instead of the one of these tests.
    """
    python = ROOT / ".venv" / "skew" / "bin" / "python" if old else Path(sys.executable)
    if not python.exists():
        pytest.skip("the oldest MLflow is not here: run .ci/setup, which makes .venv/skew")
    folder = Path(held.enter_context(TemporaryDirectory(prefix="changeover-mlflow-", ignore_cleanup_errors=True)))
    backend = postgres.database() if postgres else f"sqlite:///{folder / 'mlflow.db'}"
    artifacts: Path | str = f"s3://{store.bucket()}/mlflow" if store else folder / "artifacts"
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "OMP_NUM_THREADS": "1",
        **(store.environment if store else {}),
        **(_users(folder) if auth else {}),
    }
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    server = start(
        [
            *(str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", backend, "--artifacts-destination", str(artifacts), "--workers", str(workers)),
            *(("--app-name", "basic-auth") if auth else ()),
        ],
        folder / "log",
        lambda: answers(f"{uri}/health"),
        environment=environment,
    )
    held.callback(server.stop)
    return MlflowServer(uri, backend, artifacts, store, server, ADMIN if auth else None)


def _users(folder: Path) -> dict[str, str]:
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    settings = configparser.ConfigParser()
    settings["mlflow"] = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder / 'users.db'}",
        "admin_username": ADMIN[0],
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / "users.ini"
    with path.open("w", encoding="utf-8") as file:
        settings.write(file)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of tests",
    }
