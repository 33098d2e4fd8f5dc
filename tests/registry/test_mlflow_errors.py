"""Each failure of MLflow, of what stands in front of it and of what lies behind it is one line with its own remedy."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from changeover_registry.errors import ChangeoverError, TrustError, UnreachableError
from changeover_registry.mlflow_adapter import _session
from changeover_registry.mlflow_adapter._errors import Failure, full_disk, not_installed, unreachable
from changeover_registry.mlflow_adapter.registry import Registry, local_uri
from changeover_servers import Cut, CuttingProxy, MlflowServer
from changeover_servers.releases import put_files, small_release

NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center></body></html>"
REFUSED = (
    "HTTPConnectionPool(host='mlflow', port=5000): Max retries exceeded with url: /api (Caused by "
    'NewConnectionError("[Errno 111] Connection refused"))'
)

SIGNS = [
    (Failure("Response body: 'x'", status=401), "MLflow sign-in", "MLFLOW_TRACKING_USERNAME"),
    (Failure("You are not authenticated. Please see ..."), "MLflow sign-in", "MLFLOW_TRACKING_TOKEN"),
    (Failure("Permission denied", code="PERMISSION_DENIED"), "MLflow permission", "ask its administrator"),
    (Failure("403: Invalid Host header - DNS rebinding", status=403), "MLflow's host names", "--allowed"),
    (Failure("failed with error code 413 != 200. Response body: 'x'"), "upload size", "client_max_body_size"),
    (Failure("too many 504 error responses"), "MLflow behind its proxy", "proxy_read_timeout"),
    (Failure("502 Server Error: x for url: http://m/x", host="m:80"), "MLflow behind its proxy", "start MLflow"),
    (Failure("failed with error code 429 != 200"), "MLflow's patience", "wait a minute"),
    (Failure("HTTP error", status=507), "MLflow's disk", "make room"),
    (Failure("INTERNAL_ERROR: [Errno 28] No space left on device: '/srv/x'"), "MLflow's disk", "make room"),
    (Failure("(sqlite3.OperationalError) database or disk is full"), "MLflow's disk", "make room"),
    (Failure("(sqlite3.OperationalError) database is locked"), "MLflow's database", "PostgreSQL"),
    (Failure("no such table: runs", code="TEMPORARILY_UNAVAILABLE"), "MLflow's database", "mlflow db upgrade"),
    (Failure("database is locked", code="TEMPORARILY_UNAVAILABLE"), "MLflow's database", "PostgreSQL"),
    (Failure("(sqlite3.DatabaseError) file is not a database"), "MLflow's database", "backup"),
    (Failure("Can't locate revision identified by 'abc'"), "MLflow's database", "mlflow db upgrade"),
    (Failure("Detected out-of-date database schema (found version a)"), "MLflow's database", "mlflow db upgrade"),
    (Failure('FATAL:  password authentication failed for user "td"'), "MLflow's database", "user, password"),
    (Failure("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]"), "MLflow's certificate", "CERT_PATH"),
    (Failure('Could not connect to the endpoint URL: "http://s3:9000/b"'), "store behind MLflow", "MULTIPART_UPLOAD"),
    (Failure(REFUSED.replace("port=5000", "port=9000"), host="mlflow:5000"), "store behind MLflow", "DOWNLOAD"),
    (Failure(REFUSED, host="mlflow:5000"), "MLflow", "start it"),
    (Failure("Connection broken: IncompleteRead(10 bytes read, 90 more expected)"), "transfer", "run this again"),
    (Failure("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"), "transfer", "again"),
    (Failure("The experiment 1 must be in the 'active' state. It is deleted."), "MLflow's experiment", "restore"),
    (Failure("x", code="ENDPOINT_NOT_FOUND"), "MLflow's address", "correct the address"),
    (Failure("Response body: '<!DOCTYPE html><title>Sign in</title>'"), "MLflow's address", "token"),
    (Failure("INTERNAL_ERROR: it fell over"), "MLflow", "see the log of its server"),
    (Failure("something that nobody has seen yet"), "MLflow", "3.15 or newer"),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "rule", "remedy"), SIGNS, ids=lambda one: getattr(one, "text", one)[:30])
def test_each_failure_has_a_rule_and_a_remedy_of_its_own(failure: Failure, rule: str, remedy: str) -> None:
    error = unreachable("http://mlflow", failure)

    assert (error.rule, error.exit_code) == (rule, 6)
    assert remedy in error.remedy
    assert "\n" not in str(error)


def test_what_was_found_is_in_the_servers_own_words() -> None:
    def said(failure: Failure) -> str:
        return unreachable("m", failure).actual

    page = NGINX.format("413 Request Entity Too Large")
    assert said(Failure(f"error code 413 != 200. Response body: '{page}'")) == "HTTP 413: 413 Request Entity Too Large"
    assert said(Failure(f"valid JSON format. Response body: '{page}'")) == "a web page (413 Request Entity Too Large)"
    assert said(Failure("too many 503 error responses")) == "HTTP 503"
    assert said(Failure(REFUSED, host="mlflow:5000")) == "no connection (Connection refused)"
    assert said(Failure(REFUSED, host="other:80")) == "no connection (Connection refused) (to mlflow:5000)"
    assert said(Failure("IncompleteRead(10 bytes read, 90 more expected)")) == (
        "a connection that ended after 10 bytes, 90 more expected"
    )
    assert said(Failure("PERMISSION_DENIED: td may not", code="PERMISSION_DENIED")) == "PERMISSION_DENIED: td may not"


def test_password_in_an_address_is_never_told() -> None:
    failure = Failure("401 Client Error: x for url: https://td:secret@mlflow/api", host="mlflow:443")

    assert "secret" not in str(unreachable("https://td:***@mlflow", failure))
    assert "secret" not in str(unreachable("m", Failure("cannot reach postgresql://td:secret@db/mlflow")))


def test_disk_that_is_full_here_is_an_error_of_this_machine() -> None:
    text = "The following failures occurred while downloading one or more artifacts from x:\n##### File a #####\n"
    failure = Failure(f"{text}[Errno 28] No space left on device: '/scratch/a'")

    error = full_disk(failure)

    assert (error and error.errno, error and error.filename) == (28, "/scratch/a")
    assert full_disk(Failure("INTERNAL_ERROR: [Errno 28] No space left on device: '/srv/a'")) is None


@pytest.mark.parametrize(
    ("package", "extra"),
    [("mlflow", "changeover[mlflow]"), ("boto3", "changeover[s3]"), ("psycopg", "psycopg[binary]")],
)
def test_package_that_is_not_here_is_named_with_what_brings_it(package: str, extra: str) -> None:
    error = not_installed("m", ModuleNotFoundError(f"No module named '{package}'", name=package))

    assert extra in error.remedy
    assert error.expected == f"the package {package} in this environment"


class Front(BaseHTTPRequestHandler):
    """What a proxy in front of MLflow answers to everything; a body is read before, as proxies do."""

    status, body, kind = 200, b"", "text/html"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that the library asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Say nothing."""


@contextmanager
def front(status: int, body: str, kind: str = "text/html") -> Iterator[str]:
    handler = type("Answers", (Front,), {"status": status, "body": body.encode(), "kind": kind})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second tries: what is tried again is tested with what MLflow says after the last."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("status", "title", "rule"),
    [
        (401, "401 Authorization Required", "MLflow sign-in"),
        (403, "403 Forbidden", "MLflow permission"),
        (404, "404 Not Found", "MLflow's address"),
        (413, "413 Request Entity Too Large", "upload size"),
        (500, "500 Internal Server Error", "MLflow"),
        (502, "502 Bad Gateway", "MLflow behind its proxy"),
        (504, "504 Gateway Time-out", "MLflow behind its proxy"),
        (200, "Sign in to the studio", "MLflow's address"),
    ],
)
def test_answers_of_a_proxy_are_told_from_each_other(status: int, title: str, rule: str) -> None:
    with front(status, NGINX.format(title)) as uri, pytest.raises(UnreachableError) as caught:
        Registry(uri).versions("acme/person-roto")

    assert caught.value.rule == rule
    assert "<" not in caught.value.actual
    assert str(status) in caught.value.actual or title in caught.value.actual


@pytest.mark.usefixtures("at_once")
def test_gateway_that_fails_again_and_again_is_no_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with front(504, NGINX.format("504 Gateway Time-out")) as uri, pytest.raises(UnreachableError) as caught:
        Registry(uri).versions("acme/person-roto")

    assert (caught.value.rule, caught.value.actual) == ("MLflow behind its proxy", "HTTP 504")


@pytest.mark.usefixtures("at_once")
def test_server_that_is_too_old_is_refused_before_anything_is_asked() -> None:
    with front(200, "3.14.2", "text/plain") as uri, pytest.raises(UnreachableError) as caught:
        Registry(uri).versions("acme/person-roto")

    assert (caught.value.rule, caught.value.expected, caught.value.actual) == (
        "MLflow's version",
        "3.15 or newer",
        "3.14.2",
    )


@pytest.mark.usefixtures("at_once")
def test_client_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setattr(mlflow, "__version__", "2.22.1")
    with pytest.raises(UnreachableError, match="this environment: expected 3.15 or newer, found 2.22.1"):
        Registry("http://127.0.0.1:9").versions("acme/person-roto")


@pytest.mark.usefixtures("at_once")
def test_database_of_a_newer_mlflow_is_told(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")

    with pytest.raises(UnreachableError) as caught:
        Registry(local_uri(path)).versions("acme/person-roto")

    assert caught.value.rule == "MLflow's database"
    assert "mlflow db upgrade" in caught.value.remedy


def refusal(act: Callable[[], object]) -> ChangeoverError:
    with pytest.raises(ChangeoverError) as caught:
        act()
    return caught.value


@pytest.mark.usefixtures("at_once")
def test_strangers_and_readers_are_told_apart(mlflow_server: Callable[..., MlflowServer], tmp_path: Path) -> None:
    server = mlflow_server(auth=True)
    assert server.administrator is not None
    release, files = small_release("acme/closed", "1.0.0", b"weights"), put_files(tmp_path, b"weights")
    Registry(server.uri_of(*server.administrator)).register_release(release, files, {})
    second = small_release("acme/closed", "1.1.0", b"weights")
    make_user(server, "reader")
    reader = Registry(server.uri_of("reader", "a pass phrase of readers"))

    nobody = refusal(lambda: Registry(server.uri).versions("acme/closed"))
    wrong = refusal(lambda: Registry(server.uri_of("admin", "guessed")).versions("acme/closed"))
    writes = refusal(lambda: reader.register_release(second, files, {}))

    assert (nobody.rule, wrong.rule, writes.rule) == ("MLflow sign-in", "MLflow sign-in", "MLflow permission")
    assert "guessed" not in str(wrong)
    assert [one.version for one in reader.versions("acme/closed")] == ["1.0.0"]


def make_user(server: MlflowServer, name: str) -> None:
    import urllib3

    assert server.administrator is not None
    answer = urllib3.request(
        "POST",
        f"{server.uri}/api/2.0/mlflow/users/create",
        json={"username": name, "password": "a pass phrase of readers"},
        headers=urllib3.make_headers(basic_auth=":".join(server.administrator)),
    )
    assert answer.status in {200, 409}, answer.data


@pytest.mark.usefixtures("at_once")
def test_file_that_was_cut_on_the_way_lies_nowhere(
    mlflow_server: Callable[..., MlflowServer], cutting_proxy: Callable[[str], CuttingProxy], tmp_path: Path
) -> None:
    server = mlflow_server()
    content = bytes(range(256)) * 8000
    files = put_files(tmp_path / "release", content)
    known = Registry(server.uri).register_release(small_release("acme/long", "1.0.0", content), files, {}).registered
    (path,) = files
    proxy = cutting_proxy(server.uri)
    registry = Registry(proxy.url)
    registry.fetch(known, "release.json", tmp_path / "got")

    proxy.cut(Cut(byte=1_000_000, direction="down"))
    error = refusal(lambda: registry.fetch(known, path, tmp_path / "got"))

    assert (error.rule, error.exit_code) == ("transfer", 6)
    assert [one for one in (tmp_path / "got").rglob("*") if one.is_file()] == [tmp_path / "got" / "release.json"]


@pytest.mark.usefixtures("at_once")
def test_artifact_that_was_changed_or_removed_is_named(
    mlflow_server: Callable[..., MlflowServer], tmp_path: Path
) -> None:
    server = mlflow_server()
    files = put_files(tmp_path / "release", b"weights")
    registry = Registry(server.uri)
    known = registry.register_release(small_release("acme/gone", "1.0.0", b"weights"), files, {}).registered
    assert isinstance(server.artifacts, Path)
    (stored,) = server.artifacts.rglob(f"{known.holder}/artifacts/onnx-fp32/model.onnx")

    stored.write_bytes(b"w3ights")
    with pytest.raises(TrustError, match="wrong digest") as caught:
        registry.fetch(known, "onnx-fp32/model.onnx", tmp_path / "got")
    stored.unlink()
    with pytest.raises(TrustError, match="no such file"):
        registry.fetch(known, "onnx-fp32/model.onnx", tmp_path / "got")

    assert caught.value.where.endswith("onnx-fp32/model.onnx")
    assert not list((tmp_path / "got").rglob("model.onnx"))


@pytest.mark.timeout(60)
def test_server_that_takes_connections_and_never_answers_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_session._GREETING, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with pytest.raises(UnreachableError, match="no answer in time"):
            Registry(f"http://127.0.0.1:{silent.getsockname()[1]}").versions("acme/person-roto")


def test_damaged_database_is_one_line_and_comes_back_once_it_is_moved_away(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"garbage" * 1000)
    registry = Registry(local_uri(path), tmp_path / "artifacts")
    with pytest.raises(UnreachableError, match="MLflow's database.*move the file away"):
        registry.versions("acme/person-roto")
    assert capfd.readouterr() == ("", "")

    path.unlink()

    # MLflow keeps what it had open for as long as a process lasts; a command is a new one.
    asks = (
        "import sys; from changeover_registry.mlflow_adapter.registry import Registry\n"
        "print(Registry(sys.argv[1]).versions('a/b'))"
    )
    again = subprocess.run([sys.executable, "-c", asks, local_uri(path)], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, "()\n"), again.stderr
