"""What `run-mlflow-for-a-studio.md` tells a studio to write is what is started here, its names and ports apart."""

import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from changeover_registry.errors import UnreachableError
from changeover_registry.mlflow_adapter.registry import Registry
from changeover_servers import Postgres, S3Store
from changeover_servers.process import answers, free_ports, start
from changeover_servers.releases import put_files, small_release

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-mlflow-for-a-studio.md"
WEIGHTS = os.urandom(3 << 20)
"""More than nginx lets through unless it is told to, and nothing that compresses."""


def written(path: str) -> str:
    """The file that the page says to write there."""
    for block in re.findall(r"```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        if block.startswith(f"# {path}\n"):
            return str(block)
    pytest.fail(f"the page has no {path}")


def replaced(text: str, values: dict[str, str]) -> str:
    """The text with each of these words, which must be there, as something else."""
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Studio:
    """The server behind nginx: its address, its certificate, and its administrator's pass phrase."""

    uri: str
    certificate: Path
    administrator: tuple[str, str]

    def ask(self, path: str, who: tuple[str, str], body: dict[str, str] | None = None) -> int:
        """The status of one request of a user."""
        headers = urllib3.make_headers(basic_auth=":".join(who))
        with urllib3.PoolManager(ca_certs=str(self.certificate)) as pool:
            return pool.request("POST" if body else "GET", self.uri + path, headers=headers, json=body).status


@pytest.fixture(scope="module")
def studio(postgres: Postgres, swift: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not here: install the system package nginx-light")
    folder = tmp_path_factory.mktemp("studio")
    postgres.execute("postgres", "CREATE ROLE mlflow LOGIN PASSWORD 'PASSPHRASE'")
    for name in ("mlflow", "mlflow_users"):
        postgres.execute("postgres", f"CREATE DATABASE {name} OWNER mlflow")
    database = {"127.0.0.1:5432": f"127.0.0.1:{postgres.port}"}
    inner, outer = free_ports(2)
    (folder / "users.ini").write_text(replaced(written("/etc/mlflow/users.ini"), database), encoding="utf-8")
    (folder / "tmp").mkdir()
    values = {
        **database,
        "s3://mlflow": f"s3://{swift.bucket()}",
        "https://s3.studio.example": swift.endpoint,
        "AWS_ACCESS_KEY_ID=KEY": f"AWS_ACCESS_KEY_ID={swift.access_key}",
        "=SECRET\n": f"={swift.secret_key}\n",
        "/etc/mlflow": str(folder),
        "MLFLOW_PORT=5000": f"MLFLOW_PORT={inner}",
        # Two suffice to see that they share users and database; each takes three seconds of a core to start.
        "MLFLOW_WORKERS=4": "MLFLOW_WORKERS=2",
        "mlflow.studio.example": "localhost",
        "/var/lib/mlflow": str(folder),
    }
    lines = replaced(written("/etc/mlflow/mlflow.env"), values).splitlines()
    environment = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    command = re.search(r"ExecStart=(.*)", written("/etc/systemd/system/mlflow.service"))
    assert command is not None
    _, *arguments = shlex.split(command[1])
    with ExitStack() as held:
        address = f"http://127.0.0.1:{inner}/health"
        server = start([sys.executable, *arguments], folder / "log", lambda: answers(address), environment=environment)
        held.callback(server.stop)
        held.callback(put_nginx_in_front(folder, inner, outer))
        yield Studio(f"https://localhost:{outer}", folder / "mlflow.pem", ("admin", "ADMIN-PASSPHRASE"))


def put_nginx_in_front(folder: Path, inner: int, outer: int) -> Callable[[], None]:
    """Start nginx with the page's server and a certificate of its own; returns what stops it."""
    key, certificate = folder / "mlflow.key", folder / "mlflow.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run(made, check=True, capture_output=True)
    values = {
        "listen 443": f"listen 127.0.0.1:{outer}",
        "mlflow.studio.example": "localhost",
        "/etc/ssl/studio/mlflow.pem": str(certificate),
        "/etc/ssl/studio/mlflow.key": str(key),
        "127.0.0.1:5000": f"127.0.0.1:{inner}",
    }
    server = replaced(written("/etc/nginx/sites-enabled/mlflow"), values)
    places = "".join(
        f"{name}_temp_path {folder / 'nginx'};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder / 'nginx.pid'};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{server}}}\n",
        encoding="utf-8",
    )
    (folder / "nginx").mkdir()
    running = start(
        ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", "daemon off; master_process off;"],
        folder / "nginx.log",
        lambda: listens(outer),
    )
    return running.stop


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def user(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Registry]:
    """Makes a user as the page says, and has this process be that user."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(studio.certificate))

    def become(name: str) -> Registry:
        answer = studio.ask(
            "/api/2.0/mlflow/users/create", studio.administrator, {"username": name, "password": "ANOTHER-PASSPHRASE"}
        )
        assert answer == 200
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "ANOTHER-PASSPHRASE")
        return Registry(studio.uri)

    return become


def test_release_larger_than_a_proxy_likes_goes_in_and_comes_out(
    user: Callable[[str], Registry], tmp_path: Path
) -> None:
    registry = user("changeover")
    release = small_release("acme/large", "1.0.0", WEIGHTS)
    files = put_files(tmp_path / "release", WEIGHTS)

    known = registry.register_release(release, files, {}).registered

    back = registry.fetch(known, next(iter(files)), tmp_path / "back")
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(WEIGHTS).digest()
    assert registry.versions("acme/large") == (known,)


def test_whoever_has_no_account_gets_one_line(
    studio: Studio, user: Callable[[str], Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = user("somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a wrong one")

    with pytest.raises(UnreachableError, match="MLFLOW_TRACKING_USERNAME") as caught:
        registry.versions("acme/large")

    assert "401" in caught.value.actual or "not authenticated" in caught.value.actual
    assert "a wrong one" not in str(caught.value)


def test_another_account_reads_a_model_and_may_not_change_it(user: Callable[[str], Registry], tmp_path: Path) -> None:
    owner = user("owner")
    mine = owner.know_release(small_release("acme/owned", "1.0.0", b"mine")).registered
    other = user("other")

    with pytest.raises(UnreachableError, match="ask its administrator") as caught:
        other.know_release(small_release("acme/owned", "1.1.0", b"theirs"))

    assert caught.value.exit_code == 6
    assert other.versions("acme/owned") == (mine,)
    assert other.fetch(mine, "release.json", tmp_path).is_file()


def test_a_certificate_that_nobody_named_is_one_line(
    user: Callable[[str], Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = user("careful")
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")

    with pytest.raises(UnreachableError, match="MLFLOW_TRACKING_SERVER_CERT_PATH"):
        registry.versions("acme/large")


def test_service_file_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here")
    unit = written("/etc/systemd/system/mlflow.service").replace("/var/lib/mlflow/venv/bin/python", sys.executable)
    path = tmp_path / "mlflow.service"
    path.write_text(unit.replace("User=mlflow\n", ""), encoding="utf-8")

    said = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)

    assert [line for line in said.stderr.splitlines() if "mlflow.service" in line] == []
