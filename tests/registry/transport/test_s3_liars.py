"""What stands before a bucket and answers as no store does: one line each time, and a way on where there is one."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, UnreachableError
from changeover_registry.transport import NoRangesError, open_transport
from changeover_registry.transport.writing import FolderPlace, open_place

pytest.importorskip("boto3", reason="the extra s3 is not installed")

from changeover_registry.transport import s3

DATA = bytes(range(256)) * 1000


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Answers each path under the bucket in one way of its own."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        way = self.path.partition("?")[0].rpartition("/")[2]
        if way in {"chunked", "chunked-cut"}:
            self._answer(200, **{"Transfer-Encoding": "chunked"})
            for start in range(0, len(DATA) if way == "chunked" else 60_000, 60_000):
                part = DATA[start : start + 60_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n" if way == "chunked" else b"ff\r\nhalf")
            self.close_connection = way == "chunked-cut"
        elif way == "no-ranges":
            self._answer(200, **{"Content-Length": str(len(DATA))})
            self.wfile.write(DATA)
        elif way == "no-number":
            self._answer(200, **{"Content-Length": "many"})
            self.close_connection = True
        else:
            self._answer(302, **{"Location": "/login", "Content-Length": "0"})

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    values = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "MAX_ATTEMPTS": "1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3._client.cache_clear()
    yield monkeypatch
    s3._client.cache_clear()


@pytest.fixture
def proxy(environment: pytest.MonkeyPatch) -> Iterator[None]:
    server = _Server(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    environment.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("proxy")
def test_an_answer_without_a_length_is_read_and_one_that_is_cut_is_said_to_be() -> None:
    bucket = open_transport("s3://models/acme")

    assert bucket.read("chunked", limit=len(DATA)) == DATA
    with pytest.raises(UnreachableError, match="s3://models/acme/chunked-cut: expected an answer with the object"):
        bucket.read("chunked-cut", limit=len(DATA))


@pytest.mark.usefixtures("proxy")
def test_a_store_that_knows_no_ranges_goes_on_where_it_is_asked_to_or_says_so() -> None:
    bucket = open_transport("s3://models/acme")

    assert b"".join(bucket.stream("no-ranges", offset=1000)) == DATA[1000:]
    with pytest.raises(NoRangesError):
        list(bucket.stream("no-ranges", offset=1000, length=10))


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize(("path", "says"), [("no-number", "invalid literal"), ("elsewhere", "that leads elsewhere")])
def test_an_answer_that_is_none_of_a_stores_is_one_line(path: str, says: str) -> None:
    with pytest.raises(UnreachableError, match=says):
        open_transport("s3://models/acme").read(path, limit=10)


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL_S3", "store.example"), ("AWS_MAX_ATTEMPTS", "many")])
def test_an_environment_that_boto3_does_not_take_is_one_line(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(UnreachableError, match=value):
        open_place("s3://models/acme").find("metadata/timestamp.json", limit=10)


@pytest.mark.parametrize("opener", [open_transport, open_place])
def test_an_address_that_is_none_is_one_line(opener: Any) -> None:
    with pytest.raises(InvalidInputError, match="Invalid IPv6"):
        opener("s3://[::1/acme")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + "/acme"])
def test_a_folder_of_which_the_disk_will_not_say_whether_it_is_there_is_out_of_reach(tmp_path: Path, name: str) -> None:
    # As with a mount whose other side is gone, the question itself fails.
    place = FolderPlace(tmp_path / name)
    for ask in (lambda: place.find("metadata/timestamp.json", limit=10), place.names, lambda: place.put("a", b"")):
        with pytest.raises(UnreachableError, match="File name too long"):
            ask()
    with pytest.raises(UnreachableError):
        open_transport(place.location).read("metadata/timestamp.json", limit=10)
