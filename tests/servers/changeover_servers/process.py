"""Starting a server, waiting until it answers, and stopping it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

__all__ = ["Server", "answers", "free_ports", "start"]

_KEEPER = Path(__file__).with_name("keeper.py")
_LEFT_OUT = ("COVERAGE", "COV_", "PYTEST_", "MLFLOW_", "AWS_", "CHANGEOVER_", "PYTHON")


@dataclass(frozen=True)
class Server:
    """A server that runs until it is stopped or the tests are gone.

    Args:
        process: Its keeper.
        log: What it says.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def stop(self) -> None:
        """End it and all that it started; returns when it is gone."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(40)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def answers(url: str) -> bool:
    """Whether a GET there is answered with 200."""
    try:
        return urllib3.request("GET", url, timeout=5, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def start(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: str = "",
    polite: str = "TERM",
    seconds: float = 120,
) -> Server:
    """Start a command and return once it is ready; a test fails where it ends or is not ready in time.

    Args:
        command: The program and its arguments.
        log: Where its output goes.
        ready: Whether it answers yet.
        environment: Variables beside those of this process, of which what steers tests, MLflow and S3 is left out.
        folder: Its working folder; that of the log unless told otherwise.
        user: Whom it runs as where we are root; else whoever we are.
        polite: The signal that asks it to end.
        seconds: How long it may take to be ready.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_KEEPER), user, polite, *command],
            cwd=folder or log.parent,
            env={**inherited, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, log)
    until = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            server.stop()
            pytest.fail(f"{command[0]} did not become ready:\n{server.said()}")
        time.sleep(0.1)
    return server
