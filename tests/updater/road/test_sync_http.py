"""The whole road over a real web server: trust, sync, install, resume, and what a bad server can do."""

import subprocess
import sys
import threading
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
