"""The oldest MLflow that is supported, at either end, and its database: the same road, the same answers."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry.mlflow_adapter.registry import Registry, local_uri
from changeover_servers import KINDS, MlflowServer
from changeover_servers.walk import EXPECTED, walk

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

ROOT = Path(__file__).parents[2]
SERVERS = str(ROOT / "tests" / "servers")
OLDEST = ROOT / ".venv" / "skew" / "bin" / "python"


@pytest.fixture(scope="module")
def old_server(mlflow_server: Callable[..., MlflowServer]) -> MlflowServer:
    return mlflow_server(old=True)


def by_old_client(*arguments: str) -> str:
    """What a program says in the environment of the oldest MLflow."""
    if not OLDEST.exists():
        pytest.skip("the oldest MLflow is not here: run .ci/setup, which makes .venv/skew")
    environment = {**os.environ, "PYTHONPATH": SERVERS}
    done = subprocess.run([str(OLDEST), *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_this_client_walks_the_road_on_the_oldest_server(old_server: MlflowServer, tmp_path: Path) -> None:
    assert walk(old_server.uri, "acme/new-client", tmp_path) == EXPECTED


def test_the_oldest_client_walks_the_road_on_this_server(
    mlflow_server: Callable[..., MlflowServer], tmp_path: Path
) -> None:
    server = mlflow_server(**KINDS["moto"])

    assert by_old_client("-c", "from importlib.metadata import version; print(version('mlflow'))") == "3.15.0\n"
    answers = by_old_client("-m", "changeover_servers.walk", server.uri, "acme/old-client", str(tmp_path))

    assert json.loads(answers) == EXPECTED


def test_database_of_the_oldest_is_taken_over_and_then_refused_to_it_in_one_line(tmp_path: Path, whole: bool) -> None:
    uri = local_uri(tmp_path / "mlflow.db")
    register = (
        "import sys; from pathlib import Path\n"
        "from changeover_registry.mlflow_adapter.registry import Registry\n"
        "from changeover_servers.releases import small_release\n"
        "Registry(sys.argv[1], Path(sys.argv[2])).know_release(small_release('acme/kept', '1.0.0', b'x'))\n"
    )
    look = (
        "import sys\n"
        "from changeover_registry.errors import UnreachableError\n"
        "from changeover_registry.mlflow_adapter.registry import Registry\n"
        "try:\n    Registry(sys.argv[1]).versions('acme/kept')\n"
        "except UnreachableError as error:\n    print(error)\n"
    )
    by_old_client("-c", register, uri, str(tmp_path / "artifacts"))

    (kept,) = Registry(uri).versions("acme/kept")

    assert kept.version == "1.0.0"
    if not whole:
        return  # Each start of the oldest MLflow takes seconds.
    said = by_old_client("-c", look, uri)
    assert said.startswith("MLflow's database: ")
    assert said.endswith("or install the MLflow that last wrote it\n")
    assert said.count("\n") == 1
