"""Download and install of one large file over loopback HTTP, beside the ways that others have: in one run, by turns.

``python -m changeover_updater.bench_transfer [--mib 1024] [--rounds 3] [--folder DIR]`` serves a file of random bytes
by nginx (or, where there is none, by a small server that uses sendfile) and by an MLflow server that serves artifacts,
and runs by turns: our install (a fresh process, verification, fsync and the rename into the store included), ``mlflow
artifacts download``, and ``curl | sha256sum``, which writes nothing. Printed are the median seconds, the ratios, and of
our process the bytes that it had written to the disk and its peak of memory. Downloads go to DIR; the default is the
temporary folder's disk and then, without that disk in the way, memory. Figures are printed and judged by people.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from changeover_registry.records.release import (
    BLOCK_BYTES,
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)
from changeover_registry.records.repository import TrustEntry
from changeover_registry.repository.objects import object_path

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory; nothing secret is in what we put there
MLFLOW = (sys.executable, "-m", "mlflow")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
NGINX = """\
worker_processes 2; daemon off; pid {here}/nginx.pid; error_log {here}/nginx.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on;
client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3;
uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;
server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


def main() -> None:
    """Run the benchmark, or one of the processes that it starts."""
    parser = argparse.ArgumentParser(prog="bench_transfer")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--install", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.install:
        _install(*asked.install)
    elif asked.serve:
        _sendfile_server(Path(asked.serve[0]), int(asked.serve[1]))
    else:
        _bench(asked.mib, asked.rounds, asked.folder)


def _bench(mib: int, rounds: int, folder: Path | None) -> None:
    source = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=source, prefix="changeover-bench-") as served:
        entry = _make_file(Path(served), mib)
        with _web_server(Path(served)) as address, _mlflow_server(Path(served), entry) as tracking:
            for target in [folder] if folder else [Path(tempfile.gettempdir()), MEMORY]:
                if target.is_dir():
                    _compare(target, entry, address, tracking, rounds)


def _compare(target: Path, entry: FileEntry, address: str, tracking: str, rounds: int) -> None:
    """Run the three by turns into one folder, and print what they took."""
    seconds: dict[str, list[float]] = {"changeover": [], "mlflow": [], "curl | sha256sum": []}
    told: list[dict[str, int]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=target, prefix="changeover-bench-") as scratch:
            site = _site(Path(scratch), entry, address)
            seconds["changeover"].append(_timed(lambda site=site: told.append(_run_install(site))))  # type: ignore[misc]
        with tempfile.TemporaryDirectory(dir=target, prefix="changeover-bench-") as scratch:
            seconds["mlflow"].append(_timed(partial(_run_mlflow, Path(scratch), entry, tracking)))
        seconds["curl | sha256sum"].append(_timed(partial(_run_curl, entry, address)))
    median = {name: statistics.median(each) for name, each in seconds.items()}
    _say(f"{entry.size / 2**20:.0f} MiB into {target}, median of {rounds}:")
    for name, value in median.items():
        each = " ".join(f"{one:.2f}" for one in seconds[name])
        _say(f"  {name:<18} {value:6.2f} s  {entry.size / value / 1e6:7.0f} MB/s   ({each})")
    ours = median["changeover"]
    _say(f"  times mlflow       {median['mlflow'] / ours:.2f}   (wanted: 2 or more)")
    _say(f"  times curl|sha256  {median['curl | sha256sum'] / ours:.2f}   (wanted: 0.6 or more)")
    written = max(one["written_bytes"] for one in told) / entry.size
    _say(f"  disk writes        {written:.3f} of the file   (wanted: 1.05 or less; 0 in memory)")
    peak = max(one["peak_kib"] for one in told) / 1024
    _say(f"  peak memory        {peak:.0f} MiB   (wanted: under 150)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


# The three ways.


def _run_install(site: Path) -> dict[str, int]:
    command = [sys.executable, "-m", "changeover_updater.bench_transfer", "--install", str(site), str(site / "store")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, int] = json.loads(done.stdout)
    return told


def _install(site: Path, root: Path) -> None:
    """The process that is measured: install the release that `_site` wrote; print what it took of disk and memory."""
    import resource  # The module exists on POSIX alone.

    from changeover_updater.install import install_variants
    from changeover_updater.site import VendorFolder
    from changeover_updater.store import Store

    release = Release.from_bytes((site / "release.json").read_bytes(), where="release.json")
    install_variants(Store.create(root), VendorFolder(site / "trust/bench"), release, release.variants, lambda *_: None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _say(json.dumps({"written_bytes": _written_bytes(), "peak_kib": peak}))


def _written_bytes() -> int:
    """What this process had written to disks, as the kernel counts it."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _run_mlflow(scratch: Path, entry: FileEntry, tracking: str) -> None:
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "artifacts",
        "download",
        "-u",
        "mlflow-artifacts:/file",
        "-d",
        str(scratch),
    ]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    subprocess.run(command, check=True, capture_output=True, env=environment)
    if sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()) != entry.size:
        message = "mlflow artifacts download brought another size"
        raise RuntimeError(message)


def _run_curl(entry: FileEntry, address: str) -> None:
    line = f"curl -sf {address}/{object_path(entry.sha256)} | sha256sum"
    done = subprocess.run(["/bin/sh", "-c", line], check=True, capture_output=True, text=True)
    if done.stdout.split()[0] != entry.sha256:
        message = "curl brought other bytes"
        raise RuntimeError(message)


# What they need.


def _make_file(root: Path, mib: int) -> FileEntry:
    """A file of random bytes where a vendor's repository has it."""
    whole, blocks = hashlib.sha256(), []
    with (root / "file").open("wb") as file:
        for _ in range(mib * 2**20 // BLOCK_BYTES):
            block = os.urandom(BLOCK_BYTES)
            file.write(block)
            whole.update(block)
            blocks.append(hashlib.sha256(block).hexdigest())
    entry = FileEntry(path="file", size=len(blocks) * BLOCK_BYTES, sha256=whole.hexdigest(), blocks=tuple(blocks))
    path = root / object_path(entry.sha256)
    path.parent.mkdir(parents=True)
    (root / "file").rename(path)
    return entry


def _site(scratch: Path, entry: FileEntry, address: str) -> Path:
    """As much of a site as an install reads: the vendor's trust entry and the release record."""
    (scratch / "trust/bench").mkdir(parents=True)
    added = {"added_by": "bench", "added_at": "2026-01-01T00:00:00Z"}
    trust = TrustEntry.model_validate({"vendor": "bench", "location": address, "root": "0" * 64, **added})
    (scratch / "trust/bench/entry.json").write_bytes(trust.to_bytes())
    plate = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
    matte = Port(name="matte", channels=("A",), colour="raw")
    contract = Contract(
        evaluation="stateless",
        colour="srgb",
        inputs=(TensorIn(name="image", port="plate", channels=("R", "G", "B")),),
        output=TensorOut(name="matte", port="matte"),
    )
    variant = Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry=entry.path,
        files=(entry,),
        contract=contract,
        requires=Requires(),
    )
    release = Release(
        model="bench/file",
        version="1.0.0",
        summary="random bytes",
        changes="none",
        licences=Licences(code="none", weights="none", training_data="none"),
        interface=Interface(inputs=(plate,), outputs=(matte,)),
        variants=(variant,),
    )
    (scratch / "release.json").write_bytes(release.to_bytes())
    return scratch


@contextlib.contextmanager
def _web_server(root: Path) -> Iterator[str]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as here:
        if shutil.which("nginx"):
            # Started by root, the workers are somebody else, who may not look into a private folder.
            root.chmod(0o755)
            config = Path(here, "nginx.conf")
            config.write_text(NGINX.format(here=here, port=port, root=root), encoding="utf-8")
            command = ["nginx", "-c", str(config)]
        else:
            command = [sys.executable, "-m", "changeover_updater.bench_transfer", "--serve", str(root), str(port)]
        with _running(command, port, dict(os.environ), Path(here)):
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _mlflow_server(root: Path, entry: FileEntry) -> Iterator[str]:
    """An MLflow server that serves the file as an artifact."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as here:
        (root / "artifacts").mkdir()
        (root / "artifacts/file").hardlink_to(root / object_path(entry.sha256))
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "2",
        ]
        command += ["--backend-store-uri", f"sqlite:///{here}/mlflow.db", "--serve-artifacts"]
        command += ["--artifacts-destination", (root / "artifacts").as_uri()]
        with _running(command, port, {**os.environ, **QUIET}, Path(here)):
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(command: list[str], port: int, environment: dict[str, str], here: Path) -> Iterator[None]:
    """A server for the length of the block, from when it takes connections on."""
    with (here / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=here)
    try:
        deadline = time.monotonic() + 300
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"{command[0]} does not serve: {(here / 'server.log').read_text(errors='replace')[-500:]}"
                raise RuntimeError(message)
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


class _Sendfile(SimpleHTTPRequestHandler):
    """Serves files and parts of them without taking their bytes into the process."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the file, or with the part that was asked for."""
        with Path(self.translate_path(self.path)).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            start, end = int(first or 0), int(last or size - 1) + 1
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(end - start))
            if first:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            self.wfile.flush()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while start < end:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)


def _sendfile_server(root: Path, port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), partial(_Sendfile, directory=str(root))).serve_forever()


if __name__ == "__main__":
    main()
