"""No process that we start tells anybody of this machine: sockets are watched, and new files in the user's home.

Every process of a command is traced, children in their sandboxes too. A call that would reach anything but this host
counts, also where it fails: who asks for a name has told of itself already.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.mlflow_adapter.registry import Registry, local_uri
from changeover_registry.telemetry import NO_TELEMETRY
from changeover_servers.process import answers, free_ports, start

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

_ADDRESS = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\), .*?"
    r"(?:inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\")"
)
_OURS = ("127.", "::1", "0.0.0.0", "::")  # noqa: S104 - these are looked for, and nothing is bound to them
_WATCH = "connect,sendto,sendmsg,sendmmsg,execve"

TALKS = """
import socket
for address in (("192.0.2.1", 443), ("127.0.0.1", 53), ("127.0.0.1", 5000)):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(address)
"""
"""A datagram socket connects without a packet leaving this host (192.0.2.0/24 is nobody's)."""


def traced(trace: Path) -> list[str]:
    watched = ("-e", f"trace={_WATCH}", "-e", "signal=none", "-s", "400")
    return ["strace", "-f", "-I1", "-qq", "--seccomp-bpf", *watched, "-o", str(trace)]


def reached(trace: Path) -> list[str]:
    """Every address that is not this host's own, and every question for a name, whoever answers it."""
    found = ((match[2] or match[3], match[1]) for match in _ADDRESS.finditer(trace.read_text(errors="replace")))
    return [f"{address}:{port}" for address, port in found if port == "53" or not address.startswith(_OURS)]


def bare(home: Path) -> dict[str, str]:
    """The environment of a user who has set nothing and whose home is empty."""
    quiet = {*NO_TELEMETRY, "PYTHONPATH"}
    kept = {k: v for k, v in os.environ.items() if k not in quiet and not k.startswith(("MLFLOW_", "XDG_", "COVERAGE"))}
    return {**kept, "HOME": str(home), "TMPDIR": str(home.parent)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def files_in(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir())


def test_watch_sees_what_a_grandchild_sends(tmp_path: Path, home: Path) -> None:
    """The oracle: a process of a process that would speak to somebody is seen."""
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TALKS!r}])"

    subprocess.run([*traced(tmp_path / "trace"), sys.executable, "-c", inner], env=bare(home), check=True)

    assert reached(tmp_path / "trace") == ["192.0.2.1:443", "127.0.0.1:53"]


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    """A studio that may change over to 1.0.0, whose MLflow is the usual file."""
    module_world.accept(module_world.publish("1.0.0"))
    module_world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    return module_world


@pytest.mark.parametrize(
    ("words", "child"),
    [
        (("sync",), "changeover_updater"),
        (("facts", "--json"), "probe_child"),
        (("update",), "changeover_validators.runtimes.child"),
        (("audit", "mlflow"), "changeover_updater"),
    ],
    ids=["MLflow's client", "the probes of every runtime", "onnxruntime in its sandbox", "an audit of MLflow"],
)
def test_command_speaks_to_nobody_and_leaves_nothing_in_the_home(
    studio: Any, words: tuple[str, ...], child: str, tmp_path: Path, home: Path
) -> None:
    """`child` is a process that must have been watched, or the test would say nothing of it."""
    command = [sys.executable, "-m", "changeover_updater", "--config", str(studio.config), *studio.extra]

    done = subprocess.run(
        [*traced(tmp_path / "trace"), *command, *words],
        env=bare(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert child in (tmp_path / "trace").read_text(errors="replace")
    assert reached(tmp_path / "trace") == []
    assert files_in(home) == []


def test_onnxruntime_and_torch_run_a_vendors_files_in_silence(
    tmp_path: Path, home: Path, release_folders: Path
) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    folder = tmp_path / "release"
    shutil.copytree(release_folders / "1.0.0", folder)
    (folder / "onnx-fp32" / "smoke.npz").unlink()
    text = (folder / "release.toml").read_text(encoding="utf-8")
    script = text[text.index("[[variants]]") :].replace("onnx-fp32", "torch-fp32").replace('"onnx"', '"torchscript"')
    (folder / "release.toml").write_text(text + script, encoding="utf-8")
    (folder / "torch-fp32").mkdir()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Sigmoid()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)).save(folder / "torch-fp32" / "model.pt")

    command = [sys.executable, "-m", "changeover_updater", "vendor", "smoke", str(folder), "--json"]
    done = subprocess.run(
        [*traced(tmp_path / "trace"), *command], env=bare(home), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert {one["outcome"] for one in json.loads(done.stdout)} == {"written"}
    assert reached(tmp_path / "trace") == []
    assert files_in(home) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    """A server as our page says to start it, traced, of a user whose home is empty: address, trace, home."""
    folder = tmp_path_factory.mktemp("quiet")
    home, trace = folder / "home", folder / "trace"
    home.mkdir()
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    command = [
        *(*traced(trace), sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", local_uri(folder / "mlflow.db"), "--artifacts-destination", str(folder / "artifacts")),
        *("--workers", "1"),
    ]
    environment = {**NO_TELEMETRY, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "HOME": str(home)}
    with ExitStack() as held:
        running = start(command, folder / "log", lambda: answers(f"{uri}/health"), environment=environment)
        held.callback(running.stop)
        yield uri, trace, home


def test_server_that_runs_as_our_page_says_speaks_to_nobody(server: tuple[str, Path, Path]) -> None:
    uri, trace, home = server

    assert Registry(uri).versions("acme/person-roto") == ()

    assert reached(trace) == []
    assert files_in(home) == []


# What doctor says of it.


def test_doctor_says_that_telemetry_is_off_although_the_user_has_set_nothing(
    studio: Any, tmp_path: Path, home: Path
) -> None:
    facts = tmp_path / "facts.json"
    facts.write_bytes(studio.facts.to_bytes())
    command = [sys.executable, "-m", "changeover_updater", "--config", str(studio.config), *studio.extra, "doctor"]

    for arguments in (["--json"], []):
        done = subprocess.run(
            [*command, "--host", str(facts), *arguments], env=bare(home), capture_output=True, text=True, check=False
        )
        if arguments:
            assert json.loads(done.stdout)["telemetry"] == {"off": True, "variables": dict(NO_TELEMETRY)}
        else:
            assert "telemetry is off in every process" in done.stdout


def test_doctor_names_a_variable_that_is_not_as_it_must_be(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that was not started by our own command, such as this one."""
    for name, value in NO_TELEMETRY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")

    _, out, _ = studio.run("doctor")

    assert "ORT_DISABLE_TELEMETRY is 0, not 1" in out
    assert "telemetry is off" not in out
