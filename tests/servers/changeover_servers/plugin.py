"""The servers as fixtures. Each is started when the first test asks for it, and shared by all tests of the session.

    def test_x(mlflow_server, postgres, swift, moto, cutting_proxy): ...

`mlflow_server(backend="postgres", workers=4, artifacts="swift")` gives the server of that kind; ``own=True`` one that
no other test has. `swift` and `moto` are `S3Store`; `cutting_proxy(server.uri)` is a `CuttingProxy` in front of it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest

from changeover_servers.mlflow import MlflowServer, start_mlflow
from changeover_servers.postgres import Postgres, start_postgres
from changeover_servers.proxy import CuttingProxy
from changeover_servers.s3 import S3Store, start_moto, start_swift

__all__ = ["cutting_proxy", "mlflow_server", "moto", "postgres", "swift"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL; `database()` makes a database."""
    import shutil

    cluster = start_postgres()
    yield cluster
    cluster.server.stop()
    shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def swift() -> Iterator[S3Store]:
    """OpenStack Swift's S3 API; `bucket()` makes a bucket."""
    with ExitStack() as held:
        yield start_swift(held)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Store]:
    """The S3 of moto, and its other services at the same endpoint; `bucket()` makes a bucket."""
    with ExitStack() as held:
        yield start_moto(held)


@pytest.fixture(scope="session")
def mlflow_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., MlflowServer]]:
    """Gives an MLflow server of a kind, started once for each kind."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    running: dict[object, MlflowServer] = {}
    with ExitStack() as held:

        def give(
            backend: Literal["sqlite", "postgres"] = "sqlite",
            workers: int = 1,
            artifacts: Literal["folder", "swift", "moto"] | S3Store = "folder",
            *,
            auth: bool = False,
            old: bool = False,
            own: bool = False,
        ) -> MlflowServer:
            kind = (backend, workers, artifacts, auth, old)
            if own or kind not in running:
                store = request.getfixturevalue(artifacts) if artifacts in {"swift", "moto"} else artifacts
                server = start_mlflow(
                    held,
                    postgres=request.getfixturevalue("postgres") if backend == "postgres" else None,
                    store=store if isinstance(store, S3Store) else None,
                    workers=workers,
                    auth=auth,
                    old=old,
                )
                if own:
                    return server
                running[kind] = server
            return running[kind]

        yield give


@pytest.fixture
def cutting_proxy() -> Iterator[Callable[[str], CuttingProxy]]:
    """Puts a proxy in front of an address, ``http://HOST:PORT``; see `Cut` for where it can cut."""
    with ExitStack() as held:

        def give(target: str) -> CuttingProxy:
            proxy = CuttingProxy(target)
            held.callback(proxy.close)
            return proxy

        yield give
