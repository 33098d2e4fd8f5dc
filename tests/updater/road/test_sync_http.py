"""The whole road over a real web server and a real S3: trust, sync, install, mirrors, and what a bad server can do."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        del format
        self.server.asked.append(str(args[0]))  # type: ignore[attr-defined]


@pytest.fixture
def served(world: Any) -> Iterator[Any]:
    """The world whose vendor is trusted by HTTP instead of by folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(world.repository)))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    root = world.root / "root.json"
    root.write_bytes((world.repository / "metadata" / "1.root.json").read_bytes())
    world.ok("trust", "remove", "acme")
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    world.ok("trust", "add", "acme", address, "--root", str(root))
    world.without_mlflow()
    world.server = server
    yield world
    server.shutdown()
    server.server_close()


def test_release_comes_over_http_and_later_updates_fetch_nothing_again(served: Any) -> None:
    release = served.served("1.0.0")
    served.ok("sync")
    asked = len(served.server.asked)

    served.ok("update")
    served.ok("plan")

    assert served.station.in_use().channels[0].key == str(release.ref())
    assert len(served.server.asked) == asked
    assert any("/objects/" in line for line in served.server.asked)


def test_server_that_is_gone_is_6_and_the_station_goes_on(served: Any) -> None:
    served.served("1.0.0")
    served.server.shutdown()
    served.server.server_close()

    code, _, err = served.run("sync")

    assert (code, err.count("\n")) == (6, 1)
    assert "127.0.0.1" in err
    assert [served.run(command)[0] for command in ("update", "status", "rollback")] == [0, 0, 3]


def test_server_that_is_gone_is_one_line_and_every_try_with_v(served: Any) -> None:
    served.server.shutdown()
    served.server.server_close()

    quiet, loud = (
        subprocess.run(
            [sys.executable, "-m", "changeover_updater", "--config", str(served.config), *flag, "sync"],
            check=False,
            capture_output=True,
            text=True,
        )
        for flag in ((), ("-v",))
    )

    assert (quiet.returncode, loud.returncode) == (6, 6)
    assert "urllib3" not in quiet.stderr
    assert quiet.stderr.count("error: ") == 1
    assert "WARNING urllib3" in loud.stderr


def test_file_that_the_server_changed_is_5_and_nothing_is_installed(served: Any) -> None:
    release = served.publish("1.0.0")
    served.accept(release)
    served.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    model = release.variants[0].file("model.onnx")
    path: Path = served.repository / "objects" / model.sha256[:2] / model.sha256
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    code, _, err = served.run("update")
    path.write_bytes(data)
    served.ok("update")

    assert (code, err.count("\n")) == (5, 1)
    assert model.sha256 in err
    assert served.station.in_use().number == 1


def test_server_without_the_file_is_6_and_the_next_update_brings_it(served: Any) -> None:
    release = served.publish("1.0.0")
    served.accept(release)
    served.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    model = release.variants[0].file("model.onnx")
    path = served.repository / "objects" / model.sha256[:2] / model.sha256
    path.rename(path.with_suffix(".away"))

    code, _, err = served.run("update")
    path.with_suffix(".away").rename(path)
    served.ok("update")

    assert (code, err.count("\n")) == (6, 1)
    assert served.station.in_use().number == 1


# Mirrors.


@pytest.fixture
def mirrored(world: Any) -> Any:
    """The world whose vendor is trusted at three places: nobody's, the vendor's own folder, and a copy of that."""
    root = world.root / "root.json"
    root.write_bytes((world.repository / "metadata" / "1.root.json").read_bytes())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        world.nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    world.copy = world.root / "copy"
    shutil.copytree(world.repository, world.copy)
    world.ok("trust", "remove", "acme")
    mirrors = ("--mirror", str(world.repository), "--mirror", str(world.copy))
    world.ok("trust", "add", "acme", world.nobody, "--root", str(root), *mirrors)
    world.without_mlflow()
    return world


def refill(world: Any) -> None:
    """Bring the copy up to date, as rsync would."""
    shutil.rmtree(world.copy)
    shutil.copytree(world.repository, world.copy)


def spoil(folder: Path, release: Any) -> None:
    """Have a repository give other bytes for the release's model."""
    model = release.variants[0].file("model.onnx")
    path: Path = folder / "objects" / model.sha256[:2] / model.sha256
    path.chmod(0o644)
    path.write_bytes(b"\0" * path.stat().st_size)


def chosen(world: Any, name: str, current: Any = None) -> Any:
    """A release that is published, copied, accepted and promoted, and that no station has yet."""
    release = world.publish(name)
    refill(world)
    world.accept(release, current)
    world.ok("promote", f"tiny-roto@{name}", "--reason", "test")
    return release


def test_places_that_do_not_answer_are_passed_over_and_named(mirrored: Any, caplog: pytest.LogCaptureFixture) -> None:
    release = chosen(mirrored, "1.0.0")
    mirrored.repository.rename(mirrored.repository.with_suffix(".gone"))
    caplog.clear()

    mirrored.ok("sync")
    mirrored.ok("update")

    assert mirrored.station.in_use().channels[0].key == str(release.ref())
    assert all(str(place) in caplog.text for place in (mirrored.nobody, mirrored.repository))
    assert mirrored.nobody in mirrored.ok("trust", "list")
    assert str(mirrored.copy) in mirrored.ok("trust", "list", "--json")


def test_copy_that_is_behind_what_is_known_is_5_and_everything_stays(mirrored: Any) -> None:
    release = mirrored.served("1.0.0")
    mirrored.repository.rename(mirrored.repository.with_suffix(".gone"))

    code, _, err = mirrored.run("sync")

    assert code == 5, err
    assert str(mirrored.copy) in err
    mirrored.ok("update")
    assert mirrored.station.in_use().channels[0].key == str(release.ref())


def test_place_with_a_wrong_file_is_named_and_the_next_one_serves(
    mirrored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    release = chosen(mirrored, "1.0.0")
    spoil(mirrored.repository, release)

    mirrored.ok("update")

    assert mirrored.station.in_use().channels[0].key == str(release.ref())
    assert any("digest" in line and str(mirrored.repository) in line for line in caplog.text.splitlines())


def test_no_place_with_the_right_file_is_5_in_one_line_and_current_stays(mirrored: Any) -> None:
    first = mirrored.served("1.0.0")
    second = chosen(mirrored, "1.1.0", first)
    spoil(mirrored.copy, second)
    mirrored.repository.rename(mirrored.repository.with_suffix(".gone"))

    code, _, err = mirrored.run("update")

    assert (code, err.count("error: ")) == (5, 1)
    assert all(str(place) in err for place in (mirrored.nobody, mirrored.copy, mirrored.repository))
    assert mirrored.station.in_use().channels[0].key == str(first.ref())
    assert list((mirrored.station.store.root / "staging").iterdir()) == []


# S3.


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty bucket on a server that speaks S3."""
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "s3.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client
    finally:
        process.kill()
        process.wait()


def test_release_comes_out_of_a_bucket(world: Any, bucket: Any) -> None:
    release = world.publish("1.0.0")
    world.without_mlflow()
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    for path in world.repository.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "models", f"acme/{path.relative_to(world.repository).as_posix()}")
    root = world.root / "root.json"
    root.write_bytes((world.repository / "metadata" / "1.root.json").read_bytes())
    world.ok("trust", "remove", "acme")
    world.ok("trust", "add", "acme", "s3://models/acme", "--root", str(root))
    world.repository.rename(world.repository.with_suffix(".gone"))

    world.ok("sync")
    world.ok("update")

    assert world.station.in_use().channels[0].key == str(release.ref())


def test_bucket_without_the_extra_is_one_line_that_names_it(world: Any) -> None:
    root = world.root / "root.json"
    root.write_bytes((world.repository / "metadata" / "1.root.json").read_bytes())
    code = (
        "import sys; sys.modules.update({'boto3': None, 'botocore': None});"
        "from changeover_updater.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    arguments = ("--config", str(world.config), "trust", "add", "other", "s3://models/other", "--root", str(root))

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, env={**os.environ}
    )

    assert done.returncode == 2, done.stderr
    assert "changeover[s3]" in done.stderr
    assert "Traceback" not in done.stderr
