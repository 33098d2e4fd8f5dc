import contextlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.client import Client
from changeover_registry.errors import InvalidInputError, TrustError, UnreachableError
from changeover_registry.repository import vendor
from changeover_registry.transport import NoRangesError, NotThereError, Transport, open_transport, s3
from changeover_registry.transport.folder import FolderTransport
from changeover_registry.transport.http import HttpTransport
from changeover_registry.transport.interface import BusyError, read_limited
from changeover_registry.transport.memory import MemoryTransport
from changeover_registry.transport.writing import open_place

DATA = bytes(range(256)) * 4000


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The standard library's server, which knows no ranges; it counts what it was asked."""

    asked: list[str] = []  # noqa: RUF012 - one list for the handlers of one test server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('Range')}")
        super().do_GET()


class Ranged(Quiet):
    """The same with ranges, as a real web server has them."""

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            super().do_GET()
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.asked.append(f"{self.path} {self.headers.get('Range')}")
        data, start = path.read_bytes(), int(match[1])
        part = data[start : int(match[2]) + 1 if match[2] else None]
        self.send_response(206 if part else 416)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, as one that was promised a part does, is no news."""


class Wrong(Quiet):
    """Answers each path in one wrong way."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").removeprefix("b/")
        if path in {"busy", "mumbling"}:
            self.send_response(503)
            self.send_header("Retry-After", "3600" if path == "busy" else "soon")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path.isdecimal():
            self.send_response(int(path))
            self.end_headers()
        elif path == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)
        elif path == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65536)
        elif path == "shifted":
            self.send_response(206)
            self.send_header("Content-Range", "bytes 900-999/1000")
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 100)


@contextlib.contextmanager
def serving(handler: type[Quiet], folder: Path, asked: list[str] | None = None) -> Iterator[str]:
    class Handler(handler):  # type: ignore[misc, valid-type]
        pass

    Handler.asked = [] if asked is None else asked
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "repository" / "metadata").mkdir(parents=True)
    (tmp_path / "repository" / "metadata" / "file.json").write_bytes(DATA)
    (tmp_path / "repository" / "empty").write_bytes(b"")
    return tmp_path / "repository"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that speaks S3, in a process of its own, with the file in a bucket under a prefix."""
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with log.open("wb") as out, pytest.MonkeyPatch.context() as patch:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            for name, value in {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }.items():
                patch.setenv(name, value)
            _wait_for(int(port), process)
            client = boto3.client("s3")
            client.create_bucket(Bucket="models")
            client.put_object(Bucket="models", Key="acme/metadata/file.json", Body=DATA)
            client.put_object(Bucket="models", Key="acme/empty", Body=b"")
            s3._client.cache_clear()
            yield client
        finally:
            s3._client.cache_clear()
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail("the S3 server did not start")


@pytest.fixture(params=["folder", "file-url", "memory", "http", "http-ranged", "s3"])
def transport(request: pytest.FixtureRequest, folder: Path) -> Iterator[Transport]:
    """The contract of the port: whatever adapter, the same answers."""
    if request.param == "folder":
        yield open_transport(str(folder))
    elif request.param == "file-url":
        yield open_transport(folder.as_uri())
    elif request.param == "memory":
        yield MemoryTransport({"metadata/file.json": DATA, "empty": b""})
    elif request.param == "s3":
        request.getfixturevalue("bucket")
        yield open_transport("s3://models/acme/")
    else:
        with serving(Ranged if request.param == "http-ranged" else Quiet, folder) as address:
            yield open_transport(f"{address}/")


def test_a_file_is_read_whole(transport: Transport) -> None:
    assert transport.read("metadata/file.json", limit=len(DATA)) == DATA


def test_an_empty_file_is_read(transport: Transport) -> None:
    assert transport.read("empty", limit=0) == b""
    assert list(transport.stream("empty")) == []


@pytest.mark.parametrize("offset", [0, 1, 65535, 65536, 500_000, len(DATA) - 1, len(DATA), len(DATA) + 5])
def test_a_stream_starts_where_it_is_asked_to(transport: Transport, offset: int) -> None:
    assert b"".join(transport.stream("metadata/file.json", offset=offset)) == DATA[offset:]


@pytest.mark.parametrize("offset", [0, 1, 500_000, len(DATA) - 1, len(DATA) + 5])
@pytest.mark.parametrize("length", [1, 65537, len(DATA), len(DATA) + 100])
def test_a_part_ends_where_it_is_asked_to_or_is_not_given_at_all(
    transport: Transport, request: pytest.FixtureRequest, offset: int, length: int
) -> None:
    if request.node.callspec.params["transport"] == "http" and offset < len(DATA):
        with pytest.raises(NoRangesError):
            list(transport.stream("metadata/file.json", offset=offset, length=length))
    elif request.node.callspec.params["transport"] != "http":
        expected = DATA[offset : offset + length]
        assert b"".join(transport.stream("metadata/file.json", offset=offset, length=length)) == expected


def test_parts_come_to_several_threads_at_once(transport: Transport, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["transport"] == "http":
        pytest.skip("the server knows no ranges")

    def part(start: int) -> bytes:
        return b"".join(transport.stream("metadata/file.json", offset=start, length=100_000))

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(part, range(0, len(DATA), 100_000)))
    assert b"".join(parts) == DATA


def test_a_file_longer_than_the_limit_is_refused(transport: Transport) -> None:
    with pytest.raises(TrustError, match=rf"file\.json: expected at most {len(DATA) - 1} bytes, found more"):
        transport.read("metadata/file.json", limit=len(DATA) - 1)


def test_what_is_not_there_is_named(transport: Transport) -> None:
    with pytest.raises(NotThereError, match=r"metadata/other\.json"):
        transport.read("metadata/other.json", limit=10)
    with pytest.raises(NotThereError):
        list(transport.stream("metadata/other.json", offset=5))


def test_the_location_is_shown(transport: Transport) -> None:
    assert transport.location
    with pytest.raises(NotThereError, match=re.escape(transport.location)):
        transport.read("metadata/other.json", limit=10)


# Addresses.


def test_an_address_picks_its_transport(folder: Path) -> None:
    assert isinstance(open_transport(str(folder)), FolderTransport)
    assert isinstance(open_transport(f"file://{folder}"), FolderTransport)
    assert isinstance(open_transport("https://example.invalid/repository/"), HttpTransport)
    assert open_transport("https://example.invalid/repository/").location == "https://example.invalid/repository"


@pytest.mark.parametrize("location", ["gs://bucket/x", "ftp://example.invalid"])
def test_an_address_of_an_unknown_kind_is_refused(location: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a folder, file://"):
        open_transport(location)


@pytest.mark.parametrize("opened", [open_transport, open_place])
def test_a_folder_of_another_host_is_refused_and_not_looked_for_here(opened: Callable[[str], object]) -> None:
    with pytest.raises(InvalidInputError, match="one on the host filer"):
        opened("file://filer/releases")


# Folders.


def test_a_missing_folder_is_a_repository_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="repository: .*nowhere") as caught:
        open_transport(str(tmp_path / "nowhere")).read("file", limit=1)
    assert not isinstance(caught.value, NotThereError)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret", ""])
def test_no_path_leads_out_of_the_folder(folder: Path, path: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    with pytest.raises(InvalidInputError, match="path"):
        open_transport(str(folder)).read(path, limit=100)


def test_a_folder_in_a_files_place_is_out_of_reach(folder: Path) -> None:
    with pytest.raises(UnreachableError, match="directory"):
        open_transport(str(folder)).read("metadata", limit=100)


def test_a_pipe_in_a_files_place_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    began = time.perf_counter()
    with pytest.raises(UnreachableError, match="found a pipe, socket or device"):
        open_transport(str(folder)).read("pipe", limit=100)
    assert time.perf_counter() - began < 2


def test_a_timestamp_that_is_being_replaced_is_asked_for_again(folder: Path) -> None:
    timestamp = folder / "metadata" / "timestamp.json"
    back = threading.Timer(0.02, timestamp.write_bytes, [b"new"])
    back.start()
    try:
        assert open_transport(str(folder)).read("metadata/timestamp.json", limit=10) == b"new"
    finally:
        back.join()


def test_any_other_file_that_is_not_there_is_answered_at_once(folder: Path) -> None:
    began = time.perf_counter()
    with pytest.raises(NotThereError):
        open_transport(str(folder)).read("metadata/2.root.json", limit=10)
    assert time.perf_counter() - began < 0.15


# HTTP.


def test_a_range_is_asked_for_only_when_it_is_needed(folder: Path) -> None:
    asked: list[str] = []
    with serving(Ranged, folder, asked) as address:
        transport = open_transport(address)
        transport.read("metadata/file.json", limit=len(DATA))
        list(transport.stream("metadata/file.json", offset=1000))
    assert asked == ["/metadata/file.json None", "/metadata/file.json bytes=1000-"]


def test_one_connection_serves_one_request_after_the_other(folder: Path) -> None:
    class Kept(Ranged):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            self.asked.append("connection")
            super().handle()

    asked: list[str] = []
    with serving(Kept, folder, asked) as address:
        transport = open_transport(address)
        for offset in range(0, 10_000, 1000):
            assert b"".join(transport.stream("metadata/file.json", offset=offset, length=1000))
        transport.read("metadata/file.json", limit=len(DATA))
        transport.read("empty", limit=0)
    assert asked.count("connection") == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_status_that_means_nothing_there_is_told_apart(tmp_path: Path, status: int) -> None:
    with serving(Wrong, tmp_path) as address, pytest.raises(NotThereError, match=f"HTTP status {status}"):
        open_transport(address).read(str(status), limit=10)


@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_any_other_status_is_a_server_that_does_not_answer(tmp_path: Path, status: int) -> None:
    with serving(Wrong, tmp_path) as address, pytest.raises(UnreachableError, match=f"HTTP status {status}") as caught:
        open_transport(address).read(str(status), limit=10)
    assert not isinstance(caught.value, NotThereError)


def test_a_connection_cut_in_the_middle_is_seen(tmp_path: Path) -> None:
    with serving(Wrong, tmp_path) as address, pytest.raises(UnreachableError, match="cut"):
        open_transport(address).read("cut", limit=1000)


def test_a_server_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with serving(Wrong, tmp_path) as address, pytest.raises(TrustError, match="at most 100000 bytes"):
        open_transport(address).read("endless", limit=100_000)


def test_a_file_that_comes_byte_by_byte_keeps_nobody_waiting_for_ever() -> None:
    """A clock on which each byte takes 19 s, less than any silence that is an error; and one of a slow line."""
    drips = MemoryTransport({"metadata/timestamp.json": DATA}, piece_bytes=1)
    with pytest.raises(UnreachableError, match="expected at least 32 KiB a second"):
        read_limited(drips, "metadata/timestamp.json", len(DATA), seconds=count(0, 19).__next__)

    slow = MemoryTransport({"metadata/timestamp.json": DATA}, piece_bytes=40_000)
    assert read_limited(slow, "metadata/timestamp.json", len(DATA), seconds=count(0, 1).__next__) == DATA


def test_a_server_that_answers_another_range_is_refused(tmp_path: Path) -> None:
    with (
        serving(Wrong, tmp_path) as address,
        pytest.raises(TrustError, match="expected bytes from 500 on, found bytes 900"),
    ):
        list(open_transport(address).stream("shifted", offset=500))


def test_a_busy_server_is_asked_again_when_it_said_and_given_up_when_that_is_long(tmp_path: Path) -> None:
    with serving(Wrong, tmp_path) as address:
        with pytest.raises(BusyError, match="HTTP status 503, to be asked again in 3600 seconds"):
            open_transport(address).read("busy", limit=10)
        with pytest.raises(UnreachableError, match="Retry-After header: soon"):
            open_transport(address).read("mumbling", limit=10)


# S3.


@pytest.mark.parametrize("location", ["s3://", "s3:///prefix", "s3://bucket/x?versionId=1"])
def test_an_address_without_a_bucket_is_refused(location: str) -> None:
    with pytest.raises(InvalidInputError, match="expected s3://BUCKET"):
        open_transport(location)


def test_a_bucket_that_is_not_there_is_named(bucket: Any) -> None:
    with pytest.raises(NotThereError, match=r"s3://nowhere/metadata/file\.json: .*HTTP status 404 \(NoSuchBucket\)"):
        open_transport("s3://nowhere").read("metadata/file.json", limit=10)


def test_a_bucket_itself_is_a_repository_too(bucket: Any) -> None:
    assert open_transport("s3://models").read("acme/metadata/file.json", limit=len(DATA)) == DATA


def test_a_bucket_is_read_without_credentials_where_there_are_none(bucket: Any, tmp_path: Path) -> None:
    """As a public one is; with what a reader needs to know from the environment alone."""
    code = (
        "import sys; from changeover_registry.transport import open_transport;"
        "sys.stdout.buffer.write(open_transport('s3://models/acme').read('metadata/file.json', limit=10**7))"
    )
    private = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    settings = {"AWS_ENDPOINT_URL_S3": bucket.meta.endpoint_url, "AWS_EC2_METADATA_DISABLED": "true"}
    environment = private | settings | {"HOME": str(tmp_path)}
    bucket.put_object_acl(Bucket="models", Key="acme/metadata/file.json", ACL="public-read")
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=environment)
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stdout == DATA


def test_nobody_at_the_endpoint_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused.getsockname()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    s3._client.cache_clear()
    try:
        with pytest.raises(UnreachableError, match="bucket: s3://models/x/file: .*Could not connect") as caught:
            open_transport("s3://models/x").read("file", limit=10)
    finally:
        s3._client.cache_clear()
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NotThereError)


def test_an_answer_of_s3_that_is_cut_or_is_another_part_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    with serving(Wrong, tmp_path) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        s3._client.cache_clear()
        try:
            with pytest.raises(UnreachableError, match="bucket: s3://b/cut"):
                open_transport("s3://b").read("cut", limit=1000)
            with pytest.raises(TrustError, match="expected bytes from 500 on, found bytes 900"):
                list(open_transport("s3://b").stream("shifted", offset=500, length=100))
        finally:
            s3._client.cache_clear()


def test_nobody_at_the_address_is_out_of_reach_in_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnreachableError, match=rf"127\.0\.0\.1:{port}/file: .*refused") as caught:
        open_transport(f"http://127.0.0.1:{port}").read("file", limit=10)
    assert "\n" not in str(caught.value)


def test_a_vendors_repository_is_verified_over_http(acme: Any, tmp_path: Path) -> None:
    acme.publish(acme.make())
    with serving(Quiet, acme.folder) as address:
        client = Client(open_transport(address), tmp_path / "state", acme.root, mirror=tmp_path / "mirror")
        view = vendor.open_vendor(client, "acme")
        (entry,) = view.indexes["person-roto"].releases
        assert vendor.fetch_record(client.transport, entry, "acme/person-roto")[0].version == "1.0.0"
