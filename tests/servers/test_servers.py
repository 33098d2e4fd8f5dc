"""What the other tests build on: the servers run, the proxy cuts where it is told, nothing outlives the tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3

from changeover_servers import Cut, CuttingProxy, MlflowServer, Postgres, S3Store

ROOT = Path(__file__).parents[2]


def get(url: str, body: bytes | None = None) -> int:
    """The status of one request on a connection of its own; 0 where it was cut."""
    headers = {"Connection": "close"}
    try:
        return urllib3.request("POST" if body else "GET", url, body=body, headers=headers, retries=False).status
    except urllib3.exceptions.HTTPError:
        return 0


@pytest.fixture(params=["swift", "moto"])
def store(request: pytest.FixtureRequest) -> S3Store:
    found: S3Store = request.getfixturevalue(request.param)
    return found


def test_store_gives_back_what_was_put(store: S3Store) -> None:
    client, bucket = store.client(), store.bucket()

    client.put_object(Bucket=bucket, Key="a/b", Body=b"bytes")

    assert client.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"bytes"
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b"]


def test_two_databases_of_one_cluster_are_apart(postgres: Postgres) -> None:
    first, second = (postgres.database().rpartition("/")[2] for _ in range(2))

    postgres.execute(first, "CREATE TABLE here (x int)")

    tables = "SELECT tablename FROM pg_tables WHERE tablename = 'here'"
    assert postgres.execute(first, tables) == [("here",)]
    assert postgres.execute(second, tables) == []


def test_signed_requests_go_through_the_proxy(store: S3Store, cutting_proxy: Callable[[str], CuttingProxy]) -> None:
    bucket = store.bucket()
    proxy = cutting_proxy(store.endpoint)
    client = store.through(proxy.url).client()

    client.put_object(Bucket=bucket, Key="a", Body=b"x" * 100_000)

    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x" * 100_000
    assert [line.split("?")[0] for line in proxy.requests] == [f"PUT /{bucket}/a", f"GET /{bucket}/a"]
    assert proxy.bytes_up > 100_000
    assert proxy.bytes_down > 100_000


@pytest.mark.parametrize(("when", "there"), [("before", False), ("within", False), ("after", True)])
def test_request_is_cut_where_it_was_told(
    swift: S3Store, cutting_proxy: Callable[[str], CuttingProxy], when: str, there: bool
) -> None:
    bucket = swift.bucket()
    proxy = cutting_proxy(swift.endpoint)
    client = swift.through(proxy.url).client()
    client.put_object(Bucket=bucket, Key="first", Body=b"1")
    proxy.cut(Cut(request=2, when=when))  # type: ignore[arg-type]

    client.put_object(Bucket=bucket, Key="second", Body=b"2")
    with pytest.raises(Exception, match="(?i)connection|closed|endpoint"):
        client.put_object(Bucket=bucket, Key="third", Body=b"3" * 200_000)
    assert proxy.was_cut
    with pytest.raises(Exception, match="(?i)connection|closed|endpoint"):
        client.put_object(Bucket=bucket, Key="fourth", Body=b"4")
    proxy.heal()
    client.put_object(Bucket=bucket, Key="fifth", Body=b"5")

    stored = {entry["Key"] for entry in swift.client().list_objects_v2(Bucket=bucket)["Contents"]}
    assert stored == {"first", "second", "fifth"} | ({"third"} if there else set())


def test_one_request_alone_is_cut(moto: S3Store, cutting_proxy: Callable[[str], CuttingProxy]) -> None:
    proxy = cutting_proxy(moto.endpoint)
    proxy.cut(Cut(request=2, once=True))

    answers = [get(f"{proxy.url}/moto-api/") for _ in range(4)]

    assert answers == [200, 0, 200, 200]


def test_so_many_bytes_go_through_and_no_more(moto: S3Store, cutting_proxy: Callable[[str], CuttingProxy]) -> None:
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="a", Body=b"x" * 300_000)
    proxy = cutting_proxy(moto.endpoint)
    client = moto.through(proxy.url).client()
    proxy.cut(Cut(byte=150_000, direction="down"))

    with pytest.raises(Exception, match="(?i)connection|closed|incomplete|broken"):
        client.get_object(Bucket=bucket, Key="a")["Body"].read()

    assert proxy.bytes_down == 150_000
    assert get(f"{proxy.url}/moto-api/") == 0


def test_killed_tests_leave_no_server(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os, signal\n"
        "def test_it(moto):\n"
        "    print('port', moto.endpoint, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-p", "changeover_servers.plugin", "-p", "no:cacheprovider", "-s", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "servers")}

    ended = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == -signal.SIGKILL
    endpoint = ended.stdout.partition("port ")[2].split()[0]
    for _ in range(200):
        if get(endpoint) == 0:
            return
        time.sleep(0.1)
    pytest.fail("the server still answers")


@pytest.mark.parametrize(
    "kind",
    [{"artifacts": "moto"}, {"backend": "postgres", "workers": 4, "artifacts": "swift"}, {"old": True}, {"auth": True}],
    ids=["moto", "postgres-swift", "oldest", "users"],
)
def test_mlflow_of_every_kind_answers(mlflow_server: Callable[..., MlflowServer], kind: dict[str, object]) -> None:
    server = mlflow_server(**kind)

    version = urllib3.request("GET", f"{server.uri}/version", headers=authorization(server))

    assert version.data.decode().startswith("3.15." if "old" in kind else "3.")
    nobody = urllib3.request("POST", f"{server.uri}/api/2.0/mlflow/experiments/search", json={"max_results": 1})
    assert nobody.status == (401 if "auth" in kind else 200)
    assert mlflow_server(**kind) is server


def authorization(server: MlflowServer) -> dict[str, str]:
    return urllib3.make_headers(basic_auth=":".join(server.administrator)) if server.administrator else {}
